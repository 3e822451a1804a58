"""Reading: the rows of archived months, as a page or in bulk. It imports no reader of files: every process has this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, select, text

from mutt.store.archives import manifest
from mutt.store.archives.duck import CHUNK, Duck, named
from mutt.store.archives.manifest import File
from mutt.store.audit import AuditRow
from mutt.store.lookup import TEXT_SHOWN, AuditSearch
from mutt.store.past import Rows
from mutt.store.tables import restored_months

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Line(NamedTuple):
    """One event as a list shows it."""

    event_id: UUID
    received_at: datetime
    hostname: str
    severity: int | None
    source: str
    handling: str
    team: str | None
    matched_rule_id: int | None
    ruleset_version: int
    correlation_id: str
    message: str


class Source(NamedTuple):
    """What of a time stands in files alone: each file with its month."""

    parts: tuple[tuple[str, File], ...] = ()

    @property
    def months(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(month for month, _ in self.parts))

    @property
    def names(self) -> list[str]:
        return [file.name for _, file in self.parts]

    def since(self, at: datetime) -> Source:
        """Those of its files that hold something of then or later."""
        return Source(tuple(part for part in self.parts if part[1].last >= at))

    def until(self, at: datetime) -> Source:
        """Those of its files that hold something of then or earlier."""
        return Source(tuple(part for part in self.parts if part[1].first <= at))

    def estimate(self, since: datetime, until: datetime) -> int:
        """About how many rows of a time they hold, as if these had come evenly."""
        total = 0.0
        for _, file in self.parts:
            whole = max((file.last - file.first).total_seconds(), 1.0)
            shared = (min(until, file.last) - max(since, file.first)).total_seconds()
            total += file.rows * min(1.0, max(0.0, shared + 1) / whole)
        return round(total)


NO_FILES = Source()


_THERE = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'event_audit_log'::regclass"
)

#: Rows that are counted, at most, to tell whether a file's are all in the table.
_ENOUGH = 1_000

_BOTH = text(
    "SELECT EXISTS (SELECT FROM event_audit_log WHERE received_at = :first)"
    " AND EXISTS (SELECT FROM event_audit_log WHERE received_at = :last)"
    " AND :rows = (SELECT count(*) FROM (SELECT FROM event_audit_log"
    " WHERE received_at BETWEEN :first AND :last LIMIT :rows) AS found)"
)


def source(
    conn: Connection, directory: Path, since: datetime | None = None, until: datetime | None = None
) -> Source:
    """The files of archived months that hold what was received in a time (both ends included).

    A month that was restored is read from PostgreSQL, and so is one that is being archived, or is gone elsewhere and
    still there on this server. Raises :class:`ArchiveUnreadable`.
    """
    found = manifest.listed(directory)
    if not found:
        return NO_FILES
    back, there = restored(conn), set(conn.execute(text(_THERE)).scalars())
    files = Source(
        tuple(
            (month.month, file)
            for month in found
            if not (month.month in back and month.table in there)
            for file in month.files
        )
    )
    files = files if since is None else files.since(since)
    files = files if until is None else files.until(until)
    return Source(
        tuple(
            (month, file)
            for month, file in files.parts
            if not (manifest.table_of(month) in there and _in_table(conn, file))
        )
    )


def _in_table(conn: Connection, file: File) -> bool:
    """Do a file's rows stand in the table, too? Where its partition is there for late rows alone they do not.

    Told by the first, the last and as many between. Of a file of one instant it can't be, unless its month is going.
    """
    if file.first == file.last and not file.pending:
        return False
    given = {"first": file.first, "last": file.last, "rows": min(file.rows, _ENOUGH)}
    return bool(conn.execute(_BOTH, given).scalar_one())


def restored(conn: Connection) -> dict[str, Row[Any]]:
    """The months that were put back, by their names (2026-05)."""
    return {row.month: row for row in conn.execute(select(restored_months))}


# -- a page


def search(duck: Duck, files: Sequence[str], asked: AuditSearch, seconds: float, limit: int) -> list[Line]:
    """The rows that are asked for, from the page's edge on: the newest first, or the oldest after ``asked.after``.

    Raises :class:`StoreDown`, :class:`ArchiveUnreadable`.
    """
    where, given = conditions(asked)
    way = "ASC" if asked.after is not None else "DESC"
    columns = ", ".join(_SHOWN.get(name, name) for name in Line._fields)
    query = (
        f"SELECT {columns} FROM read_parquet(?) WHERE {where} "  # noqa: S608
        f"ORDER BY received_at {way}, event_id {way} LIMIT ?"
    )
    with duck.asking(seconds) as conn:
        found = conn.execute(query, [named(duck.directory, files), *given, limit]).fetchall()
    return [Line(row[0], _time(row[1]), *row[2:]) for row in found]


def count(duck: Duck, files: Sequence[str], asked: AuditSearch, seconds: float, most: int) -> int:
    """How many rows :func:`search` would find, counted up to ``most``."""
    where, given = conditions(asked)
    query = f"SELECT count(*) FROM (SELECT 1 FROM read_parquet(?) WHERE {where} LIMIT ?)"  # noqa: S608
    with duck.asking(seconds) as conn:
        found = conn.execute(query, [named(duck.directory, files), *given, most]).fetchone()
    return int(found[0]) if found else 0


_SHOWN = {"received_at": "epoch_us(received_at)", "message": f"left(message, {TEXT_SHOWN})"}


def conditions(asked: AuditSearch) -> tuple[str, list[Any]]:
    """What follows WHERE, and its values: nothing that somebody typed stands in the statement."""
    told: list[tuple[str, list[Any]]] = [
        (f"{name} = ?", [value])
        for name, value in (
            ("hostname", asked.hostname),
            ("handling", asked.handling),
            ("source", asked.source),
        )
        if value
    ]
    if asked.rule_id is not None:
        told.append(("matched_rule_id = ?", [asked.rule_id]))
    if asked.severity is not None:
        told.append(("severity <= ?", [asked.severity]))
    if asked.text:
        told.append(("contains(lower(message), lower(?))", [asked.text]))
    for at, way in ((asked.since, ">="), (asked.until, "<=")):
        if at is not None:
            told.append((f"received_at {way} ?::TIMESTAMPTZ", [_said(at)]))
    for key, way in ((asked.before, "<"), (asked.after, ">")):
        if key is not None:
            edge = _said(key.at)
            told.append((f"received_at {way}= ?::TIMESTAMPTZ", [edge]))
            told.append(
                (f"(received_at {way} ?::TIMESTAMPTZ OR event_id {way} ?::UUID)", [edge, str(key.id)])
            )
    return " AND ".join(one for one, _ in told) or "true", [value for _, values in told for value in values]


def by_id(
    duck: Duck, files: Sequence[str], ids: Sequence[UUID], at: datetime | None, seconds: float, most: int
) -> list[SimpleNamespace]:
    """The rows of these ids, whole, the newest first; with ``at`` the one that was received then."""
    columns = ", ".join(f"epoch_us({name})" if name.endswith("_at") else name for name in AuditRow._fields)
    when, given = ("AND received_at = ?::TIMESTAMPTZ", [_said(at)]) if at else ("", [])
    query = (
        f"SELECT {columns} FROM read_parquet(?) "  # noqa: S608
        f"WHERE event_id IN ({', '.join(['?::UUID'] * len(ids))}) {when} ORDER BY received_at DESC LIMIT ?"
    )
    with duck.asking(seconds) as conn:
        found = conn.execute(query, [named(duck.directory, files), *map(str, ids), *given, most]).fetchall()
    rows = [dict(zip(AuditRow._fields, row, strict=True)) for row in found]
    times = ("received_at", "occurred_at")
    return [SimpleNamespace(**{**row, **{name: _time(row[name]) for name in times}}) for row in rows]


# -- in bulk


class _Interrupt:
    """What a watch cancels."""

    def __init__(self, conn: duckdb.DuckDBPyConnection) -> None:
        self._conn, self.closed = conn, False

    def cancel(self) -> None:
        self._conn.interrupt()


_ROWS = (
    "SELECT make_timestamp(epoch_us(received_at))::VARCHAR || '+00', event_id, hostname, "
    "coalesce(severity::VARCHAR, ''), source, message, coalesce(matched_rule_id::VARCHAR, ''), "
    "ruleset_version::VARCHAR, handling, coalesce(team, ''), coalesce(context, ''){raw} "
    "FROM read_parquet(?) WHERE received_at >= ?::TIMESTAMPTZ AND received_at < ?::TIMESTAMPTZ"
)


def read(
    duck: Duck,
    files: Sequence[str],
    since: datetime,
    until: datetime,
    each: Callable[[Rows], None],
    *,
    raw: bool = False,
    reading: Callable[[Any], AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """As :func:`mutt.store.past.read`, from files. Raises :class:`ArchiveUnreadable`, :class:`StoreDown`."""
    if not files:
        return
    with duck.asking() as conn, reading(_Interrupt(conn)):
        query = _ROWS.format(raw=", raw" if raw else "")
        found = conn.sql(query, params=[named(duck.directory, files), _said(since), _said(until)])
        for batch in found.to_arrow_reader(CHUNK):
            if batch.num_rows:
                each(_rows(batch))


#: Columns of which most rows are never looked at.
_SELDOM = ("event_id", "hostname", "severity", "source", "team")


def _rows(batch: pa.RecordBatch) -> Rows:
    columns = zip(Rows._fields, batch.columns, strict=False)  # raw is not always there
    return Rows(*(Seldom(column) if name in _SELDOM else column.to_pylist() for name, column in columns))


class Seldom(Sequence[str]):
    """A column whose values become Python's when somebody asks for them."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return str(self._column[index].as_py())

    def __iter__(self) -> Iterator[str]:
        return map(str, self._column.to_pylist())


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _said(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
