"""Dead letters: what could not be worked, why, and the ways out: replay, a copy, drop. Every way out is a settle."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, NamedTuple

import msgpack
import msgspec
import orjson

from mutt import codec, names
from mutt.alert import Alert, Outcome, Status
from mutt.entry import Appended, Entry, Follow, Move, Part, again, deliver, flat
from mutt.errors import MuttError, UndecodableEntry
from mutt.event import Envelope
from mutt.streams.books import entries
from mutt.streams.bound import Inlet
from mutt.streams.connect import Client
from mutt.streams.stream import Stream

KINDS: dict[str, Any] = {"alerts": Envelope, "moog": Alert}

REJECTED_BYTES, REJECTED_LOST = "mutt:dlq:ingest:bytes", "mutt:dlq:ingest:dropped"

#: Letters that are moved in one step: Redis does nothing else meanwhile.
AT_ONCE = 100

#: Letters that are looked at in one step. One may hold a MiB, and Redis copies it to look.
LOOKED_AT = 100

#: Items of one request that are kept: the first ones show what is wrong with the others.
KEPT_AT_ONCE = 100

#: Letters that are fetched at a time to find those of one key, which may be large; and how often.
REFUSED_PAGE, REFUSED_PAGES = 20, 10

_ID = re.compile(r"(\d{1,20})-(\d{1,20})")
_ID_MOST = 2**64


class NoLetter(MuttError):
    """There is no dead letter of this id."""


class NotReplayable(MuttError):
    """What a sender sent wrong is the sender's to send again; MUTT can't make an event of it."""


class NotDroppable(MuttError):
    """A note of what became of an alert: given up, nobody would ever know, and the alert's row would wait for ever."""


class Letter(msgspec.Struct, frozen=True):
    """One dead letter, for people."""

    queue: str
    id: str
    events: int
    reason: str
    detail: str  #: what was said of it: a traceback, PostgreSQL's words, Moog's answer
    attempts: int  #: deliveries to a worker; of an alert, requests to Moog
    first: str  #: when what it holds was first queued, RFC 3339; empty: not known
    at: str  #: when it was parked, RFC 3339
    about: str  #: the id of the event or alert
    moog_status: int | None = None  #: HTTP status of Moog's last answer
    is_outcome: bool = False  #: a note of what became of an alert, which PostgreSQL could not take
    payload: Any = None  #: the decoded event or alert, where it can be decoded


class Seen(NamedTuple):
    """A page of letters: those found, and the id behind which to go on; empty: that was all."""

    letters: list[Letter]
    after: str


