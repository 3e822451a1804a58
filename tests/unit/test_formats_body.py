"""A body is inflated within its limit and split into items, whatever a sender makes of JSON."""

from __future__ import annotations

import gzip
import random
import time
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mutt.errors import RejectedBody
from mutt.formats.body import MAX_ITEMS, MOST_CODINGS, Broken, decompress, split

TEXT = b'{"hostname":"a","message":"b"}' * 100
LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def streamed_zstd(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


PACKERS = {
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    " DEFLATE ": raw_deflate,
    "zstd": zstandard.compress,
    "Zstd": streamed_zstd,
}


@pytest.mark.parametrize("coding", PACKERS)
def test_each_coding_is_undone(coding: str) -> None:
    assert decompress(PACKERS[coding](TEXT), coding, LIMIT) == TEXT


@pytest.mark.parametrize("packer", [gzip.compress, zstandard.compress, streamed_zstd])
def test_members_that_follow_one_another_are_all_read(packer) -> None:
    coding = "gzip" if packer is gzip.compress else "zstd"
    assert decompress(packer(TEXT) + packer(b"more"), coding, LIMIT) == TEXT + b"more"


@pytest.mark.parametrize("packer", [gzip.compress, raw_deflate, zstandard.compress, streamed_zstd])
def test_members_are_read_whatever_their_number_and_size(packer) -> None:
    coding = {gzip.compress: "gzip", raw_deflate: "deflate"}.get(packer, "zstd")
    long = bytes(range(256)) * 400  # more than is looked at in one go, however it is packed
    noise = random.Random(1).randbytes(100_000)
    members = [TEXT, b"", noise, *[b"x"] * 1000, long, b""]
    assert decompress(b"".join(map(packer, members)), coding, LIMIT) == b"".join(members)


@pytest.mark.parametrize("packer", [gzip.compress, zstandard.compress, streamed_zstd])
def test_a_flood_of_empty_members_is_refused_soon(packer) -> None:
    """It is not the output that such a body is large by."""
    coding, began = "gzip" if packer is gzip.compress else "zstd", time.process_time()
    with pytest.raises(RejectedBody, match="more than 10000 parts") as refusal:
        decompress(packer(b"") * 500_000, coding, LIMIT)
    assert refusal.value.status == 400
    assert decompress(packer(b"") * 9_999 + packer(TEXT), coding, LIMIT) == TEXT
    assert time.process_time() - began < 3


def test_stacked_codings_are_undone_last_first() -> None:
    assert decompress(zstandard.compress(gzip.compress(TEXT)), "gzip, zstd", LIMIT) == TEXT


def test_more_codings_than_anybody_stacks_are_refused_before_any_is_undone() -> None:
    packed = TEXT
    for _ in range(MOST_CODINGS):
        packed = gzip.compress(packed)
    assert decompress(packed, ", ".join(["gzip"] * MOST_CODINGS), LIMIT) == TEXT
    with pytest.raises(RejectedBody, match=f"at most {MOST_CODINGS}") as refusal:
        decompress(b"no gzip", ", ".join(["gzip"] * (MOST_CODINGS + 1)), LIMIT)
    assert (refusal.value.status, refusal.value.field) == (415, "Content-Encoding")
    assert decompress(TEXT, ",".join(["Identity"] * 50) + ",,", LIMIT) == TEXT, "what does nothing is none"


@pytest.mark.parametrize("coding", PACKERS)
def test_a_body_that_grows_past_the_limit_is_413(coding: str) -> None:
    bomb = PACKERS[coding](bytes(LIMIT + 1))
    with pytest.raises(RejectedBody) as refusal:
        decompress(bomb, coding, LIMIT)
    assert refusal.value.status == 413
    assert len(decompress(PACKERS[coding](bytes(LIMIT)), coding, LIMIT)) == LIMIT


@pytest.mark.parametrize("coding", [name for name in PACKERS if name != "identity"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-5], lambda data: b"\xff" + data[1:], lambda data: data + b"x", lambda _: b"no"],
)
def test_damaged_data_is_400(coding: str, damage) -> None:
    with pytest.raises(RejectedBody) as refusal:
        decompress(damage(PACKERS[coding](TEXT)), coding, LIMIT)
    assert refusal.value.status == 400


