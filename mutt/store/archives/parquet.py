"""Rows of the audit as Parquet: typed columns, zstd, row groups of bounded size in the order of their time."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mutt import __version__
from mutt.store.archives.manifest import File
from mutt.store.archives.sums import Sums
from mutt.store.audit import AuditRow

#: A row group ends at so many rows, or so many bytes: it is what a writer holds, and what a reader skips.
GROUP_ROWS, GROUP_BYTES = 65_536, 32 << 20

LEVEL = 3  #: of zstd; what more costs and saves stands in decision 0048

_INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.uuid(), nullable=False),
        pa.field("received_at", _INSTANT, nullable=False),
        pa.field("occurred_at", _INSTANT, nullable=False),
        pa.field("hostname", pa.string(), nullable=False),
        pa.field("severity", pa.int16()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("matched_rule_id", pa.int32()),
        pa.field("ruleset_version", pa.int32(), nullable=False),
        pa.field("handling", pa.string(), nullable=False),
        pa.field("team", pa.string()),
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("item", pa.int32(), nullable=False),
        pa.field("correlation_id", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),
        pa.field("context", pa.string()),
    ]
)
#: Values that come again and again.
REPEATED = ["hostname", "source", "handling", "team", "batch_id", "correlation_id"]
#: By which row groups are left out. The texts' bounds would only make the footer long.
_BOUNDED = ["event_id", "received_at", "occurred_at", "hostname", "severity", "matched_rule_id", "handling"]

#: As CSV has them: a UUID stands as text there.
_CSV_TYPES = {field.name: field.type for field in SCHEMA} | {"event_id": pa.string()}
_CONVERT = pyarrow.csv.ConvertOptions(
    column_types=_CSV_TYPES,
    null_values=[""],
    strings_can_be_null=True,
    quoted_strings_can_be_null=False,  # "" is a text without characters, nothing at all is NULL
)
_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)


def of_csv(written: bytes) -> pa.Table:
    """Rows as COPY writes them in CSV without a header, at least one, in the audit's columns' order."""
    read = pyarrow.csv.ReadOptions(
        column_names=list(AuditRow._fields), use_threads=False, block_size=max(len(written) + 1, 1 << 16)
    )
    return typed(pyarrow.csv.read_csv(io.BytesIO(written), read, _PARSE, _CONVERT))


def old_csv(file: Any) -> Iterator[pa.Table]:
    """The rows of an archive of an older version, which names its columns; it may lack the newest ones."""
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=4 << 20)
    for batch in pyarrow.csv.open_csv(file, read, _PARSE, _CONVERT):
        if batch.num_rows:
            yield typed(pa.Table.from_batches([batch]))


def typed(table: pa.Table) -> pa.Table:
    """The same in :data:`SCHEMA`, columns that are not there as NULL."""
    columns = []
    for field in SCHEMA:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
        elif field.name == "event_id" and table.schema.field("event_id").type == pa.string():
            columns.append(_uuids(table["event_id"]))
        else:
            columns.append(table[field.name].cast(field.type))
    return pa.table(columns, schema=SCHEMA)


def _uuids(column: pa.ChunkedArray) -> pa.Array:
    digits = pc.replace_substring(column, "-", "").combine_chunks()
    packed = bytes.fromhex("".join(digits.to_pylist()))
    stored = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(digits), [None, pa.py_buffer(packed)])
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)


class Writer:
    """One file, which takes rows in the order of their time. It stands under ``path`` synced once it is closed."""

    def __init__(self, path: Path) -> None:
        self._sink = _Hashing(path)
        self._out = pq.ParquetWriter(
            self._sink,
            SCHEMA,
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=REPEATED,
            write_statistics=_BOUNDED,
        )
        self._waiting: list[pa.Table] = []
        self._groups: list[int] = []
        self._bounds: list[datetime] = []

    def write(self, table: pa.Table) -> None:
        """Take rows, any number."""
        self._waiting.append(table)
        if (
            sum(one.num_rows for one in self._waiting) >= GROUP_ROWS
            or sum(one.nbytes for one in self._waiting) >= GROUP_BYTES
        ):
            self._flush()

    def _flush(self) -> None:
        waiting = pa.concat_tables(self._waiting) if self._waiting else SCHEMA.empty_table()
        self._waiting = []
        for first in range(0, waiting.num_rows, GROUP_ROWS):
            group = waiting.slice(first, GROUP_ROWS)
            bounds = pc.min_max(group["received_at"]).as_py()
            self._bounds += [bounds["min"], bounds["max"]]
            self._groups.append(group.num_rows)
            self._out.write_table(group, row_group_size=group.num_rows)

    @property
    def rows(self) -> int:
        """Written so far."""
        return sum(self._groups) + sum(one.num_rows for one in self._waiting)

    @property
    def begins(self) -> list[datetime]:
        """Instants between which a row group's rows lie, or about as many, and an end behind all of them.

        Each row lies between two that follow one another, in whatever order the groups came.
        """
        return [*sorted(set(self._bounds[::2])), max(self._bounds) + timedelta(microseconds=1)]

    def close(self) -> None:
        """End the file and bring it to disk."""
        self._flush()
        self._out.close()
        self._sink.sync()

    def abandon(self) -> None:
        """Let go of a file that will not be ended."""
        self._sink.close()

    def noted(self, name: str, sums: Sums, now: datetime) -> File:
        """What the manifest says of it. It holds at least one row."""
        return File(
            name=name,
            rows=sum(self._groups),
            bytes=self._sink.bytes,
            sha256=self._sink.hash.hexdigest(),
            checksum=sums.checksum,
            first=min(self._bounds).astimezone(UTC),
            last=max(self._bounds).astimezone(UTC),
            row_groups=tuple(self._groups),
            written_at=now,
            mutt=__version__,
        )


class _Hashing(io.RawIOBase):
    """A new file whose hash is known when it is written."""

    def __init__(self, path: Path) -> None:
        self._disk = path.open("xb")
        self.hash, self.bytes = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._disk.write(data)
        self.hash.update(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.bytes

    def sync(self) -> None:
        self._disk.flush()
        os.fsync(self._disk.fileno())
        self._disk.close()

    def close(self) -> None:
        self._disk.close()
        super().close()


def hash_of(file: Path) -> str:
    """The SHA-256 of what stands on disk."""
    with file.open("rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


def groups_of(file: Path) -> tuple[int, ...]:
    """The rows of each row group, as the file's own footer has them."""
    with pq.ParquetFile(file) as opened:
        footer = opened.metadata
        return tuple(footer.row_group(index).num_rows for index in range(footer.num_row_groups))
