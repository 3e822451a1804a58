"""What the rules of ``judge`` look at: the last minute's samples, what flowed in it, and what lasts. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mutt.pulse.rates import ENDED, rate
from mutt.pulse.sample import Point, Process, Queue, Sample

#: Seconds of samples that count, and over which a flow is measured.
MINUTE, FLOW = 62.0, 30.0

#: Seconds that the flow of this moment is measured over: two readings.
MOMENT = 11.0

FOREVER = float("inf")


class Flow(NamedTuple):
    """What came in, went out and stands; a second."""

    into: float
    out: float
    depth: int

    @property
    def drained_in(self) -> float:
        """Seconds until nothing stands there, if it goes on like this."""
        net = self.out - self.into
        return 0.0 if not self.depth else self.depth / net if net > 0 else FOREVER


class Crew(NamedTuple):
    """The processes of a role together."""

    size: int  #: processes
    slots: int
    busy: float
    store_share: float
    cpu: float  #: cores, of one on average
    starved: float  #: likewise
    refused: float
    queued: int
    p99_ms: float | None

    @property
    def wants(self) -> float:
        """Of the one core that Python uses: what each would use if others left it, on average.

        Threads that wait for a core together wait longer than there is one: more than all of it is all of it.
        """
        return max(self.cpu, min(1.0, self.cpu + self.starved))


class View:
    """The last minute. ``samples`` has at least one, the oldest first."""

    def __init__(self, samples: Sequence[Sample], points: Sequence[Point]) -> None:
        self.now = samples[-1]
        self.samples = [one for one in samples if 0 <= self.now.at - one.at <= MINUTE]
        self.points = points

    # ---- what lasts

    def lasts(self, level: Callable[[Sample], float | None], on: float, off: float | None = None) -> bool:
        """Is ``level`` at ``on`` or above, so that it is worth a person's while?

        It begins with two readings in a row at ``on`` and ends with two in a row below ``off``: what swings around a
        limit does not flicker. Readings in which it is not known (None) don't count; a single one is believed.
        """
        levels = [value for value in map(level, self.samples) if value is not None]
        if len(levels) == 1:
            return levels[0] >= on
        below = on if off is None else off
        state = False
        for before, value in itertools.pairwise(levels):
            if min(before, value) >= on:
                state = True
            elif max(before, value) < below:
                state = False
        return state

    def is_so(self, test: Callable[[Sample], bool]) -> bool:
        """The same of what is so or not."""
        return self.lasts(lambda sample: float(test(sample)), 1.0)

    def lately_away(self, server: str) -> bool:
        """Could it not be asked within the time that flows are measured over? What it held up is not yet gone."""
        return any(server in one.away for one in self.samples if self.now.at - one.at <= FLOW)

    # ---- what flows

    def events(self, seconds: float = FLOW) -> Flow:
        """Into the ingest queue, and to their end."""
        last = self.points[-1] if self.points else None
        known = (last.events_in, last.events_out) if last else (0.0, 0.0)
        return self._flow(seconds, lambda one: one.events, "accepted", ENDED, "queued", known)

    def alerts(self, seconds: float = FLOW) -> Flow:
        """Into the lanes, and to Moog or another end."""
        last = self.points[-1] if self.points else None
        known = (last.alerts_in, last.alerts_out) if last else (0.0, 0.0)
        ends = ("delivered", "parked", "cancelled", "dropped")
        return self._flow(seconds, lambda one: one.alerts, "raised", ends, "waiting", known)

    def _flow(
        self,
        seconds: float,
        of: Callable[[Sample], Mapping[str, int]],
        into: str,
        ends: Sequence[str],
        stands: str,
        known: tuple[float, float],
    ) -> Flow:
        ledgers = [(one.at, of(one)) for one in self.samples if of(one) and self.now.at - one.at <= seconds]
        depth = ledgers[-1][1].get(stands, 0) if ledgers else 0
        if len(ledgers) < 2:
            return Flow(*known, depth)
        (began, first), (ended, last) = ledgers[0], ledgers[-1]
        came, went = (
            rate(sum(first.get(n, 0) for n in words), sum(last.get(n, 0) for n in words), ended - began)
            for words in ((into,), ends)
        )
        return Flow(came, went, depth)

    # ---- who works, what waits

    def crew(self, role: str) -> Crew:
        """The processes of a role as the newest reading that knows them has them."""
        return crew(self.now.of_role(role))

    def lanes(self) -> list[Queue]:
        """The lanes, the most urgent first."""
        return lanes(self.now)


def crew(processes: Sequence[Process]) -> Crew:
    """Processes of one role together."""
    if not processes:
        return Crew(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, None)
    slots = sum(one.slots for one in processes)
    busy = sum(one.busy * one.slots for one in processes)
    waited = sum(one.store_share * one.busy * one.slots for one in processes)
    slowest = [one.p99_ms for one in processes if one.p99_ms is not None]
    return Crew(
        size=len(processes),
        slots=slots,
        busy=busy / slots if slots else 0.0,
        store_share=waited / busy if busy else 0.0,
        cpu=statistics.mean(one.cpu for one in processes),
        starved=statistics.mean(one.starved for one in processes),
        refused=sum(one.refused for one in processes),
        queued=sum(one.queued for one in processes),
        p99_ms=max(slowest, default=None),
    )


def lanes(sample: Sample) -> list[Queue]:
    """The lanes of a reading."""
    return [one for one in sample.queues if one.name.startswith("alert_queue:")]
