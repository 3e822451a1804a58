"""A key's quota: so many events in any minute. Pure; ``streams/quota.lua`` counts the same way for all replicas.

What was granted is counted by the second, and a second leaves with its youngest event: in no span of a minute are there
more than the quota, wherever the span begins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

#: Seconds of the window. A second that has begun counts as a whole one.
WINDOW = 60


class Ask(NamedTuple):
    """One request that wants to be counted."""

    name: str  #: of its key
    quota: int  #: events a minute
    n: int  #: its events: no more than the quota


class Counted(NamedTuple):
    """What became of it: it counts, or nothing of it was counted and it may come again in ``wait`` seconds."""

    wait: int  #: 0: it counts
    second: int = 0  #: of Redis' clock, in which it counts; 0: it counts in this process alone


class Window:
    """What one key was granted in the last minute. Times are epoch seconds."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def take(self, n: int, quota: int, now: float) -> int:
        """Count ``n`` events, if they fit: 0. Else the seconds until they will, if nobody else comes first."""
        wait = self._wait(n, quota, now)
        if not wait:
            self.add(n, now)
        return wait

    def add(self, n: int, now: float) -> None:
        """Count ``n`` events, whatever the quota; fewer than none are given back."""
        second = math.floor(now)
        self._counts = {at: count for at, count in self._counts.items() if _stands(at, second)}
        if n >= 0:
            self._counts[second] = self._counts.get(second, 0) + n
            return
        for at in sorted(self._counts, reverse=True):  # it may have been counted a second ago
            off = min(self._counts[at], -n)
            self._counts[at] -= off
            n += off

    def _wait(self, n: int, quota: int, now: float) -> int:
        standing = sorted(item for item in self._counts.items() if _stands(item[0], math.floor(now)))
        too_many, wait = sum(count for _, count in standing) + n - quota, 0
        for at, count in standing:
            if too_many <= 0:
                break
            too_many, wait = too_many - count, math.ceil(at + WINDOW + 1 - now)
        return wait


def _stands(at: int, second: int) -> bool:
    """Does what was counted ``at`` then still count? Not what lies far ahead: the clock was set back since."""
    return second - WINDOW <= at <= second + WINDOW
