"""1, 2 and 4 evaluating workers that drain a backlog: what each brings, beside what `mutt plan` foretold."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import subjects
from benchmarks.backlog import ROOM, Drained, drain
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import alive

COUNTS = (1, 2, 4)

#: Events that wait, a worker. Each run begins with empty tables.
WAITING = 40_000

#: What `mutt plan --workers 1,2,4 --batch 500 --json` said, before anything here ran.
FORECAST = Path(__file__).parents[1] / "results" / "plan-forecast.json"


def run(bench: Bench) -> None:
    """Nobody sends meanwhile; a backlog's first tenth and last tenth don't count."""
    foretold = json.loads(FORECAST.read_text())["forecast"]
    base: Figure | None = None
    for count in COUNTS:
        figure = _drained(bench, count, foretold[str(count)])
        base = base or figure
        bench.report.add(figure if figure is base else figure.as_times(base, "1 worker"))


def _drained(bench: Bench, workers: int, foretold: int) -> Figure:
    subject = subjects.mutt_itself(bench.site, alerts=workers, pool=bench.plan.pool, told=ROOM)
    events = WAITING * (2 if workers == 1 else workers)
    with alive(bench.site, bench.loader, subject) as running:
        runs: list[Drained] = [drain(running, events) for _ in range(bench.plan.times + 1)][1:]
    middle = sorted(runs, key=Drained.rate)[len(runs) // 2]
    off = foretold / middle.rate() - 1
    return Figure(
        f"{workers} alerts worker{'s' * (workers > 1)}",
        MUTT,
        "events/s drained",
        [one.rate() for one in runs],
        cpu={role: seconds / events * 1e6 for role, seconds in middle.cpu.items()},
        others=max(one.others for one in runs),
        note=f"`mutt plan` foretold {foretold:,}: {off:+.0%}",
        goal="within 25 % of the forecast",
    )


STEP = Step(run, order=76, only_named=True)
