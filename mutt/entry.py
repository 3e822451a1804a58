"""What a stream hands out and takes back: entries, moves, and what follows a move. Values only."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson

from mutt import codec, names
from mutt.alert import RELEASED, Alert, Hold, Outcome, told_with
from mutt.errors import NewerEntry, UndecodableEntry
from mutt.event import Envelope, Event, Segment, State
from mutt.rules.noise import Limits, Storm, at_micros, micros

#: From this delivery on an entry that takes more memory to decode than there is counts as damaged.
TOO_LARGE_FROM = 5

#: An entry that a newer MUTT wrote is left to the newer workers for so long (seconds of its age), then it is parked.
NEWER_WAITS = 900.0

#: Seconds after which it is looked at again.
NEWER_REST = 10.0

#: A host and a template: what the events of one kind have in common.
Kind = tuple[str, str]

#: One thing that a settle does after the acknowledgement; ``op`` names it (streams/settle.lua).
Follow = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One entry that this consumer holds."""

    stream: str
    id: str
    attempts: int  #: how often it was handed out, this time included
    fields: dict[bytes, bytes]
    tries: str = ""  #: what the gate noted of earlier requests: requests:strikes:accepted
    server: str = ""  #: where its stream stands, if that is not home (STREAM_URL)

    @property
    def n(self) -> int:
        """How many events it holds; one, where it does not say so."""
        told = self.fields.get(b"n", b"1")
        return int(told) if told.isdigit() else 1

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return len(self.fields.get(b"d", b""))

    @property
    def at(self) -> float:
        """When it was appended, in seconds of Redis' clock."""
        return int(self.id.split("-")[0]) / 1000

    @property
    def requests(self) -> int:
        """How many requests to Moog it has behind it."""
        return int(self.tries.split(":")[0] or 0)

    @property
    def suspect(self) -> bool:
        """May it be what failed a request, or ended its holders? Then it goes alone."""
        return self.attempts >= 3 or self.tries.split(":")[1:2] not in ([], ["0"])

    def decode(self, kind: type[codec.T]) -> codec.T:
        """Raises UndecodableEntry, NewerEntry; MemoryError for a few deliveries, for it may be another's fault."""
        try:
            return codec.decode(kind, self.fields)
        except MemoryError as error:
            if self.attempts < TOO_LARGE_FROM:
                raise
            raise UndecodableEntry("an entry takes more memory to decode than there is") from error

    def may_wait(self, error: UndecodableEntry, now: float) -> bool:
        """Is this entry one for a newer worker, who may still come? ``now``: seconds since the epoch."""
        return isinstance(error, NewerEntry) and now - self.at < NEWER_WAITS


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What a take gave: entries, or a wait in seconds with its reason."""

    entries: list[Entry]
    wait: float = 0.0
    reason: str = ""
    left: int = 0  #: entries that nobody holds yet
    token: str = ""  #: the gate's permit
    generation: int = 0


#: Kinds (a host and a template) of unhandled events that are counted at a time; about 150 bytes of Redis each.
KINDS = 200_000


@dataclasses.dataclass(frozen=True, slots=True)
class Unhandled:
    """Events that no rule handles, by kind: a host and a template.

    The settle counts them. Where that crosses the threshold it asks for the event that so many of them make.
    """

    kinds: Mapping[Kind, int]  #: how many of each
    event: Callable[[Kind], Event]
    threshold: int
    window: float  #: seconds

    def told(self, asked: Container[str] = ()) -> dict[str, Any]:
        """What the settle (streams/settle.lua) is told, with the events of those kinds that it ``asked`` for."""
        keyed = [(kind, _kind_key(*kind), n) for kind, n in self.kinds.items()]
        return {
            "kinds": [one for _, key, n in keyed for one in (key, str(n))],
            "events": {key: self._event(kind) for kind, key, _ in keyed if key in asked},
            "threshold": self.threshold,
            "most": KINDS,
            "window_ms": round(self.window * 1000),
            "stream": names.INGEST_STREAM,
            "queue": "ingest_queue",
        }

    def _event(self, kind: Kind) -> dict[str, Any]:
        event = self.event(kind)
        fields, size = codec.encode(Envelope([Segment(str(event.event_id), str(event.event_id), [event])]))
        return {"fields": fields, "size": size}


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """One entry's end: how the books move, and what follows it."""

    entry: Entry
    counts: Mapping[str, int]
    follow: Sequence[Follow] = ()
    unhandled: Unhandled | None = None
    correlation_ids: Sequence[str] = ()  #: of what it holds, for the log
    traces: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  #: the traced among them: context and correlation id


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What one request adds to a round: its entries, or the reply that its idempotency key already has."""

    entries: Sequence[tuple[int, list[str | bytes | int], int]]  #: (events, fields, bytes)
    key: str | None = None
    reply: str = ""
    batch_id: str = ""  #: of its first request; a label for people


@dataclasses.dataclass(frozen=True, slots=True)
class Appended:
    """``replies`` has, a part, the first reply to its idempotency key, or '' where it was added now."""

    replies: list[str]
    depth: int
    refused: str = ""  #: depth or bytes: nothing was added


def short_hash(*parts: str) -> str:
    """A short name for some text; parts are kept apart by their lengths."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


