"""How MUTT is: what went through, the settings, how the promises to users hold, and which MUTT it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from sqlalchemy import Connection

from mutt import __version__, names
from mutt.errors import SettingsError
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import throughput
from mutt.store.throughput import Sums
from mutt.streams import books
from mutt.web import reading
from mutt.web.api.routes import COUNT, TEXT, TIME, Json, Reply, Route, listing, obj, or_null
from mutt.web.api.wire import CURRENT, VERSIONS

#: What is promised to users: the share of good answers, and the seconds within which 99 % of them come.
OBJECTIVES = {"ingest": (0.999, 0.5), "forward": (0.995, 2.0)}

#: Over so long the forwarding objective is measured.
MEASURED = timedelta(hours=1)

_SPAN: Json = obj("events alerts", events=COUNT, alerts=COUNT)
_NUMBER: Json = {"type": "number"}
_SLO: Json = obj(
    "availability p99_seconds objective",
    availability=or_null(_NUMBER),
    p99_seconds=or_null(_NUMBER),
    objective=obj("availability p99_seconds", availability=_NUMBER, p99_seconds=_NUMBER),
    measured=TEXT,
)


#: Spans whose sums are told, by what they are called.
SPANS = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1), "24h": timedelta(days=1)}


class _State:
    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/metrics",
                self.metrics,
                "Events and alerts of the last 15 minutes, hour and day, an hour at a time; queues and books",
                "metrics",
                obj(
                    "now spans chart",
                    now=obj("queues books", queues=or_null({"type": "object"}), books=or_null({"type": "object"})),
                    spans=obj("15m 1h 24h", **{"15m": _SPAN, "1h": _SPAN, "24h": _SPAN}),
                    chart={
                        "type": "array",
                        "items": obj("hour events alerts", hour=TIME, events=COUNT, alerts=COUNT),
                    },
                ),
            ),
            Route(
                "GET",
                "/config",
                self.config,
                "The settings of this process. They are read when it starts: none changes while it runs",
                "config",
                listing(
                    "settings",
                    obj(
                        "name value changes_at_run_time",
                        name=TEXT,
                        value={},
                        is_set={"type": "boolean"},
                        changes_at_run_time={"const": False},
                    ),
                ),
            ),
            Route(
                "GET",
                "/slo",
                self.slo,
                "How the service levels hold",
                "slo",
                obj("ingest forward", ingest=_SLO, forward=_SLO),
            ),
            Route(
                "GET",
                "/dead-letters",
                self.letters,
                "How many dead letters each queue holds",
                "dead-letters",
                obj("queues", queues={"type": "object", "additionalProperties": COUNT}),
            ),
            Route(
                "GET",
                "/version",
                self.version,
                "Which MUTT this is",
                "version",
                obj(
                    "version api_version supported_versions",
                    version=TEXT,
                    api_version=TEXT,
                    supported_versions={"type": "array", "items": TEXT},
                ),
            ),
        ]  # fmt: skip

    def metrics(self) -> Reply:
        now = datetime.now(UTC)

        def ask(conn: Connection) -> tuple[Sequence[tuple[datetime, Sums]], dict[str, Sums]]:
            hours = throughput.by_hour(conn, now - timedelta(days=1))
            return hours, {name: throughput.since(conn, now - span) for name, span in SPANS.items()}

        hours, spans = reading.read(self._services, ask)
        return Reply(
            {
                "now": self._now(),
                "spans": {name: sums._asdict() for name, sums in spans.items()},
                "chart": [{"hour": at.isoformat(), **sums._asdict()} for at, sums in hours],
            }
        )

    def _now(self) -> dict[str, Any]:
        try:
            client = self._services.redis
            elsewhere = self._services.elsewhere
            depths = books.depths(client, self._services.queues, books.clock(client), elsewhere)
            ledger = books.read(client, *elsewhere)
        except (redis.RedisError, SettingsError):
            return {"queues": None, "books": None}
        return {
            "queues": {
                depth.queue: {"entries": depth.entries, "oldest_s": depth.oldest_s} for depth in depths
            },
            "books": {"events": dict(ledger.events), "alerts": dict(ledger.alerts)},
        }

    def config(self) -> Reply:
        settings = self._services.settings
        return Reply({"settings": [_setting(settings, field) for field in dataclasses.fields(Settings)]})

    def slo(self) -> Reply:
        now = datetime.now(UTC)
        forward = reading.read(self._services, lambda conn: throughput.forwarded(conn, now - MEASURED))
        told = self._services.metrics.ingest_levels()
        return Reply(
            {
                "ingest": _level(
                    "ingest", told.availability, told.p99, "since the processes of ingest began"
                ),
                "forward": _level(
                    "forward", forward.availability, forward.p99, "alerts raised in the last hour"
                ),
            }
        )

    def letters(self) -> Reply:
        client = self._services.redis
        return Reply({"queues": {queue: client.xlen(stream) for queue, stream in names.DLQS.items()}})

    def version(self) -> Reply:
        supported = list(VERSIONS)
        return Reply({"version": __version__, "api_version": CURRENT, "supported_versions": supported})


def routes(services: Services) -> list[Route]:
    return _State(services).routes()


def _setting(settings: Settings, field: dataclasses.Field[Any]) -> dict[str, Any]:
    name = field.metadata.get("env") or field.name.upper()
    value = getattr(settings, field.name)
    secret = field.metadata.get("secret", False)
    # A secret is never shown, nor how long it is.
    shown = None if secret else value if isinstance(value, bool | int | float) else _public(str(value))
    return {"name": name, "value": shown, "is_set": bool(value) or value == 0, "changes_at_run_time": False}


def _public(value: str) -> str:
    """An address without what may be secret in it: user, password and query."""
    if "://" not in value:
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return "(no address)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _level(name: str, availability: float | None, p99: float | None, measured: str) -> dict[str, Any]:
    wanted, within = OBJECTIVES[name]
    return {
        "availability": availability,
        "p99_seconds": p99,
        "objective": {"availability": wanted, "p99_seconds": within},
        "measured": measured,
    }
