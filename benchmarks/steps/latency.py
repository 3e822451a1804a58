"""POST to 202 below capacity, workers at work: how long a sender waits for its answer."""

from __future__ import annotations

from benchmarks import subjects
from benchmarks.bench import Bench, Step, costs, name_of
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Alive, alive
from benchmarks.steps.end_to_end import capacity


def run(bench: Bench) -> None:
    """Singles and hundreds at a quarter, half and three quarters of what MUTT takes of them from end to end."""
    sizes, shares = ((1,), (0.5,)) if bench.plan.quick else ((1, 100), (0.25, 0.5, 0.75))
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool)
    with alive(bench.site, bench.loader, subject) as running:
        for size in sizes:
            most = capacity(bench, running, size)
            for share in shares:
                _at(bench, running, size, share, most * share)


def _at(bench: Bench, running: Alive, size: int, share: float, events: float) -> None:
    rate = events / size
    requests = max(1, round(rate * bench.plan.latency_seconds))
    running.end_to_end(size, max(1, round(rate)), rate)
    runs = [running.end_to_end(size, requests, rate) for _ in range(bench.plan.times)]
    late = max(run.sent.late_p99 for run in runs)
    note = f"at {events:,.0f} events/s; sent late (p99) {late:.2g} ms; the slowest {_slowest(requests)} are beyond p999"
    for name in ("p50", "p99", "p999"):
        values = [getattr(run.sent, name) for run in runs]
        goal = "under 10 ms" if (name, share) == ("p99", 0.5) else ""
        title = f"latency {name} {name_of(size)} at {share:.0%}"
        bench.report.add(Figure(title, MUTT, "ms", values, note=note, goal=goal, **costs(runs)))


def _slowest(requests: int) -> int:
    return max(1, requests // 1000)


STEP = Step(run, order=50, quick=True)
