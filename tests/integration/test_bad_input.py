"""Hostile requests, from HTTP to the audit: no 5xx, no event lost or stuck, and their neighbours' rows stand."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import zstandard
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from mutt.formats.base import MESSAGE_MAX
from mutt.formats.body import MOST_CODINGS
from mutt.services import Services
from mutt.store.tables import event_audit_log
from mutt.streams.keys import KeysCopy
from mutt.web.ingest import make_ingest
from tests.bench import Bench, benches
from tests.sampled import EVERY, damaged, headers_of

KEY = "the-key-of-the-tests"
MOST = 300_000

#: Few examples and the same each time; ``make fuzz`` tries more, and others each time.
longer = settings.get_current_profile_name() == "fuzz"
seeded = settings(
    max_examples=1_000 if longer else 60,
    derandomize=not longer,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

numbers = itertools.count()

#: A body of SNS is nobody's without its signature: test_sns.py posts signed ones.
REFUSED, PROVEN = {400, 401, 413, 415}, {"sns"}


class Line:
    """Ingest and one evaluator."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        web = Services(bench.settings, lambda *_a, **_k: None, role="ingest", web=True)
        self.client: FlaskClient = make_ingest(web).test_client()

        self.taken = 0

    def post(self, body: bytes, path: str = "/ingest", **headers: str) -> Any:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.client.post(path, data=body, headers=told | {"X-API-KEY": KEY})
        assert response.status_code in REFUSED | {202}, response.get_data(as_text=True)
        if response.status_code == 202:
            self.taken += response.get_json()["accepted"]
        return response

    def settle(self, *neighbours: str) -> None:
        """The neighbours are rows, the books balance, and each event that was taken has an end."""
        self.bench.run()
        events = self.bench.events
        assert events.get("queued", 0) == 0
        assert events["accepted"] == self.taken
        assert events.get("parked", 0) == 0, self.bench.letters()
        assert set(neighbours) <= self.messages()
        self.bench.check()

    def messages(self) -> set[str]:
        with self.bench.sql() as conn:
            return set(conn.execute(select(event_audit_log.c.message)).scalars())


@pytest.fixture
def line(redis_url: str, database_url: str) -> Iterator[Line]:
    told = {
        "ingest_api_key": KEY,
        "ingest_max_body": MOST,
        "ingest_max_event": 100_000,
        "unhandled_threshold": 10**6,
    }
    with benches(redis_url, database_url, **told) as (bench,):
        KeysCopy(bench.redis).publish({})
        yield Line(bench)


# ---- what bad input is made of

NUMBERS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-0",
    b"0",
    b"1e400",
    b"-1e400",
    b"1E-400",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1" * 400,
    b"0.1e+3",
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"0x10",
    b"253402300799",
    b"253402300800",
    b"99999999999999999999",
    b"1e18",
    b"true",
    b"false",
    b"null",
    b"undefined",
]
TIMES = [
    "0000-00-00T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00+23:59",
    "9998-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "10000-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-01-02T03:04:60Z",
    "2026-01-02T24:00:00Z",
    "2026-01-02T03:04:05+24:00",
    "2026-01-02T03:04:05-23:59",
    "2026-W01-1",
    "20260102T030405Z",
    "Feb 29 00:00:00",
    "Jan  0 00:00:00",
    "Dec 31 23:59:59 0001",
    "Jan  1 00:00:00 +2359 9999",
    "1e400",
    "253402300800",
    "٣٤٥٦٧٨٩٠١٢",
]
TEXTS = [
    b"",
    b" ",
    b"\\u0000",
    b"a\\u0000b",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\uD83D\\uDE00",
    b"\\uffff",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc3\xbc",
    b"caf\xe9",
    b"\xf4\x90\x80\x80",
    b"a\nb",
    b"a\tb",
    b"\x00",
    b"\x1b[31m",
    b"\\q",
    b"\\",
    b"'; DROP TABLE alerts; --",
    b"%s%n\\\\N\\t",
    b"\\\\N",
    b"\\\\.",
    b"x" * 300,
    b"x" * 70_000,
    b"x" * 110_000,
    b"<script>",
    b"\xe2\x80\xae",
    b"../../x",
    b"${jndi:ldap://x}",
]
KEYS = [
    b"hostname",
    b"message",
    b"timestamp",
    b"event_id",
    b"syslog_severity",
    b"severity",
    b"facility",
    b"program",
    b"source",
    b"state",
    b"clear_key",
    b"trap_oid",
    b"oid",
    b"generic_trap",
    b"specific_trap",
    b"enterprise",
    b"varbinds",
    b"variables",
    b"tags",
    b"metadata",
    b"_retry_count",
    b"",
    b"template",
    b"team",
    b"raw",
    b"item",
    b"\\u0000",
    b"\\ud800",
    b"__proto__",
    b"alerts",
]

