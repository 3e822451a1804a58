"""The alerts' rows: final ends stay final, clears find their raises, and the sweep sees what is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import Connection, Engine, select, text

from mutt.alert import Alert, Outcome, Status, clearing
from mutt.errors import AlreadyStored, PoisonRow
from mutt.event import Event, State
from mutt.store import alerts, tables
from mutt.store.engine import transaction
from tests.waiting import wait_until

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
BY_HAND = "by hand"


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with transaction(engine) as opened:
        yield opened


def alert(minute: int = 0, **changes: object) -> Alert:
    at = NOW + timedelta(minutes=minute)
    plain = Alert(
        alert_id=uuid4(),
        event_id=uuid4(),
        received_at=at,
        occurred_at=at,
        hostname="router1",
        rule_id=3,
        handling="Page_and_ticket",
        environment="production",
        team="NetOps",
        lane="critical",
        severity=5,
        signature="router1::rule-3",
        description="LINK-DOWN",
        state=State.RAISE,
        source="syslog",
        correlation_id="corr",
        type="LINK-DOWN",
        clear_key="if-1",
        raw='{"a": 1}',
    )
    return msgspec.structs.replace(plain, **changes)


def outcome(of: Alert, status: Status, attempts: int = 1, **changes: object) -> Outcome:
    plain = Outcome(alert=of, status=status, attempts=attempts, at=NOW + timedelta(hours=1), moog_status=200)
    return msgspec.structs.replace(plain, **changes)


def clear_event(minute: int, clear_key: str = "if-1") -> Event:
    at = NOW + timedelta(minutes=minute)
    return Event(
        event_id=uuid4(),
        received_at=at,
        occurred_at=at,
        hostname="router1",
        message="link up",
        state=State.CLEAR,
        clear_key=clear_key,
        tags={"site": "lon1"},
    )


def status_of(conn: Connection, one: Alert) -> str:
    return conn.execute(
        select(tables.alerts.c.status).where(tables.alerts.c.alert_id == one.alert_id)
    ).scalar_one()


def test_what_went_in_comes_out_whole(conn: Connection) -> None:
    """An alert read back by its event equals the alert that was written, and waits."""
    first, second = alert(), alert(rule_id=None, clear_key=None)
    alerts.insert(conn, [])
    alerts.insert(conn, [first, second])
    key, other = (first.event_id, first.received_at), (second.event_id, second.received_at)
    assert alerts.by_events(conn, []) == {}
    assert alerts.by_events(conn, [key, other, (uuid4(), NOW)]) == {
        key: [(first, Status.WAITING)],
        other: [(second, Status.WAITING)],
    }


def test_a_clear_that_a_late_raise_found_belongs_to_the_raise(conn: Connection) -> None:
    """It is answered for the event that brought it, not for the event it is made of: that one brought nothing."""
    event = clear_event(minute=5)
    raised = alert()
    late = msgspec.structs.replace(clearing(event, raised, correlation_id="c"), cause=raised.event_id)
    alerts.insert(conn, [raised, late])
    key = (raised.event_id, raised.received_at)
    found = alerts.by_events(conn, [key, event.key])
    assert found == {key: [(raised, Status.WAITING), (late, Status.WAITING)]}


def test_an_alert_is_written_once(engine: Engine) -> None:
    one = alert()
    with transaction(engine) as conn:
        alerts.insert(conn, [one])
    with pytest.raises(AlreadyStored), transaction(engine) as conn:
        alerts.insert(conn, [alert(), one])


def test_a_word_outside_of_the_closed_sets_is_poison(engine: Engine) -> None:
    with pytest.raises(PoisonRow) as caught, transaction(engine) as conn:
        alerts.insert(conn, [alert(lane="express")])
    assert caught.value.sqlstate == "23514"


# What record does with two outcomes that arrive in this order.
ORDERS = [
    (Status.DELIVERED, 1, Status.PARKED, 2, Status.DELIVERED),  # delivered is final
    (Status.DELIVERED, 1, Status.WAITING, 2, Status.DELIVERED),
    (Status.DELIVERED, 1, Status.CANCELLED, 2, Status.DELIVERED),
    (Status.PARKED, 5, Status.DELIVERED, 1, Status.DELIVERED),  # and beats all others
    (Status.PARKED, 2, Status.WAITING, 1, Status.PARKED),  # a late word from before the end
    (Status.PARKED, 1, Status.DROPPED, 1, Status.DROPPED),
    (Status.WAITING, 1, Status.PARKED, 2, Status.PARKED),
    (Status.WAITING, 1, Status.WAITING, 2, Status.WAITING),
]


@pytest.mark.parametrize("row_is_there", [True, False])
@pytest.mark.parametrize(("first", "tried", "second", "tried_again", "stands"), ORDERS)
def test_the_outcome_that_counts_stands(
    conn: Connection,
    first: Status,
    tried: int,
    second: Status,
    tried_again: int,
    stands: Status,
    row_is_there: bool,
) -> None:
    """In whatever order outcomes are recorded, and whether or not the row was there."""
    one = alert()
    if row_is_there:
        alerts.insert(conn, [one])
    alerts.record(conn, [outcome(one, first, tried)])
    alerts.record(conn, [outcome(one, second, tried_again)])
    assert alerts.by_events(conn, [(one.event_id, one.received_at)]) == {
        (one.event_id, one.received_at): [(one, stands)]
    }


def test_several_outcomes_of_one_alert_fold_into_the_one_that_counts(conn: Connection) -> None:
    """Delivered before all others, then the most attempts; neighbours are recorded too."""
    sent, tried = alert(), alert()
    alerts.record(conn, [])
    alerts.record(
        conn,
        [
            outcome(tried, Status.PARKED, 5, reason="refused"),
            outcome(sent, Status.DELIVERED, 2, moog_answer="ok"),
            outcome(sent, Status.WAITING, 3),
            outcome(tried, Status.WAITING, 1),
        ],
    )
    row = conn.execute(select(tables.alerts).where(tables.alerts.c.alert_id == sent.alert_id)).one()
    assert (row.status, row.attempts, row.moog_status, row.moog_answer) == ("delivered", 2, 200, "ok")
    assert row.delivered_at == NOW + timedelta(hours=1)
    assert status_of(conn, tried) == Status.PARKED


def test_the_first_delivery_dates_the_alert(conn: Connection) -> None:
    """A repeat to Moog moves the answer, not the time of delivery."""
    one = alert()
    alerts.record(conn, [outcome(one, Status.DELIVERED, 1)])
    alerts.record(conn, [outcome(one, Status.DELIVERED, 2, at=LATER)])
    row = conn.execute(select(tables.alerts.c.delivered_at, tables.alerts.c.attempts)).one()
    assert tuple(row) == (NOW + timedelta(hours=1), 2)


def test_no_answer_of_moog_is_too_odd_to_be_recorded(conn: Connection) -> None:
    """What PostgreSQL can't hold is replaced: the outcome counts, not the bytes."""
    one = alert()
    alerts.record(conn, [outcome(one, Status.DELIVERED, moog_answer="a\0b\ud800c")])
    assert conn.execute(select(tables.alerts.c.moog_answer)).scalar_one() == "a\ufffdb?c"


