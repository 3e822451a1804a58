"""The gate of Moog's budget on a real Redis: what take, settle and release grant, and what they learn."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mutt import names
from mutt.budget.arithmetic import Budget
from mutt.streams.connect import connect
from tests.forwarding import Works, alert
from tests.waiting import wait_until

#: Of budgets whose window a test waits for. The others' are so long that nothing runs out while a busy machine is at
#: work: time passes where a test says so.
PERIOD = 0.2
LONG = 60.0
TIMEOUT = 30.0
HOUR_US = 3_600_000_000


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def make(client):
    """Makes works over one Redis whose gate has known it for long."""

    def works(gate=None, claim=20.0, **budget):
        budget = {"limit": 100, "period": LONG, "threshold": 3, "timeout": TIMEOUT} | budget
        made = Works(client, Budget(**budget), claim=claim, gate=gate or {})
        made.lift_fence()
        return made

    return works


def report(taken, kind="accepted", *, reason="", pause=0.0, **how):
    return {
        "kind": kind,
        "token": taken.token,
        "generation": taken.generation,
        "reason": reason,
        "pause_us": round(pause * 1e6),
    } | how


def tell(works, taken, kind, **how):
    works.stream.settle([], report=report(taken, kind, **how))


def redis_us(client) -> int:
    seconds, micros = client.time()
    return seconds * 1_000_000 + micros


#: What the gate notes with a time.
TIMES = (b"fence", b"until", b"pause_until", b"opened_at", b"limit_until", b"window_us_until")


def passes(client, seconds: float) -> None:
    """So much time: whatever the gate has noted is so much older."""
    us = round(seconds * 1e6)
    for member, score in client.zrange(names.BUDGET, 0, -1, withscores=True):
        client.zadd(names.BUDGET, {member: score - us})
    noted = client.hgetall(names.BREAKER)
    client.hset(names.BREAKER, mapping={name: int(noted[name]) - us for name in TIMES if name in noted})
    if (left := client.pttl(names.LOCK)) > 0:
        client.pexpire(names.LOCK, left - round(seconds * 1000))


def state(client) -> str:
    return (client.hget(names.BREAKER, "state") or b"").decode()


def break_it(works, reason="http_5xx"):
    """Open the breaker by failures in a row; one alert stays with each."""
    for _ in range(works.budget.threshold):
        tell(works, works.take(), "failed", reason=reason)
    assert state(works.client) == "open"


def idle(client, seconds: float) -> None:
    """Nobody looks after what is held in the lane of minor alerts for so long."""
    lane = "mutt:alert_queue:minor"
    for one in client.xpending_range(lane, names.GROUP, "-", "+", 100):
        since = one["time_since_delivered"] + round(seconds * 1000)
        client.xclaim(lane, names.GROUP, one["consumer"], 0, [one["message_id"]], idle=since, justid=True)


# The log:


def test_no_more_than_the_limit_is_granted_until_the_oldest_grant_is_a_window_old(make):
    works = make(limit=3, period=5 * PERIOD)
    works.raise_alerts(*(alert(n) for n in range(5)))
    before = time.monotonic()
    assert [len(works.take().entries) for _ in range(3)] == [1, 1, 1]
    refused = works.take()
    assert (refused.entries, refused.reason) == ([], "budget")
    assert 0 < refused.wait <= 5 * PERIOD + works.budget.slack + 0.002
    time.sleep(refused.wait)
    assert works.take().entries
    assert time.monotonic() - before >= 5 * PERIOD + works.budget.slack


def test_nothing_taken_is_nothing_spent(make, client):
    works = make(limit=2)
    assert (works.take().entries, works.take().wait) == ([], 0)
    works.raise_alerts(alert())
    held = works.take().entries
    assert works.take("b").entries == [], "the one alert is held"
    works.stream.settle([], report=None)
    assert client.zcard(names.BUDGET) == 1
    assert works.stream.release("a", held, 5.0) == [0]
    assert works.take().entries == []
    assert client.zcard(names.BUDGET) == 1


def test_a_batch_is_one_unit_of_budget(make, client):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(8)))
    assert len(works.take(want=8).entries) == 8
    assert client.zcard(names.BUDGET) == 1


def test_many_who_ask_at_once_get_the_limit_together(make):
    works = make(limit=5)
    works.raise_alerts(*(alert(n) for n in range(40)))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: works.take(f"c{n}"), range(40)))
    assert sum(len(taken.entries) for taken in got) == 5
    assert {taken.reason for taken in got} == {"", "budget"}


def test_a_permit_for_what_is_held_costs_a_unit_and_renews_the_hold(make, client):
    works = make(claim=20.0)
    works.raise_alerts(alert(), alert())
    taken = works.take(want=2)
    idle(client, 15.0)
    again = works.take(held=taken.entries)
    assert [entry.id for entry in again.entries] == [entry.id for entry in taken.entries]
    assert again.token not in ("", taken.token)
    idle(client, 15.0)
    assert works.take("thief", 2).entries == [], "it was renewed"
    assert client.zcard(names.BUDGET) == 2


def test_who_lost_what_it_held_gets_no_permit_and_spends_nothing(make, client):
    works = make(claim=0.1)
    works.raise_alerts(alert())
    old = works.take("old").entries
    wait_until(lambda: works.take("new").entries)
    spent = client.hget(names.BREAKER, "granted")
    assert works.take("old", held=old).entries == []
    assert client.hget(names.BREAKER, "granted") == spent


def test_another_thread_of_the_same_worker_takes_over_like_anyone_else(make, client):
    """Threads of one worker share a consumer's name; whose turn an entry is, is told by its attempts."""
    works = make(claim=20.0)
    works.raise_alerts(alert())
    old = works.take("same").entries
    idle(client, 20.0)
    new = works.take("same").entries
    assert works.take("same", held=old).entries == []
    works.stream.release("same", old, 0.0)
    assert works.take("same").entries == [], "the old holder can't hand it back under the new one"
    assert works.take("same", held=new).entries == new


