"""Record on real servers: what became of alerts is written once, whatever is refused, repeated or away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mutt import codec, names
from mutt.alert import Alert, Outcome, Status
from mutt.entry import Entry
from mutt.errors import StoreDown
from mutt.event import State
from mutt.store import alerts
from mutt.store.migrate import upgrade
from mutt.streams import books
from tests.bench import Bench, benches, event
from tests.servers import Live
from tests.waiting import wait_until

NOW = datetime.now(UTC)


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    """Two workers."""
    with benches(redis_url, database_url, 2) as made:
        yield made


@pytest.fixture
def bench(pair: list[Bench]) -> Bench:
    return pair[0]


def raised(bench: Bench, n: int = 1) -> list[Alert]:
    """So many alerts, each of a host of its own; rows and lanes know them."""
    bench.append(*[event("CRITICAL x", f"host-{i}") for i in range(n)])
    bench.run()
    return bench.lane("critical")


def outcome(alert: Alert, status: Status = Status.DELIVERED, attempts: int = 1, **more: Any) -> Outcome:
    return Outcome(alert=alert, status=status, attempts=attempts, at=NOW, **({"moog_status": 200} | more))


def deliver(bench: Bench, *outcomes: Outcome) -> None:
    """An entry an outcome, as forward's settle leaves them."""
    for one in outcomes:
        fields, _ = codec.encode(one, about=str(one.alert.alert_id))
        pairs = dict(zip(fields[::2], fields[1::2], strict=True))
        bench.redis.xadd(names.DELIVERY_STREAM, pairs)
        bench.redis.hset(names.STANDING, str(one.alert.alert_id), "delivery")


def take(bench: Bench) -> list[Entry]:
    return bench.services.held("delivery_queue").take(500).entries


def record(bench: Bench) -> None:
    held = bench.services.held("delivery_queue")
    while entries := held.take(500).entries:
        held.settle(bench.services.recorder.record_outcomes(entries))


def statuses(bench: Bench) -> dict[str, int]:
    found: dict[str, int] = {}
    for alert in bench.alerts():
        found[alert.status] = found.get(alert.status, 0) + 1
    return found


def test_an_outcome_becomes_its_alerts_status_and_it_stands_no_longer(bench: Bench) -> None:
    (alert,) = raised(bench)
    deliver(bench, outcome(alert, attempts=3, moog_answer="ok"))
    record(bench)
    (row,) = bench.alerts()
    assert (row.status, row.attempts, row.delivered_at, row.moog_status, row.moog_answer) == (
        "delivered", 3, NOW, 200, "ok",
    )  # fmt: skip
    assert not bench.redis.hexists(names.STANDING, str(alert.alert_id))
    assert bench.redis.xlen(names.DELIVERY_STREAM) == 0


def test_what_was_committed_and_not_settled_is_written_once_more_and_changes_nothing(
    pair: list[Bench],
) -> None:
    dead, alive = pair
    (alert,) = raised(dead)
    deliver(dead, outcome(alert))
    dead.services.recorder.record_outcomes(take(dead))
    first = dead.alerts()
    entries = wait_until(lambda: take(alive), 5)
    assert alive.services.held("delivery_queue").settle(alive.services.recorder.record_outcomes(entries)) == [
        True
    ]
    assert [row.status for row in alive.alerts()] == [row.status for row in first] == ["delivered"]


@pytest.mark.parametrize("status", [Status.WAITING, Status.PARKED, Status.CANCELLED, Status.DROPPED])
def test_delivered_is_final_whatever_comes_after_it(bench: Bench, status: Status) -> None:
    (alert,) = raised(bench)
    for one in (outcome(alert), outcome(alert, status, attempts=9)):
        deliver(bench, one)
        record(bench)
    assert statuses(bench) == {"delivered": 1}


def test_several_outcomes_of_one_alert_in_one_take_are_one_and_delivered_wins(bench: Bench) -> None:
    (alert,) = raised(bench)
    deliver(bench, outcome(alert), outcome(alert, Status.PARKED, 5), outcome(alert, Status.WAITING, 9))
    record(bench)
    assert statuses(bench) == {"delivered": 1}


def test_an_outcome_whose_row_is_missing_brings_the_row(bench: Bench) -> None:
    (alert,) = raised(bench)
    with bench.sql() as conn:
        conn.exec_driver_sql("DELETE FROM alerts")
    deliver(bench, outcome(alert))
    record(bench)
    (row,) = bench.alerts()
    assert (row.status, row.signature) == ("delivered", alert.signature)


