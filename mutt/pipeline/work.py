"""Work: what a take's entries and events are while they are evaluated, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mutt import codec, names
from mutt.alert import Alert
from mutt.entry import Entry, Follow, Kind, Move, flat, park
from mutt.errors import StoreDown
from mutt.event import Envelope, Event, Segment
from mutt.pipeline.ports import Key, StoredRow
from mutt.rules.noise import Limits
from mutt.rules.redaction import Redactions
from mutt.rules.rule import Verdict


@dataclass
class Result:
    """What became of one entry."""

    entry: Entry
    correlation_ids: Sequence[str] = ()  #: of the requests whose events it holds
    traces: dict[str, str] = field(default_factory=dict)  #: the traced among them: context and correlation id
    settled: int = 0
    duplicate: int = 0
    parked: int = 0
    alerts: dict[UUID, tuple[Alert, bool]] = field(default_factory=dict)  #: by alert id; does it still wait?
    leads: dict[UUID, Sequence[Alert]] = field(
        default_factory=dict
    )  #: the raises that wait and may not stand yet, by their clear's id
    limits: dict[UUID, Limits] = field(default_factory=dict)  #: what may hold them back, by alert id
    #: The raises that wait and that a clear ends, by the clear's id, where Moog got none that it ends.
    ends: dict[UUID, Sequence[Alert]] = field(default_factory=dict)
    strangers: Counter[Kind] = field(default_factory=Counter)  #: unhandled events
    #: Of strangers whose key's source says whose they are, or their environment: one of each kind.
    sourced: dict[Kind, Event] = field(default_factory=dict)
    letters: list[Follow] = field(default_factory=list)
    left: bool = False  #: for a newer worker: it is not settled
    stuck: list[Item] = field(default_factory=list)  #: what PostgreSQL does not take now: an entry of its own
    unsure: list[Item] = field(default_factory=list)  #: those that were not told apart: another one
    why_stuck: tuple[str, str] = ("", "")  #: what PostgreSQL said, and its SQLSTATE
    halved: int = 0

    def raise_if_stuck(self) -> None:
        """Raises StoreDown where nothing of it was worked: it is handed back as it is."""
        if self.stuck and not (self.unsure or self.settled or self.duplicate or self.parked):
            raise StoreDown(*self.why_stuck)


#: The verdict of an event before it has one.
UNJUDGED = Verdict(
    rule_id=None, handling="", forward=False, environment="", team=None, moog_severity=None, why="not yet"
)


class Item(msgspec.Struct, eq=False):
    """One event in work, and where it came from."""

    result: Result
    position: int  #: in its entry
    event: Event
    batch_id: str
    correlation_id: str
    verdict: Verdict = UNJUDGED
    sent: Event | None = None  #: what the event was before something was taken out of it
    twins: Sequence[Item] = ()  #: others of this take with the same key
    trace: str = ""  #: the context that its alert goes on with

    @property
    def key(self) -> Key:
        return self.event.key

    @property
    def whole(self) -> Event:
        """The event as it came."""
        return self.event if self.sent is None else self.sent

    def redact(self, redactions: Redactions) -> None:
        """Only what ``redactions`` leave of it is looked at and kept from here on."""
        whole = self.whole
        self.event = redactions.redact(whole)
        self.sent = None if self.event is whole else whole


@dataclass
class Counts:
    """What a drain did; Celery shows it as the task's result."""

    batches: int = 0
    events: int = 0
    audited: int = 0
    duplicates: int = 0
    alerts: int = 0
    parked: int = 0

    def add(self, moves: Iterable[Move]) -> None:
        for move in moves:
            self.batches += 1
            self.events += move.entry.n
            self.audited += move.counts["events.settled"]
            self.duplicates += move.counts["events.duplicate"]
            self.parked += move.counts["events.parked"]
            self.alerts += move.counts["alerts.raised"]


def fold(items: list[Item]) -> list[Item]:
    """Equal keys within a take: the first is written, the others are its twins. In key order, as they are written."""
    first: dict[tuple[int, datetime], Item] = {}  # a UUID's own comparisons are written in Python
    for item in items:
        kept = first.setdefault((item.event.event_id.int, item.event.received_at), item)
        if kept is not item:
            kept.twins = (*kept.twins, item)
    return [first[key] for key in sorted(first)]


def owner_of(item: Item, row: StoredRow) -> Item | None:
    """Whose row it is that stands: the item's own, one of its twins', or another take's."""
    return next(
        (one for one in (item, *item.twins) if (row.batch_id, row.item) == (one.batch_id, one.event.item)),
        None,
    )


def duplicates(item: Item, *, but: Item | None) -> None:
    """The item and its twins are duplicates, ``but`` the one that counts."""
    for one in (item, *item.twins):
        if one is not but:
            one.result.duplicate += 1


def park_item(item: Item, reason: str, detail: str) -> None:
    """One event becomes a dead letter."""
    envelope = Envelope([Segment(item.batch_id, item.correlation_id, [item.event], item.trace)])
    fields, _ = codec.encode(envelope, about=str(item.event.event_id))
    item.result.parked += 1
    duplicates(item, but=item)
    item.result.letters.append(_letter(item.result.entry, fields, reason, detail))


def requeued(items: Sequence[Item]) -> tuple[Follow, int]:
    """These events as an entry of their own, and the bytes of it: they wait, and hold nobody."""
    # As they came: then one version takes out what it takes out, the one that judges.
    segments = [Segment(item.batch_id, item.correlation_id, [item.whole], item.trace) for item in items]
    fields, size = codec.encode(Envelope(segments), n=len(items))
    return {"op": "append", "stream": names.INGEST_STREAM, "fields": fields, "queue": "ingest_queue"}, size


def park_entry(result: Result, reason: str, detail: str) -> None:
    """An entry as it is, for it could not be opened."""
    result.parked += result.entry.n
    result.letters.append(_letter(result.entry, flat(result.entry.fields), reason, detail))


def _letter(entry: Entry, fields: Sequence[Any], reason: str, detail: str) -> Follow:
    return park(names.DLQ_ALERTS, entry, fields, {"reason": reason, "detail": detail[:2000]})
