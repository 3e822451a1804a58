"""Observed: all that was heard of a source, by whichever processes, as one value; and for how long anybody listens.

Pure. What processes say comes in the order in which they said it; who heard a source first is told by the times.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from mutt.sources import clock, learn
from mutt.sources.clock import Minute, parted
from mutt.sources.fields import Formed, all_grown
from mutt.sources.heard import Counted, Heard, Looked, Refusal, Report, add, copied, newest
from mutt.sources.learn import Day

#: Who sends with the key of INGEST_API_KEY. It has no page on which one could say that it may be silent: where there is
#: no such key any more, its habits are forgotten.
BOOTSTRAP = "bootstrap"

#: Minutes whose counts are remembered: an hour.
HOUR = 60

#: Seconds without a word of any process of ingest after which nobody listened: they say one every five. No longer than
#: what a source is given beyond its time (silent.GRACE): else a shorter outage would look like its silence.
HOLE = 15.0


class Count(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One minute's events and refused items."""

    at: int  #: minutes since the epoch
    events: int
    refused: int


class Hour(NamedTuple):
    """An hour at its end."""

    events: tuple[int, ...]  #: of each minute, the oldest first
    begun: float  #: seconds of the last minute, which may just have begun
    refused: float  #: 0 to 1: of its items

    def rate(self, minutes: int) -> float:
        """Events a second in the last minute and those before it, so many in all."""
        return sum(self.events[-minutes:]) / max(1.0, self.begun + (minutes - 1) * 60)


