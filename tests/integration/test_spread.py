"""The ingest queue on several real Redis servers: a settle in two steps is done once, whatever fails in between."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from kombu.exceptions import OperationalError

from mutt import names
from mutt.balance import observe
from mutt.cli import cli, common
from mutt.cli.queues import look
from mutt.doorbells import InRedis
from mutt.embedded.redis import RedisServer, find_redis
from mutt.entry import Entry, Move, park
from mutt.settings import Settings
from mutt.streams import acl, books
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from mutt.streams.servers import Rests, name_of
from mutt.streams.spare import load
from mutt.streams.spread import HeldSpread, Servers
from mutt.streams.stream import Half, MissingReplicas, Stream, marker_of
from mutt.tasks import base, tick
from mutt.tasks.tick import Tick
from tests.bench import Bench, benches, event
from tests.integration.test_spill import Ingest, one
from tests.integration.test_streams import part
from tests.ports import own_port
from tests.servers import REDIS_BIN, Live
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that failed is asked again at once."""
    monkeypatch.setattr(Rests, "LEAST", 0.0)
    monkeypatch.setattr(Rests, "TIMES", 0.0)


@pytest.fixture
def pair(redis_urls: list[str], database_url: str) -> Iterator[list[Bench]]:
    """Two workers."""
    with benches(
        redis_urls[0], database_url, 2, stream_urls="\n".join(redis_urls), unhandled_threshold=3
    ) as made:
        yield made


def away_of(bench: Bench) -> str:
    """The name of a server that is not home."""
    return list(bench.services.ingest_servers)[1]


class Lost(redis.ConnectionError):
    """The line broke."""


@contextlib.contextmanager
def failing(stream: Stream, step: str, *, after: bool) -> Iterator[None]:
    """One step of a stream fails: before it is done, or after that, when only its answer is lost."""
    did = getattr(stream, step)

    def fails(*arguments: Any, **options: Any) -> Any:
        if after:
            did(*arguments, **options)
        raise Lost(step)

    setattr(stream, step, fails)
    try:
        yield
    finally:
        delattr(stream, step)


# ---- all goes well


def test_events_of_every_server_are_evaluated_and_each_has_its_turn(pair: list[Bench]) -> None:
    bench, _ = pair
    for server in bench.services.ingest_servers:
        for n in range(3):
            bench.append(event(f"CRITICAL fan {n}"), event("nobody cares"), server=server)
    turns = []
    while entries := bench.take(want=1):
        turns.append(entries[0].server)
        bench.held.settle(bench.evaluate(entries))
    assert all(len(set(turns[i : i + 3])) == 3 for i in range(0, 9, 3)), (
        "nobody's turn comes twice before all had one"
    )
    # The third event of a kind that no rule handles makes MUTT say so: that event stands at home.
    assert turns[9:] == [""]
    assert bench.events == {"accepted": 19, "settled": 19}
    assert len(bench.alerts()) == 10
    bench.check()


def test_every_part_of_the_books_balances_by_itself(pair: list[Bench]) -> None:
    bench, _ = pair
    servers = list(bench.services.ingest_servers)
    for server in servers:
        bench.append(event(), event("CRITICAL nul \0 byte"), server=server)
    bench.run()
    assert [books.read(client).off_events for client in bench.everywhere] == [0, 0, 0]
    assert bench.events == {"accepted": 6, "settled": 3, "parked": 3}
    bench.replay()
    assert bench.events == {"accepted": 6, "settled": 3, "queued": 3}
    bench.run()
    report, why = observe(bench.services, deep=True)
    assert (why, report.state) == ("", "balanced")
    bench.check()


def test_what_is_read_speaks_of_all_servers(pair: list[Bench]) -> None:
    bench, _ = pair
    servers = list(bench.services.ingest_servers)
    for server in servers:
        bench.append(event(), server=server)
    seen = look(bench.services, InRedis(bench.redis))
    assert [one.entries for one in seen.queues if one.queue == "ingest_queue"] == [3]
    assert [(one.server, one.entries) for one in seen.servers] == [(name, 1) for name in servers]


