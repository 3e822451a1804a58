"""The tick on a real Redis: it rings for what nobody rang for, once a second for the fleet, and a full Redis drains."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
import redis
from kombu.exceptions import OperationalError

from mutt import celery, names
from mutt.doorbells import InRedis
from mutt.pipeline.evaluate import ALONE_FROM
from mutt.settings import Settings
from mutt.store.migrate import upgrade
from mutt.tasks import base, tick
from mutt.tasks.tick import Tick
from mutt.tasks.worker import WORK, work_here
from tests.bench import Bench, benches, event
from tests.servers import Live
from tests.waiting import wait_until


def at(url: str) -> Settings:
    return Settings.from_env({}, redis_url=url)


class Fleet:
    """Workers' ticks, and what they rang, started and asked for."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.rung: list[str] = []
        self.here: list[str] = []
        self.sweeps: list[bool] = []
        self.flows_back: list[float] = []
        self.letters = self.windows = 0
        self.noise = 0
        self.backtests = self.keys = self.sources = 0
        self.refuses: Exception | None = None
        self.now = 0.0
        self.finished = 0

    def worker(self, *own: str, broker: str = "") -> Tick:
        return Tick(
            tick.connection(self.bench.settings),
            names.queues(self.bench.settings),
            own_queues=frozenset(own),
            progress=lambda: self.finished,
            run_here=self.here.append,
            doorbells=InRedis(tick.connection(at(broker or self.bench.settings.redis_url))),
            rings=self.ring,
            sweeps=self.sweeps.append,
            flows_back=lambda: self.flows_back.append(self.now),
            letters=self.ask_letters,
            noise=self.ask_noise,
            backtests=self.ask_backtests,
            windows=self.ask_windows,
            keys=self.ask_keys,
            sources=self.ask_sources,
            monotonic=lambda: self.now,
        )

    def ring(self, queue: str, **_labels: str) -> None:
        if self.refuses:
            raise self.refuses
        self.rung.append(queue)

    def ask_letters(self) -> None:
        self.letters += 1

    def ask_noise(self) -> None:
        self.noise += 1

    def ask_backtests(self) -> None:
        self.backtests += 1

    def ask_windows(self) -> None:
        self.windows += 1

    def ask_keys(self) -> None:
        self.keys += 1

    def ask_sources(self) -> None:
        self.sources += 1

    def next_second(self) -> None:
        """The fleet's tick and its bells are forgotten, as after a while."""
        keys = self.bench.redis.keys("mutt:tick:*_queue") + self.bench.redis.keys("mutt:bell:*")
        if keys:
            self.bench.redis.delete(*keys)


@pytest.fixture
def fleet(redis_url: str, database_url: str) -> Iterator[Fleet]:
    with benches(redis_url, database_url) as (bench,):
        yield Fleet(bench)


