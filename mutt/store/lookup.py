"""What pages ask: read-only questions with a short deadline, so that a look never holds up the work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, literal, select, text, tuple_

from mutt.store.engine import transaction
from mutt.store.patience import allow
from mutt.store.tables import alerts, config_audit_log, device_teams, event_audit_log

#: Seconds that one question may take.
PATIENCE = 5

#: How far back the audit is searched when nothing narrows the search: its table has no index on the time alone.
DEFAULT_SPAN = timedelta(minutes=15)

#: Dates begin with the year 1.
_EARLIEST = datetime.min.replace(tzinfo=UTC)

#: Characters of a text that a list shows.
TEXT_SHOWN = 1000


#: How far back alerts are searched by what no index leads to.
ALERTS_SPAN = timedelta(days=7)


class Key(NamedTuple):
    """Where a page of a list ends: the time and the id of its last row."""

    at: datetime
    id: UUID


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list, the newest first: all times aware, both ends included; a page before or after a row."""

    since: datetime | None = None
    until: datetime | None = None
    before: Key | None = None  #: the next older rows
    after: Key | None = None  #: the next newer rows
    limit: int = 100


class AuditSearch(Span, frozen=True, kw_only=True):
    """Which audit rows are wanted. Empty: any."""

    hostname: str = ""
    rule_id: int | None = None
    handling: str = ""
    severity: int | None = None  #: this one and all that are worse
    source: str = ""
    text: str = ""  #: in the message, ignoring case

    def narrowed(self, now: datetime) -> AuditSearch:
        """The same with a beginning, where no index leads to the rows: that of a host's or of a rule's does."""
        by_index = self.hostname or self.rule_id is not None
        read_all = self.handling or self.severity is not None or self.source or self.text
        if self.since is not None or (by_index and not read_all):
            return self
        return msgspec.structs.replace(self, since=_back(self, now, DEFAULT_SPAN))


class AlertSearch(Span, frozen=True, kw_only=True):
    """Which alerts are wanted. Empty: any."""

    status: str = ""
    held: str = ""  #: what held it back: the first word of its reason, as in ``maintenance:3``
    hostname: str = ""
    lane: str = ""
    rule_id: int | None = None
    team: str = ""

    def narrowed(self, now: datetime) -> AlertSearch:
        """The same with a beginning, where no index leads to the rows: that of those that wait does."""
        wanted = self.held or self.hostname or self.lane or self.rule_id is not None or self.team
        if self.since is not None or (not wanted and self.status in ("", "waiting")):
            return self
        return msgspec.structs.replace(self, since=_back(self, now, ALERTS_SPAN))


def _back(asked: Span, now: datetime, span: timedelta) -> datetime:
    end = asked.until or (asked.before.at if asked.before else now)
    return max(end, _EARLIEST + span) - span


