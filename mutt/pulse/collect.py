"""One reading of everything, every five seconds, by one of the fleet; kept in Redis for an hour.

A reading is one script that looks at the streams, a dozen small reads in the same pipeline, and three questions to
PostgreSQL that touch no table. Nobody else asks the servers for a page: whoever shows something reads what is kept.
Where no worker lives that reads, whoever looks does it (:func:`reading`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import redis
from sqlalchemy import Engine

from mutt import names
from mutt.budget.arithmetic import window
from mutt.errors import SettingsError, StoreDown
from mutt.pulse import judge
from mutt.pulse.rates import folded, middle, point, rate
from mutt.pulse.sample import (
    EVERY,
    GONE_AFTER,
    KEPT,
    Moog,
    Point,
    Postgres,
    Process,
    Queue,
    Reading,
    Redis,
    Sample,
)
from mutt.services import Services
from mutt.store.engine import hasty_engine, transaction
from mutt.store.vitals import Pulse, pulse
from mutt.streams import books
from mutt.streams.connect import Client
from mutt.streams.servers import client_of, servers
from mutt.streams.sources import stands

log = logging.getLogger("mutt.pulse")

T = TypeVar("T", Sample, Point)

#: Samples that are kept whole: those of the last minute.
WHOLE = 13

#: Seconds that each server has for an answer. One that is stopped must not keep a page waiting.
PATIENCE = 1.0

#: Seconds for which a viewer shows what it read last.
FRESH = 1.0

#: More than one thread can use, with what clocks are off by; threads of a Redis that does not tell them apart (three of
#: its own, and those of io-threads).
ONE_CORE, ALL_THREADS = 1.5, 8

#: The newest reading is this old at most, or whoever looks makes one.
STALE = 2 * EVERY

#: Who says how it is (names.PULSE_OF).
ROLES = ("ingest", "alerts", "moog", "housekeeping", "backtests", "admin")

#: Length, first id and how many are held of each stream, without what stands in it: a first entry may be a MiB.
#: ARGV: the group, how many of the streams have one, the streams.
_LOOK = """#!lua flags=no-writes
local told = {}
for i = 3, #ARGV do
  local n, first, held = redis.call('XLEN', ARGV[i]), '', 0
  if n > 0 then
    first = redis.call('XRANGE', ARGV[i], '-', '+', 'COUNT', 1)[1][1]
    if i - 2 <= tonumber(ARGV[2]) then
      local pending = redis.pcall('XPENDING', ARGV[i], ARGV[1])
      held = pending.err and 0 or pending[1]
    end
  end
  told[#told + 1] = {n, first, held}
end
return told
"""

#: Kept also where Redis is out of memory. ARGV: milliseconds, then a list, what comes to it and how many stay, twice.
_KEEP = """#!lua flags=allow-oom
for i = 2, #ARGV, 3 do
  redis.call('LPUSH', ARGV[i], ARGV[i + 1])
  redis.call('LTRIM', ARGV[i], 0, ARGV[i + 2] - 1)
  redis.call('PEXPIRE', ARGV[i], ARGV[1])
end
"""


class Source(NamedTuple):
    """One Redis that holds data, and the streams that are there. The first one holds everything else, too."""

    name: str  #: host:port, without a login
    client: Client
    worked: Sequence[str]  #: streams that a group works
    dead: Sequence[str] = ()  #: dead letters


def latest(client: Client) -> list[Sample]:
    """The last minute's samples, the oldest first. ``redis.RedisError`` passes through."""
    return _read(client.lrange(names.PULSE_SAMPLES, 0, WHOLE - 1), Sample)


def hour(client: Client) -> list[Point]:
    """The last hour's points, the oldest first. ``redis.RedisError`` passes through."""
    return _read(client.lrange(names.PULSE_POINTS, 0, KEPT - 1), Point)


def reading(services: Services) -> Reading:
    """What a viewer shows: the newest sample, the troubles, the hour.

    Where the newest one is too old, for no worker that reads lives or Redis is away, it is made here and now.
    """
    with _lock:
        if services not in _collectors:
            _collectors[services] = Collector(services)
    return _collectors[services].reading()


class Collector:
    """Reads everything of a fleet. ``sources`` stand in for the Redis that the settings name. Threads may share one."""

    def __init__(
        self,
        services: Services,
        *,
        sources: Callable[[], Sequence[Source]] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Not the services themselves: they are the key by which viewers find this one.
        self._settings, self._queues, self._role = services.settings, services.queues, services.role
        self._now, self._monotonic = now, monotonic
        self._make_sources = sources or self._of_settings
        self._lock = threading.Lock()
        self._skew = 0.0  # seconds that Redis' clock is ahead of ours
        self._shown: tuple[float, Reading] | None = None
        # What stands in for Redis' own copy while that is away.
        self._samples: deque[Sample] = deque(maxlen=WHOLE)
        self._points: deque[Point] = deque(maxlen=KEPT)

    # ---- whoever reads for the fleet

    def turn(self) -> bool:
        """Is it this process' turn to read? ``redis.RedisError`` passes through."""
        # A little less than EVERY: whoever asks each second is not to miss it by a moment, and wait for another.
        ms = round((EVERY - 0.5) * 1000)
        try:
            return bool(self._home.client.set(names.PULSE_TURN, "1", nx=True, px=ms))
        except redis.OutOfMemoryError:
            return True  # nobody can note it

    def once(self) -> Sample:
        """Read everything, and keep it. What can't be read is said in the sample; raises SettingsError alone."""
        with self._lock:
            return self._once()

    def _once(self) -> Sample:
        at = self._now() + self._skew
        raw: list[_Raw] = []
        away: dict[str, str] = {}
        for place, source in enumerate(self._sources):
            try:
                raw.append(self._ask(source, at, home=place == 0))
            except redis.RedisError as error:
                away["redis"] = f"Redis at {source.name} does not answer: {_line(error)}"
        store = self._ask_store(away)
        before = self._before(raw)
        sample = self._sample(raw, store, before, away, at)
        self._keep(sample, point(before, sample), gone=raw[0].gone if raw and raw[0].home else ())
        return sample

    # ---- whoever shows it

    def reading(self) -> Reading:
        """The newest reading; it is made here where nobody else did."""
        with self._lock:
            now = self._monotonic()
            if self._shown is None or now - self._shown[0] >= FRESH:
                self._shown = (now, self._reading())
            return self._shown[1]

    def _reading(self) -> Reading:
        samples, points = self._kept()
        if not samples or self._now() + self._skew - samples[-1].at > STALE:
            self._once()
            samples, points = self._kept()
        return Reading(samples[-1], tuple(judge.judge(samples, points)), tuple(points))

    def _kept(self) -> tuple[list[Sample], list[Point]]:
        """What Redis has; while it is away, what this process read itself, the newest of it of now."""
        if not self._is_away():
            try:
                return latest(self._home.client), hour(self._home.client)
            except redis.RedisError:
                self._once()
        return [*self._samples], [*self._points]

    def _is_away(self) -> bool:
        """Did this process see a moment ago that Redis is away? Then it is not asked again."""
        last = self._samples[-1] if self._samples else None
        return last is not None and not _has_home(last) and self._is_fresh(last)

    def _is_fresh(self, sample: Sample) -> bool:
        return self._now() + self._skew - sample.at < EVERY

    # ---- Redis

    @cached_property
    def _sources(self) -> Sequence[Source]:
        return self._make_sources()

    @property
    def _home(self) -> Source:
        return self._sources[0]

    def _of_settings(self) -> Sequence[Source]:
        worked = [stream for queue in self._queues.values() for stream in queue.streams]
        home, *others = (
            (one.name, client_of(self._settings, one, timeout=PATIENCE, max_connections=4))
            for one in servers(self._settings)
        )
        elsewhere = (Source(*one, [names.INGEST_STREAM], ()) for one in others)
        return [Source(*home, worked, tuple(names.DLQS.values())), *elsewhere]

    def _ask(self, source: Source, at: float, *, home: bool) -> _Raw:
        streams = [*source.worked, *source.dead]
        since = round((at - window(self._settings.moog_rate_period)) * 1e6)
        with source.client.pipeline(transaction=False) as pipe:
            pipe.eval(_LOOK, 0, names.GROUP, len(source.worked), *streams)
            pipe.time()
            for section in ("memory", "cpu", "stats"):
                pipe.info(section)
            pipe.hgetall(names.LEDGER)
            if home:
                pipe.hgetall(names.BEHIND_COUNTS)
                pipe.hgetall(names.BREAKER)
                pipe.zcount(names.BUDGET, since, "+inf")
                pipe.lindex(names.PULSE_SAMPLES, 0)
                pipe.hgetall(names.SOURCES_NOW)
                for role in ROLES:
                    pipe.hgetall(names.PULSE_OF + role)
            looked, (seconds, micros), memory, cpu, stats, ledger, *more = pipe.execute()
        clock = seconds + micros / 1e6
        if home:
            self._skew = clock - self._now()
        raw = _Raw(source.name, streams, looked, clock, {**memory, **cpu, **stats}, _numbers(ledger))
        if home:
            raw.home = _Home(_numbers(more[0]), _texts(more[1]), int(more[2]), more[3], _silent(more[4]))
            raw.reports, raw.gone = _reports(more[5:], clock)
        return raw

    # ---- PostgreSQL

    @cached_property
    def _engine(self) -> Engine:
        self._settings.need("database_url")
        return hasty_engine(self._settings, role=self._role, size=1, timeout=PATIENCE)

    def _ask_store(self, away: dict[str, str]) -> _Store | None:
        try:
            engine = self._engine
        except SettingsError:
            return None  # who shows this has no PostgreSQL, which is no outage
        try:
            with transaction(engine) as conn:
                began = self._monotonic()
                found = pulse(conn)
                return _Store(found, (self._monotonic() - began) * 1000)
        except StoreDown as error:
            away["postgres"] = f"PostgreSQL does not answer: {_line(error)}"
            return None

    # ---- what it comes to

    def _before(self, raw: Sequence[_Raw]) -> Sample | None:
        """The reading before this one, whoever made it."""
        kept = next((one.home.last for one in raw if one.home), None)
        found = _read([kept], Sample) if kept else []
        return found[0] if found else self._samples[-1] if self._samples else None

    def _sample(
        self,
        raw: Sequence[_Raw],
        store: _Store | None,
        before: Sample | None,
        away: Mapping[str, str],
        at: float,
    ) -> Sample:
        home = next((one.home for one in raw if one.home), None)
        processes = next((folded(one.reports) for one in raw if one.home), ())
        counters = {name: value for one in raw for name, value in one.counters.items()}
        if store:
            counters["postgres.rows"] = store.found.rows
        at = raw[0].clock if raw else at
        since = _Since(before.counters, at - before.at) if before else _Since({}, 0.0)
        return Sample(
            at=at,
            queues=_queues(raw, home.behind if home else {}),
            # Without one of the servers the sum would be less: when it is back, all it ever did would seem to flow now.
            events=_sums(raw, "events.", books.EVENTS) if len(raw) == len(self._sources) else {},
            alerts=_sums(raw, "alerts.", books.ALERTS) if home else {},
            processes=processes,
            redis=tuple(one.redis(since) for one in raw),
            postgres=_postgres(store, since, counters, processes) if store else None,
            moog=self._moog(home, at, processes) if home else Moog(),
            away=away,
            silent=home.silent if home else {},
            counters=counters,
        )

    def _moog(self, home: _Home, at: float, processes: Sequence[Process]) -> Moog:
        s, found = self._settings, home.breaker
        forwarders = [one for one in processes if one.role == "moog"]
        noted = float(found.get("limit_until") or 0) / 1e6 > at
        until, paused = (float(found.get(name) or 0) / 1e6 for name in ("until", "pause_until"))
        state = (found.get("state") or "closed").replace("_", " ")
        return Moog(
            breaker=state,
            reason=found.get("reason", ""),
            until=until if state != "closed" else 0.0,
            paused_until=paused if paused > at else 0.0,
            limit=int(float(found["limit"])) if noted else s.moog_rate_limit,
            period=s.moog_rate_period,
            used=home.used,
            latency_ms=middle(one.p50_ms for one in forwarders),
            slots=sum(one.slots for one in forwarders),
        )

    def _keep(self, sample: Sample, short: Point, gone: Iterable[tuple[str, bytes]]) -> None:
        self._samples.append(sample)
        if not _has_home(sample):
            self._points.append(short)
            return
        self._points.clear()
        for_ms = round(KEPT * EVERY * 1000)
        packed = msgspec.msgpack.encode
        told = (names.PULSE_SAMPLES, packed(sample), WHOLE, names.PULSE_POINTS, packed(short), KEPT)
        try:
            with self._home.client.pipeline(transaction=False) as pipe:
                pipe.eval(_KEEP, 0, for_ms, *told)
                for key, name in gone:
                    pipe.hdel(key, name)
                pipe.execute()
        except redis.RedisError as error:
            log.warning("a reading is not kept: %s", error)


_collectors: WeakKeyDictionary[Services, Collector] = WeakKeyDictionary()
_lock = threading.Lock()


class _Home(NamedTuple):
    """What the first Redis alone has."""

    behind: Mapping[str, int]
    breaker: Mapping[str, str]
    used: int
    last: bytes | None
    silent: Mapping[str, float]


class _Store(NamedTuple):
    found: Pulse
    answer_ms: float


class _Since(NamedTuple):
    """The counters of the reading before, and the seconds since then."""

    counters: Mapping[str, float]
    seconds: float

    def rate(self, name: str, now: float) -> float:
        return rate(self.counters.get(name), now, self.seconds)


class _Raw:
    """What one Redis said."""

    def __init__(
        self,
        name: str,
        streams: Sequence[str],
        looked: Sequence[tuple[int, bytes, int]],
        clock: float,
        info: Mapping[str, Any],
        ledger: Mapping[str, int],
    ) -> None:
        self.name, self.clock, self.info, self.ledger = name, clock, info, ledger
        self.home: _Home | None = None
        self.reports: list[Process] = []
        self.gone: list[tuple[str, bytes]] = []
        self.queues = [
            Queue(stream.removeprefix("mutt:"), n, _age(first, clock), held)
            for stream, (n, first, held) in zip(streams, looked, strict=True)
        ]

    @property
    def counters(self) -> dict[str, float]:
        # The thread that does the commands, where Redis knows its share: writing its file anew is another's work.
        cpu = sum(
            float(self.info.get(f"used_cpu_{of}_main_thread", self.info.get(f"used_cpu_{of}", 0.0)))
            for of in ("sys", "user")
        )
        commands = float(self.info.get("total_commands_processed", 0))
        return {f"cpu {self.name}": cpu, f"commands {self.name}": commands}

    @property
    def threads(self) -> int:
        """Those whose processor time is counted: the one of the commands, or all that Redis has."""
        return 1 if "used_cpu_user_main_thread" in self.info else ALL_THREADS

    def redis(self, since: _Since) -> Redis:
        now = self.counters
        cpu, commands = (since.rate(name, value) for name, value in now.items())
        if cpu > self.threads * ONE_CORE:
            cpu = commands = 0.0  # more than there are: after a failover another server is in its place
        memory, most = (int(self.info.get(name) or 0) for name in ("used_memory", "maxmemory"))
        return Redis(self.name, memory, most, cpu, commands)


def _age(first: bytes, clock: float) -> float:
    return max(0.0, clock - int(first.split(b"-")[0]) / 1000) if first else 0.0


def _queues(raw: Sequence[_Raw], behind: Mapping[str, int]) -> tuple[Queue, ...]:
    """Every queue once: what several servers hold of it is added up."""
    found: dict[str, list[Queue]] = {}
    for one in raw:
        for queue in one.queues:
            found.setdefault(queue.name, []).append(queue)
    return tuple(
        Queue(
            name,
            sum(part.entries for part in parts),
            max(part.oldest_s for part in parts),
            sum(part.held for part in parts),
            behind.get(name.removeprefix("alert_queue:"), 0) if name.startswith("alert_queue:") else 0,
        )
        for name, parts in found.items()
    )


def _has_home(sample: Sample) -> bool:
    """Did the first server answer? The books of alerts are there."""
    return bool(sample.alerts)


def _sums(raw: Sequence[_Raw], prefix: str, words: Iterable[str]) -> dict[str, int]:
    return {word: sum(one.ledger.get(prefix + word, 0) for one in raw) for word in words}


def _postgres(
    store: _Store, since: _Since, counters: Mapping[str, float], processes: Sequence[Process]
) -> Postgres:
    return Postgres(
        answer_ms=store.answer_ms,
        rows=since.rate("postgres.rows", counters["postgres.rows"]),
        commit_ms=middle(one.commit_ms for one in processes if one.role == "alerts"),
        connections=store.found.connections,
        max_connections=store.found.max_connections,
    )


def _reports(
    found: Sequence[Mapping[bytes, bytes]], clock: float
) -> tuple[list[Process], list[tuple[str, bytes]]]:
    """Those of processes that are there, and the fields of those that are gone for good."""
    reports: list[Process] = []
    gone: list[tuple[str, bytes]] = []
    for role, told in zip(ROLES, found, strict=True):
        for name, packed in told.items():
            [report] = _read([packed], Process) or [None]
            age = clock - report.at if report else 0.0
            if report and age <= GONE_AFTER:
                reports.append(report)
            elif age > 6 * GONE_AFTER:
                gone.append((names.PULSE_OF + role, name))
    return reports, gone


def _read(packed: Iterable[bytes], what: type[Any]) -> list[Any]:
    """Decoded, the other way round. What a newer MUTT wrote otherwise is left out."""
    found = []
    for one in packed:
        try:
            found.append(msgspec.msgpack.decode(one, type=what))
        except msgspec.DecodeError:
            continue
    return found[::-1]


def _silent(found: Mapping[bytes, bytes]) -> dict[str, float]:
    return {name: one.silent_since for name, one in stands(found).items() if one.silent_since}


def _numbers(found: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in found.items()}


def _texts(found: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in found.items()}


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def start(services: Services, stopping: threading.Event) -> threading.Thread:
    """Read for the fleet from a thread until ``stopping``: a server that hangs is not to hold up the tick."""
    thread = threading.Thread(target=_run, args=(Collector(services), stopping), name="pulse", daemon=True)
    thread.start()
    return thread


def _run(collector: Collector, stopping: threading.Event) -> None:
    said: list[str] = []
    while not stopping.wait(1.0):
        try:
            if not collector.turn():
                continue
            away = [*collector.once().away.values()]
        except (redis.RedisError, SettingsError, OSError) as error:
            away = [f"nothing is read: {error}"]
        except Exception:
            # The thread's edge: whatever went wrong with one reading, the next one is made.
            log.exception("nothing is read")
            away = ["nothing is read"]
        for sentence in away if not said else ():
            log.warning("%s", sentence)
        said = away
