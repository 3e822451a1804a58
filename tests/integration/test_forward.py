"""Forward against the simulator and a real Redis: the budget under storm (P3), outages, and the one bad alert (P7)."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import redis

from mutt import names
from mutt.alert import Status
from mutt.budget.arithmetic import Budget
from mutt.moog.client import MoogClient
from mutt.moog.connection import Exchange
from mutt.moog.dialects import DIALECTS
from mutt.moog.outcome import Reason
from mutt.moogsim.book import most_in_window
from mutt.moogsim.script import MARKER, Behaviour, Step
from mutt.moogsim.server import Simulator
from mutt.pipeline.forward import STRIKES, result_of
from mutt.streams.bound import Held
from mutt.streams.connect import connect
from tests.forwarding import Works, alert, turns_until
from tests.waiting import wait_until


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def make(client):
    """Makes works over one Redis; a short period, so that waits are short, and permits that a busy machine can use."""

    def works(*, limit=100, period=0.1, threshold=10, timeout=0.3, patience=2.0, **how):
        budget = Budget(limit=limit, period=period, threshold=threshold, timeout=timeout, deadline=5.0)
        made = Works(client, budget, patience=patience, **how)
        made.lift_fence()
        return made

    return works


@pytest.fixture
def moog():
    with Simulator() as simulator:
        yield simulator


def breaker(client) -> tuple[str, str]:
    state, reason = client.hmget(names.BREAKER, "state", "reason")
    return (state or b"closed").decode(), (reason or b"").decode()


# P3:


def test_no_window_of_the_period_holds_more_starts_than_the_limit(redis_url, moog):
    """Six forwarders with their own connections storm a quick Moog. That they use the budget is measured elsewhere,
    where nobody else takes the processor (``tests/acceptance/test_promises.py``)."""
    limit, period, lasts = 20, 1.0, 5.0
    budget = Budget(limit=limit, period=period)
    with connect(redis_url) as client:
        Works(client, budget).raise_alerts(*(alert(n) for n in range(400)))
    began: list[float] = []
    ends = time.monotonic() + lasts + budget.fence

    def forward(n: int) -> None:
        with connect(redis_url) as own:
            forwarder = Works(own, budget).forwarder(
                moog.enterprise_url,
                f"f{n}",
                noted=lambda answer, *_: began.append(answer.started_at or math.nan),
            )
            while time.monotonic() < ends:
                forwarder.forward_turn()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(forward, range(6)))
    sent = sorted(at for at in began if not math.isnan(at))
    assert len(sent) == len(moog.starts) > 0
    assert most_in_window(sent, period) <= limit
    # On a busy machine Moog reads late, and some requests later than others.
    late = max(read - start for start, read in zip(sent, moog.starts, strict=True))
    assert most_in_window(moog.starts, max(1e-6, period - late)) <= limit


def test_a_redis_that_can_not_be_asked_sends_nothing(own_redis, moog):
    with connect(own_redis.url, timeout=0.5) as client:
        works = Works(client, Budget(period=0.1), patience=2.0)
        works.lift_fence()
        works.raise_alerts(alert(), alert())
        forwarder = works.forwarder(moog.enterprise_url)
        own_redis.kill()
        with pytest.raises(redis.RedisError):
            forwarder.forward_turn()
        assert moog.starts == []
        own_redis.start()
        before = time.monotonic()
        turns_until(forwarder, lambda: len(moog.received) == 2)
        assert moog.starts[0] - before >= 0.125, "nothing for one window after the restart"
        works.assert_books(raised=2, delivered=2, waiting=0)


def test_a_redis_that_is_full_drains_towards_moog(own_redis, moog):
    with connect(own_redis.url) as client:
        works = Works(client, Budget(period=0.1), patience=2.0)
        works.lift_fence()
        works.raise_alerts(*(alert(n) for n in range(4)), *(alert(n, signature="s") for n in range(2)))
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("more", "1")
        turns_until(works.forwarder(moog.enterprise_url), lambda: len(works.outcomes()) == 6)
        works.assert_books(raised=6, delivered=6, waiting=0)


class Around:
    """Moog's client, with what is done before each request and behind its answer."""

    def __init__(self, moog, *, before=lambda: None, behind=lambda: None):
        self._client = MoogClient(moog.enterprise_url, DIALECTS["enterprise"], "", timeout=5.0)
        self._before, self._behind = before, behind

    def send(self, alerts, permit):
        self._before()
        answer = self._client.send(alerts, permit)
        self._behind()
        return answer


