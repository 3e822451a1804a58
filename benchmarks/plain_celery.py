"""Baseline (b), plain Celery: one task, one INSERT and COMMIT an event.

``celery -A benchmarks.plain_celery worker`` works; ``benchmarks.plain_celery:door()`` is the WSGI application.
"""

from __future__ import annotations

import functools

import redis
from celery import Celery
from flask import Flask

from benchmarks.baseline import ALERTS, Rows, judge, make_door, read_rules
from mutt.rules.evaluate import Ruleset
from mutt.settings import Settings

QUEUE = "celery"

_settings = Settings.from_env()

app = Celery("plain", broker=_settings.redis_url)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


def door() -> Flask:
    """The ingest."""
    return make_door(lambda event: store.apply_async((event.decode(),)), _settings.ingest_api_key)


@functools.cache
def _tools() -> tuple[Rows, Ruleset, redis.Redis]:
    # Made in the child, at its first task: a parent must not share its sockets.
    return Rows(_settings.database_url), read_rules(_settings), redis.Redis.from_url(_settings.redis_url)


@app.task(name="bench.store")
def store(queued: str) -> None:
    """One event."""
    rows, ruleset, client = _tools()
    judged = judge(queued, ruleset)
    rows.insert(judged.row)
    if judged.alert:
        client.lpush(ALERTS, judged.alert)