texts = st.one_of(st.sampled_from(TEXTS), st.binary(max_size=6)).map(lambda text: b'"' + text + b'"')
plain = st.one_of(
    texts,
    st.sampled_from(NUMBERS),
    st.sampled_from(TIMES).map(lambda time: json.dumps(time, ensure_ascii=False).encode()),
)


def obj(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"{" + b",".join(b'"' + key + b'":' + value for key, value in pairs) + b"}"


def array(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def deep(depth: int, value: bytes) -> bytes:
    return b'{"a":[' * depth + value + b"]}" * depth


values = st.recursive(
    plain | st.builds(deep, st.sampled_from([1, 5, 400, 1200, 3000]), st.just(b"1")),
    lambda inner: (
        st.lists(inner, max_size=3).map(array)
        | st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=3).map(obj)
    ),
    max_leaves=6,
)
pairs = st.tuples(st.sampled_from(KEYS), values)
WHOLE = [(b"hostname", b'"h"'), (b"message", b'"CRITICAL m"')]
items = st.one_of(
    st.lists(pairs, max_size=5).map(lambda more: obj([*WHOLE, *more])),  # its keys may come twice
    st.lists(pairs, max_size=5).map(lambda more: obj([*more, *WHOLE])),
    st.lists(pairs, max_size=6).map(obj),
    values,
    st.binary(max_size=20),
)
lines = st.one_of(
    items.map(lambda item: item.replace(b"\n", b" ")),
    st.tuples(
        st.sampled_from([b"<34>", b"<999>", b"<34>1 ", b""]), st.sampled_from(TIMES).map(str.encode), texts
    ).map(b" ".join),
)

PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("zstd", zstandard.compress),
    ("gzip, zstd", lambda data: zstandard.compress(gzip.compress(data))),
    (", ".join(["gzip"] * MOST_CODINGS), lambda data: _times(gzip.compress, data, MOST_CODINGS)),
]


def _times(pack: Callable[[bytes], bytes], data: bytes, times: int) -> bytes:
    for _ in range(times):
        data = pack(data)
    return data


def neighbour() -> tuple[bytes, str]:
    """A good event, and its message."""
    message = f"CRITICAL neighbour {next(numbers)}"
    return orjson.dumps({"hostname": "core-1", "message": message}), message


@seeded
@given(
    bad=st.lists(items, max_size=4),
    behind=st.lists(lines, max_size=3),
    packer=st.sampled_from(PACKERS),
    kind=st.sampled_from(
        ["application/json", "text/plain", "application/json; charset=utf-16", "x/\xff", ""]
    ),
)
def test_a_bad_item_costs_none_of_its_neighbours(
    line: Line, bad: list[bytes], behind: list[bytes], packer: tuple[str, Callable[[bytes], bytes]], kind: str
) -> None:
    (first, one), (second, two), (third, three), (fourth, four) = (neighbour() for _ in range(4))
    coding, pack = packer
    told = {
        "Content_Encoding": coding,
        "Content_Type": kind,
        "X_Correlation_ID": "\x80",
        "Idempotency_Key": one,
    }
    for path, body in (
        ("/ingest", array([first, *bad])),
        ("/ingest/native", b"\n".join([second, *behind, third])),
        ("/ingest/syslog", b"\n".join([*behind, b"<34>Jan  2 03:04:05 h p: " + four.encode()])),
        ("/ingest/snmptrap", array([*bad, fourth])),
    ):
        assert line.post(pack(body), path, **told).status_code == 202 or path == "/ingest/snmptrap"
    line.settle(one, two, three)
    assert any(message.endswith(four) for message in line.messages())


