"""Clock: how far a sender's clock is from ours, told from what only comes late. Pure.

An event is on its way for some time, never for less than none: so the least that its time is behind ours, of all in a
minute, is what the clocks are apart, and the shortest way. Minutes stand beside each other, so that neither one event
with a time of its own nor a quarter of an hour that came late makes a clock wrong.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

#: Minutes with events that are remembered, and that have to be there before anything is said.
REMEMBERED, LEAST = 60, 5

#: Of the minutes, so many may say something else.
SHARE = 10

#: Seconds: a clock that is so far off is wrong, and what comes so much later than the best is late.
WRONG, LATE = 60.0, 300.0

#: Zones are so far apart; a clock that is off by that, give or take, says its time without its zone.
_ZONE, _NEAR = 900.0, 90.0


class Minute(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One minute's events: how far their times are behind ours, at the least and at the most (seconds)."""

    at: int  #: minutes since the epoch
    least: float
    most: float


class Clock(NamedTuple):
    """What can be told of a sender's clock."""

    behind: float  #: seconds; below zero it is ahead
    late: float  #: seconds that events were on their way, at worst

    @property
    def is_wrong(self) -> bool:
        return abs(self.behind) >= WRONG

    @property
    def is_late(self) -> bool:
        return self.late >= LATE

    @property
    def is_zone(self) -> bool:
        """Is it off by as much as zones are?"""
        return (
            abs(self.behind) >= _ZONE
            and abs(self.behind - round(self.behind / _ZONE) * _ZONE) <= _NEAR
            and abs(self.behind) < 15 * 3600
        )


def noted(minutes: Sequence[Minute], at: float, least: float, most: float) -> tuple[Minute, ...]:
    """``minutes`` with what was seen at ``at`` (seconds since the epoch); the newest last."""
    number = int(at // 60)
    before, known, after = parted(minutes, number, _number)
    for one in known:
        least, most = min(one.least, least), max(one.most, most)
    return (*before, Minute(number, least, most), *after)[-REMEMBERED:]


def parted(
    found: Sequence[T], number: int, key: Callable[[T], int]
) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
    """Those of ``found`` before a number, the one of this number where it is there, and those after it.

    Whatever is noted of a source is kept in order, and nearly always the newest is asked for.
    """
    if not found or key(found[-1]) < number:
        return found, found[:0], found[:0]
    if key(found[0]) > number:
        return found[:0], found[:0], found
    if key(found[-1]) == number:
        return found[:-1], found[-1:], found[:0]
    place = bisect_left(found, number, key=key)
    rest = bisect_right(found, number, lo=place, key=key)
    return found[:place], found[place:rest], found[rest:]


_number = operator.attrgetter("at")


def judged(minutes: Sequence[Minute]) -> Clock | None:
    """What they say; None: they are too few."""
    if len(minutes) < LEAST:
        return None
    behind = sorted([one.least for one in minutes])[len(minutes) // SHARE]
    latest = sorted([one.most for one in minutes], reverse=True)[len(minutes) // SHARE]
    return Clock(behind, max(0.0, latest - behind))
