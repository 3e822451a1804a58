"""Health: is this process well, and does it have what it needs. What it counted is told elsewhere (``mutt.told``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
import redis
from flask import Blueprint, Response

from mutt import __version__, names
from mutt.services import Services

#: Seconds for which an answer to whoever asks is good.
FRESH = 1.0

#: One need of a process: raises if it is not met, says in a word how it stands.
Need = Callable[[], str]


def redis_need(services: Services) -> Need:
    """Redis answers, and takes writes."""

    def ask() -> str:
        services.redis.set(names.READY, services.role, px=1000)
        return "ok"

    return ask


def servers_need(services: Services) -> Need:
    """One of the servers over which the ingest queue is spread answers, and takes writes."""

    def ask() -> str:
        failed: redis.RedisError | None = None
        for name in services.inlets:
            try:
                services.ingest_servers[name].takes_writes()
            except redis.RedisError as error:
                failed = error
            else:
                return "ok"
        raise failed or redis.ConnectionError("there is none")

    return ask


class Needs(NamedTuple):
    """What has to be met for a process to be ready: all of these, and one of those, if there are any."""

    all_of: Mapping[str, Need]
    one_of: Mapping[str, Need] = {}

    def look(self) -> tuple[bool, dict[str, str]]:
        """Are they met, and how each stands."""
        either = {name: _state(need) for name, need in self.one_of.items()}
        all_of = {name: _state(need) for name, need in self.all_of.items()}
        met = set(all_of.values()) <= {"ok"} and (not either or "ok" in either.values())
        return met, either | all_of


class Now:
    """Whether needs are met, for whoever asks without a key: looked at once a second, and one waits for that alone."""

    def __init__(self, needs: Needs, clock: Callable[[], float] = time.monotonic) -> None:
        self._needs, self._clock = needs, clock
        self._met: bool | None = None
        self._until = float("-inf")
        self._lock = threading.Lock()

    def met(self) -> bool:
        """Are they? While somebody looks, others hear what was found last."""
        if self._clock() >= self._until and self._lock.acquire(blocking=self._met is None):
            try:
                if self._clock() >= self._until:
                    self._met = self._needs.look()[0]
                    self._until = self._clock() + FRESH
            finally:
                self._lock.release()
        return bool(self._met)


def ingest_needs(services: Services, keys: Need) -> Needs:
    """What ingest needs: Redis; with ``INGEST_SPILL`` that or the spill, and to have read the API keys once. Where its
    queue is spread, one of the servers, and the keys likewise."""
    redis_ = servers_need(services) if services.is_spread else redis_need(services)
    if services.is_spread and not services.settings.ingest_spill:
        return Needs({"keys": keys, "redis": redis_})
    if not services.settings.ingest_spill:
        return Needs({"redis": redis_})
    return Needs({"keys": keys}, {"redis": redis_, "spill": services.spill.has_room})


def ingest_health(services: Services, keys: Need) -> Blueprint:
    """``/healthz`` and ``/readyz`` of ingest."""
    return _blueprint(services, ingest_needs(services, keys))


def health(services: Services, needs: dict[str, Need]) -> Blueprint:
    """``/healthz`` and ``/readyz``. Ready: all needs are met."""
    return _blueprint(services, Needs(needs))


def _blueprint(services: Services, needs: Needs) -> Blueprint:
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "ok", "version": __version__, "role": services.role})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        ready, states = needs.look()
        return _json({"status": "ok" if ready else "not ready", "needs": states}, 200 if ready else 503)

    return blueprint


def _state(need: Need) -> str:
    try:
        return need()
    except Exception as error:  # noqa: BLE001 a probe's edge: whatever is wrong with a need is its state, never a 500
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")
