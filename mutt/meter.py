"""What this process spends its time on, counted where it is spent: a few additions in memory, and nothing else.

Who reads it (``pulse/report``) takes differences. What goes on at that moment counts, too: a worker that waits for an
answer which does not come is busy, although it finishes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType

#: Steps whose durations are remembered until somebody reads them.
REMEMBERED = 1000


class Spent:
    """Seconds that the threads of a process spent in something, those that go on included.

    A thread is in it once: ``begin`` and ``end`` alternate. Each adds to a number of its own, so no lock is needed.
    """

    def __init__(self) -> None:
        self._done: dict[int, float] = {}
        self._since: dict[int, float] = {}

    def begin(self) -> None:
        self._since[threading.get_ident()] = time.monotonic()

    def end(self) -> None:
        thread, now = threading.get_ident(), time.monotonic()
        began = self._since.pop(thread, now)
        self._done[thread] = self._done.get(thread, 0.0) + now - began

    def rest(self, seconds: float) -> None:
        """Sleep, which is not what the time is spent in."""
        is_in = threading.get_ident() in self._since
        self.end()
        time.sleep(seconds)
        if is_in:
            self.begin()

    def total(self, now: float) -> float:
        """Thread seconds until ``now`` (monotonic)."""
        goes_on = sum(max(0.0, now - began) for began in list(self._since.values()))
        return sum(list(self._done.values())) + goes_on

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()


class Meter:
    """One role's work in this process."""

    def __init__(self) -> None:
        self.busy = Spent()
        self.done = 0  #: events, alerts, outcomes, pages
        self.refused = 0  #: requests answered with 503
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    def did(self, n: int, took: Iterable[float]) -> None:
        """So many more are done; ``took`` are the seconds of each step that was needed for them.

        Threads that count at the same instant may lose one: these figures are for people, the books are elsewhere.
        """
        self.done += n
        self._took.extend(took)

    def took(self) -> list[float]:
        """The seconds of the steps since the last call, the newest of them where they were many."""
        taken, self._took = self._took, deque(maxlen=REMEMBERED)
        return list(taken)


class Meters:
    """This process' meters by role, each made when it is asked for."""

    def __init__(self) -> None:
        self._of: dict[str, Meter] = {}

    def __getitem__(self, role: str) -> Meter:
        return self._of.setdefault(role, Meter())
