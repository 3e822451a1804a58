"""One bad thing stays one bad thing: errors of MUTT's own, too little memory, time limits, entries of a newer MUTT."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mutt import codec, names
from mutt.alert import Outcome, Status
from mutt.budget.arithmetic import Budget
from mutt.entry import NEWER_WAITS, TOO_LARGE_FROM, Entry
from mutt.errors import UndecodableEntry
from mutt.event import Envelope, Event, Segment
from mutt.moogsim.server import Simulator
from mutt.pipeline import clears
from mutt.pipeline import evaluate as pipeline
from mutt.pipeline.evaluate import ALONE_FROM, LOOPS
from mutt.store import alerts as store
from mutt.store.facade import Evaluation
from mutt.streams.connect import connect
from tests.bench import Bench, benches, event
from tests.forwarding import Works, alert
from tests.integration.test_record import deliver, outcome, raised, statuses, take


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, evaluate_claim=60.0) as (made,):
        yield made


def harms(monkeypatch: pytest.MonkeyPatch, name: str, harm: Callable[[], None]) -> None:
    """MUTT's function ``name`` does harm for an event that says so."""
    module = clears if name == "from_verdict" else pipeline
    real = getattr(module, name)

    def harmful(event: Event, *args: Any, **kwargs: Any) -> Any:
        if "POISON" in event.message:
            harm()
        return real(event, *args, **kwargs)

    monkeypatch.setattr(module, name, harmful)


def raising(error: BaseException) -> Callable[[], None]:
    def harm() -> None:
        raise error

    return harm


def three(bench: Bench) -> None:
    bench.append(
        event("CRITICAL a", "core-1"), event("CRITICAL POISON", "core-2"), event("CRITICAL c", "core-3")
    )


@pytest.mark.parametrize("where", ["evaluate", "from_verdict"])
@pytest.mark.parametrize("error", [RuntimeError("a fault in MUTT"), MemoryError("too much")])
def test_an_event_that_mutt_itself_fails_on_is_parked_at_once_with_the_traceback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    with monkeypatch.context() as broken:
        harms(broken, where, raising(error))
        three(bench)
        bench.run()
    [letter] = bench.letters()
    assert (letter["reason"], letter["attempts"]) == ("evaluation failed", 1)
    assert letter["detail"].rstrip().endswith(f"{type(error).__name__}: {error}")
    assert [row.message for row in bench.rows()] == ["CRITICAL a", "CRITICAL c"]
    assert bench.events == {"accepted": 3, "settled": 2, "parked": 1}
    bench.replay()
    bench.run()
    assert bench.events == {"accepted": 3, "settled": 3}
    bench.check()


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_no_event_pays_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Evaluation.write

    def write(self: Evaluation, rows: Any, *args: Any) -> Any:
        if len(rows) > 2:
            raise MemoryError
        return real(self, rows, *args)

    monkeypatch.setattr(Evaluation, "write", write)
    bench.append(*[event(f"CRITICAL {n}", f"host-{n}") for n in range(9)])
    bench.run()
    assert bench.events == {"accepted": 9, "settled": 9}
    bench.check()


def test_an_outcome_that_mutt_itself_fails_on_is_parked_and_its_neighbours_are_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = raised(bench, 5)
    real = store._outcome_row

    def row(one: Outcome) -> dict[str, Any]:
        if one.alert.alert_id == alerts[2].alert_id:
            raise RuntimeError("a fault in MUTT")
        return real(one)

    monkeypatch.setattr(store, "_outcome_row", row)
    deliver(bench, *[outcome(one) for one in alerts])
    moves = bench.services.recorder.record_outcomes(take(bench))
    assert bench.services.held("delivery_queue").settle(moves) == [True] * 5
    assert statuses(bench) == {"delivered": 4, "waiting": 1}
    [letter] = bench.letters("moog")
    assert (letter["reason"], letter["what"]) == ("recording failed", "outcome")
    assert "a fault in MUTT" in letter["detail"]


class TimeLimit(Exception):
    """What ends a worker's work from outside."""


@pytest.mark.parametrize(("took", "parks"), [(LOOPS + 1, True), (0.0, False)])
def test_a_time_limit_parks_the_event_that_took_the_time_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, took: float, parks: bool
) -> None:
    harms(monkeypatch, "evaluate", raising(TimeLimit()))
    evaluator = bench.services.evaluator
    clock = itertools.count(step=took) if took else itertools.repeat(0)
    monkeypatch.setattr(evaluator, "_interrupts", (TimeLimit,))
    monkeypatch.setattr(evaluator, "_monotonic", lambda: next(clock))
    three(bench)
    entries = bench.take()
    if parks:
        bench.held.settle(bench.evaluate(entries))
        assert "TimeLimit" in bench.letters()[0]["detail"]
        assert bench.events == {"accepted": 3, "settled": 2, "parked": 1}
        bench.check()
    else:
        with pytest.raises(TimeLimit):
            bench.evaluate(entries)
        assert bench.letters() == []


def test_suspects_are_worked_one_by_one_after_the_others_and_those_that_killed_last(bench: Bench) -> None:
    entries = [
        Entry(names.INGEST_STREAM, f"{n}-0", attempts, {}) for n, attempts in enumerate((3, 1, 4, 2, 3))
    ]
    suspects = bench.services.evaluator._suspects
    suspects.note(entries[0], 7)
    shares = bench.services.evaluator.shares(entries)
    assert [[entry.id for entry in share] for share in shares] == [["1-0", "3-0"], ["4-0"], ["2-0"], ["0-0"]]
    assert bench.services.evaluator.shares([]) == []


