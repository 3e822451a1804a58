"""A backlog of a million events, drained: as fast at its end as at its beginning."""

from __future__ import annotations

from benchmarks import subjects
from benchmarks.backlog import ROOM, Drained, drain
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import alive
from benchmarks.site import Failed, Site

LARGE, SMALL = 1_000_000, 100_000
QUICK_SHARE = 0.1


def run(bench: Bench) -> None:
    """A small one first, some times, then the large one; every row is counted."""
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool, told=ROOM)
    share = QUICK_SHARE if bench.plan.quick else 1.0
    large, small = round(LARGE * share), round(SMALL * share)
    with alive(bench.site, bench.loader, subject) as running:
        drain(running, small)
        few = [drain(running, small) for _ in range(bench.plan.times)]
        whole = drain(running, large)
        _counted(bench.site, large)
    base = _figure(f"backlog of {small:,}", [one.rate() for one in few], few[-1], small)
    bench.report.add(base)
    tenths = [whole.rate(tenth / 10, (tenth + 1) / 10) for tenth in range(10)]
    note = f"a run is a tenth of it: {', '.join(f'{rate:,.0f}' for rate in tenths)}"
    figure = _figure(f"backlog of {large:,}", tenths, whole, large, note=note)
    bench.report.add(figure.as_times(base, "the small one"))
    first = _figure(f"backlog of {large:,}, first fifth", tenths[:2], whole, large)
    last = _figure(
        f"backlog of {large:,}, last fifth", tenths[-2:], whole, large, goal="as fast as the first"
    )
    bench.report.add(last.as_times(first, "the first fifth"))


def _figure(
    name: str, rates: list[float], drained: Drained, count: int, *, note: str = "", goal: str = ""
) -> Figure:
    cpu = {role: seconds / count * 1e6 for role, seconds in drained.cpu.items()}
    return Figure(name, MUTT, "events/s drained", rates, cpu=cpu, others=drained.others, note=note, goal=goal)


def _counted(site: Site, expected: int) -> None:
    if site.rows() != expected:
        raise Failed(f"{site.rows()} rows of {expected} events")


STEP = Step(run, order=80)
