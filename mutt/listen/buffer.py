"""What waits to be sent, on disk: batches in a file of SQLite, oldest first.

A batch has its ``Idempotency-Key`` before it is tried for the first time, and keeps it over restarts: one of which
nobody knows whether ingest has it is sent again, and adds nothing. Until it is taken to be sent, what comes after it
is written into it: while ingest is away, or far away, requests become few and large.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from mutt.errors import SettingsError
from mutt.listen import aside

T = TypeVar("T")

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
#: Behind what is there: compressed parts of a body stand one behind the other as they are.
_JOIN = "UPDATE batches SET records = records + ?, body = CAST(body || ? AS BLOB) WHERE id = ?"
#: The second half has its batch's place; the first half the place before it, which is free: nothing is older.
_FIRST_HALF = "INSERT INTO batches (id, idempotency, records, at, body) VALUES (?, ?, ?, ?, ?)"
_SECOND_HALF = "UPDATE batches SET idempotency = ?, records = ?, at = ?, body = ? WHERE id = ?"
_FIRST = "SELECT idempotency, records, at, body, id FROM batches ORDER BY id LIMIT 1"
_OLDEST = "SELECT at FROM batches ORDER BY id LIMIT 1"
_REMOVE = "DELETE FROM batches WHERE id = ?"
_SUM = "SELECT coalesce(sum(records), 0), coalesce(sum(length(body)), 0) FROM batches"

#: Records, and bytes of them, in a batch: a batch is a request.
BATCH, BATCH_BYTES = 1000, 1 << 20

#: No more is written into a batch of so many bytes: each time it is written anew.
JOINED = 32 << 10

#: Between two parts of a body.
_LINE_END = gzip.compress(b"\n", 1, mtime=0)


class Batch(NamedTuple):
    """Records as they will be posted."""

    idempotency: str
    records: int
    at: float  #: when its first record came, epoch seconds
    body: bytes
    id: int = 0  #: its place in the file
    size: int = 0  #: bytes of its body before they were compressed; 0: that is not known any more


class _End(NamedTuple):
    """The batch that was written last."""

    id: int
    records: int
    size: int
    bytes: int

    def joined(self, more: Batch) -> _End | None:
        """This one with ``more`` in it; None: that would be too much."""
        made = _End(
            self.id,
            self.records + more.records,
            self.size + 1 + more.size,
            self.bytes + len(_LINE_END) + len(more.body),
        )
        fits = made.records <= BATCH and made.size <= BATCH_BYTES and made.bytes <= JOINED
        return made if fits and self.size and more.size else None


class Buffer:
    """The batches in ``file``, which nobody else may use meanwhile. Threads may share it.

    Raises :class:`SettingsError` where the file is somebody else's, or can't be used.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._end: _End | None = None  # of this run, and not taken to be sent
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
        self._check_room(sum(len(one.body) for one in batches))
        with self._lock:
            self._end, size = self._transaction(lambda db: self._added(db, batches))
            self._count(sum(one.records for one in batches), size)

    def _added(self, db: sqlite3.Connection, batches: Sequence[Batch]) -> tuple[_End | None, int]:
        """(the last batch then, how many bytes more there are)."""
        end, size = self._end, 0
        for one in batches:
            if end and (joined := end.joined(one)):
                db.execute(_JOIN, (one.records, _LINE_END + one.body, end.id))
                size += joined.bytes - end.bytes
                end = joined
            else:
                done = db.execute(_ADD, (one.idempotency, one.records, one.at, one.body))
                size += len(one.body)
                end = _End(done.lastrowid or 0, one.records, one.size, len(one.body))
        return end, size

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
        """The oldest, into which nothing more is written from now on; None: nothing waits. Raises ``sqlite3.Error``."""
        with self._lock:
            row = self._db.execute(_FIRST).fetchone()
            found = Batch(*row) if row else None
            if found and self._end and found.id >= self._end.id:
                self._end = None
        return found

    def age(self, now: float) -> float:
        """Seconds since the oldest record came, at ``now`` (epoch seconds); 0: none is there, or none can be read."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._db.execute(_OLDEST).fetchone()
            return max(0.0, now - row[0]) if row else 0.0
        return 0.0

    def remove(self, batch: Batch) -> None:
        """It is sent, or never will be. Raises ``sqlite3.Error``."""
        with self._lock:
            self._transaction(lambda db: db.execute(_REMOVE, (batch.id,)))
            self._count(-batch.records, -len(batch.body))

    def split(self, batch: Batch, first: Batch, second: Batch) -> None:
        """Put two halves in the place of the oldest: on disk, so that a restart finds what was sent of it gone. Raises
        ``sqlite3.Error``."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(_SECOND_HALF, (*second[:4], batch.id))
            db.execute(_FIRST_HALF, (batch.id - 1, *first[:4]))

        with self._lock:
            self._transaction(work)
            self._count(0, len(first.body) + len(second.body) - len(batch.body))

    def set_aside(self, batch: Batch, why: str) -> None:
        """Keep it where it holds up nobody. Raises ``sqlite3.Error``."""

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            added = db.execute(aside.ADD, (*batch[:4], why)).rowcount
            return added, db.execute(_REMOVE, (batch.id,)).rowcount

        with self._lock:
            added, removed = self._transaction(work)
            self._count(-batch.records * removed, -len(batch.body) * removed)
            self.aside += batch.records * added
            self.aside_bytes += len(batch.body) * added

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()
            self._mine.close()

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """All of it, or nothing. The lock is held by who calls."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            done = work(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        return done

    def _count(self, records: int, size: int) -> None:
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