# ---- something fails between the two steps


@pytest.mark.parametrize("step", ["settle_here", "settle_there"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "answer lost"])
def test_whatever_fails_nothing_follows_twice_and_nothing_is_lost(
    pair: list[Bench], step: str, after: bool
) -> None:
    bench, other = pair
    away = away_of(bench)
    strange = event("nobody cares")
    bench.append(event(), event("CRITICAL nul \0 byte"), strange, server=away)
    entries = bench.take()
    moves = bench.evaluate(entries)
    stream = bench.services.ingest_servers[
        away if step == "settle_there" else name_of(bench.settings.stream_url)
    ]
    with failing(stream, step, after=after):
        if step == "settle_here":
            with pytest.raises(Lost):
                bench.held.settle(moves)
            bench.held.hand_back()
        else:
            assert bench.held.settle(moves) == [False]
    del bench, moves
    wait_until(lambda: other.run() or not other.services.ingest_servers[away].size(), 10, "it to be settled")
    assert other.events == {"accepted": 3, "settled": 2, "parked": 1}
    assert len(other.letters()) == 1
    assert len(other.lane("major")) + len(other.lane("critical")) == 1
    counted = [key for key in other.redis.keys("mutt:unhandled:*") if other.redis.get(key) == b"1"]
    assert len(counted) == 1, "an event that no rule handles counts once"
    other.check()


def test_what_was_said_first_stands_and_nothing_is_evaluated_again(pair: list[Bench]) -> None:
    """An event was parked, and its worker died before the second step: it is not judged again, and so not audited."""
    bench, other = pair
    away = away_of(bench)
    bench.append(event("CRITICAL nul \0 byte"), event(), server=away)
    with failing(bench.services.ingest_servers[away], "settle_there", after=False):
        bench.held.settle(bench.evaluate(bench.take()))

    def done() -> bool:
        assert other.take() == [], "only its second step is left, and done by the take"
        return other.events == {"accepted": 2, "settled": 1, "parked": 1}

    wait_until(done, 5, "its claim to be over")
    other.check()


def test_a_robbed_holder_and_the_new_one_settle_once_whoever_is_first(pair: list[Bench]) -> None:
    bench, other = pair
    away = away_of(bench)
    for first, second in ((bench, other), (other, bench)):
        bench.append(event(), event("nobody cares", f"host-{first is bench}"), server=away)
        moves = bench.evaluate(bench.take())
        robbed = other.evaluate(other.take_over())
        held = {id(bench): (bench.held, moves), id(other): (other.held, robbed)}
        assert [held[id(one)][0].settle(held[id(one)][1]) for one in (first, second)] == [[True], [False]]
    assert bench.events == {"accepted": 4, "settled": 4}
    assert len(bench.alerts()) == 2
    bench.check()


def test_who_had_an_entry_for_too_long_does_nothing_about_it(pair: list[Bench]) -> None:
    """Its marker may be gone: what follows would follow twice."""
    bench, other = pair
    away = away_of(bench)
    bench.append(event(), server=away)
    moves = bench.evaluate(bench.take())
    bench.services.spread.heard(0.0)
    bench.held._until -= 2 * bench.services.spread.home.good
    other.held.settle(other.evaluate(other.take_over()))
    for key in bench.redis.keys(names.SETTLED + "*"):
        bench.redis.delete(key)
    assert bench.held.settle(moves) == [False]
    assert bench.events == {"accepted": 1, "settled": 1}
    bench.check()
    # It knows the time again.
    bench.append(event(), server=away)
    bench.run()
    bench.check()


def test_a_marker_stays_for_a_month_and_for_minutes_once_its_end_was_seen(pair: list[Bench]) -> None:
    bench, _ = pair
    away = away_of(bench)
    bench.append(event(), server=away)
    entries = bench.take()
    bench.held.settle(bench.evaluate(entries))
    marker = marker_of(entries[0])
    assert bench.redis.ttl(marker) > 29 * 86_400
    bench.held.quiet_bell()
    assert 0 < bench.redis.ttl(marker) <= 2 * bench.services.spread.home.good


