"""From acceptance to the audit row's commit, and to Moog, below capacity and within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import orjson

from benchmarks import subjects
from benchmarks.bench import Bench, Step, costs, name_of
from benchmarks.corpus import MATCHING
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Alive, Run, alive
from benchmarks.site import Failed, Site, private_site
from benchmarks.steps.end_to_end import capacity
from mutt.settings import Settings, inherited

#: The share of the budget that alerts come in with: within it, and not at its edge.
OF_BUDGET = 0.6

#: Seconds that the last alert may take to reach Moog.
PATIENCE = 30.0

#: Seconds at a run's start that don't count: it begins with an empty Redis, and where the log of the budget is gone,
#: nothing is sent for a period.
FENCE = 3.0

#: PostgreSQL keeps when each transaction was committed; a row's ``xmin`` names its own. So nobody has to look on
#: while it is measured. `mutt up` leaves that off, hence servers of this step's own.
KEPT = {"track_commit_timestamp": "on"}

_ROWS = """
    SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP
        (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - received_at)::float8 * 1000)
    FROM event_audit_log WHERE source <> 'mutt'
"""

#: Event id and arrival of everything that Moog is told of.
_ALERTS = "SELECT event_id::text, extract(epoch FROM received_at)::float8 FROM alerts WHERE source <> 'mutt'"


def run(bench: Bench) -> None:
    """Rows of singles and hundreds at half of capacity; then alerts, with a forwarder and the simulator of Moog."""
    with private_site(KEPT) as site:
        apart = replace(bench, site=site)
        _to_row(apart)
        _to_moog(apart)


def _to_row(bench: Bench) -> None:
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool)
    with alive(bench.site, bench.loader, subject) as running:
        for size in (1, 100):
            rate = capacity(bench, running, size) / 2
            name = f"accept to row {{}} {name_of(size)} at 50%"
            _measured(bench, running, size, rate, name, "p99 under 100 ms", row_delays)


def _to_moog(bench: Bench) -> None:
    settings = Settings.from_env(inherited())
    rate = OF_BUDGET * settings.moog_rate_limit / settings.moog_rate_period / MATCHING
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, moog=1, pool=bench.plan.pool)
    with alive(bench.site, bench.loader, subject) as running:
        name = f"accept to Moog {{}} at {OF_BUDGET:.0%} of the budget"
        _measured(
            bench, running, 1, rate, name, "p99 under 2 s", lambda site: moog_delays(site, subject.moogsim)
        )


def _measured(
    bench: Bench,
    running: Alive,
    size: int,
    rate: float,
    name: str,
    goal: str,
    delays: Callable[[Site], tuple[float, float]],
) -> None:
    """One warm-up, then as many runs as planned; ``delays`` gives p50 and p99 of the run that has just ended."""
    runs: list[Run] = []
    found: list[tuple[float, float]] = []
    for seconds in (bench.plan.latency_seconds / 4 + FENCE, *[bench.plan.latency_seconds] * bench.plan.times):
        runs.append(running.end_to_end(size, max(1, round(rate / size * seconds)), rate / size))
        found.append(delays(bench.site))
    for place, share in enumerate(("p50", "p99")):
        values = [one[place] for one in found[1:]]
        note = f"at {rate:,.0f} events/s"
        figure = Figure(name.format(share), MUTT, "ms", values, note=note, **costs(runs[1:]))
        bench.report.add(msgspec.structs.replace(figure, goal=goal) if share == "p99" else figure)


def row_delays(site: Site) -> tuple[float, float]:
    """p50 and p99 of the milliseconds from the acceptance of an event to the commit of its row."""
    ((both,),) = site.ask(_ROWS)
    return both[0], both[1]


def moog_delays(site: Site, moogsim: str) -> tuple[float, float]:
    """p50 and p99 of the milliseconds from the acceptance of an event to the request that tells Moog of it."""
    raised = {str(event_id): at for event_id, at in site.ask(_ALERTS)}
    deadline = time.monotonic() + PATIENCE
    while True:
        told = {one["came"]["event_id"]: one["time"] for one in reversed(_simulator(moogsim, "GET"))}
        if raised.keys() <= told.keys():
            break
        if time.monotonic() > deadline:
            raise Failed(f"Moog was told of {len(raised.keys() & told.keys())} of {len(raised)} alerts")
        time.sleep(0.2)
    _simulator(moogsim, "DELETE")
    begun = min(raised.values(), default=0.0) + FENCE
    delays = sorted((told[event_id] - at) * 1000 for event_id, at in raised.items() if at > begun)
    if not delays:
        raise Failed(f"no alert was raised after the first {FENCE:g} s")
    return delays[len(delays) // 2], delays[int(len(delays) * 0.99)]


def _simulator(url: str, method: str) -> Any:
    with urlopen(Request(f"{url}/received", method=method), timeout=10) as answer:
        return orjson.loads(answer.read())


STEP = Step(run, order=60)
