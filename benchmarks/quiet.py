"""Workers and a door that tell nobody about their tasks: what Celery's task events cost is the difference."""

from __future__ import annotations

from mutt.celery import app

__all__ = ["app"]

app.conf.worker_send_task_events = False
app.conf.task_send_sent_event = False
