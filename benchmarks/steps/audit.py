"""COPY of finished rows by one worker, 500 a transaction, against the server's own COPY of the same rows."""

from __future__ import annotations

from benchmarks.bench import Bench, Step, throughput
from benchmarks.figures import MUTT
from benchmarks.rows import ROWS, Writer
from benchmarks.steps.ceilings import server_side_copy


def run(bench: Bench) -> None:
    """One writer."""
    ceiling = server_side_copy(bench)
    with Writer(bench.site) as writer:
        batches = writer.batches(round(bench.plan.seconds * 20_000))
        runs = [writer.write(batches) for _ in range(bench.plan.times + 1)][1:]
    note = f"{ROWS} rows a transaction, encoded, copied and committed"
    figure = throughput("audit COPY, 1 writer", MUTT, runs, unit="rows/s", note=note)
    bench.report.add(figure.as_share(ceiling, "server-side COPY"))


STEP = Step(run, order=30)
