"""What an operator does with dead letters, on real servers: each move is in the books and in the history."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import redis
from sqlalchemy import Row, select, text

from mutt import celery, names
from mutt.alert import Alert, Outcome, Status
from mutt.balance import observe
from mutt.entry import Entry, Move, deliver, flat, leave_lane, park, short_hash
from mutt.errors import MuttError, NoRuleset, Refused, StoreDown
from mutt.event import Event
from mutt.formats.base import Rejected
from mutt.letters import pace
from mutt.letters.apart import Bounds
from mutt.letters.desk import DROP, REPLAY, Desk, NotEditable, Order, event_of
from mutt.letters.orders import Orders
from mutt.letters.trial import told
from mutt.services import Services
from mutt.settings import Settings
from mutt.store.tables import config_audit_log
from mutt.streams import books
from mutt.streams.letters import NoLetter, NotReplayable
from mutt.tasks import base
from mutt.tasks.letters import letters as letters_task
from tests.bench import Bench, benches, clear, event

WHO = "ann"


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, moog_rate_limit=20) as (made,):
        yield made


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench.services)


class Clock:
    """Time that passes while somebody sleeps, and no other."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def poisoned(bench: Bench, count: int = 1, **fields: Any) -> list[str]:
    """So many events that PostgreSQL refuses, parked; their letters' ids."""
    sent = [event(f"CRITICAL {n}", **{"severity": 99_999, **fields}) for n in range(count)]
    bench.append(*sent, batch="b-1")
    bench.run()
    return standing(bench, "alerts")


def standing(bench: Bench, queue: str) -> list[str]:
    return [letter.id for letter in bench.services.letters.listed(queue)]


def refused(bench: Bench, count: int = 1, reason: str = "refused") -> list[Alert]:
    """So many alerts that Moog refused: parked, in their letters and in their rows."""
    bench.append(*[event(f"ERROR disk {n}", f"host-{n}", severity=3) for n in range(count)])
    bench.run()
    lane = "mutt:alert_queue:minor"
    alerts = bench.lane("minor")
    bench.redis.xgroup_create(lane, names.GROUP, "0")
    bench.redis.xreadgroup(names.GROUP, "test", {lane: ">"})
    moves = []
    for (id_, fields), alert in zip(books.entries(bench.redis, lane), alerts, strict=True):
        entry = Entry(lane, id_, 1, fields)
        outcome = Outcome(alert=alert, status=Status.PARKED, attempts=1, at=datetime.now(UTC), reason=reason)
        why = {"reason": reason, "detail": "too many words", "moog_status": 400, "requests": 3}
        letter = park(names.DLQ_MOOG, entry, flat(entry.fields), why)
        counts = {"alerts.waiting": -1, "alerts.parked": 1}
        moves.append(Move(entry, counts, [leave_lane(alert), deliver(outcome), letter]))
    bench.services.alert_stream.settle(moves)
    bench.record()
    return alerts