def test_what_could_not_be_confirmed_is_confirmed_later(pair: list[Bench]) -> None:
    bench, _ = pair
    spread = bench.services.spread
    spread.confirm(["mutt:settled:x"])
    with failing(spread.home, "confirm", after=False), pytest.raises(Lost):
        spread.say_confirmed()
    assert spread.take_confirmed() == ["mutt:settled:x"]


def test_a_marker_is_believed_where_the_replicas_have_it_too(pair: list[Bench]) -> None:
    """Else the second step is done, home fails over to a replica without the first, and what followed is lost."""
    bench, _ = pair
    away = away_of(bench)
    bench.append(event(), server=away)
    [move] = bench.evaluate(bench.take())
    home = bench.services.spread.home
    safe = Stream(home.client, home.queue, _nothing, replicas=1)
    marker = marker_of(move.entry)
    assert safe.begun([marker]) == [None], "nothing is there that could be lost"
    told: dict[str, Any] = {"halves": [Half.of(move)], "until": time.time() + 60}
    assert home.settle_here(**told)[0]
    with pytest.raises(MissingReplicas):
        safe.begun([marker])
    home.confirm([marker])
    # Whoever does the first step again writes, so that its WAIT waits for what it found.
    home.settle_here(**told)
    assert home.client.ttl(marker) > 29 * 86_400


def test_a_poisoned_neighbour_that_waits_stays_where_it_was(pair: list[Bench]) -> None:
    """What PostgreSQL does not take now becomes an entry of its own, on the same server and in its books."""
    bench, _ = pair
    away = away_of(bench)
    bench.append(event(), event(), server=away)
    (entry,) = bench.take()
    (move,) = bench.evaluate([entry])
    again = {
        "op": "append",
        "stream": names.INGEST_STREAM,
        "fields": list(part(1).entries[0][1]),
        "queue": "ingest_queue",
    }
    size = part(1).entries[0][2]
    counts = {**move.counts, "events.settled": 1, "events.queued": -1, "ingest.bytes": size - entry.size}
    bench.held.settle([Move(entry, counts, [*move.follow, again])])
    client = bench.services.ingest_servers[away].client
    assert client.xlen(names.INGEST_STREAM) == 1
    assert books.read(client).events["queued"] == 1


# ---- a server is away


@pytest.fixture
def own(own_redis: Live, redis_url: str, database_url: str) -> Iterator[Bench]:
    """A worker of home and of a server that may be killed."""
    with benches(redis_url, database_url, stream_urls=f"{redis_url} {own_redis.url}") as (bench,):
        yield bench


def drained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One drain, as the task does it."""
    monkeypatch.setattr(base, "services", lambda: bench.services)
    monkeypatch.setattr(base, "settings", lambda: bench.settings)
    evaluator = bench.services.evaluator
    return base.drain_queue("ingest_queue", evaluator.evaluate_entries, evaluator.shares)


def test_a_server_that_is_away_holds_up_nothing_but_its_own(
    own: Bench, own_redis: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = away_of(own)
    own.append(event(), server=away)
    own.append(event())
    own_redis.kill()
    assert drained(own, monkeypatch)["ended"] == "empty"
    assert len(own.rows()) == 1
    assert look(own.services, InRedis(own.redis)).servers[1].entries is None
    own_redis.start()
    wait_until(lambda: drained(own, monkeypatch) and len(own.rows()) == 2, 10, "the other's events")
    own.check()


def test_while_home_is_away_what_stands_elsewhere_is_handed_back(
    own_redis: Live, redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutt.streams.spread.HOME_REST", 0.05)
    with benches(own_redis.url, database_url, stream_urls=redis_url, evaluate_claim=60.0) as (bench,):
        away = away_of(bench)
        bench.append(event(), server=away)
        evaluate = bench.services.evaluator.evaluate_entries

        def dies(entries: list[Entry]) -> list[Move]:
            own_redis.kill()
            return evaluate(entries)

        monkeypatch.setattr(bench.services.evaluator, "evaluate_entries", dies)
        with pytest.raises(redis.RedisError):
            drained(bench, monkeypatch)
        own_redis.start()
        monkeypatch.setattr(bench.services.evaluator, "evaluate_entries", evaluate)
        # Long before its claim is over.
        wait_until(
            lambda: drained(bench, monkeypatch) and not bench.events.get("queued"), 10, "it to be worked"
        )
        assert bench.events == {"accepted": 1, "settled": 1}
        bench.check()


def test_home_is_asked_again_soon_however_long_it_kept_a_worker_waiting(
    pair: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no way around it; another server rests for longer."""
    bench, _ = pair
    monkeypatch.undo()
    now = [0.0]
    servers = Servers(bench.services.ingest_servers, clock=lambda: now[0])
    for name, rests in ((servers.home_name, Rests.LEAST), (away_of(bench), Rests.MOST)):
        with pytest.raises(Lost), servers.asking(name):
            now[0] += 5
            raise Lost
        assert servers.rests.due(name)
        now[0] += rests
        assert not servers.rests.due(name)


