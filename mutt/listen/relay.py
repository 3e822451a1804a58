"""A relay: takes records from listeners, keeps them on disk, posts them to ingest in the order in which they came.

::

    put ──▶ memory ──≤ 0.1 s──▶ disk (SQLite, fsync) ──▶ ingest ──2xx──▶ off the disk

What a kill or a power cut can cost is what came within the last tenth of a second, and the write that was under way.
Nothing is doubled: see :mod:`mutt.listen.buffer`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence

from mutt.client.post import Poster, address
from mutt.errors import SettingsError
from mutt.listen.batches import Record, batches, written_as
from mutt.listen.books import Books, Trouble
from mutt.listen.buffer import BATCH, Batch, Buffer
from mutt.listen.sender import DISK_AGAIN, Sender
from mutt.settings import Settings
from mutt.words import many

log = logging.getLogger("mutt.listen")

#: Batches that are written at once: a transaction needs twice their room on the disk.
AT_ONCE = 4

#: Seconds that a record may wait for others on its way to the disk, and bytes that may wait in memory.
LINGER, MEMORY = 0.1, 32 << 20

#: Bytes that a record takes in memory beside its own.
OVERHEAD = 250


class Relay:
    """Records of one ``format`` (``/ingest/<format>``) on their way from ``buffer`` to ingest; threads may share one.

    ``most`` bytes, compressed as they are, may wait on disk. ``connect`` makes what posts: in the thread that does.
    """

    def __init__(
        self,
        buffer: Buffer,
        connect: Callable[[], Poster],
        format_: str,
        *,
        most: int = 1 << 30,
        linger: float = LINGER,
    ) -> None:
        self._buffer, self._most, self._linger = buffer, most, linger
        self._write, kind = written_as(format_)
        self.books, self._trouble = Books(), Trouble()
        self._records, self._held, self._writing = list[Record](), 0, 0
        self._taken_in, self._on_disk = 0, 0
        self._changed = threading.Condition()
        self._closing = False
        self._sender = Sender(
            buffer, connect, format_, kind,
            books=self.books, trouble=self._trouble, changed=self._changed, waiting=lambda: self.waiting,
        )  # fmt: skip
        self._threads = [
            threading.Thread(target=work, name=f"relay-{name}", daemon=True)
            for name, work in (("writer", self._keep), ("sender", self._sender.run))
        ]

    @classmethod
    def of(cls, settings: Settings, format_: str) -> Relay:
        """The relay that the settings describe, not started. Raises :class:`~mutt.errors.SettingsError`."""
        settings.need("ingest_url", "ingest_key")
        try:
            address(settings.ingest_url)
        except ValueError as error:
            raise SettingsError("INGEST_URL", "…", str(error).removeprefix("url: write ")) from None

        def connect() -> Poster:
            return Poster(
                settings.ingest_url, lambda: str(settings.current("ingest_key")), ca=settings.ingest_ca
            )

        buffer = Buffer(settings.listen_buffer / f"{format_}.db")
        return cls(buffer, connect, format_, most=settings.listen_buffer_bytes)

    def start(self) -> Relay:
        """Begin to write and to send; first what an earlier run left."""
        for thread in self._threads:
            thread.start()
        return self

    @property
    def works(self) -> bool:
        """Does it still write and send? What ends a thread of it is an error of ours, and stands in the log."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def has_room(self) -> bool:
        """Would a record be taken now?"""
        on_disk = self._buffer.bytes + self._buffer.aside_bytes
        return self._held < MEMORY and on_disk < self._most and not self._closing

    @property
    def waiting(self) -> int:
        """Records that are not sent yet."""
        return len(self._records) + self._writing + self._buffer.records

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk, as they stand there."""
        return self._buffer.bytes

    @property
    def aside(self) -> int:
        """Records that stand aside: see :mod:`mutt.listen.aside`."""
        return self._buffer.aside

    def age(self, now: float) -> float:
        """Seconds since the oldest record on disk came; 0: none is there."""
        return self._buffer.age(now)

    def put(self, record: bytes, peer: str, at: float) -> bool:
        """Take one record from the address ``peer``, which came at ``at`` (epoch seconds). Never waits.

        False: there is no room. Who can, lets its sender wait (TCP); who can't has lost it (UDP), and it is counted.
        """
        if not self.has_room:
            self.books.add(no_room=1)
            return False
        with self._changed:
            if self._closing:  # since it was asked
                return False
            self._records.append((record, peer, at))
            self._taken_in += 1
            self._held += len(record) + OVERHEAD
            if len(self._records) in (1, BATCH):
                self._changed.notify_all()
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put until now is on disk. Is it, within ``timeout`` seconds?"""
        with self._changed:
            asked = self._taken_in
            return self._changed.wait_for(lambda: self._on_disk >= asked, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Take nothing more, write everything to disk, send for up to ``timeout`` seconds.

        What is left is sent at the next start.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if not self._threads[0].ident:  # it was never started
            self._buffer.close()
            return
        self._threads[0].join(timeout)
        with self._changed:
            self._changed.wait_for(lambda: not self._buffer.records or self.books.trouble, timeout)
        self._sender.stop()
        self._threads[1].join(timeout)
        self._buffer.close()

    def _keep(self) -> None:
        while records := self._taken():
            kept = self._all_kept(list(batches(records, self._write)))
            with self._changed:
                self._on_disk += kept
                self._writing = 0
                self._held -= sum(len(record) + OVERHEAD for record, _, _ in records)
                self._changed.notify_all()

    def _taken(self) -> list[Record]:
        """What came since the last time, a little while after the first of it; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._records or self._closing)
            self._changed.wait_for(lambda: len(self._records) >= BATCH or self._closing, self._linger)
            self._writing = len(self._records)  # first: who asks what waits must not find them nowhere
            records, self._records = self._records, []
            return records

    def _all_kept(self, left: list[Batch]) -> int:
        """How many records of them are on disk: all, but where the end comes before there is room."""
        kept = 0
        while left:
            if self._kept(left[:AT_ONCE]):
                kept += sum(batch.records for batch in left[:AT_ONCE])
                del left[:AT_ONCE]
            elif self._sender.stopping:
                lost = sum(batch.records for batch in left)
                log.error("%s lost, for the buffer can't be written", many(lost, "record"))
                break
            else:
                self._sender.pause(DISK_AGAIN)
        return kept

    def _kept(self, made: Sequence[Batch]) -> bool:
        try:
            self._buffer.add(made)
        except (sqlite3.Error, OSError) as error:
            self._trouble.say("disk", "the buffer can't be written, so what comes waits in memory: %s", error)
            return False
        self.books.add(kept=sum(batch.records for batch in made))
        return True
