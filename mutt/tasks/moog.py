"""mutt.moog.*: forward what stands in the lanes."""

from __future__ import annotations

from typing import Any

from mutt.celery import app
from mutt.pipeline.forward import result_of
from mutt.tasks.base import MuttTask, services


def forward_queue() -> dict[str, Any]:
    """One turn."""
    turn = services().forwarder.forward_turn()
    services().metrics.budget_wait.observe(turn.waited_s)
    services().meters["moog"].did(len(turn.delivered), ())
    return result_of(turn)


@app.task(bind=True, base=MuttTask, name="mutt.moog.forward")
def forward(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """A doorbell of the lanes rang."""
    return self.work(forward_queue)
