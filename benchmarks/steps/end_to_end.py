"""From the first POST until every event is a committed row: MUTT and both baselines."""

from __future__ import annotations

from benchmarks import subjects
from benchmarks.bench import Bench, Step, name_of, throughput
from benchmarks.figures import END_TO_END, LIST_AND_ROW, MUTT, PLAIN_CELERY, Figure
from benchmarks.runs import Alive, alive
from benchmarks.steps.ceilings import server_side_copy
from benchmarks.subjects import Subject


def run(bench: Bench) -> None:
    """The baselines first, for MUTT's lines say how many times as fast it is."""
    server_side_copy(bench)
    for baseline in _baselines(bench):
        with alive(bench.site, bench.loader, baseline) as running:
            measured(bench, running, 1)
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool)
    with alive(bench.site, bench.loader, subject) as running:
        for size in bench.plan.sizes:
            measured(bench, running, size)


def measured(bench: Bench, running: Alive, size: int) -> Figure:
    """The figure of one subject with one size of request."""
    runs = bench.repeated(size, lambda requests: running.end_to_end(size, requests))
    figure = throughput(f"{END_TO_END} {name_of(size)}", running.subject.name, runs)
    if running.subject.name == MUTT and size > 1:
        figure = figure.as_share(server_side_copy(bench), "server-side COPY")
    return bench.report.add(figure)


def capacity(bench: Bench, running: Alive, size: int) -> float:
    """Events a second that MUTT takes from end to end: as measured already, or now."""
    known = bench.report.best(f"{END_TO_END} {name_of(size)}")
    return (known or measured(bench, running, size)).median


def _baselines(bench: Bench) -> list[Subject]:
    made: list[Subject] = []
    if LIST_AND_ROW in bench.plan.baselines:
        made += [subjects.lists_and_rows(bench.site, consumers) for consumers in bench.plan.consumers]
    if PLAIN_CELERY in bench.plan.baselines:
        made.append(subjects.plainly_celery(bench.site))
    return made


STEP = Step(run, order=40, quick=True)
