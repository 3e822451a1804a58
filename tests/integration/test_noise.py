"""Noise control on real servers: what is held, what Moog is told of it, and what a clear cancels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from mutt import names
from mutt.alert import Alert, Outcome, Status, Told
from mutt.entry import Move, leave_lane, told_of
from mutt.entry import deliver as outcome_to
from mutt.event import Event
from mutt.pipeline.noise import work_due
from mutt.pipeline.record import sweep
from mutt.store.alerts import set_status
from mutt.store.tables import alert_rules, storm_policies
from mutt.streams import books
from mutt.streams.bound import Held
from tests.bench import Bench, benches, clear, event

START = datetime(2026, 3, 4, 22, 4, 11, tzinfo=UTC)


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    """Two workers, who cancel what a clear ended before it was sent."""
    with benches(redis_url, database_url, 2, cancel_cleared=True, evaluate_claim=60.0) as made:
        yield made


@pytest.fixture
def bench(pair: list[Bench]) -> Bench:
    return pair[0]


def limit(bench: Bench, **values: Any) -> None:
    """These bounds for the rules of the bench."""
    with bench.sql() as conn:
        conn.execute(update(alert_rules).values(values))


def watch(bench: Bench, **values: Any) -> None:
    """A storm policy: two alerts within a minute."""
    policy = {"name": "Core", "group_by": "host", "alert_count": 2, "alert_window": 60}
    with bench.sql() as conn:
        conn.execute(insert(storm_policies).values(policy | values))


def down(second: float = 0, host: str = "core-1", **fields: Any) -> Event:
    at = START + timedelta(seconds=second)
    told = {"clear_key": "link:7", "received_at": at}
    return event("LINK-DOWN Te0/7", host, **(told | fields))


def up(second: float = 0, host: str = "core-1", **fields: Any) -> Event:
    at = START + timedelta(seconds=second)
    told = {"clear_key": "link:7", "received_at": at}
    return clear("Te0/7 is up", host, **(told | fields))


def work(bench: Bench, *events: Event) -> None:
    bench.append(*events)
    bench.run()


def ends(bench: Bench) -> list[str]:
    """How each alert stands, in the order of their events: waiting, delivered, or why it is held."""
    bench.record()
    return [row.reason if row.status == "cancelled" else row.status for row in bench.alerts()]


def deliver(bench: Bench) -> list[Alert]:
    """What Moog is told now: all that stands in the lanes, taken and delivered."""
    held, told = Held(bench.plain_lanes, "forward"), []
    while entries := held.take(1).entries:
        alert = entries[0].decode(Alert)
        outcome = Outcome(alert=alert, status=Status.DELIVERED, attempts=1, at=datetime.now(UTC))
        counts = {"alerts.waiting": -1, "alerts.delivered": 1}
        move = Move(entries[0], counts, [leave_lane(alert), outcome_to(outcome)])
        assert bench.services.alert_stream.settle([move]) == [True]
        told.append(told_of(entries[0], alert))
    return told


def due(bench: Bench, after: float = 0) -> dict[str, int]:
    """What the tick's task does in so many seconds."""
    s = bench.services
    return work_due(s.due, s.store, s.lanes.release_held, datetime.now(UTC) + timedelta(seconds=after))


def ledger(bench: Bench) -> dict[str, int]:
    return {name: n for name, n in books.read(bench.redis).alerts.items() if n}


# ---- repeats


def test_a_repeat_is_counted_and_the_next_one_sent_says_so(bench: Bench) -> None:
    """Repeats within the window are held; the first after it tells Moog how many there were, and since when."""
    limit(bench, dedup_window=60)
    work(bench, down(0))
    work(bench, *(down(second) for second in range(1, 18)))
    assert [type(one) for one in deliver(bench)] == [Alert]
    work(bench, down(60))
    assert ends(bench) == ["delivered", *["dedup"] * 17, "waiting"]
    [told] = deliver(bench)
    assert isinstance(told, Told)
    assert (told.repeats, told.repeats_since) == (17, START + timedelta(seconds=1))
    assert told.description == "LINK-DOWN Te0/7 (17 more since 22:04:12)"
    bench.check()


