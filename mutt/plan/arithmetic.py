"""A rate of events and what was measured become a plan: replicas, memory, disk, connections, and what gives way first.

Every figure carries the formula it came from, with the measured numbers in it, so that it can be checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from mutt.plan.forecast import speed
from mutt.plan.values import Measured, Question

#: How busy a replica is meant to be: what is left is for bursts, and for the replicas of a host that went away.
BUSY = 0.7

#: Ingest refuses at this share of Redis' memory.
FULL = 0.8

#: Seconds that Redis remembers an append (streams/stream.py).
MARKED = 600

#: Threads of one forwarder, and how many times rate x latency of them are wanted (docs/architecture.md).
THREADS, SPARE_THREADS = 32, 2

#: What else holds connections: pages (a process), housekeeping, back-tests, and a shell.
ADMIN, HOUSEKEEPING, BACKTESTS, SHELL = 2, 1, 1, 1

#: Roles whose processes have a pool of DB_POOL_MAX; that of ingest is the spill's.
POOLED = ("alerts", "housekeeping", "backtests", "admin")

DAY, MONTH = 86_400, 30


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a plan: ``value`` in ``unit``, and the formula with its numbers."""

    name: str
    value: float
    unit: str
    formula: str


class Replicas(msgspec.Struct, frozen=True, kw_only=True):
    """How many processes of a role, the cores that they keep busy, and why so many."""

    role: str
    processes: int
    cores: float
    why: str


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What can't be had twice: so many events a second it does at the most, and what to do then."""

    name: str
    eps: float
    formula: str
    remedy: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``question.eps`` needs. ``limits`` are in the order in which they are met; the first is the bottleneck."""

    question: Question
    measured: Measured
    replicas: list[Replicas]
    redis: list[Told]
    postgres: list[Told]
    limits: list[Limit]

    @property
    def bottleneck(self) -> Limit:
        return self.limits[0]


def plan(question: Question, measured: Measured) -> Plan:
    """The whole plan."""
    replicas = [
        _ingest(question, measured),
        _alerts(question, measured),
        _moog(question),
        Replicas(
            role="housekeeping", processes=HOUSEKEEPING, cores=0.1, why="one: what it does waits for it"
        ),
        Replicas(
            role="admin", processes=ADMIN, cores=0.1, why="two, so that one may go away; more for people"
        ),
        Replicas(
            role="backtests", processes=BACKTESTS, cores=0.0, why="busy while somebody back-tests, only then"
        ),
        Replicas(role="beat", processes=1, cores=0.0, why="exactly one"),
        Replicas(role="flower", processes=1, cores=0.05, why="one; none works as well"),
    ]
    return Plan(
        question=question,
        measured=measured,
        replicas=replicas,
        redis=_redis(question, measured),
        postgres=_postgres(question, measured, replicas),
        limits=sorted(_limits(question, measured), key=lambda limit: limit.eps),
    )


def _needed(eps: float, seconds: float) -> int:
    """Processes of ``seconds`` an event, each :data:`BUSY`; two at least, so that one may go away."""
    return max(2, math.ceil(eps * seconds / BUSY))


def _ingest(question: Question, measured: Measured) -> Replicas:
    seconds, eps = measured.door.ingest, question.eps
    return Replicas(
        role="ingest",
        processes=_needed(eps, seconds),
        cores=eps * seconds,
        why=f"{eps:,.0f}/s x {_us(seconds)} of CPU an event / {BUSY:g} busy (one process computes on one core)",
    )


def _alerts(question: Question, measured: Measured) -> Replicas:
    seconds, eps = measured.worker_wall, question.eps
    return Replicas(
        role="alerts",
        processes=_needed(eps, seconds),
        cores=eps * measured.worker.worker,
        why=f"{eps:,.0f}/s x {_us(seconds)} of a worker an event, its waiting for PostgreSQL included, / {BUSY:g} busy",
    )


def _moog(question: Question) -> Replicas:
    wanted = SPARE_THREADS * question.moog_per_second * question.moog_latency
    processes = max(2, math.ceil(wanted / THREADS))
    why = (
        f"{SPARE_THREADS} x {question.moog_per_second:g} requests/s x {question.moog_latency:g} s of Moog = "
        f"{wanted:.0f} threads, {THREADS} a process; two at least, so that one may go away, and a third for a third "
        "zone. The budget is shared: more of them send no more"
    )
    return Replicas(role="moog", processes=processes, cores=question.moog_per_second * 0.0015, why=why)


def _redis(question: Question, measured: Measured) -> list[Told]:
    door, eps = measured.door, question.eps
    waiting = eps * question.backlog
    data = waiting * door.waiting_bytes
    appends = eps / measured.load.batch
    marks = appends * MARKED * door.mark_bytes
    limit = (data + marks) / FULL
    return [
        Told(
            name="events that wait",
            value=waiting,
            unit="events",
            formula=f"{eps:,.0f}/s x {question.backlog:,.0f} s; INGEST_MAX_DEPTH must allow it",
        ),
        Told(
            name="memory for them",
            value=data,
            unit="bytes",
            formula=f"{waiting:,.0f} x {door.waiting_bytes:.0f} bytes measured in requests of {measured.load.batch}; "
            "INGEST_MAX_BYTES must allow it",
        ),
        Told(
            name="memory for marks of appends",
            value=marks,
            unit="bytes",
            formula=f"{appends:,.1f} requests/s x {MARKED} s x {door.mark_bytes:.0f} bytes, if each is an append",
        ),
        Told(
            name="maxmemory",
            value=limit,
            unit="bytes",
            formula=f"their sum / {FULL:g}, for ingest refuses there",
        ),
        Told(
            name="Redis' core",
            value=eps * (door.redis + measured.worker.redis),
            unit="of one core",
            formula=f"{eps:,.0f}/s x ({_us(door.redis)} taking + {_us(measured.worker.redis)} to workers and settled)",
        ),
    ]


def _postgres(question: Question, measured: Measured, replicas: Sequence[Replicas]) -> list[Told]:
    worker, eps = measured.worker, question.eps
    daily = eps * DAY * worker.rows_bytes
    processes = sum(one.processes for one in replicas if one.role in POOLED) + SHELL
    doors = sum(one.processes for one in replicas if one.role == "ingest")
    most = processes * question.pool_max + doors * question.spill_pool
    spills = f" + {doors} of ingest x {question.spill_pool}" if question.spill_pool else ""
    enough = (
        "" if most < measured.max_connections else ": too few, raise max_connections or lower DB_POOL_MAX"
    )
    return [
        Told(
            name="disk a month",
            value=daily * MONTH,
            unit="bytes",
            formula=f"{eps:,.0f}/s x {DAY:,} s x {MONTH} x {worker.rows_bytes:.0f} bytes a row, indexes included",
        ),
        Told(
            name=f"disk for {question.retention_days} days",
            value=daily * (question.retention_days + MONTH),
            unit="bytes",
            formula="AUDIT_RETENTION_DAYS and the month under way: a month goes when all of it is old enough",
        ),
        Told(
            name="log written",
            value=eps * worker.wal_bytes,
            unit="bytes/s",
            formula=f"{eps:,.0f}/s x {worker.wal_bytes:.0f} bytes; a replica receives as much",
        ),
        Told(
            name="cores",
            value=eps * worker.postgres,
            unit="cores",
            formula=f"{eps:,.0f}/s x {_us(worker.postgres)}",
        ),
        Told(
            name="connections at the most",
            value=most,
            unit="connections",
            formula=f"{processes} processes x DB_POOL_MAX {question.pool_max}{spills}; "
            f"the server allows {measured.max_connections}{enough}",
        ),
    ]


def _limits(question: Question, measured: Measured) -> list[Limit]:
    door, worker, machine = measured.door, measured.worker, measured.machine
    redis = door.redis + worker.redis
    whole = door.ingest + door.redis + worker.cpu
    cores = speed(machine.cores, machine.cores, measured.together)
    found = [
        Limit(
            name="Redis' one core",
            eps=1 / redis,
            formula=f"1 / ({_us(door.redis)} + {_us(worker.redis)})",
            remedy="larger requests first (its cost is by the request, mostly); then more Redis servers",
        ),
        Limit(
            name="PostgreSQL's writes",
            eps=cores / worker.postgres,
            formula=f"{cores:.1f} cores like these / {_us(worker.postgres)} a row, if it has them for itself",
            remedy="a machine of its own with more cores and a faster disk; then a shorter retention or fewer indexes",
        ),
        Limit(
            name="this machine, everything on it",
            eps=cores / whole,
            formula=f"{cores:.1f} cores / ({_us(door.ingest)} ingest + {_us(worker.worker)} worker + {_us(redis)} "
            f"Redis + {_us(worker.postgres)} PostgreSQL)",
            remedy="PostgreSQL first, then ingest and workers, each on a machine of its own",
        ),
    ]
    if share := measured.load.alerts_share:
        alerts = question.moog_per_second * question.moog_batch
        found.append(
            Limit(
                name="Moog's limit",
                eps=alerts / share,
                formula=f"{question.moog_per_second:g} requests/s x {question.moog_batch} alerts / {share:.2%}",
                remedy="MOOG_BATCH_SIZE, storms and quieter rules, or a higher MOOG_RATE_LIMIT that Moog agrees to; "
                "never more forwarders",
            )
        )
    return found


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"
