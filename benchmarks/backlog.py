"""Events that wait before anybody works: filled through ingest while the workers stand still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import redis

from benchmarks.load import Order
from benchmarks.runs import Alive
from benchmarks.site import API_KEY, Failed
from benchmarks.usage import busy, used
from mutt.streams import books

#: Events a request of those that fill the queue.
SIZE = 500

#: What a user would set, so that more than the usual million may wait.
ROOM = {"INGEST_MAX_DEPTH": "10000000", "INGEST_MAX_BYTES": "8GiB"}

#: Seconds without progress after which the rest is lost, and between two looks.
LOST_AFTER, EVERY = 20.0, 0.01


@dataclass(frozen=True)
class Drained:
    """One drain: (seconds since the start, events settled so far), CPU seconds by role, strangers' cores."""

    progress: Sequence[tuple[float, int]]
    cpu: dict[str, float]
    others: float

    def rate(self, first: float = 0.1, last: float = 0.9) -> float:
        """Events a second between two shares of the whole: not the start, nor the last few."""
        events = self.progress[-1][1]
        began, before = self._at(events * first)
        ended, after = self._at(events * last)
        return (after - before) / (ended - began)

    def _at(self, events: float) -> tuple[float, int]:
        return next(one for one in self.progress if one[1] >= events)


@contextmanager
def standing(running: Alive, role: str = "alerts") -> Iterator[None]:
    """Stop a role's processes where they are until the block ends."""
    trees = [psutil.Process(pid) for pid in running.roles[role]]
    trees += [child for head in trees for child in head.children(recursive=True)]
    for process in trees:
        process.suspend()
    try:
        yield
    finally:
        for process in trees:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def fill(running: Alive, count: int, *, size: int = SIZE, length: int = 0) -> None:
    """POST ``count`` events and see that they wait. Nobody may be at work."""
    order = Order(running.subject.url, API_KEY, count // size, size, 4 if size > 1 else 16, length=length)
    sent = running.loader.send(order)
    if sent.statuses != {"202": order.requests}:
        raise Failed(f"{order.requests} requests got {sent.statuses}")
    with redis.Redis.from_url(running.site.redis_url) as client:
        found = books.read(client).events["queued"]
    if found != order.requests * size:
        raise Failed(f"{found} of {order.requests * size} events wait")


def drain(running: Alive, count: int) -> Drained:
    """Empty everything, fill, let the workers go, and watch until nothing waits."""
    running.site.reset()
    with standing(running):
        fill(running, count)
    return watch(running)


def watch(running: Alive, meanwhile: Callable[[float], object] = lambda _settled: None) -> Drained:
    """Until nothing waits; ``meanwhile`` is told the share that is settled. Raises Failed where it goes no further."""
    before, busy_before, started = used(running.roles), busy(), time.monotonic()
    progress, moved = [(0.0, 0)], started
    with redis.Redis.from_url(running.site.redis_url) as client:
        while True:
            events, now = books.read(client).events, time.monotonic()
            if events["settled"] > progress[-1][1]:
                progress.append((now - started, events["settled"]))
                moved = now
            if not events["queued"]:
                break
            if now - moved > LOST_AFTER:
                raise Failed(f"{events['queued']} events wait, and nobody takes them")
            meanwhile(events["settled"] / (events["settled"] + events["queued"]))
            time.sleep(EVERY)
    cpu = {role: spent - before[role] for role, spent in used(running.roles).items()}
    others = (busy() - busy_before - sum(cpu.values())) / (time.monotonic() - started)
    return Drained(progress, cpu, max(0.0, others))
