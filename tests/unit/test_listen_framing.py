"""Where messages end in a stream: however its bytes come, and whatever they are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.formats.values import clean_text
from mutt.listen.framing import Framer, fitting


def messages(*parts: bytes, most: int = 1000) -> list[bytes]:
    framer = Framer(most)
    found = [message for part in parts for message in framer.feed(part)]
    return found + framer.rest()


def counted(message: bytes) -> bytes:
    return b"%d %s" % (len(message), message)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"<13>one\n<13>two\n", [b"<13>one", b"<13>two"]),
        (b"<13>one\r\n\r\n\n<13>two", [b"<13>one", b"<13>two"]),
        (b"<13>one\0<13>two\0", [b"<13>one", b"<13>two"]),
        (b"<13>one\n\0<13>two\n\0", [b"<13>one", b"<13>two"]),
        (b"<13>one\0\n<13>two\0\n", [b"<13>one", b"<13>two"]),
        (b"<13>one\0<13>a\nb\0", [b"<13>one", b"<13>a\nb"]),
        (b"<13>one\n<13>st\0ray\n<13>two\n<13>three\n", [b"<13>one", b"<13>st", b"ray", b"<13>two", b"<13>three"]),
        (b"7 <13>one8 <13>a\nbc", [b"<13>one", b"<13>a\nbc"]),
        (b"7 <13>one\n7 <13>two\n", [b"<13>one", b"<13>two"]),  # counted, and a line end behind each
        (b"7 <13>one<13>lost\n7 <13>two", [b"<13>one", b"<13>lost", b"<13>two"]),
        (b"9 <13>too", [b"<13>too"]),  # it ends before its count is up
        (b"12 errors\n13 warnings\n", [b"12 errors", b"13 warnings"]),  # no count: no < behind it
        (b"000012: Jan  1 00:00:00: %SYS-5-CONFIG_I: x\n", [b"000012: Jan  1 00:00:00: %SYS-5-CONFIG_I: x"]),
        (b"<13>12 <13>x\n12 <13>y\n", [b"<13>12 <13>x", b"12 <13>y"]),  # lines stay lines
        (b"12", [b"12"]),
        (b"12 ", [b"12 "]),
        (b"12345678901 <13>x", [b"12345678901 <13>x"]),  # no message has so many bytes
    ],
    ids=[
        "nothing", "lines", "blank lines", "NUL", "LF and NUL", "NUL and LF", "lines that end with NUL",
        "a stray NUL", "counted", "counted lines", "a lost count", "cut off",
        "numbers", "Cisco", "lines with numbers", "a number", "a number and a blank", "a huge number",
    ],
)  # fmt: skip
def test_a_stream_has_these_messages(stream: bytes, expected: list[bytes]) -> None:
    assert messages(stream) == expected
    assert messages(*(stream[i : i + 1] for i in range(len(stream)))) == expected


common = [b"<13>", b"\n", b"\r\n", b" ", b"7 <13>one", b"3 a\nb", b"99 <1>", b"0 ", b"1"]
without_nul = st.one_of(
    st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"")), st.sampled_from(common)
)
cuts = st.lists(st.integers(0, 150), max_size=6)


def split(stream: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, *(min(cut, len(stream)) for cut in at), len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(without_nul, max_size=12).map(b"".join), cuts, st.sampled_from([5, 1000]))
def test_it_makes_no_difference_how_a_stream_is_split(stream: bytes, at: list[int], most: int) -> None:
    assert messages(*split(stream, at), most=most) == messages(stream, most=most)


@given(st.lists(st.one_of(without_nul, st.just(b"\0")), max_size=12).map(b"".join), cuts)
def test_it_makes_none_with_nul_either_once_one_was_seen(stream: bytes, at: list[int]) -> None:
    opening = b"<13>first\0"
    assert messages(opening, *split(stream, at)) == messages(opening + stream)


@given(st.lists(st.one_of(without_nul, st.just(b"\0")), max_size=12).map(b"".join), cuts)
def test_whatever_comes_is_in_some_message(stream: bytes, at: list[int]) -> None:
    def letters(parts: list[bytes]) -> bytes:
        return b"".join(parts).translate(None, b" \r\n\0")

    stream = b"<13>" + stream  # a count would be no part of a message
    assert letters(messages(*split(stream, at))) == letters([stream])


@given(st.lists(st.text("<13>abc\n 0123", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=8))
def test_messages_that_end_with_nul_may_hold_line_ends(sent: list[str]) -> None:
    lines = ["<13>" + line.replace("\n<", "\n") for line in sent]
    assert messages("".join(f"{line}\0" for line in lines).encode()) == [
        line.rstrip("\n").encode() for line in lines
    ]


@given(st.lists(st.binary(min_size=1, max_size=40).map(b"<13>".__add__), min_size=1, max_size=8))
def test_counted_messages_come_out_as_they_went_in(sent: list[bytes]) -> None:
    assert messages(b"".join(map(counted, sent))) == [message.rstrip(b"\r\n") for message in sent]


@given(st.lists(st.text("<13>abc 0123", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=8))
def test_lines_come_out_as_they_went_in(sent: list[str]) -> None:
    lines = ["<1>first", *sent]
    assert messages("".join(f"{line}\n" for line in lines).encode()) == [line.encode() for line in lines]


@pytest.mark.parametrize("stream", [b"<13>" + b"x" * 60, b"64 <13>" + b"x" * 60], ids=["a line", "counted"])
def test_a_message_that_is_too_long_is_cut_and_its_neighbours_are_whole(stream: bytes) -> None:
    framer = Framer(20)
    after = b"\n<13>next\n" if stream.startswith(b"<") else b"8 <13>next"
    assert framer.feed(stream[:30]) + framer.feed(stream[30:] + after) == [b"<13>" + b"x" * 16, b"<13>next"]
    assert framer.cut == 1


@given(st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([b"\0", b"\xed\xa0\x80", "ö".encode()]))))
def test_what_is_left_of_a_message_is_what_ingest_makes_of_it(parts: list[bytes]) -> None:
    message = b"".join(parts)
    written = clean_text(message.decode("utf-8", "surrogateescape")).encode()
    assert fitting(message, len(written)) == message
    most = len(written) // 2
    cut = fitting(message, most)
    assert cut == (message if len(message) * 4 <= most else written[:most].decode(errors="ignore").encode())


def test_a_message_that_never_ends_takes_no_more_memory_than_one_may() -> None:
    framer = Framer(100)
    for _ in range(1000):
        assert framer.feed(b"x" * 1000) == []
    assert framer.is_partial
    assert len(framer._message._data) == 100
    assert framer.rest() == [b"x" * 100]
    assert not framer.is_partial
