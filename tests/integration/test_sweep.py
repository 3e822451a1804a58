"""The sweep on real servers: alerts that wait and stand nowhere come in again, in their order; none that stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mutt import names
from mutt.alert import Alert, Outcome, Status
from mutt.entry import Move, deliver, leave_lane
from mutt.event import Event
from mutt.pipeline.record import LOST_AFTER, SWEEP_BATCH, sweep
from mutt.streams import books
from mutt.streams.bound import Held
from tests.bench import Bench, benches, clear, event

QUEUE_MAX = 10
LATER = timedelta(seconds=LOST_AFTER + 1)


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, alert_queue_max=QUEUE_MAX) as (made,):
        yield made


def swept(bench: Bench, after: timedelta = LATER, *, lost: bool = True) -> dict[str, int]:
    """Sweep as if so much time had passed."""
    s = bench.services
    return sweep(s.store, s.lanes, datetime.now(UTC) + after, QUEUE_MAX, lost=lost)


def swept_now(bench: Bench) -> dict[str, int]:
    """The sweep of each second, for what is outside of full lanes."""
    return swept(bench, timedelta(0), lost=False)


def minor(n: int) -> list:
    """So many alerts, each of a host of its own."""
    return [event(f"ERROR {i}", f"host-{i}", severity=3) for i in range(n)]


def down(severity: int) -> Event:
    """One fault of one port, told at several severities: one signature, several lanes."""
    return event("ERROR down", "core-1", severity=severity, clear_key="link:1")


def lose(bench: Bench) -> None:
    """What Redis knew of alerts is gone; the books are not."""
    known = (
        names.STANDING,
        names.HOLDERS,
        names.OUTSIDE,
        names.OUTSIDE_OF,
        names.BEHIND_COUNTS,
        names.LIFTED,
    )
    bench.redis.delete(*known, *names.LANE_STREAMS)
    for key in bench.redis.keys(names.BEHIND + "*"):
        bench.redis.delete(key)


def forward(bench: Bench, count: int = 1, status: Status = Status.DELIVERED) -> list[Alert]:
    """Moog takes so many; what forward does then, without its budget."""
    s = bench.services
    done: list[Alert] = []
    held = Held(bench.plain_lanes, "forward")
    while len(done) < count and (entries := held.take(1).entries):
        alert = entries[0].decode(Alert)
        outcome = Outcome(alert=alert, status=status, attempts=1, at=datetime.now(UTC), moog_status=200)
        counts = {"alerts.waiting": -1, f"alerts.{status}": 1}
        s.alert_stream.settle([Move(entries[0], counts, [leave_lane(alert), deliver(outcome)])])
        done.append(alert)
    return done


def record(bench: Bench) -> None:
    held = bench.services.held("delivery_queue")
    while entries := held.take(500).entries:
        held.settle(bench.services.recorder.record_outcomes(entries))


def alert_books(bench: Bench) -> dict[str, int]:
    ledger = books.read(bench.redis)
    assert ledger.off_alerts == 0
    return {name: n for name, n in ledger.alerts.items() if n}


# ---- lost


def test_a_lost_alert_comes_in_again_after_its_time_and_not_before(bench: Bench) -> None:
    bench.append(*minor(3), event("CRITICAL x"))
    bench.run()
    before = bench.lane("minor"), bench.lane("critical"), alert_books(bench)
    lose(bench)
    assert swept(bench, timedelta(seconds=LOST_AFTER - 5)) == {}
    assert swept(bench) == {"critical": 1, "minor": 3}
    assert (bench.lane("minor"), bench.lane("critical"), alert_books(bench)) == before
    bench.check()


def test_the_lost_come_in_again_in_the_order_of_their_events_whatever_their_lanes(bench: Bench) -> None:
    """Else a raise from a lower lane would come in behind the clear that ended it."""
    told = [down(3), down(0), clear("up", "core-1", clear_key="link:1")]
    for one in told:
        bench.append(one)
        bench.run()
    lose(bench)
    assert swept(bench) == {"minor": 1, "critical": 2}
    assert [one.received_at for one in forward(bench, 3)] == [one.received_at for one in told]
    bench.check()


def test_a_clear_does_not_overtake_a_raise_that_waits_outside_of_another_lane(bench: Bench) -> None:
    """The lane that is full is the raise's; its clear belongs into one that has room."""
    bench.append(*minor(QUEUE_MAX))
    bench.run()
    for one in (down(3), down(0), clear("up", "core-1", clear_key="link:1")):
        bench.append(one)
        bench.run()
    assert outside(bench).keys() == {b"minor", b"critical"}
    assert swept_now(bench) == {}, "not while the minor lane is full"
    order: list[Alert] = []
    while got := forward(bench, 2):
        order += got
        record(bench)
        swept_now(bench)
    assert [str(one.state) for one in order if one.hostname == "core-1"] == ["raise", "raise", "clear"]
    assert outside(bench) == {} == bench.redis.hgetall(names.OUTSIDE_OF)
    bench.check()


