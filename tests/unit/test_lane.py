"""Which requests take the lane: those that gunicorn's parser and Flask would take as they stand, and no other."""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from hypothesis import example, given
from hypothesis import strategies as st

from mutt.errors import RejectedBody
from mutt.web import gunicorn
from mutt.web.framing import Framing
from mutt.web.lane import BODY_MOST, HEAD_MOST, recognised

LINE = b"POST /ingest HTTP/1.1\r\n"
BODY = b'{"hostname": "core-1", "message": "fan failed"}'
HEAD = LINE + b"Host: x\r\nX-API-KEY: k\r\nContent-Length: %d\r\n" % len(BODY)


def whole(head: bytes = HEAD, body: bytes = BODY) -> bytes:
    return head + b"\r\n" + body


def test_a_plain_post_takes_it_with_its_headers_by_names_in_capitals() -> None:
    found = recognised(whole(HEAD + b"x-Mixed-case: \t a: b\xe9 \t\r\nEmpty:\r\n"), "192.0.2.7")
    assert found
    post, body = found
    assert (post.address, post.format, body) == ("192.0.2.7", "", BODY)
    assert post.headers == {
        "HOST": "x", "X-API-KEY": "k", "CONTENT-LENGTH": str(len(BODY)), "X-MIXED-CASE": "a: b\xe9", "EMPTY": "",
    }  # fmt: skip


@pytest.mark.parametrize("path", [b"/ingest", b"/api/v1/ingest", b"/api/v2/ingest"])
def test_every_path_without_a_format_takes_it(path: bytes) -> None:
    assert recognised(whole(HEAD.replace(b"/ingest", path)), "")


@pytest.mark.parametrize(
    "more",
    [b"Connection: Keep-Alive\r\n", b"X-Forwarded-Proto: https\r\n", b"Idempotency-Key: a\r\n", b"Accept: */*\r\n"],
)  # fmt: skip
def test_what_ordinary_clients_and_proxies_add_keeps_nobody_out(more: bytes) -> None:
    assert recognised(whole(HEAD + more), "")


@pytest.mark.parametrize(
    "line",
    [
        b"post /ingest HTTP/1.1",
        b"GET /ingest HTTP/1.1",
        b"POST /ingest HTTP/1.0",
        b"POST /ingest HTTP/1.10",
        b"POST  /ingest HTTP/1.1",
        b"POST /ingest  HTTP/1.1",
        b"POST /ingest\tHTTP/1.1",
        b" POST /ingest HTTP/1.1",
        b"\r\nPOST /ingest HTTP/1.1",
        b"POST /ingest/ HTTP/1.1",
        b"POST /ingest/native HTTP/1.1",
        b"POST /ingest?a=b HTTP/1.1",
        b"POST /%69ngest HTTP/1.1",
        b"POST http://x/ingest HTTP/1.1",
        b"POST /api/v3/ingest HTTP/1.1",
        b"POST /ingest HTTP/1.1 ",
        b"POST /ingest HTTP/1.1\n",
    ],
)
def test_another_request_line_goes_the_ordinary_way(line: bytes) -> None:
    assert not recognised(whole(line + b"\r\n" + HEAD.removeprefix(LINE)), "")


@pytest.mark.parametrize(
    "more",
    [
        b"Host: y\r\n",
        b"x-api-key: other\r\n",
        b"CONTENT-LENGTH: 1\r\n",
        b"A : b\r\n",
        b" A: b\r\n",
        b"\tfolded\r\n",
        b"A_B: c\r\n",
        b"no colon\r\n",
        b": nameless\r\n",
        b"A: b\x00\r\n",
        b"A: b\rc\r\n",
        b"A: b\nC: d\r\n",
        b"A: \x7f\r\n",
        b"\xc3\xa9: b\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive, Upgrade\r\n",
        b"A: " + b"x" * HEAD_MOST + b"\r\n",
        b"".join(b"A%d: b\r\n" % n for n in range(101)),
    ],
)
def test_whatever_could_be_understood_in_two_ways_goes_the_ordinary_way(more: bytes) -> None:
    assert not recognised(whole(HEAD + more), "")


