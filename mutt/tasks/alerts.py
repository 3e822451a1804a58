"""mutt.alerts.*: evaluate what stands in ``mutt:ingest_queue``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mutt.celery import app
from mutt.entry import Entry, Move
from mutt.logs import correlated
from mutt.pipeline.work import Counts
from mutt.tasks.base import MuttTask, drain_queue, services

log = logging.getLogger("mutt.alerts")


def evaluate_queue() -> dict[str, Any]:
    """One drain: events become audit rows and alerts."""
    counts = Counts()
    metrics, meter, traces = services().metrics, services().meters["alerts"], services().traces

    def work(entries: Sequence[Entry]) -> list[Move]:
        started, before = time.monotonic(), asdict(counts)
        moves = services().evaluator.evaluate_entries(entries)
        counts.add(moves)
        did = {name: value - before[name] for name, value in asdict(counts).items()}
        lag = time.time() - min(entry.at for entry in entries)
        took = time.monotonic() - started
        metrics.evaluated_batch(did, took, lag)
        meter.did(did["events"], [took])
        if traces is not None:
            traces.taken("evaluate", moves, took)
        ids = (one for move in moves for one in move.correlation_ids)
        log.info(
            "evaluated", extra={**did, "took_s": round(took, 4), "lag_s": round(lag, 3), **correlated(ids)}
        )
        return moves

    ended = drain_queue("ingest_queue", work, services().evaluator.shares, rest=meter.busy.rest)
    return {**asdict(counts), **ended} if counts.batches else ended


@app.task(bind=True, base=MuttTask, name="mutt.alerts.evaluate")
def evaluate(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """A doorbell of ``mutt:ingest_queue`` rang."""
    return self.work(evaluate_queue)