def test_what_is_outside_comes_in_though_the_clocks_differ(bench: Bench) -> None:
    """A worker's clock is behind PostgreSQL's."""
    bench.append(*minor(QUEUE_MAX + 2))
    bench.run()
    forward(bench, QUEUE_MAX)
    record(bench)
    assert swept(bench, timedelta(seconds=-5), lost=False) == {"minor": 2}
    assert outside(bench) == {}


def test_what_stands_is_not_appended_again(bench: Bench) -> None:
    bench.append(*minor(3), event("ERROR again", "host-0", severity=3))
    bench.run()
    for _ in range(2):
        assert swept(bench) == {}
    assert len(bench.lane("minor")) == 3
    bench.check()


def test_a_swept_alert_rings(bench: Bench) -> None:
    bench.append(*minor(1))
    bench.run()
    lose(bench)
    bench.redis.delete("mutt:bell:alert_queue")
    bench.rung.clear()
    swept(bench)
    assert bench.rung == ["alert_queue"]


def test_an_alert_that_is_being_sent_or_was_sent_is_not_swept(bench: Bench) -> None:
    bench.append(*minor(2))
    bench.run()
    held = Held(bench.plain_lanes, "forward").take(1)
    assert held.entries
    assert swept(bench) == {}
    forward(bench)
    assert swept(bench) == {}, "its outcome waits to be recorded"
    record(bench)
    assert swept(bench) == {}
    assert len(bench.lane("minor")) == 1


def test_a_delivered_row_is_never_appended_again_though_redis_forgot_it(bench: Bench) -> None:
    bench.append(*minor(2))
    bench.run()
    forward(bench, 2)
    record(bench)
    bench.redis.flushall()
    assert swept(bench) == {}
    assert [alert.status for alert in bench.alerts()] == ["delivered"] * 2


@pytest.mark.parametrize("status", [Status.PARKED, Status.CANCELLED, Status.DROPPED])
def test_an_alert_that_came_to_another_end_is_not_swept(bench: Bench, status: Status) -> None:
    bench.append(*minor(1))
    bench.run()
    with bench.sql() as conn:
        conn.exec_driver_sql("UPDATE alerts SET status = %s", (str(status),))
    lose(bench)
    assert swept(bench) == {}


def test_an_alert_whose_commit_was_never_settled_is_sent_by_the_sweep_and_counted_by_its_entry(
    bench: Bench,
) -> None:
    bench.append(*minor(1))
    bench.evaluate(bench.take())  # and dies
    assert swept(bench) == {"minor": 1}
    forward(bench)
    record(bench)
    bench.held.settle(bench.evaluate(bench.take_over()))
    assert bench.lane("minor") == []
    assert alert_books(bench) == {"raised": 1, "delivered": 1}
    bench.check()


def test_many_lost_alerts_come_in_page_by_page(redis_url: str, database_url: str) -> None:
    with benches(redis_url, database_url) as (bench,):
        bench.append(*minor(SWEEP_BATCH + 30))
        bench.run()
        before = bench.lane("minor")
        lose(bench)
        s = bench.services
        placed = sweep(s.store, s.lanes, datetime.now(UTC) + LATER, s.settings.alert_queue_max)
        assert placed == {"minor": SWEEP_BATCH + 30}
        assert bench.lane("minor") == before


