"""What waits to be sent, on disk: batches in a file of SQLite, oldest first.

A batch has its ``Idempotency-Key`` before it is tried for the first time, and keeps it over restarts: one of which
nobody knows whether ingest has it is sent again, and adds nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mutt.errors import SettingsError
from mutt.listen import aside

#: A commit is on disk before it returns (FULL): after a power cut, too. The journal is cut back to 16 MiB.
_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 16777216;
"""

#: Bytes that are left free on the disk when the file grows: on a disk that is quite full nothing could be taken out of
#: the buffer any more. Half of it is enough where the file has pages to use again: so it goes on once it is emptied.
SPARE = 16 << 20

_TABLE = """
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    idempotency TEXT NOT NULL,
    records INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL
);
"""
_ADD = "INSERT INTO batches (idempotency, records, at, body) VALUES (?, ?, ?, ?)"
_FIRST = "SELECT idempotency, records, at, body, id FROM batches ORDER BY id LIMIT 1"
_OLDEST = "SELECT at FROM batches ORDER BY id LIMIT 1"
_REMOVE = "DELETE FROM batches WHERE id = ?"
_SUM = "SELECT coalesce(sum(records), 0), coalesce(sum(length(body)), 0) FROM batches"


class Batch(NamedTuple):
    """Records as they will be posted."""

    idempotency: str
    records: int
    at: float  #: when its first record came, epoch seconds
    body: bytes
    id: int = 0  #: its place in the file


class Buffer:
    """The batches in ``file``, which nobody else may use meanwhile. Threads may share it.

    Raises :class:`SettingsError` where the file is somebody else's, or can't be used.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        with self._usable():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._mine = _claimed(file)
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
            file.chmod(0o600)
            self._db.executescript(_PRAGMAS + _TABLE + aside.TABLE)
            self.recount()

    def recount(self) -> None:
        """See what is there: another process may have put back what stood aside. Raises ``sqlite3.Error``."""
        with self._lock:
            self.records, self.bytes = self._db.execute(_SUM).fetchone()
            self.aside, self.aside_bytes = self._db.execute(aside.SUM).fetchone()

    def add(self, batches: Sequence[Batch]) -> None:
        """All of them, or none. They are on disk when it returns. Raises ``sqlite3.Error``, ``OSError``."""
        rows = [(one.idempotency, one.records, one.at, one.body) for one in batches]
        records, size = sum(one.records for one in batches), sum(len(one.body) for one in batches)
        self._check_room(size)
        self._transaction(lambda db: db.executemany(_ADD, rows), records, size)

    def _check_room(self, size: int) -> None:
        if self._has_room(size):
            return
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if not self._has_room(size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _has_room(self, size: int) -> bool:
        """For ``size`` bytes in the journal, and for what the file grows by when they come from there into it."""
        disk = os.statvfs(self._file.parent)
        beside = self._file.with_name(self._file.name + "-wal")
        journal = beside.stat().st_size if beside.exists() else 0
        with self._lock:
            free, page = (
                self._db.execute(f"PRAGMA {of}").fetchone()[0] for of in ("freelist_count", "page_size")
            )
        grows_by = max(0, journal + size - free * page)
        needed = size + (grows_by + SPARE if grows_by else SPARE // 2)
        return disk.f_bavail * disk.f_frsize >= needed

    def first(self) -> Batch | None:
        """The oldest; None: nothing waits. Raises ``sqlite3.Error``."""
        with self._lock:
            row = self._db.execute(_FIRST).fetchone()
        return Batch(*row) if row else None

    def age(self, now: float) -> float:
        """Seconds since the oldest record came, at ``now`` (epoch seconds); 0: none is there, or none can be read."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._db.execute(_OLDEST).fetchone()
            return max(0.0, now - row[0]) if row else 0.0
        return 0.0

    def remove(self, batch: Batch) -> None:
        """It is sent, or never will be. Raises ``sqlite3.Error``."""
        self._transaction(lambda db: db.execute(_REMOVE, (batch.id,)), -batch.records, -len(batch.body))

    def set_aside(self, batch: Batch, why: str) -> None:
        """Keep it, or a part of one, where it holds up nobody: it is on disk when it returns, and its batch is to be
        removed. Raises ``sqlite3.Error``."""
        row = (batch.idempotency, batch.records, batch.at, batch.body, why)
        self._transaction(lambda db: db.execute(aside.ADD, row), 0, 0)
        self.recount()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()
            self._mine.close()

    def _transaction(self, work: Callable[[sqlite3.Connection], object], records: int, size: int) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                work(self._db)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            # Not below nothing: what another process has put back was never counted.
            self.records, self.bytes = max(0, self.records + records), max(0, self.bytes + size)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            expected = "a directory of its own: another process listens with this one"
            raise SettingsError("LISTEN_BUFFER", str(self._file.parent), expected) from None
        except (OSError, sqlite3.Error) as error:
            expected = (
                f"a directory where {self._file.name} can be written ({error}); move a damaged file away"
            )
            raise SettingsError("LISTEN_BUFFER", str(self._file.parent), expected) from error


def _claimed(file: Path) -> BinaryIO:
    """A lock beside the file, held until it is closed or the process ends. Raises ``BlockingIOError``."""
    lock = file.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock
