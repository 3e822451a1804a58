"""Splunk's HTTP Event Collector over HTTP on a real Redis: its replies, and what stands in the stream after them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from mutt.errors import RejectedBody
from mutt.formats.base import Headers
from mutt.grant import INGEST, Grant, digest_of
from mutt.source import Source
from mutt.streams.keys import KeysCopy
from mutt.web.health import FRESH, Needs, Now
from mutt.web.intake import Intake
from mutt.web.splunk import EVENTS, HEALTH, RAW, ROOT, enveloped
from tests.integration.test_ingest import KEY, Ingest, metric, stopped
from tests.servers import Live
from tests.waiting import wait_until

GOOD = b'{"event": "fan failed", "host": "core-1"}'
CHANNEL = "FE0ECFAD-13D5-401B-847D-77833BD77131"
GRANTS = (
    Grant("few", (INGEST,), quota=2),
    Grant("narrow", (INGEST,), formats=("native",)),
    Grant("reader", ("management",)),
    Grant("addressed", (INGEST,), source=Source(in_address=True)),
)


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    KeysCopy(made.redis).publish({digest_of(grant.name.encode()): grant for grant in GRANTS})
    return made


def post(ingest: Ingest, body: bytes = GOOD, path: str = ROOT, key: str | None = KEY, **headers: str) -> Any:
    shown = {"Authorization": f"Splunk {key}"} if key else {}
    return ingest.post(body, path, key=None, **(shown | headers))


def is_told(response: Any, status: int, code: int) -> dict[str, Any]:
    """It is a reply of Splunk's."""
    told: dict[str, Any] = response.get_json()
    assert (response.status_code, told["code"], response.mimetype) == (status, code, "application/json")
    assert told["text"]
    if status >= 400:
        assert told["detail"]
    return told


# ---- taken


@pytest.mark.parametrize("path", EVENTS)
def test_events_are_taken_at_every_address_and_the_reply_is_splunks_own(ingest: Ingest, path: str) -> None:
    response = post(ingest, GOOD + GOOD, path)
    assert (response.status_code, response.get_json()) == (200, {"text": "Success", "code": 0})
    assert response.headers["X-Correlation-ID"]
    assert [(event.hostname, event.message) for event in ingest.events()] == [("core-1", "fan failed")] * 2
    assert metric(ingest, 'mutt_ingest_requests_total{format="splunk",status="202"}') == 1


@pytest.mark.parametrize("path", RAW)
def test_lines_are_taken_raw_with_what_the_query_says_of_them(ingest: Ingest, path: str) -> None:
    lines = (
        b"<187>Mar  4 09:15:02 core-1 sshd[811]: Failed password\r\n\n%ASA-4-106023: Deny tcp\nprose \xff\n"
    )
    query = "?host=relay&sourcetype=cisco%3Aasa&index=net&source=tcp%3A514&channel=x"
    assert is_told(post(ingest, gzip.compress(lines), path + query, Content_Encoding="gzip"), 200, 0)
    events = ingest.events()
    assert [(event.hostname, event.message, event.severity) for event in events] == [
        ("relay", "Failed password", 3),
        ("relay", "%ASA-4-106023: Deny tcp", 4),
        ("relay", "prose \\xff", None),
    ]
    assert events[2].tags == {"sourcetype": "cisco:asa", "index": "net", "source": "tcp:514"}
    assert orjson.loads(events[1].raw)["event"] == "%ASA-4-106023: Deny tcp"


def test_a_raw_line_names_its_own_host_where_the_query_names_none(ingest: Ingest) -> None:
    post(ingest, b"Mar  4 09:15:02 core-1 sshd[811]: Failed password", RAW[0])
    assert [event.hostname for event in ingest.events()] == ["core-1"]


def test_a_long_query_makes_no_flood_of_many_short_lines(ingest: Ingest) -> None:
    assert is_told(post(ingest, b"x\n" * 100_000, f"{RAW[0]}?source={'x' * 2000}"), 413, 27)
    assert is_told(post(ingest, b"x\n" * 200_002, RAW[0]), 413, 27)
    assert enveloped({"host": "h"}, 100, 100, b"x") == b'{"host":"h","event":"x"}'
    assert ingest.accepted == 0


@pytest.mark.parametrize("lines", [b"\x01" * (8 << 20), (b"\x01" * 1000 + b"\n") * 8000], ids=["one", "many"])
def test_lines_that_json_writes_longer_than_they_are_make_no_more_than_a_body_may_be(lines: bytes) -> None:
    """Six characters for one: what is made is counted, and of a line that is too long little is."""
    most = 1 << 20
    tracemalloc.start()
    try:
        with contextlib.suppress(RejectedBody):
            assert len(enveloped({}, most, 1 << 18, lines)) <= most + (6 << 18)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(lines) + (16 << 20)


def test_a_raw_line_longer_than_an_event_may_be_is_refused_alone_and_kept(ingest: Ingest) -> None:
    most = ingest.services.settings.ingest_max_event
    told = is_told(post(ingest, b"x" * 2 * most + b"\nfan failed\n", RAW[0] + "?host=h"), 200, 0)
    assert [bad["index"] for bad in told["rejected"]] == [0]
    assert [event.message for event in ingest.events()] == ["fan failed"]


