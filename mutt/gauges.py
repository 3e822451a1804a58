"""What stands in Redis and PostgreSQL, for Prometheus: read when it is asked for, by those who may read it.

Every process that may tells all of it, so a rule takes the largest of what they say and never adds them up. What can't
be asked is left out, and ``mutt_redis_up`` or ``mutt_postgres_up`` says so.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import redis
from prometheus_client import core
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mutt import names, scrape
from mutt.errors import MuttError, SettingsError, Unavailable
from mutt.pulse.collect import ROLES, STALE, latest
from mutt.pulse.sample import Sample
from mutt.scrape import Kind, Values
from mutt.services import Services
from mutt.store.engine import hasty_engine, transaction
from mutt.store.outlook import outlook
from mutt.streams import books
from mutt.streams.connect import Client
from mutt.streams.sources import Reports

BREAKER_STATES = {"": 0, "closed": 0, "half_open": 1, "open": 2}

#: Seconds for which an answer of PostgreSQL is told again: months come and go by the hour.
KEPT = 10.0

#: Seconds that PostgreSQL has for an answer.
PATIENCE = 1.0

#: Every metric of this module by its name: what the docs list.
KINDS: Mapping[str, Kind] = {
    "mutt_redis_up": Kind("1: Redis answered the process that tells this; 0: it did not"),
    "mutt_postgres_up": Kind("1: PostgreSQL answered the process that tells this; 0: it did not"),
    "mutt_queue_depth": Kind("Entries in a queue, and alerts behind them", ("queue",)),
    "mutt_queue_oldest_seconds": Kind("Age of the oldest entry of a queue", ("queue",)),
    "mutt_queue_held": Kind("Entries of a queue that a worker has", ("queue",)),
    "mutt_dlq_depth": Kind("Dead letters", ("queue",)),
    "mutt_ledger": Kind("The books", ("of", "what")),
    "mutt_ledger_off": Kind("By how much the books are off: 0, or something is wrong", ("of",)),
    "mutt_breaker_state": Kind("Moog's breaker: 0 closed, 1 half open, 2 open"),
    "mutt_moog_paused_seconds": Kind("How long Moog asked all to wait, from now on"),
    "mutt_budget_limit": Kind("Requests to Moog that the window allows; 0: no forwarder asked yet"),
    "mutt_budget_used": Kind("Requests to Moog in the window that ends now"),
    "mutt_budget_window_seconds": Kind("The window: the period and its slack"),
    "mutt_redis_memory_bytes": Kind("Memory that Redis uses", ("redis",)),
    "mutt_redis_memory_max_bytes": Kind("Memory that Redis may use; 0: it has no limit", ("redis",)),
    "mutt_redis_cpu_seconds": Kind("Processor time of Redis", ("redis",), counts=True),
    "mutt_redis_commands": Kind("Commands that Redis worked", ("redis",), counts=True),
    "mutt_partition_months_ahead": Kind("Months of the audit that are made, after the present one"),
    "mutt_partition_default_rows": Kind("Audit rows that no month was there for"),
    "mutt_postgres_answer_seconds": Kind("How long PostgreSQL took to answer a question about its catalog"),
    "mutt_processes": Kind("Processes that say how they are", ("role",)),
    "mutt_process_cores": Kind("Cores that the busiest process keeps busy", ("role",)),
    "mutt_process_starved_cores": Kind("Cores that the processes had work for and did not get", ("role",)),
    "mutt_process_busy_ratio": Kind(
        "Of the time that workers or threads have, how much they work", ("role",)
    ),
    "mutt_process_store_ratio": Kind("Of that, how much PostgreSQL kept them waiting", ("role",)),
    "mutt_process_p99_seconds": Kind(
        "99 % of requests, takes, turns or pages: of the slowest process", ("role",)
    ),
    "mutt_source_silent": Kind("1: the source fell silent; 0: it did not", ("source",)),
    "mutt_source_last_seen_seconds": Kind("Since the last accepted event of a source", ("source",)),
    "mutt_spill_events": Kind("Events in the spill"),
    "mutt_spill_bytes": Kind("Bytes in the spill"),
    "mutt_spill_oldest_seconds": Kind("Age of its oldest round"),
    "mutt_spill_set_aside": Kind("Rounds that can't flow back"),
}


def families(told: Mapping[str, Values]) -> Iterator[core.Metric]:
    """These metrics as Prometheus' library has them."""
    return scrape.families(told, KINDS)