class Letters:
    """The dead-letter queues ``ingest``, ``alerts`` and ``moog``."""

    def __init__(self, client: Client, stream: Stream) -> None:
        self._client, self._stream = client, stream
        self._sift = client.register_script((files(__package__) / "sift.lua").read_text())

    def listed(self, queue: str, *, payload: bool = False) -> Iterator[Letter]:
        """Every letter of a queue, the oldest first."""
        for id_, fields in entries(self._client, names.DLQS[queue]):
            yield letter_of(queue, Entry(names.DLQS[queue], id_, 1, fields), payload=payload)

    def counts(self, queue: str) -> dict[str, int]:
        """How many letters each group has, the largest first. A group is a reason; ingest's without its numbers."""
        found: Counter[str] = Counter()
        for told, _, _ in self._pages(queue, "", "+", count=LOOKED_AT):
            found.update(told)
        return dict(found.most_common())

    def page(self, queue: str, group: str = "", *, after: str = "", want: int = 50) -> Seen:
        """Letters of a group (empty: of all), the oldest first, those behind ``after``; without what they hold."""
        found: list[Letter] = []
        for _, heads, _last in self._pages(queue, after, "+", group, want=want + 1, heads=True):
            found += [letter_of(queue, Entry(names.DLQS[queue], id_, 1, head)) for id_, head in heads]
            if len(found) > want:
                return Seen(found[:want], found[want - 1].id)
        return Seen(found, "")

    def newest(self, queue: str) -> str:
        """The id of the youngest letter; empty: there is none."""
        found = self._client.xrevrange(names.DLQS[queue], count=1)
        return found[0][0].decode() if found else ""

    def refused_of(self, key_id: str, want: int) -> list[Entry]:
        """What ingest refused last of a key, the newest first: among the newest letters of all keys."""
        found: list[Entry] = []
        last = "+"
        for _ in range(REFUSED_PAGES):
            page = self._client.xrevrange(names.DLQ_INGEST, max=last, count=REFUSED_PAGE)
            for id_, fields in page:
                if fields.get(b"id") == key_id.encode():
                    found.append(Entry(names.DLQ_INGEST, id_.decode(), 1, fields))
            if len(found) >= want or len(page) < REFUSED_PAGE:
                break
            last = f"({page[-1][0].decode()}"
        return found[:want]

    def ids(self, queue: str, group: str, *, after: str, until: str, want: int) -> tuple[list[str], str]:
        """Up to ``want`` letters of a group (empty: of all) behind ``after`` and up to ``until``, and where the look
        ended."""
        found: list[str] = []
        last = after
        for _, heads, last in self._pages(queue, after, until, group, want=want):  # noqa: B007 the last one counts
            found += [id_ for id_, _ in heads]
            if len(found) >= want:
                return found[:want], found[want - 1]
        return found, last

    def read(self, queue: str, ids: Sequence[str]) -> list[Entry]:
        """These letters whole, those that stand."""
        stream = names.DLQS[queue]
        with self._client.pipeline(transaction=False) as pipe:
            for id_ in filter(is_id, ids):
                pipe.xrange(stream, id_, id_)
            found = pipe.execute()
        return [Entry(stream, id_.decode(), 1, fields) for page in found for id_, fields in page]

    def one(self, queue: str, id_: str) -> Entry:
        """One letter, whole. Raises NoLetter."""
        found = self.read(queue, [id_])
        if not found:
            raise NoLetter(
                f"no letter {id_} stands in {queue}: it was sent again or dropped, or never was there"
            )
        return found[0]

    def replay(self, queue: str, letters: Sequence[Entry]) -> list[Entry]:
        """Send letters through again. The ones that were still there."""
        check_replayable(queue)
        return self._moved(queue, letters, lambda entry: self._replayed(queue, entry))

    def drop(self, queue: str, letters: Sequence[Entry], *, reason: str, who: str) -> list[Entry]:
        """Give letters up, for a reason that is kept. The ones that were still there; an outcome stays."""
        record = _record(reason, who)
        chosen = [letter for letter in letters if not is_outcome(letter)]
        return self._moved(queue, chosen, lambda entry: _dropped(queue, entry, record))

    def replace(
        self,
        queue: str,
        letter: Entry,
        counts: dict[str, int],
        follow: Sequence[Follow],
        *,
        reason: str,
        who: str,
    ) -> bool:
        """Drop a letter and let what takes its place follow, in one step. False: it was not there any more."""
        dropped = _dropped(queue, letter, _record(reason, who))
        total = Counter(dropped.counts)
        total.update(counts)
        move = Move(letter, total, [*dropped.follow, *follow])
        return bool(self._moved(queue, [letter], lambda _entry: move))

    def keep_rejected(
        self,
        key_id: str,
        rejected: Sequence[msgspec.Struct],
        *,
        most_bytes: int,
        at_once: int | None = KEPT_AT_ONCE,
    ) -> None:
        """Keep the first ``at_once`` items that ingest refused (None: all), up to ``most_bytes`` a key; the others are
        only counted.

        Two round trips, however many there are: the sender waits for it.
        """
        data = [msgspec.json.encode(item) for item in rejected[:at_once]]
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

    def queued(self) -> int:
        """Events that wait in the ingest queue."""
        return int(self._client.hget(names.LEDGER, "events.queued") or 0)

    def _pages(
        self,
        queue: str,
        after: str,
        until: str,
        group: str = "",
        *,
        want: int = 0,
        count: int = LOOKED_AT,
        heads: bool = False,
    ) -> Iterator[tuple[dict[str, int], list[tuple[str, dict[bytes, bytes]]], str]]:
        """Page by page: how many letters of each group, those of ``group``, and the last one that was looked at."""
        options: dict[str, Any] = {
            "stream": names.DLQS[queue],
            "stop": until,
            "count": count,
            "want": want,
            "heads": heads,
            "numbers": queue != "ingest",
        }
        options |= {"group": group} if group else {}
        while True:
            asked = options | {"start": f"({after}" if after else "-"}
            last, looked, told, found = self._sift(args=[msgpack.packb(asked, use_bin_type=False)])
            if looked:
                after = last.decode()
            yield (
                {reason.decode(errors="replace"): n for reason, n in told},
                [(id_.decode(), codec.pairs(head)) for id_, head in found],
                after,
            )
            if looked < count:
                return

    def _moved(
        self, queue: str, letters: Sequence[Entry], move: Callable[[Entry], Move | None]
    ) -> list[Entry]:
        made = [one for one in map(move, letters) if one]
        gone: list[Entry] = []
        for start in range(0, len(made), AT_ONCE):
            step = made[start : start + AT_ONCE]
            settled = self._stream.move_letters(step)
            gone += [one.entry for one, ours in zip(step, settled, strict=True) if ours]
        if queue == "ingest":
            for entry in gone:
                self._client.hincrby(REJECTED_BYTES, entry.fields.get(b"id", b""), -entry.size)
        return gone

    def _replayed(self, queue: str, entry: Entry) -> Move | None:
        fields = {name: value for name, value in entry.fields.items() if name != b"why"}
        if queue == "alerts":
            counts = {"events.parked": -entry.n, "events.queued": entry.n, "ingest.bytes": entry.size}
            target = {"stream": names.INGEST_STREAM, "queue": "ingest_queue"}
            return Move(entry, counts, [{"op": "append", "fields": flat(fields), **target}])
        if is_outcome(entry):
            target = {"stream": names.DELIVERY_STREAM, "queue": "delivery_queue"}
            return Move(entry, {}, [{"op": "append", "fields": flat(fields), **target}])
        alert = alert_in(entry)
        if alert is None:
            return None  # nobody knows where to: it stays, and its neighbours go
        counts = {"alerts.parked": -1, "alerts.waiting": 1}
        return Move(entry, counts, [again(alert, entry.fields.get(b"more", b""))])


