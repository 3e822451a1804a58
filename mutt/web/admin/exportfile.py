"""Exports as files: CSV without anything that a spreadsheet would run, or Parquet, a part at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from mutt.store.archives import parquet
from mutt.store.exports import COLUMNS, Part
from mutt.web.admin.csvfile import defused

#: Told after each part: rows so far, and how much of the time is done.
Noted = Callable[[int, float], None]


def written(parts: Iterable[Part], kind: str, noted: Noted) -> Iterator[bytes]:
    """The file, in pieces, as its rows come."""
    return _parquet(parts, noted) if kind == "parquet" else _csv(parts, noted)


def _csv(parts: Iterable[Part], noted: Noted) -> Iterator[bytes]:
    # With the mark by which spreadsheets know UTF-8.
    yield ("\ufeff" + ",".join(COLUMNS) + "\r\n").encode()
    rows = 0
    for part in parts:
        for batch in part.rows.to_batches(max_chunksize=2_000):
            out = io.StringIO()
            values = [column.to_pylist() for column in batch.columns]
            csv.writer(out).writerows([_cell(value) for value in row] for row in zip(*values, strict=True))
            yield out.getvalue().encode("utf-8", "replace")
        rows += part.rows.num_rows
        noted(rows, part.share)


def _cell(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else defused(value)


def _parquet(parts: Iterable[Part], noted: Noted) -> Iterator[bytes]:
    sink, rows = _Drained(), 0
    out = pq.ParquetWriter(sink, parquet.SCHEMA, compression="zstd", use_dictionary=list(parquet.REPEATED))
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part.rows)
        if (
            sum(one.num_rows for one in waiting) >= parquet.GROUP_ROWS
            or _bytes(waiting) >= parquet.GROUP_BYTES
        ):
            out.write_table(pa.concat_tables(waiting))
            waiting = []
            yield sink.drained()
        rows += part.rows.num_rows
        noted(rows, part.share)
    if waiting:
        out.write_table(pa.concat_tables(waiting))
    out.close()
    yield sink.drained()


def _bytes(tables: Iterable[pa.Table]) -> int:
    return sum(one.nbytes for one in tables)


class _Drained(io.RawIOBase):
    """A file whose beginning is gone already."""

    def __init__(self) -> None:
        self._pieces, self._at = list[bytes](), 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def drained(self) -> bytes:
        """What was written since it was last asked."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