# ---- outside of full lanes


def outside(bench: Bench) -> dict[bytes, bytes]:
    return bench.redis.hgetall(names.OUTSIDE)


def test_beyond_its_limit_a_lane_takes_rows_only(bench: Bench) -> None:
    bench.append(*minor(QUEUE_MAX + 15))
    bench.run()
    assert len(bench.lane("minor")) == QUEUE_MAX
    assert outside(bench) == {b"minor": b"15"}
    assert alert_books(bench) == {"raised": 25, "waiting": 25}
    bench.check()


def test_a_critical_lane_has_no_limit(bench: Bench) -> None:
    bench.append(*[event("CRITICAL x", f"host-{n}") for n in range(QUEUE_MAX + 15)])
    bench.run()
    assert len(bench.lane("critical")) == QUEUE_MAX + 15
    assert outside(bench) == {}


def test_what_is_outside_comes_in_oldest_first_until_none_is_left(bench: Bench) -> None:
    sent = minor(QUEUE_MAX + 15)
    bench.append(*sent)
    bench.run()
    assert swept_now(bench) == {}, "the lane is still full"
    order = []
    for _ in range(20):
        order += forward(bench, 4)
        record(bench)
        swept_now(bench)
        assert len(bench.lane("minor")) <= QUEUE_MAX
    assert [alert.event_id for alert in order] == [one.event_id for one in sent]
    assert outside(bench) == {}
    assert alert_books(bench) == {"raised": 25, "delivered": 25}
    bench.check()


def test_while_some_are_outside_new_ones_wait_outside_too(bench: Bench) -> None:
    """Else a clear could overtake its raise."""
    sent = [*minor(QUEUE_MAX), event("ERROR down", "core-1", severity=3, clear_key="link:1")]
    bench.append(*sent)
    bench.run()
    forward(bench, 5)
    bench.append(clear("up", "core-1", clear_key="link:1"))
    bench.run()
    assert all(alert.hostname != "core-1" for alert in bench.lane("minor"))
    swept_now(bench)
    (raised,) = [alert for alert in bench.lane("minor") if alert.hostname == "core-1"]
    assert str(raised.state) == "raise"
    assert [str(alert.state) for alert in bench.behind(raised)] == ["clear"]
    assert outside(bench) == {}
    bench.check()


def test_a_clear_goes_after_its_raise_through_full_lanes_and_sweeps(bench: Bench) -> None:
    order: list[Alert] = []
    sent = []
    for n in range(60):
        host = f"host-{n % 6}"
        kind = event if (n // 6) % 2 == 0 else clear
        sent.append(kind(f"ERROR {n}", host, severity=3, clear_key="link:1"))
    filler = minor(QUEUE_MAX - 2)
    bench.append(*filler)
    for one in sent:
        bench.append(one)
        if len(order) % 3 == 0:
            bench.run()
        order += forward(bench, 1)
        record(bench)
        swept_now(bench)
    bench.run()
    for _ in range(60):
        order += forward(bench, 3)
        record(bench)
        swept_now(bench)
    for n in range(6):
        stamps = [alert.received_at for alert in order if alert.hostname == f"host-{n}" and alert.clear_key]
        assert len(stamps) == 10
        assert stamps == sorted(stamps)
    bench.check()


def test_an_alert_that_goes_outside_during_a_sweep_keeps_the_lanes_mark(bench: Bench) -> None:
    bench.append(*minor(QUEUE_MAX + 1))
    bench.run()
    forward(bench, 5)
    seen = bench.services.lanes.outside()
    bench.append(event("ERROR late", "late", severity=3))
    bench.run()
    bench.services.lanes.place([], seen)
    assert b"minor" in outside(bench)
    swept_now(bench)
    assert outside(bench) == {}
    assert len(bench.lane("minor")) == 7
    bench.check()