def test_a_server_that_is_away_keeps_no_dead_letter_waiting(own: Bench, own_redis: Live) -> None:
    own.append(event())
    own_redis.kill()
    assert load(own.redis, own.services.budget, own.services.elsewhere).queued == 1


def _nothing(*_: object) -> None:
    """Not asked for."""


def test_the_tick_rings_for_every_server_and_one_that_is_away_silences_none(
    own: Bench, own_redis: Live, more_redis: list[Live]
) -> None:
    away = away_of(own)
    with connect(more_redis[0].url) as third:
        third.flushall()
        stands = names.queues(own.settings)["ingest_queue"]
        Stream(third, stands, lambda *_, **__: None).append("r", [part()], max_events=9, max_bytes=1 << 20)
        third.delete(stands.bell)
        rung: list[str] = []
        refuses: list[Exception] = []

        def rings(queue: str, **_: str) -> None:
            if refuses:
                raise refuses[0]
            rung.append(queue)

        fleet = Tick(
            tick.connection(own.settings),
            names.queues(own.settings),
            own_queues=frozenset(),
            progress=lambda: 0,
            run_here=lambda _name: None,
            doorbells=InRedis(tick.connection(own.settings)),
            elsewhere={**tick.elsewhere(own.settings), "third": third},
            rings=rings,
            **dict.fromkeys(
                ("sweeps", "flows_back", "letters", "noise", "backtests", "windows", "keys", "sources"), _nothing
            ),
        )  # fmt: skip
        own.append(event(), server=away)
        own.services.ingest_servers[away].client.delete(stands.bell)
        fleet.once()
        assert rung == ["ingest_queue"] * 2
        own_redis.kill()
        third.delete(stands.bell, stands.tick)
        fleet.once()
        assert rung == ["ingest_queue"] * 3
        # A ring that is refused leaves the turn at that server to a worker of these queues, and home's as it was.
        refuses.append(OperationalError("the broker is away"))
        third.delete(stands.bell, stands.tick)
        own.redis.set(stands.bell, "1")
        fleet.once()
        assert third.exists(stands.bell, stands.tick) == 0
        assert own.redis.exists(stands.bell) == 1


# ---- a server leaves


def test_the_books_of_a_server_that_leaves_are_homes_once(redis_urls: list[str], database_url: str) -> None:
    told = f"{redis_urls[0]} {redis_urls[1]}?drain=on"
    with benches(redis_urls[0], database_url, stream_urls=told) as (bench,):
        away = away_of(bench)
        bench.append(event(), event(), server=away)
        bench.run()
        leaving = bench.services.ingest_servers[away].client
        before = books.read(*bench.everywhere)
        # It broke off after home had them.
        with pytest.raises(Lost), failing(leaving, "delete", after=False):
            books.take_over(bench.redis, leaving)
        assert books.take_over(bench.redis, leaving)["events.accepted"] == 2
        assert books.take_over(bench.redis, leaving) == {}
        assert books.read(bench.redis) == before
        bench.check()


