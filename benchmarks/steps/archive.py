"""A month as files: how fast and in how much memory it is archived, and how fast it is back-tested and searched."""

from __future__ import annotations

import resource
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine

from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Cost
from benchmarks.site import private_site
from benchmarks.steps import backtest
from benchmarks.steps.growth import fill_table
from mutt.backtest.draft import Draft
from mutt.settings import Settings
from mutt.store import retention
from mutt.store.archives import manifest, reading
from mutt.store.archives.duck import Duck
from mutt.store.engine import make_engine
from mutt.store.lookup import AuditSearch

STORED = 500_000
GOAL = "200,000 a second a core"


def run(bench: Bench) -> None:
    """The same rows and drafts as the step `backtest` has, on servers of its own; DuckDB has one thread."""
    with private_site() as site, TemporaryDirectory() as directory:
        told = {"audit_archive_dir": Path(directory) / "archive", "audit_archive_threads": 1}
        settings = Settings.from_env({}, database_url=site.database_url, **told)
        engine = make_engine(settings, role="bench")
        backtest.put_rules(engine, 10)
        stored = fill_table(site, STORED)
        draft = Draft.of_rule({"match_string": "jitter 0.1", "priority": 5})
        once = partial(backtest.backtest, settings, engine, draft, stored)
        table = bench.report.add(
            _a_core("back-test of the table, a core", backtest.measured(bench, site, stored, once))
        )
        _archive(bench, engine, Duck.of(settings), stored)
        files = _a_core(
            "back-test of the archive, a core", backtest.measured(bench, site, stored, once), goal=GOAL
        )
        bench.report.add(files.as_times(table, "the table"))
        _searches(bench, Duck.of(settings))
        engine.dispose()


def _archive(bench: Bench, engine: Engine, duck: Duck, stored: int) -> None:
    """This month, as if it were over; what is read back and compared is part of it."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    name = f"event_audit_log_{datetime.now(UTC):%Y_%m}"
    assert retention._retire(engine, name, datetime.now(UTC), duck)
    taken = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = manifest.listed(duck.directory)[0]
    bench.report.add(Figure("archive a month", MUTT, "rows/s", [stored / taken], note="proved and dropped"))
    bench.report.add(Figure("archive, bytes a row", MUTT, "bytes", [found.bytes / found.rows]))
    bench.report.add(
        Figure(
            "archive, peak memory above that of the back-test before", MUTT, "MiB", [(peak - before) / 2**10]
        )
    )


def _searches(bench: Bench, duck: Duck) -> None:
    """The first page, as the audit's own page asks."""
    found = manifest.listed(duck.directory)[0]
    names = [file.name for file in found.files]
    some = reading.search(duck, names, AuditSearch(), 0, 1)[0]
    asked = {
        "a page of an hour": AuditSearch(since=some.received_at - timedelta(hours=1)),
        "one host": AuditSearch(hostname=some.hostname),
        "a text that is not there": AuditSearch(text="no message says this"),
    }
    for name, one in asked.items():
        times = []
        for _ in range(bench.plan.times):
            began = time.perf_counter()
            reading.search(duck, names, one, 0, 101)
            times.append((time.perf_counter() - began) * 1000)
        bench.report.add(Figure(f"search an archive: {name}", MUTT, "ms", times, note=f"{found.rows:,} rows"))


def _a_core(name: str, costs: list[Cost], **more: str) -> Figure:
    rates = [cost.events / cost.cpu["backtest"] for cost in costs]
    return Figure(name, MUTT, "events/s", rates, note="by its own CPU time", **more)


STEP = Step(run, order=86)