def test_too_little_memory_to_decode_is_the_entrys_fault_only_when_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(*_args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(codec, "decode", short)
    with pytest.raises(MemoryError):
        Entry("s", "1-0", TOO_LARGE_FROM - 1, {}).decode(Envelope)
    with pytest.raises(UndecodableEntry, match="memory"):
        Entry("s", "1-0", TOO_LARGE_FROM, {}).decode(Envelope)


def test_an_entry_that_mutt_itself_fails_to_open_is_parked_as_it_is_once_it_is_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Entry, "decode", lambda *_args: raising(RuntimeError("a fault in MUTT"))())
        three(bench)
        entries = bench.take()
        while entries[0].attempts < ALONE_FROM:
            with pytest.raises(RuntimeError):
                bench.evaluate(entries)
            entries = bench.take_over()
        bench.held.settle(bench.evaluate(entries))
    [letter] = bench.letters()
    assert (letter["reason"], letter["n"]) == ("evaluation failed", 3)
    assert "a fault in MUTT" in letter["detail"]
    assert bench.redis.hlen(names.SUSPECTS) == 0
    bench.replay()
    bench.run()
    assert bench.events == {"accepted": 3, "settled": 3}
    bench.check()


# ---- entries of a newer MUTT: while workers are renewed one by one, and after one went back


def later() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=NEWER_WAITS + 60)


def renew(monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker is of the newer MUTT from now on."""
    monkeypatch.setattr(codec, "PACKED", b"3")


def newer(bench: Bench, *events: Event) -> None:
    fields, size = codec.encode(Envelope([Segment("b", "c", list(events))]), n=len(events))
    assert fields[1] == codec.PACKED
    bench.append_fields(["v", "3", *fields[2:]], len(events), size)


def long(n: int) -> Event:
    return event(f"CRITICAL {n} " + "x" * 600, f"host-{n}")


def test_an_old_worker_leaves_entries_of_a_newer_mutt_to_a_new_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer(bench, long(1), long(2))
    bench.append(event("CRITICAL ours", "core-1"))
    entries = bench.take()
    moves = bench.evaluate(entries)
    bench.held.settle(moves)
    [left] = [entry for entry in entries if entry.id not in {move.entry.id for move in moves}]
    assert [row.message for row in bench.rows()] == ["CRITICAL ours"]
    assert bench.letters() == []
    for _ in range(ALONE_FROM):
        bench.held.release([left], 0.0)
        [left] = bench.take_over()
        assert bench.evaluate([left]) == []
    bench.held.release([left], 0.0)
    renew(monkeypatch)
    [left] = bench.take_over()
    assert left.attempts == 1, "a new worker works it like any other"
    bench.held.settle(bench.evaluate([left]))
    assert bench.events == {"accepted": 3, "settled": 3}
    bench.check()


def test_where_no_new_worker_comes_entries_of_a_newer_mutt_are_parked_and_replayed_after_the_upgrade(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer(bench, long(1), long(2))
    monkeypatch.setattr(bench.services.evaluator, "_now", later)
    bench.run()
    [letter] = bench.letters()
    assert (letter["reason"], letter["n"]) == ("undecodable", 2)
    assert "a newer MUTT wrote it" in letter["detail"]
    assert bench.events == {"accepted": 2, "parked": 2}
    renew(monkeypatch)
    assert len(bench.replay()) == 1
    bench.run()
    assert bench.events == {"accepted": 2, "settled": 2}
    bench.check()


def test_an_old_worker_leaves_outcomes_of_a_newer_mutt_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = raised(bench, 2)
    deliver(bench, outcome(one))
    bench.redis.xadd(names.DELIVERY_STREAM, {"v": "9", "n": 1, "id": str(two.alert_id), "d": b"?"})
    entries, recorder = take(bench), bench.services.recorder
    moves = recorder.record_outcomes(entries)
    assert [move.entry.id for move in moves] == [entries[0].id]
    bench.services.held("delivery_queue").settle(moves)
    assert statuses(bench) == {"delivered": 1, "waiting": 1}
    monkeypatch.setattr(recorder, "_now", later)
    bench.services.held("delivery_queue").settle(recorder.record_outcomes(entries[1:]))
    assert "newer MUTT" in bench.letters("moog")[0]["detail"]


def test_an_old_forwarder_leaves_alerts_of_a_newer_mutt_and_spends_no_budget_on_them(redis_url: str) -> None:
    with connect(redis_url) as client, Simulator() as moog:
        works = Works(client, Budget(limit=100, period=1.0), patience=2.0)
        works.lift_fence()
        works.raise_alerts(alert(1, lane="critical"), alert(2))
        lane = "mutt:alert_queue:critical"
        [(entry_id, fields)] = client.xrange(lane)
        client.xdel(lane, entry_id)
        client.xadd(lane, fields | {b"v": b"9"})
        forwarder = works.forwarder(moog.enterprise_url)
        turn = forwarder.forward_turn()
        assert (len(turn.returned), len(turn.delivered)) == (1, 1), "the others go on"
        assert client.zcard(names.BUDGET) == 1
        assert forwarder.forward_turn().reason == "empty", "it rests"
        works.assert_books(raised=2, delivered=1, waiting=1, parked=0)

        [(again, _)] = client.xrange(lane)
        client.xclaim(lane, names.GROUP, "a", 0, [again], idle=60_000, justid=True)
        forwarder._now = later
        assert len(forwarder.forward_turn().parked) == 1
        works.assert_books(raised=2, delivered=1, waiting=0, parked=1)
        assert [one.status for one in works.outcomes()] == [Status.DELIVERED]
