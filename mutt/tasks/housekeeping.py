"""mutt.housekeeping.*: record what became of alerts."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from mutt.celery import app
from mutt.entry import Entry, Move
from mutt.logs import correlated
from mutt.pipeline.record import held_reasons
from mutt.tasks.base import MuttTask, drain_queue, services

log = logging.getLogger("mutt.housekeeping")


def record_queue() -> dict[str, Any]:
    """One drain: outcomes become the alerts' status."""
    recorded, meter, traces = 0, services().meters["housekeeping"], services().traces

    def work(entries: Sequence[Entry]) -> list[Move]:
        nonlocal recorded
        started = time.monotonic()
        moves = services().recorder.record_outcomes(entries)
        took = time.monotonic() - started
        meter.did(len(moves), [took])
        if traces is not None:
            traces.taken("record", moves, took)
        recorded += len(moves)
        services().metrics.recorded_batch(len(moves), held_reasons(moves), took)
        ids = (one for move in moves for one in move.correlation_ids)
        log.info("recorded", extra={"outcomes": len(moves), "took_s": round(took, 4), **correlated(ids)})
        return moves

    ended = drain_queue("delivery_queue", work, rest=meter.busy.rest)
    return {"recorded": recorded, **ended} if recorded else ended


@app.task(bind=True, base=MuttTask, name="mutt.housekeeping.record")
def record(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """A doorbell of ``mutt:delivery_queue`` rang."""
    return self.work(record_queue)