def test_the_count_is_kept_behind_another_and_when_it_is_lifted(bench: Bench) -> None:
    """What stands behind an alert of its signature, and moves to a more urgent lane, keeps its count."""
    limit(bench, dedup_window=10, match_string="LINK-DOWN")
    with bench.sql() as conn:
        conn.execute(update(alert_rules).values(moog_severity=None))
    work(
        bench, down(0, severity=4), down(1, severity=4), down(10, severity=4), down(12), down(20, severity=1)
    )
    assert [getattr(one, "repeats", 0) for one in deliver(bench)] == [0, 1, 1]
    bench.check()


def test_a_clear_ends_the_window_of_repeats(bench: Bench) -> None:
    """A raise after the clear is sent, however soon; the clear carries the count."""
    limit(bench, dedup_window=3600)
    work(bench, down(0), down(1))
    deliver(bench)
    work(bench, up(2), down(3))
    assert [(one.severity == 0, getattr(one, "repeats", 0)) for one in deliver(bench)] == [
        (True, 1),
        (False, 0),
    ]
    assert ends(bench) == ["delivered", "dedup", "delivered", "delivered"]
    bench.check()


def test_fewer_than_the_threshold_are_held(bench: Bench) -> None:
    """The third within the window is sent with the number of those before it, and counting begins anew."""
    limit(bench, threshold_count=3, threshold_window=10)
    work(bench, *(down(second) for second in (0, 20, 25, 29, 30, 31, 32)))
    assert ends(bench) == [
        "threshold",
        "threshold",
        "threshold",
        "waiting",
        "threshold",
        "threshold",
        "waiting",
    ]
    assert [getattr(one, "repeats", 0) for one in deliver(bench)] == [3, 2]
    bench.check()


def test_a_settle_after_a_death_decides_as_the_first_would_have(pair: list[Bench]) -> None:
    """Committed by one worker that dies, settled by another: each alert is counted once."""
    one, two = pair
    limit(one, dedup_window=60)
    one.append(down(0), down(1), down(2))
    dead = one.evaluate(one.take())
    two.held.settle(two.evaluate(two.take_over()))
    assert one.held.settle(dead) == [False]
    assert ends(two) == ["waiting", "dedup", "dedup"]
    work(two, down(60))
    assert [getattr(told, "repeats", 0) for told in deliver(two)] == [0, 2]
    two.check()


