"""What each index of the audit costs: the same rows by PostgreSQL's own COPY, with one index more each time."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench import Bench, Step
from benchmarks.figures import Figure
from benchmarks.rows import Writer
from benchmarks.site import Failed, Site

_TABLE = "bench_audit"

#: In the order in which they are added; the names are those of a row's columns.
_INDEXES = {
    "heap alone": "",
    "with the primary key": f"ALTER TABLE {_TABLE} ADD PRIMARY KEY (event_id, received_at)",
    "with host and time": f"CREATE INDEX ON {_TABLE} (hostname, received_at)",
    "with rule and time": f"CREATE INDEX ON {_TABLE} (matched_rule_id, received_at)"
    " WHERE matched_rule_id IS NOT NULL",
    "with time (BRIN)": f"CREATE INDEX ON {_TABLE} USING brin (received_at)",
    # The audit does not have this one: what full text would cost (decision 48).
    "with words (GIN), not in use": f"CREATE INDEX ON {_TABLE} USING gin (to_tsvector('simple', message))",
}


def run(bench: Bench) -> None:
    """From none to all."""
    with Writer(bench.site) as writer:
        writer.write(writer.batches(round(bench.plan.seconds * 20_000)))
    site, path = bench.site, Path(bench.site.ask("SHOW data_directory")[0][0]) / "bench.copy"
    site.execute(f"COPY (SELECT * FROM event_audit_log) TO '{path}'")
    site.execute(f"CREATE TABLE {_TABLE} (LIKE event_audit_log)")
    try:
        for name, statement in _INDEXES.items():
            if statement:
                site.execute(f"TRUNCATE {_TABLE}")
                site.execute(statement)
            _measure(bench, name, path)
    finally:
        site.execute(f"DROP TABLE {_TABLE}")
        site.reset()


def _measure(bench: Bench, name: str, path: Path) -> None:
    site, rows = bench.site, bench.site.rows()
    rates, written = [], 0
    for _ in range(bench.plan.times + 1):
        site.execute(f"TRUNCATE {_TABLE}")
        site.execute("CHECKPOINT")
        before, started = _position(site), time.perf_counter()
        site.execute(f"COPY {_TABLE} FROM '{path}'")
        rates.append(rows / (time.perf_counter() - started))
        written = _position(site) - before
        if site.ask(f"SELECT count(*) FROM {_TABLE}")[0][0] != rows:
            raise Failed(f"{rows} rows were not all copied")
    heap, indexes = site.ask(f"SELECT pg_table_size('{_TABLE}'), pg_indexes_size('{_TABLE}')")[0]
    note = f"a row: WAL {written / rows:.0f} B, heap {heap / rows:.0f} B, indexes {indexes / rows:.0f} B"
    bench.report.add(Figure(f"COPY {name}", "", "rows/s", rates[1:], note=note))


def _position(site: Site) -> int:
    """Bytes of WAL that were written so far."""
    return int(site.ask("SELECT pg_current_wal_insert_lsn() - '0/0'")[0][0])


STEP = Step(run, order=35)