class Grants:
    """When the gate granted each request, by Redis' clock: that stands, however late Moog reads it."""

    def __init__(self):
        self.times: list[float] = []

    def note(self, _alerts, token, *_):
        self.times.append(int(token.rpartition("-")[2]) / 1e6)


class Delays(Held):
    """The lanes, and for how long what failed was handed back."""

    def __init__(self, *args, **how):
        super().__init__(*args, **how)
        self.delays: list[float] = []

    def release(self, entries, delay, **how):
        self.delays.append(delay)
        return super().release(entries, delay, **how)


class Slow(Held):
    """The lanes behind a slow network: the answer to a take comes late."""

    late = 0.0

    def take(self, *args, **how):
        taken = super().take(*args, **how)
        time.sleep(self.late if taken.entries else 0.0)
        return taken


def test_a_permit_that_came_too_late_sends_nothing_and_the_alert_stays(make, moog):
    works = make(patience=0.2)
    told = alert()
    works.raise_alerts(told)
    lanes = Slow(works.stream, "a", budgeted=True)
    lanes.late = works.patience + 0.01
    forwarder = works.forwarder(moog.enterprise_url, lanes=lanes)
    late = forwarder.forward_turn()
    assert (late.reason, late.returned, late.first_bytes) == (Reason.EXPIRED, [str(told.alert_id)], [])
    assert moog.starts == []
    works.assert_books(raised=1, waiting=1)
    lanes.late = 0.0
    turns_until(forwarder, lambda: moog.received)
    assert works.outcomes()[0].attempts == 1, "what was not sent is no attempt"


def test_a_redis_that_answers_later_than_a_permit_lives_costs_throughput_not_the_bound(client, moog):
    works = Works(client, Budget(limit=5, period=0.5))
    works.lift_fence()
    works.raise_alerts(*(alert(n) for n in range(12)))
    began: list[float] = []
    lanes = Slow(works.stream, "a", budgeted=True)
    lanes.late = 0.06
    forwarder = works.forwarder(
        moog.enterprise_url,
        lanes=lanes,
        noted=lambda answer, *_: began.append(answer.started_at) if answer.started_at else None,
    )
    turns = turns_until(forwarder, lambda: len(moog.received) == 12)
    assert turns[0].reason == Reason.EXPIRED
    assert most_in_window(began, 0.5) <= 5
    works.assert_books(raised=12, delivered=12, waiting=0)


def test_moog_that_can_not_be_connected_to_is_an_outage_and_nothing_is_parked(make, client, moog):
    works = make(threshold=3, claim=0.05)
    works.raise_alerts(*(alert(n) for n in range(4)))
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
    moog.stop()
    turns_until(forwarder, lambda: breaker(client) == ("open", "connection"))
    moog.start()
    turns_until(forwarder, lambda: len(works.outcomes()) == 4)
    works.assert_books(raised=4, delivered=4, parked=0, waiting=0)


# The breaker:


def test_an_outage_of_many_attempts_parks_nothing_and_ends_by_itself(make, client, moog):
    works = make(threshold=4, timeout=0.05, claim=0.05)
    works.raise_alerts(*(alert(n) for n in range(3)))
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
    moog.behave("503")
    turns_until(forwarder, lambda: len(moog.starts) >= 20, timeout=20)
    assert breaker(client)[1] == "http_5xx"
    works.assert_books(raised=3, waiting=3, parked=0)
    moog.behave("ok")
    turns_until(forwarder, lambda: len(works.outcomes()) == 3)
    assert breaker(client) == ("closed", "")
    assert min(outcome.attempts for outcome in works.outcomes()) > STRIKES
    works.assert_books(raised=3, delivered=3, waiting=0, parked=0)
    works.assert_nothing_kept()


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("401", "auth"), ("403", "auth"), ("404", "config"), ("redirect", "redirect")]
)
def test_a_wrong_key_or_address_opens_the_breaker_at_once_and_parks_nothing(
    make, client, moog, behaviour, reason
):
    works = make(timeout=0.2)
    works.raise_alerts(*(alert(n) for n in range(3)))
    forwarder = works.forwarder(moog.enterprise_url)
    moog.behave(behaviour)
    turn = forwarder.forward_turn()
    assert (turn.reason, turn.parked) == (reason, [])
    assert breaker(client) == ("open", reason)
    assert forwarder.forward_turn().reason in ("breaker", reason), "slept, and probed once more"
    moog.behave("ok")
    turns_until(forwarder, lambda: len(works.outcomes()) == 3)
    assert breaker(client) == ("closed", "")
    works.assert_books(raised=3, delivered=3, parked=0, waiting=0)