def test_one_outcome_that_postgresql_refuses_is_parked_and_its_neighbours_are_recorded(bench: Bench) -> None:
    found = raised(bench, 5)
    deliver(bench, *[outcome(alert, moog_status=10**12 if n == 2 else 200) for n, alert in enumerate(found)])
    record(bench)
    assert statuses(bench) == {"delivered": 4, "waiting": 1}
    (letter,) = bench.letters("moog")
    assert (letter["reason"], letter["what"]) == ("refused by PostgreSQL", "outcome")
    assert books.read(bench.redis).off_alerts == 0
    assert books.walk(bench.redis).alerts_parked == 0, "the note is parked, not the alert"


def test_whatever_moog_answered_can_be_recorded(bench: Bench) -> None:
    (alert,) = raised(bench)
    deliver(bench, outcome(alert, moog_answer="nul \0 and\ttab\n\\N"))
    record(bench)
    assert statuses(bench) == {"delivered": 1}


def test_an_outcome_that_cannot_be_decoded_is_parked_and_its_neighbours_are_recorded(bench: Bench) -> None:
    (alert,) = raised(bench)
    bench.redis.xadd(names.DELIVERY_STREAM, {"v": "0", "n": 1, "id": "x", "d": b"?"})
    bench.redis.xadd(names.DELIVERY_STREAM, {"hello": "world"})
    deliver(bench, outcome(alert))
    record(bench)
    assert statuses(bench) == {"delivered": 1}
    assert [letter["reason"] for letter in bench.letters("moog")] == ["undecodable"] * 2


def test_a_refused_outcome_while_ordinary_rows_are_refused_too_is_an_outage(bench: Bench) -> None:
    (alert,) = raised(bench)
    deliver(bench, outcome(alert, moog_status=10**12))
    with bench.sql() as conn:
        conn.exec_driver_sql(
            "ALTER TABLE event_audit_log ADD CONSTRAINT none_at_all CHECK (hostname <> 'mutt')"
        )
    with pytest.raises(StoreDown):
        bench.services.recorder.record_outcomes(take(bench))
    assert bench.letters("moog") == []


def test_while_postgresql_is_away_outcomes_wait_and_are_recorded_later(
    redis_url: str, own_postgres: Live
) -> None:
    upgrade(own_postgres.url)
    with benches(redis_url, own_postgres.url) as (bench,):
        (alert,) = raised(bench)
        deliver(bench, outcome(alert))
        held, entries = bench.services.held("delivery_queue"), take(bench)
        own_postgres.kill()
        with pytest.raises(StoreDown):
            bench.services.recorder.record_outcomes(entries)
        held.release(entries, 0.0)
        assert bench.redis.xlen(names.DELIVERY_STREAM) == 1
        own_postgres.start()
        wait_until(lambda: record(bench) or statuses(bench) == {"delivered": 1}, 5)
        assert bench.letters("moog") == []


def test_a_late_settle_does_not_place_an_alert_again_that_was_recorded(pair: list[Bench]) -> None:
    """Its entry is settled after all of it: committed, swept in by another, sent and recorded."""
    slow, quick = pair
    slow.append(event())
    late = slow.evaluate(slow.take())
    (row,) = slow.alerts()
    told = {name: getattr(row, name) for name in alerts.FIELDS}
    alert = Alert(**told | {"state": State(row.state)})
    deliver(quick, outcome(alert))
    record(quick)
    assert slow.held.settle(late) == [True]
    assert slow.lane("critical") == []


def test_workers_that_record_the_same_alerts_at_once_do_not_lock_each_other_out(pair: list[Bench]) -> None:
    found = raised(pair[0], 60)
    deliver(pair[0], *[outcome(alert) for alert in (*found, *reversed(found))])
    shares = [bench.services.held("delivery_queue").take(60).entries for bench in pair]
    failures: list[BaseException] = []

    def work(bench: Bench, entries: list[Entry]) -> None:
        try:
            bench.services.recorder.record_outcomes(entries)
        except BaseException as error:  # noqa: BLE001 a thread's edge: the test looks at it
            failures.append(error)

    threads = [threading.Thread(target=work, args=both) for both in zip(pair, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert statuses(pair[0]) == {"delivered": 60}