class RedisGauges:
    """What stands in Redis: depths, ages, the books, the budget, and how it is itself."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        try:
            told = self._told(self._services.redis)
        except (redis.RedisError, SettingsError):
            told = {"mutt_redis_up": {(): 0}}  # the counters go out all the same
        yield from families(told)

    def _told(self, client: Client) -> dict[str, Values]:
        s = self._services
        return {
            "mutt_redis_up": {(): 1},
            **_queues(books.depths(client, s.queues, books.clock(client), s.elsewhere)),
            **self._books(client),
            **_budget(client),
            **_servers([client, *s.elsewhere]),
            **_sources(client),
        }

    def _books(self, client: Client) -> dict[str, Values]:
        try:
            return _books(books.read(client, *self._services.elsewhere))
        except redis.RedisError:
            return {}  # one of several servers is away: the sum without it would be wrong


def _queues(depths: list[books.Depth]) -> dict[str, Values]:
    live = [d for d in depths if not d.queue.startswith("dlq:")]
    dead = [d for d in depths if d.queue.startswith("dlq:")]
    return {
        "mutt_queue_depth": {(d.queue,): d.waiting for d in live},
        "mutt_queue_oldest_seconds": {(d.queue,): d.oldest_s for d in live},
        "mutt_queue_held": {(d.queue,): d.held for d in live},
        "mutt_dlq_depth": {(d.queue.removeprefix("dlq:"),): d.entries for d in dead},
    }


def _books(ledger: books.Books) -> dict[str, Values]:
    sums = {("events", name): float(n) for name, n in ledger.events.items()}
    sums |= {("alerts", name): float(n) for name, n in ledger.alerts.items()}
    off = {("events",): ledger.off_events, ("alerts",): ledger.off_alerts}
    return {"mutt_ledger": sums, "mutt_ledger_off": off}


def _budget(client: Client) -> dict[str, Values]:
    """As ``budget/gate.lua`` left it; nothing is thrown away here, only left uncounted."""
    with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hmget(names.BREAKER, "state", "pause_until", "limit", "window_us")
        (seconds, micros), (state, pause, limit, window) = pipe.execute()
    now = seconds * 1_000_000 + micros
    since = f"({now - int(window or 0)}"
    return {
        "mutt_breaker_state": {(): BREAKER_STATES.get((state or b"").decode(), 0)},
        "mutt_moog_paused_seconds": {(): max(0.0, (float(pause or 0) - now) / 1e6)},
        "mutt_budget_limit": {(): float(limit or 0)},
        "mutt_budget_used": {(): client.zcount(names.BUDGET, since, "+inf")},
        "mutt_budget_window_seconds": {(): float(window or 0) / 1e6},
    }


def _sources(client: Client) -> dict[str, Values]:
    """Each whose key is good, as it stood when that was last looked at; of one that was never heard not since when."""
    now, found = books.clock(client), Reports(client).standing()
    return {
        "mutt_source_silent": {(name,): float(one.silent_since > 0) for name, one in found.items()},
        "mutt_source_last_seen_seconds": {
            (name,): max(0.0, now - one.event_at) for name, one in found.items() if one.event_at
        },
    }


def _servers(clients: Iterable[Client]) -> dict[str, dict[tuple[str], float]]:
    """How each is; one that does not answer is left out."""
    told: dict[str, dict[tuple[str], float]] = {}
    for client in clients:
        with contextlib.suppress(redis.RedisError):
            for name, value in _server(client).items():
                told.setdefault(name, {})[(_name(client),)] = value
    return told


def _server(client: Client) -> dict[str, float]:
    info = client.info()
    return {
        "mutt_redis_memory_bytes": float(info.get("used_memory", 0)),
        "mutt_redis_memory_max_bytes": float(info.get("maxmemory") or 0),
        "mutt_redis_cpu_seconds": _cpu(info),
        "mutt_redis_commands": float(info.get("total_commands_processed", 0)),
    }


def _cpu(info: Mapping[str, Any]) -> float:
    """Of the thread that works the commands, where this Redis tells it apart: it has one core."""
    main = [info.get(f"used_cpu_{kind}_main_thread") for kind in ("user", "sys")]
    both = [info.get(f"used_cpu_{kind}", 0) for kind in ("user", "sys")]
    return sum(map(float, both if None in main else main))


def _name(client: Client) -> str:
    """host:port, or a path, or the master's name; never its login."""
    told = client.connection_pool.connection_kwargs
    if "host" in told:
        return f"{told['host']}:{told.get('port', 6379)}"
    return str(told.get("path") or getattr(client.connection_pool, "service_name", "redis"))