def test_an_unknown_coding_is_415_and_those_that_are_known_are_named() -> None:
    with pytest.raises(RejectedBody, match="gzip, identity") as refusal:
        decompress(TEXT, "br", LIMIT)
    assert refusal.value.status == 415


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b'{"a":1}', [b'{"a":1}']),
        (b'\xef\xbb\xbf [ {"a":1} , 2 ]\r\n', [b'{"a":1}', b"2"]),
        (b'{"a":1}\r\n\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}{"b":"}{"}', [b'{"a":1}', b'{"b":"}{"}']),
        (b'{\n "a": 1\n}\n{"b":2}', [b'{\n "a": 1\n}', b'{"b":2}']),
        (b'{"a":"\xff"}', [b'{"a":"\xff"}']),
        (b'{"a":"line\nbreak"}', [b'{"a":"line\nbreak"}']),  # hand-made JSON of one object
        (b"[]", []),
        (b"", []),
    ],
)
def test_items_are_the_bytes_as_they_came(body: bytes, items: list[bytes]) -> None:
    assert [bytes(piece) for piece in split(body)] == items


def test_a_broken_line_stands_alone_between_its_neighbours() -> None:
    first, broken, last = split(b'{"a":1}\n{"b":,}\n{"c":3}\n')
    assert isinstance(broken, Broken)
    assert (bytes(first), broken.raw, bytes(last)) == (b'{"a":1}', b'{"b":,}', b'{"c":3}')


def test_what_stands_before_a_fault_in_a_stream_without_separators_is_read() -> None:
    first, broken = split(b'{"a":1}{"b":}{"c":3}')
    assert bytes(first) == b'{"a":1}'
    assert broken.raw == b'{"b":}{"c":3}'


