"""What is asked and what was measured: plain values, as ``mutt plan --json`` writes and ``--measured`` reads them."""

from __future__ import annotations

import msgspec


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is asked for. ``eps`` is events a second, ``backlog`` the seconds that Redis has to hold."""

    eps: float
    backlog: float = 4 * 3600.0
    retention_days: int = 90
    moog_per_second: float = 50.0  #: requests a second that the budget lets through
    moog_batch: int = 1  #: alerts a request
    moog_latency: float = 0.5  #: seconds that Moog takes for an answer, at most
    pool_max: int = 10  #: connections to PostgreSQL that one process may open (DB_POOL_MAX)
    spill_pool: int = 0  #: those that one process of ingest may, for INGEST_SPILL


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The events that were measured with: how many a request, bytes of one as JSON, the share that alerts."""

    batch: int = 100
    event_bytes: int = 540
    alerts_share: float = 0.04


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cores: int
    memory_bytes: int = 0


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """One ingest with nobody working behind it. Seconds of CPU an event; ``rate`` is events a second by the clock."""

    ingest: float
    redis: float
    rate: float
    waiting_bytes: float  #: that Redis holds for an event that waits
    mark_bytes: float  #: that Redis remembers of an append, for ten minutes
    resident_bytes: int  #: of ingest's processes, at the end


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluating process that drains a backlog. Seconds an event: of CPU, and by the clock (``clock``).

    ``queued`` are the seconds in which somebody had work and no core to do it on: others' programs had them.
    ``strangers`` are the cores that those kept busy. ``crowded`` is all the CPU of an event while every core has a
    worker: they push each other out of the cores' caches, and wait for each other's locks with open eyes.
    ``crowded_strangers`` are the cores that others have then. The kernel, which sends and writes for all, is one.
    """

    worker: float
    redis: float
    postgres: float
    clock: float
    queued: float
    strangers: float
    crowded: float
    crowded_strangers: float = 0.0
    rows_bytes: float  #: that PostgreSQL stores for an event, indexes included
    wal_bytes: float  #: that it logs for an event
    resident_bytes: int

    @property
    def cpu(self) -> float:
        """All that an event takes of processors."""
        return self.worker + self.redis + self.postgres

    @property
    def waits(self) -> float:
        """Seconds of the clock in which nobody computes for it, nor would: the disk, the network."""
        return max(0.0, self.clock - self.queued - self.cpu)

    @property
    def wall(self) -> float:
        """Seconds by the clock, on a machine that nobody else uses."""
        return self.cpu + self.waits


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server under scratch names. ``where`` says which: connected, or private with the reason."""

    where: str
    seconds: float  #: by the clock an event: COPY and commit of a row; append, take and settle


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """All that one measurement found."""

    at: str  #: when, ISO 8601
    machine: Machine
    load: Load
    rules: int
    evaluate: float  #: seconds of CPU an event that the rules alone take
    door: Door
    worker: Worker
    copy: Server
    streams: Server
    private_copy: float  #: the same of the private servers: what their figures are compared with
    private_streams: float
    max_connections: int
    seconds: float = 0.0  #: that measuring took

    @property
    def together(self) -> float:
        """What a core does for events while all are busy, as a share of what it does when there is room."""
        worker, cores = self.worker, self.machine.cores
        left = max(0.1, 1 - worker.crowded_strangers / cores)
        return left * min(1.0, worker.cpu / worker.crowded) if worker.crowded else left

    @property
    def worker_wall(self) -> float:
        """Seconds by the clock an event of one worker with the connected servers in place of the private ones."""
        farther = self.copy.seconds - self.private_copy + self.streams.seconds - self.private_streams
        return max(self.worker.worker, self.worker.wall + farther)
