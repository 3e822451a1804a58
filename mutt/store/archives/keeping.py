"""Keeping: a month's rows become files, which are read back before anybody takes the rows away."""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import psycopg2.sql
import pyarrow as pa
from sqlalchemy import Connection

from mutt.errors import ArchiveUnreadable
from mutt.store.archives import checking, manifest, parquet, sums
from mutt.store.archives.duck import Duck, named
from mutt.store.archives.manifest import File, Manifest
from mutt.store.archives.parquet import Writer
from mutt.store.archives.sums import NOTHING, Sums
from mutt.store.audit import AuditRow
from mutt.store.partitions import Partition

#: A slice of the month is sorted by PostgreSQL: so many rows, about.
SLICE_ROWS = 100_000
FIRST, SHORTEST, LONGEST = timedelta(minutes=15), timedelta(milliseconds=1), timedelta(days=31)

_CSV = (
    "header = true, delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, "
    "auto_detect = false, parallel = false, max_line_size = 4194304, buffer_size = 16777216"
)
_WHOLE = "SELECT * FROM read_parquet(?)"
_NEW = (
    "SELECT * FROM read_parquet(?) AS new ANTI JOIN (SELECT event_id, received_at FROM read_parquet(?) "
    "WHERE received_at >= ?::TIMESTAMPTZ AND received_at < ?::TIMESTAMPTZ) AS old USING (event_id, received_at) "
    "WHERE received_at >= ?::TIMESTAMPTZ AND received_at < ?::TIMESTAMPTZ ORDER BY received_at, event_id"
)
#: Those of the same rows that are not copied: the archive has their keys.
_HAD = _NEW.replace("ANTI JOIN", "SEMI JOIN").partition(" ORDER BY")[0]


def keep(conn: Connection, month: Partition, duck: Duck, now: datetime) -> None:
    """Bring every row of a month that nobody writes to into its archive, and prove it.

    A row that the archive has already (its month was restored) is not written again; the others become another file.
    What is written is ``pending``: say :func:`dropped` once the month is gone. Raises :class:`ArchiveUnreadable` if
    what is read back is not what stands in PostgreSQL, ``OSError`` if the disk fails.
    """
    name = manifest.month_of(month.name)
    stands, known = sums.of_table(conn, month.start, month.end), manifest.read(duck.directory, name)
    if known is not None and sums_of(known) == stands:
        checking.demand(duck, known)
    elif stands.rows == 0:
        manifest.change(duck.directory, name, lambda found: found)
    else:
        with partial_file(duck.directory, name) as partial:
            writer = written(partial, lambda out: _copy_out(conn, month, out))
            _settle(duck, name, partial, writer, stands, known, now, pending=True)


def dropped(directory: Path, month: str) -> None:
    """The month is gone from PostgreSQL: from now on its files are what is read."""
    manifest.change(directory, month, lambda found: _with(found, [_plain(file) for file in found.files]))


def convert(duck: Duck, month: str, now: datetime) -> list[str]:
    """Make archives of an older version (CSV) anew, and delete them once the new ones are proved. Their names."""
    done = []
    for old in manifest.old_files(duck.directory, month):
        stands, known = _sums_of_csv(duck, old), manifest.read(duck.directory, month)
        if stands.rows:
            with partial_file(duck.directory, month) as partial:
                writer = written(partial, functools.partial(_copy_csv, old))
                _settle(duck, month, partial, writer, stands, known, now, pending=False)
        old.unlink()
        done.append(old.name)
    return done


def sums_of(known: Manifest) -> Sums:
    """What the rows of all files of a month come to."""
    found = NOTHING
    for file in known.files:
        found += Sums(file.rows, int(file.checksum, 16))
    return found


def _settle(
    duck: Duck,
    month: str,
    partial: Path,
    writer: Writer,
    stands: Sums,
    known: Manifest | None,
    now: datetime,
    *,
    pending: bool,
) -> None:
    """Prove what was written, leave out what the archive has already, and note the rest."""
    if known is None or not known.files:
        return _note(duck, month, partial, writer, stands, now, pending)
    found = read_back(duck, partial)
    if found != stands:
        what = f"holds {found.rows} rows where {stands.rows} were written, or others; nothing is dropped"
        raise ArchiveUnreadable(partial.name, what)
    checking.demand(duck, known)
    with partial_file(duck.directory, month, "new") as second:
        had = list[Sums]()
        new = written(second, lambda out: had.append(_copy_new(duck, partial, writer, known, out)))
        came = read_back(duck, second)
        if had[0] + came != stands:
            raise ArchiveUnreadable(second.name, "is not what the archive lacked; nothing is dropped")
        if new.rows:
            _note(duck, month, second, new, came, now, pending)
    return None


def _note(
    duck: Duck, month: str, partial: Path, writer: Writer, found: Sums, now: datetime, pending: bool
) -> None:
    """Give the file its name and its place in the manifest, once it is read back and holds what was ``found``."""
    file = writer.noted(manifest.free_name(duck.directory, month).name, found, now)
    checking.demand_file(duck, partial, file)
    manifest.settle(partial, duck.directory / file.name)
    file = msgspec.structs.replace(file, pending=pending)
    manifest.change(duck.directory, month, lambda known: _with(known, [*known.files, file]))