def test_without_room_to_remember_alerts_are_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory of signatures holds nobody back."""
    limit(bench, dedup_window=60)
    bench.redis.zadd(names.NOISE_KEPT, {f"k{n}": 1e15 for n in range(200_000)})
    work(bench, down(0), down(1))
    assert ends(bench) == ["waiting", "waiting"]
    assert not bench.redis.keys(names.NOISE_OF + "*")


def test_an_alert_without_bounds_costs_no_command_more(bench: Bench) -> None:
    """Where no rule has bounds and there is no policy, nothing of noise control is asked or kept."""
    work(bench, down(0))
    before = bench.redis.info("commandstats")
    work(bench, down(1))
    after = bench.redis.info("commandstats")
    assert not bench.redis.keys("mutt:noise:*")
    for command in ("cmdstat_zadd", "cmdstat_zremrangebyscore", "cmdstat_time"):
        assert after.get(command) == before.get(command)


# ---- storms


def test_a_storm_is_one_summary_that_is_told_again_when_it_ends(bench: Bench) -> None:
    """The alerts over the count are held; Moog gets one alert of the storm, under one signature to its end."""
    watch(bench)
    work(
        bench,
        down(0),
        down(1, clear_key="link:8"),
        down(2),
        event("CRITICAL disk", received_at=START + timedelta(seconds=3)),
    )
    assert ends(bench) == ["waiting", "waiting", "storm:1", "storm:1"]
    assert due(bench) == {"storms": 1}
    assert due(bench) == {}
    bench.run()
    work(bench, down(4))
    assert due(bench, 61) == {"storms": 1}
    assert due(bench, 200) == {}
    bench.run()
    told = [one for one in deliver(bench) if one.type == "storm"]
    assert [one.signature for one in told] == [told[0].signature] * 2
    assert told[0].hostname == "core-1" and told[0].severity == 5
    assert told[0].description.startswith(
        "Storm: Core, host core-1: 2 alerts held from 2026-03-04 22:04:13 to 22:04:14 UTC, the worst critical; "
        "most of them: core-1 "
    )
    assert told[1].description.startswith("Storm is over: Core, host core-1: 3 alerts held")
    assert bench.redis.zcard(names.NOISE_DUE) == 0
    bench.check()


def test_a_storm_that_goes_on_is_told_each_window(bench: Bench) -> None:
    """While alerts keep coming, an update is told once a window, and none where nothing was added."""
    watch(bench, alert_window=3600)
    work(bench, *(down(second) for second in range(4)))
    assert due(bench) == {"storms": 1}
    work(bench, down(5))
    assert due(bench, 60) == {}
    bench.redis.zadd(names.NOISE_DUE, {bench.redis.zrange(names.NOISE_DUE, 0, 0)[0]: 0})
    assert due(bench, 1800) == {"storms": 1}
    bench.redis.zadd(names.NOISE_DUE, {bench.redis.zrange(names.NOISE_DUE, 0, 0)[0]: 0})
    assert due(bench, 1900) == {}
    assert [storm.count for storm in bench.services.due.storms()] == [3]


def test_other_keys_and_hosts_outside_the_scope_have_no_part_in_a_storm(bench: Bench) -> None:
    """A policy's scope and key tell alerts apart."""
    watch(bench, group_by="tags.site", hostname="core-*")
    ours = [down(n, tags={"site": "north"}, clear_key=f"l{n}") for n in range(3)]
    others = [down(10 + n, "edge-1", tags={"site": "north"}) for n in range(3)]
    without = [down(20 + n, "core-2") for n in range(3)]
    work(bench, *ours, *others, *without)
    assert ends(bench) == ["waiting", "waiting", "storm:1", *["waiting"] * 6]


# ---- flapping


def test_what_flaps_is_held_and_its_last_word_is_sent_when_it_rests(bench: Bench) -> None:
    """More changes than the bound hold all further ones; when none came for a window, Moog gets the last state."""
    limit(bench, flap_count=2, flap_window=60)
    work(bench, down(0))
    deliver(bench)
    for second in (1, 3, 5):
        work(bench, up(second))
        work(bench, down(second + 1))
        deliver(bench)
    work(bench, up(7))
    assert deliver(bench) == []
    assert ends(bench) == ["delivered", "delivered", "delivered", *["flapping"] * 5]
    assert due(bench) == {"rested": 1}
    assert due(bench, 3600) == {}
    [last] = deliver(bench)
    assert (last.severity, last.received_at) == (0, START + timedelta(seconds=7))
    assert ends(bench)[-1] == "delivered"
    bench.check()


def test_what_rests_as_moog_knows_it_is_not_sent_again(bench: Bench) -> None:
    """Moog was told of the raise last, and a raise is how it rests: nothing is sent."""
    limit(bench, flap_count=2, flap_window=60)
    for second in (0, 2, 4):
        work(bench, down(second))
        deliver(bench)
        work(bench, up(second + 1))
        deliver(bench)
    work(bench, down(6))
    held = ends(bench)
    assert held[-2:] == ["flapping", "flapping"]
    # The last that went through was a raise.
    assert bench.alerts()[[*held].index("flapping") - 1].state == "raise"
    assert due(bench) == {}
    assert deliver(bench) == []
    bench.check()


