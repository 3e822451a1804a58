"""Retired months of the audit as files: gzip of CSV with a header, named after the month."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from mutt.errors import StoreDown

_NAME = re.compile(r"event_audit_log_(\d{4})_(\d{2})(?:\.\d+)?\.csv\.gz")


def write(conn: Connection, table: str, directory: Path) -> Path:
    """Archive ``table`` in ``directory`` and prove it: synced to disk, read back, every row counted.

    A file that is there already is left alone; the new one gets a number. Raises :class:`StoreDown` if the counts
    differ, ``OSError`` if the disk fails.
    """
    partial = directory / f".{table}.{os.getpid()}.partial"
    try:
        rows = _copy_out(conn, table, partial)
        if count_rows(partial) != rows:
            raise StoreDown(f"the archive of {table} does not hold its {rows} rows")
        target = _free_name(directory, table)
        partial.rename(target)
        _sync_directory(directory)
    finally:
        partial.unlink(missing_ok=True)
    return target


def count_rows(file: Path) -> int:
    """Read an archive to its end and count its rows, the header apart. gzip's checksum is checked on the way."""
    rows, quotes = -1, 0
    with gzip.open(file, "rb") as lines:
        for line in lines:
            quotes += line.count(b'"')
            rows += quotes % 2 == 0  # an odd number: this line's end stands within a value
    return rows


def expire(directory: Path, now: datetime, years: int) -> list[str]:
    """Delete the archives of months more than ``years`` years ago. Names what went."""
    expired = [
        file
        for file in sorted(directory.glob("event_audit_log_*.csv.gz"))
        if (found := _NAME.fullmatch(file.name))
        and (int(found[1]) + years, int(found[2])) < (now.year, now.month)
    ]
    for file in expired:
        file.unlink()
    return [file.name for file in expired]


def _copy_out(conn: Connection, table: str, file: Path) -> int:
    with file.open("xb") as disk:
        with gzip.GzipFile(filename="", fileobj=disk, mode="wb", compresslevel=6) as packed:
            with contextlib.closing(conn.connection.cursor()) as cursor:
                cursor.copy_expert(f"COPY {table} TO STDOUT (FORMAT csv, HEADER)", packed)
                rows: int = cursor.rowcount
        disk.flush()
        os.fsync(disk.fileno())
    return rows


def _free_name(directory: Path, table: str) -> Path:
    target, number = directory / f"{table}.csv.gz", 1
    while target.exists():
        number += 1
        target = directory / f"{table}.{number}.csv.gz"
    return target


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
