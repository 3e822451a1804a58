"""What the pipeline is given of the streams: a queue with its consumer, the inlet of ingest, suspects, lanes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis

from mutt import names
from mutt.alert import Alert, Outcome
from mutt.entry import Appended, Entry, Move, Part, Taken, alert_fields, deliver
from mutt.errors import NoRoom, StreamAway, Unavailable
from mutt.streams.connect import Client
from mutt.streams.spread import Lookout
from mutt.streams.stream import MissingReplicas, Stream

#: Ingest refuses at this share of Redis' ``maxmemory``: what comes out of the queues needs room too.
MEMORY_SHARE = 0.8

#: Seconds between two looks at Redis' memory.
MEMORY_EVERY = 1.0

#: Seconds between two tries to take a note back.
PAY_EVERY = 0.25

#: A full Redis takes this note, too: what it is about makes room.
#: A delivery has one note: of what is in work now. Without a position it is taken back.
NOTE = """#!lua flags=allow-oom
local found, kept = redis.call('HGET', KEYS[1], ARGV[1]), {}
for _, one in ipairs(found and cjson.decode(found) or {}) do
  if one[1] ~= tonumber(ARGV[2]) then kept[#kept + 1] = one end
end
if ARGV[3] then kept[#kept + 1] = {tonumber(ARGV[2]), tonumber(ARGV[3])} end
if #kept == 0 then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(kept))
"""


def away(error: redis.RedisError, *, sent: bool = False) -> StreamAway:
    """What a sender and the log are told of an append that failed."""
    if isinstance(error, MissingReplicas):
        remedy = "bring them back, or lower INGEST_WAIT_REPLICAS"
        return StreamAway(f"the events are not safe yet, {error}: {remedy}", sent=sent)
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return StreamAway(
            f"{_REFUSES} our login or a command: see REDIS_URL or STREAM_URL", retry_after=5, sent=sent
        )
    if isinstance(error, redis.ResponseError):
        return StreamAway(f"{_REFUSES} writes: {str(error)[:120]}", retry_after=5, sent=sent)
    return StreamAway(sent=sent)


_REFUSES = "Redis, which holds the stream, refuses"


class Held:
    """A stream with the consumer that takes from it. ``budgeted``: alerts, with their tries and turns."""

    def __init__(self, stream: Stream, consumer: str, *, budgeted: bool = False) -> None:
        self._stream, self._consumer = stream, consumer
        self._extra = {"tries": names.TRIES, "turns": names.TURNS} if budgeted else {}
        self._owner = consumer if budgeted else ""

    def take(self, want: int, *, held: Sequence[Entry] = (), tidy: bool = False, extra: float = 0.0) -> Taken:
        return self._stream.take(self._consumer, want, held=held, tidy=tidy, extra=extra, **self._extra)

    def settle(self, moves: Iterable[Move], *, report: Mapping[str, Any] | None = None) -> list[bool]:
        return self._stream.settle(moves, report=report, consumer=self._owner)

    def release(
        self,
        entries: Sequence[Entry],
        delay: float,
        *,
        report: Mapping[str, Any] | None = None,
        strikes: int = 0,
        notes: Sequence[Outcome] = (),
    ) -> list[int]:
        return self._stream.release(
            self._consumer,
            entries,
            delay,
            report=report,
            strikes=strikes,
            notes=[deliver(one) for one in notes],
        )

    def ring(self) -> None:
        self._stream.ring()

    def keep_bell(self) -> None:
        self._stream.keep_bell()

    def quiet_bell(self) -> None:
        self._stream.quiet_bell()

    def hush_bell(self, seconds: float) -> None:
        self._stream.hush_bell(seconds)

    def hand_back(self) -> None:
        """Redis failed: there is nobody to hand it back to. The claim timeout does."""


class Inlet:
    """The ingest stream as the web sees it: within a deadline, and with limits. Raises Unavailable."""

    def __init__(
        self, stream: Stream, *, max_events: int, max_bytes: int, dedup_window: float, server: str = ""
    ) -> None:
        """``server``: the name of the one that it stands on."""
        self._stream, self._client, self._server = stream, stream.client, server
        self._max_events, self._max_bytes = max_events, max_bytes
        self._window_ms = round(dedup_window * 1000)
        self._lock = threading.Lock()
        self._looked_at, self._nearly_full = 0.0, False

    def first_stamps(self, seen: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
        """For each (key, stamp): the stamp that the key already has, or None where it is new."""
        with self._client.pipeline(transaction=False) as pipe:
            for key, stamp in seen:
                pipe.set(key, stamp.isoformat(), nx=True, get=True, px=self._window_ms)
            try:
                found = pipe.execute()
            except redis.OutOfMemoryError as error:
                raise Unavailable("Redis is out of memory", retry_after=5) from error
            except redis.RedisError as error:
                raise away(error) from error
        return [datetime.fromisoformat(text.decode()).astimezone(UTC) if text else None for text in found]

    def append(self, round_id: str, parts: Sequence[Part], deadline: float) -> Appended:
        """Append a round; asks again until ``deadline`` (monotonic), which is safe: the round's id is remembered."""
        self._check_memory()
        again = False
        while True:
            asked = time.monotonic()
            try:
                return self._stream.append(
                    round_id, parts, max_events=self._max_events, max_bytes=self._max_bytes
                )
            except redis.OutOfMemoryError as error:
                refused = Unavailable if again else NoRoom
                raise refused("Redis is out of memory", retry_after=5) from error
            except redis.ResponseError as error:
                raise away(error, sent=True) from error
            except redis.RedisError as error:
                # Who waited in vain for an answer once has to be able to wait as long again.
                took = time.monotonic() - asked
                if time.monotonic() + took >= deadline - 0.05:
                    raise away(error, sent=True) from error
                again = True
                time.sleep(0.02)

    def of(self, server: str) -> tuple[Inlet, bool]:
        """The inlet for a round that may be in at a server, and whether it is that one's: others have left."""
        return self, server in ("", self._server)

    def is_deep(self, events: int) -> bool:
        """Do so many events wait for evaluation, or is the queue half full?"""
        try:
            queued, size = self._client.hmget(names.LEDGER, "events.queued", "ingest.bytes")
        except redis.RedisError as error:
            raise away(error) from error
        return int(queued or 0) >= min(events, self._max_events / 2) or int(size or 0) >= self._max_bytes / 2

    def tell_spilled(self) -> None:
        """Whoever ticks next asks for the flow back of what was spilled. If this is lost, it is asked for later."""
        with contextlib.suppress(redis.RedisError):
            self._client.set(names.SPILLED, "1", ex=names.SPILLED_S)

    def tell_flowed_back(self) -> None:
        """Nothing stands in the spill that could flow back."""
        with contextlib.suppress(redis.RedisError):
            self._client.delete(names.SPILLED)

    def _check_memory(self) -> None:
        with self._lock:
            due = time.monotonic() - self._looked_at >= MEMORY_EVERY
            if due:
                self._looked_at = time.monotonic()
        if due:
            try:
                info = self._client.info("memory")
            except redis.RedisError as error:
                raise away(error) from error
            most = int(info.get("maxmemory") or 0)
            self._nearly_full = bool(most) and int(info["used_memory"]) >= most * MEMORY_SHARE
        if self._nearly_full:
            raise NoRoom("Redis is nearly full", retry_after=5)


class SpreadInlet(Inlet):
    """The inlet of one of several servers. What a server knows of an event's first stamp is that of its name's place.

    ``inlets`` are all of them by name, this one too; ``place`` is where the name of a stamp belongs.
    """

    def __init__(
        self,
        name: str,
        inlets: Mapping[str, SpreadInlet],
        place: Callable[[str], str],
        lookout: Lookout,
        **inlet: Any,
    ) -> None:
        super().__init__(**inlet, server=name)
        self._name, self._inlets, self._place, self._lookout = name, inlets, place, lookout

    def first_stamps(self, seen: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
        found: dict[int, datetime | None] = {}
        places = defaultdict[str, list[int]](list)
        for i, (key, _) in enumerate(seen):
            places[self._place(key)].append(i)
        for name, theirs in places.items():
            stamps = self._inlets[name].stamps_here([seen[i] for i in theirs], mine=name == self._name)
            found.update(zip(theirs, stamps, strict=True))
        return [found[i] for i in range(len(seen))]

    def stamps_here(self, seen: Sequence[tuple[str, datetime]], *, mine: bool) -> list[datetime | None]:
        """Those that this server knows. ``mine``: the round goes here, too; else it does not end for others."""
        try:
            with self._watched():
                return super().first_stamps(seen)
        except StreamAway as error:
            if mine:
                raise
            reason = f"{self._name}, which knows repeats of these events: {error.reason}"
            raise Unavailable(reason, error.retry_after) from error

    def append(self, round_id: str, parts: Sequence[Part], deadline: float) -> Appended:
        with self._watched():
            return super().append(round_id, parts, deadline)

    def is_deep(self, events: int) -> bool:
        with self._watched():
            return super().is_deep(events)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Whoever is known to be away is not waited for: the lookout asks whether it is back."""
        if self._lookout.is_away(self._name):
            raise StreamAway
        try:
            yield
        except StreamAway:
            self._lookout.lost(self._name)
            raise


class SpreadBed:
    """All inlets, as what flows back out of the spill sees them."""

    def __init__(self, inlets: Mapping[str, SpreadInlet], home: Inlet, home_name: str) -> None:
        self._inlets, self._home = inlets, home
        #: Those that may be deep: home, too, where it takes nothing in.
        self._asked = [*inlets.values(), *([] if home_name in inlets else [home])]

    def of(self, server: str) -> tuple[Inlet, bool]:
        """The inlet of a server that a round may be in; where that is none of them any more, another one's."""
        if not server:
            return self._home, True
        if server not in self._inlets:
            return next(iter(self._inlets.values())), False
        return self._inlets[server], True

    def is_deep(self, events: int) -> bool:
        """Do so many events wait on one of them, or is its queue half full? One that is away keeps nobody waiting."""
        return any(self._is_deep(inlet, events) for inlet in self._asked)

    @staticmethod
    def _is_deep(inlet: Inlet, events: int) -> bool:
        with contextlib.suppress(StreamAway):
            return inlet.is_deep(events)
        return False

    def tell_spilled(self) -> None:
        self._home.tell_spilled()

    def tell_flowed_back(self) -> None:
        self._home.tell_flowed_back()


class Suspects:
    """Which events of an entry were in work when a worker died: one note a delivery.

    A note that can't be taken back because Redis is away is owed: it is taken back as soon as Redis answers, for
    another worker may read it, and before anything else is asked.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._owed: dict[tuple[str, int], Entry] = {}
        self._lock = threading.Lock()
        self._payer: threading.Thread | None = None

    def read(self, entry: Entry) -> list[int]:
        """Where the workers of its earlier deliveries were when they died."""
        self.pay()
        found = self._client.hget(names.SUSPECTS, _suspect(entry))
        told = msgspec.json.decode(found, type=list[tuple[int, int]]) if found else []
        return [position for _delivery, position in told]

    def note(self, entry: Entry, position: int) -> None:
        """It is in work now, in place of what this delivery had in work before."""
        self._note(entry, position)

    def withdraw(self, entry: Entry) -> None:
        """Its worker lives: this delivery's note is none, now or when Redis is back."""
        with self._lock:
            self._owed[_suspect(entry), entry.attempts] = entry
        try:
            self.pay()
        except redis.RedisError:
            with self._lock:
                if not (self._payer and self._payer.is_alive()):
                    self._payer = threading.Thread(target=self._pay_later, daemon=True)
                    self._payer.start()

    def pay(self) -> None:
        """Take back what is owed. Raises RedisError."""
        with self._lock:
            while self._owed:
                owed = next(iter(self._owed))
                self._note(self._owed[owed])
                del self._owed[owed]

    def _pay_later(self) -> None:
        while True:
            time.sleep(PAY_EVERY)
            with contextlib.suppress(redis.RedisError):
                self.pay()
            with self._lock:
                if not self._owed:
                    self._payer = None  # whoever owes one from now on needs another
                    return

    def forget(self, entry: Entry) -> None:
        self._client.hdel(names.SUSPECTS, _suspect(entry))

    def _note(self, entry: Entry, *position: int) -> None:
        self._client.eval(NOTE, 1, names.SUSPECTS, _suspect(entry), entry.attempts, *position)


def _suspect(entry: Entry) -> str:
    """Entries of two servers may have the same id."""
    return f"{entry.server} {entry.id}" if entry.server else entry.id


class Lanes:
    """Where alerts stand, as the sweep sees it."""

    def __init__(self, stream: Stream, queue_max: int) -> None:
        self._stream, self._client, self._queue_max = stream, stream.client, queue_max

    def outside(self) -> dict[str, str]:
        return {lane.decode(): count.decode() for lane, count in self._client.hgetall(names.OUTSIDE).items()}

    def room(self, lane: str) -> int:
        behind = self._client.hget(names.BEHIND_COUNTS, lane)
        return self._queue_max - self._client.xlen(f"mutt:alert_queue:{lane}") - int(behind or 0)

    def standing(self, alerts: Sequence[Alert]) -> list[bool]:
        if not alerts:
            return []
        found = self._client.hmget(names.STANDING, [str(alert.alert_id) for alert in alerts])
        return [place is not None for place in found]

    def place(
        self, alerts: Sequence[Mapping[str, Any]], outside: Mapping[str, str], closed: Iterable[str] = ()
    ) -> list[str]:
        return self._stream.place(alerts, outside, closed)

    def release_held(self, alerts: Sequence[Alert]) -> int:
        """Bring in what ``store.alerts.release`` made wait again. How many came in now.

        Each begins to wait once, whoever brings it in, so this may be repeated (within ten minutes of the release).
        What a full lane has no room for, the sweep brings in.
        """
        told = [alert_fields(alert, self._queue_max, swept=True) for alert in alerts]
        results = self._stream.place(told, {}) if told else []
        return sum(result in ("placed", "behind") for result in results)
