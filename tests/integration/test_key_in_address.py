"""A key in the address: good for a key that is allowed there, and nowhere to be read afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mutt.grant import INGEST, Grant, digest_of, new_key
from mutt.source import Source
from mutt.streams.keys import KeysCopy
from tests.doors import Door, served
from tests.integration.test_ingest import GOOD, KEY, Ingest, is_problem, metric
from tests.integration.test_keys_kept_secret import values_of
from tests.integration.test_signed import request
from tests.servers import live_redis, scratch
from tests.waiting import wait_until

ALLOWED, ORDINARY, UNKNOWN = new_key(), new_key(), new_key()
GRANTS = {
    digest_of(ALLOWED.encode()): Grant("cloud", (INGEST,), source=Source(in_address=True)),
    digest_of(ORDINARY.encode()): Grant("site", (INGEST,)),
}

#: gunicorn's access log, with all that it can say of an address.
EVERYTHING = "%(r)s | %(U)s | %(q)s | %(f)s | %({raw_uri}e)s | %({query_string}e)s | %({http_referer}e)s"

PATHS = ("/ingest", "/ingest/native", "/ingest/pigeon", "/signed/nobody", "/signed//nobody", "/nowhere")


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    KeysCopy(made.redis).publish(GRANTS)
    return made


@pytest.mark.parametrize(
    "query",
    [f"key={ALLOWED}", f"token={ALLOWED}", f"access_token={ALLOWED}", f"auth_token={ALLOWED}", f"a=b&key={ALLOWED}&c",
     f"%6bey={ALLOWED.replace('_', '%5F')}", f"Key={ALLOWED}"],
    ids=["key", "token", "access_token", "auth_token", "among others", "percent-encoded", "in capitals"],
)  # fmt: skip
def test_a_key_that_is_allowed_there_takes_events(ingest: Ingest, query: str) -> None:
    for path in ("/ingest", "/api/v1/ingest", "/api/v2/ingest", "/ingest/native"):
        assert ingest.post(GOOD, f"{path}?{query}", key=None).status_code == 202
    assert ingest.accepted == 4


def test_any_other_key_is_refused_there_and_hears_how_to_allow_it(ingest: Ingest) -> None:
    told = is_problem(ingest.post(GOOD, f"/ingest?key={ORDINARY}", key=None), 401)
    assert "mutt keys source" in told["detail"]
    assert ingest.post(GOOD, key=ORDINARY).status_code == 202
    told = is_problem(ingest.post(GOOD, f"/ingest?key={KEY}", key=None), 401)  # INGEST_API_KEY's
    assert "mutt keys source" in told["detail"]
    for unknown in (UNKNOWN, "", "%", "%00%ff", "\N{SNOWMAN}", "a&key=" + ALLOWED):
        assert "missing or not known" in is_problem(
            ingest.post(GOOD, f"/ingest?key={unknown}", key=None), 401
        ).get("detail", "")
    assert metric(ingest, 'mutt_ingest_refused_total{reason="in_address"}') == 2


def test_a_header_wins_over_the_address(ingest: Ingest) -> None:
    assert ingest.post(GOOD, f"/ingest?key={UNKNOWN}", key=ORDINARY).status_code == 202
    assert ingest.post(GOOD, f"/ingest?key={ALLOWED}", key=UNKNOWN).status_code == 401


@pytest.fixture(scope="module")
def doors() -> Iterator[tuple[list[Door], list[Path], Any]]:
    """As it is by default, and as talkative as gunicorn and MUTT can be."""
    talkative = ("--log-level", "debug", "--access-logfile", "-", "--access-logformat", EVERYTHING)
    with scratch() as one, scratch() as two, live_redis(one) as server, contextlib.ExitStack() as stack:
        client = redis.Redis.from_url(server.url)
        KeysCopy(client).publish(GRANTS)
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY}
        quiet = stack.enter_context(served("ingest", env, one))
        loud = stack.enter_context(served("ingest", env | {"LOG_LEVEL": "debug"}, two, *talkative))
        yield [Door(quiet[0]), Door(loud[0])], [quiet[1], loud[1]], client


def test_a_key_in_the_address_is_written_down_nowhere(doors: tuple[list[Door], list[Path], Any]) -> None:
    """Whether it is taken, refused, sent to a wrong place, or in a request that nobody can read."""
    both, logs, client = doors
    keys = (ALLOWED, ORDINARY, UNKNOWN)
    for door in both:
        told = [(path, key, door.ask(request(f"{path}?key={key}&a=b", []))) for key in keys for path in PATHS]
        statuses = {(path, key): answer[0] for path, key, answer in told}
        assert statuses["/ingest", ALLOWED] == 202
        assert statuses["/ingest", ORDINARY] == statuses["/ingest", UNKNOWN] == 401
        assert statuses["/signed//nobody", ALLOWED] == 308
        kept = door.ask(request(f"/ingest?key={ALLOWED}", [], b'{"hostname": 1}'))
        led = door.ask(
            request("/ingest", [f"X-API-KEY: {ORDINARY}", f"Referer: http://x/ingest?key={ALLOWED}"])
        )
        assert (kept[0], led[0]) == (400, 202)
        line = f"/ingest?key={ALLOWED}".encode()
        garbled = [b"POST %b HTTP/9.9\r\n\r\n" % line, b"POST %b\r\n\r\n" % line, b"P@ST %b HTTP/1.1\r\n\r\n" % line,
                   b"PUT %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % line,
                   b"POST %b%b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (line, b"a" * 5000),
                   b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" % line]  # fmt: skip
        told += [("", "", answer) for answer in [kept, led, *map(door.ask, garbled)]]
        door.connect(b"POST %b HTTP/1.1\r\nHo" % line).close()
        for path, _, (status, headers, body) in told:
            assert not any(key in f"{headers}{body!r}" for key in keys), (path, status)
    wait_until(lambda: "GET" in logs[1].read_text(), 5, "an access log")
    for log in logs:
        text = log.read_text()
        assert not any(key in text for key in keys), text
    values = values_of(client)
    assert b"hostname" in values  # the rejected item
    assert not any(key.encode() in values for key in keys)
    assert "a=b" in logs[1].read_text()  # the address is logged indeed