class Observed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of one source. Times are seconds since the epoch; 0: never."""

    first_at: float = 0.0  #: heard, whatever came of it
    heard_at: float = 0.0
    event_at: float = 0.0  #: of the last accepted event
    turned_away: float = 0.0  #: when MUTT could not take what it sent
    paused: float = 0.0  #: the longest part of its pause that was heard, and that nobody's listening ended
    waited_from: float = 0.0  #: since when it is to be heard, of one that never was
    requests: int = 0
    events: int = 0
    refused: int = 0  #: items
    failed: int = 0  #: requests of which nothing was taken, by their own fault
    over_quota: int = 0  #: requests
    bytes: int = 0
    minutes: tuple[Count, ...] = ()  #: the last hour's in which it was heard
    why: tuple[Refusal, ...] = ()  #: what was not taken of late, the last first
    formats: Mapping[str, Formed] = msgspec.field(default_factory=dict)
    times: tuple[Minute, ...] = ()  #: how far its times are from ours
    pauses: tuple[Day, ...] = ()

    def hour(self, now: float) -> Hour:
        """The last hour."""
        last = int(now // 60)
        first, events, taken, refused = last - HOUR + 1, [0] * HOUR, 0, 0
        for one in self.minutes:
            place = one.at - first
            if place >= 0:
                taken, refused = taken + one.events, refused + one.refused
                if place < HOUR:
                    events[place] = one.events
        return Hour(tuple(events), now - last * 60, refused / (taken + refused) if refused else 0.0)

    def gone(self) -> list[tuple[str, str]]:
        """Fields that vanished: (format, field)."""
        return [(name, field) for name, one in self.formats.items() for field in one.gone()]

    def may_lose(self, events: int, at: float) -> bool:
        """Has a field vanished, or may one have with so many events more until ``at``, whose fields are not known?"""
        return any(one.may_go(events, at) for one in self.formats.values())


class Listening(NamedTuple):
    """From when to when some process of ingest said, without a hole, that it listens."""

    since: float = 0.0
    until: float = 0.0

    def heard_from(self, at: float) -> Listening:
        """With a word of a process at ``at``."""
        if not self.until or self.is_cut(at):
            return Listening(at, at)
        return Listening(self.since, max(self.until, at))

    def is_cut(self, at: float) -> bool:
        """Did nobody listen before a word at ``at``?"""
        return bool(self.until) and at - self.until > HOLE

    def holds(self, now: float) -> bool:
        """Does anybody listen now?"""
        return now - self.until <= HOLE


def folded(
    known: Mapping[str, Observed], listening: Listening, reports: Iterable[tuple[float, Report]]
) -> tuple[dict[str, Observed], Listening]:
    """Those of whom ``reports`` say something, as they are then; and who listens.

    Each report with when it came (seconds since the epoch, one clock for all): its own clock may be another.
    """
    found: dict[str, Observed] = {}
    for at, report in sorted(reports, key=lambda one: one[0]):
        if listening.is_cut(at):
            found = {name: _cut(one, listening) for name, one in {**known, **found}.items()}
        listening = listening.heard_from(at)
        by = apart(at, report.at)
        for name, heard in report.heard.items():
            before = found.get(name) or known.get(name) or Observed()
            found[name] = grown(before, copied(heard, by) if by else heard, listening)
        gone = None if report.bootstrap else found.get(BOOTSTRAP) or known.get(BOOTSTRAP)
        if gone and gone.pauses:
            found[BOOTSTRAP] = msgspec.structs.replace(gone, pauses=())
    return found, listening


class Gathered:
    """Reports in the order in which they came, where all that was heard of a source in a minute is in one: for who
    looks, and writes nothing.

    They fold in less time, and what they come to is the same but for pauses within a minute.
    """

    def __init__(self) -> None:
        self._told: list[tuple[float, bool]] = []  # of each report when it came, and bootstrap
        self._minutes: dict[int, dict[str, Heard[Looked]]] = {}
        self._last: dict[int, dict[str, int]] = {}

    def add(self, at: float, report: Report[Heard[Looked]] | Report[Heard[Counted]]) -> None:
        """One more report, which came at ``at``."""
        place, by = len(self._told), apart(at, report.at)
        self._told.append((at, report.bootstrap))
        here = int(at // 60)
        begin, end, nearly_all = here * 60.0, (here + 1) * 60.0, self._minute(here)
        for name, heard in report.heard.items():
            spoke = (heard.last or heard.at) + by
            of, last = nearly_all if begin <= spoke < end else self._minute(int(spoke // 60))
            known = of.get(name)
            if known is None:
                known = of[name] = Heard()
            add(known, heard, by)
            last[name] = place

    def _minute(self, number: int) -> tuple[dict[str, Heard[Looked]], dict[str, int]]:
        """What was heard in this minute, by name; and the report in which each was heard last."""
        return self._minutes.setdefault(number, {}), self._last.setdefault(number, {})

    def events(self) -> dict[str, int]:
        """How many events there were of each source."""
        found: dict[str, int] = {}
        for of in self._minutes.values():
            for name, heard in of.items():
                found[name] = found.get(name, 0) + heard.events
        return found

    def reports(self) -> list[tuple[float, Report[Heard[Looked]]]]:
        """All of them."""
        found = [(at, Report[Heard[Looked]](at, {}, bootstrap)) for at, bootstrap in self._told]
        for minute, of in sorted(self._minutes.items()):
            for name, heard in of.items():
                found[self._last[minute][name]][1].heard[name] = heard
        return found


def grown(before: Observed, heard: Heard[Looked], listening: Listening) -> Observed:
    """``before`` and what one process heard since."""
    at = heard.last or heard.at
    times, pauses = before.times, before.pauses
    if heard.least is not None and heard.most is not None:
        times = clock.noted(times, at, heard.least, heard.most)
    if heard.last:
        pauses = learn.noted(pauses, at, _pause(before, heard, listening))
    return msgspec.structs.replace(
        before,
        first_at=min(filter(None, (before.first_at, heard.first, heard.at)), default=0.0),
        heard_at=max(before.heard_at, heard.at),
        event_at=max(before.event_at, heard.last),
        turned_away=max(before.turned_away, heard.turned_away),
        requests=before.requests + heard.requests,
        events=before.events + heard.events,
        refused=before.refused + heard.refused,
        failed=before.failed + heard.failed,
        over_quota=before.over_quota + heard.over_quota,
        bytes=before.bytes + heard.bytes,
        minutes=_counted(before.minutes, int(at // 60), heard),
        why=tuple(newest([*before.why, *heard.why])),
        formats=all_grown(before.formats, heard.formats, at),
        times=times,
        pauses=pauses,
        paused=0.0 if heard.last else before.paused,
    )


def _cut(one: Observed, listening: Listening) -> Observed:
    """Nobody listens any more: how long it was quiet until then is known, and not how long it still will be."""
    return msgspec.structs.replace(one, paused=max(one.paused, _quiet(one, listening, listening.until)))


def _pause(before: Observed, heard: Heard, listening: Listening) -> float:
    """How long it was quiet before this, in one piece in which it could be heard."""
    if before.event_at < heard.turned_away:
        return before.paused
    return max(before.paused, _quiet(before, listening, heard.first))


def _quiet(one: Observed, listening: Listening, until: float) -> float:
    """How long it was quiet until then; nothing, where it was never heard, or turned away since."""
    if not one.event_at or one.event_at < one.turned_away:
        return 0.0
    return max(0.0, until - max(one.event_at, listening.since))


def _counted(minutes: tuple[Count, ...], at: int, heard: Heard) -> tuple[Count, ...]:
    before, known, after = parted(minutes, at, _number)
    events = heard.events + sum(one.events for one in known)
    refused = heard.refused + sum(one.refused for one in known)
    found = (*before, Count(at, events, refused), *after)
    return tuple(parted(found, found[-1].at - HOUR, _number)[2])


_number = operator.attrgetter("at")


def apart(came: float, told: float) -> float:
    """How far a process' clock is behind the one that all times are in; 0 where the way alone may be it."""
    by = came - told
    return by if abs(by) >= 0.01 else 0.0