def truncated(data: bytes) -> bytes:
    return data[:-3]


def bomb(data: bytes) -> bytes:
    return data + b" " * 5_000_000


SHAPES: list[Callable[[bytes], bytes]] = [
    bytes,
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.decode("latin-1").encode("utf-16"),
    lambda data: data.decode("latin-1").encode("utf-16-be"),
    lambda data: data.decode("latin-1").encode("utf-32"),
    lambda data: data.decode("latin-1").encode("latin-1"),
    lambda data: data.replace(b" ", b"\0"),
    lambda data: b"[" * 100_000 + data,
    lambda data: b"\n".join([data] * 3),
    lambda data: b",".join([data] * 3),
    lambda data: data * 3,
    lambda data: b"[" + data,
    lambda data: data + b"]",
    lambda data: b'{"a":' * 5_000 + data,
    lambda data: b"1," * 100_000,
    lambda data: b"{}" * 100_000,
    lambda data: b"\n" * 250_000,
    truncated,
    bomb,
]


@seeded
@given(
    body=st.lists(items, min_size=1, max_size=3).map(b"\n".join),
    shape=st.sampled_from(SHAPES),
    packer=st.sampled_from(PACKERS),
    after=st.sampled_from(
        [bytes, truncated, lambda data: data[1:], lambda data: data + b"x", lambda data: data * 2]
    ),
    path=st.sampled_from(
        [
            "/ingest",
            "/api/v1/ingest",
            "/api/v2/ingest",
            "/ingest/syslog",
            "/ingest/native",
            "/ingest/snmptrap",
        ]
    ),
    length=st.sampled_from([None, "0", "1", "-1", "1e3", "999999999", "99999999999999999999", "\u0661"]),
    coding=st.sampled_from(
        [None, None, None, "gzip", "br", "gzip;q=0", ",,", "identity", "GZIP", "\xff", "zstd," * 500]
    ),
)
def test_a_bad_body_is_refused_or_taken_and_costs_no_other_request(
    line: Line,
    body: bytes,
    shape: Callable[[bytes], bytes],
    packer: tuple[str, Callable[[bytes], bytes]],
    after: Callable[[bytes], bytes],
    path: str,
    length: str | None,
    coding: str | None,
) -> None:
    (before, one), (behind, two) = neighbour(), neighbour()
    told = {"Content_Encoding": packer[0] if coding is None else coding}
    assert line.post(before).status_code == 202
    line.post(
        after(packer[1](shape(body))), path, **(told if length is None else told | {"Content_Length": length})
    )
    assert line.post(behind).status_code == 202
    line.settle(one, two)


def test_what_each_sender_posts_becomes_rows_and_the_same_damaged_is_taken_or_refused(line: Line) -> None:
    """By the format's name and without; what is damaged is one in twenty of the unit tests', all the way to its row."""
    for path in EVERY:
        headers, name = headers_of(path), path.parent.name
        for body in (path.read_bytes(), *itertools.islice(damaged(path.read_bytes()), 4, None, 20)):
            line.post(body, f"/ingest/{name}", **headers)
            line.post(body, **headers)
    line.settle()
    with line.bench.sql() as conn:
        sources = set(conn.execute(select(event_audit_log.c.source)).scalars())
    assert {path.parent.name for path in EVERY} - PROVEN - {"mapped"} <= sources


def test_the_audit_row_of_a_long_message_says_where_it_was_cut_and_holds_all_of_it(line: Line) -> None:
    message = "x" * 90_000
    assert line.post(orjson.dumps({"hostname": "core-1", "message": message})).status_code == 202
    line.settle()
    (row,) = line.bench.rows()
    assert len(row.message) == MESSAGE_MAX
    assert row.message.endswith("x [cut: 65503 of 90000 characters]")
    assert json.loads(row.raw)["message"] == message


def test_whatever_bytes_a_key_holds_they_are_no_key_and_no_fault(line: Line) -> None:
    for byte in range(256):
        for name in ("X-API-KEY", "Authorization"):
            value = bytes([byte]).decode("latin-1")
            if value in "\r\n":
                continue
            response = line.client.post("/ingest", data=b"{}", headers={name: f"Bearer {value}"})
            assert response.status_code == 401
