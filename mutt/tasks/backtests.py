"""mutt.backtests.*: drafts of the rules over the stored past, on a queue and in a worker of their own."""

from __future__ import annotations

from typing import Any

from celery import signals

from mutt.backtest import jobs
from mutt.celery import app
from mutt.tasks.base import MuttTask, services

#: A worker that does nothing else gives way to everybody else on its machine.
NICE = 10

_stopping = False


@app.task(bind=True, base=MuttTask, name="mutt.backtests.run", acks_late=False)
def run(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Do the back-tests that wait.

    Its doorbell is acknowledged at once: it would be given out again while a long job runs. The job stands in
    PostgreSQL, and is taken over where its worker is gone.
    """
    return self.work(lambda: jobs.work(services(), lambda: _stopping))


@signals.worker_shutting_down.connect
def _stop(**_kwargs: Any) -> None:
    global _stopping
    _stopping = True