def killed_once_moved(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis does the desk's next move, and nobody hears of it: killed, or the reply is lost."""
    move = desk.letters._stream.move_letters

    def moved(moves: Any) -> None:
        move(moves)
        raise redis.TimeoutError

    monkeypatch.setattr(desk.letters._stream, "move_letters", moved)


def row_statuses(bench: Bench) -> dict[str, str]:
    return {str(row.alert_id): row.status for row in bench.alerts()}


def reject(bench: Bench, *items: tuple[str, str, str]) -> list[str]:
    """Items that ingest rejected: (field, reason, text)."""
    rejected = [Rejected(n, *item) for n, item in enumerate(items)]
    bench.services.letters.keep_rejected("sender-7", rejected, most_bytes=1 << 20)
    return standing(bench, "ingest")


def carry_out(desk: Desk, queue: str, what: str, **how: Any) -> Order:
    order = desk.order(queue, what, who=WHO, **how)
    for _ in desk.run(order, within=10.0):
        pass
    return order


def notes(bench: Bench) -> list[Row[Any]]:
    with bench.sql() as conn:
        query = select(config_audit_log).where(config_audit_log.c.changed_by == WHO).order_by("id")
        return list(conn.execute(query))


def alert_books(bench: Bench) -> dict[str, int]:
    return {name: n for name, n in books.read(bench.redis).alerts.items() if n}


# ---- looking


def test_letters_are_counted_by_reason_without_being_carried_around(bench: Bench, desk: Desk) -> None:
    poisoned(bench, 105)
    bench.append_fields(["v", "0", "n", 7, "id", "", "d", b"later"], 7, 5)
    bench.run()
    assert desk.letters.counts("alerts") == {"refused by PostgreSQL": 105, "undecodable": 1}
    assert desk.letters.counts("moog") == {}


def test_what_ingest_says_is_grouped_without_its_numbers(bench: Bench, desk: Desk) -> None:
    reject(bench, *[("hostname", f"is {n} characters long; at most 255 are taken", "{}") for n in (300, 301)])
    assert desk.letters.counts("ingest") == {"hostname: is N characters long; at most N are taken": 2}
    (group,) = desk.letters.counts("ingest")
    assert len(desk.letters.page("ingest", group).letters) == 2


def test_a_list_goes_page_by_page_through_one_reason_alone(bench: Bench, desk: Desk) -> None:
    ids = poisoned(bench, 104)
    bench.redis.xadd(names.DLQ_ALERTS, {"v": "9", "n": 1, "id": "x", "d": b"?", "why": b"not json"})
    first = desk.letters.page("alerts", "refused by PostgreSQL", want=60)
    second = desk.letters.page("alerts", "refused by PostgreSQL", after=first.after, want=60)
    assert [letter.id for letter in (*first.letters, *second.letters)] == ids
    assert (len(first.letters), second.after) == (60, "")
    (odd,) = desk.letters.page("alerts", "unknown").letters
    assert odd.about == "x"
    assert desk.letters.page("alerts", "refused by PostgreSQL", want=104).after == ""


def test_an_alerts_letter_tells_moogs_last_answer_its_requests_and_its_times(
    bench: Bench, desk: Desk
) -> None:
    (alert,) = refused(bench)
    (id_,) = standing(bench, "moog")
    letter = desk.show("moog", id_)
    assert (letter.moog_status, letter.detail, letter.attempts) == (400, "too many words", 3)
    assert letter.payload["hostname"] == alert.hostname
    assert datetime.fromisoformat(letter.first) <= datetime.fromisoformat(letter.at)


def test_what_is_no_letter_is_said_to_be_none(desk: Desk) -> None:
    for id_ in ("1-1", "x", "", "-", "99999999999999999999-1", "18446744073709551616-0"):
        with pytest.raises(NoLetter):
            desk.show("alerts", id_)


# ---- replay and drop


def test_a_replay_of_one_reason_leaves_the_others_and_is_noted_once(bench: Bench, desk: Desk) -> None:
    poisoned(bench, 3)
    bench.append_fields(["v", "0", "n", 7, "id", "", "d", b"later"], 7, 5)
    bench.run()
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE event_audit_log ALTER severity TYPE integer")
    order = carry_out(desk, "alerts", REPLAY, group="refused by PostgreSQL", reason="column widened")
    assert (order.total, order.letters, order.events, order.done) == (3, 3, 3, True)
    assert bench.events == {"accepted": 10, "queued": 3, "parked": 7}
    bench.run()
    bench.check()
    (note,) = notes(bench)
    assert (note.operation, note.table_name, note.reason) == ("REPLAY", "mutt:dlq:alerts", "column widened")
    assert (note.record_id, note.after) == ("refused by PostgreSQL", {"letters": 3, "events or alerts": 3})


def test_what_comes_back_is_not_sent_round_and_round(bench: Bench, desk: Desk) -> None:
    poisoned(bench, 2)
    order = desk.order("alerts", REPLAY, who=WHO, rate=50)
    for step, _ in enumerate(desk.run(order)):
        bench.run()  # it is parked again, under a new id, while the order still runs
        assert step < 20
    assert (order.letters, order.done) == (2, True)
    assert bench.events == {"accepted": 2, "parked": 2}


def test_a_replay_of_many_alerts_never_stands_before_fresh_ones(bench: Bench, desk: Desk) -> None:
    """Nobody forwards: what the lanes take is a quarter of a period's budget, and the rest waits with a reason."""
    refused(bench, 30)
    order, clock = desk.order("moog", REPLAY, who=WHO), Clock()
    run = desk.run(order, within=1.2, monotonic=clock.monotonic, sleep=clock.sleep)
    seen = [step.letters for step in run]
    assert (order.letters, order.done) == (pace.share(20), False)
    assert "stand in the lanes" in order.waits
    assert len(seen) >= 3
    assert alert_books(bench) == {"raised": 30, "waiting": 5, "parked": 25}
    bench.check()


def test_a_replay_waits_while_the_budget_is_in_use_or_the_breaker_open(bench: Bench, desk: Desk) -> None:
    refused(bench, 2)
    now_us = time.time() * 1e6
    bench.redis.zadd(names.BUDGET, {f"grant-{n}": now_us + 3e6 for n in range(20)})
    order = desk.order("moog", REPLAY, who=WHO)
    next(desk.run(order))
    assert (order.letters, order.waits) == (0, "the budget is in use")
    bench.redis.delete(names.BUDGET)
    bench.redis.hset(names.BREAKER, "state", "open")
    next(desk.run(order))
    assert (order.letters, order.waits) == (0, "Moog's breaker is open")
    assert notes(bench) == []


def test_events_go_while_the_ingest_queue_is_nearly_empty(bench: Bench, desk: Desk) -> None:
    poisoned(bench, 2)
    bench.append(*[event("quiet") for _ in range(pace.EVENTS_STANDING)])
    order = desk.order("alerts", REPLAY, who=WHO)
    next(desk.run(order))
    assert order.letters == 0
    assert "ingest queue" in order.waits
    bench.run()
    next(desk.run(order))
    assert order.letters == 2


def test_now_does_not_wait(bench: Bench, desk: Desk) -> None:
    refused(bench, 30)
    bench.redis.hset(names.BREAKER, "state", "open")
    assert carry_out(desk, "moog", REPLAY, now=True).letters == 30
    assert alert_books(bench) == {"raised": 30, "waiting": 30}
    assert {row.status for row in bench.alerts()} == {"waiting"}
    bench.check()


def test_a_rate_bounds_a_replay(bench: Bench, desk: Desk) -> None:
    poisoned(bench, 12)
    order, clock = desk.order("alerts", REPLAY, who=WHO, rate=4), Clock()
    run = desk.run(order, monotonic=clock.monotonic, sleep=clock.sleep)
    at = [(step.letters, clock.now) for step in run]
    assert order.letters == 12
    assert all(moved <= 4 * elapsed + 1 for moved, elapsed in at)
    assert clock.now <= 12 / 4 + 1


def test_where_it_is_stopped_what_was_moved_is_moved_and_the_rest_stands(bench: Bench, desk: Desk) -> None:
    refused(bench, 150)
    order = desk.order("moog", DROP, who=WHO, reason="test devices")
    next(desk.run(order))
    assert (order.letters, order.done) == (100, False)
    assert alert_books(bench) == {"raised": 150, "dropped": 100, "parked": 50}
    bench.record()
    assert sorted(row.status for row in bench.alerts()) == ["dropped"] * 100 + ["parked"] * 50
    (note,) = notes(bench)
    assert note.after == {"letters": 100, "events or alerts": 100}
    for _ in desk.run(order):
        pass
    (note,) = notes(bench)
    assert (note.operation, note.reason) == ("DROP", "test devices")
    assert note.after == {"letters": 150, "events or alerts": 150}
    bench.check()


def test_letters_that_are_named_go_and_the_others_are_told(bench: Bench, desk: Desk) -> None:
    first, second = poisoned(bench, 2)
    order = carry_out(desk, "alerts", DROP, ids=[first, "1-1", "nonsense"], reason="r")
    assert (order.letters, order.missing) == (1, ["1-1", "nonsense"])
    assert standing(bench, "alerts") == [second]
    assert bench.events == {"accepted": 2, "parked": 1, "dropped": 1}


def test_a_drop_wants_a_reason_and_a_rejected_item_is_not_replayed(bench: Bench, desk: Desk) -> None:
    poisoned(bench)
    with pytest.raises(Refused):
        desk.order("alerts", DROP, who=WHO, reason="  ")
    with pytest.raises(NotReplayable):
        desk.order("ingest", REPLAY, who=WHO)


def test_without_postgresql_nothing_is_moved(bench: Bench) -> None:
    poisoned(bench)
    nowhere = Settings.from_env(
        {}, redis_url=bench.settings.redis_url, database_url="postgresql://mutt@127.0.0.1:9/x"
    )
    away = Desk(Services(nowhere, lambda *_a, **_k: None))
    order = away.order("alerts", REPLAY, who=WHO)
    with pytest.raises(StoreDown):
        next(away.run(order))
    assert bench.events == {"accepted": 1, "parked": 1}


def test_a_drop_that_nobody_heard_of_is_noted_and_its_rows_follow(
    bench: Bench, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = refused(bench, 3)
    order = desk.order("moog", DROP, who=WHO, reason="r")
    killed_once_moved(desk, monkeypatch)
    with pytest.raises(redis.TimeoutError):
        next(desk.run(order))
    bench.record()
    assert alert_books(bench) == {"raised": 3, "dropped": 3}
    assert row_statuses(bench) == {str(alert.alert_id): "dropped" for alert in alerts}
    assert {(row.reason, row.moog_status, row.attempts) for row in bench.alerts()} == {("r (ann)", 400, 3)}
    (note,) = notes(bench)
    assert (note.operation, note.after["letters"]) == ("DROP", 3)
    bench.check()


def test_a_replay_that_nobody_heard_of_is_noted(
    bench: Bench, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(bench, 3)
    order = desk.order("alerts", REPLAY, who=WHO)
    killed_once_moved(desk, monkeypatch)
    with pytest.raises(redis.TimeoutError):
        next(desk.run(order))
    assert bench.events == {"accepted": 3, "queued": 3}
    (note,) = notes(bench)
    assert (note.operation, note.after["letters"]) == ("REPLAY", 3)


def test_a_late_word_that_an_alert_was_parked_does_not_bring_a_dropped_one_back(
    bench: Bench, desk: Desk
) -> None:
    """Its holder died with it; the drop came before the take-over. And both in one batch."""
    (alert,) = refused(bench)
    late = Outcome(alert=alert, status=Status.PARKED, attempts=9, at=datetime.now(UTC), reason="refused")
    carry_out(desk, "moog", DROP, reason="r")
    fields = deliver(late)["fields"]
    bench.redis.xadd(names.DELIVERY_STREAM, dict(zip(fields[::2], fields[1::2], strict=True)))
    bench.record()
    assert row_statuses(bench) == {str(alert.alert_id): "dropped"}
    bench.redis.xadd(names.DELIVERY_STREAM, dict(zip(fields[::2], fields[1::2], strict=True)))
    bench.record()
    assert row_statuses(bench) == {str(alert.alert_id): "dropped"}


def damaged_behind(bench: Bench) -> Alert:
    """An alert that was damaged while it stood behind another of its signature, which is at Moog now: its letter."""
    for _ in range(2):
        bench.append(event("ERROR disk", "h-1", severity=3))
        bench.run()
    lane = "mutt:alert_queue:minor"
    (first,) = bench.lane("minor")
    (behind,) = bench.behind(first)
    key = names.BEHIND + short_hash(first.signature)
    bench.redis.rpush(key, bench.redis.lpop(key)[:-9])  # type: ignore[arg-type, index]
    lifted = short_hash(first.signature), f"critical {behind.alert_id}"  # it had its signature move up
    bench.redis.hset(names.LIFTED, *lifted)
    bench.redis.xgroup_create(lane, names.GROUP, "0")
    bench.redis.xreadgroup(names.GROUP, "test", {lane: ">"})
    ((id_, fields),) = books.entries(bench.redis, lane)
    outcome = Outcome(alert=first, status=Status.DELIVERED, attempts=1, at=datetime.now(UTC))
    counts = {"alerts.waiting": -1, "alerts.delivered": 1}
    move = Move(Entry(lane, id_, 1, fields), counts, [leave_lane(first), deliver(outcome)])
    bench.services.alert_stream.settle([move])
    bench.record()
    assert bench.services.lanes.room("minor") == bench.settings.alert_queue_max
    assert not bench.redis.hexists(names.LIFTED, lifted[0]), "nobody is left who needs it"
    return behind


def test_an_alert_that_was_damaged_behind_another_is_dropped_in_its_row_too(bench: Bench, desk: Desk) -> None:
    alert = damaged_behind(bench)
    assert carry_out(desk, "moog", DROP, reason="r").letters == 1
    bench.record()
    assert alert_books(bench) == {"raised": 2, "delivered": 1, "dropped": 1}
    assert row_statuses(bench)[str(alert.alert_id)] == "dropped"
    assert not bench.redis.hexists(names.STANDING, str(alert.alert_id))
    bench.check()


def test_an_alert_that_was_damaged_behind_another_is_sent_again_from_its_row(
    bench: Bench, desk: Desk
) -> None:
    alert = damaged_behind(bench)
    order = carry_out(desk, "moog", REPLAY, ids=standing(bench, "moog"), now=True)
    assert (order.letters, order.missing) == (1, [])
    assert bench.lane("minor") == [alert]
    assert alert_books(bench) == {"raised": 2, "delivered": 1, "waiting": 1}
    assert row_statuses(bench)[str(alert.alert_id)] == "waiting"
    bench.check()


def test_an_alert_that_cannot_be_read_and_has_no_row_stays(bench: Bench, desk: Desk) -> None:
    damaged_behind(bench)
    with bench.sql() as conn:
        conn.exec_driver_sql("DELETE FROM alerts")
    (id_,) = standing(bench, "moog")
    order = carry_out(desk, "moog", REPLAY, ids=[id_], now=True)
    assert (order.letters, order.missing, notes(bench)) == (0, [id_], [])


def test_a_rejected_item_that_is_dropped_leaves_its_id_the_reason_and_the_name(
    bench: Bench, desk: Desk
) -> None:
    (id_,) = reject(bench, ("hostname", "is missing", "{}"))
    carry_out(desk, "ingest", DROP, reason="a test device")
    record = orjson.loads(bench.redis.hget(names.DROPS, f"ingest:{id_}"))
    assert (record["reason"], record["who"], record["n"]) == ("a test device", WHO, 1)
    (id_,) = reject(bench, ("hostname", "is missing", '{"message":"m"}'))
    copy = desk.edit_rejected(id_, '{"hostname":"h","message":"m"}', who=WHO)
    record = orjson.loads(bench.redis.hget(names.DROPS, f"ingest:{id_}"))
    assert record["reason"] == f"replaced by {copy.ids[0]}"
    bench.run()
    assert observe(bench.services, deep=True)[0].state == "balanced"


def unrecorded(bench: Bench) -> tuple[Alert, str]:
    """An alert that Moog has, while PostgreSQL can't take the note of it; and the letter of that note."""
    bench.append(event("ERROR fan", "h-9", severity=3))
    bench.run()
    lane = "mutt:alert_queue:minor"
    (alert,) = bench.lane("minor")
    ((id_, fields),) = books.entries(bench.redis, lane)
    with contextlib.suppress(redis.ResponseError):
        bench.redis.xgroup_create(lane, names.GROUP, "0")
    bench.redis.xreadgroup(names.GROUP, "test", {lane: ">"})
    outcome = Outcome(
        alert=alert, status=Status.DELIVERED, attempts=1, at=datetime.now(UTC), moog_status=70_000
    )
    counts = {"alerts.waiting": -1, "alerts.delivered": 1}
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE alerts ALTER moog_status TYPE smallint")
    move = Move(Entry(lane, id_, 1, fields), counts, [leave_lane(alert), deliver(outcome)])
    bench.services.alert_stream.settle([move])
    bench.record()
    return alert, standing(bench, "moog")[-1]


def test_what_became_of_an_alert_is_not_dropped_and_is_in_the_verdict_until_it_is_recorded(
    bench: Bench, desk: Desk
) -> None:
    refused(bench, 2)
    alert, id_ = unrecorded(bench)
    report, _ = observe(bench.services, deep=False)
    assert (report.state, report.balanced, report.outcomes_parked) == ("outcomes", False, 1)
    order = carry_out(desk, "moog", DROP, reason="r")
    assert (order.letters, order.outcomes, order.total, order.done) == (2, 1, 3, True)
    assert carry_out(desk, "moog", DROP, reason="r", ids=[id_]).outcomes == 1
    assert standing(bench, "moog") == [id_]
    assert len(notes(bench)) == 1
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE alerts ALTER moog_status TYPE integer")
    carry_out(desk, "moog", REPLAY, now=True)
    bench.record()
    assert row_statuses(bench)[str(alert.alert_id)] == "delivered"
    report, _ = observe(bench.services, deep=False)
    assert (report.state, report.disagree) == ("balanced", {})


# ---- copies


def test_the_copy_of_an_event_is_audited_and_its_original_dropped_in_the_same_step(
    bench: Bench, desk: Desk
) -> None:
    (id_,) = poisoned(bench, tags={"site": "lon1"}, program="kernel")
    copy = desk.edit("alerts", id_, {"severity": "2"}, who=WHO, reason="no such severity")
    assert bench.events == {"accepted": 2, "dropped": 1, "queued": 1}
    bench.run()
    bench.check()
    (row,) = bench.rows()
    assert (str(row.event_id), row.severity, row.message) == (copy.ids[0], 2, "CRITICAL 0")
    assert row.correlation_id == "corr"
    record = orjson.loads(bench.redis.hget(names.DROPS, f"alerts:{id_}"))
    assert (record["reason"], record["who"]) == (f"replaced by {copy.ids[0]}", WHO)
    (note,) = notes(bench)
    assert (note.operation, note.record_id, note.reason) == ("EDIT", id_, "no such severity")
    assert note.after == {"copy": copy.ids[0], "changed": "severity", "original": "dropped"}


def test_the_history_never_holds_what_a_letter_holds(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench, tags={"password": "sekret-1"})
    new = {"severity": "2", "message": "sekret-2", "tags": "password=sekret-3"}
    desk.edit("alerts", id_, new, who=WHO)
    assert "sekret" not in str(notes(bench))


def test_a_copy_that_is_refused_changes_nothing(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench)
    with pytest.raises(Refused) as refusal:
        desk.edit("alerts", id_, {"severity": "99"}, who=WHO)
    assert refusal.value.field == "severity"
    assert bench.events == {"accepted": 1, "parked": 1}
    assert notes(bench) == []


def test_the_original_stays_where_it_is_asked_to(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench)
    desk.edit("alerts", id_, {"severity": "2"}, who=WHO, keep=True)
    assert bench.events == {"accepted": 2, "parked": 1, "queued": 1}
    assert standing(bench, "alerts") == [id_]
    bench.run()
    bench.check()


def test_of_two_copies_at_once_one_is_accepted(bench: Bench, desk: Desk) -> None:
    """Both have read the letter; the second finds it gone, and nothing of it is accepted or noted."""
    (id_,) = poisoned(bench)
    letter = desk.letters.one("alerts", id_)
    desk.edit("alerts", id_, {"severity": "2"}, who=WHO)
    other = Desk(bench.services)
    other.letters.one = lambda *_a: letter  # type: ignore[method-assign]
    try:
        with pytest.raises(NoLetter):
            other.edit("alerts", id_, {"severity": "3"}, who=WHO)
    finally:
        del other.letters.one  # type: ignore[attr-defined]
    assert bench.events == {"accepted": 2, "dropped": 1, "queued": 1}
    assert len(notes(bench)) == 1


def test_an_entry_that_cannot_be_read_cannot_be_edited(bench: Bench, desk: Desk) -> None:
    bench.append_fields(["v", "0", "n", 7, "id", "", "d", b"later"], 7, 5)
    bench.run()
    (id_,) = standing(bench, "alerts")
    with pytest.raises(NotEditable):
        desk.edit("alerts", id_, {"message": "x"}, who=WHO)


def test_the_copy_of_an_alert_goes_to_its_lane_under_the_same_signature(bench: Bench, desk: Desk) -> None:
    (alert,) = refused(bench)
    (id_,) = standing(bench, "moog")
    copy = desk.edit("moog", id_, {"description": "short", "severity": "5"}, who=WHO)
    (placed,) = bench.lane("critical")
    assert (placed.description, placed.signature) == ("short", alert.signature)
    assert str(placed.alert_id) == copy.ids[0]
    assert alert_books(bench) == {"raised": 2, "waiting": 1, "dropped": 1}
    bench.record()
    assert row_statuses(bench) == {str(alert.alert_id): "dropped", copy.ids[0]: "waiting"}
    bench.check()
    (note,) = notes(bench)
    assert note.after["changed"] == "lane, severity, description"


def test_what_was_sent_again_is_told_also_where_its_row_could_not_be_written(
    bench: Bench, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(bench)

    def away(*_args: Any) -> None:
        raise StoreDown("gone in between")

    monkeypatch.setattr("mutt.letters.desk.alert_rows.set_status", away)
    order = carry_out(desk, "moog", REPLAY, ids=standing(bench, "moog"), now=True)
    assert (order.letters, order.missing) == (1, [])
    assert len(bench.lane("minor")) == 1
    assert alert_books(bench) == {"raised": 1, "waiting": 1}


def test_that_a_copy_waits_is_no_end_of_one_that_is_at_moog_already(bench: Bench, desk: Desk) -> None:
    refused(bench)
    (id_,) = standing(bench, "moog")
    copy = desk.edit("moog", id_, {"description": "short"}, who=WHO).ids[0]
    bench.redis.hset(
        names.STANDING, copy, "delivery"
    )  # as forward leaves it, whose outcome is still to be recorded
    bench.record()
    assert bench.redis.hget(names.STANDING, copy) == b"delivery"
    assert not bench.redis.exists(f"mutt:alerts:done:{copy}")


def test_the_copy_of_an_alert_that_postgresql_refuses_changes_nothing(bench: Bench, desk: Desk) -> None:
    refused(bench)
    (id_,) = standing(bench, "moog")
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE alerts ALTER description TYPE varchar(20)")
    with pytest.raises(MuttError):
        desk.edit("moog", id_, {"description": "longer than " * 9}, who=WHO)
    assert (standing(bench, "moog"), notes(bench)) == ([id_], [])
    assert alert_books(bench) == {"raised": 1, "parked": 1}
    bench.check()


def test_of_two_copies_of_an_alert_at_once_one_is_accepted(
    bench: Bench, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(bench)
    (id_,) = standing(bench, "moog")
    letter = desk.letters.one("moog", id_)
    desk.edit("moog", id_, {"description": "short"}, who=WHO)
    monkeypatch.setattr(desk.letters, "one", lambda *_a: letter)
    with pytest.raises(NoLetter):
        desk.edit("moog", id_, {"description": "shorter"}, who=WHO)
    assert len(notes(bench)) == 1
    bench.record()
    bench.check()


def test_a_copy_that_nobody_heard_of_is_noted_and_has_its_rows(
    bench: Bench, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alert,) = refused(bench)
    (id_,) = standing(bench, "moog")
    killed_once_moved(desk, monkeypatch)
    with pytest.raises(redis.TimeoutError):
        desk.edit("moog", id_, {"description": "short"}, who=WHO)
    bench.record()
    (placed,) = bench.lane("minor")
    assert row_statuses(bench) == {str(alert.alert_id): "dropped", str(placed.alert_id): "waiting"}
    assert [note.after["copy"] for note in notes(bench)] == [str(placed.alert_id)]
    bench.check()


def test_the_copy_of_an_event_that_nobody_heard_of_is_noted(
    bench: Bench, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = poisoned(bench)
    killed_once_moved(desk, monkeypatch)
    with pytest.raises(redis.TimeoutError):
        desk.edit("alerts", id_, {"severity": "2"}, who=WHO)
    assert bench.events == {"accepted": 2, "dropped": 1, "queued": 1}
    assert [note.record_id for note in notes(bench)] == [id_]


def test_a_mended_item_goes_through_ingests_own_checks(bench: Bench, desk: Desk) -> None:
    (id_,) = reject(bench, ("hostname", "is missing", '{"message":"CRITICAL fan"}'))
    with pytest.raises(Refused) as refusal:
        desk.edit_rejected(id_, '{"message":"CRITICAL fan","hostname":""}', who=WHO)
    assert (refusal.value.field, bench.events) == ("hostname", {})
    copy = desk.edit_rejected(id_, '{"message":"CRITICAL fan","hostname":"r9"}', who=WHO)
    assert bench.events == {"accepted": 1, "queued": 1}
    assert standing(bench, "ingest") == []
    assert int(bench.redis.hget("mutt:dlq:ingest:bytes", "sender-7")) == 0
    bench.run()
    (row,) = bench.rows()
    assert (row.hostname, str(row.event_id)) == ("r9", copy.ids[0])
    bench.check()


def test_a_mended_item_with_an_id_of_its_own_is_known_when_its_sender_repeats_it(
    bench: Bench, desk: Desk
) -> None:
    """The stamp of the first appearance is kept for it as for any other event."""
    text = '{"message":"quiet","hostname":"r9","event_id":"e-1"}'
    first, second = reject(bench, ("x", "y", "{}"), ("x", "y", "{}"))
    for id_ in (first, second):
        desk.edit_rejected(id_, text, who=WHO)
        bench.run()
    assert bench.events == {"accepted": 2, "settled": 1, "duplicate": 1}
    bench.check()


# ---- trial


def rows_of(bench: Bench) -> tuple[int, int, dict[str, int], dict[str, int]]:
    return len(bench.rows()), len(bench.alerts()), bench.events, alert_books(bench)


def test_a_trial_says_which_rule_and_why_and_which_alert_and_writes_nothing(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench, severity=99_999)
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE event_audit_log ALTER severity TYPE integer")
    before = rows_of(bench)
    trial = desk.try_("alerts", id_)
    assert (trial.outcome, trial.rule_id is not None) == ("audited", True)
    assert "CRITICAL" in trial.why
    (alert,) = trial.alerts
    assert (alert.hostname, alert.lane) == ("core-1", "critical")
    assert rows_of(bench) == before
    assert standing(bench, "alerts") == [id_]
    assert dict(told(trial))["outcome"] == "PostgreSQL takes its row"


@pytest.mark.parametrize(
    ("bounds", "fault"),
    [
        (Bounds(seconds=0.05), "it did not end within 0.05 s"),
        (Bounds(memory=1 << 20), ""),  # where it runs out, nobody can tell
    ],
)
def test_a_trial_that_hangs_or_takes_all_memory_ends_its_own_process_alone(
    bench: Bench, desk: Desk, bounds: Bounds, fault: str
) -> None:
    (id_,) = poisoned(bench)
    desk.bounds = bounds
    trial = desk.try_("alerts", id_)
    assert trial.outcome == "parked"
    assert fault in trial.fault
    assert bench.events == {"accepted": 1, "parked": 1}


def test_a_trial_counts_nothing_and_leaves_no_file_of_metrics(
    bench: Bench, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (id_,) = poisoned(bench)
    assert desk.try_("alerts", id_).outcome == "parked"
    assert list(tmp_path.iterdir()) == []


def test_a_trial_without_rules_says_so(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench)
    with bench.services.engine.begin() as conn:
        conn.execute(text("DELETE FROM ruleset_version"))
    with pytest.raises(NoRuleset, match="mutt migrate"):
        desk.try_("alerts", id_)


def test_a_trial_without_postgresql_says_so(bench: Bench) -> None:
    (id_,) = poisoned(bench)
    nowhere = Settings.from_env(
        {}, redis_url=bench.settings.redis_url, database_url="postgresql://mutt@127.0.0.1:9/x"
    )
    with pytest.raises(StoreDown):
        Desk(Services(nowhere, lambda *_a, **_k: None)).try_("alerts", id_)


def test_a_trial_says_what_postgresql_would_refuse(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench)
    trial = desk.try_("alerts", id_)
    assert (trial.outcome, "smallint" in trial.fault, "CRITICAL" in trial.why) == ("parked", True, True)
    assert trial.handling  # the rules were asked all the same
    assert rows_of(bench) == (0, 0, {"accepted": 1, "parked": 1}, {})


def test_a_trial_follows_the_present_rules(bench: Bench, desk: Desk) -> None:
    (id_,) = poisoned(bench)
    bench.change_rules(is_active=False)
    trial = desk.try_("alerts", id_)
    assert trial.fault.startswith("refused by PostgreSQL")
    assert (trial.rule_id, trial.handling) == (None, "Unhandled")


def test_a_trial_knows_a_row_that_stands_already(bench: Bench, desk: Desk) -> None:
    sent = event("CRITICAL twice", severity=99_999)
    bench.append(sent)
    bench.run()
    bench.append(msgspec.structs.replace(sent, severity=1))
    bench.run()
    (id_,) = standing(bench, "alerts")
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE event_audit_log ALTER severity TYPE integer")
    trial = desk.try_("alerts", id_)
    assert (trial.outcome, trial.alerts) == ("duplicate", [])


def test_a_trial_of_a_clear_finds_the_fault_that_it_ends(bench: Bench, desk: Desk) -> None:
    bench.append(event("LINK-DOWN", severity=3, clear_key="if-1"))
    bench.run()
    bench.append(clear("LINK-UP", severity=99_999, clear_key="if-1"))
    bench.run()
    (id_,) = standing(bench, "alerts")
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE event_audit_log ALTER severity TYPE integer")
    (alert,) = desk.try_("alerts", id_).alerts
    assert (alert.severity, alert.state) == (0, "clear")
    assert {row.cleared_by for row in bench.alerts()} == {None}


def test_a_trial_of_an_alert_asks_the_rules_about_its_event(bench: Bench, desk: Desk) -> None:
    refused(bench)
    (id_,) = standing(bench, "moog")
    bench.change_rules(is_active=False)
    trial = desk.try_("moog", id_)
    assert (trial.outcome, trial.handling, trial.alerts) == ("audited", "Unhandled", [])
    assert "as it is stored" in trial.note
    assert len(bench.rows()) == 1


def test_an_alerts_event_is_read_again_from_its_text_with_its_tags(bench: Bench) -> None:
    text = '{"hostname":"core-1","message":"ERROR disk","tags":{"site":"lon1"}}'
    bench.append(event("ERROR disk", severity=3, raw=text))
    bench.run()
    (alert,) = bench.lane("minor")
    found, whole = event_of(alert)
    assert (found.tags, found.received_at, whole) == ({"site": "lon1"}, alert.received_at, True)
    found, whole = event_of(msgspec.structs.replace(alert, raw=""))
    assert (found.message, whole) == ("ERROR disk", False)
    assert isinstance(found, Event)


def test_a_trial_of_a_rejected_item_says_whether_ingest_takes_it_now(bench: Bench, desk: Desk) -> None:
    bad, good = reject(
        bench,
        ("hostname", "is missing", '{"message":"x"}'),
        ("event", "was too large then", '{"message":"CRITICAL fan","hostname":"r9"}'),
    )
    trial = desk.try_("ingest", bad)
    assert trial.outcome == "refused"
    assert trial.fault.startswith("hostname: is missing")
    trial = desk.try_("ingest", good)
    assert (trial.outcome, len(trial.alerts)) == ("audited", 1)
    assert rows_of(bench) == (0, 0, {}, {})


# ---- orders that workers carry out


@pytest.fixture
def orders(bench: Bench) -> Orders:
    return Orders(bench.redis)


def test_workers_carry_an_order_out_in_steps_and_it_is_shown_to_its_end(
    bench: Bench, desk: Desk, orders: Orders
) -> None:
    refused(bench, 12)
    orders.give(desk.order("moog", REPLAY, who=WHO, group="refused"))
    assert orders.work(desk, within=0.0) == {"moog": 5}
    under_way = orders.under_way("moog")
    assert under_way is not None
    assert (under_way.letters, under_way.total, under_way.done) == (5, 12, False)
    moved = 5
    while orders.under_way("moog"):
        bench.redis.delete("mutt:alert_queue:minor")  # as if they had been sent
        moved += orders.work(desk, within=0.0)["moog"]
    ended = orders.ended("moog")
    assert ended is not None
    assert (moved, ended.letters, ended.done, bool(ended.ended)) == (12, 12, True, True)
    (note,) = notes(bench)
    assert note.after["letters"] == 12
    assert not bench.redis.exists(names.LETTER_ORDERS)


def test_one_order_a_queue_and_a_stop_ends_it(bench: Bench, desk: Desk, orders: Orders) -> None:
    refused(bench, 7)
    orders.give(desk.order("moog", REPLAY, who=WHO))
    with pytest.raises(Refused):
        orders.give(desk.order("moog", DROP, who=WHO, reason="r"))
    orders.work(desk, within=0.0)
    assert orders.stop("moog")
    assert orders.work(desk, within=0.0) == {"moog": 0}
    ended = orders.ended("moog")
    assert ended is not None
    assert (ended.letters, ended.done, orders.under_way("moog")) == (5, False, None)
    assert not orders.stop("moog")
    assert alert_books(bench) == {"raised": 7, "waiting": 5, "parked": 2}


def test_a_stop_that_came_too_late_does_not_end_the_next_order(
    bench: Bench, desk: Desk, orders: Orders
) -> None:
    refused(bench, 2)
    assert not orders.stop("moog")
    bench.redis.hset(names.LETTER_ORDERS, "stop:moog", "1")
    orders.give(desk.order("moog", REPLAY, who=WHO))
    assert orders.work(desk, within=0.0) == {"moog": 2}
    assert not orders.stop("moog")
    assert not bench.redis.exists(names.LETTER_ORDERS)


def test_two_workers_do_not_carry_out_one_order_at_a_time(bench: Bench, desk: Desk, orders: Orders) -> None:
    refused(bench, 2)
    orders.give(desk.order("moog", REPLAY, who=WHO))
    with bench.redis.lock(names.LETTER_LOCK + "moog", timeout=30):
        assert orders.work(desk, within=0.0) == {}
    assert orders.work(desk, within=0.0) == {"moog": 2}


def test_an_order_outlives_its_worker_and_counts_on(bench: Bench, desk: Desk, orders: Orders) -> None:
    """The worker died after a step that it could not note in Redis: nothing is moved twice, the history has all."""
    refused(bench, 150)
    given = desk.order("moog", DROP, who=WHO, reason="r")
    orders.give(given)
    next(desk.run(given))
    orders.work(desk, within=5.0)
    assert sum(note.after["letters"] for note in notes(bench)) == 150
    assert alert_books(bench) == {"raised": 150, "dropped": 150}
    bench.record()
    assert set(row_statuses(bench).values()) == {"dropped"}
    bench.check()


@pytest.fixture
def worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a worker's."""
    monkeypatch.setenv("REDIS_URL", bench.settings.redis_url)
    monkeypatch.setenv("DATABASE_URL", bench.settings.database_url)
    forget: list[Callable[[], None]] = [celery.settings.cache_clear, base._services.cache_clear]
    for one in forget:
        one()
    yield
    base.services().engine.dispose()
    for one in forget:
        one()


@pytest.mark.usefixtures("worker")
def test_the_task_carries_orders_on_and_tells_of_an_outage(bench: Bench, desk: Desk, orders: Orders) -> None:
    poisoned(bench, 2)
    orders.give(desk.order("alerts", DROP, who=WHO, reason="r"))
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE config_audit_log RENAME TO away")
    assert "outage" in letters_task()
    under_way = orders.under_way("alerts")
    assert under_way is not None
    assert under_way.waits == "PostgreSQL does not answer"
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE away RENAME TO config_audit_log")
    assert bench.events == {"accepted": 2, "parked": 2}, "what can't be noted is not moved"
    letters_task()
    assert (orders.under_way("alerts"), bench.events) == (None, {"accepted": 2, "dropped": 2})
    assert [note.after["letters"] for note in notes(bench)] == [2]


def test_the_history_counts_what_really_went(bench: Bench, desk: Desk) -> None:
    """Another took two of them between the look and the step; and then all."""
    first, second, _ = poisoned(bench, 3)
    order = desk.order("alerts", DROP, who=WHO, reason="r")
    stale = desk.letters.read("alerts", standing(bench, "alerts"))
    desk.letters.drop("alerts", desk.letters.read("alerts", [first, second]), reason="r", who="bob")
    assert len(desk._move(order, stale)) == 1
    assert desk._move(desk.order("alerts", DROP, who=WHO, reason="r"), stale) == []
    (note,) = notes(bench)
    assert note.after == {"letters": 1, "events or alerts": 1}
