"""The past: stored events in bulk, for who judges them again. A slice of time is one transaction and one COPY."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, select, text, union_all

from mutt.event import Event
from mutt.store.audit import event_of
from mutt.store.engine import transaction
from mutt.store.partitions import listing
from mutt.store.patience import allow
from mutt.store.tables import rule_revisions, ruleset_versions

#: Seconds that one slice may take. It holds back vacuum for as long.
PATIENCE = 300.0

#: Rows that are handed on together.
CHUNK = 8_192

#: A version is in force within seconds; who is later than this judged by an older one, and its rows are judged anew.
SETTLED = timedelta(minutes=1)

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MEANT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_ROWS = (
    "COPY (SELECT received_at, event_id, hostname, severity, source, message, matched_rule_id, ruleset_version, "
    "handling, team, context{raw} FROM event_audit_log WHERE received_at >= %s AND received_at < %s) "
    "TO STDOUT (NULL '')"
)


class Rows(NamedTuple):
    """Stored events, column by column, as PostgreSQL writes them; what is NULL there is empty here."""

    received_at: Sequence[str]
    event_id: Sequence[str]
    hostname: Sequence[str]
    severity: Sequence[str]
    source: Sequence[str]
    message: Sequence[str]
    rule_id: Sequence[str]
    version: Sequence[str]
    handling: Sequence[str]
    team: Sequence[str]
    context: Sequence[str]
    raw: Sequence[str] = ()

    def event(self, index: int) -> Event:
        """The event of a row, as far as rules see it: its raw text is there where it was asked for."""
        at = datetime.fromisoformat(self.received_at[index])
        severity = self.severity[index]
        return event_of(
            SimpleNamespace(
                event_id=UUID(self.event_id[index]),
                received_at=at,
                occurred_at=at,
                hostname=self.hostname[index],
                message=self.message[index],
                item=0,
                severity=int(severity) if severity else None,
                source=self.source[index],
                raw=self.raw[index] if self.raw else "",
                context=self.context[index],
            )
        )


class Judges(NamedTuple):
    """What is known of those who judged since some time: nothing of versions before ``trusted_from``."""

    trusted_from: int
    revised: frozenset[int]  #: rules that were not always since then what they are now


def judges(conn: Connection, since: datetime) -> Judges:
    """Which versions judged what came in since then, and which rules differ between them and those that stand."""
    at = ruleset_versions.c
    begun = text("SELECT min(version) FROM ruleset_versions")
    before = conn.execute(
        select(at.version).where(at.at <= since - SETTLED).order_by(at.version.desc()).limit(1)
    ).scalar_one_or_none()
    first: int = conn.execute(begun).scalar_one() if before is None else before
    of = rule_revisions.c
    moved = union_all(
        *(
            select(of.table_name, of.record_id, bound.label("version")).where(bound > first)
            for bound in (of.since_version, of.until_version)
        )
    )
    trusted_from, revised = first, set()
    for table, record, version in conn.execute(moved):
        if table == "alert_rules":
            revised.add(int(record))
        elif table in ("development_hosts", "device_teams", "redactions"):
            trusted_from = max(trusted_from, version)
    return Judges(trusted_from, frozenset(revised))


def span(conn: Connection) -> tuple[datetime, int] | None:
    """Since when events are kept, and about how many; None: there are none."""
    months = [month for month in listing(conn) if month.rows_estimate]
    return (months[0].start, sum(month.rows_estimate for month in months)) if months else None


def estimate(conn: Connection, since: datetime, until: datetime) -> int:
    """About how many events came in between: a part of each month, as if they had come evenly until now."""
    now: datetime = conn.execute(text("SELECT now()")).scalar_one()
    total = 0.0
    for month in listing(conn):
        end = min(month.end, max(now, month.start + timedelta(seconds=1)))
        shared = (min(until, end) - max(since, month.start)).total_seconds()
        total += month.rows_estimate * max(0.0, shared) / (end - month.start).total_seconds()
    return round(total)


def read(
    engine: Engine,
    since: datetime,
    until: datetime,
    each: Callable[[Rows], None],
    *,
    raw: bool = False,
    reading: Callable[[Any], AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """Hand all events that came in from ``since`` up to, not including, ``until`` to ``each``, in no order.

    ``reading`` is held around it, with psycopg2's connection, which another thread may ``cancel()`` so long. Raises
    :class:`StoreDown`.
    """
    with transaction(engine) as conn:
        conn.execute(text("SET LOCAL transaction_read_only = on"))
        conn.execute(text("SET LOCAL timezone = 'UTC'"))
        conn.execute(text("SET LOCAL datestyle = 'ISO'"))
        allow(conn, PATIENCE)
        taker = _Taker(each)
        with contextlib.closing(conn.connection.cursor()) as cursor:
            statement = cursor.mogrify(_ROWS.format(raw=", raw" if raw else ""), (since, until))
            with reading(conn.connection.dbapi_connection):
                cursor.copy_expert(statement, taker)
            taker.flush()


class _Taker:
    """The file that COPY writes to: psycopg2 gives it a row at a time."""

    def __init__(self, each: Callable[[Rows], None]) -> None:
        self._each, self._rows = each, []  # type: tuple[Callable[[Rows], None], list[bytes]]

    def write(self, row: bytes) -> None:
        self._rows.append(row)
        if len(self._rows) == CHUNK:
            self.flush()

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._each(columns(b"".join(rows).decode()))


def columns(written: str) -> Rows:
    """What COPY wrote, column by column."""
    # A line break within a value is written as \\n, a tab as \\t: what is left of either ends a value.
    values = written.replace("\n", "\t").split("\t")
    width = written.count("\t", 0, written.index("\n")) + 1
    columns = [values[first:-1:width] for first in range(width)]
    if "\\" in written:
        columns = [_unescaped(column) for column in columns]
    return Rows(*columns)


def _unescaped(column: list[str]) -> list[str]:
    return [_ESCAPE.sub(_meant, value) if "\\" in value else value for value in column]


def _meant(found: re.Match[str]) -> str:
    return _MEANT.get(found[1], found[1])
