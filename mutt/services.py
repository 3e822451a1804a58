"""The composition root: settings become the collaborators that the use cases need, one set a process.

Made after fork, lazily: a parent that forks must not share sockets with its children.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.resources import files
from uuid import uuid4

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Engine

from mutt import names
from mutt.budget.arithmetic import Budget
from mutt.meter import Meters
from mutt.metrics import Metrics
from mutt.moog.client import MoogClient
from mutt.pipeline.accept import Acceptor, Contribution, Reply
from mutt.pipeline.evaluate import Evaluator, Policy
from mutt.pipeline.forward import Forwarder, Terms
from mutt.pipeline.ports import Answered
from mutt.pipeline.record import Recorder
from mutt.pipeline.spread import SpreadRounds
from mutt.settings import Settings
from mutt.store.archives.duck import Duck
from mutt.store.engine import guard_engine, hasty_engine, make_engine, transaction
from mutt.store.facade import AuditStore
from mutt.store.replica import Reader
from mutt.store.rulebook import Rulebook
from mutt.store.shadowbook import ShadowBook
from mutt.store.spill import CONNECTIONS, STATEMENT, Spill, SpillRows
from mutt.streams.bound import Held, Inlet, Lanes, SpreadBed, SpreadInlet, Suspects
from mutt.streams.connect import Client, redis_of
from mutt.streams.due import Due
from mutt.streams.letters import Letters
from mutt.streams.rounds import Rounds
from mutt.streams.servers import Server, client_of, place_of, servers, shares
from mutt.streams.spread import HeldSpread, Lookout, Servers
from mutt.streams.stream import Ring, Stream
from mutt.traces import Traces, of_settings

#: Seconds that the web waits for an answer of Redis; a round may ask twice within its deadline.
WEB_TIMEOUT = 0.45


def utcnow() -> datetime:
    return datetime.now(UTC)


class Services:
    """Everything a process of MUTT works with. ``ring`` publishes a doorbell for a queue's name."""

    def __init__(self, settings: Settings, ring: Ring, *, role: str = "", web: bool = False) -> None:
        self.settings, self._ring, self.web = settings, ring, web
        self.role = role or settings.mutt_role or "mutt"
        self.metrics = Metrics(settings.metrics_dir)
        self.meters = Meters()
        #: Names this process in the consumer groups.
        self.consumer = f"{socket.gethostname()}:{uuid4().hex}"

    @cached_property
    def redis(self) -> Client:
        return redis_of(self.settings, timeout=WEB_TIMEOUT if self.web else 5.0)

    @cached_property
    def traces(self) -> Traces | None:
        """What this process' spans are made by, if there are any. Raises SettingsError."""
        return of_settings(self.settings, self.role)

    def end_traces(self) -> None:
        """Send the last spans, if this process made any."""
        if made := self.__dict__.get("traces"):
            made.close()

    @cached_property
    def queues(self) -> dict[str, names.Queue]:
        return names.queues(self.settings)

    @cached_property
    def budget(self) -> Budget:
        s = self.settings
        return Budget(
            limit=s.moog_rate_limit,
            period=s.moog_rate_period,
            threshold=s.moog_breaker_threshold,
            timeout=s.moog_breaker_timeout,
            deadline=s.moog_timeout,
        )

    @cached_property
    def ingest_stream(self) -> Stream:
        replicas = self.settings.ingest_wait_replicas
        return Stream(self.redis, self.queues["ingest_queue"], self._ring, replicas=replicas)

    @cached_property
    def alert_stream(self) -> Stream:
        gate = (files("mutt.budget") / "gate.lua").read_text()
        return Stream(
            self.redis, self.queues["alert_queue"], self._ring, gate=gate, gate_options=self.budget.options
        )

    @cached_property
    def delivery_stream(self) -> Stream:
        return Stream(self.redis, self.queues["delivery_queue"], self._ring)

    @cached_property
    def servers(self) -> tuple[Server, ...]:
        """The Redis servers that may hold entries of the ingest queue, home (STREAM_URL) first."""
        return servers(self.settings)

    @cached_property
    def ingest_servers(self) -> dict[str, Stream]:
        """The ingest queue's stream on each server, by its name, home first."""
        timeout, replicas = WEB_TIMEOUT if self.web else 5.0, self.settings.ingest_wait_replicas
        home, *others = self.servers
        made = {home.name: self.ingest_stream}
        for one in others:
            client = client_of(self.settings, one, timeout=timeout)
            made[one.name] = Stream(client, self.queues["ingest_queue"], self._ring, replicas=replicas)
        return made

    @cached_property
    def elsewhere(self) -> tuple[Client, ...]:
        """The other servers than home that may hold entries of the ingest queue: mostly none."""
        return tuple(stream.client for stream in self.ingest_servers.values())[1:]

    @property
    def streams(self) -> dict[str, Stream]:
        return {
            "ingest_queue": self.ingest_stream,
            "alert_queue": self.alert_stream,
            "delivery_queue": self.delivery_stream,
        }

    @cached_property
    def engine(self) -> Engine:
        self.settings.need("database_url")
        return make_engine(self.settings, role=self.role)

    @cached_property
    def read_engine(self) -> Engine:
        """A replica, for the audit's pages and for back-tests, where there is one."""
        if self.settings.database_read_url == self.settings.database_url:
            return self.engine
        return make_engine(self.settings, role=self.role, which="database_read_url")

    @property
    def archives(self) -> Duck:
        """The audit's retired months."""
        return Duck.of(self.settings)

    @cached_property
    def reader(self) -> Reader:
        """Where pages read what machines wrote."""
        return Reader(self.engine, None if self.read_engine is self.engine else self.read_engine)

    @cached_property
    def spill(self) -> Spill:
        """Where rounds go while Redis is away. A pool of its own: who spills can't wait for others, nor long."""
        self.settings.need("database_url")
        hasty = hasty_engine(self.settings, role=self.role, size=CONNECTIONS, timeout=STATEMENT)
        return Spill(hasty, self.settings.ingest_spill_bytes)

    @cached_property
    def spill_rows(self) -> SpillRows:
        return SpillRows(self.engine, guard_engine(self.settings, role=self.role))

    @cached_property
    def store(self) -> AuditStore:
        engine, team = self.engine, self.settings.unhandled_default_team
        opens = partial(transaction, engine)
        return AuditStore(engine, Rulebook(team, opens), ShadowBook(team, opens))

    @cached_property
    def evaluator(self) -> Evaluator:
        s = self.settings
        policy = Policy(s.alert_queue_max, s.unhandled_threshold, s.unhandled_window, s.cancel_cleared)
        interrupts = (SoftTimeLimitExceeded,)
        return Evaluator(self.store, Suspects(self.redis), policy, utcnow, interrupts=interrupts)

    @cached_property
    def recorder(self) -> Recorder:
        return Recorder(self.store, utcnow)

    @cached_property
    def forwarder(self) -> Forwarder:
        s = self.settings
        s.need("moog_url")
        return Forwarder(
            Held(self.alert_stream, self.consumer, budgeted=True),
            MoogClient.from_settings(s, interrupts=(SoftTimeLimitExceeded,)),
            Terms(
                turn=s.moog_turn,
                batch=s.moog_batch_size,
                slack=self.budget.slack,
                slack_most=self.budget.slack_most,
                claim=s.forward_claim,
            ),
            now=utcnow,
            monotonic=time.monotonic,
            sleep=self.meters["moog"].busy.rest,
            dice=random.random,
            noted=self._moog_answered,
            traced=self.traces.forwarded if self.traces else None,
        )

    def _moog_answered(self, answer: Answered, seconds: float, ages: Sequence[float]) -> None:
        self.metrics.moog_answer(answer, seconds, ages)
        if answer.started_at is not None:
            self.meters["moog"].did(0, [seconds])

    @cached_property
    def lanes(self) -> Lanes:
        return Lanes(self.alert_stream, self.settings.alert_queue_max)

    @cached_property
    def due(self) -> Due:
        return Due(self.redis, self._ring)

    @cached_property
    def letters(self) -> Letters:
        return Letters(self.redis, self.ingest_stream)

    @cached_property
    def inlet(self) -> Inlet:
        s = self.settings
        return Inlet(
            self.ingest_stream,
            max_events=s.ingest_max_depth,
            max_bytes=s.ingest_max_bytes,
            dedup_window=s.ingest_dedup_window,
            server=self.servers[0].name,
        )

    @property
    def is_spread(self) -> bool:
        """Does the ingest queue stand on another server than home, too?"""
        return len(self.servers) > 1

    @cached_property
    def lookout(self) -> Lookout:
        return Lookout(self.ingest_servers)

    @cached_property
    def inlets(self) -> dict[str, SpreadInlet]:
        """The inlet of each server that takes events in, where there are several."""
        s, takes = self.settings, [one for one in self.servers if not one.drains]
        made: dict[str, SpreadInlet] = {}
        place = partial(place_of, names=[one.name for one in takes])
        for one in takes:
            made[one.name] = SpreadInlet(
                one.name,
                made,
                place,
                self.lookout,
                stream=self.ingest_servers[one.name],
                max_events=shares(s.ingest_max_depth, takes),
                max_bytes=shares(s.ingest_max_bytes, takes),
                dedup_window=s.ingest_dedup_window,
            )
        return made

    @cached_property
    def bed(self) -> Inlet | SpreadBed:
        """What flows back out of the spill goes in here."""
        return SpreadBed(self.inlets, self.inlet, self.servers[0].name) if self.is_spread else self.inlet

    @cached_property
    def rounds(self) -> Rounds[Contribution, Reply] | SpreadRounds:
        spill = self.spill if self.settings.ingest_spill else None
        if not self.is_spread:
            return Rounds(Acceptor(self.inlet, spill, self.inlet.tell_spilled).accept_events)
        rounds = {
            name: Rounds(Acceptor(inlet, spill, self.inlet.tell_spilled, server=name).accept_events)
            for name, inlet in self.inlets.items()
        }
        place = partial(place_of, names=list(rounds))
        return SpreadRounds(rounds, place, self.lookout, spills=spill is not None)

    @cached_property
    def spread(self) -> Servers:
        return Servers(self.ingest_servers)

    def held(self, queue: str) -> Held | HeldSpread:
        """A queue's stream with this process as its consumer."""
        if queue == "ingest_queue" and self.is_spread:
            return HeldSpread(self.spread, self.consumer)
        return Held(self.streams[queue], self.consumer)