def test_half_open_sends_one_request_of_many_forwarders(make, client, moog):
    works = make(threshold=1, timeout=0.2)
    works.raise_alerts(*(alert(n) for n in range(12)))
    moog.script.set(Step(Behaviour.ERROR, times=1))
    works.forwarder(moog.enterprise_url).forward_turn()
    assert breaker(client)[0] == "open"
    asked = threading.Event()
    patient = Around(moog, behind=lambda: asked.wait(10))  # its answer comes when all the others have asked
    forwarders = [works.forwarder(patient, f"f{n}") for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(forwarder.forward_turn) for forwarder in forwarders]
        wait_until(lambda: sum(future.done() for future in running) == 5)
        assert breaker(client)[0] == "half_open"
        asked.set()
        turns = [future.result() for future in running]
    assert len(moog.starts) == 2
    assert sorted(turn.reason for turn in turns) == ["ok"] + ["probing"] * 5
    assert breaker(client)[0] == "closed"


def test_a_long_wait_hushes_the_bell_and_ends_the_turn_with_the_reason(make, client, moog):
    works = make(threshold=1, timeout=1.95)
    works.raise_alerts(alert(), alert())
    moog.behave("500")
    slept: list[float] = []
    forwarder = works.forwarder(moog.enterprise_url, sleep=slept.append)
    forwarder.forward_turn()
    turn = forwarder.forward_turn()
    assert (turn.reason, turn.requests, turn.waited_s, slept) == ("breaker", 0, 0.0, [])
    assert 0 < client.pttl(works.queue.bell) <= 1950
    client.hset(names.BREAKER, "pause_until", (int(time.time()) + 100) * 1_000_000)
    assert forwarder.forward_turn().reason == "paused"
    assert 0 < client.pttl(works.queue.bell) <= 2000, "never for more than two seconds"
    assert result_of(turn) == {"reason": "breaker"}


def test_a_wait_of_up_to_a_second_is_slept_through(make, moog):
    works = make(limit=1, period=0.9)
    works.raise_alerts(alert(), alert())
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds)

    forwarder = works.forwarder(moog.enterprise_url, sleep=sleep)
    first, second = forwarder.forward_turn(), forwarder.forward_turn()
    assert (first.waited_s, len(first.delivered), len(second.delivered)) == (0.0, 1, 1)
    assert 0 < second.waited_s == sum(slept) < 1


def test_the_successor_is_rung_before_the_post(make, client, moog):
    works = make()
    works.raise_alerts(alert(), alert())
    works.rung.clear()
    before: list[str] = []
    around = Around(moog, before=lambda: before.extend(works.rung))
    assert works.forwarder(around).forward_turn().requests == 1
    assert before == ["alert_queue"]


def test_what_comes_while_the_last_alert_is_sent_rings(make, client, moog):
    works = make()
    works.raise_alerts(alert(1, signature="s"), alert(2, signature="s"))
    works.rung.clear()
    works.forwarder(moog.enterprise_url).forward_turn()
    assert "alert_queue" in works.rung, "the alert that was behind the first came in"


def test_a_turn_of_several_requests_has_a_permit_for_each_and_rings_once(make, client, moog):
    works = make(limit=2, period=0.3, turn=5)
    works.raise_alerts(*(alert(n) for n in range(8)))
    works.rung.clear()
    grants = Grants()
    turn = works.forwarder(moog.enterprise_url, traced=grants.note).forward_turn()
    assert (turn.requests, len(turn.delivered)) == (5, 5)
    assert works.rung.count("alert_queue") == 1
    assert int(client.hget(names.BREAKER, "granted")) == len(grants.times) == 5
    assert most_in_window(grants.times, 0.3) <= 2


def test_a_turn_of_several_starts_again_at_the_highest_lane(make, moog):
    works = make(turn=3)
    works.raise_alerts(*(alert(n) for n in range(3)))
    late = [alert(9, lane="critical")]

    def meanwhile() -> None:
        if late:
            works.raise_alerts(late.pop())

    works.forwarder(Around(moog, behind=meanwhile)).forward_turn()
    assert [r.came.severity for r in moog.received] == [3, 5, 3]


# Later, and the one bad alert:


