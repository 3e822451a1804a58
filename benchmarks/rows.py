"""Audit rows without a queue in front: evaluated beforehand, written as a worker writes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from benchmarks import corpus
from benchmarks.runs import Cost, Meter
from benchmarks.site import Failed, Site
from mutt.event import Event
from mutt.rules.evaluate import evaluate
from mutt.rules.rule import Verdict
from mutt.settings import Settings
from mutt.store.engine import make_engine
from mutt.store.facade import AuditStore
from mutt.store.rulebook import Rulebook

#: Rows that one COPY writes: as many as an evaluating worker takes at a time.
ROWS = 500


class Judged(NamedTuple):
    """An event as a worker has it when it writes its row."""

    event: Event
    verdict: Verdict
    batch_id: str
    correlation_id: str


Batches = Sequence[Sequence[Judged]]


class Writer:
    """One worker's store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> Writer:
        settings = Settings.from_env({}, database_url=self._site.database_url)
        self._engine = make_engine(settings, role="bench")
        self._store = AuditStore(self._engine, Rulebook("NETO"))
        with self._store.transaction() as tx:
            self._ruleset = tx.ruleset()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: TracebackType | None) -> None:
        self._engine.dispose()

    def batches(self, count: int) -> Batches:
        """``count`` events, evaluated, :data:`ROWS` at a time; the times of their arrival are now."""
        made = []
        for first in range(0, count, ROWS):
            events = corpus.parsed(list(corpus.events(ROWS, seed=first)))
            verdicts = [(event, evaluate(event, self._ruleset)) for event in events]
            made.append([Judged(event, verdict, f"bench-{first}", "bench") for event, verdict in verdicts])
        return made

    def write(self, batches: Batches) -> Cost:
        """A transaction a batch, into empty tables. Raises Failed if a row is missing."""
        self._site.reset()
        meter, cpu, started = Meter(self._site.roles), time.process_time(), time.perf_counter()
        for rows in batches:
            with self._store.transaction() as tx:
                tx.write(rows, self._ruleset.version, [], [])
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
        count = sum(map(len, batches))
        if self._site.rows() != count:
            raise Failed(f"{self._site.rows()} rows of {count} were written")
        return meter.cost(count, taken, {"writer": cpu})
