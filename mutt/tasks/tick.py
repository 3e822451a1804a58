"""The tick: once a second for the whole fleet it rings for work that nobody rang for. It needs no beat.

A thread with a Redis connection of its own in every worker's main process. A lost doorbell, a released entry, the
entries of a dead worker: all stand in their stream (XLEN counts what is unfinished), and the bell falls silent
after two seconds, so the next tick rings. The same thread asks for the sweep, and is the watchdog.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

import redis
from kombu.exceptions import OperationalError

from mutt import names
from mutt.celery import publish, ring
from mutt.doorbells import Doorbells
from mutt.settings import Settings
from mutt.streams.connect import Client, redis_of
from mutt.streams.servers import Rests, client_of, servers

log = logging.getLogger("mutt.tick")

#: Seconds between two ticks, and between two sweeps.
EVERY = 1.0
SWEEP_EVERY = 60.0

#: Seconds between two flow backs that nobody knows to be needed: where rounds may be spilled, and where they may not
#: any more.
SPILL_EVERY, SPILL_SELDOM = 3.0, 60.0

#: A worker that finished nothing for so long while a doorbell waited is stuck: it ends, to be started again.
STUCK_AFTER = 60.0

#: Seconds that a stuck worker has for a tidy end: what hangs may hang its end too.
END_WITHIN = 30.0

#: Seconds between two looks at the maintenance windows: what burns at the end of one is released so much later.
WINDOWS_EVERY = 15.0

#: Seconds between two looks at the API keys: of what the admin could not write to Redis, and of what was used.
KEYS_EVERY = 60.0

#: Seconds between two looks at the sources.
SOURCES_EVERY = 60.0

SWEEP_TICK, SWEEP_LOST = "mutt:tick:sweep", "mutt:tick:lost"
SPILL_TICK, SPILL_KNOWN = "mutt:tick:spill", "mutt:tick:spilled"
LETTERS_TICK, NOISE_TICK, WINDOWS_TICK = "mutt:tick:letters", "mutt:tick:noise", "mutt:tick:windows"
BACKTESTS_TICK, BACKTESTS_KNOWN = "mutt:tick:backtests", "mutt:tick:backtests_known"
KEYS_TICK, SOURCES_TICK = "mutt:tick:keys", "mutt:tick:sources"
HISTORY = "mutt:tick:history"

#: Seconds between two looks for back-tests that nobody told of, and between two rings while one is known of.
BACKTESTS_EVERY, BACKTESTS_AGAIN = 60.0, 5.0

#: So many doorbells wait for housekeeping at most: where none of it runs, each second would bring more of them.
MAINTENANCE_MOST = 8

Run = Callable[[str], None]


def ask_sweep(lost: bool) -> None:
    """Publish a sweep: of what was lost, too, or only of what is outside of full lanes."""
    publish("mutt.maintenance.sweep", "maintenance", lost=lost)


def ask_flow_back() -> None:
    """Publish a flow back of what was spilled."""
    publish("mutt.maintenance.flow_back", "maintenance")


def ask_letters() -> None:
    """Publish a step of the orders about dead letters."""
    publish("mutt.maintenance.letters", "maintenance")


def ask_noise() -> None:
    """Publish what noise control owes."""
    publish("mutt.maintenance.noise", "maintenance")


def ask_backtests() -> None:
    """Publish a look for back-tests that wait."""
    publish("mutt.backtests.run", "backtests")


def ask_windows() -> None:
    """Publish a look at the maintenance windows."""
    publish("mutt.maintenance.windows", "maintenance")


def ask_keys() -> None:
    """Publish a look at the API keys."""
    publish("mutt.maintenance.keys", "maintenance")


def ask_sources() -> None:
    """Publish a look at the sources."""
    publish("mutt.maintenance.sources", "maintenance")


class Tick:
    """One worker's tick. ``progress`` counts finished tasks; ``run_here`` starts a drain without a doorbell.

    ``client`` is at the Redis that holds the data, ``doorbells`` is the broker; ``elsewhere`` are the other servers
    over which the ingest queue is spread, by their names.
    """

    def __init__(
        self,
        client: Client,
        queues: dict[str, names.Queue],
        *,
        own_queues: frozenset[str],
        progress: Callable[[], int],
        run_here: Run,
        doorbells: Doorbells,
        elsewhere: Mapping[str, Client] | None = None,
        rings: Callable[..., None] = ring,
        sweeps: Callable[[bool], None] = ask_sweep,
        flows_back: Callable[[], None] = ask_flow_back,
        spill_every: float = SPILL_SELDOM,
        letters: Callable[[], None] = ask_letters,
        noise: Callable[[], None] = ask_noise,
        backtests: Callable[[], None] = ask_backtests,
        windows: Callable[[], None] = ask_windows,
        keys: Callable[[], None] = ask_keys,
        sources: Callable[[], None] = ask_sources,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._doorbells, self._queues, self._own = client, doorbells, queues, own_queues
        self._progress, self._run_here, self._rings, self._monotonic = progress, run_here, rings, monotonic
        self._sweeps, self._flows_back, self._spill_every = sweeps, flows_back, spill_every
        self._letters, self._noise, self._windows, self._backtests = letters, noise, windows, backtests
        self._keys, self._sources = keys, sources
        self._elsewhere, self._rests = dict(elsewhere or {}), Rests(monotonic)
        self._seen, self._since = -1, monotonic()

    def once(self) -> None:
        """One tick. ``redis.RedisError`` passes through."""
        for queue in self._queues.values():
            self._look_at(queue, self._client)
        for name, client in self._elsewhere.items():
            self._look_elsewhere(name, client)
        # A full Redis has no room for what a sweep or a flow back brings in.
        with contextlib.suppress(redis.OutOfMemoryError):
            # Else nothing is noted as asked for: the first tick after they were worked asks at once.
            if self._doorbells.waiting("maintenance") < MAINTENANCE_MOST:
                restarted = self._restarted()
                self._sweep_if_due(restarted)
                self._keys_if_due(restarted)
                self._flow_back_if_due()
                self._letters_if_due()
                self._noise_if_due()
                self._windows_if_due()
                self._sources_if_due()
            self._backtests_if_due()

    def _look_elsewhere(self, name: str, client: Client) -> None:
        """One that is away is left alone for a while, and keeps nobody else waiting."""
        if self._rests.due(name):
            return
        began = self._monotonic()
        try:
            self._look_at(self._queues["ingest_queue"], client)
        except redis.RedisError as error:
            if self._rests.met(name, error, self._monotonic() - began):
                log.warning("tick: Redis %s: %s", name, error)
        else:
            self._rests.over(name)

    def _look_at(self, queue: names.Queue, client: Client) -> None:
        if self._is_my_turn(queue, client):
            self._ring_if_needed(queue, client)

    @staticmethod
    def _is_my_turn(queue: names.Queue, client: Client) -> bool:
        try:
            return bool(client.set(queue.tick, "1", nx=True, px=round(EVERY * 1000)))
        except redis.OutOfMemoryError:
            return True  # nobody can note it, so each looks after its own queues

    def _ring_if_needed(self, queue: names.Queue, client: Client) -> None:
        if not any(client.xlen(stream) for stream in queue.streams):
            return
        if not client.exists(queue.bell):
            self._ring(queue.name, client)

    def _ring(self, name: str, client: Client) -> None:
        """Ring; where even that is refused, work in this worker's pool: a full Redis drains, a broker may be away."""
        queue = self._queues[name]
        try:
            client.set(queue.bell, "1", nx=True, px=names.BELL_MS)
            self._rings(name, why="tick")
        except (OperationalError, redis.ResponseError) as error:
            if queue.celery_queue in self._own:
                log.warning("the doorbell of %s is refused, working without: %s", name, error)
                self._run_here(name)
            else:
                # Whose queue it is can work without; this turn is theirs.
                client.delete(queue.tick, queue.bell)

    def _sweep_if_due(self, restarted: bool) -> None:
        lost = self._client.set(SWEEP_LOST, "1", nx=True, px=round(SWEEP_EVERY * 1000)) or restarted
        outside = self._client.exists(names.OUTSIDE) and self._client.set(SWEEP_TICK, "1", nx=True, px=1000)
        if lost or outside:
            self._sweeps(bool(lost))

    def _flow_back_if_due(self) -> None:
        """Somebody knows of spilled rounds: each second. Else now and then: who spilled them may be gone."""
        known = self._client.exists(names.SPILLED) and self._client.set(SPILL_KNOWN, "1", nx=True, px=1000)
        due = self._client.set(SPILL_TICK, "1", nx=True, px=round(self._spill_every * 1000))
        if known or due:
            self._flows_back()

    def _letters_if_due(self) -> None:
        if self._client.exists(names.LETTER_ORDERS) and self._client.set(
            LETTERS_TICK, "1", nx=True, px=round(EVERY * 1000)
        ):
            self._letters()

    def _noise_if_due(self) -> None:
        now = round(time.time() * 1000)
        due = self._client.zrangebyscore(names.NOISE_DUE, 0, now, start=0, num=1)
        if due and self._client.set(NOISE_TICK, "1", nx=True, px=round(EVERY * 1000)):
            self._noise()

    def _backtests_if_due(self) -> None:
        """One is known to wait, or to run; else now and then: who asked for it may not have reached Redis."""
        if self._doorbells.waiting("backtests"):
            return
        known = self._client.exists(names.BACKTESTS) and self._client.set(
            BACKTESTS_KNOWN, "1", nx=True, px=round(BACKTESTS_AGAIN * 1000)
        )
        due = self._client.set(BACKTESTS_TICK, "1", nx=True, px=round(BACKTESTS_EVERY * 1000))
        if known or due:
            self._backtests()

    def _windows_if_due(self) -> None:
        if self._client.set(WINDOWS_TICK, "1", nx=True, px=round(WINDOWS_EVERY * 1000)):
            self._windows()

    def _keys_if_due(self, restarted: bool) -> None:
        """Now and then, and at once where Redis may have lost them: emptied, it has lost this note too."""
        if self._client.set(KEYS_TICK, "1", nx=True, px=round(KEYS_EVERY * 1000)) or restarted:
            self._keys()

    def _sources_if_due(self) -> None:
        if self._client.set(SOURCES_TICK, "1", nx=True, px=round(SOURCES_EVERY * 1000)):
            self._sources()

    def _restarted(self) -> bool:
        """Is this another run of Redis than the last one that the fleet saw, or a replica in its place?"""
        history = str(self._client.info("replication")["master_replid"])
        before = self._client.set(HISTORY, history, get=True)
        return before is not None and before.decode() != history

    def stuck(self) -> bool:
        """Has a doorbell waited for a minute in which this worker finished nothing?"""
        finished = self._progress()
        waiting = any(self._doorbells.waiting(queue) for queue in self._own)
        if finished != self._seen or not waiting:
            self._seen, self._since = finished, self._monotonic()
        return self._monotonic() - self._since > STUCK_AFTER