# The clock and the server:


def test_an_unknown_redis_grants_nothing_for_a_window(client):
    works = Works(client, Budget(limit=100, period=PERIOD))
    works.raise_alerts(alert())
    before, first = time.monotonic(), works.take()
    assert first.reason == "restarted"
    assert 0 < first.wait <= works.budget.fence + 0.002
    wait_until(lambda: works.take().entries)
    assert time.monotonic() - before >= works.budget.fence


def test_after_a_restart_nothing_is_granted_for_a_window(own_redis):
    with connect(own_redis.url) as client:
        works = Works(client, Budget(limit=100, period=PERIOD))
        works.lift_fence()
        works.raise_alerts(*(alert(n) for n in range(3)))
        assert works.take().entries
        own_redis.restart()
        before, first = time.monotonic(), works.take()
        assert (first.entries, first.reason) == ([], "restarted")
        wait_until(lambda: works.take().entries)
        assert time.monotonic() - before >= works.budget.fence
        works.assert_books(raised=3, waiting=3)


def test_the_breakers_key_deleted_by_hand_costs_a_window_not_the_budget(make, client):
    works = make(limit=2, period=PERIOD)
    works.raise_alerts(*(alert(n) for n in range(4)))
    assert works.take().entries
    client.delete(names.BREAKER)
    before = time.monotonic()
    assert works.take().reason == "restarted"
    wait_until(lambda: works.take().entries)
    assert time.monotonic() - before >= works.budget.fence


def test_a_clock_set_back_leaves_grants_in_the_future_which_count_as_given_now(make, client):
    works = make(limit=3)
    works.raise_alerts(*(alert(n) for n in range(9)))
    for _ in range(3):
        works.take()
    for member, score in client.zrange(names.BUDGET, 0, -1, withscores=True):
        client.zadd(names.BUDGET, {member: score + HOUR_US})
    blocked = works.take()
    assert (blocked.reason, blocked.wait <= works.budget.fence + 0.002) == ("budget", True)
    passes(client, LONG)
    assert works.take().reason == "budget"
    passes(client, works.budget.slack)
    assert len([1 for _ in range(5) if works.take().entries]) == 3


@pytest.mark.parametrize(
    ("name", "reason", "most"), [("fence", "restarted", PERIOD + 0.25), ("pause_until", "paused", 0.3)]
)
def test_a_clock_set_back_holds_neither_fence_nor_pause_for_longer_than_meant(
    make, client, name, reason, most
):
    works = make(gate={"pause_max_us": 300_000}, period=PERIOD)
    works.raise_alerts(alert())
    client.hset(names.BREAKER, name, redis_us(client) + HOUR_US)
    first = works.take()
    assert (first.reason, first.wait <= most + 0.002) == (reason, True)
    wait_until(lambda: works.take().entries, timeout=2)


def test_a_clock_set_back_holds_neither_the_breaker_nor_its_lock_for_longer_than_meant(make, client):
    works = make(gate={"lock_ms": 20_000})
    works.raise_alerts(*(alert(n) for n in range(5)))
    break_it(works)
    client.hset(names.BREAKER, "until", redis_us(client) + HOUR_US)
    assert works.take().wait <= TIMEOUT + 0.002
    passes(client, TIMEOUT)
    assert works.take().entries, "the probe"
    client.pexpire(names.LOCK, 3_600_000)
    assert 0 < works.take().wait <= 20
    passes(client, 20)
    assert works.take().entries, "another probe"


# Forwarders with other settings, as while they are restarted one by one:


