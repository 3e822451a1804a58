"""What a reading of the pipeline holds. Values only: who reads is ``collect``, who judges is ``judge``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

#: Seconds between two readings; so many are kept: an hour.
EVERY = 5.0
KEPT = 720

#: Seconds between two reports of a process; one that is older than this is of a process that is gone.
REPORT_EVERY = 2.0
GONE_AFTER = 10.0


class Queue(msgspec.Struct, frozen=True):
    """One stream: ``ingest_queue``, ``alert_queue:critical`` …, ``delivery_queue``, ``dlq:alerts`` …."""

    name: str
    entries: int
    oldest_s: float  #: age of the first entry
    held: int = 0  #: entries with a worker
    behind: int = 0  #: alerts that stand behind others of their signature, beside the entries


class Process(msgspec.Struct, frozen=True):
    """What a process says of itself, over the seconds since its last report. A worker's children are part of it."""

    name: str  #: host:pid
    role: str  #: ingest, alerts, moog, housekeeping, backtests, admin
    at: float  #: when it said so, seconds of Redis' clock
    cpu: float  #: cores, with its children's: 1.0 is one core kept busy
    rss: int  #: bytes, with its children's
    busy: float = 0.0  #: 0 to 1: of the time that its workers (threads, children) have, how much they worked
    slots: int = 1  #: how many it can do at a time
    events: float = 0.0  #: a second: accepted, evaluated, sent or recorded
    p50_ms: float | None = None  #: of its step: a request, a take, a turn, a page
    p99_ms: float | None = None
    store_share: float = 0.0  #: 0 to 1: of its busy time, how much PostgreSQL kept it waiting
    commit_ms: float | None = None  #: of its COMMITs, the median
    starved: float = 0.0  #: cores that it had work for and did not get: others had them (Linux says it)
    refused: float = 0.0  #: requests a second answered with 503
    queued: int = 0  #: requests that wait for a thread


class Redis(msgspec.Struct, frozen=True):
    """One Redis that holds data."""

    name: str  #: host:port, without a login
    memory: int  #: bytes
    max_memory: int  #: bytes; 0: it has no limit
    cpu: float  #: cores since the last reading: it has one for commands
    commands: float  #: a second


class Postgres(msgspec.Struct, frozen=True):
    """The database."""

    answer_ms: float  #: to a question that touches nothing
    rows: float  #: audit rows a second, since the last reading
    commit_ms: float | None = None  #: of a worker's COMMIT, the median of the workers
    connections: int = 0
    max_connections: int = 0


class Moog(msgspec.Struct, frozen=True):
    """What is known of Moog."""

    breaker: str = "closed"  #: closed, open, half open
    reason: str = ""  #: why it is open: auth, config, or what failed
    until: float = 0.0  #: seconds since the epoch
    paused_until: float = 0.0  #: Moog said how long to wait
    limit: int = 0  #: requests a period
    period: float = 1.0  #: seconds
    used: int = 0  #: requests that count in the window that ends now
    latency_ms: float | None = None  #: of its answers, the median
    slots: int = 0  #: requests that all forwarders together can have open


class Sample(msgspec.Struct, frozen=True):
    """One reading. What could not be read is None, and ``away`` says in a sentence why."""

    at: float  #: seconds of Redis' clock
    queues: tuple[Queue, ...] = ()
    events: Mapping[str, int] = msgspec.field(default_factory=dict)  #: the ledger: accepted, settled, …
    alerts: Mapping[str, int] = msgspec.field(default_factory=dict)  #: the ledger: raised, delivered, …
    processes: tuple[Process, ...] = ()
    redis: tuple[Redis, ...] = ()
    postgres: Postgres | None = None
    moog: Moog = Moog()
    away: Mapping[str, str] = msgspec.field(default_factory=dict)  #: ``redis`` or ``postgres``: a sentence
    #: Sources that fell silent, with when their last event came.
    silent: Mapping[str, float] = msgspec.field(default_factory=dict)
    #: What the next reading takes its rates from.
    counters: Mapping[str, float] = msgspec.field(default_factory=dict)

    def queue(self, name: str) -> Queue:
        """One by its name; an empty one where there is none."""
        return next((one for one in self.queues if one.name == name), Queue(name, 0, 0.0))

    def of_role(self, role: str) -> tuple[Process, ...]:
        """The processes of a role that reported of late."""
        return tuple(one for one in self.processes if one.role == role and self.at - one.at <= GONE_AFTER)


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A reading in short, as the hour's charts need it. Rates are a second, since the reading before."""

    at: float
    events_in: float
    events_out: float  #: settled, parked, duplicate, dropped
    alerts_in: float
    alerts_out: float  #: delivered
    ingest_depth: int  #: events that stand in the ingest queue, by the ledger
    alert_depth: int  #: alerts that wait for Moog, by the ledger
    oldest_s: float  #: of the ingest queue and the lanes
    budget_used: float  #: 0 to 1
    dead: int  #: dead letters
    redis_share: float  #: 0 to 1: memory
    redis_cpu: float  #: 0 to 1: of the core
    rows: float  #: audit rows a second
    workers: int  #: alerts processes that report


#: What can hold the pipeline up: a closed set. The first that is found is the bottleneck; the order is the one in which
#: a cure helps: nothing behind the first gets better before it does. The entry of docs/operations.md has the same name.
TROUBLES = (
    "redis-away",
    "redis-memory",
    "postgres-away",
    "ingest-away",
    "alerts-away",
    "moog-away",
    "record-away",
    "moog-outage",
    "postgres-writes",
    "redis-core",
    "alerts-behind",
    "ingest-cpu",
    "ingest-latency",
    "moog-limit",
    "forwarders-behind",
    "record-behind",
    "slow-pages",
    "dead-letters",
    "source-silent",
)


class Trouble(msgspec.Struct, frozen=True):
    """Something that holds the pipeline up, for a person who was woken."""

    name: str  #: a word of TROUBLES
    title: str  #: a sentence of a few words: "Moog is away"
    why: str  #: what was seen, with figures
    do: str  #: what to do, a sentence; also what would not help
    command: str  #: to type, or ''
    urgent: bool = True  #: events or alerts wait longer than promised, or are refused

    @property
    def entry(self) -> str:
        """Where the runbook speaks of it."""
        return f"docs/operations.md#{self.name}"


class Reading(msgspec.Struct, frozen=True):
    """What a viewer shows: the newest sample, what is wrong, and the hour."""

    sample: Sample
    troubles: tuple[Trouble, ...] = ()
    points: tuple[Point, ...] = ()  #: the oldest first