def test_a_clear_finds_the_newest_open_raise_and_ends_the_older_ones(conn: Connection) -> None:
    """Not those of another host or key, nor one received after it."""
    oldest, newest, after = alert(0), alert(5), alert(20)
    strangers = [alert(6, hostname="router2"), alert(6, clear_key="if-2"), alert(6, clear_key=None)]
    alerts.insert(conn, [oldest, newest, after, *strangers])
    before = NOW + timedelta(minutes=10)
    assert alerts.newest_open(conn, "router1", "if-1", before) == newest

    clear = clearing(clear_event(10), newest, correlation_id="c")
    alerts.insert(conn, [clear])
    alerts.mark_cleared(conn, newest.alert_id, clear.alert_id)
    assert alerts.newest_open(conn, "router1", "if-1", before) is None
    assert alerts.newest_open(conn, "router1", "if-1", LATER) == after
    cleared = conn.execute(
        select(tables.alerts.c.alert_id).where(tables.alerts.c.cleared_by == clear.alert_id)
    )
    assert set(cleared.scalars()) == {oldest.alert_id, newest.alert_id}


def test_a_clear_is_kept_for_raises_that_are_evaluated_after_it(conn: Connection) -> None:
    """Each older raise finds the first one after itself, with everything it said."""
    early, first, second = clear_event(-5), clear_event(1), clear_event(2)
    for event in (second, first, early, clear_event(1, clear_key="if-2")):
        alerts.keep_clear(conn, event, "corr-" + str(event.received_at.minute))
        alerts.keep_clear(conn, event, "the same again")
    assert alerts.clear_after(conn, "router1", "if-1", NOW) == (first, "corr-10")
    assert alerts.clear_after(conn, "router1", "if-1", NOW) == (first, "corr-10"), "for another raise, too"
    assert alerts.clear_after(conn, "router1", "if-1", second.received_at) == (second, "corr-11")
    assert alerts.clear_after(conn, "router1", "if-1", LATER) is None
    assert alerts.prune_clears(conn, NOW) == 1
    assert alerts.prune_clears(conn, LATER) == 3


