"""One timed run: send, wait until every event is a committed row, count the rows, and say what it cost."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.load import Loader, Order, Sent
from benchmarks.site import API_KEY, Failed, Site, started
from benchmarks.subjects import Subject
from benchmarks.usage import Roles, busy, forget_peaks, peaks, used

#: Seconds without a new row after which those that are missing are lost, and that a run may take at most.
LOST_AFTER, AT_MOST = 10.0, 300.0

#: Connections: many that send one event a request, few that send many.
CONNECTIONS, BATCH_CONNECTIONS = 16, 4


@dataclass(frozen=True)
class Cost:
    """What some events took.

    ``cpu`` is seconds and ``memory`` the peak in MiB, by role; ``others`` the cores that strangers kept busy meanwhile.
    """

    events: int
    seconds: float
    cpu: dict[str, float]
    memory: dict[str, float]
    others: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    def cpu_each(self) -> dict[str, float]:
        """Microseconds of CPU an event, by role."""
        return {role: seconds / self.events * 1e6 for role, seconds in self.cpu.items()}


@dataclass(frozen=True)
class Run(Cost):
    """One run of the load generator."""

    sent: Sent


class Meter:
    """Says what ``roles`` use from now on."""

    def __init__(self, roles: Roles) -> None:
        forget_peaks(roles)
        self._roles, self._used, self._busy, self._began = roles, used(roles), busy(), time.monotonic()

    def cost(self, events: int, seconds: float, own: Mapping[str, float]) -> Cost:
        """``seconds`` is what counts of the time; ``own`` the CPU seconds of those whom no role's tree holds."""
        cpu = {role: seconds - self._used[role] for role, seconds in used(self._roles).items()} | own
        others = (busy() - self._busy - sum(cpu.values())) / (time.monotonic() - self._began)
        return Cost(events, seconds, cpu, peaks(self._roles), max(0.0, others))


@dataclass(frozen=True)
class Alive:
    """A subject whose processes run, and all that a run needs."""

    site: Site
    loader: Loader
    subject: Subject
    roles: Roles

    def end_to_end(self, size: int, requests: int, rate: float = 0.0) -> Run:
        """From the first POST until every event is a row. Raises Failed where one was refused or is missing."""
        return self._run(order_of(self.subject, size, requests, rate), self._stored)

    def accepted(self, size: int, requests: int, form: str = "array") -> Run:
        """From the first POST until the last answer; what was accepted is the caller's to count."""
        return self._run(order_of(self.subject, size, requests, form=form), lambda order, sent: sent.ended)

    def _run(self, order: Order, finished: Callable[[Order, Sent], float]) -> Run:
        self.site.reset()
        meter = Meter(self.roles)
        sent = self.loader.send(order)
        if sent.statuses != {"202": order.requests}:
            raise Failed(f"{self.subject.name}: {order.requests} requests got {sent.statuses}")
        seconds = finished(order, sent) - sent.started
        cost = meter.cost(order.requests * order.size, seconds, {"load": sent.cpu})
        return Run(**vars(cost), sent=sent)

    def _stored(self, order: Order, _sent: Sent) -> float:
        return stored(self.site, self.subject, order.requests * order.size)


def stored(site: Site, subject: Subject, expected: int) -> float:
    """Wait until the subject is idle with ``expected`` rows; when that was. Raises Failed if rows are missing."""
    started, patience = time.monotonic(), 0.0
    while True:
        idle, at = subject.idle(), time.monotonic()
        rows = site.rows() if idle else -1
        if rows == expected:
            return at
        if rows > expected:
            raise Failed(f"{subject.name}: {rows} rows of {expected} events")
        patience = (patience or at + LOST_AFTER) if idle else 0.0
        if (idle and at > patience) or at > started + AT_MOST:
            raise Failed(
                f"{subject.name}: {site.rows()} rows of {expected} events; the rest is lost or too slow"
            )
        time.sleep(0.005)


def order_of(subject: Subject, size: int, requests: int, rate: float = 0.0, form: str = "array") -> Order:
    """The order for so many requests of ``size`` events."""
    connections = CONNECTIONS if size == 1 else BATCH_CONNECTIONS
    return Order(subject.url, API_KEY, requests, size, connections, rate, form=form)


@contextlib.contextmanager
def alive(site: Site, loader: Loader, subject: Subject) -> Iterator[Alive]:
    """Run a subject's processes until the block ends."""
    with started(subject.processes) as roles:
        yield Alive(site, loader, subject, {**roles, **site.roles})


def repeated(run: Callable[[int], Run], *, first: int, seconds: float, times: int) -> list[Run]:
    """Warm up twice (small, then as long as the rest), then run ``times`` times for about ``seconds`` each.

    ``run`` is given a number of requests. What the warm-up shows sets that number; its figures are thrown away.
    """
    requests = first
    for share in (0.3, 1.0):
        warm = run(requests)
        requests = max(first, round(requests * seconds * share / warm.seconds))
    return [run(requests) for _ in range(times)]


def middle(runs: Sequence[Cost]) -> Cost:
    """The run with the median rate (of two in the middle the slower)."""
    rate = statistics.median_low([run.rate for run in runs])
    return next(run for run in runs if run.rate == rate)
