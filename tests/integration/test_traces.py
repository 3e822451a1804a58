"""One trace from the request to Moog: real servers, and what a collector and Moog are told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mutt import names, otlp
from mutt.services import Services
from mutt.tasks import alerts as alert_tasks
from mutt.tasks import base, housekeeping, moog
from tests.bench import Bench, benches
from tests.collector import Posts, Seen, posts
from tests.integration.test_ingest import GOOD, Ingest
from tests.waiting import wait_until

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Posts]:
    with posts() as made:
        yield made


@pytest.fixture
def at_moog() -> Iterator[Posts]:
    with posts() as made:
        yield made


Make = Callable[..., tuple[Ingest, Bench]]


@pytest.fixture
def make(
    redis_url: str, database_url: str, at_moog: Posts, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """Makes ingest and a worker of everything; their spans go out at the end."""
    ended: list[Any] = []

    def made(**told: Any) -> tuple[Ingest, Bench]:
        told = {"trace_share": 1.0} | told
        works = benches(redis_url, database_url, moog_url=at_moog.url, **told)
        (bench,) = works.__enter__()
        ingest = Ingest(redis_url, **told)
        ingest.knows()
        # The gate knows this run of Redis: nothing is waited for.
        history = bench.redis.info("replication")["master_replid"]
        bench.redis.hset(names.BREAKER, mapping={"history": history, "fence": 0})
        bench.services.forwarder._dice = lambda: 0.0
        ended.append((works, ingest.services, bench.services))
        for module in (alert_tasks, base, housekeeping, moog):
            monkeypatch.setattr(module, "services", lambda: bench.services)
        return ingest, bench

    yield made
    for works, *services in ended:
        for one in services:
            one.end_traces()
        works.__exit__(None, None, None)


def work(bench: Bench, at_moog: Posts, alerts: int = 1) -> None:
    """Everything that waits, to its end."""
    before = len(at_moog.came)
    alert_tasks.evaluate_queue()

    def sent() -> bool:
        moog.forward_queue()
        return len(at_moog.came) == before + alerts

    wait_until(sent, 10, "the alerts at Moog")
    housekeeping.record_queue()


def spans(collector: Posts, *services: Services) -> dict[str, list[Seen]]:
    """What came, by name, once these processes have ended."""
    for one in services:
        one.end_traces()
    found: dict[str, list[Seen]] = {}
    for span in collector.spans():
        found.setdefault(span.name, []).append(span)
    return found


def test_one_trace_goes_from_the_request_to_moog_and_moog_is_told_of_it(
    make: Make, collector: Posts, at_moog: Posts
) -> None:
    ingest, bench = make(trace_url=collector.url, trace_headers=(("authorization", "Bearer s3cret"),))
    assert ingest.post(GOOD, traceparent=GIVEN, X_CORRELATION_ID="mine").status_code == 202
    work(bench, at_moog)
    found = spans(collector, ingest.services, bench.services)
    (ingested,), (evaluated,), (forwarded,), (recorded,) = (
        found[name] for name in ("ingest", "evaluate", "forward", "record")
    )
    assert {one.trace for one in (ingested, evaluated, forwarded, recorded)} == {GIVEN[3:35]}
    assert ingested.parent == GIVEN[36:52]
    assert (evaluated.parent, forwarded.parent, recorded.parent) == (ingested.id, evaluated.id, evaluated.id)
    assert [posted.headers["traceparent"] for posted in at_moog.came] == [forwarded.context]
    assert {one.about["mutt.correlation_id"] for one in (ingested, evaluated, forwarded, recorded)} == {
        "mine"
    }
    assert (ingested.service, ingested.about["http.response.status_code"]) == ("mutt-ingest", 202)
    (take,) = found["evaluate take"]
    assert take.links == [f"{ingested.trace}-{ingested.id}"]
    assert evaluated.links == [f"{take.trace}-{take.id}"]
    assert {posted.path for posted in collector.came} == {"/v1/traces"}
    assert {posted.headers["authorization"] for posted in collector.came} == {"Bearer s3cret"}
    bench.check()


def test_what_a_request_that_begins_no_trace_brings_is_as_without_traces(
    make: Make, collector: Posts, at_moog: Posts
) -> None:
    ingest, bench = make(trace_url=collector.url, trace_share=0.0)
    for header in ("", "nonsense", GIVEN[:-2] + "00"):
        assert ingest.post(GOOD, traceparent=header).status_code == 202
    work(bench, at_moog, 3)
    assert spans(collector, ingest.services, bench.services) == {}
    assert all("traceparent" not in posted.headers for posted in at_moog.came)


def test_each_request_of_a_round_has_its_own_trace_and_the_take_is_linked_to_both(
    make: Make, collector: Posts, at_moog: Posts
) -> None:
    ingest, bench = make(trace_url=collector.url)
    for _ in range(2):
        assert ingest.post([GOOD] * 3).status_code == 202
    work(bench, at_moog, 6)
    found = spans(collector, ingest.services, bench.services)
    assert len({one.trace for one in found["ingest"]}) == len(found["ingest"]) == len(found["evaluate"]) == 2
    assert sum(len(one.links) for one in found["evaluate take"]) == 2
    assert len(found["forward"]) == 6, "one a request to Moog, and none an event before that"
    assert {one.trace for one in found["forward"]} == {one.trace for one in found["ingest"]}
    assert {posted.headers["traceparent"] for posted in at_moog.came} == {
        one.context for one in found["forward"]
    }


def test_an_alert_that_is_read_back_after_a_crash_has_its_trace(
    make: Make, collector: Posts, at_moog: Posts
) -> None:
    """Committed and not settled: whoever takes it over finds the row, which has no trace, and the entry, which has."""
    ingest, bench = make(trace_url=collector.url)
    assert ingest.post(GOOD, traceparent=GIVEN).status_code == 202
    bench.evaluate(bench.take())
    bench.held.settle(bench.evaluate(bench.take_over()))
    wait_until(lambda: moog.forward_queue() and at_moog.came, 10, "the alert at Moog")
    (forwarded,) = spans(collector, ingest.services, bench.services)["forward"]
    assert forwarded.trace == GIVEN[3:35]


def test_a_moog_that_is_away_is_told_in_each_try(make: Make, collector: Posts, at_moog: Posts) -> None:
    ingest, bench = make(trace_url=collector.url)
    at_moog.status = 503
    assert ingest.post(GOOD).status_code == 202
    work(bench, at_moog)
    at_moog.status = 200
    wait_until(lambda: moog.forward_queue() and len(at_moog.came) == 2, 10, "the second try")
    failed, taken = spans(collector, ingest.services, bench.services)["forward"]
    assert (failed.trace, failed.parent) == (taken.trace, taken.parent)
    assert failed.id != taken.id
    assert (failed.failed, taken.failed) == ("retry: http_5xx", "")


@pytest.mark.parametrize("how", ["refuses", "fails"])
def test_a_collector_that_is_away_disturbs_nothing_and_is_told_of_once(
    make: Make,
    collector: Posts,
    at_moog: Posts,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(otlp, "GOODBYE", 0.3)
    logging.getLogger("opentelemetry").handlers.clear()  # what this process told of before
    collector.status = 400
    url = collector.url if how == "fails" else "http://127.0.0.1:1"
    ingest, bench = make(trace_url=url, trace_headers=(("authorization", "Bearer s3cret"),))
    for _ in range(3):
        assert ingest.post(GOOD).status_code == 202
    work(bench, at_moog, 3)
    began = time.monotonic()
    spans(collector, ingest.services, bench.services)
    assert time.monotonic() - began < 2 * otlp.GOODBYE + 1
    told = [record for record in caplog.records if record.name == "mutt.traces"]
    assert {record.levelno for record in told} == {logging.WARNING}
    assert len(told) == 1
    assert all(record.exc_info is None for record in caplog.records)
    assert "s3cret" not in caplog.text
    bench.check()