def start(tick: Tick, stopping: threading.Event) -> threading.Thread:
    """Tick from a thread until ``stopping``."""
    thread = threading.Thread(target=_run, args=(tick, stopping), name="tick", daemon=True)
    thread.start()
    return thread


def _run(tick: Tick, stopping: threading.Event) -> None:
    failing = False
    while not stopping.wait(EVERY):
        try:
            tick.once()
            failing = False
            if tick.stuck():
                log.error(
                    "a doorbell waited for %d s and no task was finished: this worker ends", STUCK_AFTER
                )
                end()
        except (redis.RedisError, OperationalError, OSError) as error:
            if not failing:
                log.warning("tick: %s", error)
            failing = True
        except Exception:
            # Nobody starts this thread again, and without it whatever nobody rang for waits for ever.
            if not failing:
                log.exception("tick")
            failing = True


def end(within: float = END_WITHIN) -> None:
    """End this process: asked first, killed where it is still there after ``within`` seconds."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(within)
    log.error("this worker did not end within %g s: it is killed", within)
    os.kill(os.getpid(), signal.SIGKILL)


def connection(settings: Settings) -> Client:
    """The tick's own connection."""
    return redis_of(settings, timeout=2.0, max_connections=4)


def elsewhere(settings: Settings) -> dict[str, Client]:
    """Its connections to the other servers of the ingest queue, by their names. Raises SettingsError."""
    return {
        one.name: client_of(settings, one, timeout=2.0, max_connections=4) for one in servers(settings)[1:]
    }
