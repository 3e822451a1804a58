"""The composition root: settings become the collaborators that the use cases need, one set a process.

Made after fork, lazily: a parent that forks must not share sockets with its children.
"""

from __future__ import annotations

import random
import socket
import time
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.resources import files
from uuid import uuid4

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Engine

from mutt import names
from mutt.budget.arithmetic import Budget
from mutt.metrics import Metrics
from mutt.moog.client import MoogClient
from mutt.pipeline.accept import Acceptor, Contribution, Reply
from mutt.pipeline.evaluate import Evaluator, Policy
from mutt.pipeline.forward import Forwarder, Terms
from mutt.pipeline.record import Recorder
from mutt.settings import Settings
from mutt.store.archives.duck import Duck
from mutt.store.engine import guard_engine, hasty_engine, make_engine, transaction
from mutt.store.facade import AuditStore
from mutt.store.rulebook import Rulebook
from mutt.store.shadowbook import ShadowBook
from mutt.store.spill import CONNECTIONS, STATEMENT, Spill, SpillRows
from mutt.streams.bound import Held, Inlet, Lanes, Suspects
from mutt.streams.connect import Client, redis_of
from mutt.streams.due import Due
from mutt.streams.letters import Letters
from mutt.streams.rounds import Rounds
from mutt.streams.stream import Ring, Stream

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
        #: Names this process in the consumer groups.
        self.consumer = f"{socket.gethostname()}:{uuid4().hex}"

    @cached_property
    def redis(self) -> Client:
        return redis_of(self.settings, timeout=WEB_TIMEOUT if self.web else 5.0)

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
        """A replica, for pages, where there is one."""
        if self.settings.database_read_url == self.settings.database_url:
            return self.engine
        return make_engine(self.settings, role=self.role, which="database_read_url")

    @property
    def archives(self) -> Duck:
        """The audit's retired months."""
        return Duck.of(self.settings)

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
            sleep=time.sleep,
            dice=random.random,
            noted=self.metrics.moog_answer,
        )

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
        )

    @cached_property
    def rounds(self) -> Rounds[Contribution, Reply]:
        spill = self.spill if self.settings.ingest_spill else None
        return Rounds(Acceptor(self.inlet, spill, self.inlet.tell_spilled).accept_events)

    def held(self, queue: str) -> Held:
        """A queue's stream with this process as its consumer."""
        return Held(self.streams[queue], self.consumer)
