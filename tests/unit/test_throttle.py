"""The throttle's arithmetic: how many passwords somebody may try, and how long anybody has to wait."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.services import Services
from mutt.settings import Settings
from mutt.web import throttle
from mutt.web.throttle import (
    ADDRESS,
    LIMITS,
    NAME,
    PAIR,
    Count,
    Counts,
    Limit,
    Throttle,
    given_back,
    passed,
    tried,
)

DAY = 86400.0


class World:
    """All counts, by what they are of, as Redis keeps them; ``now`` is a clock of our own."""

    def __init__(self) -> None:
        self.now = 1e9
        self._kept: dict[tuple[str, ...], tuple[Count, float]] = {}

    def tried(self, name: str, address: str) -> float:
        said = tried(self._counts(name, address), self.now)
        self._keep(name, address, said.counts)
        return said.wait

    def passed(self, name: str, address: str) -> None:
        self._keep(name, address, passed(self._counts(name, address)))

    def _of(self, *key: str) -> Count | None:
        count, until = self._kept.get(key, (None, 0.0))
        return count if until > self.now else None

    def _counts(self, name: str, address: str) -> Counts:
        return Counts(
            self._of("pair", name, address),
            self._of("name", name) or Count(),
            self._of("address", address) or Count(),
        )

    def _keep(self, name: str, address: str, counts: Counts) -> None:
        keys = (("pair", name, address), ("name", name), ("address", address))
        for key, count, kept in throttle.kept(keys, counts):
            self._kept[key] = count, self.now + kept


def guesses(world: World, names: list[str], addresses: list[str], seconds: float) -> int:
    """How many passwords are looked at in so many seconds, of who tries the very moment that they may."""
    end, looked_at = world.now + seconds, 0
    pairs = list(itertools.product(names, addresses))
    ready = dict.fromkeys(pairs, world.now)
    while (when := min(ready.values())) < end:
        pair = min(ready, key=lambda one: ready[one])
        world.now = max(world.now, when)
        wait = world.tried(*pair)
        looked_at += not wait
        # Who was let in comes again at once, and is then told how long to wait.
        ready[pair] = world.now + wait
    world.now = end
    return looked_at


@pytest.mark.parametrize("limit", LIMITS)
@given(failures=st.integers(0, 10_000))
def test_a_wait_never_shrinks_and_never_passes_its_bound(limit: Limit, failures: int) -> None:
    """Nothing up to the free failures, then from the first wait on never less than before, and never above the most."""
    assert (limit.wait(failures) == 0) == (failures <= limit.free)
    assert 0 <= limit.wait(failures) <= limit.wait(failures + 1) <= limit.most


def test_one_name_from_one_address_is_tried_some_hundred_times_a_day() -> None:
    """However the guesser times it: the free ones, the doubling, then one in each longest wait."""
    assert guesses(World(), ["admin"], ["a"], DAY) <= PAIR.free + 11 + DAY / PAIR.most


def test_one_address_can_not_spray_many_names() -> None:
    """New names don't help: the address itself is slowed down."""
    names = [f"name{number}" for number in range(400)]
    assert guesses(World(), names, ["a"], 3600) <= ADDRESS.free + 10 + 3600 / ADDRESS.most


@given(attacks=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 300)), min_size=1, max_size=200))
def test_nobody_locks_the_owner_out(attacks: list[tuple[int, float]]) -> None:
    """Whatever others did to a name, its owner comes in from an address of their own within the bound of NAME."""
    world = World()
    for address, pause in attacks:
        world.tried("owner", f"theirs{address}")
        world.now += pause
    wait = world.tried("owner", "mine")
    assert wait <= NAME.most
    if wait:
        world.now += wait / 2
        for address in range(6):
            world.tried("owner", f"theirs{address}")
        world.now += wait / 2 + 0.001
        assert world.tried("owner", "mine") == 0


