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
from mutt.sources.heard import Heard, Refusal, Report, newest
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


class Observed(msgspec.Struct, frozen=True, omit_defaults=True):
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

    def rate(self, now: float, minutes: int) -> float:
        """Events a second in this minute and those before it, so many in all."""
        last = int(now // 60)
        events = sum(one.events for one in self.minutes if last - minutes < one.at <= last)
        return events / max(1.0, now - (last - minutes + 1) * 60)

    def line(self, now: float) -> list[int]:
        """Events of each minute of the last hour, the oldest first."""
        counts = {one.at: one.events for one in self.minutes}
        last = int(now // 60)
        return [counts.get(at, 0) for at in range(last - HOUR + 1, last + 1)]

    def refused_share(self, now: float) -> float:
        """0 to 1: of the last hour's items."""
        since = int(now // 60) - HOUR
        events = sum(one.events for one in self.minutes if one.at > since)
        refused = sum(one.refused for one in self.minutes if one.at > since)
        return refused / (events + refused) if refused else 0.0

    def gone(self) -> list[tuple[str, str]]:
        """Fields that vanished: (format, field)."""
        return [(name, field) for name, one in self.formats.items() for field in one.gone()]


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
        for name, heard in report.heard.items():
            before = found.get(name) or known.get(name) or Observed()
            found[name] = grown(before, shifted(heard, at - report.at), listening)
        gone = None if report.bootstrap else found.get(BOOTSTRAP) or known.get(BOOTSTRAP)
        if gone and gone.pauses:
            found[BOOTSTRAP] = msgspec.structs.replace(gone, pauses=())
    return found, listening


def grown(before: Observed, heard: Heard, listening: Listening) -> Observed:
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


def shifted(heard: Heard, by: float) -> Heard:
    """The same in another clock."""
    if abs(by) < 0.01:
        return heard
    moved = {
        name: getattr(heard, name) + by
        for name in ("at", "first", "last", "turned_away")
        if getattr(heard, name)
    }
    why = [msgspec.structs.replace(one, at=one.at + by) for one in heard.why]
    return msgspec.structs.replace(heard, **moved, why=why)