def test_the_lowest_limit_in_use_holds_for_all(make, client):
    old, new = make(limit=50), make(limit=3)
    old.raise_alerts(*(alert(n) for n in range(12)))
    assert [len(old.take("old").entries) for _ in range(2)] == [1, 1]
    assert new.take("new").entries
    assert (old.take("old").reason, new.take("new").reason) == ("budget", "budget")
    passes(client, LONG + old.budget.slack)
    assert len([1 for _ in range(9) if old.take("old").entries]) == 3


def test_the_longest_period_in_use_holds_for_all(make, client):
    """Else the one with the short period would forget grants that the other still counts."""
    quick, slow = make(limit=2), make(limit=2, period=5 * LONG)
    quick.raise_alerts(*(alert(n) for n in range(9)))
    assert slow.take("slow").entries and quick.take("quick").entries
    assert (quick.take("quick").reason, slow.take("slow").reason) == ("budget", "budget")
    passes(client, 5 * LONG)
    assert quick.take("quick").reason == "budget"
    passes(client, slow.budget.slack)
    assert quick.take("quick").entries


def test_a_forwarder_that_is_gone_binds_the_others_for_a_while_only(make, client):
    gone, stays = make(limit=1), make(limit=100)
    gone.raise_alerts(*(alert(n) for n in range(40)))
    assert gone.take("gone").entries
    assert stays.take("stays").reason == "budget"
    passes(client, LONG + gone.budget.slack)
    assert [bool(stays.take("stays").entries) for _ in range(2)] == [True, False]
    passes(client, LONG + gone.budget.slack)
    assert all(stays.take("stays").entries for _ in range(9))


def test_a_clock_set_back_does_not_hold_an_old_limit_for_longer_than_meant(make, client):
    works = make(limit=100)
    works.raise_alerts(*(alert(n) for n in range(40)))
    client.hset(names.BREAKER, mapping={"limit": 1, "limit_until": redis_us(client) + HOUR_US})
    assert works.take().entries
    assert works.take().reason == "budget"
    passes(client, 2 * (LONG + works.budget.slack))
    assert works.take().entries and works.take().entries


# The breaker:


def test_failures_in_a_row_open_the_breaker_and_a_success_between_counts_anew(make, client):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(9)))
    for kind in ("failed", "failed", "accepted", "failed", "failed"):
        tell(works, works.take(), kind, reason="timeout")
    assert state(client) in ("", "closed")
    tell(works, works.take(), "failed", reason="timeout")
    assert (state(client), client.hget(names.BREAKER, "reason")) == ("open", b"timeout")
    blocked = works.take()
    assert (blocked.entries, blocked.reason) == ([], "breaker")
    assert 0 < blocked.wait <= TIMEOUT + 0.001


def test_a_wrong_key_or_address_opens_it_at_once_with_the_reason(make, client):
    works = make()
    works.raise_alerts(alert(), alert())
    tell(works, works.take(), "trip", reason="auth")
    assert (state(client), client.hget(names.BREAKER, "reason")) == ("open", b"auth")


def test_half_open_lets_one_of_many_through(make, client):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(20)))
    break_it(works)
    passes(client, TIMEOUT)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: works.take(f"c{n}"), range(16)))
    assert sum(bool(taken.entries) for taken in got) == 1
    assert {taken.reason for taken in got if not taken.entries} == {"probing"}
    probe = next(taken for taken in got if taken.entries)
    assert client.get(names.LOCK).decode() == probe.token
    assert state(client) == "half_open"


def probing(works):
    works.raise_alerts(*(alert(n) for n in range(12)))
    break_it(works)
    passes(works.client, TIMEOUT)
    taken = works.take()
    assert taken.entries
    return taken


def test_a_probe_that_succeeds_closes_the_breaker_for_all(make, client):
    works = make()
    tell(works, probing(works), "accepted")
    assert (state(client), client.exists(names.LOCK)) == ("closed", 0)
    assert all(works.take(name).entries for name in "bcd")


def test_a_probe_that_is_answered_with_no_closes_it_too(make, client):
    works = make()
    tell(works, probing(works), "alive")
    assert state(client) == "closed"


def test_a_probe_that_fails_opens_it_again(make, client):
    works = make()
    tell(works, probing(works), "failed", reason="timeout")
    assert (state(client), client.exists(names.LOCK)) == ("open", 0)
    blocked = works.take()
    assert blocked.reason == "breaker"
    assert blocked.wait > TIMEOUT - 10


def test_a_probe_that_was_never_sent_leaves_the_next_one_to_probe_at_once(make, client):
    works = make()
    tell(works, probing(works), "unsent")
    assert state(client) == "open"
    assert works.take("b").entries
    assert works.take("c").reason == "probing"


