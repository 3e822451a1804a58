"""Rounds: the group commit of ingest. Requests that arrive together share one append.

The first thread that finds nobody carrying carries all that is queued, one round, and then hands over to the
first that waits: nobody waits on a timer, nobody carries for ever. An error reaches exactly those of its round.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from mutt.errors import UNREACHABLE, StreamAway, Unavailable

log = logging.getLogger("mutt.ingest")

C = TypeVar("C")
R = TypeVar("R")

#: Seconds that a request waits for its round, at most.
DEADLINE = 1.0

#: Seconds after a failed round in which requests are answered at once, without a try.
CIRCUIT = 1.0


@dataclasses.dataclass(eq=False)
class _Waiter(Generic[C, R]):
    contributions: Sequence[C]
    size: int
    deadline: float
    wake: threading.Event = dataclasses.field(default_factory=threading.Event)
    results: Sequence[R] = ()
    error: Exception | None = None
    done: bool = False


class Rounds(Generic[C, R]):
    """Carries contributions in rounds of at most ``max_bytes``.

    ``carry(contributions, deadline)`` does one round and gives a result each; it raises
    :class:`~mutt.errors.Unavailable` when nothing of it was taken.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[C], float], Sequence[R]],
        *,
        max_bytes: int = 1 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._carry, self._max_bytes, self._clock = carry, max_bytes, clock
        self._lock = threading.Lock()
        self._queue: deque[_Waiter[C, R]] = deque()
        self._carrying = False
        self._broken_until = 0.0
        self._why = ""  # it is broken; kept until a round went through

    def submit(self, contribution: C, size: int, *, since: float | None = None) -> R:
        """Take part in the next round. Raises Unavailable: nothing was taken, or nobody can tell in time.

        ``since`` is when the request began to wait (of the same clock): its deadline counts from there.
        """
        (result,) = self.submit_all([contribution], size, since=since)
        return result

    def submit_all(self, contributions: Sequence[C], size: int, *, since: float | None = None) -> Sequence[R]:
        """The same for several requests that are there together, of ``size`` bytes in all: they share one fate."""
        now = self._clock()
        deadline = (now if since is None else since) + DEADLINE
        if size >= self._max_bytes:
            return self._alone(contributions, deadline)
        waiter: _Waiter[C, R] = _Waiter(contributions, size, deadline)
        with self._lock:
            self._check_circuit(now)
            self._queue.append(waiter)
            carries, self._carrying = not self._carrying, True
        if not carries:
            carries = self._await_turn(waiter)
        if carries:
            self._run_round()
        if waiter.error:
            raise waiter.error
        if not waiter.done:
            raise Unavailable("the stream did not answer in time")
        return waiter.results

    def _alone(self, contributions: Sequence[C], deadline: float) -> Sequence[R]:
        """Who fills a round by himself waits for nobody, and nobody waits while it is packed."""
        self._check_circuit(self._clock())
        try:
            return self._carried(contributions, deadline)
        except Unavailable as error:
            self._note(error)
            raise

    def _check_circuit(self, now: float) -> None:
        if now < self._broken_until:
            raise StreamAway(self._why or UNREACHABLE)

    def _await_turn(self, waiter: _Waiter[C, R]) -> bool:
        """Wait for the result (False) or for the turn to carry (True)."""
        waiter.wake.wait(max(0.0, waiter.deadline - self._clock()))
        with self._lock:
            if waiter.done or waiter.error:
                return False
            if waiter.wake.is_set():
                return True
            # Out of time. Still queued: leave, nothing was taken. Otherwise its round is under way.
            if waiter in self._queue:
                self._queue.remove(waiter)
            return False

    def _run_round(self) -> None:
        waiters = self._next_round()
        try:
            if waiters:
                self._finish(waiters)
        finally:
            self._hand_over()

    def _finish(self, waiters: list[_Waiter[C, R]]) -> None:
        try:
            self._check_circuit(self._clock())  # it may have opened while these waited
            contributions = [one for waiter in waiters for one in waiter.contributions]
            results = iter(self._carried(contributions, min(w.deadline for w in waiters)))
            for waiter in waiters:
                waiter.results, waiter.done = list(islice(results, len(waiter.contributions))), True
            self._why = ""
        except Exception as error:  # noqa: BLE001 whatever it is, it belongs to those of this round, and to no one else
            self._note(error)
            for waiter in waiters:
                waiter.error = error
        for waiter in waiters:
            waiter.wake.set()

    def _carried(self, contributions: Sequence[C], deadline: float) -> Sequence[R]:
        results = self._carry(contributions, deadline)
        if len(results) != len(contributions):
            raise RuntimeError(f"a round of {len(contributions)} has {len(results)} results")
        return results

    def _note(self, error: Exception) -> None:
        if isinstance(error, StreamAway) and self._clock() >= self._broken_until:
            self._broken_until = self._clock() + CIRCUIT
            if error.reason != self._why:  # an outage is a line, and not one a request
                log.warning("events are refused: %s", error.reason)
            self._why = error.reason

    def _next_round(self) -> list[_Waiter[C, R]]:
        taken: list[_Waiter[C, R]] = []
        size = 0
        with self._lock:
            while self._queue and size + self._queue[0].size <= self._max_bytes:
                taken.append(self._queue.popleft())
                size += taken[-1].size
        return taken

    def _hand_over(self) -> None:
        with self._lock:
            if self._queue:
                self._queue[0].wake.set()
            else:
                self._carrying = False