class PulseGauges:
    """How the fleet's processes are, as the pulse read it last (``mutt.pulse``)."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        try:
            client = self._services.redis
            samples, (now, _micros) = latest(client), client.time()
        except (redis.RedisError, SettingsError):
            return
        if samples and now - samples[-1].at <= STALE:
            yield from families(of_processes(samples[-1]))


def of_processes(sample: Sample) -> dict[str, Values]:
    """The processes of each role; of a role without any there is only how many there are."""
    crews = {role: sample.of_role(role) for role in ROLES}
    there = {(role,): crew for role, crew in crews.items() if crew}
    slowest = {key: [one.p99_ms for one in crew if one.p99_ms is not None] for key, crew in there.items()}
    return {
        "mutt_processes": {(role,): len(crew) for role, crew in crews.items()},
        "mutt_process_cores": {key: max(one.cpu for one in crew) for key, crew in there.items()},
        "mutt_process_starved_cores": {key: sum(one.starved for one in crew) for key, crew in there.items()},
        "mutt_process_busy_ratio": {key: fmean(one.busy for one in crew) for key, crew in there.items()},
        "mutt_process_store_ratio": {
            key: fmean(one.store_share for one in crew) for key, crew in there.items()
        },
        "mutt_process_p99_seconds": {key: max(ms) / 1000 for key, ms in slowest.items() if ms},
    }


class PostgresGauges:
    """How the audit's months stand, asked at most every :data:`KEPT` seconds."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._told: dict[str, Values] = {}
        self._until = float("-inf")

    def collect(self) -> Iterator[core.Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._told = self._ask()
                self._until = time.monotonic() + KEPT
            told = self._told
        yield from families(told)

    def _ask(self) -> dict[str, Values]:
        began = time.monotonic()
        try:
            with transaction(self._connected()) as conn:
                ahead, default_rows = outlook(conn, datetime.now(UTC))
        except (MuttError, SQLAlchemyError):
            return {"mutt_postgres_up": {(): 0}}
        return {
            "mutt_postgres_up": {(): 1},
            "mutt_partition_months_ahead": {(): ahead},
            "mutt_partition_default_rows": {(): default_rows},
            "mutt_postgres_answer_seconds": {(): time.monotonic() - began},
        }

    def _connected(self) -> Engine:
        """A connection of its own: who asks how it is can't wait for those who work."""
        if self._engine is None:
            s = self._services
            s.settings.need("database_url")
            self._engine = hasty_engine(s.settings, role=s.role, size=1, timeout=PATIENCE)
        return self._engine


class SpillGauges:
    """What stands in PostgreSQL's spill, where there is one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        if not self._services.settings.ingest_spill:
            return  # PostgreSQL is not asked
        try:
            stands = self._services.spill.standing()
        except (Unavailable, SettingsError):
            return
        yield from families(
            {
                "mutt_spill_events": {(): stands.events},
                "mutt_spill_bytes": {(): stands.bytes},
                "mutt_spill_oldest_seconds": {(): stands.oldest_s},
                "mutt_spill_set_aside": {(): stands.set_aside},
            }
        )
