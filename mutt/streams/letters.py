"""Dead letters: what could not be worked, why, and the ways out: replay and drop. Every way out is a settle."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from mutt import codec, names
from mutt.alert import Alert, Outcome
from mutt.entry import Entry, Move, alert_fields, flat
from mutt.errors import MuttError, UndecodableEntry
from mutt.event import Envelope
from mutt.streams.books import entries
from mutt.streams.connect import Client
from mutt.streams.stream import Stream

KINDS: dict[str, Any] = {"alerts": Envelope, "moog": Alert}

REJECTED_BYTES, REJECTED_LOST = "mutt:dlq:ingest:bytes", "mutt:dlq:ingest:dropped"


#: Letters that are moved in one step: Redis does nothing else meanwhile.
AT_ONCE = 100

#: Items of one request that are kept: the first ones show what is wrong with the others.
KEPT_AT_ONCE = 100

#: Entries that a lane may hold for a letter that is sent again; the largest whole number that Lua knows.
UNLIMITED = 2**53


class NotReplayable(MuttError):
    """What a sender sent wrong is the sender's to send again; MUTT can't make an event of it."""


class Letter(msgspec.Struct, frozen=True):
    """One dead letter, for people."""

    queue: str
    id: str
    events: int
    reason: str
    detail: str
    attempts: int
    at: str  #: when it was parked, RFC 3339
    about: str  #: the id of the event or alert
    payload: Any = None  #: the decoded event or alert, where it can be decoded


class Letters:
    """The dead-letter queues ``ingest``, ``alerts`` and ``moog``."""

    def __init__(self, client: Client, stream: Stream) -> None:
        self._client, self._stream = client, stream

    def listed(self, queue: str, *, payload: bool = False) -> Iterator[Letter]:
        """Every letter of a queue, the oldest first."""
        for entry in self._entries(queue):
            yield _letter(queue, entry, payload)

    def replay(self, queue: str, ids: Sequence[str] = ()) -> list[Entry]:
        """Send letters through again: all, or those named. The ones that were still there."""
        if queue == "ingest":
            raise NotReplayable("an item that was rejected can't be replayed: mend it and send it again")
        return self._moved(queue, ids, lambda entry: self._replayed(queue, entry))

    def drop(self, queue: str, ids: Sequence[str], *, reason: str, who: str) -> list[Entry]:
        """Give letters up, for a reason that is kept."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return self._moved(
            queue, ids, lambda entry: _dropped(queue, entry, {"reason": reason, "who": who, "at": at})
        )

    def keep_rejected(self, key_id: str, rejected: Sequence[msgspec.Struct], *, most_bytes: int) -> None:
        """Keep the first items that ingest refused, up to ``most_bytes`` a key; the others are only counted.

        Two round trips, however many there are: the sender waits for it.
        """
        data = [msgspec.json.encode(item) for item in rejected[:KEPT_AT_ONCE]]
        held = int(self._client.hget(REJECTED_BYTES, key_id) or 0)
        room = list(itertools.accumulate(map(len, data), initial=held))[1:]
        kept = sum(1 for total in room if total <= most_bytes)
        with self._client.pipeline(transaction=False) as pipe:
            for item, text in zip(rejected, data[:kept], strict=False):
                pipe.xadd(names.DLQ_INGEST, _rejected_fields(key_id, item, text))
            pipe.hincrby(REJECTED_BYTES, key_id, sum(map(len, data[:kept])))
            if kept < len(rejected):
                pipe.hincrby(REJECTED_LOST, key_id, len(rejected) - kept)
            pipe.execute()

    def _entries(self, queue: str) -> Iterator[Entry]:
        stream = names.DLQS[queue]
        return (Entry(stream, id_, 1, fields) for id_, fields in entries(self._client, stream))

    def _moved(self, queue: str, ids: Sequence[str], move: Callable[[Entry], Move | None]) -> list[Entry]:
        wanted = set(ids)
        gone: list[Entry] = []
        moves: list[Move] = []
        for entry in self._standing_now(queue):
            made = move(entry) if not wanted or entry.id in wanted else None
            if made:
                moves.append(made)
            if len(moves) == AT_ONCE:
                gone += self._settled(moves)
                moves = []
        gone += self._settled(moves)
        if queue == "ingest":
            for entry in gone:
                self._client.hincrby(REJECTED_BYTES, entry.fields[b"id"].decode(), -entry.size)
        return gone

    def _standing_now(self, queue: str) -> Iterator[Entry]:
        """The letters that stand now: what was sent again may come back while the rest is read."""
        newest = self._client.xrevrange(names.DLQS[queue], count=1)
        last = _order(newest[0][0].decode()) if newest else (0, 0)
        return itertools.takewhile(lambda entry: _order(entry.id) <= last, self._entries(queue))

    def _settled(self, moves: list[Move]) -> list[Entry]:
        settled = self._stream.move_letters(moves) if moves else []
        return [move.entry for move, ours in zip(moves, settled, strict=True) if ours]

    def _replayed(self, queue: str, entry: Entry) -> Move | None:
        fields = {name: value for name, value in entry.fields.items() if name != b"why"}
        if queue == "alerts":
            counts = {"events.parked": -entry.n, "events.queued": entry.n, "ingest.bytes": entry.size}
            target = {"stream": names.INGEST_STREAM, "queue": "ingest_queue"}
            return Move(entry, counts, [{"op": "append", "fields": flat(fields), **target}])
        if _why(entry).get("what") == "outcome":
            target = {"stream": names.DELIVERY_STREAM, "queue": "delivery_queue"}
            return Move(entry, {}, [{"op": "append", "fields": flat(fields), **target}])
        try:
            alert = codec.decode(Alert, entry.fields)
        except UndecodableEntry:
            return None  # nobody knows where to: it stays, and its neighbours go
        counts = {"alerts.parked": -1, "alerts.waiting": 1}
        # A full lane takes it too: the letter is gone and its row may say parked, so no sweep would bring it in.
        return Move(entry, counts, [{"op": "replay"} | alert_fields(alert, UNLIMITED, swept=True)])


