"""Bulk: whole rows of archived months, as tables or as what PostgreSQL takes back."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mutt.errors import ArchiveUnreadable
from mutt.store.archives import parquet, reading
from mutt.store.archives.duck import CHUNK, Duck, named
from mutt.store.archives.manifest import Manifest
from mutt.store.audit import AuditRow
from mutt.store.lookup import AuditSearch

#: Characters of a UUID without hyphens, as PostgreSQL takes it, too.
_DIGITS = 32


def whole(
    duck: Duck, files: Sequence[str], asked: AuditSearch, since: datetime, until: datetime, seconds: float
) -> Generator[pa.Table, None, None]:
    """The rows that are asked for, whole, of a time (both ends included), in its order."""
    where, given = reading.conditions(
        msgspec.structs.replace(asked, since=since, until=until, before=None, after=None)
    )
    query = f"SELECT * FROM read_parquet(?) WHERE {where} ORDER BY received_at, event_id"  # noqa: S608
    with duck.asking(seconds) as conn:
        found = conn.sql(query, params=[named(duck.directory, files), *given])
        for batch in found.to_arrow_reader(CHUNK):
            if batch.num_rows:
                yield parquet.typed(pa.Table.from_batches([batch]))


def as_csv(duck: Duck, known: Manifest) -> Iterator[tuple[int, bytes]]:
    """The rows of a month as COPY takes them (CSV, without a header), a row group at a time, each with its count."""
    for file in known.files:
        for group in groups(duck.directory / file.name):
            names = list(AuditRow._fields)
            columns = [_digits(group[name]) if name == "event_id" else group[name] for name in names]
            out = io.BytesIO()
            pyarrow.csv.write_csv(
                pa.table(columns, names=names), out, pyarrow.csv.WriteOptions(include_header=False)
            )
            yield group.num_rows, out.getvalue()


def groups(path: Path) -> Iterator[pa.Table]:
    """The row groups of one file. Raises :class:`ArchiveUnreadable`."""
    try:
        with pq.ParquetFile(path) as opened:
            for index in range(opened.metadata.num_row_groups):
                yield opened.read_row_group(index)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveUnreadable(path.name, f"can't be read: {error}") from error


def _digits(column: pa.ChunkedArray) -> pa.Array:
    ids = column.combine_chunks()
    ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
    stored = b"".join(ids.storage.to_pylist()).hex().encode()
    offsets = pa.array(range(0, len(stored) + 1, _DIGITS), pa.int32())
    return pa.StringArray.from_buffers(len(ids), offsets.buffers()[1], pa.py_buffer(stored))
