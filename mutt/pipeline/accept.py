"""Accept: a request's events join a round and stand in the stream before the sender hears of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import orjson

from mutt import codec
from mutt.entry import Part, short_hash
from mutt.errors import Unavailable
from mutt.event import Envelope, Event, Segment, uuid7
from mutt.formats.base import Parsed
from mutt.pipeline.ports import Inlet

#: An entry holds at most so many events, and about so many bytes before they are packed.
ENTRY_EVENTS = 500
ENTRY_BYTES = 1 << 20

#: Refused items that a reply names. A body of 16 MiB may hold millions, and a reply may be kept for a day.
LISTED = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """What a request is, apart from its body."""

    batch_id: str
    correlation_id: str
    key_id: str  #: names the API key, never the key itself
    idempotency_key: str = ""  #: already hashed with the API key and the body


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one request brings to a round."""

    request: Request
    parsed: Parsed


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: the body of a 202, as a value."""

    body: dict[str, Any]


def idempotency(key_id: str, key: str, body: bytes) -> str:
    """The name under which a request's ``Idempotency-Key`` is remembered: per API key and body."""
    return f"mutt:idem:{short_hash(key_id, key, hashlib.sha256(body).hexdigest())}"


class Acceptor:
    """Carries rounds into the stream: the work behind ``Rounds.submit``."""

    def __init__(self, inlet: Inlet, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._inlet, self._monotonic = inlet, monotonic

    def accept_events(self, contributions: Sequence[Contribution], deadline: float) -> list[Reply]:
        """One round, all or nothing. Raises Unavailable: nothing was taken, or nobody can tell."""
        parsed, seen = self._stamp(contributions)
        replies = [_reply(c, seen_count) for c, seen_count in zip(contributions, seen, strict=True)]
        parts, owners = _parts(contributions, parsed, replies)
        appended = self._inlet.append(str(uuid7()), parts, deadline)
        if appended.refused:
            raise Unavailable(f"the ingest queue is full ({appended.refused})", retry_after=5)
        for owner, first in zip(owners, appended.replies, strict=True):
            if owner is not None and first:
                replies[owner] = orjson.loads(first)
        return [Reply(body | {"queue_depth": appended.depth}) for body in replies]

    def _stamp(self, contributions: Sequence[Contribution]) -> tuple[list[list[Event]], list[int]]:
        """Events with an id of their own get the stamp of their first appearance; how many of each had one."""
        events = [list(c.parsed.events) for c in contributions]
        where = [(i, j) for i, c in enumerate(contributions) for j in c.parsed.identified]
        if not where:
            return events, [0] * len(events)
        asked = [
            (_seen_key(contributions[i].request.key_id, events[i][j]), events[i][j].received_at)
            for i, j in where
        ]
        seen = [0] * len(events)
        for (i, j), first in zip(where, self._inlet.first_stamps(asked), strict=True):
            if first is not None:
                seen[i] += 1
                events[i][j] = _restamped(events[i][j], first)
        return events, seen


def _seen_key(key_id: str, event: Event) -> str:
    # Same id, other content: another event. The content is what the sender wrote.
    return f"mutt:seen:{short_hash(key_id, str(event.event_id), event.raw)}"


def _restamped(event: Event, first: datetime) -> Event:
    occurred = first if event.occurred_at == event.received_at else event.occurred_at
    return msgspec.structs.replace(event, received_at=first, occurred_at=occurred)


def _reply(contribution: Contribution, seen: int) -> dict[str, Any]:
    request, parsed = contribution.request, contribution.parsed
    return {
        "status": "queued",
        "accepted": len(parsed.events),
        "duplicates": seen,
        **listed(parsed),
        "batch_id": request.batch_id,
        "correlation_id": request.correlation_id,
    }


def _parts(
    contributions: Sequence[Contribution], events: Sequence[list[Event]], replies: Sequence[dict[str, Any]]
) -> tuple[list[Part], list[int | None]]:
    """The round's parts: one that all plain requests share, and one for each with an idempotency key."""
    shared: list[Segment] = []
    parts: list[Part] = []
    owners: list[int | None] = []
    for i, contribution in enumerate(contributions):
        request = contribution.request
        segment = Segment(request.batch_id, request.correlation_id, events[i])
        if request.idempotency_key:
            reply = orjson.dumps(replies[i]).decode()
            parts.append(Part(_entries([segment]), request.idempotency_key, reply, request.batch_id))
            owners.append(i)
        else:
            shared.append(segment)
    if shared:
        parts.append(Part(_entries(shared), batch_id=shared[0].batch_id))
        owners.append(None)
    return parts, owners


def _entries(segments: Sequence[Segment]) -> list[tuple[int, list[str | bytes | int], int]]:
    """Segments as entries, cut where an entry is full."""
    entries = []
    for group in _groups(segments):
        n = sum(len(segment.events) for segment in group)
        fields, size = codec.encode(Envelope(group), n=n)
        entries.append((n, fields, size))
    return entries


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    groups: list[list[Segment]] = []
    group: list[Segment] = []
    count = size = 0
    for segment in segments:
        piece: list[Event] = []
        for event in segment.events:
            weight = len(event.raw) + len(event.message) + 200
            if event.tags:
                weight += sum(len(name) + len(value) for name, value in event.tags.items())
            if count and (count >= ENTRY_EVENTS or size + weight > ENTRY_BYTES):
                if piece:
                    group.append(Segment(segment.batch_id, segment.correlation_id, piece))
                groups.append(group)
                group, piece, count, size = [], [], 0, 0
            piece.append(event)
            count, size = count + 1, size + weight
        if piece:
            group.append(Segment(segment.batch_id, segment.correlation_id, piece))
    return [*groups, group] if group else groups


def size_of(parsed: Parsed) -> int:
    """About how many bytes a request brings to a round."""
    return sum(len(event.raw) + len(event.message) for event in parsed.events)


def listed(parsed: Parsed) -> dict[str, Any]:
    """The items that were refused, as a sender is told of them: the first ones, and how many if there are more."""
    rejected = [{"index": r.index, "field": r.field, "reason": r.reason} for r in parsed.rejected[:LISTED]]
    more = {"rejected_total": len(parsed.rejected)} if len(parsed.rejected) > LISTED else {}
    return {"rejected": rejected, **more}