class Rows(NamedTuple):
    """A page of a list, the newest first, and whether there are others on either side."""

    rows: Sequence[Row[Any]]
    older: bool
    newer: bool


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One read-only transaction. Raises :class:`StoreDown`, also for a question that takes too long."""
    with transaction(engine) as conn:
        conn.execute(text("SET LOCAL transaction_read_only = on"))
        allow(conn, PATIENCE)
        yield conn


def search_audit(conn: Connection, asked: AuditSearch) -> Rows:
    """Audit rows, without their raw text."""
    at = event_audit_log.c
    return _page(conn, _audited(asked), at.received_at, at.event_id, asked)


def _audited(asked: AuditSearch) -> Select[Any]:
    at = event_audit_log.c
    columns = [at[name] for name in ("event_id", "received_at", "hostname", "severity", "source", "handling")]
    columns += [at[name] for name in ("team", "matched_rule_id", "ruleset_version", "correlation_id")]
    query: Select[Any] = select(*columns, func.left(at.message, TEXT_SHOWN).label("message"))
    query = query.where(*conditions(asked))
    if asked.since is not None:
        query = query.where(at.received_at >= asked.since)
    if asked.until is not None:
        query = query.where(at.received_at <= asked.until)
    return query


def conditions(asked: AuditSearch) -> list[ColumnElement[bool]]:
    """What is wanted of a row beside its time."""
    at = event_audit_log.c
    wanted = {"hostname": asked.hostname, "handling": asked.handling, "source": asked.source}
    found: list[ColumnElement[bool]] = [at[name] == value for name, value in wanted.items() if value]
    if asked.rule_id is not None:
        found.append(at.matched_rule_id == asked.rule_id)
    if asked.severity is not None:
        found.append(at.severity <= asked.severity)
    if asked.text:
        found.append(at.message.icontains(asked.text, autoescape=True))
    return found


def count_audit(conn: Connection, asked: AuditSearch, most: int) -> int:
    """How many rows :func:`search_audit` would find, counted up to ``most``."""
    found = _audited(asked).with_only_columns(literal(1)).limit(most).subquery()
    return conn.execute(select(func.count()).select_from(found)).scalar_one()


def audit_page(conn: Connection, asked: AuditSearch, *, limit: int, skip: int) -> Sequence[Row[Any]]:
    """The rows from the ``skip``-th on, the newest first: for those who know pages by their number."""
    at = event_audit_log.c
    query = _audited(asked).order_by(at.received_at.desc(), at.event_id.desc())
    return conn.execute(query.limit(limit).offset(skip)).all()


def _page(conn: Connection, query: Select[Any], time: Any, id_: Any, asked: Span) -> Rows:
    """The rows of a page: from its edge on, and one more, which says whether there are others."""
    if asked.after is not None:
        # The time for itself, too: by it months are left out.
        query = query.where(time >= asked.after.at, tuple_(time, id_) > tuple_(*map(literal, asked.after)))
        found = list(conn.execute(query.order_by(time, id_).limit(asked.limit + 1)))
        more = len(found) > asked.limit
        return Rows(found[: asked.limit][::-1], older=True, newer=more)
    if asked.before is not None:
        query = query.where(time <= asked.before.at, tuple_(time, id_) < tuple_(*map(literal, asked.before)))
    found = list(conn.execute(query.order_by(time.desc(), id_.desc()).limit(asked.limit + 1)))
    return Rows(found[: asked.limit], older=len(found) > asked.limit, newer=asked.before is not None)


def search_alerts(conn: Connection, asked: AlertSearch) -> Rows:
    """Alerts and what became of them."""
    at = alerts.c
    columns = [at[name] for name in ("alert_id", "event_id", "received_at", "hostname", "rule_id", "team")]
    columns += [at[name] for name in ("lane", "severity", "state", "status", "attempts", "delivered_at")]
    shown = [func.left(at[name], TEXT_SHOWN).label(name) for name in ("description", "reason")]
    query: Select[Any] = select(*columns, at.moog_status, *shown)
    wanted = {"status": asked.status, "hostname": asked.hostname, "lane": asked.lane, "team": asked.team}
    query = query.where(*(at[name] == value for name, value in wanted.items() if value))
    if asked.rule_id is not None:
        query = query.where(at.rule_id == asked.rule_id)
    if asked.held:
        query = query.where(at.status == "cancelled", func.split_part(at.reason, ":", 1) == asked.held)
    if asked.since is not None:
        query = query.where(at.received_at >= asked.since)
    if asked.until is not None:
        query = query.where(at.received_at <= asked.until)
    return _page(conn, query, at.received_at, at.alert_id, asked)


def newest_changes(
    conn: Connection,
    *,
    table: str = "",
    record: str = "",
    who: str = "",
    operation: str = "",
    correlation_id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> Sequence[Row[Any]]:
    """Changes of the configuration, the newest first; ``before`` is the id of the change that a page ended with."""
    at = config_audit_log.c
    wanted = {"table_name": table, "record_id": record, "operation": operation}
    wanted |= {"correlation_id": correlation_id, "changed_by": who}
    query = select(config_audit_log).where(*(at[name] == value for name, value in wanted.items() if value))
    if since is not None:
        query = query.where(at.at >= since)
    if until is not None:
        query = query.where(at.at <= until)
    if before is not None:
        query = query.where(at.id < before)
    return conn.execute(query.order_by(at.id.desc()).limit(limit)).all()


def change(conn: Connection, note_id: int) -> Row[Any] | None:
    """One change of the configuration."""
    return conn.execute(select(config_audit_log).where(config_audit_log.c.id == note_id)).first()


def undone(conn: Connection, note_ids: Sequence[int]) -> dict[int, int]:
    """Which of these changes were taken back: their ids, with that of the change that did it."""
    at = config_audit_log.c
    found = conn.execute(select(at.undoes, at.id).where(at.undoes.in_(note_ids)).order_by(at.id))
    return {row.undoes: row.id for row in found}


def changed_tables(conn: Connection) -> Sequence[str]:
    """The tables that the history speaks of."""
    query = select(config_audit_log.c.table_name).distinct().order_by(config_audit_log.c.table_name)
    return conn.execute(query).scalars().all()


def team_of(conn: Connection, hostname: str, *, lock: bool = False) -> str | None:
    """The team of a device that has one of its own. ``lock`` keeps it so until the transaction ends."""
    query = select(device_teams.c.team_assignment).where(device_teams.c.hostname == hostname)
    return conn.execute(query.with_for_update() if lock else query).scalar_one_or_none()
