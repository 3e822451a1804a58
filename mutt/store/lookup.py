"""What pages ask: read-only questions with a short deadline, so that a look never holds up the work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, Select, func, select, text

from mutt.store.engine import transaction
from mutt.store.patience import allow
from mutt.store.tables import alert_rules, alerts, config_audit_log, device_teams, event_audit_log

#: Seconds that one question may take.
PATIENCE = 5

#: How far back the audit is searched when nothing narrows the search: its table has no index on the time alone.
DEFAULT_SPAN = timedelta(minutes=15)

#: The earliest end that still has such a span before it: dates begin with the year 1.
_EARLIEST = datetime.min.replace(tzinfo=UTC) + DEFAULT_SPAN

#: Characters of a text that a list shows.
TEXT_SHOWN = 1000


class AuditSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Which audit rows are wanted. Empty: any. ``since`` and ``until`` are aware, both included."""

    hostname: str = ""
    rule_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100

    def narrowed(self, now: datetime) -> AuditSearch:
        """The same with a beginning, where neither host nor rule leads to the rows by an index."""
        if self.hostname or self.rule_id is not None or self.since is not None:
            return self
        return msgspec.structs.replace(self, since=max(self.until or now, _EARLIEST) - DEFAULT_SPAN)


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One read-only transaction. Raises :class:`StoreDown`, also for a question that takes too long."""
    with transaction(engine) as conn:
        conn.execute(text("SET LOCAL transaction_read_only = on"))
        allow(conn, PATIENCE)
        yield conn


def search_audit(conn: Connection, asked: AuditSearch) -> Sequence[Row[Any]]:
    """Audit rows, the newest first, without their raw text."""
    at = event_audit_log.c
    columns = [at[name] for name in ("event_id", "received_at", "hostname", "severity", "source", "handling")]
    columns += [at[name] for name in ("team", "matched_rule_id", "ruleset_version", "correlation_id")]
    query: Select[Any] = select(*columns, func.left(at.message, TEXT_SHOWN).label("message"))
    if asked.hostname:
        query = query.where(at.hostname == asked.hostname)
    if asked.rule_id is not None:
        query = query.where(at.matched_rule_id == asked.rule_id)
    query = _between(query, at.received_at, asked.since, asked.until)
    return conn.execute(query.order_by(at.received_at.desc()).limit(asked.limit)).all()


def _between(query: Select[Any], column: Any, since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(column >= since)
    return query if until is None else query.where(column <= until)


def newest_alerts(
    conn: Connection, *, status: str = "", hostname: str = "", limit: int = 100
) -> Sequence[Row[Any]]:
    """Alerts and what became of them, the newest first."""
    at = alerts.c
    columns = [at[name] for name in ("alert_id", "received_at", "hostname", "rule_id", "team", "lane")]
    columns += [
        at[name] for name in ("severity", "state", "status", "attempts", "delivered_at", "moog_status")
    ]
    shown = [func.left(at[name], TEXT_SHOWN).label(name) for name in ("description", "reason")]
    query = select(*columns, *shown)
    if status:
        query = query.where(at.status == status)
    if hostname:
        query = query.where(at.hostname == hostname)
    return conn.execute(query.order_by(at.received_at.desc()).limit(limit)).all()


def newest_changes(
    conn: Connection, *, table: str = "", record: str = "", limit: int = 100
) -> Sequence[Row[Any]]:
    """Changes of the configuration, the newest first."""
    at = config_audit_log.c
    query = select(config_audit_log)
    if table:
        query = query.where(at.table_name == table)
    if record:
        query = query.where(at.record_id == record)
    return conn.execute(query.order_by(at.at.desc(), at.id.desc()).limit(limit)).all()


def rule_changed_at(conn: Connection, rule_id: int, *, lock: bool = False) -> datetime | None:
    """When a rule was last changed; None: there is none. ``lock`` keeps it so until the transaction ends."""
    query = select(alert_rules.c.updated_at).where(alert_rules.c.id == rule_id)
    return conn.execute(query.with_for_update() if lock else query).scalar_one_or_none()


def team_of(conn: Connection, hostname: str, *, lock: bool = False) -> str | None:
    """The team of a device that has one of its own. ``lock`` keeps it so until the transaction ends."""
    query = select(device_teams.c.team_assignment).where(device_teams.c.hostname == hostname)
    return conn.execute(query.with_for_update() if lock else query).scalar_one_or_none()