def test_an_alert_that_is_always_throttled_lets_the_others_pass(make, moog):
    """Everyone pauses after each 429, and then it is not the first again."""
    moog.script.set(*[Step(Behaviour.THROTTLED, times=1, retry_after=0.05)] * 2)
    works = make(claim=1.0)
    works.raise_alerts(alert(text="bad", lane="critical"), *(alert(n, lane="critical") for n in range(3)))
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 1.0)
    turns_until(forwarder, lambda: moog.book.stats()["taken"] == 4)
    came = [one.came.description for one in moog.received]
    assert came[0] == "bad 0"
    assert came[2:4] != ["bad 0"] * 2
    works.assert_books(raised=4, delivered=4, waiting=0)


def test_a_429_pauses_everyone_for_as_long_as_moog_asks(make, moog):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(4)))
    moog.script.set(Step(Behaviour.THROTTLED, times=1, retry_after=0.6))
    first, second = (works.forwarder(moog.enterprise_url, name) for name in "ab")
    turn = first.forward_turn()
    assert (turn.reason, len(turn.returned)) == ("http_429", 1)
    turns_until(second, lambda: len(works.outcomes()) == 4)
    assert moog.starts[1] - moog.starts[0] >= 0.6
    works.assert_books(raised=4, delivered=4, parked=0, waiting=0)


@pytest.mark.parametrize("behaviour", ["500", "503", "hangup_before"])
def test_a_failure_is_tried_again_after_full_jitter_of_at_most_the_claim(make, moog, behaviour):
    works = make(claim=0.4)
    told = alert(signature="s")
    works.raise_alerts(told)
    moog.script.set(Step(Behaviour(behaviour), times=2))
    lanes = Delays(works.stream, "a", budgeted=True)
    forwarder = works.forwarder(moog.enterprise_url, lanes=lanes, dice=lambda: 0.5)
    turns_until(forwarder, lambda: works.outcomes())
    gaps = [b - a for a, b in zip(moog.starts, moog.starts[1:], strict=False)]
    assert lanes.delays == [0.2, 0.2]
    assert all(gap >= 0.2 for gap in gaps), gaps
    assert {r.came.signature for r in moog.received} == {"s"}
    assert works.outcomes()[0].attempts == 3


def test_an_answer_that_does_not_come_in_time_is_tried_again(make, moog):
    works = make(claim=0.1)
    works.raise_alerts(alert())
    moog.script.set(Step(Behaviour.DRIP, times=1, delay=0.2))
    forwarder = works.forwarder(moog.enterprise_url, timeout=0.3, dice=lambda: 0.0)
    turns = turns_until(forwarder, lambda: works.outcomes())
    assert turns[0].reason == "timeout"
    works.assert_books(raised=1, delivered=1, waiting=0)


def test_an_alert_that_has_lost_two_holders_goes_alone(make, moog):
    works = make(claim=0.1, batch=3)
    works.raise_alerts(alert(0))
    for _ in range(2):
        wait_until(lambda: works.take("dead").entries)
    works.raise_alerts(alert(1), alert(2))
    time.sleep(0.1)
    turns_until(works.forwarder(moog.enterprise_url), lambda: len(works.outcomes()) == 3)
    requests = [r.request for r in moog.received if r.came.description == "down 0"]
    assert [r.came.description for r in moog.received if r.request in requests] == ["down 0"]


@pytest.mark.parametrize("batch", [1, 8])
def test_one_alert_that_always_fails_among_others_is_parked_after_five_strikes(make, moog, batch):
    works = make(threshold=1000, claim=0.2, batch=batch)
    bad = alert(0, text=MARKER)
    works.raise_alerts(bad, *(alert(n) for n in range(1, 8)))
    moog.behave("fail_marked")
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.2)

    def done() -> bool:
        works.raise_alerts(alert(100, lane="info"))
        return bool(works.letters())

    turns_until(forwarder, done)
    turns_until(forwarder, lambda: not works.stream.size())
    parked = [outcome for outcome in works.outcomes() if outcome.status is not Status.DELIVERED]
    assert [(outcome.alert.alert_id, outcome.status) for outcome in parked] == [(bad.alert_id, Status.PARKED)]
    assert parked[0].attempts > STRIKES, "the first failure shows nothing yet"
    assert b'"reason":"http_5xx"' in works.letters()[0][b"why"]
    works.assert_books(parked=1, waiting=0)
    works.assert_nothing_kept()


