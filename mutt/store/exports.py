"""Exports: every row of a search, whole, in the order of time, however many there are.

It is read in slices of time, a transaction each: nothing holds back vacuum, and nobody holds more than a part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from sqlalchemy import Connection, Engine, select, text

from mutt.errors import StoreDown
from mutt.store import lookup, partitions, past
from mutt.store.archives import bulk, parquet, reading
from mutt.store.archives.duck import Duck
from mutt.store.archives.keeping import next_length
from mutt.store.audit import AuditRow
from mutt.store.engine import transaction
from mutt.store.lookup import AuditSearch
from mutt.store.patience import allow
from mutt.store.tables import event_audit_log

COLUMNS = AuditRow._fields

#: Rows of a slice, about; bytes that one may have before it is read again in halves; seconds that it may take.
SLICE_ROWS, SLICE_BYTES, PATIENCE = 50_000, 64 << 20, 60.0
FIRST, SHORTEST = timedelta(minutes=15), timedelta(milliseconds=1)

#: A slice that PostgreSQL broke off is read again; a replica does so where its server cleans up.
TRIES, _AGAIN = 4, "40001"


class Part(NamedTuple):
    """Some rows, and how much of the time is done with them."""

    rows: pa.Table
    share: float


class _TooMuch(Exception):
    """A slice has more bytes than one may."""


class _Moved(Exception):
    """A month was archived or put back while a slice was read."""


def span(conn: Connection, duck: Duck, asked: AuditSearch, now: datetime) -> tuple[datetime, datetime]:
    """From when to when there is anything to export, the end not included."""
    end = now + timedelta(days=1)
    if asked.until is not None and asked.until < now:
        end = asked.until + timedelta(microseconds=1)
    starts = [month.start for month in partitions.listing(conn)] + partitions.months_in_default(conn)
    starts += [file.first for _, file in reading.source(conn, duck.directory).parts]
    oldest = min(starts, default=now)
    return min(max(asked.since or oldest, oldest), end), end


def estimate(conn: Connection, duck: Duck, since: datetime, until: datetime) -> int:
    """About how many events were received between: what a search narrows can't be told without searching."""
    archived = reading.source(conn, duck.directory, since, until).estimate(since, until)
    return past.estimate(conn, since, until) + archived


def export(
    engine: Engine, duck: Duck, asked: AuditSearch, since: datetime, until: datetime
) -> Iterator[Part]:
    """The rows of a search from ``since`` up to, not including, ``until``. Raises :class:`StoreDown`, …"""
    broken, whole = 0, max((until - since).total_seconds(), 1e-6)
    start, length = since, FIRST
    while start < until:
        end = min(start + length, until)
        try:
            tables = _slice(engine, duck, asked, start, end, most=SLICE_BYTES if length > SHORTEST else None)
        except _TooMuch:
            length = max(length / 4, SHORTEST)
            continue
        except _Moved:
            continue
        except StoreDown as error:
            broken += 1
            if error.sqlstate != _AGAIN or broken == TRIES:
                raise
            length = max(length / 2, SHORTEST)
            continue
        broken = 0
        share = (end - since).total_seconds() / whole
        for table in tables:
            yield Part(table, share)
        if not tables:
            yield Part(parquet.SCHEMA.empty_table(), share)
        start, length = end, next_length(length, sum(table.num_rows for table in tables), SLICE_ROWS)


def _slice(
    engine: Engine, duck: Duck, asked: AuditSearch, start: datetime, end: datetime, *, most: int | None
) -> list[pa.Table]:
    last = end - timedelta(microseconds=1)
    taker = _Taker(most)
    with transaction(engine) as conn:
        conn.execute(text("SET LOCAL transaction_read_only = on"))
        allow(conn, PATIENCE)
        files = reading.source(conn, duck.directory, start, last).names
        _copy(conn, asked, start, end, taker)
        # COPY may have waited for the month to go, or to come. From its lock on none moves.
        if files != reading.source(conn, duck.directory, start, last).names:
            raise _Moved
    found = taker.tables()
    if files:
        with contextlib.closing(bulk.whole(duck, files, asked, start, last, PATIENCE)) as archived:
            for table in archived:
                found.append(table)
                taker.count(table.nbytes)
    if len(found) > 1 and files:
        found = [_once(pa.concat_tables(found))]
    return found


def _once(rows: pa.Table) -> pa.Table:
    """In the order of time, the first of each key: what is archived may have come in once more."""
    ids = pa.chunked_array([chunk.storage for chunk in rows["event_id"].chunks])
    keys = pa.table({"at": rows["received_at"], "id": ids, "n": pa.array(range(rows.num_rows))})
    first = keys.group_by(["at", "id"], use_threads=False).aggregate([("n", "min")])
    return rows.take(first.sort_by([("at", "ascending"), ("id", "ascending")])["n_min"])


def _copy(conn: Connection, asked: AuditSearch, start: datetime, end: datetime, taker: _Taker) -> None:
    at = event_audit_log.c
    columns = select(*(at[name] for name in COLUMNS)).where(at.received_at >= start, at.received_at < end)
    query = columns.where(*lookup.conditions(asked)).order_by(at.received_at, at.event_id)
    compiled: Any = query.compile(dialect=conn.dialect)
    with contextlib.closing(conn.connection.cursor()) as cursor:
        bound = cursor.mogrify(str(compiled), compiled.params).decode()
        try:
            cursor.copy_expert(f"COPY ({bound}) TO STDOUT (FORMAT csv)", taker)
        except Exception as error:
            if taker.full:  # psycopg2 wraps what the taker raised
                raise _TooMuch from error
            raise


class _Taker:
    """What COPY writes to: at most ``most`` bytes."""

    def __init__(self, most: int | None) -> None:
        self._most, self._rows, self._bytes = most, list[bytes](), 0

    @property
    def full(self) -> bool:
        return self._most is not None and self._bytes > self._most

    def write(self, row: bytes) -> None:
        self._rows.append(row)
        self.count(len(row))

    def count(self, size: int) -> None:
        self._bytes += size
        if self.full:
            raise _TooMuch

    def tables(self) -> list[pa.Table]:
        rows, self._rows = self._rows, []
        return [parquet.of_csv(b"".join(rows))] if rows else []