def _with(known: Manifest, files: list[File]) -> Manifest:
    return msgspec.structs.replace(known, files=tuple(files))


def _plain(file: File) -> File:
    return msgspec.structs.replace(file, pending=False)


def written(path: Path, fill: Callable[[Writer], None]) -> Writer:
    """A new file, filled and synced."""
    writer = Writer(path)
    try:
        fill(writer)
        writer.close()
    except BaseException:  # whatever ended it: half a file is none
        writer.abandon()
        raise
    return writer


def read_back(duck: Duck, file: Path) -> Sums:
    """What a file holds."""
    with duck.asking() as conn:
        return sums.of_query(conn, _WHOLE, [str(file.absolute())])


def _copy_out(conn: Connection, month: Partition, writer: Writer) -> None:
    """Slice by slice of time: PostgreSQL sorts no more than one, and nobody holds more than a row group."""
    columns = psycopg2.sql.SQL(", ").join(map(psycopg2.sql.Identifier, AuditRow._fields))
    query = psycopg2.sql.SQL(
        "COPY (SELECT {} FROM {} WHERE received_at >= %s AND received_at < %s ORDER BY received_at, event_id) "
        "TO STDOUT (FORMAT csv)"
    ).format(columns, psycopg2.sql.Identifier(month.name))
    start, length = month.start, FIRST
    with contextlib.closing(conn.connection.cursor()) as cursor:
        while start < month.end:
            end, taker = min(start + length, month.end), Taker(writer)
            cursor.copy_expert(cursor.mogrify(query, (start, end)), taker)
            taker.flush()
            start, length = end, next_length(length, taker.rows, SLICE_ROWS)


def next_length(length: timedelta, rows: int, wanted: int) -> timedelta:
    """The next slice of time, so that it has about as many rows as are wanted."""
    return min(max(length * min(4.0, max(0.1, wanted / max(rows, 1))), SHORTEST), LONGEST)


class Taker:
    """The file that COPY writes CSV to: psycopg2 gives it a row at a time."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._rows, self._bytes, self.rows = writer, list[bytes](), 0, 0

    def write(self, row: bytes) -> None:
        self._rows.append(row)
        self._bytes += len(row)
        if self._bytes >= parquet.GROUP_BYTES // 2:
            self.flush()

    def flush(self) -> None:
        self.rows += len(self._rows)
        rows, self._rows, self._bytes = self._rows, [], 0
        if rows:
            self._writer.write(parquet.of_csv(b"".join(rows)))


def _copy_new(duck: Duck, file: Path, written: Writer, known: Manifest, out: Writer) -> Sums:
    """The rows of ``file`` that no file of ``known`` has, a row group's time after another's.

    Answers what the rows that are left out come to.
    """
    old, had = named(duck.directory, [one.name for one in known.files]), NOTHING
    with duck.asking() as conn:
        for start, end in pairwise(written.begins):
            times = [start.isoformat(), end.isoformat()]
            given: list[object] = [str(file.absolute()), old, *times, *times]
            found = conn.sql(_NEW, params=given)
            for batch in found.to_arrow_reader(parquet.GROUP_ROWS):
                out.write(parquet.typed(pa.Table.from_batches([batch])))
            had += sums.of_query(conn, _HAD, given)
    return had


def _copy_csv(file: Path, writer: Writer) -> None:
    with gzip.open(file, "rb") as opened:
        for table in parquet.old_csv(opened):
            writer.write(table.sort_by([("received_at", "ascending")]))


def _sums_of_csv(duck: Duck, file: Path) -> Sums:
    """What an old archive holds, as another reader than the one that converts it reads it."""
    with gzip.open(file, "rt", encoding="utf-8", newline="") as opened:
        there = opened.readline().strip().split(",")
    if not set(there) <= set(AuditRow._fields):
        raise ArchiveUnreadable(file.name, "has columns that the audit never had")
    types = {"event_id": "UUID", "received_at": "TIMESTAMPTZ", "occurred_at": "TIMESTAMPTZ"}
    columns = ", ".join(
        f"{name}::{types.get(name, 'VARCHAR')} AS {name}" if name in there else f"NULL AS {name}"
        for name in AuditRow._fields
    )
    read = ", ".join(f"{name!r}: 'VARCHAR'" for name in there)
    query = f"SELECT {columns} FROM read_csv(?, columns = {{{read}}}, {_CSV})"  # noqa: S608
    with duck.asking() as conn:
        return sums.of_query(conn, query, [str(file.absolute())])


@contextlib.contextmanager
def partial_file(directory: Path, month: str, which: str = "all") -> Iterator[Path]:
    """Where a file is written before it has its name; gone afterwards."""
    path = directory / f".{manifest.table_of(month)}.{which}.{os.getpid()}.partial"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