# ---- bad items


def test_a_bad_event_costs_no_neighbour_and_its_sender_hears_success(ingest: Ingest) -> None:
    """Splunk would say 400, and would have taken those before it: who repeats that sends them twice, and who drops it
    loses the rest."""
    told = is_told(post(ingest, GOOD + b'{"host": "h"}' + GOOD), 200, 0)
    assert [(bad["index"], bad["field"]) for bad in told["rejected"]] == [(1, "event")]
    assert ingest.accepted == 2
    (letter,) = ingest.services.letters.listed("ingest", payload=True)
    assert letter.payload["index"] == 1


@pytest.mark.parametrize(
    ("body", "code", "number"),
    [
        (b"", 5, None),
        (b" \n ", 5, None),
        (b"[]", 5, None),
        (b"{", 6, None),
        (b"fan failed", 6, None),
        (b"5", 6, 0),
        (b'{"host": "h"}', 12, 0),
        (b'{"event": null}', 12, 0),
        (b'{"event": ""}', 13, 0),
        (b'{"event": {}}', 13, 0),
        (b'{"event": "x", "host": 5}', 6, 0),
        (b'{"event": " "}{"host": "h"}', 13, 0),
    ],
)
def test_what_splunk_refuses_is_refused_in_its_numbers(
    ingest: Ingest, body: bytes, code: int, number: int | None
) -> None:
    told = is_told(post(ingest, body), 400, code)
    assert told.get("invalid-event-number") == number
    assert ingest.accepted == 0


def test_an_event_that_is_too_large_for_mutt_alone_is_kept_and_not_sent_for_ever(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_max_event=200)
    ingest.knows()
    told = is_told(post(ingest, orjson.dumps({"event": "x" * 300})), 200, 0)
    assert len(told["rejected"]) == 1
    assert len(list(ingest.services.letters.listed("ingest"))) == 1


def test_too_large_a_body_and_an_unknown_coding_have_their_numbers(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_max_body=1000)
    ingest.knows()
    large = orjson.dumps({"event": "x" * 2000})
    for body, coding in ((large, "identity"), (gzip.compress(large), "gzip")):
        is_told(post(ingest, body, Content_Encoding=coding), 413, 27)
    is_told(post(ingest, Content_Encoding="br"), 415, 6)
    is_told(post(ingest, b"no gzip", Content_Encoding="gzip"), 400, 6)


# ---- who may


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, 2),
        ({"Authorization": KEY}, 401, 3),
        ({"Authorization": "Splunk"}, 401, 3),
        ({"Authorization": "Splunk wrong"}, 403, 4),
        ({"Authorization": "Splunk reader"}, 403, 1),
        ({"Authorization": "Splunk narrow"}, 403, 1),
        ({"Authorization": f"Splunk {KEY}"}, 200, 0),
        ({"Authorization": "Basic " + base64.b64encode(f"x:{KEY}".encode()).decode()}, 200, 0),
        ({"X-API-KEY": KEY}, 200, 0),
    ],
    ids=["none", "bare", "without a token", "unknown", "no scope", "no format", "Splunk", "Basic", "ours"],
)
def test_a_token_comes_in_splunks_ways_and_is_refused_in_its_numbers(
    ingest: Ingest, headers: Headers, status: int, code: int
) -> None:
    told = {name.replace("-", "_"): value for name, value in headers.items()}
    is_told(post(ingest, key=None, **told), status, code)


def test_a_token_stands_in_the_query_only_where_its_key_allows_it(ingest: Ingest) -> None:
    is_told(post(ingest, path=f"{ROOT}?token=addressed", key=None), 200, 0)
    is_told(post(ingest, b"x", f"{RAW[0]}?token=addressed&host=h", key=None), 200, 0)
    is_told(post(ingest, path=f"{ROOT}?token={KEY}", key=None), 400, 16)
    is_told(post(ingest, path=f"{ROOT}?token=wrong", key=None), 403, 4)
    assert b"addressed" not in b"".join(event.raw.encode() for event in ingest.events())


# ---- later


def test_a_used_up_quota_is_a_503_for_some_take_a_429_for_final(ingest: Ingest) -> None:
    is_told(post(ingest, GOOD + GOOD, key="few"), 200, 0)
    response = post(ingest, key="few")
    is_told(response, 503, 9)
    assert int(response.headers["Retry-After"]) >= 1
    is_told(post(ingest, GOOD * 3, key="few"), 413, 27)


def test_an_outage_is_busy_and_unhealthy_and_ends_no_sender(own_redis: Live) -> None:
    ingest = Ingest(own_redis.url)
    ingest.knows()
    is_told(post(ingest), 200, 0)
    is_told(ingest.client.get(HEALTH[0]), 200, 17)
    with stopped(own_redis):
        response = post(ingest)
        is_told(response, 503, 9)
        assert int(response.headers["Retry-After"]) >= 1
        unhealthy = {"text": "HEC is unhealthy, queues are full", "code": 18}
        wait_until(lambda: ingest.client.get(HEALTH[0]).get_json() == unhealthy, 10, "its health is told")