@pytest.mark.parametrize("host", [b"core-1.example.net:8080", b"192.0.2.7", b"localhost:1", b"x"])
def test_an_ordinary_host_keeps_nobody_out(host: bytes) -> None:
    assert recognised(whole(HEAD.replace(b"Host: x", b"Host: " + host)), "")


@pytest.mark.parametrize(
    "host", [b"", b"x..y", b".x", b"x.", b"x" * 64, b"[::1]:80", b"a_b", b"x:y", b"x:123456", b"x y", b"\xe9"]
)
def test_a_host_that_needs_a_second_look_goes_the_ordinary_way(host: bytes) -> None:
    assert not recognised(whole(HEAD.replace(b"Host: x", b"Host: " + host)), "")


def test_a_post_without_a_host_goes_the_ordinary_way() -> None:
    assert not recognised(whole(HEAD.replace(b"Host: x\r\n", b"")), "")


def test_a_body_that_is_not_small_goes_the_ordinary_way() -> None:
    for size, taken in ((BODY_MOST, True), (BODY_MOST + 1, False)):
        head = LINE + b"Host: x\r\nContent-Length: %d\r\n" % size
        assert bool(recognised(whole(head, b"x" * size), "")) is taken


def test_a_body_of_the_smallest_events_holds_few() -> None:
    """What a body costs is its events, not its bytes: tens of thousands of them would hold up all others."""
    many = b"x\n" * 20_000
    assert not recognised(whole(LINE + b"Host: x\r\nContent-Length: %d\r\n" % len(many), many), "")
    assert BODY_MOST // 2 <= 2_048


def test_a_blank_line_in_the_body_belongs_to_the_body() -> None:
    found = recognised(whole(body=b"one\r\n\r\ntwo"), "")
    assert found
    assert found[1] == b"one\r\n\r\ntwo"


LINES = [
    b"A: b", b"A:b", b"a-B: \t c \t", b"Connection: keep-alive", b"Connection: close", b"X-Forwarded-Proto: https",
    b"X-Forwarded-Ssl: on", b"SCRIPT_NAME: /x", b"Content-Length: 2", b"Transfer-Encoding: chunked",
    b"Expect: 100-continue", b"Upgrade: h2c", b"Content-Type: text/plain", b"X-API-KEY: \xe9", b"",
]  # fmt: skip
#: Lines, and what may be slipped in somewhere.
heads = st.tuples(
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from([b"", *(bytes([byte]) for byte in b"\r\n\t :_\0a\x7f\xe9/"), b"\r\n", b"\r\n "]),
    st.integers(0, 300),
)


@given(heads, st.binary(max_size=20))
@example(([], b"", 0), b"")
@example(([b"A: b"], b"\n", 40), b"{}")
def test_what_takes_the_lane_is_what_gunicorns_parser_makes_of_it(
    head: tuple[list[bytes], bytes, int], body: bytes
) -> None:
    lines, slipped, at = head
    plain = b"\r\n".join([b"POST /ingest HTTP/1.1", b"Content-Length: %d" % len(body), *lines]) + b"\r\n\r\n"
    at %= len(plain)
    framing = Framing(1000)
    try:
        if not framing.feed(plain[:at] + slipped + plain[at:] + body) or framing.hopeless:
            return
    except RejectedBody:
        return
    request, _ = framing.taken()
    found = recognised(request, "192.0.2.1")
    if found:
        config = Config()
        config.set("secure_scheme_headers", gunicorn.secure_scheme_headers)
        read = next(get_parser(config, iter([request]), ("192.0.2.1", 1)))
        assert (read.method, read.path, read.query, read.version) == ("POST", "/ingest", "", (1, 1))
        assert dict(read.headers) == found[0].headers
        assert len(read.headers) == len(dict(read.headers))
        assert read.body.read() == found[1]
        assert not read.should_close()
        assert not read._expected_100_continue