def test_a_known_place_does_not_wait_for_what_others_do() -> None:
    """From where the owner logged in before, neither the attack on the name nor a neighbour's slows them down."""
    world = World()
    assert world.tried("owner", "office") == 0
    world.passed("owner", "office")
    guesses(world, ["owner"], ["a", "b", "c", "office2"], 3600)
    guesses(world, ["other", "more", "third"] + [f"n{number}" for number in range(60)], ["office"], 600)
    assert world.tried("owner", "office") == 0


def test_a_login_of_ones_own_clears_no_way_for_guesses_at_others() -> None:
    """Who has an account and uses it between guesses at many names is slowed down as who has none."""
    world, looked_at = World(), 0
    assert world.tried("insider", "a") == 0
    world.passed("insider", "a")
    for number in range(400):
        looked_at += world.tried(f"name{number}", "a") == 0
        assert world.tried("insider", "a") == 0
        world.passed("insider", "a")
        world.now += 1
    assert looked_at <= ADDRESS.free + 10 + 400 / ADDRESS.most


@given(name=st.integers(0, 100), address=st.integers(0, 100))
def test_the_right_password_gives_back_its_own_try_and_no_other(name: int, address: int) -> None:
    """So nobody who knows one password clears the way for guesses at others, or at another's."""
    said = tried(Counts(Count(known=True), Count(name), Count(address)), 1000.0)
    assert said.wait == 0
    counts = passed(said.counts)
    assert (counts.name.failures, counts.address.failures) == (name, address)
    assert counts.pair == Count(known=True)


@given(pair=st.integers(0, PAIR.free), known=st.booleans())
def test_what_could_not_be_looked_at_was_no_try(pair: int, known: bool) -> None:
    """An outage costs nobody their free tries."""
    counts = Counts(Count(pair, known=known), Count(3), Count(4))
    assert given_back(tried(counts, 1000.0).counts) == counts


@given(tries=st.integers(1, 40))
def test_many_at_once_count_as_many(tries: int) -> None:
    """Each is counted before its password is looked at: the free ones are looked at, and not one more."""
    world = World()
    let_in = sum(world.tried("admin", "a") == 0 for _ in range(tries))
    assert let_in <= PAIR.free + 1


def test_a_try_that_came_too_early_changes_nothing() -> None:
    """Whoever knocks all the time waits as long as who does not."""
    counts = Counts(Count(9, 1000.0), Count(9), Count(9))
    assert tried(counts, 990.0) == (10.0, counts)


def test_failures_are_forgotten() -> None:
    """An hour after the last one a typing error costs nothing again."""
    world = World()
    guesses(world, ["me"], ["a"], 600)
    world.now += PAIR.most + PAIR.kept + 1
    assert [world.tried("me", "a") for _ in range(PAIR.free)] == [0] * PAIR.free


def test_without_redis_a_process_counts_by_itself() -> None:
    """And keeps no more counts than it has room for."""
    throttled = Throttle(Services(Settings.from_env({}), lambda *_, **__: None, web=True))
    assert sum(throttled.tried("admin", "192.0.2.1") == 0 for _ in range(30)) == PAIR.free + 1
    assert 0 < throttled.tried("admin", "192.0.2.1") <= 1
    began = time.monotonic()
    for number in range(throttle.OWN_MOST):
        throttled.tried(f"name{number}", f"198.51.100.{number % 250}")
    assert len(throttled._own) <= throttle.OWN_MOST and time.monotonic() - began < 10


def test_a_network_of_ipv6_is_one_address() -> None:
    """Who has a whole /64 is one place; IPv4 written as IPv6 is IPv4."""
    assert (
        throttle.place("2001:db8::1")
        == throttle.place("2001:db8::ffff:2")
        != throttle.place("2001:db8:0:1::1")
    )
    assert throttle.place("::ffff:192.0.2.1") == throttle.place("192.0.2.1")
    assert throttle.place("unix") == "unix"