def test_an_error_of_mutts_own_is_code_8_and_so_sent_again(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Intake, "_joining", fail)
    is_told(post(ingest), 500, 8)


# ---- health, and acknowledgements


def test_whoever_asks_without_a_key_costs_redis_one_question_a_second(ingest: Ingest) -> None:
    ingest.redis.config_resetstat()
    began = time.monotonic()
    for _ in range(100):
        assert ingest.client.get(HEALTH[0]).status_code == 200
    asked = ingest.redis.info("commandstats")["cmdstat_set"]["calls"]
    assert 1 <= asked <= (time.monotonic() - began) / FRESH + 1


def test_a_health_check_waits_for_no_other() -> None:
    asked, hangs = threading.Event(), threading.Event()

    def need() -> str:
        if asked.is_set():
            hangs.wait(5)
        asked.set()
        return "ok"

    now = iter([0.0, 0.0, 0.0])
    ready = Now(Needs({"redis": need}), clock=lambda: next(now, 10.0))
    assert ready.met()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ready.met)
        wait_until(ready._lock.locked, 5, "the first one asks")
        assert ready.met()
        assert not first.done()
        hangs.set()
        assert first.result(5)


def test_health_checks_are_answered_with_and_without_a_token(ingest: Ingest) -> None:
    for path in HEALTH:
        assert ingest.client.get(path).get_json() == {"text": "HEC is healthy", "code": 17}
        assert ingest.client.get(path, headers={"Authorization": f"Splunk {KEY}"}).status_code == 200
        for wrong in ("Splunk wrong", "Splunk reader", "nonsense"):
            refused = ingest.client.get(path, headers={"Authorization": wrong})
            assert (refused.status_code, refused.get_json()["code"]) == (400, 21), "so Vector knows it"
    for path in (*EVENTS, *RAW):
        for method in ("OPTIONS", "GET", "HEAD"):
            response = ingest.client.open(path, method=method)
            assert response.status_code == 200, "Docker's driver starts no container without"
            assert "POST" in response.headers["Allow"]


def acknowledged(ingest: Ingest, numbers: list[Any], channel: str | None = CHANNEL, key: str = KEY) -> Any:
    more = {"X_Splunk_Request_Channel": channel} if channel else {}
    return post(ingest, orjson.dumps({"acks": numbers}), f"{ROOT}/ack", key, **more)


def test_who_names_a_channel_hears_at_once_that_what_was_taken_is_safe(ingest: Ingest) -> None:
    by_header = post(ingest, X_Splunk_Request_Channel=CHANNEL).get_json()
    by_query = post(ingest, path=f"{ROOT}/event?channel={CHANNEL}").get_json()
    given = [by_header.pop("ackId"), by_query.pop("ackId")]
    assert by_header == by_query == {"text": "Success", "code": 0}
    assert len(set(given)) == 2
    assert all(0 <= number < 2**53 for number in given), "JavaScript has no larger"
    told = acknowledged(ingest, [*given, 0, 7, -1, 2**63])
    assert told.get_json() == {
        "acks": {
            str(given[0]): True,
            str(given[1]): True,
            "0": False,
            "7": False,
            "-1": False,
            str(2**63): False,
        }
    }, "Splunk's own numbers were given by somebody else"
    assert acknowledged(ingest, given, "another").get_json()["acks"] == {
        str(number): False for number in given
    }
    assert acknowledged(ingest, []).get_json() == {"acks": {}}


def test_a_question_for_acknowledgements_is_refused_in_splunks_numbers(ingest: Ingest) -> None:
    is_told(acknowledged(ingest, [1], None), 400, 10)
    is_told(acknowledged(ingest, ["x"]), 400, 6)
    is_told(acknowledged(ingest, [1], key="wrong"), 403, 4)
    is_told(acknowledged(ingest, [1] * 600_000), 413, 27)
    deep = b'{"acks": [1], "more": ' + b"[" * 5000
    is_told(post(ingest, deep, f"{ROOT}/ack", X_Splunk_Request_Channel=CHANNEL), 400, 6)


def test_a_question_that_does_not_say_its_length_is_no_longer_than_others(ingest: Ingest) -> None:
    numbers = orjson.dumps({"acks": [1] * 600_000})
    told = ingest.client.post(
        f"{ROOT}/ack",
        input_stream=io.BytesIO(numbers),
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
        headers={"Authorization": f"Splunk {KEY}", "X-Splunk-Request-Channel": CHANNEL},
    )
    is_told(told, 413, 27)


def test_nothing_refused_is_acknowledged(ingest: Ingest) -> None:
    assert "ackId" not in post(ingest, b"{", X_Splunk_Request_Channel=CHANNEL).get_json()


def test_the_same_idempotency_key_gets_the_same_number_for_the_same_post(ingest: Ingest) -> None:
    headers = {"X_Splunk_Request_Channel": CHANNEL, "Idempotency_Key": "once"}
    assert post(ingest, **headers).get_json() == post(ingest, **headers).get_json()
    assert ingest.accepted == 1
