"""Stream: one queue's append, take, settle and release."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack
import msgspec
import redis
from redis.commands.core import Script

from mutt import codec, names
from mutt.entry import Appended, Entry, Follow, Move, Part, Taken, Unhandled
from mutt.names import BELL_MS, GROUP, Queue
from mutt.streams.connect import Client, doubt_master
from mutt.streams.scripts import Scripts, call

_unpack = msgspec.msgpack.Decoder().decode


def _pack(options: Mapping[str, Any]) -> bytes:
    # Redis' cmsgpack knows no "bin" type: bytes have to travel as the old raw strings, which msgspec does not write.
    return msgpack.packb(options, use_bin_type=False)


#: Publishes a doorbell for a queue, with labels for people; losing one is harmless.
Ring = Callable[..., None]

#: A consumer that was silent for this long, with nothing pending, is forgotten. Milliseconds.
TIDY_MS = 3_600_000

#: How long an append waits for its replicas: shorter than any client waits for Redis. Milliseconds.
WAIT_MS = 300

#: How long a round's id is remembered, and a request's idempotency key. Milliseconds.
ROUND_MS = 600_000
KEY_MS = 86_400_000


#: How long a marker stays of an entry whose acknowledgement nobody saw. Milliseconds.
MARKER_MS = 30 * 86_400_000

#: Seconds after its take in which an entry of another server may be settled, at least.
GOOD_LEAST = 300.0


class Half(NamedTuple):
    """What is done at home about an entry of another server, and what is left to do there."""

    marker: str
    rest: bytes  #: what is left, packed
    counts: Mapping[str, int]
    follow: Sequence[Follow]
    unhandled: Unhandled | None

    @classmethod
    def of(cls, move: Move) -> Half:
        """All that counts events moves where the entry stands, in one step: so the books of both balance."""
        here = {name: n for name, n in move.counts.items() if name.startswith("alerts.")}
        there = {name: n for name, n in move.counts.items() if name not in here}
        again = [one for one in move.follow if one.get("stream") == names.INGEST_STREAM]
        follow = [one for one in move.follow if one.get("stream") != names.INGEST_STREAM]
        rest = _pack({"counts": there, "follow": again})
        return cls(marker_of(move.entry), rest, here, follow, move.unhandled)


def marker_of(entry: Entry) -> str:
    """The name of what is remembered of an entry. A server that lost its last writes may give an id again: so its
    content counts, too."""
    digest = hashlib.blake2b(entry.id.encode(), digest_size=16)
    digest.update(entry.fields.get(b"d", b""))
    return names.SETTLED + digest.hexdigest()


class MissingReplicas(redis.ConnectionError):
    """Fewer replicas than are asked for have it: the primary has, and may be lost."""

    def __init__(self, reached: int, wanted: int) -> None:
        super().__init__(f"{reached} of {wanted} replicas have it")


class Stream:
    """One queue's durable stream. ``redis.RedisError`` passes through every method.

    ``ring`` publishes doorbells, ``gate`` is the budget's Lua with its options (forward's queue has one).
    """

    def __init__(
        self,
        client: Client,
        queue: Queue,
        ring: Ring,
        *,
        gate: str = "",
        gate_options: Mapping[str, int] | None = None,
        replicas: int = 0,
    ) -> None:
        self.client, self.queue, self._ring, self._replicas = client, queue, ring, replicas
        self._scripts = Scripts(client, gate)
        self._gate_options = dict(gate_options or {})
        self._gated = bool(gate)

    @property
    def good(self) -> float:
        """Seconds after its take in which an entry of another server may be settled: longer than any work lasts."""
        return max(GOOD_LEAST, 2 * self.queue.claim)

    @property
    def _after_ms(self) -> int:
        # Whoever had the entry before may begin to settle it for so long: the marker outlives that.
        return round(self.good * 2000)

    def append(self, round_id: str, parts: Sequence[Part], *, max_events: int, max_bytes: int) -> Appended:
        """Add a round, all or nothing. Safe to repeat with the same ``round_id`` for ten minutes."""
        options = _pack(
            {
                "stream": self.queue.streams[0],
                "queue": self.queue.name,
                "round": round_id,
                "round_ms": ROUND_MS,
                "key_ms": KEY_MS,
                "max_events": max_events,
                "max_bytes": max_bytes,
                "parts": [_part(part) for part in parts],
            }
        )
        reply = _unpack(self._append(options))
        if reply.get("refused"):
            return Appended([], reply["depth"], reply["refused"])
        events = sum(n for part in parts for n, _, _ in part.entries)
        self._rings(reply.get("rung", ()), batch_id=parts[0].batch_id, events=events)
        return Appended(list(reply["replies"]), reply["depth"])

    def _append(self, options: bytes) -> Any:
        return self._safely(self._scripts.append, options)

    def _safely(self, script: Script, options: bytes) -> Any:
        """Run a script whose writes are to be with the replicas when it returns. Raises MissingReplicas."""
        if not self._replicas:
            return call(script, options)
        # WAIT speaks of the writes of its own connection, so it has to go down the same one.
        with self.client.pipeline(transaction=False) as pipe:
            call(script, options, pipe)
            pipe.wait(self._replicas, WAIT_MS)
            reply, reached = pipe.execute()
        self._check_reached(reached)
        return reply

    def _check_reached(self, reached: int) -> None:
        if reached < self._replicas:
            doubt_master(self.client)  # one that was replaced has none
            raise MissingReplicas(reached, self._replicas)

    def take(
        self,
        consumer: str,
        want: int,
        *,
        held: Sequence[Entry] = (),
        tidy: bool = False,
        tries: str = "",
        turns: str = "",
        extra: float = 0.0,
    ) -> Taken:
        """Hand out about ``want`` events' worth of entries, or with ``held`` a permit for those alone.

        The permit counts as good for ``extra`` seconds beyond the slack.
        """
        options: dict[str, Any] = {
            "streams": self.queue.streams,
            "queue": self.queue.name,
            "group": GROUP,
            "consumer": consumer,
            "want": want,
            "claim_ms": round(self.queue.claim * 1000),
        }
        if held:
            options["held"] = [
                {"stream": entry.stream, "id": entry.id, "attempts": entry.attempts} for entry in held
            ]
        if tidy:
            options["tidy_ms"] = TIDY_MS
        if tries:
            options["tries"] = tries
        if turns:
            options["turns"] = turns
        if extra:
            # Rounded up: the log must not count less than the forwarder does.
            options["extra_us"] = math.ceil(extra * 1e6)
        taken, wait, reason, left, token, generation = call(self._scripts.take, self._gate(options))
        entries = [
            Entry(stream.decode(), id_.decode(), int(attempts), codec.pairs(fields), tried.decode())
            for stream, id_, attempts, fields, tried in taken
        ]
        if held:
            mine = {entry.id for entry in entries}
            entries = [entry for entry in held if entry.id in mine]
        return Taken(entries, wait / 1000, reason.decode(), left, token.decode(), generation)

    def settle(
        self, moves: Iterable[Move], *, report: Mapping[str, Any] | None = None, consumer: str = ""
    ) -> list[bool]:
        """Finish entries; True for each that was really ours to finish.

        With ``consumer`` only what it still holds is; without, whoever settles first finishes an entry.
        """
        moves, asked = list(moves), frozenset[str]()
        while True:
            settled, more = self._settle([_move(move, asked) for move in moves], report, consumer)
            if not more:
                return settled
            asked |= more  # kinds that cross the threshold: without their events nothing is done

    def settle_here(
        self, halves: Sequence[Half], *, until: float, confirmed: Sequence[str] = ()
    ) -> tuple[list[bytes], float]:
        """What follows entries of another server, once, whoever asks; for each what is left to do there.

        ``until`` is the time (seconds of this Redis' clock) at which their holder is too late: then nothing is done,
        and the list is empty. ``confirmed`` are markers of entries that are gone from there. Second: the time now.
        """
        options: dict[str, Any] = {
            "until_ms": round(until * 1000),
            "keep_ms": MARKER_MS,
            "after_ms": self._after_ms,
            "confirmed": list(confirmed),
        }
        asked = frozenset[str]()
        while True:
            options["moves"] = [_half(half, asked) for half in halves]
            settled, rung, more, now = self._safely(self._scripts.settle, self._gate(options))
            self._rings((name.decode() for name in rung), entries=len(halves))
            if not more:
                break
            asked |= {kind.decode() for kind in more}
        rests = [half.rest if one == 1 else one for half, one in zip(halves, settled, strict=bool(settled))]
        return rests, now / 1000

    def settle_there(self, rests: Sequence[tuple[Entry, bytes]]) -> list[bool]:
        """The rest of it, where the entries stand; True for each that was still there."""
        moves = [
            {
                "stream": entry.stream,
                "group": GROUP,
                "id": entry.id,
                "attempts": entry.attempts,
                **{name.decode(): told for name, told in msgpack.unpackb(rest, raw=True).items()},
            }
            for entry, rest in rests
        ]
        settled, _ = self._settle(moves, None)
        return settled

    def begun(self, markers: Sequence[str]) -> list[bytes | None]:
        """For each marker what is left to do there; None: nothing followed yet.

        Raises MissingReplicas where one may not be with the replicas: who acts on it removes the only other trace.
        """
        found: list[bytes | None]
        if not self._replicas:
            found = self.client.mget(markers)
            return found
        with self.client.pipeline(transaction=False) as pipe:
            for marker in markers:
                pipe.pexpire(marker, MARKER_MS)  # a write of this connection's own: WAIT speaks of no others
            pipe.mget(markers)
            pipe.wait(self._replicas, WAIT_MS)
            *_, found, reached = pipe.execute()
        if any(found):
            self._check_reached(reached)
        return found

    def confirm(self, markers: Sequence[str]) -> None:
        """These entries are gone from there: soon nobody can ask for them again."""
        with self.client.pipeline(transaction=False) as pipe:
            for marker in markers:
                pipe.pexpire(marker, self._after_ms)
            pipe.execute()

    def takes_writes(self) -> None:
        """See that the server takes writes, and that its replicas get them. ``redis.RedisError`` passes through."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.set(names.READY, "1", px=1000)
            if self._replicas:
                pipe.wait(self._replicas, WAIT_MS)
            reached = pipe.execute()[-1]
        if self._replicas and reached < self._replicas:
            raise MissingReplicas(reached, self._replicas)

    def move_letters(self, moves: Iterable[Move]) -> list[bool]:
        """Move entries out of a dead-letter stream (replay, drop); True for each that was still there."""
        packed = [
            {"stream": m.entry.stream, "id": m.entry.id, "counts": dict(m.counts), "follow": list(m.follow)}
            for m in moves
        ]
        settled, _ = self._settle(packed, None)
        return settled

    def _settle(
        self, moves: list[dict[str, Any]], report: Mapping[str, Any] | None, consumer: str = ""
    ) -> tuple[list[bool], frozenset[str]]:
        options: dict[str, Any] = {"moves": moves} | ({"consumer": consumer} if consumer else {})
        if report is not None:
            options["report"] = dict(report)
        settled, rung, asked = call(self._scripts.settle, self._gate(options))
        self._rings((name.decode() for name in rung), entries=len(moves))
        return [bool(one) for one in settled], frozenset(kind.decode() for kind in asked)

    def release(
        self,
        consumer: str,
        entries: Sequence[Entry],
        delay: float,
        *,
        report: Mapping[str, Any] | None = None,
        strikes: int = 0,
        notes: Sequence[Follow] = (),
        counted: bool = False,
    ) -> list[int]:
        """Hand entries back for ``delay`` seconds (at most the claim timeout). The strikes of each, for alerts.

        An alert with as many as ``strikes`` (0: any number) is not handed back: its holder parks it. ``notes`` are
        what is appended elsewhere for each that is. ``counted``: it was an attempt.
        """
        options: dict[str, Any] = {
            "group": GROUP,
            "consumer": consumer,
            "claim_ms": round(self.queue.claim * 1000),
            "delay_ms": round(delay * 1000),
            "entries": [
                {
                    "stream": e.stream,
                    "id": e.id,
                    "attempts": e.attempts,
                    "alert": e.fields.get(b"id", b"").decode(errors="replace"),
                }
                for e in entries
            ],
        }
        if report is not None:
            options["report"] = dict(report)
        if strikes:
            options["strikes"] = strikes
        if counted:
            options["counted"] = True
        if notes:
            options["notes"] = [dict(note) for note in notes]
        struck, rung = call(self._scripts.release, self._gate(options))
        self._rings((name.decode() for name in rung), entries=len(entries))
        return list(struck)

    def place(
        self, alerts: Sequence[Mapping[str, Any]], outside: Mapping[str, str], closed: Iterable[str] = ()
    ) -> list[str]:
        """The sweep's append: alerts that stand nowhere; ``outside`` are the marks that may go (lane -> count seen),
        ``closed`` the lanes whose alerts outside stay there for now."""
        asked = {"alerts": list(alerts), "outside": dict(outside), "closed": list(closed)}
        reply = _unpack(call(self._scripts.append, _pack(asked)))
        self._rings(reply["rung"], why="sweep")
        return list(reply["results"])

    def keep_bell(self) -> None:
        """Somebody is at work: appends need not ring."""
        self._set_bell(BELL_MS)

    def quiet_bell(self) -> None:
        """Nobody is at work: the next append rings."""
        self.client.delete(self.queue.bell)

    def hush_bell(self, seconds: float) -> None:
        """Nothing can be done for a while: ring again after ``seconds``."""
        self._set_bell(max(1, round(seconds * 1000)))

    def _set_bell(self, ms: int) -> None:
        # A full Redis refuses it; that must not stop the drain that makes room.
        with contextlib.suppress(redis.OutOfMemoryError):
            self.client.set(self.queue.bell, "1", px=ms)

    def ring(self) -> None:
        """Pass the baton: publish a doorbell and set the bell for it."""
        self.keep_bell()
        self._ring(self.queue.name, why="baton")

    def size(self) -> int:
        """Entries that are unfinished, held or not."""
        return sum(self.client.xlen(stream) for stream in self.queue.streams)

    def _gate(self, options: dict[str, Any]) -> bytes:
        if self._gated:
            options["gate"] = self._gate_options
        return _pack(options)

    def _rings(self, names: Iterable[str], **labels: Any) -> None:
        for name in names:
            self._ring(name, **labels)


def _half(half: Half, asked: Container[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "marker": half.marker,
        "rest": half.rest,
        "counts": dict(half.counts),
        "follow": list(half.follow),
    }
    if half.unhandled:
        told["unhandled"] = half.unhandled.told(asked)
    return told


def _move(move: Move, asked: Container[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "stream": move.entry.stream,
        "group": GROUP,
        "id": move.entry.id,
        "attempts": move.entry.attempts,
        "counts": dict(move.counts),
        "follow": list(move.follow),
    }
    if move.unhandled:
        told["unhandled"] = move.unhandled.told(asked)
    return told


def _part(part: Part) -> dict[str, Any]:
    entries = [{"n": n, "fields": fields, "size": size} for n, fields, size in part.entries]
    return {"entries": entries, "reply": part.reply} | ({"key": part.key} if part.key else {})