@pytest.mark.parametrize(
    "body", [b'[{"b":}]', b'[{"a":1', b"[", b"[,]", b'{"a":', b"nonsense", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_a_body_of_which_nothing_can_be_read_is_400(body: bytes) -> None:
    with pytest.raises(RejectedBody) as refusal:
        split(body)
    assert refusal.value.status == 400


def test_an_array_of_which_nothing_can_be_read_names_the_position() -> None:
    with pytest.raises(RejectedBody, match="byte 6"):
        split(b'[{"b":}]')


GOOD = b'{"hostname":"g","message":"[ok], {\\"yes\\"}","varbinds":[{"oid":"1","value":"2"},{"oid":"3"}]}'


@pytest.mark.parametrize(
    "bad",
    [
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":"\\q"}',
        b'{"a":nil}',
        b"{'a':'it''s, [quoted]'}",
        b'{"a":1 "b":2}',
        b'{"a":1}}',
        b'{"a":1]}',
        b'{"a":"1"} x',
        b'{"a":1} {"b":2}',  # two without a comma between them: which fault it is can't be told
        b'{"a":"Interface "Gi0/1" is down"}',
        b'{"a":"Interface "Gi0/1", state "down""}',
        b'{"a":"Interface "Gi0/1","b":"and {"more"}"}',
        b'{"a":"never ends}',
        b'{"a":"C:\\","b":"in C:\\temp\\"}',  # a folder's last backslash takes the quote with it
        b'"text that "is" none"',
        b"",
        b"[" * 3000 + b"]" * 3000,
    ],
)
def test_one_broken_element_costs_none_of_its_neighbours(bad: bytes) -> None:
    for at, body in enumerate([[bad, GOOD, GOOD], [GOOD, bad, GOOD], [GOOD, GOOD, bad]]):
        pieces = split(b"[ " + b" ,\n".join(body) + b" , ]")
        assert [piece for piece in pieces if isinstance(piece, Raw)] == [Raw(GOOD), Raw(GOOD)]
        (broken,) = [piece for piece in pieces if isinstance(piece, Broken)]
        assert pieces[at] is broken
        assert broken.raw.removesuffix(b" , ]") == bad  # a text that never ends takes the array's end with it


@pytest.mark.parametrize(
    "element",
    [b'{"a":"tab\there\nand\0"}', b'{"a":NaN}', b"-Infinity", b'{"a":"\xff\t"}', b'{"a":"\\ud800\t"}'],
)
def test_what_is_forgiven_in_lines_is_forgiven_in_arrays(element: bytes) -> None:
    """The item's own reading decides what comes of it."""
    assert [bytes(piece) for piece in split(b"[" + GOOD + b"," + element + b",]")] == [GOOD, element]


@pytest.mark.parametrize(
    ("rest", "raw", "reason"),
    [
        (b"", b"", "no end"),
        (b",", b"", "no end"),
        (b',{"b":', b'{"b":', "was not read"),
        (
            b',{"b":{,{"c":3}]',
            b'{"b":{,{"c":3}]',
            "was not read",
        ),  # a brace too few: anything may be inside it
        (b"] and more", b"and more", "behind the end"),
        (b'] [{"b":2}]', b'[{"b":2}]', "behind the end"),
    ],
)
def test_an_array_that_goes_wrong_at_its_end_gives_what_can_be_read(
    rest: bytes, raw: bytes, reason: str
) -> None:
    first, broken = split(b'[{"a":1}' + rest)
    assert bytes(first) == b'{"a":1}'
    assert isinstance(broken, Broken)
    assert broken.raw == raw
    assert reason in broken.reason


@pytest.mark.parametrize(
    "part",
    [
        b'{"a":"x"y"},',
        b'{"a":"never ends},',
        b',"',
        b'"',
        b'["\\',
        b'[{"',
        b"},{",
        b'{"},{',
        b'"},{"a":1',
        b'{"a":1},{"a":,"b":[{}]',
    ],
)
def test_broken_arrays_cost_time_in_proportion_to_their_size(part: bytes) -> None:
    """Twice as long may cost twice as much, with room for a busy machine; squares would be sixteen times."""

    def cost(times: int) -> float:
        body, began = b'[{"a":1},{"b":},' + part * times, time.process_time()
        split(body)
        return time.process_time() - began

    assert min(cost(20_000) for _ in range(2)) < 0.05 + 10 * min(cost(5_000) for _ in range(3))


@given(
    st.lists(st.sampled_from([GOOD, b"[1]", b'"x, y"', b"7"]), min_size=1, max_size=6),
    st.text('{}[],:"\\ \nab1', max_size=30).map(str.encode),
)
def test_what_stands_before_a_broken_element_is_always_read(good: list[bytes], junk: bytes) -> None:
    pieces = split(b"[" + b",".join(good) + b"," + junk)
    assert [bytes(piece) for piece in pieces[: len(good)] if isinstance(piece, Raw)] == good


def test_too_many_items_are_413() -> None:
    with pytest.raises(RejectedBody) as refusal:
        split(b"[" + b"0," * MAX_ITEMS + b"0]")
    assert refusal.value.status == 413


def test_too_many_items_of_a_broken_array_are_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutt.formats.body.MAX_ITEMS", 2_000)
    assert len(split(b"[0" + b"," * 1_998)) <= 2_000
    with pytest.raises(RejectedBody) as refusal:
        split(b"[0" + b"," * 2_002)
    assert refusal.value.status == 413


def test_a_flood_of_broken_lines_is_not_read_line_by_line() -> None:
    with pytest.raises(RejectedBody) as refusal:
        split(b'{"a":\n' * (MAX_ITEMS + 2))
    assert refusal.value.status == 413


@given(st.binary(max_size=200), st.sampled_from([*PACKERS, "gzip, zstd", "nothing"]))
def test_any_bytes_are_a_body_or_a_refusal(data: bytes, coding: str) -> None:
    try:
        pieces = split(decompress(data, coding, 1000))
    except RejectedBody as refusal:
        assert refusal.status in (400, 413, 415)
    else:
        assert all(len(bytes(getattr(piece, "raw", piece))) <= 1000 for piece in pieces)