def test_when_the_holder_of_the_probe_dies_another_probes(make, client):
    works = make()
    dead = probing(works)
    blocked = works.take("b")
    assert blocked.reason == "probing"
    passes(client, blocked.wait)
    second = works.take("b")
    assert second.entries
    assert second.generation > dead.generation
    tell(works, dead, "failed", reason="timeout")
    tell(works, second, "accepted")
    assert works.take("c").entries, "what the first one said at last was too late"


def test_results_of_an_older_generation_say_nothing(make, client):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(12)))
    late = [works.take() for _ in range(3)]
    break_it(works)
    tell(works, late[0], "accepted")
    assert state(client) == "open", "it was sent before Moog went away"
    passes(client, TIMEOUT)
    probe = works.take()
    assert probe.entries
    tell(works, late[1], "failed", reason="timeout")
    assert state(client) == "half_open"
    tell(works, probe, "accepted")
    tell(works, late[2], "trip", reason="auth")
    assert state(client) == "closed"


def test_one_alert_that_always_fails_does_not_keep_the_breaker_open_for_the_others(make, client):
    works = make(timeout=0.05, claim=0.05)
    poison = alert(0, lane="critical")
    works.raise_alerts(poison, alert(1), alert(2))
    while state(client) != "open":
        taken = works.take()
        bad = [entry for entry in taken.entries if entry.fields[b"id"].decode() == str(poison.alert_id)]
        works.stream.release(
            "a", taken.entries, 0.0, report=report(taken, "failed") if taken.entries else None
        )
    for _ in range(6):
        probe = wait_until(lambda: taken if (taken := works.take()).entries else None)
        bad = [entry for entry in probe.entries if entry.fields[b"id"].decode() == str(poison.alert_id)]
        works.stream.release("a", probe.entries, 0.0, report=report(probe, "failed" if bad else "accepted"))
        if not bad:
            break
    assert state(client) == "closed"


# The pause:


def test_moogs_pause_holds_everyone_for_as_long_as_it_said(make, client):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(4)))
    tell(works, works.take(), "alive", pause=250)
    passes(client, 200)
    assert [works.take(name).reason for name in "abc"] == ["paused"] * 3
    passes(client, 50)
    assert works.take("b").entries


def test_a_shorter_pause_does_not_end_a_longer_one(make):
    works = make()
    works.raise_alerts(*(alert(n) for n in range(4)))
    first, second = works.take(), works.take()
    tell(works, first, "alive", pause=50)
    tell(works, second, "alive", pause=1)
    assert works.take().wait > 40


# Strikes:


def strike(works, kind="failed"):
    """The next alert fails, and is back at once."""
    taken = works.take()
    return works.stream.release("a", taken.entries, 0.0, report=report(taken, kind))


def test_a_failure_counts_against_an_alert_only_if_moog_took_another_since(make):
    works = make(threshold=100)
    works.raise_alerts(alert(), alert())
    assert [strike(works) for _ in range(8)] == [[0]] * 8, "Moog took nothing"
    held = works.take()
    other = works.take("b")
    tell(works, other, "accepted")
    works.stream.release("a", held.entries, 0.0)
    assert [strike(works) for _ in range(3)] == [[1]] * 3, "once for each that Moog took"


def test_only_what_was_sent_counts_as_a_request(make):
    works = make(threshold=100)
    works.raise_alerts(alert())
    for kind in ("unsent", "alive", "failed", "trip"):
        strike(works, kind)
    passes(works.client, TIMEOUT)
    assert works.take().entries[0].requests == 3


def test_a_robbed_holders_failure_is_no_strike(make, client):
    works = make(threshold=100, claim=0.1)
    works.raise_alerts(alert())
    old = works.take("old")
    new = wait_until(lambda: taken if (taken := works.take("new")).entries else None)
    works.stream.release("old", old.entries, 0.0, report=report(old, "failed"))
    assert client.hlen(names.TRIES) == 0
    assert works.stream.release("new", new.entries, 0.0, report=report(new, "failed")) == [0]
    assert client.hlen(names.TRIES) == 1


def test_a_primary_that_is_one_again_grants_nothing_for_a_window(make, client):
    """Its log may lack what another one granted meanwhile: it is the same process, and knows itself in its own data."""
    works = make(limit=2)
    works.raise_alerts(*(alert(n) for n in range(4)))
    assert works.take().token
    client.replicaof("127.0.0.1", 1)
    client.replicaof("no", "one")
    refused = works.take()
    assert (refused.token, refused.reason) == ("", "restarted")


def test_a_counter_set_back_names_no_grant_twice(make, client):
    """As a failover to a replica that lagged leaves it: a late report must not take another's grant out of the log."""
    works = make(limit=2)
    works.raise_alerts(*(alert(n) for n in range(4)))
    late = works.take()
    client.hset(names.BREAKER, "granted", 0)
    assert works.take().token != late.token
    assert client.zcard(names.BUDGET) == 2
