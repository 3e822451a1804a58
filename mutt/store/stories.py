"""What one event's or one alert's page asks: its rows, whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Row, Uuid, cast, func, select

from mutt.store.tables import alerts, event_audit_log

#: Rows of one event's id that are read: a sender that gives the same id again and again has many.
ROWS_MAX = 50

_audit, _alert = event_audit_log.c, alerts.c


def audited(conn: Connection, event_ids: Sequence[UUID], limit: int = ROWS_MAX) -> list[Row[Any]]:
    """The audit rows of these ids, the newest first; one that came again after the dedup window has several."""
    wanted = _audit.event_id == func.any_(cast(list(event_ids), ARRAY(Uuid)))
    query = select(event_audit_log).where(wanted).order_by(_audit.received_at.desc()).limit(limit)
    return list(conn.execute(query))


def newest_of_host(conn: Connection, hostname: str, limit: int) -> list[Row[Any]]:
    """The audit rows of a host, whole, the newest first."""
    query = select(event_audit_log).where(_audit.hostname == hostname)
    return list(conn.execute(query.order_by(_audit.received_at.desc()).limit(limit)))


def alerts_of(conn: Connection, event_id: UUID, received_at: datetime) -> list[Row[Any]]:
    """The alerts that an event brought: its own, and the clears that its late raise found waiting."""
    own = (_alert.event_id == event_id) & (_alert.received_at == received_at) & _alert.cause.is_(None)
    # Two statements: each walks its own index, an OR would walk neither.
    found = [row for which in (own, _alert.cause == event_id) for row in _alerts(conn, which)]
    return sorted(found, key=lambda row: (row.received_at, row.alert_id))


def alert(conn: Connection, alert_id: UUID) -> Row[Any] | None:
    """One alert's row."""
    return next(iter(_alerts(conn, _alert.alert_id == alert_id)), None)


def _alerts(conn: Connection, which: Any) -> list[Row[Any]]:
    return list(conn.execute(select(alerts).where(which).limit(ROWS_MAX)))
