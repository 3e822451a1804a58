"""Alert: an event that a rule wants Moog to know about, and what became of it there."""

from __future__ import annotations

import enum
from datetime import datetime
from hashlib import blake2b
from uuid import UUID, uuid5

import msgspec

from mutt.event import Event, State
from mutt.rules.rule import Verdict

#: Namespace of alert ids: an alert's id follows from its event's, so that a repeat gets the same one.
ALERT_SPACE = UUID("8b0a3f5e-3a0e-5a53-9d5b-1f4f0f0d6d75")

#: Moogsoft documents 767 bytes for a signature.
SIGNATURE_MAX = 767

#: Lanes, the most urgent first, and the Moog severities that travel in each.
LANES = {"critical": (5,), "major": (4,), "minor": (3, 2), "info": (1, 0)}
LANE_OF = {severity: lane for lane, severities in LANES.items() for severity in severities}


class Status(enum.StrEnum):
    """Where an alert stands; all but ``waiting`` are final."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    PARKED = "parked"
    CANCELLED = "cancelled"
    DROPPED = "dropped"


class Alert(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One alert, whole: what stands in ``alerts`` and what a lane's entry carries."""

    alert_id: UUID
    event_id: UUID
    received_at: datetime
    occurred_at: datetime
    hostname: str
    rule_id: int | None
    handling: str
    environment: str
    team: str
    lane: str
    severity: int  #: Moog's: 5 critical … 1 indeterminate, 0 clear
    signature: str  #: stored once, never computed again
    description: str
    state: State
    source: str
    correlation_id: str
    type: str  #: Moog's type: the rule's name
    clear_key: str | None = None
    raw: str = ""
    cause: UUID | None = None  #: the event whose entry brought it, where that is another one
    #: What the verdict holds it for (``maintenance:ID``), or RELEASED: it was held, and is to go to Moog after all.
    held: str = ""
    #: The context of the span that brought it (mutt.span); empty: it is not traced. It travels, and has no column.
    trace: str = ""


#: What ``held`` says of an alert that was held and is to be sent all the same.
RELEASED = "released"


class Told(Alert, frozen=True, array_like=True, kw_only=True):
    """An alert as Moog is told of it, where others of its signature were held before it."""

    repeats: int  #: so many
    repeats_since: datetime  #: the first of them


def told_with(alert: Alert, repeats: int, since: datetime) -> Told:
    """The alert with a word about those of its signature that were held before it."""
    said = f"{alert.description} ({repeats} more since {since:%H:%M:%S})"
    values = msgspec.structs.asdict(alert) | {"description": said}
    return Told(**values, repeats=repeats, repeats_since=since)


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """An alert is kept from Moog: what ``record`` writes of it."""

    alert_id: UUID
    reason: str  #: maintenance:ID, threshold, dedup, flapping, storm:ID or cleared
    at: datetime


class Outcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What became of an alert: what ``record`` writes. Carries the whole alert, so that it can be upserted."""

    alert: Alert
    status: Status
    attempts: int
    at: datetime
    moog_status: int | None = None  #: HTTP status of the last answer
    moog_answer: str = ""  #: its body, cut
    reason: str = ""
    kind: str = ""  #: what a request to Moog came to (moog/outcome.Kind); empty: this tells of none


def alert_id(event: Event) -> UUID:
    """The id of an event's alert: the same for each repeat of it."""
    return uuid5(ALERT_SPACE, f"{event.event_id}:{event.received_at.isoformat()}")


def signature(*parts: str | None) -> str:
    """Join ``parts`` as Moogsoft does. Where that is longer than it documents, its end is a hash: two that differ only
    there stay apart."""
    joined = "::".join(part for part in parts if part)
    written = joined.encode()
    if len(written) <= SIGNATURE_MAX:
        return joined
    end = f"~{blake2b(written, digest_size=8).hexdigest()}"
    return written[: SIGNATURE_MAX - len(end)].decode(errors="ignore") + end


def from_verdict(
    event: Event, verdict: Verdict, *, correlation_id: str, rule_name: str, trace: str = ""
) -> Alert:
    """The alert of a forwarded event that reports a fault.

    A clear is made of the alert that it ends: see :func:`clearing`.
    """
    severity = 3 if verdict.moog_severity is None else verdict.moog_severity
    named = event.template if verdict.rule_id is None else f"rule-{verdict.rule_id}"
    return Alert(
        alert_id=alert_id(event),
        event_id=event.event_id,
        received_at=event.received_at,
        occurred_at=event.occurred_at,
        hostname=event.hostname,
        rule_id=verdict.rule_id,
        handling=verdict.handling,
        environment=verdict.environment,
        team=verdict.team or "",
        lane=LANE_OF[severity],
        severity=severity,
        signature=signature(event.hostname, named, event.instance),
        description=event.message,
        state=State.RAISE,
        source=event.source,
        correlation_id=correlation_id,
        type=rule_name,
        clear_key=event.clear_key,
        raw=event.raw,
        held=verdict.held,
        trace=trace,
    )


def clearing(
    event: Event, raised: Alert, *, correlation_id: str, trace: str = "", late: bool = False
) -> Alert:
    """The alert that ends ``raised``: its signature, lane, rule and team, severity clear.

    ``late``: the raise was evaluated after its clear, and brings it along; one clear may so end several.
    """
    own = alert_id(event)
    return msgspec.structs.replace(
        raised,
        alert_id=uuid5(own, str(raised.alert_id)) if late else own,
        cause=raised.event_id if late else None,
        event_id=event.event_id,
        received_at=event.received_at,
        occurred_at=event.occurred_at,
        severity=0,
        state=State.CLEAR,
        description=event.message,
        source=event.source,
        correlation_id=correlation_id,
        raw=event.raw,
        held="",
        trace=trace,
    )