@pytest.fixture
def shell(
    redis_urls: list[str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """``mutt streams`` with a server that drains: what it says."""
    environ = {"REDIS_URL": redis_urls[0], "DATABASE_URL": database_url}
    environ["STREAM_URLS"] = f"{redis_urls[0]}, {redis_urls[1]}, {redis_urls[2]}?drain=on"
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    common.services.cache_clear()

    def says(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["streams", *arguments])
        return str(done.exception or done.output)

    yield says
    common.services.cache_clear()


def test_a_server_leaves_once_it_is_drained_and_no_sooner(
    shell: Callable[..., str], redis_urls: list[str]
) -> None:
    home, takes, drains = map(name_of, redis_urls)
    assert "no server that could leave" in shell("leave", home)
    assert "takes events" in shell("leave", takes)
    stands = names.queues(Settings.from_env({}))["ingest_queue"]
    with connect(redis_urls[2]) as client:
        stream = Stream(client, stands, lambda *_, **__: None)
        stream.append("r", [part()], max_events=9, max_bytes=1 << 20)
        assert "wait until they are worked" in shell("leave", drains)
        (entry,) = stream.take("w", 1).entries
        stream.settle([Move(entry, {"events.queued": -1, "events.settled": 1, "ingest.bytes": -entry.size})])
    assert "drained" in " ".join(shell("list").split())
    assert "(1 event accepted) are home's now" in shell("leave", drains)


# ---- least power


def test_each_role_may_do_its_part_on_every_server_and_no_more_than_that(
    own_directory: Path, database_url: str
) -> None:
    """Ingest appends there, workers take and settle; beat and Flower have no way in."""
    users = acl.file(
        {role: acl.hashed(role) for role in acl.ROLES}, default=acl.hashed("owner"), part=acl.DATA_PART
    )
    with contextlib.ExitStack() as stack:
        places = []
        for name in ("home", "b"):
            server = RedisServer(
                find_redis(REDIS_BIN), own_directory / name, own_port(), "owner", users=users
            )
            live = Live(server.url, server.process(own_directory / f"{name}.log")).start()
            stack.callback(live.stop)
            places.append(server.url.rpartition("@")[2])

        def urls(role: str) -> list[str]:
            return [f"redis://{role}:{role}@{place}" for place in places]

        (bench,) = stack.enter_context(
            benches(urls("alerts")[0], database_url, stream_urls="\n".join(urls("alerts")))
        )
        told = {"stream_urls": "\n".join(urls("ingest")), "ingest_spill": False}
        ingest = Ingest(urls("ingest")[0], database_url, **told)
        owner = redis.Redis.from_url(f"redis://:owner@{places[0]}")
        KeysCopy(owner).publish({})
        for n in range(4):
            ingest.takes(one(event_id=f"id-{n}"), Idempotency_Key=f"k{n}")
        for stream in ingest.services.ingest_servers.values():
            stream.takes_writes()
        assert not ingest.services.lookout.any
        away = away_of(bench)
        with failing(bench.services.ingest_servers[away], "settle_there", after=False):
            while entries := bench.take():
                bench.held.settle(bench.evaluate(entries))
        wait_until(lambda: bench.run() or bench.events.get("settled") == 4, 10, "the second steps")
        bench.held.quiet_bell()
        assert tick.elsewhere(bench.settings)[away].set("mutt:tick:ingest_queue", "1")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(urls("flower")[1]).ping()
        refused = [
            one for place in places for one in redis.Redis.from_url(f"redis://:owner@{place}").acl_log()
        ]
        assert [one["username"] for one in refused] == ["flower"]
        ingest.close()


# ---- at random


class Room:
    """Workers on two servers without a store: each entry is to be parked, so that its one letter can be counted."""

    STEPS = ("settle_here", "settle_there", "release")

    def __init__(self, urls: list[str], dice: random.Random) -> None:
        self.dice = dice
        queue = names.queues(Settings.from_env({}, evaluate_claim=0.001))["ingest_queue"]
        self.clients = [connect(url) for url in urls]
        self.streams = {
            name_of(url): Stream(client, queue, lambda *_, **__: None)
            for url, client in zip(urls, self.clients, strict=True)
        }
        self.workers = [self._worker(n) for n in range(3)]
        self.at_work: list[tuple[HeldSpread, list[Move]]] = []
        self.appended = 0

    def _worker(self, n: int) -> HeldSpread:
        return HeldSpread(Servers(self.streams), f"w{n}")

    def append(self) -> None:
        name = self.dice.choice(list(self.streams))
        self.appended += 1
        self.streams[name].append(f"r{self.appended}", [part(key=None)], max_events=10**6, max_bytes=1 << 30)

    def take(self) -> None:
        held = self.dice.choice(self.workers)
        with contextlib.suppress(redis.RedisError):
            entries = held.take(self.dice.randint(1, 4)).entries
            if entries:
                self.at_work.append((held, [self._move(entry) for entry in entries]))

    def _move(self, entry: Entry) -> Move:
        counts = {"events.queued": -1, "events.parked": 1, "ingest.bytes": -entry.size, "alerts.raised": 1}
        letter = park(names.DLQ_ALERTS, entry, [entry.server or "home", entry.id], {"reason": "r"})
        return Move(entry, counts, [letter])

    def settle(self) -> None:
        if not self.at_work:
            return
        held, moves = self.at_work.pop(self.dice.randrange(len(self.at_work)))
        try:
            held.settle(moves)
        except redis.RedisError:
            with contextlib.suppress(redis.RedisError):
                held.hand_back()

    def settle_badly(self) -> None:
        stream = self.dice.choice(list(self.streams.values()))
        with failing(stream, self.dice.choice(self.STEPS), after=self.dice.random() < 0.5):
            self.settle()

    def die(self) -> None:
        """A worker is killed with all that it holds; another one begins."""
        n = self.dice.randrange(len(self.workers))
        dead, self.workers[n] = self.workers[n], self._worker(self.dice.randrange(10**9))
        self.at_work = [(held, moves) for held, moves in self.at_work if held is not dead]

    def confirm(self) -> None:
        self.dice.choice(self.workers).quiet_bell()

    def finish(self) -> None:
        while self.at_work:
            self.settle()

        def empty() -> bool:
            self.take()
            self.settle()
            return not any(stream.size() for stream in self.streams.values())

        wait_until(empty, 10, "all to be settled", every=0.002)

    def letters(self) -> Counter[tuple[bytes, ...]]:
        found = books.entries(self.clients[0], names.DLQ_ALERTS)
        return Counter(tuple(sorted(fields.items())[0]) for _, fields in found)


@pytest.mark.parametrize("seed", range(12))
def test_at_random_each_entry_is_followed_once_and_every_ledger_balances(
    redis_urls: list[str], seed: int
) -> None:
    dice = random.Random(seed)
    room = Room(redis_urls[:2], dice)
    deeds: list[Callable[[], None]] = [
        room.append,
        room.take,
        room.settle,
        room.settle_badly,
        room.die,
        room.confirm,
    ]
    for _ in range(150):
        dice.choices(deeds, weights=[5, 5, 3, 3, 1, 1])[0]()
        for client in room.clients:
            assert books.read(client).off_events == 0
    room.finish()
    assert set(room.letters().values()) <= {1}
    assert sum(room.letters().values()) == room.appended
    told = books.read(*room.clients)
    assert (told.events["accepted"], told.events["parked"], told.events["queued"]) == (
        room.appended,
        room.appended,
        0,
    )
    assert told.alerts["raised"] == room.appended
    assert [int(client.hget(names.LEDGER, "ingest.bytes") or 0) for client in room.clients] == [0, 0]
