"""Held alerts: kept from Moog at the settle, written as cancelled, released once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from mutt import names
from mutt.alert import Alert
from mutt.entry import Move, raise_alert
from mutt.event import Event
from mutt.pipeline import evaluate as evaluation
from mutt.pipeline.record import sweep
from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import Verdict
from mutt.store import alerts as alert_rows
from mutt.streams import books
from tests.bench import Bench, benches, event

HELD = "maintenance:3"


@pytest.fixture
def bench(redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A worker whose verdicts hold the alerts of hosts named held-…"""
    real = evaluation.evaluate

    def judge(event: Event, ruleset: Ruleset) -> Verdict:
        verdict = real(event, ruleset)
        held = HELD if event.hostname.startswith("held-") and verdict.forward else ""
        return msgspec.structs.replace(verdict, held=held)

    monkeypatch.setattr(evaluation, "evaluate", judge)
    with benches(redis_url, database_url, evaluate_claim=60.0) as [bench]:
        yield bench


def status(bench: Bench) -> list[tuple[str, str]]:
    return [(row.status, row.reason) for row in bench.alerts()]


def ledger(bench: Bench) -> dict[str, int]:
    return {name: n for name, n in books.read(bench.redis).alerts.items() if n}


def release(bench: Bench, **kwargs: Any) -> list[Alert]:
    with bench.sql() as conn:
        return alert_rows.release(conn, HELD, **kwargs)


def test_an_alert_that_its_verdict_holds_is_cancelled_with_the_reason(bench: Bench) -> None:
    """A held alert stands in no lane, is in the books as cancelled, and its row says why."""
    bench.append(event(hostname="held-1"), event(hostname="core-1"))
    bench.run()
    bench.check()
    assert [alert.hostname for alert in bench.lane("critical")] == ["core-1"]
    assert ledger(bench) == {"raised": 2, "waiting": 1, "cancelled": 1}
    bench.record()
    assert sorted(status(bench)) == [("cancelled", HELD), ("waiting", "")]
    assert len(bench.redis.hgetall(names.STANDING)) == 1


def test_a_worker_that_died_before_its_settle_holds_the_same(bench: Bench) -> None:
    """What was committed and not settled is held by what its row says, once."""
    bench.append(event(hostname="held-1"))
    bench.evaluate(bench.take())
    bench.held.settle(bench.evaluate(bench.take_over()))
    bench.record()
    assert status(bench) == [("cancelled", HELD)]
    assert ledger(bench) == {"raised": 1, "cancelled": 1}


def test_neither_a_repeat_nor_the_sweep_brings_a_held_alert_back(bench: Bench) -> None:
    """A settle that asks once more, and a sweep before and after the note is written, change nothing."""
    bench.append(event(hostname="held-1"))
    bench.run()
    for _ in range(2):
        assert resweep(bench) == {}
        bench.append(event("a stranger", hostname="core-2"))
        entry = bench.take()[0]
        [alert] = alerts_of(bench)
        [move] = bench.evaluate([entry])
        again = Move(entry, move.counts, [raise_alert(alert, 1000)])
        assert bench.held.settle([again]) == [True]
        assert ledger(bench) == {"raised": 1, "cancelled": 1}
        bench.record()
    assert status(bench) == [("cancelled", HELD)]
    bench.check()


def test_what_is_released_waits_again_and_once(bench: Bench) -> None:
    """Released twice and swept meanwhile, an alert stands in its lane once, and the books count it once."""
    bench.append(event(hostname="held-1"), event(hostname="held-2"))
    bench.run()
    bench.record()
    released = release(bench, limit=1)
    assert [alert.hostname for alert in released] == ["held-1"]
    assert bench.services.lanes.release_held(released) == 1
    assert bench.services.lanes.release_held(released) == 0
    resweep(bench)
    assert [alert.hostname for alert in bench.lane("critical")] == ["held-1"]
    assert ledger(bench) == {"raised": 2, "waiting": 1, "cancelled": 1}
    bench.check()


def test_the_sweep_brings_in_what_was_released_and_not_placed(bench: Bench) -> None:
    """Whoever released and died leaves rows that wait: the sweep brings them in, and counts them as waiting."""
    bench.append(event(hostname="held-1"))
    bench.run()
    bench.record()
    released = release(bench)
    bench.redis.delete(f"mutt:alerts:done:{released[0].alert_id}")  # it is gone ten minutes after
    assert resweep(bench) == {"critical": 1}
    assert bench.services.lanes.release_held(released) == 0
    assert ledger(bench) == {"raised": 1, "waiting": 1}
    bench.check()


def test_a_late_note_does_not_cancel_what_was_released(bench: Bench) -> None:
    """The note that an alert was held may be written again after its release: it changes nothing."""
    bench.append(event(hostname="held-1"))
    bench.run()
    held = bench.services.held("delivery_queue")
    entries = held.take(10).entries
    moves = bench.services.recorder.record_outcomes(entries)
    released = release(bench)
    assert bench.services.lanes.release_held(released) == 1
    moves = bench.services.recorder.record_outcomes(entries)
    assert held.settle(moves) == [True]
    assert status(bench) == [("waiting", "")]
    assert ledger(bench) == {"raised": 1, "waiting": 1}
    bench.check()


def test_a_note_of_an_unknown_alert_and_a_damaged_one_hold_up_nobody(bench: Bench) -> None:
    """Among the notes are one of an alert without a row, which is done, and one without an id, which is parked."""
    bench.append(event(hostname="held-1"))
    bench.run()
    note = {"v": "3", "n": "1", "held": "dedup"}
    bench.redis.xadd(names.DELIVERY_STREAM, note | {"id": "01890000-0000-7000-8000-000000000000"})
    bench.redis.xadd(names.DELIVERY_STREAM, note | {"id": "nobody"})
    bench.record()
    assert status(bench) == [("cancelled", HELD)]
    assert [letter["reason"] for letter in bench.letters("moog")] == ["undecodable"]
    assert bench.redis.xlen(names.DELIVERY_STREAM) == 0


def alerts_of(bench: Bench) -> list[Alert]:
    with bench.sql() as conn:
        return list(alert_rows.by_ids(conn, [row.alert_id for row in bench.alerts()]).values())


def resweep(bench: Bench) -> dict[str, int]:
    """A sweep as it is in an hour."""
    later = datetime.now(UTC) + timedelta(hours=1)
    return sweep(bench.services.store, bench.services.lanes, later, 1000)
