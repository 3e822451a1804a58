"""What both baselines share: the same checks, the same verdict and the same row as MUTT's, one event at a time."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import orjson
import psycopg2
from flask import Flask, Response, request
from psycopg2.extras import register_uuid

from mutt.event import Event, uuid7
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.settings import Settings
from mutt.store.audit import AuditRow, audit_row
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.rulebook import load

#: Where the alerts go; nobody takes them, as nobody takes MUTT's while it is measured.
ALERTS = "bench:alerts"

_columns = AuditRow._fields
_INSERT = f"INSERT INTO event_audit_log ({', '.join(_columns)}) VALUES ({', '.join(['%s'] * len(_columns))})"


def make_door(push: Callable[[bytes], object], api_key: str) -> Flask:
    """An ingest that takes one event a request, checks it, stamps it and hands it to ``push``."""
    app = Flask("benchmarks.baseline", static_folder=None)

    @app.post("/ingest")
    def ingest() -> Response:
        if not hmac.compare_digest(request.headers.get("X-API-KEY", "").encode(), api_key.encode()):
            return _json({"error": "X-API-KEY is missing or not known"}, 401)
        body = request.get_data(cache=False)
        try:
            ids = stamped(body)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        push(orjson.dumps(ids))
        return _json({"status": "queued", "event_id": ids["event_id"], "batch_id": ids["batch_id"]}, 202)

    @app.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "ok"}, 200)

    return app


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")


def stamped(body: bytes) -> dict[str, str]:
    """One event with what ingest adds to it. Raises ValueError where it is none."""
    event = orjson.loads(body)
    if not isinstance(event, dict) or not event.get("hostname") or not event.get("message"):
        raise ValueError("an event is an object with a hostname and a message")
    return {
        "event_id": str(uuid7()),
        "received_at": datetime.now(UTC).isoformat(),
        "batch_id": str(uuid4()),
        "correlation_id": str(uuid4()),
        "raw": body.decode(),
    }


class Judged(NamedTuple):
    """What becomes of one event: its row, and its alert where a rule forwards it."""

    row: AuditRow
    alert: bytes | None


def judge(queued: bytes | str, ruleset: Ruleset) -> Judged:
    """Decode what the door pushed and evaluate it."""
    ids = orjson.loads(queued)
    event = _event(ids)
    verdict = evaluate(event, ruleset)
    row = audit_row(
        event,
        verdict,
        ruleset_version=ruleset.version,
        batch_id=ids["batch_id"],
        correlation_id=ids["correlation_id"],
    )
    if not verdict.forward:
        return Judged(row, None)
    alert = {"event_id": ids["event_id"], "hostname": event.hostname, "description": event.message}
    return Judged(
        row, orjson.dumps({**alert, "rule": ruleset.rule_name(verdict.rule_id), "team": verdict.team})
    )


def _event(ids: dict[str, str]) -> Event:
    sent = orjson.loads(ids["raw"])
    return Event(
        event_id=UUID(ids["event_id"]),
        received_at=datetime.fromisoformat(ids["received_at"]),
        occurred_at=datetime.fromisoformat(sent["timestamp"]),
        hostname=sent["hostname"],
        message=sent["message"],
        severity=sent.get("syslog_severity"),
        source=sent.get("source", "native"),
        program=sent.get("program"),
        raw=ids["raw"],
    )


class Rows:
    """One connection to PostgreSQL: one INSERT and one COMMIT an event."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg2.connect(database_url)
        self._cursor = self._connection.cursor()
        register_uuid(conn_or_curs=self._connection)  # type: ignore[no-untyped-call]

    def insert(self, row: AuditRow) -> None:
        self._cursor.execute(_INSERT, row)
        self._connection.commit()


def read_rules(settings: Settings) -> Ruleset:
    """The rules as MUTT compiles them: the baselines must not lose by slower matching."""
    with transaction(one_shot_engine(settings.database_url, role="bench")) as conn:
        return load(conn, settings.unhandled_default_team)