def _rejected_fields(key_id: str, item: msgspec.Struct, data: bytes) -> dict[Any, Any]:
    why = orjson.dumps(
        {"reason": f"{getattr(item, 'field', '')}: {getattr(item, 'reason', '')}", "key": key_id}
    )
    return {"v": "json", "n": 1, "id": key_id, "d": data, "why": why}


class Successor(Inlet):
    """An inlet for what takes a letter's place: accepted in the very step that drops the letter, within no limits.

    ``append`` raises NoLetter where somebody else was quicker: nothing was accepted.
    """

    def __init__(
        self, letters: Letters, queue: str, letter: Entry, said: Mapping[str, str], **inlet: Any
    ) -> None:
        super().__init__(**inlet)
        self._letters, self._queue, self._letter, self._said = letters, queue, letter, said

    def append(self, round_id: str, parts: Sequence[Part], deadline: float) -> Appended:  # noqa: ARG002
        added = [entry for part in parts for entry in part.entries]
        n, size = sum(n for n, _, _ in added), sum(size for _, _, size in added)
        counts = {"events.accepted": n, "events.queued": n, "ingest.bytes": size}
        target = {"stream": names.INGEST_STREAM, "queue": "ingest_queue"}
        follow = [{"op": "append", "fields": fields, **target} for _, fields, _ in added]
        if not self._letters.replace(self._queue, self._letter, counts, follow, **self._said):
            raise NoLetter(f"letter {self._letter.id} is not there any more: nothing was accepted")
        return Appended([""] * len(parts), self._letters.queued())


