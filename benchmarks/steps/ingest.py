"""POST to 202 with nobody working behind the door; what was accepted is counted in the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import redis

from benchmarks import list_and_row, subjects
from benchmarks.bench import Bench, Step, name_of, throughput
from benchmarks.bodies import FORMS
from benchmarks.figures import LIST_AND_ROW, Figure
from benchmarks.runs import Alive, Run, alive
from benchmarks.site import Failed, Site
from benchmarks.steps.ceilings import bare_wsgi, packed_xadd
from mutt.streams import books


def run(bench: Bench) -> None:
    """The baseline's door, then MUTT's with each size and form of request."""
    if LIST_AND_ROW in bench.plan.baselines:
        baseline = replace(subjects.lists_and_rows(bench.site, 0), name=LIST_AND_ROW)
        with alive(bench.site, bench.loader, baseline) as running:
            _measured(bench, running, 1, "array", _listed)
    single, batch = bare_wsgi(bench), packed_xadd(bench)
    with alive(bench.site, bench.loader, subjects.mutt_itself(bench.site, alerts=0)) as running:
        for size in bench.plan.sizes:
            for form in FORMS:
                # One event is the same object in both.
                if (size, form) != (1, "NDJSON"):
                    _measured(bench, running, size, form, _booked, single if size == 1 else batch)


def _measured(
    bench: Bench,
    running: Alive,
    size: int,
    form: str,
    count: Callable[[Site], int],
    ceiling: Figure | None = None,
) -> None:
    def once(requests: int) -> Run:
        run = running.accepted(size, requests, form)
        if count(bench.site) != run.events:
            raise Failed(
                f"{running.subject.name}: {count(bench.site)} of {run.events} events are in the queue"
            )
        return run

    plain = form == "array"
    runs = (bench if plain else bench.shorter(0.25)).repeated(size, once)
    figure = throughput(f"ingest {name_of(size)}{'' if plain else f' {form}'}", running.subject.name, runs)
    bench.report.add(figure.as_share(ceiling) if ceiling else figure)


def _booked(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return books.walk(client).queued


def _listed(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return int(client.llen(list_and_row.QUEUE))


STEP = Step(run, order=10)
