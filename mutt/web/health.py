"""Health: is this process well, does it have what it needs, and what has it counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import redis
from flask import Blueprint, Response
from prometheus_client import core

from mutt import __version__, names
from mutt.errors import SettingsError, Unavailable
from mutt.services import Services
from mutt.streams import books

#: One need of a process: raises if it is not met, says in a word how it stands.
Need = Callable[[], str]

#: What a probe writes, to see that Redis takes writes: it may be full, or a replica after a failover.
READY = "mutt:ready"

BREAKER_STATES = {"": 0, "closed": 0, "half_open": 1, "open": 2}


def redis_need(services: Services) -> Need:
    """Redis answers, and takes writes."""

    def ask() -> str:
        services.redis.set(READY, services.role, px=1000)
        return "ok"

    return ask


def ingest_health(services: Services, keys: Need) -> Blueprint:
    """What ingest needs: Redis; with ``INGEST_SPILL`` that or the spill, and to have read the API keys once."""
    redis_ = redis_need(services)
    if not services.settings.ingest_spill:
        return health(services, {"redis": redis_})
    return health(services, {"keys": keys}, either={"redis": redis_, "spill": services.spill.has_room})


def health(services: Services, needs: dict[str, Need], *, either: dict[str, Need] | None = None) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``. Ready: all needs are met, and one of ``either``."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "ok", "version": __version__, "role": services.role})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        one_of = {name: _state(need) for name, need in (either or {}).items()}
        all_of = {name: _state(need) for name, need in needs.items()}
        ready = set(all_of.values()) <= {"ok"} and (not one_of or "ok" in one_of.values())
        states = one_of | all_of
        return _json({"status": "ok" if ready else "not ready", "needs": states}, 200 if ready else 503)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        return Response(
            services.metrics.exposition(RedisGauges(services), SpillGauges(services)),
            mimetype="text/plain; version=0.0.4",
        )

    return blueprint


def _state(need: Need) -> str:
    try:
        return need()
    except Exception as error:  # noqa: BLE001 a probe's edge: whatever is wrong with a need is its state, never a 500
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")


class RedisGauges:
    """What stands in Redis, read when it is asked for: depths, ages, the books, the breaker."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        try:
            depths = books.depths(self._services.redis, self._services.queues, time.time())
            ledger = books.read(self._services.redis)
            state = self._services.redis.hget(names.BREAKER, "state") or b""
        except (redis.RedisError, SettingsError):
            return  # nothing is said of what can't be asked; the counters go out all the same
        yield from _queues(depths)
        number = BREAKER_STATES.get(state.decode(), 0)
        yield _gauge("mutt_breaker_state", "Moog's breaker: 0 closed, 1 half open, 2 open", {(): number})
        sums = {("events", name): n for name, n in ledger.events.items()}
        sums |= {("alerts", name): n for name, n in ledger.alerts.items()}
        yield _gauge("mutt_ledger", "The books", sums, ["of", "what"])


class SpillGauges:
    """What stands in PostgreSQL's spill, where there is one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        if not self._services.settings.ingest_spill:
            return  # PostgreSQL is not asked
        try:
            stands = self._services.spill.standing()
        except (Unavailable, SettingsError):
            return
        yield _gauge("mutt_spill_events", "Events in the spill", {(): stands.events})
        yield _gauge("mutt_spill_bytes", "Bytes in the spill", {(): stands.bytes})
        yield _gauge("mutt_spill_oldest_seconds", "Age of its oldest round", {(): stands.oldest_s})
        yield _gauge("mutt_spill_set_aside", "Rounds that can't flow back", {(): stands.set_aside})


def _queues(depths: list[books.Depth]) -> Iterator[core.Metric]:
    live = [d for d in depths if not d.queue.startswith("dlq:")]
    dead = [d for d in depths if d.queue.startswith("dlq:")]
    yield _gauge(
        "mutt_queue_depth",
        "Entries in a queue, and alerts behind them",
        {(d.queue,): d.waiting for d in live},
        ["queue"],
    )
    yield _gauge(
        "mutt_queue_oldest_seconds", "Age of its oldest", {(d.queue,): d.oldest_s for d in live}, ["queue"]
    )
    parked = {(d.queue.removeprefix("dlq:"),): d.entries for d in dead}
    yield _gauge("mutt_dlq_depth", "Dead letters", parked, ["queue"])


def _gauge(
    name: str, help_: str, values: Mapping[Any, float], labels: list[str] | None = None
) -> core.Metric:
    metric = core.GaugeMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        metric.add_metric(list(key), value)
    return metric
