"""POST to 202 with nobody working behind the door; what was accepted is counted in the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import redis

from benchmarks import list_and_row, subjects
from benchmarks.bench import Bench, Step, name_of, throughput
from benchmarks.figures import LIST_AND_ROW
from benchmarks.runs import Run, alive
from benchmarks.site import Failed, Site
from benchmarks.subjects import Subject
from mutt.streams import books


def run(bench: Bench) -> None:
    """The baseline's door, then MUTT's with each size of request."""
    if LIST_AND_ROW in bench.plan.baselines:
        subject = replace(subjects.lists_and_rows(bench.site, 0), name=LIST_AND_ROW)
        _measured(bench, subject, 1, _listed)
    for size in bench.plan.sizes:
        _measured(bench, subjects.mutt_itself(bench.site, alerts=0), size, _booked)


def _measured(bench: Bench, subject: Subject, size: int, count: Callable[[Site], int]) -> None:
    def once(requests: int) -> Run:
        run = running.accepted(size, requests)
        if count(bench.site) != run.events:
            raise Failed(f"{subject.name}: {count(bench.site)} of {run.events} events stand in the queue")
        return run

    with alive(bench.site, bench.loader, subject) as running:
        runs = bench.repeated(size, once)
    bench.report.add(throughput(f"ingest {name_of(size)}", subject.name, runs))


def _booked(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return books.walk(client).queued


def _listed(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return int(client.llen(list_and_row.QUEUE))


STEP = Step(run, order=10)
