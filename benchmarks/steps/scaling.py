"""Two evaluating workers against one: end to end, and a preloaded backlog with and without PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from benchmarks import subjects
from benchmarks.backlog import ROOM, Drained, drain
from benchmarks.bench import Bench, Step, throughput
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Alive, alive
from mutt.embedded.process import Process

#: Events a request from end to end, and events that wait where nobody sends meanwhile.
SIZE, WAITING = 500, 200_000
QUICK_SHARE = 0.25


@dataclass(frozen=True)
class Fleet:
    """So many workers, each with so many processes."""

    name: str
    workers: int
    processes: int = 1
    app: str = "mutt"

    def process(self, process: Process) -> Process:
        """The command line of one worker of this fleet."""
        argv = list(process.argv)
        if process.name.startswith("alerts"):
            argv[argv.index("-c") + 1] = str(self.processes)
            argv[argv.index("-A") + 1] = self.app
        return replace(process, argv=tuple(argv))


ONE, TWO, CHILDREN = Fleet("1 worker", 1), Fleet("2 workers", 2), Fleet("1 worker -c 2", 1, processes=2)

NOOP = "benchmarks.noop"

Measure = Callable[[Bench, Alive, str], Figure]


def run(bench: Bench) -> None:
    """Each fleet against one worker, in this very run."""
    _compared(bench, "end to end x500", (ONE, TWO), "2 workers 1.4x", _end_to_end)
    _compared(bench, "preloaded", (ONE, TWO, CHILDREN), "-c 2 like 2 workers", _preloaded)
    noop = tuple(replace(fleet, app=NOOP) for fleet in (ONE, TWO, CHILDREN))
    _compared(bench, "preloaded, no-op store", noop, "2 workers 1.8x; -c 2 like 2 workers", _preloaded)


def _compared(bench: Bench, name: str, fleets: tuple[Fleet, ...], goal: str, measure: Measure) -> None:
    base: Figure | None = None
    for fleet in fleets:
        with _running(bench, fleet) as running:
            figure = measure(bench, running, f"{name}, {fleet.name}")
        base = base or figure
        if figure is not base:
            figure = msgspec.structs.replace(figure, goal=goal).as_times(base, ONE.name)
        bench.report.add(figure)


@contextmanager
def _running(bench: Bench, fleet: Fleet) -> Iterator[Alive]:
    subject = subjects.mutt_itself(bench.site, alerts=fleet.workers, pool=bench.plan.pool, told=ROOM)
    made = tuple(fleet.process(process) for process in subject.processes)
    with alive(bench.site, bench.loader, replace(subject, processes=made)) as running:
        yield running


def _end_to_end(bench: Bench, running: Alive, name: str) -> Figure:
    runs = bench.repeated(SIZE, lambda requests: running.end_to_end(SIZE, requests))
    return throughput(name, MUTT, runs)


def _preloaded(bench: Bench, running: Alive, name: str) -> Figure:
    count = round(WAITING * (QUICK_SHARE if bench.plan.quick else 1.0))
    runs: list[Drained] = [drain(running, count) for _ in range(bench.plan.times + 1)][1:]
    middle = sorted(runs, key=Drained.rate)[len(runs) // 2]
    cpu = {role: seconds / count * 1e6 for role, seconds in middle.cpu.items()}
    others = max(one.others for one in runs)
    return Figure(name, MUTT, "events/s drained", [one.rate() for one in runs], cpu=cpu, others=others)


STEP = Step(run, order=75)
