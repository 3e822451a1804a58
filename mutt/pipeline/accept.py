"""Accept: a request's events join a round and stand in the stream before the sender hears of it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from mutt import codec
from mutt.entry import Part, short_hash
from mutt.errors import UNREACHABLE, NoRoom, StreamAway, Unavailable
from mutt.event import Envelope, Event, Segment, uuid7
from mutt.formats.base import Parsed
from mutt.pipeline.ports import Inlet, Spill
from mutt.pipeline.spill import Seen, pack, restamped

log = logging.getLogger("mutt.ingest")

#: An entry holds at most so many events, and about so many bytes before they are packed.
ENTRY_EVENTS = 500
ENTRY_BYTES = 1 << 20

#: Refused items that a reply names. A body of 16 MiB may hold millions, and a reply may be kept for a day.
LISTED = 1000

#: Of a round's time, what is left to the spill where there is one (seconds); it has at least the least.
SPILL_TIME, LEAST_SPILL_TIME = 0.45, 0.1

#: Seconds after Redis failed in which rounds are spilled at once, without a try.
AWAY = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a request is, apart from its body."""

    batch_id: str
    correlation_id: str
    key_id: str  #: names the API key, never the key itself
    idempotency_key: str = ""  #: already hashed with the API key and the body
    trace: str = ""  #: the context of its span (mutt.span); empty: it is not traced


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


