"""Spread: an ingest queue that stands on several Redis servers, as one consumer sees it.

A take is from one server at a time, each in its turn, and one that is away holds up nothing but its own entries. An
entry's settle is one step where everything stands on one server. Here it is two, on two servers:

1. *At home* (STREAM_URL) what follows from it: alerts into their lanes, dead letters, what noise control and the counts
   of unhandled events remember; once, for the entry has a marker there, that holds what is left to do.
2. *Where the entry stands* it is acknowledged and deleted, and the books of its events move.

A worker that dies in between leaves the marker. Whoever gets the entry next finds it, evaluates nothing, and does what
is left as it was said first. The marker stays for a month, or for ten minutes after the second step was seen done:
longer than anybody who has the entry from before may still take for the first (``Stream.good``, on home's clock).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis

from mutt.alert import Outcome
from mutt.entry import Entry, Move, Taken
from mutt.streams.servers import Rests
from mutt.streams.stream import Half, Stream, marker_of

log = logging.getLogger("mutt.streams")

#: Seconds that entries rest which are handed back, for home is away.
HOME_REST = 2.0


class Servers:
    """The servers as this process knows them: who rests, home's clock, what is to be confirmed. Threads share it."""

    def __init__(self, streams: Mapping[str, Stream], clock: Callable[[], float] = time.monotonic) -> None:
        """``streams``: the ingest queue of each server by its name, home first."""
        self.streams, self.clock = streams, clock
        self.home_name = next(iter(streams))
        self.home = streams[self.home_name]
        self.rests = Rests(clock)
        self._lock = threading.Lock()
        self._confirmed: list[str] = []
        self._ahead: float | None = None
        self._turn = 0

    def in_turn(self) -> Iterator[str]:
        """Their names, from the one whose turn it is; home first where it was away: without it nothing is settled."""
        listed = list(self.streams)
        order = listed[self._turn % len(listed) :] + listed[: self._turn % len(listed)]
        if self.rests.error(self.home_name):
            order.sort(key=lambda name: name != self.home_name)
        yield from order

    def served(self, name: str) -> None:
        """The next one's turn is after this."""
        self._turn = list(self.streams).index(name) + 1

    def at_home(self, at: float) -> float:
        """What home's clock shows at ``at`` (of our own). Asks once; ``redis.RedisError`` passes through."""
        if self._ahead is None:
            with self.asking(self.home_name):
                seconds, micros = self.home.client.time()
            self.heard(seconds + micros / 1e6)
        return at + (self._ahead or 0.0)

    def heard(self, now: float) -> None:
        """Home said what time it is."""
        self._ahead = now - self.clock()

    def asking(self, name: str) -> _Asking:
        """Around what is asked of a server: one that fails rests. ``redis.RedisError`` passes through."""
        return _Asking(self, name)

    def confirm(self, markers: Iterable[str]) -> None:
        """These entries are gone: said to home with the next settle."""
        with self._lock:
            self._confirmed += markers

    def take_confirmed(self) -> list[str]:
        with self._lock:
            confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def say_confirmed(self) -> None:
        """Say now what is to be confirmed."""
        confirmed = self.take_confirmed()
        if confirmed:
            try:
                with self.asking(self.home_name):
                    self.home.confirm(confirmed)
            except redis.RedisError:
                self.confirm(confirmed)
                raise


class Lookout:
    """Which servers ingest leaves out, since they did not take a round. A thread asks them until they take writes."""

    def __init__(self, streams: Mapping[str, Stream], *, every: float = 0.25) -> None:
        self._streams, self._every = streams, every
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def lost(self, name: str) -> None:
        """It did not take a round."""
        with self._lock:
            if name not in self._lost:
                log.warning("Redis %s is left out: events go to the others", name)
            self._lost.add(name)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._ask, name="lookout", daemon=True)
                self._thread.start()

    def is_away(self, name: str) -> bool:
        return name in self._lost

    @property
    def any(self) -> bool:
        """Is one of them away?"""
        return bool(self._lost)

    def _ask(self) -> None:
        while True:
            time.sleep(self._every)
            for name in sorted(self._lost):
                # Whatever it was: a server that nobody asks any more would be left out for ever.
                with contextlib.suppress(Exception):
                    self._streams[name].takes_writes()
                    log.warning("Redis %s takes events again", name)
                    self._lost.discard(name)
            with self._lock:
                if not self._lost:
                    self._thread = None
                    return