def test_a_last_word_outlives_an_outage_of_those_who_send_it(bench: Bench) -> None:
    """What is owed to Moog stands for a day; what is not, for twice the window and ten minutes."""
    limit(bench, flap_count=2, flap_window=60)
    work(bench, down(0))
    [key] = bench.redis.keys("mutt:noise:of:*")
    assert bench.redis.pttl(key) <= 720_000
    for second in (2, 4, 6):
        work(bench, up(second))
        work(bench, down(second + 1))
        deliver(bench)
    assert bench.redis.pttl(key) > 86_400_000
    assert bench.redis.zscore(names.NOISE_KEPT, key) > datetime.now(UTC).timestamp() * 1000 + 86_400_000


def test_a_rest_waits_until_its_being_held_is_written(bench: Bench) -> None:
    """Where the note still waits in the delivery queue, the last word is sent after it, once."""
    limit(bench, flap_count=2, flap_window=60)
    for second in (0, 2, 4):
        work(bench, down(second))
        deliver(bench)
        work(bench, up(second + 1))
        deliver(bench)
    assert due(bench) == {}
    bench.record()
    assert due(bench, 2) == {"rested": 1}
    assert len(deliver(bench)) == 1
    bench.check()


# ---- clears that cancel


def test_a_clear_of_an_unsent_raise_cancels_both(bench: Bench) -> None:
    """What came and went before Moog heard of it is not sent."""
    work(bench, down(0), up(1))
    assert ends(bench) == ["cleared", "cleared"]
    assert deliver(bench) == []
    assert ledger(bench) == {"raised": 2, "cancelled": 2}
    bench.check()


def test_a_clear_cancels_raises_that_stand_behind_each_other(bench: Bench) -> None:
    """All raises that it ends, in a lane and behind, and the next of the signature comes in."""
    work(bench, down(0), down(1), down(2))
    work(bench, down(3, clear_key="link:9"))
    work(bench, up(4))
    assert ends(bench) == ["cleared", "cleared", "cleared", "waiting", "cleared"]
    assert [one.received_at for one in deliver(bench)] == [START + timedelta(seconds=3)]
    for key in (names.HOLDERS, names.LIFTED):
        assert bench.redis.hgetall(key) == {}
    assert set(bench.redis.hvals(names.BEHIND_COUNTS)) <= {b"0"}
    bench.check()


@pytest.mark.parametrize("first", ["taken", "handed back", "delivered", "lost", "swept", "parked"])
def test_a_clear_is_sent_where_moog_may_have_heard_of_the_raise(bench: Bench, first: str) -> None:
    """In work, tried, delivered, or nobody can tell: Moog gets the clear."""
    work(bench, down(0))
    held = Held(bench.plain_lanes, "forward")
    if first == "delivered":
        deliver(bench)
    elif first in ("lost", "swept"):
        bench.redis.delete(*names.LANE_STREAMS, names.STANDING, names.HOLDERS)
        if first == "swept":
            later = datetime.now(UTC) + timedelta(hours=1)
            sweep(bench.services.store, bench.services.lanes, later, 1000)
    else:
        entries = held.take(1).entries
        if first == "handed back":
            held.release(entries, 0.0)
    if first == "parked":
        with bench.sql() as conn:
            set_status(conn, [bench.alerts()[0].alert_id], Status.PARKED, "refused")
    work(bench, up(1))
    assert ends(bench)[1] == "waiting"
    assert ledger(bench).get("cancelled", 0) == 0


def test_a_clear_of_several_is_sent_if_moog_got_one(bench: Bench) -> None:
    """The first raise was delivered, the second waits: the clear ends both at Moog."""
    work(bench, down(0))
    deliver(bench)
    work(bench, down(1), up(2))
    assert [one.severity == 0 for one in deliver(bench)] == [False, True]
    bench.check()


