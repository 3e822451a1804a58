"""Attempts: each request to Moog leaves one row with its alert, whatever failed, whatever is repeated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mutt.alert import Outcome, Status
from mutt.budget.arithmetic import Budget
from mutt.moogsim.script import MARKER
from mutt.moogsim.server import Simulator
from mutt.pipeline.forward import STRIKES
from mutt.store import alerts as alert_rows
from mutt.store import attempts
from mutt.streams.connect import connect
from tests.bench import Bench, benches
from tests.forwarding import Works, alert, turns_until

NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


@pytest.fixture
def works(redis_url: str) -> Iterator[Works]:
    with connect(redis_url) as client:
        budget = Budget(limit=100, period=0.1, threshold=1000, timeout=0.3, deadline=5.0)
        made = Works(client, budget, claim=0.1, patience=2.0)
        made.lift_fence()
        yield made


@pytest.fixture
def moog() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def kept(bench: Bench, one: object) -> list[tuple[int, str, str, int | None]]:
    with bench.sql() as conn:
        found = attempts.of(conn, [one.alert_id]).get(one.alert_id, [])  # type: ignore[attr-defined]
    return [(row.attempt, row.kind, row.reason, row.moog_status) for row in found]


def test_each_request_is_kept_those_that_failed_too(bench: Bench, works: Works, moog: Simulator) -> None:
    told = alert()
    works.raise_alerts(told)
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
    moog.behave("503")
    turns_until(forwarder, lambda: len(moog.starts) == 3)
    bench.record()
    assert kept(bench, told) == [(n, "retry", "http_5xx", 503) for n in (1, 2, 3)]
    (row,) = bench.alerts()
    assert (row.status, row.attempts, row.reason) == ("waiting", 3, "http_5xx")
    moog.behave("ok")
    turns_until(forwarder, lambda: works.outcomes())
    bench.record()
    assert kept(bench, told)[3:] == [(4, "delivered", "ok", 200)]
    assert bench.alerts()[0].status == "delivered"
    works.assert_books(raised=1, delivered=1, waiting=0)


def test_one_that_is_parked_has_as_many_attempts_as_there_were_requests(
    bench: Bench, works: Works, moog: Simulator
) -> None:
    bad = alert(0, text=MARKER, lane="info")
    works.raise_alerts(bad)
    moog.behave("fail_marked")
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
    turns = itertools.count(1)

    def done() -> bool:
        # Moog takes another in between: else a failure counts against nobody.
        if (turn := next(turns)) % 2:
            works.raise_alerts(alert(turn))
        return bool(works.letters())

    turns_until(forwarder, done)
    bench.record()
    requests = [r for r in moog.received if r.came.description == bad.description]
    found = kept(bench, bad)
    assert len(found) == len({r.request for r in requests}) > STRIKES
    assert [number for number, *_ in found] == list(range(1, len(found) + 1))


def test_an_open_breaker_asks_nobody_and_notes_nothing(bench: Bench, works: Works, moog: Simulator) -> None:
    """An outage leaves as many notes as there were requests: while the breaker is open there are none."""
    works.raise_alerts(*(alert(n) for n in range(20)))
    moog.behave("401")
    forwarder = works.forwarder(moog.enterprise_url, sleep=lambda _: None)
    for _ in range(10):
        forwarder.forward_turn()
    assert len(works.told()) == len(moog.starts)


def outcome(
    one: object, attempt: int, at: datetime, status: Status = Status.WAITING, **more: object
) -> Outcome:
    return Outcome(alert=one, status=status, attempts=attempt, at=at, **({"kind": "retry"} | more))  # type: ignore[arg-type]


def test_an_attempt_that_is_told_twice_is_one_and_a_replay_counts_on(bench: Bench) -> None:
    one = alert()
    first, second = (
        outcome(one, 1, NOW, moog_answer="x" * 900 + "\0"),
        outcome(one, 2, NOW + timedelta(seconds=1)),
    )
    again = outcome(one, 1, NOW + timedelta(hours=1), Status.DELIVERED, kind="delivered")
    for told in ([first], [first, second], [second, again], [again]):
        with bench.sql() as conn:
            alert_rows.record(conn, told)
    assert [(number, kind) for number, kind, *_ in kept(bench, one)] == [
        (1, "retry"), (2, "retry"), (3, "delivered"),
    ]  # fmt: skip


def test_what_is_no_request_is_no_attempt(bench: Bench) -> None:
    one = alert()
    with bench.sql() as conn:
        alert_rows.record(conn, [outcome(one, 5, NOW, Status.DROPPED, kind="")])
    assert kept(bench, one) == []


def test_old_attempts_are_forgotten(bench: Bench) -> None:
    one = alert()
    with bench.sql() as conn:
        alert_rows.record(conn, [outcome(one, 1, NOW), outcome(one, 2, NOW + timedelta(days=1))])
        assert attempts.prune(conn, NOW + timedelta(hours=1)) == 1
    assert [number for number, *_ in kept(bench, one)] == [2]
