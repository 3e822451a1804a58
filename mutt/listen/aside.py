"""Batches that stand aside: something on the way to ingest does not let them through, and others do not wait for them.

They are in the file of those that wait, in a table of their own, until somebody puts them back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mutt.errors import SettingsError

#: One that is set aside again after a crash, or in halves, is the same one.
TABLE = """
CREATE TABLE IF NOT EXISTS aside (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    idempotency TEXT NOT NULL UNIQUE,
    records INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL,
    why TEXT NOT NULL
);
"""
ADD = "INSERT OR IGNORE INTO aside (idempotency, records, at, body, why) VALUES (?, ?, ?, ?, ?)"
SUM = "SELECT coalesce(sum(records), 0), coalesce(sum(length(body)), 0) FROM aside"
_ALL = "SELECT idempotency, records, length(body), at, why FROM aside ORDER BY id"
_BACK = """
INSERT INTO batches (idempotency, records, at, body)
SELECT idempotency, records, at, body FROM aside ORDER BY id
"""


class Standing(NamedTuple):
    """A batch that stands aside."""

    idempotency: str
    records: int
    bytes: int  #: compressed
    at: float  #: when its first record came, epoch seconds
    why: str  #: what the last answer was


def standing(file: Path) -> list[Standing]:
    """Those in ``file``, the oldest first. Raises :class:`SettingsError` where it can't be read."""
    with _opened(file) as db:
        return [Standing(*row) for row in db.execute(_ALL)]


def put_back(file: Path) -> int:
    """All of them behind those that wait; how many records. A listener may be running: it finds them within seconds,
    once nothing else waits. Raises :class:`SettingsError`."""
    with _opened(file) as db:
        db.execute("BEGIN IMMEDIATE")
        records, _ = db.execute(SUM).fetchone()
        db.execute(_BACK)
        db.execute("DELETE FROM aside")
        db.execute("COMMIT")
    return int(records)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=10)
        ) as db:
            db.execute(TABLE)
            yield db
    except sqlite3.Error as error:
        expected = f"the directory of a listener, with {file.name} in it ({error})"
        raise SettingsError("LISTEN_BUFFER", str(file.parent), expected) from error
