"""Back-tests of a month's stored rows: one new rule and a whole ruleset, with 10 rules and with 10,000, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
from sqlalchemy import Engine, delete, insert, text

from benchmarks import corpus
from benchmarks.bench import Bench, Step, throughput
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Cost, Meter
from benchmarks.site import Failed, Site, private_site
from benchmarks.steps.growth import fill_table
from mutt.backtest.draft import Draft
from mutt.backtest.run import Question, Watch
from mutt.backtest.run import run as run_backtest
from mutt.rules.check import check_rule
from mutt.settings import Settings
from mutt.store import past
from mutt.store.engine import make_engine, transaction
from mutt.store.tables import alert_rules

COUNTS = (10, 10_000)

#: Rows that are read.
STORED = 500_000

GOAL = "100,000 a second a core"


class _Nowhere:
    """The file that takes what nobody wants."""

    def write(self, _row: bytes) -> None: ...


def run(bench: Bench) -> None:
    """On servers of this step's own. PostgreSQL's own COPY of the same rows and columns, to nowhere, is the ceiling."""
    with private_site() as site:
        settings = Settings.from_env({}, database_url=site.database_url)
        engine = make_engine(settings, role="bench")
        for count in COUNTS:
            put_rules(engine, count)
            stored = fill_table(site, STORED)
            ceiling = bench.report.add(_out(bench, site, engine, stored, count))
            whole = [{**rule, "priority": rule["priority"] + 1} for rule in corpus.rules(count)]
            drafts = {
                "a new rule": Draft.of_rule({"match_string": "jitter 0.1", "priority": 5}),
                "all rules changed": Draft.of_file(whole, replace=True),
            }
            for name, draft in drafts.items():
                once = partial(backtest, settings, engine, draft, stored)
                costs = measured(bench, site, stored, once)
                _report(bench, f"back-test, {count:,} rules, {name}", costs, ceiling)
        engine.dispose()


def put_rules(engine: Engine, count: int) -> None:
    """The rules as if they had stood for a year: each of this month's events was judged by them."""
    rules = [msgspec.to_builtins(check_rule(rule)) for rule in corpus.rules(count)]
    with transaction(engine) as conn:
        conn.execute(delete(alert_rules))
        conn.execute(insert(alert_rules), [{k: v for k, v in rule.items() if k != "id"} for rule in rules])
    with transaction(engine) as conn:
        conn.execute(text("UPDATE ruleset_versions SET at = at - interval '1 year'"))


def _question(draft: Draft) -> Question:
    now = datetime.now(UTC)
    return Question(draft, now - timedelta(days=32), now + timedelta(hours=1))


def backtest(settings: Settings, engine: Engine, draft: Draft, stored: int) -> None:
    told = run_backtest(_question(draft), settings, engine, engine, Watch())
    if told.events != stored or not told.matched:
        raise Failed(f"{told.events} events of {stored} were looked at, {told.matched} matched")


def _out(bench: Bench, site: Site, engine: Engine, stored: int, count: int) -> Figure:
    def once() -> None:
        with transaction(engine) as conn, conn.connection.cursor() as cursor:
            question = _question(Draft(rules=()))
            statement = cursor.mogrify(past._ROWS.format(raw=""), (question.since, question.until))
            cursor.copy_expert(statement, _Nowhere())

    runs = measured(bench, site, stored, once)
    return throughput(f"COPY OUT, judged by {count:,} rules", "", runs, unit="rows/s")


def measured(bench: Bench, site: Site, stored: int, once: Callable[[], None]) -> list[Cost]:
    costs = []
    for _ in range(bench.plan.times + 1):
        meter, cpu, began = Meter(site.roles), time.process_time(), time.perf_counter()
        once()
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu
        costs.append(meter.cost(stored, taken, {"backtest": cpu}))
    return costs[1:]


def _report(bench: Bench, name: str, costs: list[Cost], ceiling: Figure) -> None:
    clock = throughput(
        name, MUTT, costs, note=f"{STORED:,} rows; by the clock, rules read and compiled included"
    )
    bench.report.add(clock.as_share(ceiling, "COPY OUT"))
    rates = [cost.events / cost.cpu["backtest"] for cost in costs]
    bench.report.add(
        Figure(f"{name}, a core", MUTT, "events/s", rates, goal=GOAL, note="by its own CPU time")
    )


STEP = Step(run, order=85)
