"""The forward side for tests: alerts in their lanes, and forwarders that share one budget."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from uuid import uuid4

from mutt import codec, names
from mutt.alert import SIGNATURE_MAX, Alert, Outcome, Status
from mutt.budget.arithmetic import Budget
from mutt.entry import Entry, Move, Part, raise_alert
from mutt.event import Envelope, Event, Segment, State
from mutt.moog.client import MoogClient
from mutt.moog.dialects import DIALECTS
from mutt.pipeline.forward import Forwarder, Terms, Turn
from mutt.pipeline.ports import Moog
from mutt.settings import Settings
from mutt.streams import books
from mutt.streams.bound import Held
from mutt.streams.connect import Client
from mutt.streams.stream import Stream

NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)
GATE = (files("mutt.budget") / "gate.lua").read_text()
SEVERITY = {"critical": 5, "major": 4, "minor": 3, "info": 1}


def alert(
    n: int = 0, *, lane: str = "minor", signature: str = "", text: str = "down", state: State = State.RAISE
) -> Alert:
    """One alert; without a ``signature`` its own."""
    alert_id = uuid4()
    return Alert(
        alert_id=alert_id,
        event_id=uuid4(),
        received_at=NOW + timedelta(microseconds=n),
        occurred_at=NOW,
        hostname="core-1",
        rule_id=1,
        handling="Page_only",
        environment="production",
        team="NETO",
        lane=lane,
        severity=0 if state is State.CLEAR else SEVERITY[lane],
        signature=(signature or f"core-1::{alert_id}")[:SIGNATURE_MAX],
        description=f"{text} {n}",
        state=state,
        source="native",
        correlation_id="c",
        type="rule",
    )


@dataclasses.dataclass
class Works:
    """Everything that forwarders share: one Redis, one budget, the lanes."""

    client: Client
    budget: Budget
    claim: float = 20.0
    batch: int = 1
    turn: int = 1
    queue_max: int = 10_000
    patience: float = (
        0.0  #: seconds that permits live for, where the budget is not what is tested; 0: the budget's
    )
    gate: dict[str, int] = dataclasses.field(default_factory=dict)  #: options that tests shorten
    rung: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        queues = names.queues(Settings.from_env({}))
        self.queue = dataclasses.replace(queues["alert_queue"], claim=self.claim)
        self.stream = Stream(
            self.client,
            self.queue,
            self._ring,
            gate=GATE,
            gate_options=self.budget.options | self.gate,
        )
        self._ingest = Stream(self.client, queues["ingest_queue"], lambda *_, **__: None)

    def _ring(self, queue: str, **_labels: object) -> None:
        self.rung.append(queue)

    def held(self, consumer: str = "a") -> Held:
        return Held(self.stream, consumer, budgeted=True)

    def forwarder(
        self,
        moog: str | Moog,
        consumer: str = "a",
        *,
        lanes: Held | None = None,
        timeout: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        dice: Callable[[], float] = random.random,
        **noted: Callable,
    ) -> Forwarder:
        """A forwarder as a worker has one: its own consumer; for an address its own client, too."""
        if isinstance(moog, str):
            moog = MoogClient(moog, DIALECTS["enterprise"], "", timeout=timeout)
        return Forwarder(
            lanes or self.held(consumer),
            moog,
            Terms(
                turn=self.turn,
                batch=self.batch,
                slack=self.patience or self.budget.slack,
                slack_most=self.budget.slack_most,
                claim=self.claim,
            ),
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            sleep=sleep,
            dice=dice,
            **noted,
        )

    def lift_fence(self) -> None:
        """Have the gate know this run of Redis, and the window that follows behind it."""
        history = self.client.info("replication")["master_replid"]
        self.client.hset(names.BREAKER, mapping={"history": history, "fence": 0})

    def raise_alerts(self, *alerts: Alert) -> None:
        """Alerts come from an event's settle, as evaluate does it."""
        event = Event(event_id=uuid4(), received_at=NOW, occurred_at=NOW, hostname="h", message="m")
        fields, size = codec.encode(Envelope([Segment("b", "c", [event])]), n=1)
        self._ingest.append(str(uuid4()), [Part([(1, fields, size)])], max_events=10_000, max_bytes=1 << 30)
        taken = self._ingest.take("evaluate", 1).entries
        counts = {
            "events.queued": -1,
            "events.settled": 1,
            "ingest.bytes": -size,
            "alerts.raised": len(alerts),
            "alerts.waiting": len(alerts),
        }
        follow = [raise_alert(one, self.queue_max) for one in alerts]
        assert self._ingest.settle([Move(taken[0], counts, follow)]) == [True]

    def take(self, consumer: str = "a", want: int = 1, *, held: Sequence[Entry] = ()):
        return self.held(consumer).take(want, held=held)

    def outcomes(self) -> list[Outcome]:
        """What record would be told of ends, in order."""
        return [told for told in self.told() if told.status is not Status.WAITING]

    def told(self) -> list[Outcome]:
        """The same with the attempts after which an alert waits on."""
        entries = books.entries(self.client, names.DELIVERY_STREAM)
        return [codec.decode(Outcome, fields) for _, fields in entries]

    def letters(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in books.entries(self.client, names.DLQ_MOOG)]

    def assert_books(self, **alerts: int) -> None:
        """The ledger balances and agrees with what stands in the streams; ``alerts`` are what it must say."""
        ledger, walked = books.read(self.client), books.walk(self.client)
        assert (ledger.off_alerts, ledger.off_events) == (0, 0)
        assert ledger.alerts["waiting"] == walked.waiting >= 0
        assert ledger.alerts["parked"] == walked.alerts_parked
        assert {name: ledger.alerts[name] for name in alerts} == alerts

    def assert_nothing_kept(self) -> None:
        """Nothing is left of alerts that are done, but where they stand until record has written them."""
        for key in (names.HOLDERS, names.TRIES, names.LIFTED):
            assert self.client.hgetall(key) == {}, key
        assert set(self.client.hvals(names.BEHIND_COUNTS)) <= {b"0"}
        assert list(self.client.scan_iter(match=names.BEHIND + "*")) == []


def turns_until(forwarder: Forwarder, done: Callable[[], bool], timeout: float = 10.0) -> list[Turn]:
    """Turn after turn until ``done()``, as doorbells would have it."""
    deadline, turns = time.monotonic() + timeout, []
    while not done():
        assert time.monotonic() < deadline, f"not done after {timeout:g} s; last: {turns[-1:]}"
        turns.append(forwarder.forward_turn())
        if not turns[-1].requests:
            time.sleep(0.01)
    return turns
