"""A key in the address: good for a key that is allowed there, and nowhere to be read afterwards."""

from __future__ import annotations

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

KEYS = (ALLOWED, ORDINARY, UNKNOWN)
PATHS = ("/ingest", "/ingest/native", "/ingest/pigeon", "/signed/nobody", "/signed//nobody", "/nowhere",
         "/services/collector", "/services/collector/raw", "/services/collector/pigeon")  # fmt: skip


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
    assert "`mutt keys source site --in-address`" in told["detail"]
    assert ingest.post(GOOD, key=ORDINARY).status_code == 202
    told = is_problem(ingest.post(GOOD, f"/ingest?key={KEY}", key=None), 401)  # INGEST_API_KEY's
    assert "make a key for it" in told["detail"]
    for unknown in (UNKNOWN, "", "%", "%00%ff", "\N{SNOWMAN}", "a&key=" + ALLOWED):
        assert "missing or not known" in is_problem(
            ingest.post(GOOD, f"/ingest?key={unknown}", key=None), 401
        ).get("detail", "")
    assert metric(ingest, 'mutt_ingest_refused_total{reason="in_address"}') == 2


def test_a_header_wins_over_the_address(ingest: Ingest) -> None:
    assert ingest.post(GOOD, f"/ingest?key={UNKNOWN}", key=ORDINARY).status_code == 202
    assert ingest.post(GOOD, f"/ingest?key={ALLOWED}", key=UNKNOWN).status_code == 401


def test_a_key_in_the_address_is_written_down_nowhere() -> None:
    """Whether it is taken, refused, sent to a wrong place, or in a request that nobody can read; by a gunicorn and a
    MUTT that are as talkative as they can be: every other level says less."""
    talkative = ("--log-level", "debug", "--access-logfile", "-", "--access-logformat", EVERYTHING)
    with scratch() as directory, live_redis(directory) as server:
        client = redis.Redis.from_url(server.url)
        KeysCopy(client).publish(GRANTS)
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY, "LOG_LEVEL": "debug"}
        with served("ingest", env, directory, *talkative) as (port, log):
            for status, headers, body in asked_of(Door(port)):
                assert not any(key in f"{headers}{body!r}" for key in KEYS), status
            wait_until(lambda: "PUT" in log.read_text(), 5, "an access log")
        text, values = log.read_text(), values_of(client)
    assert not any(key in text for key in KEYS), text
    assert "a=b" in text  # the address is logged indeed
    assert b"hostname" in values  # the rejected item
    assert not any(key.encode() in values for key in KEYS)


def asked_of(door: Door) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers to a key in the address, of each kind and at each place."""
    told = {(path, key): door.ask(request(f"{path}?key={key}&a=b", [])) for key in KEYS for path in PATHS}
    assert told["/ingest", ALLOWED][0] == 202
    assert told["/ingest", ORDINARY][0] == told["/ingest", UNKNOWN][0] == 401
    assert told["/signed//nobody", ALLOWED][0] == 308
    kept = door.ask(request(f"/ingest?key={ALLOWED}", [], b'{"hostname": 1}'))
    led = door.ask(request("/ingest", [f"X-API-KEY: {ORDINARY}", f"Referer: http://x/ingest?key={ALLOWED}"]))
    assert (kept[0], led[0]) == (400, 202)
    line = f"/ingest?key={ALLOWED}".encode()
    garbled = [
        b"POST %b HTTP/9.9\r\n\r\n" % line,
        b"POST %b\r\n\r\n" % line,
        b"P@ST %b HTTP/1.1\r\n\r\n" % line,
        b"POST %b%b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (line, b"a" * 5000),
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" % line,
        b"PUT %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % line,
    ]
    door.connect(b"POST %b HTTP/1.1\r\nHo" % line).close()
    return [*told.values(), kept, led, *map(door.ask, garbled)]
