"""Single POSTs at a quarter of capacity while workers drain a backlog, against the same with none."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import redis

from benchmarks import subjects
from benchmarks.bench import Bench, Step, costs
from benchmarks.figures import MUTT, Figure
from benchmarks.load import Sent
from benchmarks.runs import Alive, alive, order_of
from benchmarks.site import Failed, Site, started
from benchmarks.steps.end_to_end import capacity
from benchmarks.subjects import Subject
from mutt.streams import books

#: Events a request of those that make the backlog.
SIZE = 500

#: How many times what MUTT takes meanwhile the backlog is: drained alone it goes faster than end to end.
AMPLE = 3.0

#: More than that ingest refuses (INGEST_MAX_DEPTH).
MOST = 900_000


GOAL = "at most 2x its value with no backlog"


def run(bench: Bench) -> None:
    """p99 of both, from POST to 202."""
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool)
    seconds = bench.plan.latency_seconds / 2
    with alive(bench.site, bench.loader, subject) as running:
        rate, drained = capacity(bench, running, 1) / 4, capacity(bench, running, SIZE)
        requests = round(rate * seconds)
        running.end_to_end(1, round(rate), rate)
        idle = [running.end_to_end(1, requests, rate) for _ in range(bench.plan.times)]
    backlog = min(round(AMPLE * drained * seconds), MOST)
    busy = [_drained(bench, subject, backlog, requests, rate) for _ in range(bench.plan.times)]
    at = f"at {rate:,.0f} events/s, a quarter of capacity"
    quiet = _figure("no backlog", [run.sent for run in idle], at)
    figure = _figure("draining", busy, f"{at}; a backlog of {backlog:,} events", GOAL)
    bench.report.add(msgspec.structs.replace(quiet, **costs(idle)))
    bench.report.add(figure.as_times(quiet, "its value with no backlog"))


def _figure(when: str, sent: Sequence[Sent], note: str, goal: str = "") -> Figure:
    return Figure(
        f"latency p99 single at 25%, {when}", MUTT, "ms", [one.p99 for one in sent], note=note, goal=goal
    )


def _drained(bench: Bench, subject: Subject, backlog: int, requests: int, rate: float) -> Sent:
    """Fill the queue behind a door that nobody works for, let the workers in, and send."""
    site, loader = bench.site, bench.loader
    door = [process for process in subject.processes if process.name == "ingest"]
    with started(door) as roles:
        Alive(site, loader, subject, {**roles, **site.roles}).accepted(SIZE, backlog // SIZE)
        with started([process for process in subject.processes if process not in door]):
            sent = loader.send(order_of(subject, 1, requests, rate))
            left = _queued(site)
    if sent.statuses != {"202": requests}:
        raise Failed(f"{requests} requests got {sent.statuses}")
    # First in, first out: with more than the singles waiting some of the backlog is there yet.
    if left <= requests:
        raise Failed(f"a backlog of {backlog:,} events was drained before the load had ended")
    return sent


def _queued(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return books.read(client).events["queued"]


STEP = Step(run, order=70)