def test_raise_and_clear_of_one_key_come_one_after_the_other(engine: Engine) -> None:
    """Two drains that meet the same pairs in opposite orders neither overlap nor deadlock."""
    pairs = [("router1", "if-1"), ("router2", "if-1"), ("router1", "if-1")]
    inside = threading.Event()

    def other() -> None:
        with transaction(engine) as conn:
            alerts.lock_clear_keys(conn, reversed(pairs))
            inside.set()

    with transaction(engine) as conn:
        alerts.lock_clear_keys(conn, [])
        alerts.lock_clear_keys(conn, pairs)
        thread = threading.Thread(target=other)
        thread.start()
        wait_until(lambda: _waiting_for_locks(engine) == 1, what="the other drain to wait")
        assert not inside.is_set()
    thread.join(timeout=10)
    assert inside.is_set()


def test_pairs_are_told_apart_by_where_one_name_ends(engine: Engine) -> None:
    """("a", "bc") does not wait for ("ab", "c")."""
    with transaction(engine) as one, transaction(engine) as other:
        alerts.lock_clear_keys(one, [("a", "bc")])
        other.execute(text("SET LOCAL lock_timeout = '1s'"))
        alerts.lock_clear_keys(other, [("ab", "c")])


def test_the_sweep_gets_what_waits_oldest_first_page_by_page(conn: Connection) -> None:
    rows = [alert(minute) for minute in (3, 1, 2)]
    minor = alert(0, lane="minor")
    done = alert(0)
    alerts.insert(conn, [*rows, minor, done])
    alerts.record(conn, [outcome(done, Status.DELIVERED)])
    in_order = sorted(rows, key=lambda each: each.received_at)

    long_ago = NOW - timedelta(days=9999)
    assert alerts.lock_waiting(conn, {}, 10) == []
    assert alerts.lock_waiting(conn, {"minor": long_ago, "critical": LATER}, 10) == in_order
    assert alerts.lock_waiting(conn, {"minor": None, "critical": None}, 10) == [minor, *in_order]
    page = alerts.lock_waiting(conn, {"critical": None}, 2)
    assert page == in_order[:2]
    last = page[-1]
    rest = alerts.lock_waiting(conn, {"critical": None}, 2, after=(last.received_at, last.alert_id))
    assert rest == in_order[2:]


def test_the_sweep_waits_for_an_outcome_that_is_being_written(engine: Engine) -> None:
    """And then sees it: a delivered alert is never handed out again."""
    one = alert()
    with transaction(engine) as conn:
        alerts.insert(conn, [one])
    seen: list[list[Alert]] = []

    def sweep() -> None:
        with transaction(engine) as conn:
            seen.append(alerts.lock_waiting(conn, {"critical": None}, 10))

    with transaction(engine) as conn:
        alerts.record(conn, [outcome(one, Status.DELIVERED)])
        thread = threading.Thread(target=sweep)
        thread.start()
        wait_until(lambda: _waiting_for_locks(engine) == 1, what="the sweep to wait")
    thread.join(timeout=10)
    assert seen == [[]]


def test_replay_and_drop_by_hand_leave_the_delivered_alone(conn: Connection) -> None:
    """A replayed alert waits again from its first attempt, so that its next outcomes count."""
    parked, sent = alert(), alert()
    alerts.record(conn, [outcome(parked, Status.PARKED, 5), outcome(sent, Status.DELIVERED)])
    both = [parked.alert_id, sent.alert_id]
    assert alerts.set_status(conn, both, Status.WAITING, BY_HAND) == 1
    alerts.record(conn, [outcome(parked, Status.WAITING, 1)])
    assert (status_of(conn, parked), status_of(conn, sent)) == (Status.WAITING, Status.DELIVERED)
    assert alerts.set_status(conn, both, Status.DROPPED, BY_HAND) == 1
    assert alerts.set_status(conn, list[UUID](), Status.DROPPED, BY_HAND) == 0


def test_counts_name_every_status(conn: Connection) -> None:
    assert alerts.counts(conn) == dict.fromkeys(Status, 0)
    alerts.insert(conn, [alert(), alert()])
    assert alerts.counts(conn)[Status.WAITING] == 2


def _waiting_for_locks(engine: Engine) -> int:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with transaction(engine) as conn:
        return conn.execute(text(waiting)).scalar_one()
