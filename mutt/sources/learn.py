"""Learn: after how long a source is silent, by the pauses that it made. Pure.

A day's longest pause is remembered, for four weeks: so nights and weekends are habits. Of each two weeks the longest
one does not count, for it may have been a fault; twice the longest that is left is more than it ever paused.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import msgspec

from mutt.sources.clock import parted

DAY = 86_400.0

#: Days that are remembered; and on which it has to be heard, and which have to lie between, before anything is learned:
#: a week, so that a weekend is among them.
REMEMBERED, LEAST = 28, 7

#: Of so many days the longest pause does not count.
FAULT_IN = 14

#: What is learned is so many times the longest pause, and so many seconds at least.
TIMES, FLOOR = 2.0, 600.0


class Day(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The longest pause that ended on a day."""

    day: int  #: days since the epoch, UTC
    longest: float  #: seconds


_number = operator.attrgetter("day")


def noted(days: Sequence[Day], at: float, pause: float) -> tuple[Day, ...]:
    """``days`` with a pause that ended at ``at`` (seconds since the epoch); the newest last."""
    number = int(at // DAY)
    before, known, after = parted(days, number, _number)
    longest = max([pause, *(one.longest for one in known)])
    found = (*before, Day(number, longest), *after)
    return tuple(parted(found, found[-1].day - REMEMBERED, _number)[2])


def expected(days: Sequence[Day]) -> float | None:
    """Seconds within which it should be heard; None: it is not known well enough yet."""
    if len(days) < LEAST or days[-1].day - days[0].day < LEAST - 1:
        return None
    longest = sorted((one.longest for one in days), reverse=True)[len(days) // FAULT_IN]
    return max(FLOOR, TIMES * longest)
