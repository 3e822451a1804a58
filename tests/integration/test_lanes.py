"""Lanes on a real Redis: critical first, none starves, one signature in order and one at a time (P4)."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from mutt import codec, names
from mutt.alert import LANES, Alert, Status
from mutt.budget.arithmetic import Budget
from mutt.entry import Move, Part, leave_lane
from mutt.event import State
from mutt.moog.client import MoogClient
from mutt.moog.dialects import DIALECTS
from mutt.moogsim.script import Behaviour, Step
from mutt.moogsim.server import Simulator
from mutt.pipeline.forward import STRIKES
from mutt.settings import Settings
from mutt.streams.connect import connect
from mutt.streams.stream import Stream
from tests.forwarding import Works, alert, turns_until
from tests.waiting import wait_until


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def make(client):
    def works(budget=None, **how):
        made = Works(client, Budget(**({"limit": 1000, "period": 0.1} | (budget or {}))), patience=2.0, **how)
        made.lift_fence()
        return made

    return works


@pytest.fixture
def moog():
    with Simulator() as simulator:
        yield simulator


def next_alert(works, consumer="a") -> Alert | None:
    """Take the next alert, and finish it."""
    taken = works.take(consumer)
    return finish(works, taken, consumer) if taken.entries else None


def finish(works, taken, consumer="a") -> Alert:
    entry = taken.entries[0]
    found = entry.decode(Alert)
    move = Move(entry, {"alerts.waiting": -1, "alerts.delivered": 1}, [leave_lane(found)])
    assert works.held(consumer).settle([move]) == [True]
    return found


# Lanes:


def test_a_critical_alert_waits_for_one_turn_at_most_behind_a_backlog_of_minor_ones(make):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(30)))
    for n in range(5):
        assert next_alert(works).lane == "minor"
        works.raise_alerts(alert(n, lane="critical"))
        assert next_alert(works).lane == "critical"


def test_lanes_are_served_from_the_most_urgent_down(make):
    works = make()
    works.raise_alerts(*(alert(n, lane=lane) for lane in reversed(LANES) for n in range(2)))
    assert [next_alert(works).lane for _ in range(8)] == [lane for lane in LANES for _ in range(2)]


def test_every_twentieth_turn_serves_the_lowest_lane_that_waits(make):
    works = make()
    works.raise_alerts(*(alert(n, lane="critical") for n in range(60)), *(alert(n) for n in range(5)))
    works.raise_alerts(alert(lane="info"))
    lanes = [next_alert(works).lane for _ in range(60)]
    assert [(turn, lane) for turn, lane in enumerate(lanes, 1) if lane != "critical"] == [
        (20, "info"),
        (40, "minor"),
        (60, "minor"),
    ]


def test_every_lane_has_its_turns_while_all_wait(make):
    works = make()
    works.raise_alerts(*(alert(n, lane=lane) for lane in LANES for n in range(100)))
    turns = Counter(next_alert(works).lane for _ in range(80))
    assert turns == {"critical": 76, "major": 1, "minor": 1, "info": 2}


def test_a_critical_alert_waits_for_those_of_its_signature_and_not_for_their_lane(make):
    """What stands before it moves up with it, in order; later ones go by their own lane again."""
    works = make()
    works.raise_alerts(*(alert(n) for n in range(50)))
    works.raise_alerts(alert(1, signature="s"), alert(2, signature="s"))
    works.raise_alerts(alert(3, lane="critical", signature="s"), alert(4, signature="s", text="later"))
    assert [next_alert(works).description for _ in range(3)] == ["down 1", "down 2", "down 3"]
    assert [next_alert(works).description for _ in range(15)] == [f"down {n}" for n in range(15)]
    rest = [next_alert(works).description for _ in range(36)]
    assert rest == [*(f"down {n}" for n in range(15, 50)), "later 4"]
    works.assert_books(raised=54, delivered=54, waiting=0)
    works.assert_nothing_kept()


def test_an_alert_that_is_being_sent_does_not_move(make):
    works = make()
    works.raise_alerts(alert(1, signature="s"))
    taken = works.take("a")
    works.raise_alerts(alert(2, lane="critical", signature="s"))
    assert works.take("b").entries == [], "one at a time"
    finish(works, taken)
    assert next_alert(works).description == "down 2"
    works.assert_books(raised=2, delivered=2, waiting=0)
    works.assert_nothing_kept()


def test_what_is_behind_counts_as_standing_in_its_lane(make, client):
    """One chatty signature fills its lane like any others: the rest are rows alone."""
    works = make(queue_max=10)
    works.raise_alerts(*(alert(n, signature="s") for n in range(30)))
    assert client.xlen("mutt:alert_queue:minor") + client.llen(client.keys(names.BEHIND + "*")[0]) == 10
    assert client.hgetall(names.OUTSIDE) == {b"minor": b"20"}
    for n in range(10):
        assert next_alert(works).description == f"down {n}"
    assert client.hgetall(names.BEHIND_COUNTS) == {b"minor": b"0"}


def test_what_comes_back_after_an_outage_is_worked_in_whole_batches_before_what_is_new(make, client):
    queue = dataclasses.replace(names.queues(Settings.from_env({}))["ingest_queue"], claim=0.2)
    stream = Stream(client, queue, lambda *_, **__: None)
    part = Part([(1, ["v", b"1", "n", 1, "id", "", "d", b"x"], 1)] * 700)
    stream.append("one", [part], max_events=10_000, max_bytes=1 << 20)
    first = stream.take("a", 500).entries
    stream.release("a", first, 0.0)
    again = stream.take("a", 500).entries
    assert [entry.id for entry in again] == [entry.id for entry in first]


def test_a_batch_begins_at_the_most_urgent_lane_and_goes_on_below(make):
    works = make()
    works.raise_alerts(alert(lane="info"), alert(lane="critical"), alert(lane="minor"))
    taken = works.take(want=2)
    assert [entry.decode(Alert).lane for entry in taken.entries] == ["critical", "minor"]


def test_what_was_handed_back_is_first_in_its_lane_and_not_before_a_higher_one(make):
    works = make()
    works.raise_alerts(alert(1), alert(2))
    first = works.take()
    works.stream.release("a", first.entries, 0.0)
    works.raise_alerts(alert(3, lane="major"))
    assert [next_alert(works).description for _ in range(3)] == ["down 3", "down 1", "down 2"]


def test_what_is_due_again_counts_as_left(make):
    works, hasty = make(), make(claim=0.2)
    works.raise_alerts(*(alert(n) for n in range(4)))
    assert [works.take("dead").left for _ in range(4)] == [3, 2, 1, 0]
    time.sleep(0.25)
    assert hasty.take("b").left == 3, "so that the next forwarder comes at once, not with the tick"


# One signature:


def test_alerts_of_one_signature_are_in_a_lane_one_at_a_time_and_in_order(make, client):
    works = make()
    told = [alert(n, signature="s", state=[State.RAISE, State.CLEAR][n % 2]) for n in range(4)]
    works.raise_alerts(*told)
    assert client.xlen("mutt:alert_queue:minor") == 1
    for expected in told:
        taken = works.take()
        assert works.take("b").entries == [], "the next one is not in yet"
        assert finish(works, taken).alert_id == expected.alert_id
    works.assert_books(raised=4, delivered=4, waiting=0)
    works.assert_nothing_kept()


def test_a_more_urgent_alert_does_not_overtake_its_own_signature(make):
    works = make()
    works.raise_alerts(alert(1, signature="s"), alert(2, signature="s", lane="critical"))
    assert [next_alert(works).description for _ in range(2)] == ["down 1", "down 2"]


def test_an_alert_that_can_not_be_decoded_is_parked_and_those_behind_it_come_in(make, client, moog):
    works = make()
    works.raise_alerts(alert(1, signature="s"), alert(2, signature="s"), alert(3))
    damage(client, "down 1")
    forwarder = works.forwarder(moog.enterprise_url)
    turns_until(forwarder, lambda: len(moog.received) == 2)
    assert [b'"reason":"undecodable"' in fields[b"why"] for fields in works.letters()] == [True]
    assert {r.came.description for r in moog.received} == {"down 2", "down 3"}
    works.assert_books(raised=3, delivered=2, parked=1, waiting=0)
    works.assert_nothing_kept()


@pytest.mark.parametrize("garbage", [b"\xc1", b"no msgpack", b"\x81\xa2id\xa1x", b""])
def test_what_is_damaged_behind_an_alert_is_parked_and_those_before_and_after_it_are_delivered(
    make, client, moog, garbage
):
    works = make()
    told = [alert(n, signature="s") for n in range(3)]
    works.raise_alerts(*told)
    [behind] = client.keys(names.BEHIND + "*")
    client.lset(behind, 0, garbage)
    turns_until(works.forwarder(moog.enterprise_url), lambda: len(moog.received) == 2)
    assert [r.came.description for r in moog.received] == ["down 0", "down 2"]
    works.assert_books(raised=3, delivered=2, parked=1, waiting=0)
    assert b"damaged behind" in works.letters()[0][b"why"]


def test_an_entry_that_says_nothing_of_itself_is_parked_too(make, client, moog):
    works = make()
    works.raise_alerts(alert(1))
    client.xadd("mutt:alert_queue:critical", {"x": b"\xff"})
    client.xadd(
        "mutt:alert_queue:critical", {"v": "0", "id": b"\xff", "sig": b"\xfe", "n": "x", "d": b"\x00"}
    )
    turns_until(works.forwarder(moog.enterprise_url), lambda: moog.received)
    assert len(works.letters()) == 2
    assert client.xlen("mutt:alert_queue:critical") == 0


def damage(client, text: str) -> None:
    """Put an entry of the minor lane in again with its data cut short."""
    lane = "mutt:alert_queue:minor"
    for entry_id, fields in client.xrange(lane):
        if codec.decode(Alert, fields).description == text:
            client.xdel(lane, entry_id)
            client.xadd(lane, fields | {b"d": fields[b"d"][:20]})


# Holders that die, or come back late:


def test_a_holder_that_dies_with_an_alert_loses_it_to_another_after_the_claim(make, moog):
    works, hasty = make(), make(claim=0.3)
    told = alert(signature="s")
    works.raise_alerts(told)
    assert works.take("dead").entries
    assert works.forwarder(moog.enterprise_url, "alive").forward_turn().reason == "empty"
    turns_until(hasty.forwarder(moog.enterprise_url, "alive"), lambda: moog.received)
    assert moog.received[0].came.signature == "s"
    assert [outcome.alert.alert_id for outcome in works.outcomes()] == [told.alert_id]
    works.assert_books(raised=1, delivered=1, waiting=0)


def test_a_robbed_holder_that_comes_back_does_not_let_the_next_one_in(make):
    works, hasty = make(), make(claim=0.2)
    first, second = alert(1, signature="s"), alert(2, signature="s", state=State.CLEAR)
    works.raise_alerts(first, second)
    late = works.take("late")
    again = wait_until(lambda: taken if (taken := hasty.take("new")).entries else None)
    move = Move(late.entries[0], {"alerts.waiting": -1, "alerts.delivered": 1}, [leave_lane(first)])
    assert works.held("late").settle([move]) == [False]
    assert works.take("third").entries == [], "its raise is being sent once more: the clear waits"
    finish(works, again, "new")
    assert next_alert(works).alert_id == second.alert_id
    works.assert_books(raised=2, delivered=2, waiting=0)


def test_a_lost_group_loses_no_alert_and_settles_none_twice(make, client):
    works = make()
    works.raise_alerts(alert(1))
    held = works.take("old")
    client.xgroup_destroy("mutt:alert_queue:minor", names.GROUP)
    move = Move(held.entries[0], {"alerts.waiting": -1, "alerts.delivered": 1}, [])
    assert works.held("old").settle([move]) == [False]
    assert works.stream.release("old", held.entries, 0.0) == [0]
    assert next_alert(works, "new").description == "down 1"
    works.assert_books(raised=1, delivered=1, waiting=0)


# Many forwarders, and a Moog with moods:


class Watched:
    """The way to Moog, and how many alerts of one signature were ever on it at once."""

    def __init__(self, url: str) -> None:
        self._moog = MoogClient(url, DIALECTS["enterprise"], "", timeout=5.0)
        self._lock = threading.Lock()
        self._now: dict[str, int] = defaultdict(int)
        self.most = 0

    def send(self, alerts, permit):
        with self._lock:
            for one in alerts:
                self._now[one.signature] += 1
                self.most = max(self.most, self._now[one.signature])
        try:
            return self._moog.send(alerts, permit)
        finally:
            with self._lock:
                for one in alerts:
                    self._now[one.signature] -= 1


@pytest.mark.parametrize("batch", [1, 4])
def test_each_raise_comes_before_its_clear_under_many_forwarders(make, client, moog, batch):
    works = make({"threshold": 1000}, batch=batch)
    watched, states = Watched(moog.enterprise_url), [State.RAISE, State.CLEAR] * 3
    told = [alert(n, signature=f"s{s}", state=state) for s in range(10) for n, state in enumerate(states)]
    works.raise_alerts(*told)
    moods = (Behaviour.UNAVAILABLE, Behaviour.HANGUP_BEFORE, Behaviour.ERROR)
    # Fewer failures than park an alert, should chance give them all to one.
    moog.script.set(*(step for n in range(STRIKES) for step in (Step(times=4), Step(moods[n % 3], times=1))))

    def forward(n: int) -> None:
        forwarder = works.forwarder(watched, f"f{n}", dice=lambda: 0.02)
        turns_until(forwarder, lambda: len(works.outcomes()) == len(told), timeout=30)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(forward, range(6)))
    assert watched.most == 1
    order = defaultdict(list)
    for one in works.outcomes():
        order[one.alert.signature].append(one.alert.description)
    assert all(seen == [f"down {n}" for n in range(6)] for seen in order.values())
    for signature in order:
        taken = [r.came.description for r in moog.received if r.came.signature == signature and r.taken]
        assert taken == sorted(taken), "Moog saw them in order, repeats and all"
    assert {one.status for one in works.outcomes()} == {Status.DELIVERED}
    works.assert_books(raised=60, delivered=60, waiting=0, parked=0)
    works.assert_nothing_kept()
