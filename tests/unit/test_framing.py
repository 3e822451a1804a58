"""Requests are framed as gunicorn's own parser frames them, however their bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData, ParseException
from hypothesis import example, given
from hypothesis import strategies as st

from mutt.errors import RejectedBody
from mutt.web.framing import HEAD_MAX, Framing
from tests.fuzz.targets import HEADERS, framed

MOST = 1000
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


def chunked(body: bytes, size: int, trailers: bytes = b"") -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%X;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailers + b"\r\n"


bodies = st.binary(max_size=60) | st.sampled_from([b"0\r\n\r\n", b"\r\n\r\n", HEAD + b"\r\n"])
whole = st.one_of(
    st.tuples(
        bodies.map(lambda body: HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body),
        st.none(),
    ).map(lambda pair: pair[0]),
    st.just(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.builds(chunked, bodies, st.integers(1, 20), st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"])),
)


def bodies_seen(sent: bytes) -> list[bytes]:
    """What gunicorn's parser makes of them, one after another on a connection."""
    parser = get_parser(Config(), iter([sent]), ("192.0.2.1", 1))
    return [request.body.read() for request in parser]


def feed(data: bytes, cuts: list[int]) -> list[bytes]:
    """The requests that the framing hands over, one after another, when ``data`` arrives in pieces."""
    found, framing = [], Framing(MOST)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        piece = data[start:end]
        while piece and framing.feed(piece):
            request, piece = framing.taken()
            found.append(request)
            framing = Framing(MOST)
    assert len(framing) == 0, "something was left over"
    return found


@given(st.lists(whole, max_size=4), st.lists(st.integers(0, 500), max_size=12))
def test_whole_requests_are_told_apart_wherever_their_bytes_are_cut(
    sent: list[bytes], cuts: list[int]
) -> None:
    found = feed(b"".join(sent), cuts)
    assert len(found) == len(sent)
    assert [bodies_seen(one) for one in found] == [bodies_seen(one) for one in sent]


PARTS = [
    HEAD,
    b"GET / HTTP/1.1\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length:+5\r\n",
    b"Content-Length: 5\n",
    b" Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"transfer-encoding:\tCHUNKED \r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"A: b\r\n",
    *(b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"hello"),
    *(b"0\r\n", b"5\r\nhello\r\n", b"5;x\r\nhello\r\n", b"0x5\r\nhello\r\n", b"5\r\nhelloo\r\n"),
]
hostile = st.lists(st.sampled_from(PARTS) | st.binary(max_size=4), max_size=10).map(b"".join)


@given(hostile, st.lists(st.integers(0, 500), max_size=6))
@example(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", [])
def test_whatever_comes_the_parser_refuses_what_was_handed_over_or_reads_all_of_it_as_one_request(
    data: bytes, cuts: list[int]
) -> None:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    framing = Framing(MOST)
    try:
        for start, end in itertools.pairwise(edges):
            if framing.feed(data[start:end]):
                break
    except RejectedBody as refusal:
        assert refusal.status in (400, 413, 431)
        return
    if framing.whole and not framing.hopeless:
        request, _ = framing.taken()
        parser = get_parser(Config(), iter([request]), ("192.0.2.1", 1))
        try:
            next(parser).body.read()
        except (ParseException, NoMoreData, StopIteration):
            return
        assert parser.unreader.buf.getvalue() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + b"A: " + b"x" * HEAD_MAX, 431),
        (HEAD + b"A: " + b"x" * HEAD_MAX + b"\r\n\r\n", 431),
        (chunked(b"x" * (MOST + 1), 100), 413),
        (chunked(b"x", 1, b"A: " + b"x" * HEAD_MAX), 431),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 9000, 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n", 400),
    ],
)
def test_what_cannot_be_framed_or_held_is_refused_with_a_reason(data: bytes, status: int) -> None:
    with pytest.raises(RejectedBody) as refusal:
        Framing(MOST).feed(data)
    assert refusal.value.status == status
    assert "send" in refusal.value.reason


heads = st.lists(st.sampled_from([*HEADERS, b"\r\n", b"A: b\r\n"]), max_size=6).map(b"".join)


@given(heads, st.sampled_from(HEADERS[:3]), st.integers(1, 255))
@example(b"Transfer-Encoding: gzip, chunked\r\n\r\n", HEADERS[0], 255)
@example(b"Content-Length: 00000000000000000005\r\n\r\n", HEADERS[0], 255)
def test_what_is_handed_over_before_it_is_whole_is_refused_by_the_parser_or_too_large(
    head: bytes, line: bytes, step: int
) -> None:
    for before in (b"", b"\r\n"):
        framed(bytes([step]) + before + line + head)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 00000000000000000005\r\n\r\n",
        b"\r\n" + HEAD + b"Content-Length: 5\r\n\r\n",
        HEAD.replace(b"1.1", b"1.2") + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
        b"\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
)
def test_a_body_is_waited_for_however_its_length_is_said(head: bytes) -> None:
    framing = Framing(MOST)
    assert not framing.feed(head)
    assert not framing.feed(b"hel")
    assert framing.feed(b"lo\r\n0\r\n\r\n")
    assert bodies_seen(framing.taken()[0])[0] == b"hello"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"identity, chunked", b"gzip", b"x", b""])
def test_a_transfer_encoding_beside_chunked_is_refused_with_what_to_use(coding: bytes) -> None:
    with pytest.raises(RejectedBody, match="Content-Encoding") as refusal:
        Framing(MOST).feed(HEAD + b"Transfer-Encoding: %b\r\n\r\n" % coding)
    assert (refusal.value.status, refusal.value.field) == (400, "Transfer-Encoding")


def test_who_speaks_an_older_http_waits_for_no_100() -> None:
    for version, waits in ((b"1.1", True), (b"1.0", False)):
        framing = Framing(MOST)
        framing.feed(b"POST / HTTP/%b\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % version)
        assert framing.continues is waits


@pytest.mark.parametrize("length", [b"1001", b"0001001", b"9" * 19, b"9" * 40])
def test_a_body_that_says_it_is_too_large_is_not_waited_for(length: bytes) -> None:
    framing = Framing(MOST)
    assert framing.feed(HEAD + b"Content-Length: %b\r\n\r\nhello" % length)
    assert framing.hopeless
    assert framing.too_large
    assert framing.taken() == (HEAD + b"Content-Length: %b\r\n\r\n" % length, b"")
