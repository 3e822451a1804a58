"""Heard: what one process of ingest saw of its senders since it last said so. A few additions a request, in memory.

Names of fields and times are looked at now and then: of one event of a request, and of ten requests a second at most.

A page reads ten thousands of these at once, and none of them is ever part of a cycle: the collector need not look at
them (gc=False), which halves the time of reading them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

import msgspec

from mutt.event import Event
from mutt.formats.base import Parsed

#: Seconds between two events of a source whose fields and time are looked at, in one process.
LOOKS = 0.1

#: Of one source: formats, field names of each, and different refusals that are remembered; and characters of a text.
FORMATS, FIELDS, REASONS, LONGEST = 8, 64, 5, 200

#: Characters of a field's name; and tags of an event that are looked at, a few times more than are remembered.
NAME, TAGS = 64, 256


class Refusal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why something was not taken, and how often."""

    field: str
    reason: str
    at: float
    n: int = 1


class Looked(msgspec.Struct, array_like=True, gc=False):
    """Events of one format: how many there were, how many were looked at, and which fields those had."""

    events: int = 0
    looked: int = 0
    fields: dict[str, int] = msgspec.field(default_factory=dict)


class Counted(msgspec.Struct, array_like=True, gc=False):
    """The same without the fields, which are most of it: for who reads ten thousands of them and shows none."""

    events: int = 0


OfFormat = TypeVar("OfFormat", Looked, Counted)


class Heard(msgspec.Struct, Generic[OfFormat], array_like=True, gc=False):
    """What was seen of one source. Times are seconds since the epoch; 0: never."""

    requests: int = 0
    events: int = 0  #: accepted
    refused: int = 0  #: items; a request that can't be read is one
    failed: int = 0  #: requests of which nothing was taken, by their own fault
    over_quota: int = 0  #: requests
    bytes: int = 0  #: of bodies
    at: float = 0.0  #: of the last request, whatever came of it
    first: float = 0.0  #: of accepted events
    last: float = 0.0
    turned_away: float = 0.0  #: when MUTT could not take what was sent
    least: float | None = None  #: received_at less the sender's time, of the events that were looked at
    most: float | None = None
    formats: dict[str, OfFormat] = msgspec.field(default_factory=dict)
    why: list[Refusal] = msgspec.field(default_factory=list)
    looks_at: float = 0.0


OfSource = TypeVar("OfSource")


class Report(msgspec.Struct, Generic[OfSource], frozen=True, array_like=True, gc=False):
    """What a process says every few seconds, also where it heard nobody: that it listens."""

    at: float  #: its clock, in which the times are
    heard: dict[str, OfSource] = msgspec.field(default_factory=dict)
    bootstrap: bool = True  #: is there a key of INGEST_API_KEY?


#: A request of which events were accepted: the name of its key, what it held, and the bytes of its body. Plain, for
#: there is one for each request.
Taken = tuple[str, Parsed, int]


class Gathering:
    """What this process hears. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._of: dict[str, Heard] = {}

    def took(self, taken: Sequence[Taken]) -> None:
        """Events of these were accepted."""
        now = self._clock()
        with self._lock:
            for name, parsed, size in taken:
                heard, events = self._of.get(name) or self._begin(name), parsed.events
                looked = heard.formats.get(parsed.format) or _format(heard, parsed.format)
                heard.requests += 1
                heard.bytes += size
                heard.events += len(events)
                looked.events += len(events)
                heard.at = heard.last = now
                heard.first = heard.first or now
                if now >= heard.looks_at:
                    heard.looks_at = now + LOOKS
                    look(heard, looked, events[heard.requests % len(events)])
                if parsed.rejected:
                    first = parsed.rejected[0]
                    self._refused(heard, len(parsed.rejected), first.field, first.reason)

    def failed(self, name: str, field: str, reason: str, *, items: int = 1, size: int = 0) -> None:
        """Nothing of a request was taken: each of its ``items`` was wrong; one that can't be read is one."""
        with self._lock:
            heard = self._asked(name)
            heard.failed += 1
            heard.bytes += size
            self._refused(heard, items, field, reason)

    def over_quota(self, name: str) -> None:
        with self._lock:
            self._asked(name).over_quota += 1

    def turned_away(self, name: str) -> None:
        """MUTT could not take what it sent: whoever is not heard then is not silent."""
        with self._lock:
            heard = self._asked(name)
            heard.turned_away = heard.at

    def take(self) -> dict[str, Heard]:
        """What was heard since it was last taken."""
        with self._lock:
            found, self._of = self._of, {}
        return found

    def give_back(self, heard: dict[str, Heard]) -> None:
        """It could not be told: it goes with the next."""
        with self._lock:
            for name, later in self._of.items():
                heard[name] = joined(heard[name], later) if name in heard else later
            self._of = heard

    def _begin(self, name: str) -> Heard:
        made = self._of[name] = Heard()
        return made

    def _asked(self, name: str) -> Heard:
        heard = self._of.get(name) or self._begin(name)
        heard.requests += 1
        heard.at = self._clock()
        return heard

    @staticmethod
    def _refused(heard: Heard, items: int, field: str, reason: str) -> None:
        heard.refused += items
        heard.why = newest([*heard.why, Refusal(field[:NAME], reason[:LONGEST], heard.at, items)])


