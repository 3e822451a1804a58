"""10,000 rules in PostgreSQL: compiled, held in a worker's memory, and one saved while a backlog is drained."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psutil
from sqlalchemy import Engine, delete, insert

from benchmarks import corpus, subjects
from benchmarks.backlog import ROOM, fill, standing, watch
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Alive, alive
from benchmarks.site import Failed, Site, private_site
from benchmarks.steps.delays import KEPT
from mutt.rules.check import check_rule
from mutt.rules.matcher import check_expression
from mutt.store import rulebook
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.tables import alert_rules

RULES = 10_000

#: Events that wait while the rules change.
WAITING = 200_000
QUICK_SHARE = 0.5

#: Milliseconds between two commits of anybody, at the most; the first of a drain is its start.
_GAP = """
    SELECT max(gap) FROM (
        SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at))::float8 * 1000 AS gap
        FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM audit_ledger) AS commits
    ) AS gaps
"""


def run(bench: Bench) -> None:
    """On servers of this step's own: PostgreSQL has to keep when each transaction was committed."""
    with private_site(KEPT) as site:
        engine = one_shot_engine(site.database_url, role="bench")
        _put(engine)
        _compiled(bench, engine)
        _worked(replace(bench, site=site), engine)


def _put(engine: Engine) -> None:
    """Into the table at once: importing notes each rule in the history, which is not what is measured."""
    rules = [msgspec.to_builtins(check_rule(rule)) for rule in corpus.rules(RULES)]
    with transaction(engine) as conn:
        conn.execute(delete(alert_rules))
        conn.execute(insert(alert_rules), [_without_id(rule) for rule in rules])


def _without_id(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name != "id"}


def _compiled(bench: Bench, engine: Engine) -> None:
    def cold() -> None:
        check_expression.cache_clear()
        _load(engine)

    for name, load in (("first time", cold), ("again", lambda: _load(engine))):
        timed = [_timed(load) for _ in range(bench.plan.times + 1)][1:]
        note = f"read from PostgreSQL and compiled; {1000 * min(cpu for _, cpu in timed):.0f} ms of CPU"
        seconds = [wall for wall, _ in timed]
        bench.report.add(
            Figure(f"compile {RULES:,} rules, {name}", MUTT, "s", seconds, note=note, goal="under 1 s")
        )


def _load(engine: Engine) -> None:
    with transaction(engine) as conn:
        if len(rulebook.load(conn, "NETO").rules) != RULES:
            raise Failed("some rules are missing")


def _timed(once: Callable[[], None]) -> tuple[float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    once()
    return time.perf_counter() - started, time.process_time() - cpu


@dataclass(frozen=True)
class Drain:
    """One drain: the longest gap between two commits in ms, events a second, MiB of each worker's child."""

    gap: float
    rate: float
    memory: float


def _worked(bench: Bench, engine: Engine) -> None:
    """With every worker of the plan, for all of them see the new version at the same moment."""
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, told=ROOM)
    with alive(bench.site, bench.loader, subject) as running:
        _drain(bench, running, engine, save=False)
        calm = [_drain(bench, running, engine, save=False) for _ in range(bench.plan.times)]
        busy = [_drain(bench, running, engine, save=True) for _ in range(bench.plan.times)]
    memory = [one.memory for one in (*calm, *busy)]
    bench.report.add(
        Figure(f"memory of a worker's child, {RULES:,} rules", MUTT, "MiB", memory, goal="under 250")
    )
    base = Figure("longest gap between commits", MUTT, "ms", [one.gap for one in calm])
    saved = Figure(
        "longest gap between commits, a rule saved",
        MUTT,
        "ms",
        [one.gap for one in busy],
        goal="no pause",
        note=f"{RULES:,} rules; all workers compile at the same moment, and whoever saves before them",
    )
    bench.report.add(base)
    bench.report.add(saved.as_times(base, "without"))


def _drain(bench: Bench, running: Alive, engine: Engine, *, save: bool) -> Drain:
    running.site.reset()
    with standing(running):
        fill(running, round(WAITING * (QUICK_SHARE if bench.plan.quick else 1.0)))
    saved: list[int] = []

    def meanwhile(settled: float) -> None:
        if save and not saved and settled > 0.3:
            saved.append(_save(engine))

    drained = watch(running, meanwhile)
    if saved:
        _acted(running.site, saved[0])
    gap = float(running.site.ask(_GAP)[0][0])
    return Drain(gap, drained.rate(), _children(running))


def _save(engine: Engine) -> int:
    """A rule that matches nothing of the corpus, changed; the version that it made."""
    with transaction(engine) as conn:
        rule = next(rule for rule in rulebook.list_rules(conn) if rule.name == f"bench-{RULES - 1}")
        data = {"priority": rule.priority % 1000 + 1}
        rulebook.save_rule(conn, data, rule_id=rule.id, changed_by="bench", reason="benchmark")
        return rulebook.current_version(conn)


def _acted(site: Site, version: int) -> None:
    newest = site.ask("SELECT max(ruleset_version) FROM event_audit_log")[0][0]
    if newest != version:
        raise Failed(f"version {version} was saved, and {newest} judged the last events")


def _children(running: Alive) -> float:
    """MiB of the largest child that works."""
    children = [child for pid in running.roles["alerts"] for child in psutil.Process(pid).children()]
    return max(child.memory_info().rss for child in children) / (1 << 20)


STEP = Step(run, order=25)