class _Asking:
    def __init__(self, servers: Servers, name: str) -> None:
        self._servers, self._name, self._began = servers, name, servers.clock()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool | None:
        rests = self._servers.rests
        if isinstance(error, redis.RedisError):
            # There is no way around home: whoever waits for it asks again soon.
            is_home = self._name == self._servers.home_name
            took = 0.0 if is_home else self._servers.clock() - self._began
            if rests.met(self._name, error, took):
                log.warning("Redis %s is left alone for a while: %s", self._name, error)
        elif error is None and rests.over(self._name):
            log.warning("Redis %s answers again", self._name)
        return None


class HeldSpread:
    """The queue with the consumer that takes from it: :class:`~mutt.streams.bound.Held` over several servers.

    ``redis.RedisError`` passes through where home fails; what another one fails with is its own entries' matter.
    """

    def __init__(self, servers: Servers, consumer: str) -> None:
        self._servers, self._consumer = servers, consumer
        self._held: dict[tuple[str, str], Entry] = {}
        self._until = 0.0
        self._last = servers.home_name

    def take(
        self,
        want: int,
        *,
        held: Sequence[Entry] = (),  # noqa: ARG002 as Held has it
        tidy: bool = False,
        extra: float = 0.0,  # noqa: ARG002
    ) -> Taken:
        for name in self._servers.in_turn():
            taken = self._take(name, want, tidy=tidy)
            if taken.entries:
                self._servers.served(name)
                self._last = name
                return taken
        return Taken([])

    def _take(self, name: str, want: int, *, tidy: bool) -> Taken:
        """What one server has. Nothing, where it does not answer and is not home."""
        servers = self._servers
        if servers.rests.due(name):
            if name == servers.home_name:
                raise redis.ConnectionError(f"home is left alone for a while: {servers.rests.error(name)}")
            return Taken([])
        if name == servers.home_name:
            with servers.asking(name):
                taken = servers.home.take(self._consumer, want, tidy=tidy)
        else:
            self._until = servers.at_home(servers.clock()) + servers.home.good
            taken = self._take_away(name, want, tidy=tidy)
        self._held = {(entry.server, entry.id): entry for entry in taken.entries}
        return taken

    def _take_away(self, name: str, want: int, *, tidy: bool) -> Taken:
        """From another server: without those about which only the second half of their settle is left to do."""
        while True:
            try:
                with self._servers.asking(name):
                    taken = self._servers.streams[name].take(self._consumer, want, tidy=tidy)
            except redis.RedisError:
                return Taken([])
            entries = [dataclasses.replace(entry, server=name) for entry in taken.entries]
            left = self._without_begun(name, entries)
            if left or not entries:
                return dataclasses.replace(taken, entries=left)

    def _without_begun(self, name: str, entries: Sequence[Entry]) -> list[Entry]:
        asked = {marker_of(entry): entry for entry in entries if entry.attempts > 1}
        if not asked:
            return list(entries)
        self._held = {(entry.server, entry.id): entry for entry in entries}
        with self._servers.asking(self._servers.home_name):
            found = self._servers.home.begun(list(asked))
        begun = [(entry, rest) for entry, rest in zip(asked.values(), found, strict=True) if rest]
        if begun:
            self._settle_there(name, begun)
        gone = {entry.id for entry, _ in begun}
        return [entry for entry in entries if entry.id not in gone]

    def settle(self, moves: Iterable[Move], *, report: Mapping[str, Any] | None = None) -> list[bool]:  # noqa: ARG002
        moves = list(moves)
        settled: dict[tuple[str, str], bool] = {}
        for name in dict.fromkeys(move.entry.server for move in moves):
            theirs = [move for move in moves if move.entry.server == name]
            done = self._settle_apart(name, theirs) if name else self._settle_at_home(theirs)
            for move, one in zip(theirs, done, strict=True):
                settled[name, move.entry.id] = one
                self._held.pop((name, move.entry.id), None)
        return [settled[move.entry.server, move.entry.id] for move in moves]

    def _settle_at_home(self, moves: Sequence[Move]) -> list[bool]:
        with self._servers.asking(self._servers.home_name):
            return self._servers.home.settle(moves)

    def _settle_apart(self, name: str, moves: Sequence[Move]) -> list[bool]:
        servers, entries = self._servers, [move.entry for move in moves]
        confirmed = servers.take_confirmed()
        try:
            with servers.asking(servers.home_name):
                rests, now = servers.home.settle_here(
                    [Half.of(move) for move in moves], until=self._until, confirmed=confirmed
                )
        except redis.RedisError:
            servers.confirm(confirmed)
            raise
        servers.heard(now)
        if not rests:
            log.warning("%d entries were held for too long, and are left to others", len(entries))
            return [False] * len(entries)
        return self._settle_there(name, list(zip(entries, rests, strict=True)))

    def _settle_there(self, name: str, rests: Sequence[tuple[Entry, bytes]]) -> list[bool]:
        """The second half. Where the server is away by now whoever gets the entries next does it."""
        try:
            with self._servers.asking(name):
                settled = self._servers.streams[name].settle_there(rests)
        except redis.RedisError:
            return [False] * len(rests)
        self._servers.confirm(marker_of(entry) for entry, _ in rests)
        return settled

    def release(
        self,
        entries: Sequence[Entry],
        delay: float,
        *,
        report: Mapping[str, Any] | None = None,  # noqa: ARG002 as Held has it
        strikes: int = 0,  # noqa: ARG002
        notes: Sequence[Outcome] = (),  # noqa: ARG002
        counted: bool = False,
    ) -> list[int]:
        for name in dict.fromkeys(entry.server for entry in entries):
            theirs = [entry for entry in entries if entry.server == name]
            self._release(name or self._servers.home_name, theirs, delay, counted=counted)
        return [0] * len(entries)

    def _release(self, name: str, entries: Sequence[Entry], delay: float, *, counted: bool) -> None:
        """Where the server is away the claim timeout hands them back."""
        try:
            with self._servers.asking(name):
                self._servers.streams[name].release(self._consumer, entries, delay, counted=counted)
        except redis.RedisError:
            if name == self._servers.home_name:
                raise
        for entry in entries:
            self._held.pop((entry.server, entry.id), None)

    def hand_back(self) -> None:
        """Home failed: what stands elsewhere is handed back. It counts as an attempt, for what follows may be done: so
        whoever gets it next asks."""
        elsewhere = [entry for entry in self._held.values() if entry.server]
        if elsewhere:
            self.release(elsewhere, HOME_REST, counted=True)

    def ring(self) -> None:
        """The bell of the server that work was left on; a drain looks at all of them."""
        with self._tolerant(self._last):
            self._servers.streams[self._last].ring()

    def keep_bell(self) -> None:
        self._each(Stream.keep_bell)

    def quiet_bell(self) -> None:
        self._each(Stream.quiet_bell)
        self._servers.say_confirmed()

    def hush_bell(self, seconds: float) -> None:
        self._each(lambda stream: stream.hush_bell(seconds))

    def _each(self, do: Callable[[Stream], None]) -> None:
        for name, stream in self._servers.streams.items():
            if not self._servers.rests.due(name):
                with self._tolerant(name):
                    do(stream)

    def _tolerant(self, name: str) -> _Tolerant:
        return _Tolerant(self._servers, name)


class _Tolerant(_Asking):
    """The same; what fails at another server than home passes for done."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool | None:
        super().__exit__(kind, error, trace)
        return isinstance(error, redis.RedisError) and self._name != self._servers.home_name
