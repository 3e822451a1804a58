"""What is told of an event and of its alerts. Values only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from mutt.rules.trace import Trace


class Field(msgspec.Struct, frozen=True):
    """One field of an event as it was read."""

    name: str
    value: str
    note: str = ""  #: what was wrong with what the sender wrote


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit says of the event."""

    received_at: datetime
    rule_id: int | None
    handling: str
    team: str | None
    ruleset_version: int
    version_made_at: datetime | None  #: None: that version is not kept
    batch_id: str
    item: int
    correlation_id: str


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How far the unhandled events of one kind (a host and a template) are from an alert of MUTT's own."""

    template: str
    count: int | None  #: in the window that runs now; None: none runs, or Redis does not say
    threshold: int
    window_s: int
    left_s: float  #: until the window ends


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request to Moog that the alert was in."""

    attempt: int
    at: datetime
    kind: str  #: delivered, retry, refused …
    reason: str
    moog_status: int | None
    answer: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where something stands in Redis now."""

    where: str  #: lane, work, behind, outside, delivery, letter, held, queue, nowhere or unknown
    says: str  #: one sentence
    letter: str = ""  #: the dead letter's id
    queue: str = ""  #: the dead letter's queue


class AlertStory(msgspec.Struct, frozen=True, kw_only=True):
    """One alert and what became of it."""

    alert_id: str
    event_id: str
    received_at: datetime
    hostname: str
    state: str
    status: str
    lane: str
    severity: int
    team: str
    rule_id: int | None
    type: str
    description: str
    signature: str
    clear_key: str | None
    created_at: datetime
    delivered_at: datetime | None
    attempts_made: int
    moog_status: int | None
    moog_answer: str
    reason: str
    answer: str  #: one sentence
    place: Place | None  #: None: it is at its end
    attempts: list[Attempt]
    cleared_by: str | None  #: the alert that ended it
    cleared_at: datetime | None
    cleared_event: str | None  #: the event that ended it


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event."""

    asked: str
    event_id: str
    found: str  #: audited, queued, parked, rejected or nowhere
    answer: str  #: why it did not alert, or that it did: one or two sentences
    notes: list[str]  #: what can't be told, and why
    fields: list[Field] = []
    raw: str = ""
    kept: str = ""  #: what of the event its row does not hold
    row: Row | None = None
    others: list[Row] = []  #: of the same id
    then: Trace | None = None  #: under the rules that judged it
    now: Trace | None = None  #: under today's
    changed: str = ""  #: what today's rules would do otherwise
    counted: Counted | None = None
    alerts: list[AlertStory] = []
    place: Place | None = None  #: where it stands, if it is not audited

    def as_json(self) -> Any:
        """The same as plain values."""
        return msgspec.to_builtins(self)
