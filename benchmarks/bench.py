"""What every step works with: how long and how often, where, and how its runs become figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.figures import LIST_AND_ROW, PLAIN_CELERY, SINGLE, Figure
from benchmarks.load import Loader
from benchmarks.report import Report
from benchmarks.runs import Cost, Run, middle, repeated
from benchmarks.site import Site

#: Requests of the first warm-up, by events a request.
FIRST = {1: 300, 100: 40, 500: 20, 1000: 10}


@dataclass(frozen=True)
class Plan:
    """How long and how often. ``seconds`` is about one run's length; ``pool`` replaces the workers' pool."""

    quick: bool = False
    seconds: float = 3.0
    times: int = 3
    latency_seconds: float = 6.0
    sizes: tuple[int, ...] = (1, 100, 500, 1000)
    baselines: tuple[str, ...] = (LIST_AND_ROW, PLAIN_CELERY)
    consumers: tuple[int, ...] = (1, 2)
    alerts: int = 2
    pool: str = ""
    stored: int = 10_000_000  #: rows in the table while its growth is measured
    soak_seconds: float = 600.0


#: Everything within a minute, servers' start included.
QUICK = Plan(quick=True, seconds=1.5, times=2, latency_seconds=4.0, sizes=(1, 500), baselines=(LIST_AND_ROW,))


@dataclass(frozen=True)
class Bench:
    """What every step is given."""

    site: Site
    loader: Loader
    report: Report
    plan: Plan

    def repeated(self, size: int, once: Callable[[int], Run]) -> list[Run]:
        """Warm up, then run as often as planned; ``once`` is given a number of requests of ``size`` events."""
        return repeated(once, first=FIRST[size], seconds=self.plan.seconds, times=self.plan.times)

    def shorter(self, share: float) -> Bench:
        """The same with runs of a share of their length."""
        return replace(self, plan=replace(self.plan, seconds=self.plan.seconds * share))


@dataclass(frozen=True)
class Step:
    """One file of ``benchmarks/steps``. ``run`` measures and adds its figures to the report; lower ``order`` first.

    ``quick``: it is part of the quick run. ``only_named``: it runs only if it is named, for it takes long.
    """

    run: Callable[[Bench], None]
    order: int
    quick: bool = False
    only_named: bool = False


def name_of(size: int) -> str:
    """How a size of request is called in the table."""
    return SINGLE if size == 1 else f"x{size}"


def throughput(
    name: str, subject: str, runs: Sequence[Cost], *, unit: str = "events/s", note: str = ""
) -> Figure:
    """Events a second, with what the median run cost."""
    return Figure(name, subject, unit, [run.rate for run in runs], note=note, **costs(runs))


def costs(runs: Sequence[Cost]) -> dict[str, Any]:
    """What a :class:`Figure` says of the cost: CPU and memory of the median run, strangers' cores in the worst."""
    run = middle(runs)
    return {"cpu": run.cpu_each(), "memory": run.memory, "others": max(run.others for run in runs)}
