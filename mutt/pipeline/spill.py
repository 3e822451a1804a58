"""Spill: while Redis is away rounds stand in PostgreSQL; when it is back they flow into the stream, in order.

A spilled round holds what the append would have been given, under the same round id and with the same stamps. So one
whose append was sent and not answered is not taken twice: the stream remembers a round's id, and later than that the
audit's primary key tells (``_later``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
import orjson

from mutt import codec
from mutt.entry import Appended, Part
from mutt.errors import MuttError, Unavailable, UndecodableEntry
from mutt.event import Envelope, Event, Segment
from mutt.pipeline.ports import Bed, Inlet

VERSION = 1

#: Events that wait for evaluation, from which nothing more flows back: what is fresh waits behind no more than this,
#: and the workers have enough to do.
DEEP_ENOUGH = 10_000

#: Seconds that one flow back works before it lets others have the worker; it looks again so often while the queue is
#: deep enough.
SLICE = 1.0
REST = 0.05

#: Seconds in which one append is asked for again, where it is not answered.
PATIENCE = 1.0

#: Rounds that are marked at a time are appended within so many seconds, or left: their marks would be too old.
MARKS_HOLD = 30.0

#: An item's index is moved by this each time that its round comes in again after its id was forgotten; more than a
#: request can hold.
LATE = 1 << 20


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """An event with an id of its own: under which name its first stamp is remembered, and its audit row's key."""

    part: int
    name: str
    event_id: UUID
    received_at: datetime


class SpilledPart(msgspec.Struct, frozen=True, array_like=True):
    """What one request, or several plain ones, added to the round."""

    entries: list[tuple[int, list[bytes], int]]  #: (events, fields, bytes)
    key: str | None
    reply: str
    batch_id: str


class SpilledRound(msgspec.Struct, frozen=True, array_like=True):
    """One round, as it stands in PostgreSQL."""

    version: int
    parts: list[SpilledPart]
    seen: list[Seen]
    server: str = ""  #: where it may be in, if that is not home


_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode = msgspec.msgpack.Decoder(SpilledRound).decode


def pack(parts: Sequence[Part], seen: Sequence[Seen], server: str = "") -> bytes:
    """A round as bytes; its entries are compressed already. ``server`` is the one that did not take it."""
    told = [
        SpilledPart(
            [(n, _as_bytes(fields), size) for n, fields, size in part.entries],
            part.key,
            part.reply,
            part.batch_id,
        )
        for part in parts
    ]
    return _encode(SpilledRound(VERSION, told, list(seen), server))


def _as_bytes(fields: Iterable[str | bytes | int]) -> list[bytes]:
    return [one if isinstance(one, bytes) else str(one).encode() for one in fields]


def unpack(data: bytes) -> SpilledRound:
    """Raises UndecodableEntry."""
    try:
        found = _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UndecodableEntry(f"a spilled round can't be decoded: {error}") from error
    if found.version != VERSION:
        raise UndecodableEntry(f"version {found.version} of a spilled round is unknown to this MUTT")
    return found


class Row(Protocol):
    """A spilled round that is marked as being appended."""

    @property
    def id(self) -> int: ...
    @property
    def round_id(self) -> str: ...
    @property
    def events(self) -> int: ...
    @property
    def late(self) -> int:
        """How often it was sent, not heard of, and its id forgotten since."""
        ...

    @property
    def fresh(self) -> bool:
        """Was it never sent before?"""
        ...

    @property
    def data(self) -> bytes: ...


class Rows(Protocol):
    """The spilled rounds. Raises StoreDown."""

    def alone(self) -> AbstractContextManager[bool]:
        """True: no other worker lets rounds flow back until the block ends."""
        ...

    def mark(self) -> Sequence[Row]:
        """The oldest rounds, few enough to hold in memory. Their marks are committed: whoever finds them after this
        worker died knows that they may be in."""
        ...

    def remove(self, ids: Sequence[int], untouched: Sequence[int]) -> None:
        """``ids`` are in the stream; ``untouched`` were marked and never sent."""
        ...

    def set_aside(self, id_: int, reason: str) -> None:
        """This one can't be appended now, and its neighbours need not wait for it: it is tried again in a while."""
        ...


@dataclass
class Flowed:
    """What one flow back did. ``ended``: empty, slice, or why no more goes in."""

    rounds: int = 0
    events: int = 0
    set_aside: int = 0
    ended: str = "empty"


def flow_back(
    rows: Rows,
    bed: Bed,
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
    slice_: float = SLICE,
    deep_enough: int = DEEP_ENOUGH,
) -> Flowed:
    """Append what was spilled, the oldest first, until nothing is left, the slice is up or Redis takes no more.

    A round is removed only after Redis has it. Raises StoreDown: what was appended and not removed is known again.
    """
    flow = Flowed()
    with rows.alone() as mine:
        if not mine:
            flow.ended = "another worker is at it"
            return flow
        ends = monotonic() + slice_
        flow.ended = "slice"
        try:
            while monotonic() < ends:
                if bed.is_deep(deep_enough):
                    sleep(REST)
                elif not _flow_some(rows, bed, flow, monotonic, deep_enough):
                    flow.ended = "empty"
                    break
        except Unavailable as error:
            flow.ended = error.reason
    return flow


