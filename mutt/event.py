"""Event: one thing that happened on the network, as every later step sees it.

Frozen, aware, evolvable: new fields go to the end with a default, so that an entry written by an older MUTT
is read by a newer one. Values only, so no reference leads back to an event: the collector need not look (``gc=False``).
"""

from __future__ import annotations

import enum
import os
import time
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

#: syslog's severities by name; the words that senders use for them.
SEVERITY_NAMES = {
    "emerg": 0, "emergency": 0, "panic": 0,
    "alert": 1,
    "crit": 2, "critical": 2, "fatal": 2,
    "err": 3, "error": 3, "major": 3,
    "warning": 4, "warn": 4, "minor": 4,
    "notice": 5, "notification": 5,
    "info": 6, "informational": 6, "information": 6,
    "debug": 7,
}  # fmt: skip


#: The template of MUTT's own event about a source that has fallen silent.
SOURCE_SILENT = "source-silent"

#: A time with its zone; a naive one is refused where an event is decoded.
Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class State(enum.StrEnum):
    """Does the event report a fault, or its end?"""

    RAISE = "raise"
    CLEAR = "clear"


class Varbind(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One variable of an SNMP trap; the OID has no leading dot."""

    oid: str
    value: str


class Event(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """One event. Times are aware (UTC); text holds neither NUL nor lone surrogates."""

    event_id: UUID  #: the sender's (a UUID unchanged, other text as uuid5), else a UUIDv7
    received_at: Aware  #: stamped at ingest; the partition key; stable over retries
    occurred_at: Aware  #: the sender's time; received_at where it gave none that can be read
    hostname: str  #: at most 255 characters
    message: str
    item: int = 0  #: its index in the request
    severity: int | None = None  #: syslog's 0 (emergency) to 7 (debug)
    state: State = State.RAISE
    source: str = "native"  #: the format it came in, or what the sender calls its source
    facility: str | None = None
    program: str | None = None
    trap_oid: str | None = None  #: no leading dot
    varbinds: tuple[Varbind, ...] = ()
    tags: dict[str, str] = {}  #: flat; every other field of the sender, as text
    raw: str = ""  #: the text as it came
    occurred_text: str | None = None  #: the sender's time as written, where it or its zone could not be read
    clear_key: str | None = None  #: what a clear has in common with its raise (an interface, a fingerprint)
    instance: str | None = None  #: the object that a trap speaks of (an ifIndex)
    template: str | None = None  #: set on MUTT's own events only; no sender's field reaches it
    team: str | None = None  #: likewise
    default_team: str | None = None  #: where nobody else names one; from its API key's source, as the next
    environment: str | None = None  #: production or development, whatever its host is

    @property
    def internal(self) -> bool:
        """Did MUTT itself raise this event? Then it has a verdict from birth."""
        return self.template is not None

    @property
    def key(self) -> tuple[UUID, datetime]:
        """The audit row's primary key."""
        return self.event_id, self.received_at


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The events that one request contributed to an entry, with what they share."""

    batch_id: str
    correlation_id: str
    events: list[Event]
    trace: str = ""  #: the context of the request's span (mutt.span); empty: it is not traced


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one entry of ``mutt:ingest_queue`` carries."""

    segments: list[Segment]

    def __len__(self) -> int:
        return sum(len(segment.events) for segment in self.segments)


def uuid7(at: float | None = None) -> UUID:
    """A UUIDv7 (RFC 9562): ``at`` seconds since the epoch, then randomness. Sorts by time."""
    ms = int((time.time() if at is None else at) * 1000)
    rand = int.from_bytes(os.urandom(10), "big")
    high = (ms & 0xFFFFFFFFFFFF) << 16 | 0x7 << 12 | rand >> 68
    return UUID(int=high << 64 | 0b10 << 62 | rand & 0x3FFFFFFFFFFFFFFF)