def _rejected_fields(key_id: str, item: msgspec.Struct, data: bytes) -> dict[Any, Any]:
    why = orjson.dumps(
        {"reason": f"{getattr(item, 'field', '')}: {getattr(item, 'reason', '')}", "key": key_id}
    )
    return {"v": "json", "n": 1, "id": key_id, "d": data, "why": why}


def _order(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number)


def _dropped(queue: str, entry: Entry, record: dict[str, str]) -> Move:
    follow = [{"op": "drop", "id": f"{queue}:{entry.id}", "record": orjson.dumps({**record, "n": entry.n})}]
    if queue == "alerts":
        return Move(entry, {"events.parked": -entry.n, "events.dropped": entry.n}, follow)
    if queue == "moog" and _why(entry).get("what") != "outcome":
        return Move(entry, {"alerts.parked": -1, "alerts.dropped": 1}, follow)
    return Move(entry, {}, [])


def _why(entry: Entry) -> dict[str, Any]:
    with contextlib.suppress(orjson.JSONDecodeError):
        return dict(orjson.loads(entry.fields.get(b"why", b"{}")))
    return {}


def _letter(queue: str, entry: Entry, payload: bool) -> Letter:
    why = _why(entry)
    return Letter(
        queue=queue,
        id=entry.id,
        events=entry.n,
        reason=str(why.get("reason", "")),
        detail=str(why.get("detail", "")),
        attempts=int(why.get("attempts", 1)),
        at=datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="seconds"),
        about=entry.fields.get(b"id", b"").decode(errors="replace"),
        payload=_payload(queue, entry, why) if payload else None,
    )


def _payload(queue: str, entry: Entry, why: dict[str, Any]) -> Any:
    if queue == "ingest":
        return orjson.loads(entry.fields.get(b"d", b"null"))
    kind = Outcome if why.get("what") == "outcome" else KINDS[queue]
    try:
        return msgspec.to_builtins(_named(entry.decode(kind)))
    except UndecodableEntry as error:
        return str(error)


def _named(value: Any) -> Any:
    """A struct as a dict by name: on the wire they are arrays."""
    if isinstance(value, msgspec.Struct):
        return {name: _named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [_named(one) for one in value]
    return value
