"""Book: what came to the simulator and when, counted, and folded by signature as Moog does."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from typing import Any

import msgspec

from mutt.moogsim.script import Behaviour
from mutt.moogsim.wire import Came


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it came."""

    request: int  #: the number of its request, from 1
    at: float  #: monotonic seconds: when the request's first byte was read
    time: float  #: the same in epoch seconds, for people
    status: int  #: what was answered; 0: nothing
    taken: bool  #: did Moog take it?
    came: Came


class Folded(msgspec.Struct):
    """One alert of Moog's: all events of one signature."""

    signature: str
    count: int = 0
    raises: int = 0
    clears: int = 0
    severity: int = 0
    source: str = ""
    description: str = ""
    last_at: float = 0.0

    @property
    def state(self) -> str:
        return "open" if self.severity else "clear"

    def add(self, came: Came, at: float) -> None:
        self.count += 1
        self.raises += came.severity > 0
        self.clears += came.severity == 0
        self.severity, self.source, self.description = came.severity, came.source, came.description
        self.last_at = at


def most_in_window(starts: Sequence[float], period: float) -> int:
    """The most of ``starts`` (sorted) in any window of ``period`` seconds, its end not included."""
    most = first = 0
    for last, at in enumerate(starts):
        while at - starts[first] >= period:
            first += 1
        most = max(most, last - first + 1)
    return most


class Book:
    """Keeps the last ``keep`` events, starts and signatures; its counts go on. Threads may share one."""

    def __init__(self, keep: int = 100_000, period: float = 1.0) -> None:
        self._keep, self._period = keep, period
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._received: deque[Received] = deque(maxlen=self._keep)
            self._starts: list[float] = []
            self._alerts: OrderedDict[str, Folded] = OrderedDict()
            self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
            self._counts: Counter[str] = Counter()
            self._by_status: Counter[int] = Counter()
            self._by_behaviour: Counter[str] = Counter()
            self._most_before = 0
            self._number = itertools.count(1)
            self._first_at: float | None = None
            self._last_at: float | None = None

    def add(
        self,
        events: Sequence[Came],
        *,
        at: float,
        time: float,
        status: int,
        taken: bool,
        behaviour: str = Behaviour.OK,
    ) -> None:
        """Note one request, and what the script made of it (``ok`` where it was not asked)."""
        with self._lock:
            number = next(self._number)
            self._counts["requests"] += 1
            self._counts["events"] += len(events)
            self._counts["taken"] += len(events) if taken else 0
            self._by_status[status] += 1
            self._by_behaviour[str(behaviour)] += 1
            self._start(at)
            for came in events:
                self._received.append(
                    Received(request=number, at=at, time=time, status=status, taken=taken, came=came)
                )
                if taken:
                    self._fold(came, at)

    def _start(self, at: float) -> None:
        self._first_at = at if self._first_at is None else min(at, self._first_at)
        self._last_at = at if self._last_at is None else max(at, self._last_at)
        bisect.insort(self._starts, at)
        if len(self._starts) > 2 * self._keep:
            self._most_before = max(self._most_before, most_in_window(self._starts, self._period))
            del self._starts[: self._keep]

    def _fold(self, came: Came, at: float) -> None:
        if came.signature not in self._alerts:
            self._counts["signatures"] += 1
        folded = self._alerts.setdefault(came.signature, Folded(came.signature))
        folded.add(came, at)
        self._alerts.move_to_end(came.signature)
        key = (came.signature, came.event_id)
        self._counts["duplicates"] += key in self._seen
        self._seen[key] = None
        for kept in (self._alerts, self._seen):
            if len(kept) > self._keep:
                kept.popitem(last=False)

    @property
    def starts(self) -> list[float]:
        """Monotonic times of each request's first byte, sorted."""
        with self._lock:
            return list(self._starts)

    def received(self, limit: int | None = None, signature: str | None = None) -> list[Received]:
        """The events as they came, the newest last; at most the last ``limit``."""
        with self._lock:
            found = [r for r in self._received if signature is None or r.came.signature == signature]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def alerts(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Moog's alerts, the one that changed last first."""
        with self._lock:
            found = itertools.islice(reversed(self._alerts.values()), limit)
            return [msgspec.structs.asdict(folded) | {"state": folded.state} for folded in found]

    def stats(self) -> dict[str, Any]:
        """The counts; ``signatures`` and ``duplicates`` are of events that were taken."""
        starts = self.starts
        with self._lock:
            names = ("requests", "events", "taken", "signatures", "duplicates")
            return {name: self._counts[name] for name in names} | {
                "by_status": {str(status): count for status, count in sorted(self._by_status.items())},
                "by_behaviour": dict(sorted(self._by_behaviour.items())),
                "max_in_window": max(self._most_before, most_in_window(starts, self._period)),
                "first_at": self._first_at,
                "last_at": self._last_at,
            }