@pytest.fixture
def full(own_redis: Live, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A worker's process on a Redis of its own, to be filled up."""
    told = {"REDIS_URL": own_redis.url, "DATABASE_URL": database_url, "EVALUATE_CLAIM": "300ms"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    forget: list[Callable[[], None]] = [celery.settings.cache_clear, base._services.cache_clear]
    for one in forget:
        one()
    with benches(own_redis.url, database_url) as (bench,):
        yield Fleet(bench)
        base.services().engine.dispose()
    for one in forget:
        one()


def fill(bench: Bench) -> None:
    """From here on Redis refuses everything that takes memory."""
    bench.redis.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError):
        bench.redis.set("x", "y")


def test_it_rings_where_something_stands_and_no_bell_is_set(fleet: Fleet) -> None:
    fleet.bench.append(event())
    fleet.bench.redis.delete("mutt:bell:ingest_queue")
    fleet.worker().once()
    assert fleet.rung == ["ingest_queue"]
    assert fleet.bench.redis.exists("mutt:bell:ingest_queue")


def test_it_is_silent_where_nothing_stands(fleet: Fleet) -> None:
    fleet.worker().once()
    assert fleet.rung == []


def test_it_is_silent_while_the_bell_is_set(fleet: Fleet) -> None:
    fleet.bench.append(event())
    fleet.worker().once()
    assert fleet.rung == []


def test_entries_of_a_dead_worker_are_rung_for(fleet: Fleet) -> None:
    fleet.bench.append(event())
    fleet.bench.take()
    fleet.next_second()
    fleet.worker().once()
    assert fleet.rung == ["ingest_queue"]


def test_sources_are_looked_at_once_a_minute_by_one_of_the_fleet(fleet: Fleet) -> None:
    workers = [fleet.worker() for _ in range(3)]
    for worker in (*workers, *workers):
        worker.once()
    assert fleet.sources == 1
    assert 50_000 < fleet.bench.redis.pttl(tick.SOURCES_TICK) <= 60_000
    fleet.bench.redis.delete(tick.SOURCES_TICK)
    workers[1].once()
    assert fleet.sources == 2


def test_what_noise_control_owes_is_asked_for_when_it_is_due(fleet: Fleet) -> None:
    """Nothing due: nobody asks. Due: one of the fleet asks in a second."""
    redis_ = fleet.bench.redis
    redis_.zadd(names.NOISE_DUE, {"storm:1:x": 4e12})
    workers = [fleet.worker() for _ in range(3)]
    for worker in workers:
        worker.once()
    assert fleet.noise == 0
    redis_.zadd(names.NOISE_DUE, {"storm:1:x": 1})
    for worker in workers:
        worker.once()
    assert fleet.noise == 1
    redis_.delete(tick.NOISE_TICK)
    workers[1].once()
    assert fleet.noise == 2


def test_several_workers_ring_once_a_second_between_them(fleet: Fleet) -> None:
    fleet.bench.append(event())
    fleet.bench.redis.delete("mutt:bell:ingest_queue")
    workers = [fleet.worker() for _ in range(4)]
    for _ in range(3):
        for worker in workers:
            worker.once()
        fleet.bench.redis.delete("mutt:bell:ingest_queue")
    assert fleet.rung == ["ingest_queue"]
    fleet.next_second()
    for worker in workers:
        worker.once()
    assert fleet.rung == ["ingest_queue"] * 2
    assert 0 < fleet.bench.redis.pttl("mutt:tick:ingest_queue") <= 1000


def test_a_broker_that_refuses_a_ring_starts_the_work_of_ones_own_queues_only(fleet: Fleet) -> None:
    fleet.bench.append(event())
    fleet.refuses = OperationalError("out of memory")
    for own in ("moog", "alerts"):
        fleet.next_second()
        fleet.worker(own).once()
    assert fleet.here == ["ingest_queue"]


def test_a_turn_whose_ring_was_refused_goes_to_whose_queue_it_is(fleet: Fleet) -> None:
    """Else a worker of other queues could win each second's turn, and the work would wait for ever."""
    fleet.bench.append(event())
    fleet.next_second()
    fleet.refuses = OperationalError("the broker is away")
    fleet.worker("moog").once()
    assert fleet.here == []
    fleet.worker("alerts").once()
    assert fleet.here == ["ingest_queue"]


def test_the_thread_that_ticks_outlives_an_error_that_nobody_thought_of(fleet: Fleet) -> None:
    fleet.bench.append(event())
    fleet.next_second()
    fleet.refuses = LookupError("what is that?")
    stopping = threading.Event()
    thread = tick.start(fleet.worker("alerts"), stopping)
    wait_until(lambda: fleet.bench.redis.exists("mutt:tick:ingest_queue"), 5, "a tick that fails")
    fleet.refuses = None
    fleet.bench.redis.delete("mutt:bell:ingest_queue")
    wait_until(lambda: fleet.rung == ["ingest_queue"], 5, "the next one")
    stopping.set()
    thread.join()


def test_the_sweep_is_asked_for_each_minute_and_when_redis_was_restarted(fleet: Fleet) -> None:
    worker = fleet.worker()
    for _ in range(3):
        worker.once()
    assert fleet.sweeps == [True]
    fleet.bench.redis.set(tick.HISTORY, "another run")
    worker.once()
    worker.once()
    assert fleet.sweeps == [True, True]


def test_a_step_of_an_order_about_letters_is_asked_for_once_a_second_while_there_is_one(fleet: Fleet) -> None:
    one, other = fleet.worker(), fleet.worker()
    one.once()
    assert fleet.letters == 0
    fleet.bench.redis.hset(names.LETTER_ORDERS, "moog", "{}")
    for worker in (one, other, one):
        worker.once()
    assert fleet.letters == 1
    fleet.bench.redis.delete(tick.LETTERS_TICK)
    other.once()
    assert fleet.letters == 2


def test_the_sweep_is_asked_for_each_second_while_alerts_are_outside(fleet: Fleet) -> None:
    worker = fleet.worker()
    worker.once()
    fleet.bench.redis.hset(names.OUTSIDE, "minor", 3)
    for _ in range(3):
        worker.once()
    assert fleet.sweeps == [True, False]
    fleet.bench.redis.delete(tick.SWEEP_TICK)
    worker.once()
    assert fleet.sweeps == [True, False, False]


def test_doorbells_for_a_housekeeping_that_is_away_do_not_pile_up_and_cost_it_nothing_when_it_is_back(
    fleet: Fleet, own_redis: Live
) -> None:
    fleet.bench.redis.hset(names.OUTSIDE, "minor", 3)
    fleet.bench.redis.hset(names.LETTER_ORDERS, "moog", "{}")
    fleet.bench.services.inlet.tell_spilled()
    with tick.connection(at(own_redis.url)) as broker:
        one, other = (fleet.worker("alerts", broker=own_redis.url) for _ in range(2))

        def seconds(n: int) -> list[int]:
            for _ in range(n):
                for worker in (one, other):
                    asked = [len(fleet.sweeps), len(fleet.flows_back), fleet.letters]
                    worker.once()
                    now = [len(fleet.sweeps), len(fleet.flows_back), fleet.letters]
                    for _ in range(sum(now) - sum(asked)):
                        broker.lpush("maintenance", "doorbell")
                keys = fleet.bench.redis.keys("mutt:tick:*")
                fleet.bench.redis.delete(*keys)
            return [len(fleet.sweeps), len(fleet.flows_back), fleet.letters]

        assert seconds(100) == [3, 3, 3]
        assert broker.llen("maintenance") == tick.MAINTENANCE_MOST + 1, "one tick's together"
        broker.delete("maintenance")
        assert seconds(1) == [4, 4, 4]
        for n in range(5, 20):
            broker.delete("maintenance")
            assert seconds(1) == [n, n, n], "each second, while they are worked"


def test_a_flow_back_is_asked_for_now_and_then_and_each_second_while_rounds_are_known_to_be_spilled(
    fleet: Fleet,
) -> None:
    worker = fleet.worker()
    for _ in range(3):
        worker.once()
    assert len(fleet.flows_back) == 1
    fleet.bench.services.inlet.tell_spilled()
    for _ in range(3):
        worker.once()
    assert len(fleet.flows_back) == 2
    fleet.bench.redis.delete(tick.SPILL_KNOWN)
    worker.once()
    assert len(fleet.flows_back) == 3
    fleet.bench.redis.delete(tick.SPILL_KNOWN)
    fleet.bench.services.inlet.tell_flowed_back()
    worker.once()
    assert len(fleet.flows_back) == 3


def test_a_worker_is_stuck_when_a_doorbell_waits_for_a_minute_and_nothing_was_finished(fleet: Fleet) -> None:
    worker = fleet.worker("alerts")
    fleet.bench.redis.lpush("alerts", "doorbell")
    assert not worker.stuck()
    fleet.now += 59
    assert not worker.stuck()
    fleet.finished += 1
    assert not worker.stuck()
    fleet.now += tick.STUCK_AFTER + 1
    assert worker.stuck()
    fleet.bench.redis.delete("alerts")
    assert not worker.stuck()


def test_the_doorbells_that_wait_are_those_at_the_broker(fleet: Fleet, own_redis: Live) -> None:
    worker = fleet.worker("alerts", broker=own_redis.url)
    fleet.bench.redis.lpush("alerts", "no doorbell: the data's Redis")
    assert not worker.stuck()
    fleet.now += tick.STUCK_AFTER + 1
    assert not worker.stuck()
    with tick.connection(at(own_redis.url)) as broker:
        broker.lpush("alerts", "doorbell")
    fleet.now += tick.STUCK_AFTER + 1
    assert worker.stuck()


def test_a_stuck_worker_ends_also_when_what_hangs_hangs_its_end() -> None:
    """It is asked first; one that does not go is killed: its entries are taken over."""
    deaf = (
        "import signal, threading, time\n"
        "from mutt.tasks import tick\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "threading.Thread(target=tick.end, args=(0.2,), daemon=True).start()\n"
        "while True: time.sleep(0.01)\n"  # a signal that comes just before a pause would be heard after it
    )
    done = subprocess.run(
        [sys.executable, "-c", deaf], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "asked\n")


# ---- a full Redis


def test_a_full_redis_has_its_work_started_without_a_doorbell(full: Fleet) -> None:
    full.bench.append(event())
    fill(full.bench)
    full.next_second()
    full.worker("housekeeping").once()
    assert full.here == []
    full.worker("alerts").once()
    assert full.here == ["ingest_queue"]


def test_a_full_redis_drains(full: Fleet) -> None:
    """More than a take holds, so that the drain wants to ring and to keep its bell on its way."""
    for n in range(4):
        full.bench.append(*[event("CRITICAL x", f"host-{n}-{i}") for i in range(400)])
    full.bench.append(event("quiet"))
    fill(full.bench)
    # A drain ends with its slice; what it can't ring for it leaves to the next one.
    drains = [WORK["ingest_queue"]()["events"]]
    while drains[-1] and full.bench.redis.xlen(names.INGEST_STREAM):
        drains.append(WORK["ingest_queue"]()["events"])
    assert sum(drains) == 1601
    assert len(full.bench.lane("critical")) == 1600
    full.bench.check()


def test_entries_that_are_worked_alone_drain_from_a_full_redis_too(full: Fleet) -> None:
    full.bench.append(event(), event("CRITICAL b", "core-2"))
    entries = full.bench.take()
    while entries[0].attempts < ALONE_FROM - 1:
        entries = full.bench.take_over()
    fill(full.bench)
    wait_until(lambda: WORK["ingest_queue"]().get("events"), 5)
    assert full.bench.events == {"accepted": 2, "settled": 2}
    full.bench.check()


def test_work_without_a_doorbell_meets_an_outage_calmly(
    own_postgres: Live, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(own_postgres.url)
    monkeypatch.setattr(base, "_rests", defaultdict(base.Rest))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", own_postgres.url)
    celery.settings.cache_clear()
    base._services.cache_clear()
    with benches(redis_url, own_postgres.url) as (bench,):
        bench.append(event())
        own_postgres.kill()
        work_here("ingest_queue")
        assert bench.events == {"accepted": 1, "queued": 1}
        assert (
            bench.redis.xpending_range(names.INGEST_STREAM, names.GROUP, "-", "+", 9)[0]["times_delivered"]
            == 0
        )
    base.services().engine.dispose()
    celery.settings.cache_clear()
    base._services.cache_clear()


def test_back_tests_are_looked_for_where_one_is_known_of_and_now_and_then(fleet: Fleet) -> None:
    """The whole fleet looks once a minute, every few seconds while one is known of, and not while a look waits."""
    workers = [fleet.worker(), fleet.worker()]

    def looks() -> int:
        for worker in workers:
            worker.once()
        return fleet.backtests

    assert [looks(), looks()] == [1, 1]
    fleet.bench.redis.set(names.BACKTESTS, "1")
    assert [looks(), looks()] == [2, 2]
    fleet.bench.redis.delete(tick.BACKTESTS_KNOWN)
    fleet.bench.redis.lpush("backtests", "doorbell")
    assert looks() == 2
    fleet.bench.redis.delete("backtests")
    assert looks() == 3
    fleet.bench.redis.delete(names.BACKTESTS, tick.BACKTESTS_KNOWN)
    assert looks() == 3


def test_windows_are_looked_at_once_for_the_fleet(fleet: Fleet) -> None:
    """However many workers tick, one look at the maintenance windows is asked for at a time."""
    one, other = fleet.worker("alerts"), fleet.worker("moog")
    for _ in range(3):
        one.once()
        other.once()
    assert fleet.windows == 1
    fleet.bench.redis.delete(tick.WINDOWS_TICK)
    other.once()
    assert fleet.windows == 2
