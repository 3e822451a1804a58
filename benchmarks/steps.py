"""What is measured, a function a step; each adds its figures to the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import redis

from benchmarks import corpus, list_and_row, subjects
from benchmarks.figures import END_TO_END, LIST_AND_ROW, MUTT, PLAIN_CELERY, SINGLE, Figure, Report
from benchmarks.load import Loader
from benchmarks.runs import Alive, Run, alive, middle, repeated
from benchmarks.site import Failed, Site
from benchmarks.subjects import Subject
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.pipeline.ports import Written
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.settings import Settings
from mutt.store.engine import make_engine
from mutt.store.facade import AuditStore
from mutt.store.rulebook import Rulebook
from mutt.streams import books

#: Requests of the first warm-up, by events a request.
FIRST = {1: 300, 100: 40, 500: 20}

#: Rows that one COPY writes: as many as an evaluating worker takes at a time.
ROWS = 500


@dataclass(frozen=True)
class Plan:
    """How long and how often. ``seconds`` is about one run's length; ``pool`` replaces the workers' pool."""

    seconds: float = 5.0
    times: int = 3
    latency_seconds: float = 20.0
    sizes: tuple[int, ...] = (1, 100, 500)
    baselines: tuple[str, ...] = (LIST_AND_ROW, PLAIN_CELERY)
    consumers: tuple[int, ...] = (1, 2)
    alerts: int = 2
    pool: str = ""


#: Everything within a minute, servers' start included.
QUICK = Plan(
    seconds=1.5, times=2, latency_seconds=4.0, sizes=(1, 500), baselines=(LIST_AND_ROW,), consumers=(1, 2)
)


@dataclass(frozen=True)
class Bench:
    """What every step is given."""

    site: Site
    loader: Loader
    report: Report
    plan: Plan


def name_of(size: int) -> str:
    """How a size is called in the table."""
    return SINGLE if size == 1 else f"x{size}"


def baselines(bench: Bench) -> None:
    """Both baselines from end to end, one event a request: what the ratios are taken against."""
    made: list[Subject] = []
    if LIST_AND_ROW in bench.plan.baselines:
        made += [subjects.lists_and_rows(bench.site, consumers) for consumers in bench.plan.consumers]
    if PLAIN_CELERY in bench.plan.baselines:
        made.append(subjects.plainly_celery(bench.site))
    for subject in made:
        with alive(bench.site, bench.loader, subject) as running:
            _end_to_end(bench, running, 1)


def end_to_end(bench: Bench, running: Alive) -> None:
    """MUTT from the first POST to the last committed row, for each size of request."""
    for size in bench.plan.sizes:
        _end_to_end(bench, running, size)


def _end_to_end(bench: Bench, running: Alive, size: int) -> None:
    runs = _repeated(bench, size, lambda requests: running.end_to_end(size, requests))
    bench.report.add(_figure(f"{END_TO_END} {name_of(size)}", running.subject.name, runs))


def _figure(name: str, subject: str, runs: Sequence[Run]) -> Figure:
    cpu, others = middle(runs).cpu_each(), max(run.others for run in runs)
    return Figure(name, subject, "events/s", [run.rate for run in runs], cpu, others=others)


def latency(bench: Bench, running: Alive) -> None:
    """Single POSTs at half of what MUTT takes from end to end: how long a sender waits for its 202."""
    capacity = bench.report.best(f"{END_TO_END} {SINGLE}", MUTT)
    if capacity is None:
        _end_to_end(bench, running, 1)
        capacity = bench.report.best(f"{END_TO_END} {SINGLE}", MUTT)
    assert capacity
    rate = capacity.median / 2
    requests = round(rate * bench.plan.latency_seconds)
    running.end_to_end(1, round(rate), rate)
    runs = [running.end_to_end(1, requests, rate) for _ in range(bench.plan.times)]
    note = f"at {rate:,.0f} events/s, half of capacity; sent late (p99) {max(r.sent.late_p99 for r in runs):.2g} ms"
    others = max(run.others for run in runs)
    for name, values in (
        ("p50", [run.sent.p50 for run in runs]),
        ("p99", [run.sent.p99 for run in runs]),
        ("p999", [run.sent.p999 for run in runs]),
    ):
        bench.report.add(Figure(f"latency {name} {SINGLE}", MUTT, "ms", values, note=note, others=others))


def ingest(bench: Bench) -> None:
    """The door alone: POST to 202, with nobody working behind it."""
    if LIST_AND_ROW in bench.plan.baselines:
        subject = subjects.lists_and_rows(bench.site, 0)
        _ingest(bench, replace(subject, name=LIST_AND_ROW), 1, _listed)
    for size in bench.plan.sizes:
        _ingest(bench, subjects.mutt_itself(bench.site, alerts=0), size, _booked)


def _ingest(bench: Bench, subject: Subject, size: int, count: Callable[[Site], int]) -> None:
    def once(requests: int) -> Run:
        run = running.accepted(size, requests)
        if count(bench.site) != run.events:
            raise Failed(f"{subject.name}: {count(bench.site)} of {run.events} events stand in the queue")
        return run

    with alive(bench.site, bench.loader, subject) as running:
        runs = _repeated(bench, size, once)
    bench.report.add(_figure(f"ingest {name_of(size)}", subject.name, runs))


def _booked(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return books.walk(client).queued


def _listed(site: Site) -> int:
    with redis.Redis.from_url(site.redis_url) as client:
        return int(client.llen(list_and_row.QUEUE))


def _repeated(bench: Bench, size: int, once: Callable[[int], Run]) -> list[Run]:
    return repeated(once, first=FIRST[size], seconds=bench.plan.seconds, times=bench.plan.times)


def rules(bench: Bench) -> None:
    """``evaluate`` alone, on one core, with more and more rules; every verdict is checked."""
    for count in (100, 1_000, 10_000):
        given = [check_rule(rule, rule_id=number) for number, rule in enumerate(corpus.rules(count))]
        ruleset = Ruleset.compile(1, given, (), {})
        sent = list(corpus.events(5_000, rules=count))
        events = _parsed(sent)
        for event, one in zip(events, sent, strict=True):
            if evaluate(event, ruleset).rule_id != one.rule:
                raise Failed(
                    f"rule {one.rule} was to match, not {evaluate(event, ruleset).rule_id}: {event.message}"
                )
        runs = [_evaluated(events, ruleset, bench.plan.seconds / 2) for _ in range(bench.plan.times)]
        bench.report.add(Figure(f"evaluate, {count:,} rules", MUTT, "events/s a core", runs))


def _evaluated(events: Sequence[Event], ruleset: Ruleset, seconds: float) -> float:
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for event in events:
            evaluate(event, ruleset)
        rounds += 1
    return rounds * len(events) / (time.perf_counter() - started)


def _parsed(sent: Sequence[corpus.Sent]) -> list[Event]:
    context = Context(datetime.now(UTC), "bench", 1 << 18, "localhost")
    body = b"[" + b",".join(one.body for one in sent) + b"]"
    return registry.parse(registry.sniff(body, "application/json"), body, context).events


def audit(bench: Bench) -> None:
    """COPY of finished rows by one worker, against the server's own COPY of the same rows in one statement."""
    settings = Settings.from_env({}, database_url=bench.site.database_url)
    engine = make_engine(settings, role="bench")
    store = AuditStore(engine, Rulebook("NETO"))
    written = [
        _written(bench, store, round(bench.plan.seconds * 20_000)) for _ in range(bench.plan.times + 1)
    ]
    engine.dispose()
    note = f"{ROWS} rows a transaction, encoded, copied and committed"
    bench.report.add(Figure("audit COPY, 1 writer", MUTT, "rows/s", written[1:], note=note))
    ceiling = [_ceiling(bench.site) for _ in range(bench.plan.times + 1)]
    share = bench.report.figures[-1].median / sorted(ceiling[1:])[len(ceiling[1:]) // 2]
    note = f"one statement, one commit; a writer reaches {share:.0%} of it"
    bench.report.add(Figure("audit COPY, PostgreSQL's own", "", "rows/s", ceiling[1:], note=note))


def _written(bench: Bench, store: AuditStore, count: int) -> float:
    batches = []
    with store.transaction() as tx:
        ruleset = tx.ruleset()
    for first in range(0, count, ROWS):
        events = _parsed(list(corpus.events(ROWS, seed=first)))
        batches.append(
            [Written(event, evaluate(event, ruleset), f"bench-{first}", "bench") for event in events]
        )
    bench.site.reset()
    started = time.perf_counter()
    for rows in batches:
        with store.transaction() as tx:
            tx.write(rows, ruleset.version, [], [])
    taken = time.perf_counter() - started
    if bench.site.rows() != len(batches) * ROWS:
        raise Failed(f"{bench.site.rows()} rows of {len(batches) * ROWS} were written")
    return len(batches) * ROWS / taken


def _ceiling(site: Site) -> float:
    """Needs the rows of a run before it; leaves them there again."""
    count, path = site.rows(), f"{site.ask('SHOW data_directory')[0][0]}/bench.copy"
    site.execute(f"COPY (SELECT * FROM event_audit_log) TO '{path}'")
    site.reset()
    started = time.perf_counter()
    site.execute(f"COPY event_audit_log FROM '{path}'")
    taken = time.perf_counter() - started
    if site.rows() != count:
        raise Failed(f"{site.rows()} rows of {count} were copied")
    return count / taken