@functools.lru_cache(16_384)
def _kind_key(hostname: str, template: str) -> str:
    # The same kinds come again and again.
    return f"mutt:unhandled:{short_hash(hostname, template)}"


def kind_key(kind: Kind) -> str:
    """Where unhandled events of a kind are counted."""
    return _kind_key(*kind)


def alert_fields(alert: Alert, queue_max: int, *, swept: bool = False) -> dict[str, Any]:
    """What ``place`` (streams/prelude.lua) is told of an alert."""
    fields, _ = codec.encode(alert, about=str(alert.alert_id))
    sig = short_hash(alert.signature)
    told = {
        "id": str(alert.alert_id),
        "sig": sig,
        "lane": alert.lane,
        "max": queue_max,
        "clear": alert.state is State.CLEAR,
        # Beside the data, to be read where the data can't be: those behind it must come in all the same.
        "fields": [*fields, "sig", sig],
    }
    if alert.held == RELEASED:
        told["released"] = True
    elif alert.held:
        told["held"] = alert.held
    return told | {"swept": True} if swept else told


def again(alert: Alert, more: bytes = b"") -> Follow:
    """The alert of a letter goes to its lane by hand, be that full or not, and was not outside of it.

    ``more`` is what its entry said of those held before it.

    The letter is gone then, and its row may still say parked: no sweep would bring it in.
    """
    told = alert_fields(msgspec.structs.replace(alert, held=""), 0)
    if more:
        told["fields"] += ["more", more]
    return {"op": "replay"} | told | {"by_hand": True}


def raise_alert(
    alert: Alert, queue_max: int, limits: Limits | None = None, ends: Sequence[Alert] | None = None
) -> Follow:
    """The alert goes to its lane, or is held: by what its verdict says, or by one of ``limits``.

    ``ends``: all raises that this clear ends and that may be unsent, where Moog got none that it ends (or None): if it
    got none of these either, neither they nor the clear are sent.
    """
    told = {"op": "alert"} | alert_fields(alert, queue_max)
    if limits is not None:
        told["noise"] = _noise(alert, limits)
    if ends is not None and len(ends) <= ENDS_MOST:
        told["ends"] = [{"id": str(one.alert_id), "sig": short_hash(one.signature)} for one in ends]
    return told


def lead_alert(alert: Alert, queue_max: int, limits: Limits | None = None) -> Follow:
    """A raise that has to stand before the clear that ends it, whose own entry may not be settled yet."""
    return {**raise_alert(alert, queue_max, limits), "lead": True}


#: A clear that ends more raises than this is sent, whatever Moog got of them.
ENDS_MOST = 64

#: What noise control remembers is forgotten this much (ms) after it can't matter any more; a storm, of which nobody
#: was told yet, a day after.
FORGOTTEN_AFTER, STORM_FORGOTTEN_AFTER = 600_000, 86_400_000