def _flow_some(rows: Rows, bed: Bed, flow: Flowed, monotonic: Callable[[], float], deep_enough: int) -> bool:
    """One batch. False: there was none. Raises Unavailable: Redis takes no more."""
    batch, marked = rows.mark(), monotonic()
    untouched = {row.id for row in batch if row.fresh}
    gone: list[int] = []
    try:
        for row in batch:
            if monotonic() - marked > MARKS_HOLD:
                break
            untouched.discard(row.id)
            if not _flow_one(rows, bed, row, monotonic() + PATIENCE):
                flow.set_aside += 1
                continue
            gone.append(row.id)
            flow.rounds, flow.events = flow.rounds + 1, flow.events + row.events
            if bed.is_deep(deep_enough):
                break
    finally:
        if gone or untouched:
            rows.remove(gone, sorted(untouched))
    return bool(batch)


def _flow_one(rows: Rows, bed: Bed, row: Row, deadline: float) -> bool:
    """Append one round. False: it is set aside. Raises Unavailable: Redis takes no more."""
    try:
        appended = _append(bed, row, deadline)
    except (UndecodableEntry, _OnesOwn) as error:
        rows.set_aside(row.id, str(error))
        return False
    if appended.refused and not appended.depth:
        # Not even an empty queue has room for it: the limits were lowered since it was taken.
        limit = {"depth": "INGEST_MAX_DEPTH", "bytes": "INGEST_MAX_BYTES"}[appended.refused]
        rows.set_aside(row.id, f"its {row.events} events are more than {limit} allows: raise it")
        return False
    if appended.refused:
        raise Unavailable(f"the ingest queue is full ({appended.refused})")
    return True


class _OnesOwn(MuttError):
    """The server that this round belongs to takes nothing now; the others' rounds need not wait for it."""


def _append(bed: Bed, row: Row, deadline: float) -> Appended:
    spilled = unpack(row.data)
    inlet, knows = bed.of(spilled.server)
    try:
        parts = _stamped(inlet, spilled)
        late = row.late + (not knows)
        if late:
            parts = [_rewritten(part, lambda event: _later(event, late)) for part in parts]
        return inlet.append(row.round_id, parts, deadline)
    except Unavailable as error:
        if not spilled.server:
            raise
        raise _OnesOwn(f"{spilled.server}: {error.reason}") from error


def _stamped(inlet: Inlet, spilled: SpilledRound) -> list[Part]:
    """Events with an id of their own get the stamp of their first appearance; a kept reply says how many had one."""
    parts = [
        Part([(n, [*fields], size) for n, fields, size in one.entries], one.key, one.reply, one.batch_id)
        for one in spilled.parts
    ]
    if not spilled.seen:
        return parts
    firsts = inlet.first_stamps([(one.name, one.received_at) for one in spilled.seen])
    known = [
        (one, first)
        for one, first in zip(spilled.seen, firsts, strict=True)
        if first is not None and first != one.received_at
    ]
    for index in {one.part for one, _ in known}:
        stamps = {(one.event_id, one.received_at): first for one, first in known if one.part == index}
        part = _rewritten(parts[index], lambda event, stamps=stamps: _restamped_if(event, stamps))  # type: ignore[misc]
        parts[index] = replace(part, reply=_reply(part.reply, len(stamps)))
    return parts


def _reply(reply: str, duplicates: int) -> str:
    if not reply:
        return reply
    told = orjson.loads(reply)
    return orjson.dumps(told | {"duplicates": told["duplicates"] + duplicates}).decode()


def _restamped_if(event: Event, stamps: Mapping[tuple[UUID, datetime], datetime]) -> Event:
    first = stamps.get(event.key)
    return restamped(event, first) if first else event


def restamped(event: Event, first: datetime) -> Event:
    """The same event with the stamp of its first appearance."""
    occurred = first if event.occurred_at == event.received_at else event.occurred_at
    return msgspec.structs.replace(event, received_at=first, occurred_at=occurred)


def _later(event: Event, late: int) -> Event:
    """An event whose round may have gone in before, and nobody remembers.

    Evaluate takes a row of the same request and item for the entry's own, one that was committed and not settled. Two
    entries that say the same would both settle it, and the books would count an event twice. With an index of its own
    this one is a duplicate where the other went in, and the only one where it did not.
    """
    return msgspec.structs.replace(event, item=event.item - late * LATE)


def _rewritten(part: Part, change: Callable[[Event], Event]) -> Part:
    return replace(part, entries=[_entry(n, fields, change) for n, fields, _ in part.entries])


def _entry(
    n: int, fields: Iterable[str | bytes | int], change: Callable[[Event], Event]
) -> tuple[int, list[str | bytes | int], int]:
    envelope = codec.decode(Envelope, codec.pairs(_as_bytes(fields)))
    segments = [
        Segment(one.batch_id, one.correlation_id, [change(event) for event in one.events], one.trace)
        for one in envelope.segments
    ]
    packed, size = codec.encode(Envelope(segments), n=n)
    return n, packed, size


def result_of(flow: Flowed) -> dict[str, object]:
    """What a task says of it: nothing but how it ended, where nothing was there."""
    done = {name: value for name, value in asdict(flow).items() if value}
    return {"ended": flow.ended} | done
