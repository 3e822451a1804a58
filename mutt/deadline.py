"""Deadlines: one daemon thread for the process that calls back when a time has come.

A socket's timeout counts from its last byte, so that a peer which drips one byte at a time holds its caller for
ever. A deadline counts from the start.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Alarm:
    """One deadline; :meth:`cancel` it when the work is done."""

    __slots__ = ("action", "live")

    def __init__(self, action: Callable[[], None]) -> None:
        self.action, self.live = action, True

    def cancel(self) -> None:
        self.live = False


class Deadlines:
    """Calls each alarm's action at its time, in a thread that starts with the first of them.

    An action must not block. One that raises is logged, and the next ones come. An alarm that is cancelled costs next
    to nothing: most are.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: a forked child has no thread, and a lock that nobody will open."""
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Alarm]] = []
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._wakes_at = -math.inf  #: when the thread looks next by itself

    def at(self, when: float, action: Callable[[], None]) -> Alarm:
        """Call ``action`` at ``when`` (monotonic seconds) unless the alarm is cancelled."""
        alarm = Alarm(action)
        with self._changed:
            self._forget_cancelled()
            heapq.heappush(self._heap, (when, next(self._count), alarm))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            if when < self._wakes_at:
                self._changed.notify()
        return alarm

    def _forget_cancelled(self) -> None:
        while self._heap and not self._heap[0][2].live:
            heapq.heappop(self._heap)

    def _run(self) -> None:
        while True:
            action = self._wait().action
            try:
                action()
            except Exception:  # whoever's it is, the alarms of all others hang on this thread
                log.exception("what a deadline was to do failed")

    def _wait(self) -> Alarm:
        """The next alarm whose time has come."""
        with self._changed:
            while True:
                self._forget_cancelled()
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._heap)[2]
                self._wakes_at = self._heap[0][0] if self._heap else math.inf
                self._changed.wait(left)


DEADLINES = Deadlines()
os.register_at_fork(after_in_child=DEADLINES.reset)
