"""Baseline (a), list and row: LPUSH at the door; BRPOPLPUSH, one INSERT and COMMIT an event, LREM behind it.

``python -m benchmarks.list_and_row N`` is consumer N; ``benchmarks.list_and_row:door()`` the WSGI application.
"""

from __future__ import annotations

import signal
import sys
from functools import partial

import redis
from flask import Flask

from benchmarks.baseline import ALERTS, Rows, judge, make_door, read_rules
from mutt.settings import Settings
from mutt.streams.connect import Client

QUEUE, PROCESSING = "bench:events", "bench:processing:"

#: Seconds that a consumer waits before it looks whether it is to stop.
WAIT = 1


def door() -> Flask:
    """The ingest."""
    settings = Settings.from_env()
    client = redis.Redis.from_url(settings.redis_url)
    return make_door(partial(client.lpush, QUEUE), settings.ingest_api_key)


def consume(name: str, settings: Settings) -> None:
    """Work the list until told to stop."""
    client: Client = redis.Redis.from_url(settings.redis_url)
    rows, ruleset, processing = Rows(settings.database_url), read_rules(settings), PROCESSING + name
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    print("ready.", flush=True)
    while not stopping:
        queued = client.brpoplpush(QUEUE, processing, timeout=WAIT)
        if queued is None:
            continue
        judged = judge(queued, ruleset)
        rows.insert(judged.row)
        if judged.alert:
            client.lpush(ALERTS, judged.alert)
        client.lrem(processing, 1, queued)


if __name__ == "__main__":
    consume(sys.argv[1], Settings.from_env())