def test_one_alert_that_a_firewall_forbids_does_not_open_the_breaker_for_ever(make, client, moog):
    works = make(timeout=0.05, claim=0.1)
    works.raise_alerts(alert(0, text=MARKER, lane="critical"))
    moog.behave("forbid_marked")
    forwarder = works.forwarder(moog.enterprise_url)

    def done() -> bool:
        works.raise_alerts(alert(100, lane="info"))
        return bool(works.letters())

    turns_until(forwarder, done)
    turns_until(forwarder, lambda: not works.stream.size())
    assert b'"reason":"auth"' in works.letters()[0][b"why"]
    assert breaker(client)[0] == "closed"
    works.assert_books(parked=1, waiting=0)


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("bad_marked", "refused"), ("false_marked", "success_false")]
)
def test_the_one_refused_alert_of_a_batch_is_found_by_halving_and_parked(make, moog, behaviour, reason):
    works = make(limit=4, period=0.3, batch=8)
    bad = alert(3, text=MARKER, signature="bad")
    works.raise_alerts(*(bad if n == 3 else alert(n) for n in range(8)), alert(9, signature="bad"))
    moog.behave(behaviour)
    grants = Grants()
    forwarder = works.forwarder(moog.enterprise_url, traced=grants.note)
    turns = turns_until(forwarder, lambda: not works.stream.size())
    assert [parked for turn in turns for parked in turn.parked] == [str(bad.alert_id)]
    assert sum(outcome.status is Status.DELIVERED for outcome in works.outcomes()) == 8
    why = works.letters()[0][b"why"].decode()
    assert f'"reason":"{reason}"' in why
    assert MARKER in why, "Moog's own words"
    assert len(moog.starts) == 7 + 1, "8, 4 4, 2 2, 1 1, and the one that was behind"
    assert len(set(grants.times)) == 7 + 1, "each half has a permit of its own"
    assert most_in_window(grants.times, 0.3) <= 4
    works.assert_books(raised=9, delivered=8, parked=1, waiting=0)
    works.assert_nothing_kept()


def test_a_batch_that_is_too_large_is_halved_until_it_fits(make, moog):
    works = make(batch=8)
    works.raise_alerts(*(alert(n) for n in range(8)))
    moog.behave("413", max_events=3)
    turns_until(works.forwarder(moog.enterprise_url), lambda: not works.stream.size())
    assert len(moog.starts) == 7
    works.assert_books(raised=8, delivered=8, parked=0, waiting=0)


def test_one_alert_that_is_too_large_by_itself_is_parked(make, moog):
    works = make()
    works.raise_alerts(alert())
    moog.behave("413", max_events=0)
    turn = works.forwarder(moog.enterprise_url).forward_turn()
    assert (len(turn.parked), turn.reason) == (1, "too_large")
    works.assert_books(raised=1, parked=1, waiting=0)


def test_a_bad_alert_does_not_hold_up_its_batch_where_permits_are_rare(make, moog):
    """The halves have to wait for longer than a turn sleeps: the batch must not come back whole for ever."""
    works = make(limit=1, period=1.2, batch=3, claim=5.0)
    bad = alert(0, text=MARKER)
    works.raise_alerts(bad, alert(1), alert(2))
    moog.behave("bad_marked")
    turns_until(works.forwarder(moog.enterprise_url), lambda: not works.stream.size(), timeout=12)
    assert len(moog.starts) == 4
    works.assert_books(raised=3, delivered=2, parked=1, waiting=0)


def test_a_bad_alert_in_a_batch_does_not_keep_the_breaker_open(make, client, moog):
    works = make(threshold=1, timeout=0.05, claim=0.05, batch=4)
    works.raise_alerts(alert(0, text=MARKER, lane="critical"), *(alert(n) for n in range(1, 4)))
    moog.behave("fail_marked")
    forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
    turns_until(forwarder, lambda: sum(o.status is Status.DELIVERED for o in works.outcomes()) == 3)


def test_the_holder_of_a_probe_that_dies_is_followed_by_another(make, client, moog):
    works = make(threshold=1, timeout=0.1, claim=0.2, gate={"lock_ms": 200})
    works.raise_alerts(alert(1), alert(2))
    moog.script.set(Step(Behaviour.ERROR, times=1))
    works.forwarder(moog.enterprise_url, dice=lambda: 0.0).forward_turn()
    wait_until(lambda: works.take("dead").entries)
    alive = works.forwarder(moog.enterprise_url, "alive")
    turns_until(alive, lambda: len(works.outcomes()) == 2)
    assert breaker(client) == ("closed", "")
    works.assert_books(raised=2, delivered=2, waiting=0)