def _format(heard: Heard, name: str) -> Looked:
    """Where events of a format are counted; those of one too many are looked at, and not kept."""
    made = Looked()
    if len(heard.formats) < FORMATS:
        heard.formats[name] = made
    return made


def look(heard: Heard, looked: Looked, event: Event) -> None:
    """Note which fields ``event`` has, and how far its time is from ours."""
    looked.looked += 1
    fields = looked.fields
    for name in fields_of(event):
        if name in fields:
            fields[name] += 1
        elif len(fields) < FIELDS:
            fields[name] = 1
    if has_time(event):
        off = (event.received_at - event.occurred_at).total_seconds()
        heard.least = off if heard.least is None else min(heard.least, off)
        heard.most = off if heard.most is None else max(heard.most, off)


def has_time(event: Event) -> bool:
    """Did its sender say when it happened, so that it could be read?"""
    return event.occurred_at != event.received_at


#: Fields that an event may lack.
_OPTIONAL = ("severity", "program", "facility", "trap_oid", "clear_key")


def fields_of(event: Event) -> Iterator[str]:
    """The names of what it has beside a host and a message."""
    if has_time(event):
        yield "time"
    for name in _OPTIONAL:
        if getattr(event, name) is not None:
            yield name
    for tag in islice(event.tags, TAGS):
        yield f"tags.{tag}"[:NAME]


def newest(refusals: Sequence[Refusal]) -> list[Refusal]:
    """Each reason once, the last first; so many as are remembered."""
    found: dict[tuple[str, str], Refusal] = {}
    for one in sorted(refusals, key=lambda one: one.at):
        before = found.pop((one.field, one.reason), None)
        found[one.field, one.reason] = msgspec.structs.replace(one, n=one.n + before.n) if before else one
    return list(found.values())[::-1][:REASONS]


def joined(before: Heard[Looked], later: Heard[Looked]) -> Heard[Looked]:
    """Both, as if they had been heard at once."""
    found = copied(before)
    add(found, later)
    return found


def copied(heard: Heard[Looked], by: float = 0.0) -> Heard[Looked]:
    """The same ``by`` so many seconds later."""
    found: Heard[Looked] = Heard()
    add(found, heard, by)
    return found


def add(to: Heard[Looked], more: Heard[Looked] | Heard[Counted], by: float = 0.0) -> None:
    """Put ``more`` into ``to``, as if both had been heard at once; ``more`` is ``by`` so many seconds later.

    In place, and nothing is made: a page does it ten thousands of times.
    """
    to.requests += more.requests
    to.events += more.events
    to.bytes += more.bytes
    if more.refused or more.failed or more.over_quota:
        to.refused += more.refused
        to.failed += more.failed
        to.over_quota += more.over_quota
    at, last = more.at, more.last
    if at and at + by > to.at:
        to.at = at + by
    if last:
        if last + by > to.last:
            to.last = last + by
        first = more.first + by
        if first < to.first or not to.first:
            to.first = first
    if more.turned_away:
        to.turned_away = max(to.turned_away, more.turned_away + by)
    least, most = more.least, more.most
    if least is not None and (to.least is None or least < to.least):
        to.least = least
    if most is not None and (to.most is None or most > to.most):
        to.most = most
    for name, looked in more.formats.items():
        known = to.formats.get(name) or _format(to, name)
        known.events += looked.events
        if isinstance(looked, Looked):
            _looked(known, looked)
    if more.why:
        to.why = newest([*to.why, *(_later(why, by) for why in more.why)])


def _later(why: Refusal, by: float) -> Refusal:
    return msgspec.structs.replace(why, at=why.at + by) if by else why


def _looked(to: Looked, more: Looked) -> None:
    to.looked += more.looked
    for name, n in more.fields.items():
        if name in to.fields:
            to.fields[name] += n
        elif len(to.fields) < FIELDS:
            to.fields[name] = n