def check_replayable(queue: str) -> None:
    """Raises NotReplayable for what ingest rejected."""
    if queue == "ingest":
        raise NotReplayable(
            "an item that was rejected can't be replayed: edit a copy, or let its sender mend it"
        )


#: Why an outcome is not dropped.
KEPT = "it says what became of an alert: replay it once PostgreSQL takes it"


def is_id(id_: str) -> bool:
    """Could a letter be called so?"""
    found = _ID.fullmatch(id_)
    return found is not None and all(int(part) < _ID_MOST for part in found.groups())


def is_outcome(letter: Entry) -> bool:
    """Is it a note of what became of an alert, and not the alert itself?"""
    return why_of(letter).get("what") == "outcome"


def _record(reason: str, who: str) -> dict[str, str]:
    return {"reason": reason, "who": who, "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _dropped(queue: str, entry: Entry, record: dict[str, str]) -> Move:
    follow = [{"op": "drop", "id": f"{queue}:{entry.id}", "record": orjson.dumps({**record, "n": entry.n})}]
    if queue == "alerts":
        return Move(entry, {"events.parked": -entry.n, "events.dropped": entry.n}, follow)
    if queue == "moog":
        return Move(entry, {"alerts.parked": -1, "alerts.dropped": 1}, follow + _end(entry, record))
    return Move(entry, {}, follow)  # an item that was rejected never was in the books


def _end(entry: Entry, record: Mapping[str, str]) -> list[Follow]:
    """The alert's row follows in the same step, by housekeeping: whoever asked for the drop may die right after."""
    alert = alert_in(entry)
    if alert is None:
        # Nothing that could be written whole; but it stands nowhere any more.
        return [{"op": "forget", "id": entry.fields.get(b"id", b"")}]
    why = why_of(entry)
    requests, moog_status = why.get("requests"), why.get("moog_status")
    outcome = Outcome(
        alert=alert,
        status=Status.DROPPED,
        attempts=requests if isinstance(requests, int) else 0,
        at=datetime.now(UTC),
        moog_status=moog_status if isinstance(moog_status, int) else None,
        moog_answer=str(why.get("detail", "")),
        reason=f"{record['reason']} ({record['who']})",
    )
    return [{"op": "forget", "id": entry.fields.get(b"id", b""), "only": "behind"}, deliver(outcome)]


def alert_in(letter: Entry) -> Alert | None:
    """The alert that this letter of ``moog`` holds, if it can be read."""
    with contextlib.suppress(UndecodableEntry):
        return codec.decode(Alert, letter.fields)
    return None


def why_of(letter: Entry) -> dict[str, Any]:
    """What is written on a letter."""
    with contextlib.suppress(orjson.JSONDecodeError):
        told = orjson.loads(letter.fields.get(b"why", b"{}"))
        return told if isinstance(told, dict) else {}
    return {}


def letter_of(queue: str, entry: Entry, *, payload: bool = False) -> Letter:
    """A letter for people; with ``payload`` also what it holds."""
    why = why_of(entry)
    moog_status = why.get("moog_status")
    return Letter(
        queue=queue,
        id=entry.id,
        events=entry.n,
        reason=str(why.get("reason", "")),
        detail=str(why.get("detail", "")),
        attempts=int(why.get("requests") or why.get("attempts") or 1),
        first=_when(str(why.get("entry", ""))),
        at=_when(entry.id),
        about=entry.fields.get(b"id", b"").decode(errors="replace"),
        moog_status=moog_status if isinstance(moog_status, int) else None,
        is_outcome=why.get("what") == "outcome",
        payload=_payload(queue, entry, why) if payload else None,
    )


def _when(id_: str) -> str:
    """When an entry of this id was appended."""
    if not is_id(id_):
        return ""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        at = datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC)
        return at.isoformat(timespec="seconds")
    return ""


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