def test_a_clear_of_a_held_raise_is_not_sent(bench: Bench) -> None:
    """Moog never heard of the raise, before and after its being held is written."""
    limit(bench, threshold_count=9, threshold_window=60)
    work(bench, down(0), up(1))
    work(bench, down(2))
    assert ends(bench) == ["threshold", "cleared", "threshold"]
    work(bench, up(3))
    assert ends(bench) == ["threshold", "cleared", "threshold", "cleared"]
    bench.check()


def test_a_clear_that_was_committed_by_a_dead_worker_is_sent(pair: list[Bench]) -> None:
    """What is read back says nothing of what the clear ends: then both are sent, in order."""
    one, two = pair
    one.append(down(0), up(1))
    one.evaluate(one.take())
    two.held.settle(two.evaluate(two.take_over()))
    assert [told.severity == 0 for told in deliver(two)] == [False, True]
    assert ends(two) == ["delivered", "delivered"]
    two.check()


def test_a_clear_whose_raise_another_worker_has_not_settled_goes_after_it(pair: list[Bench]) -> None:
    """The raise is committed and not settled when its clear is: both go to Moog in order, each once."""
    one, two = pair
    one.append(down(0))
    one.append(up(1))
    first, second = one.take(1), two.take(1)
    slow = one.evaluate(first)
    two.held.settle(two.evaluate(second))
    assert one.held.settle(slow) == [True]
    assert [told.severity == 0 for told in deliver(two)] == [False, True]
    assert ledger(two) == {"raised": 2, "delivered": 2}
    two.record()
    two.check()


def test_the_sweep_leaves_alone_what_was_cancelled(bench: Bench) -> None:
    """Before and after the note is written, nothing comes in again."""
    work(bench, down(0), up(1))
    for _ in range(2):
        later = datetime.now(UTC) + timedelta(hours=1)
        assert sweep(bench.services.store, bench.services.lanes, later, 1000) == {}
        bench.record()
    bench.check()


@pytest.mark.parametrize("after", ["at once", "recorded", "forgotten"])
def test_a_clear_is_sent_where_the_clear_of_an_earlier_raise_was_held(bench: Bench, after: str) -> None:
    """Moog shows a raise whose clear flapped, and so did the next raise: the next clear is sent, whenever it comes."""
    limit(bench, flap_count=2, flap_window=60)
    for second in (0, 2, 4):
        work(bench, down(second))
        deliver(bench)
        work(bench, up(second + 1))
        deliver(bench)
    work(bench, down(6))
    if after != "at once":
        bench.record()
    if after == "forgotten":
        bench.redis.delete(*bench.redis.keys("mutt:noise:*"))
    work(bench, up(90_000))
    assert [one.severity for one in deliver(bench)] == [0]
    bench.check()


def test_a_clear_is_sent_where_moog_shows_a_raise_of_another_key(bench: Bench) -> None:
    """A raise is held as a repeat of one with another clear key: its clear ends at Moog what shows there."""
    limit(bench, dedup_window=60)
    work(bench, down(0, clear_key="link:9"))
    deliver(bench)
    work(bench, down(1), up(2))
    assert [one.severity for one in deliver(bench)] == [0]
    bench.check()


def test_a_raise_after_one_that_a_clear_of_another_rule_cancelled_is_no_repeat(bench: Bench) -> None:
    """Two rules raise one fault, and its clear cancels both: Moog hears of the next one of either."""
    limit(bench, dedup_window=60)
    work(bench, down(0))
    work(bench, event("CRITICAL Te0/7", clear_key="link:7", received_at=START + timedelta(seconds=1)))
    work(bench, up(2))
    assert ends(bench) == ["cleared"] * 3
    work(bench, down(3))
    assert [one.received_at for one in deliver(bench)] == [START + timedelta(seconds=3)]
    bench.check()