def _noise(alert: Alert, limits: Limits) -> dict[str, Any]:
    """What streams/noise.lua is told. Times and windows in microseconds."""
    told: dict[str, Any] = {"at": micros(alert.received_at)}
    windows = [limits.dedup]
    if limits.dedup:
        told["dedup"] = limits.dedup
    for name in ("threshold", "flap"):
        pair = getattr(limits, name)
        if pair:
            told[name] = pair
            windows.append(pair[1])
    if limits.of_rule:
        told["keep_ms"] = _kept(max(windows))
    if limits.storms and alert.state is not State.CLEAR:
        told["member"] = {
            "who": f"{alert.hostname}\0{alert.type}",
            "severity": alert.severity,
            "team": alert.team,
        }
        told["storms"] = [_storm(storm) for storm in limits.storms]
    return told


def _kept(window: int) -> int:
    return 2 * (window // 1000) + FORGOTTEN_AFTER


def _storm(storm: Storm) -> dict[str, Any]:
    policy = storm.policy
    window = policy.alert_window * 1_000_000
    return {
        "id": policy.id,
        "key": f"{policy.id}:{short_hash(storm.key)}",
        "name": policy.name,
        "by": policy.group_by,
        "value": storm.key,
        "count": policy.alert_count,
        "window": window,
        "keep_ms": _kept(window),
        "storm_ms": _kept(window) + STORM_FORGOTTEN_AFTER,
    }


def leave_lane(alert: Alert) -> Follow:
    """The alert is finished at Moog: the next one of its signature comes in."""
    return {"op": "leave", "sig": short_hash(alert.signature), "id": str(alert.alert_id)}


def leave_unread(entry: Entry) -> list[Follow]:
    """The same for an alert that can't be decoded, if its entry still says which it was."""
    if not {b"sig", b"id"} <= entry.fields.keys():
        return []
    sig, about = (entry.fields[name].decode(errors="replace") for name in (b"sig", b"id"))
    return [{"op": "leave", "sig": sig, "id": about}]


def deliver(outcome: Outcome) -> Follow:
    """What became of an alert goes to ``record``."""
    fields, _ = codec.encode(outcome, about=str(outcome.alert.alert_id))
    return {"op": "append", "stream": names.DELIVERY_STREAM, "fields": fields, "queue": "delivery_queue"}


def recorded(outcome: Outcome | Hold) -> Follow:
    """The outcome stands in PostgreSQL."""
    if isinstance(outcome, Hold):
        return {"op": "recorded", "id": str(outcome.alert_id), "held": True}
    return {"op": "recorded", "id": str(outcome.alert.alert_id)}


def told_of(entry: Entry, alert: Alert) -> Alert:
    """The alert of a lane's entry as Moog is told of it: with how many of its signature were held before it."""
    repeats, _, since = entry.fields.get(b"more", b"").decode(errors="replace").partition(" ")
    if not (repeats.isdecimal() and since.isdecimal()):
        return alert
    return told_with(alert, int(repeats), at_micros(int(since)))


def outcome_of(entry: Entry) -> Outcome | Hold:
    """What an entry of the delivery queue says became of an alert. Raises UndecodableEntry, NewerEntry."""
    if b"held" not in entry.fields:
        return entry.decode(Outcome)
    # Written by a script, which can't encode: its fields say it all, in a version that older workers leave to us.
    try:
        about = UUID(entry.fields.get(b"id", b"").decode())
        return Hold(
            alert_id=about,
            reason=entry.fields[b"held"].decode(),
            at=datetime.fromtimestamp(entry.at, UTC),
        )
    except ValueError as error:
        raise UndecodableEntry(f"a note of a held alert can't be read: {error}") from error


def park(letters: str, entry: Entry, fields: Sequence[Any], why: Mapping[str, Any]) -> Follow:
    """Data that can't be worked goes to a dead-letter stream, with why (``reason`` at least)."""
    about = {"attempts": entry.attempts, "entry": entry.id, "stream": entry.stream, **why}
    return {"op": "append", "stream": letters, "fields": [*fields, "why", orjson.dumps(about)]}


def flat(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """An entry's fields as XADD takes them."""
    return [one for pair in fields.items() for one in pair]
