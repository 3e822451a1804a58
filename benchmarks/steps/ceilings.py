"""What the parts below MUTT can do by themselves: PostgreSQL's own COPY of the same rows."""

from __future__ import annotations

import time

from benchmarks.bench import Bench, Step
from benchmarks.figures import Figure
from benchmarks.rows import Writer
from benchmarks.site import Failed, Site

COPY = "server-side COPY"


def run(bench: Bench) -> None:
    """All of them."""
    server_side_copy(bench)


def server_side_copy(bench: Bench) -> Figure:
    """PostgreSQL reads the same rows from a file into the same table: measured once a run of the benchmark."""
    return bench.report.best(COPY, "") or _copied(bench)


def _copied(bench: Bench) -> Figure:
    with Writer(bench.site) as writer:
        writer.write(writer.batches(round(bench.plan.seconds * 20_000)))
    path = f"{bench.site.ask('SHOW data_directory')[0][0]}/bench.copy"
    bench.site.execute(f"COPY (SELECT * FROM event_audit_log) TO '{path}'")
    rates = [_copy(bench.site, path) for _ in range(bench.plan.times + 1)][1:]
    return bench.report.add(Figure(COPY, "", "rows/s", rates, note="one statement, one commit"))


def _copy(site: Site, path: str) -> float:
    count = site.rows()
    site.reset()
    started = time.perf_counter()
    site.execute(f"COPY event_audit_log FROM '{path}'")
    taken = time.perf_counter() - started
    if site.rows() != count:
        raise Failed(f"{site.rows()} rows of {count} were copied")
    return count / taken


STEP = Step(run, order=0)