# What MUTT itself fails on:


def _signature(told):
    if told.description.startswith(MARKER):
        raise RuntimeError("no words for it")
    return told.signature


def failing_client(moog, *, interrupts=()):
    dialect = DIALECTS["enterprise"]
    failing = msgspec.structs.replace(dialect, fields={**dialect.fields, "signature": _signature})
    return MoogClient(moog.enterprise_url, failing, "", timeout=5.0, interrupts=interrupts)


@pytest.mark.parametrize("batch", [1, 8])
def test_an_alert_that_mutt_fails_on_is_parked_with_the_traceback_and_its_neighbours_go(
    make, client, moog, batch
):
    works = make(limit=3000, period=60.0, claim=0.2, batch=batch)
    bad = alert(0, text=MARKER, lane="critical", signature="bad")
    works.raise_alerts(bad, alert(50, signature="bad"), *(alert(n) for n in range(1, 8)))
    forwarder = works.forwarder(failing_client(moog), dice=lambda: 0.2)

    def done() -> bool:
        works.raise_alerts(alert(100, lane="info"))
        return bool(works.letters())

    turns = turns_until(forwarder, done)
    turns += turns_until(forwarder, lambda: not works.stream.size())
    assert [parked for turn in turns for parked in turn.parked] == [str(bad.alert_id)]
    (letter,) = works.letters()
    assert b'"reason":"forwarding failed"' in letter[b"why"]
    assert b"no words for it" in letter[b"why"] and b"_signature" in letter[b"why"]
    outcomes = {outcome.alert.description: outcome.status for outcome in works.outcomes()}
    assert outcomes.pop(bad.description) is Status.PARKED
    assert set(outcomes.values()) == {Status.DELIVERED}
    assert {f"down {n}" for n in (50, *range(1, 8))} <= outcomes.keys(), "also the one that was behind it"
    assert client.zcard(names.BUDGET) == len(moog.starts), "what was not sent took nothing of the budget"
    assert breaker(client)[0] == "closed"
    works.assert_books(parked=1, waiting=0)
    works.assert_nothing_kept()


def test_a_mutt_that_fails_on_every_alert_parks_none_and_spends_nothing(make, client, moog):
    works = make(limit=3, period=60.0, claim=0.01)
    told = alert(text=MARKER)
    works.raise_alerts(told)
    forwarder = works.forwarder(failing_client(moog), dice=lambda: 0.0)
    turns = [forwarder.forward_turn() for _ in range(30)]
    assert {turn.reason for turn in turns} == {Reason.BROKEN}
    assert (client.zcard(names.BUDGET), moog.starts) == (0, [])
    works.assert_books(raised=1, waiting=1, parked=0)
    turns_until(works.forwarder(moog.enterprise_url), lambda: works.outcomes())
    works.assert_books(raised=1, delivered=1, waiting=0)


def test_what_mutt_fails_on_after_the_first_byte_has_used_its_grant(make, client, moog, monkeypatch):
    works = make(limit=3, period=60.0)
    works.raise_alerts(alert())
    start = Exchange.start

    def started(self):
        start(self)
        raise RuntimeError("too late")

    monkeypatch.setattr(Exchange, "start", started)
    turn = works.forwarder(moog.enterprise_url, dice=lambda: 0.0).forward_turn()
    assert (turn.reason, len(turn.returned), len(turn.first_bytes)) == (Reason.BROKEN, 1, 1)
    assert client.zcard(names.BUDGET) == 1


def test_a_probe_that_mutt_fails_on_lets_the_next_one_probe(make, client, moog):
    works = make(threshold=1, timeout=0.05, claim=0.5)
    moog.script.set(Step(Behaviour.ERROR, times=1))
    works.raise_alerts(alert(1))
    forwarder = works.forwarder(failing_client(moog), dice=lambda: 0.2)
    forwarder.forward_turn()
    assert breaker(client)[0] == "open"
    works.raise_alerts(alert(0, text=MARKER, lane="critical"))
    turns_until(forwarder, lambda: len(works.outcomes()) == 1)
    assert breaker(client)[0] == "closed"


def test_a_time_limit_is_no_fault_of_an_alert(make, moog):
    works = make()
    works.raise_alerts(alert(text=MARKER))
    with pytest.raises(RuntimeError):
        works.forwarder(failing_client(moog, interrupts=(RuntimeError,))).forward_turn()