@dataclass(slots=True)
class _Round:
    """The requests that share an append, their events with the stamps that they have by now."""

    id: str
    contributions: Sequence[Contribution]
    events: list[list[Event]]
    repeats: list[int]  #: events with an id that was known, a request
    replies: list[dict[str, Any]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    owners: list[int | None] = field(default_factory=list)  #: whose each part is; None: it is shared
    #: Seconds that packing took, where it is a request's own round: they come off nobody's second.
    took: float = 0.0

    @classmethod
    def of(cls, contributions: Sequence[Contribution]) -> _Round:
        events = [list(one.parsed.events) for one in contributions]
        return cls(str(uuid7()), contributions, events, [0] * len(events))

    def identified(self) -> list[tuple[int, int, str]]:
        """Events with an id of their own: request, position, and the name of their first stamp."""
        return [
            (i, j, _seen_key(one.request.key_id, self.events[i][j]))
            for i, one in enumerate(self.contributions)
            for j in one.parsed.identified
        ]

    def pack(self, monotonic: Callable[[], float]) -> None:
        """Make the replies and the parts of the events as they are now; once, so that they stay what was sent."""
        if self.parts:
            return
        began = monotonic()
        self.replies = [_reply(one, n) for one, n in zip(self.contributions, self.repeats, strict=True)]
        self.parts, self.owners = _parts(self.contributions, self.events, self.replies)
        if len(self.contributions) == 1:
            self.took = monotonic() - began


class Acceptor:
    """Carries rounds into the stream: the work behind ``Rounds.submit``. With a ``spill``, around it if need be."""

    def __init__(
        self,
        inlet: Inlet,
        spill: Spill | None = None,
        tell_spilled: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        server: str = "",
    ) -> None:
        """``tell_spilled``: Redis is back, and rounds were spilled: somebody should see to their flow back.
        ``server`` names it, where there are several."""
        self._inlet, self._spill, self._monotonic = inlet, spill, monotonic
        self._tell_spilled, self._server = tell_spilled, server
        self._away_until, self._spilled, self._why = float("-inf"), False, ""

    def accept_events(self, contributions: Sequence[Contribution], deadline: float) -> list[Reply]:
        """One round, all or nothing. Raises Unavailable: nothing was taken, or nobody can tell.

        The deadline is for Redis and the spill: what a request takes to be packed, alone in its round, it has beside
        it. A large one takes longer than all others may wait.
        """
        round_ = _Round.of(contributions)
        if self._spill is None:
            return self._append(round_, deadline)
        if self._monotonic() < self._away_until:
            return self._keep(round_, self._spill, deadline, StreamAway(self._why or UNREACHABLE))
        try:
            replies = self._append(round_, deadline - SPILL_TIME)
        except StreamAway as away:
            self._away_until = self._monotonic() + AWAY
            if away.reason != self._why:  # an outage is a line, and not one a round
                log.warning("events go into the spill: %s", away.reason)
            self._why = away.reason
            return self._keep(round_, self._spill, deadline, away)
        self._why = ""
        if self._spilled:
            self._spilled = False
            self._tell_spilled()
        return replies

    def _append(self, round_: _Round, deadline: float) -> list[Reply]:
        self._stamp(round_)
        round_.pack(self._monotonic)
        appended = self._inlet.append(round_.id, round_.parts, deadline + round_.took)
        if appended.refused:
            raise NoRoom(f"the ingest queue is full ({appended.refused})", retry_after=5)
        for owner, first in zip(round_.owners, appended.replies, strict=True):
            if owner is not None and first:
                round_.replies[owner] = orjson.loads(first)
        return [Reply(body | {"queue_depth": appended.depth}) for body in round_.replies]

    def _stamp(self, round_: _Round) -> None:
        """Events with an id of their own get the stamp of their first appearance."""
        where = round_.identified()
        if not where:
            return
        asked = [(name, round_.events[i][j].received_at) for i, j, name in where]
        for (i, j, _), first in zip(where, self._inlet.first_stamps(asked), strict=True):
            if first is not None:
                round_.repeats[i] += 1
                round_.events[i][j] = restamped(round_.events[i][j], first)

    def _keep(self, round_: _Round, spill: Spill, deadline: float, away: StreamAway) -> list[Reply]:
        """Into the spill: which of it is a repeat the append decides when it flows back."""
        round_.pack(self._monotonic)
        until = max(deadline + round_.took, self._monotonic() + LEAST_SPILL_TIME)
        events, data = sum(map(len, round_.events)), pack(round_.parts, _seen(round_), self._server)
        try:
            spill.keep(round_.id, events, data, sent=away.sent, deadline=until)
        except Unavailable as error:
            reason = f"{away.reason}, and {error.reason}"
            raise StreamAway(reason, error.retry_after, sent=away.sent) from error
        self._spilled = True
        return [Reply(body | {"queue_depth": None, "spilled": True}) for body in round_.replies]


def _seen(round_: _Round) -> list[Seen]:
    part_of = {owner: index for index, owner in enumerate(round_.owners)}
    seen = []
    for i, j, name in round_.identified():
        event = round_.events[i][j]
        part = part_of[i if i in part_of else None]
        seen.append(Seen(part, name, event.event_id, event.received_at))
    return seen


def stamps_of(contribution: Contribution) -> Iterator[str]:
    """The names under which first stamps of a request's events are remembered."""
    events = contribution.parsed.events
    return (_seen_key(contribution.request.key_id, events[j]) for j in contribution.parsed.identified)


def _seen_key(key_id: str, event: Event) -> str:
    # Same id, other content: another event. The content is what the sender wrote.
    return f"mutt:seen:{short_hash(key_id, str(event.event_id), event.raw)}"


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
        segment = Segment(request.batch_id, request.correlation_id, events[i], request.trace)
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
            # The text as it came, and once more what was read out of it.
            weight = 2 * len(event.raw) + 200
            if count and (count >= ENTRY_EVENTS or size + weight > ENTRY_BYTES):
                if piece:
                    group.append(Segment(segment.batch_id, segment.correlation_id, piece, segment.trace))
                groups.append(group)
                group, piece, count, size = [], [], 0, 0
            piece.append(event)
            count, size = count + 1, size + weight
        if piece:
            group.append(Segment(segment.batch_id, segment.correlation_id, piece, segment.trace))
    return [*groups, group] if group else groups


def size_of(parsed: Parsed) -> int:
    """About how many bytes a request brings to a round."""
    return sum(len(event.raw) + len(event.message) for event in parsed.events)


def listed(parsed: Parsed) -> dict[str, Any]:
    """The items that were refused, as a sender is told of them: the first ones, and how many if there are more."""
    rejected = [{"index": r.index, "field": r.field, "reason": r.reason} for r in parsed.rejected[:LISTED]]
    more = {"rejected_total": len(parsed.rejected)} if len(parsed.rejected) > LISTED else {}
    return {"rejected": rejected, **more}
