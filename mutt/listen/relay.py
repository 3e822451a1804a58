"""A relay: takes records from listeners, keeps them on disk, posts them to ingest in the order in which they came.

::

    put ──▶ memory ──≤ 0.1 s──▶ disk (SQLite, fsync) ──▶ ingest ──2xx──▶ off the disk

What a kill or a power cut can cost is what came within the last tenth of a second, and the write that was under way.
Nothing is doubled: see :mod:`mutt.listen.buffer`.
"""

from __future__ import annotations

import gzip
import json
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import msgspec

from mutt.client.post import JSON_LINES, SYSLOG_OBJECTS, Answer, Poster, address
from mutt.errors import SettingsError
from mutt.listen.buffer import Batch, Buffer
from mutt.settings import Settings
from mutt.words import many

log = logging.getLogger("mutt.listen")

#: Records, and bytes of them, in a batch: a batch is a request.
BATCH, BATCH_BYTES = 1000, 1 << 20

#: Batches that are written at once: a transaction needs twice their room on the disk.
AT_ONCE = 4

#: Seconds that a record may wait for others on its way to the disk, and bytes that may wait in memory.
LINGER, MEMORY = 0.1, 32 << 20

#: Seconds to wait before the second attempt, at most, doubled with each up to the most; any part of it is waited.
FIRST_WAIT, MOST_WAIT = 0.5, 15.0

#: Tries of a batch to which something on the way to ingest answers that it can't be taken: some two minutes. Then it
#: is set aside, for it may be its content that a proxy does not like.
TRIES = 20

#: Seconds between two looks for what somebody has put back.
LOOK = 5.0

#: Refusals that somebody mends, not the records: a wrong key, a wrong address. Until then they wait.
MENDABLE = frozenset({401, 403, 404, 405, 407})

#: Seconds between two lines of the log about the same trouble.
SELDOM = 60.0

#: Seconds between two tries to write to a disk that takes nothing.
DISK_AGAIN = 1.0

#: Writes (record, peer, epoch seconds) as one line of a body.
Write = Callable[[bytes, str, float], bytes]


#: (record, peer, at): a tuple, since one is made for each.
Record = tuple[bytes, str, float]

#: Bytes that a record takes in memory beside its own.
OVERHEAD = 250


def plain(record: bytes, _peer: str, _at: float) -> bytes:
    """A record that is a JSON object already, in one line."""
    return record


def syslog_object(record: bytes, peer: str, at: float) -> bytes:
    """A message of syslog, whatever stands in it, with who sent it and when it came."""
    record = record.rstrip(b"\r\n\0")  # some senders end a message with them
    try:
        return msgspec.json.encode({"line": record.decode(), "peer": peer, "at": at})
    except UnicodeDecodeError:
        # JSON's halves of characters stand for the bytes that are no UTF-8; ingest writes them as \xNN.
        return json.dumps({"line": record.decode(errors="surrogateescape"), "peer": peer, "at": at}).encode()


#: How records of a format are written, and as which Content-Type; other formats' as they are.
WRITTEN: dict[str, tuple[Write, str]] = {"syslog": (syslog_object, SYSLOG_OBJECTS)}


@dataclass
class Books:
    """What became of the records since the start."""

    kept: int = 0  #: written to disk
    sent: int = 0  #: taken by ingest
    refused: int = 0  #: never taken by ingest; it keeps them for `mutt dlq`
    no_room: int = 0  #: not taken: the buffer was full
    retries: int = 0  #: requests that were sent again
    trouble: str = ""  #: what stands against the request that is tried now; empty: nothing
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **more: int) -> None:
        with self.lock:
            for name, n in more.items():
                setattr(self, name, getattr(self, name) + n)


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
        self._buffer, self._connect, self._format, self._most = buffer, connect, format_, most
        self._linger = linger
        self._write, self._kind = WRITTEN.get(format_, (plain, JSON_LINES))
        self.books = Books()
        self._records, self._held, self._writing = list[Record](), 0, 0
        self._taken_in, self._on_disk = 0, 0
        self._changed = threading.Condition()
        self._closing = self._stopping = False
        self._look_at = 0.0
        self._quiet_until = dict[str, float]()
        self._threads = [
            threading.Thread(target=work, name=f"relay-{name}", daemon=True)
            for name, work in (("writer", self._keep), ("sender", self._send))
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
            self._stopping = True
            self._changed.notify_all()
        self._threads[1].join(timeout)
        self._buffer.close()

    # ---- memory to disk

    def _keep(self) -> None:
        while records := self._taken():
            kept = self._all_kept(list(self._batches(records)))
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
            records, self._records = self._records, []
            self._writing = len(records)
            return records

    def _batches(self, records: Sequence[Record]) -> Iterator[Batch]:
        lines, size, began = list[bytes](), 0, 0.0
        for record in records:
            line = self._write(*record)
            if lines and (len(lines) == BATCH or size + len(line) >= BATCH_BYTES):
                yield _packed(lines, began)
                lines, size = [], 0
            began = began if lines else record[2]
            lines.append(line)
            size += len(line) + 1
        yield _packed(lines, began)

    def _all_kept(self, batches: list[Batch]) -> int:
        """How many records of them are on disk: all, but where the end comes before there is room."""
        kept = 0
        while batches:
            if self._kept(batches[:AT_ONCE]):
                kept += sum(batch.records for batch in batches[:AT_ONCE])
                del batches[:AT_ONCE]
            elif self._stopping:
                lost = sum(batch.records for batch in batches)
                log.error("%s lost, for the buffer can't be written", many(lost, "record"))
                break
            else:
                self._pause(DISK_AGAIN)
        return kept

    def _kept(self, batches: Sequence[Batch]) -> bool:
        try:
            self._buffer.add(batches)
        except (sqlite3.Error, OSError) as error:
            self._say("disk", "the buffer can't be written, so what comes waits in memory: %s", error)
            return False
        self.books.add(kept=sum(batch.records for batch in batches))
        return True

    # ---- disk to ingest

    def _send(self) -> None:
        poster, delivered = self._connect(), list[Batch]()  # one at most: what the disk does not let go of
        while not self._stopping:
            try:
                self._go_on(poster, delivered)
            except sqlite3.Error as error:
                self._say("read", "the buffer can't be read or emptied: %s", error)
                self._pause(DISK_AGAIN)
        poster.close()

    def _go_on(self, poster: Poster, delivered: list[Batch]) -> None:
        if not delivered:
            batch = self._buffer.first()
            if batch is None:
                self._rest()
            elif self._deliver(poster, batch):
                delivered.append(batch)
        if delivered:
            self._buffer.remove(delivered[0])
            delivered.clear()
            self._tell()

    def _deliver(self, poster: Poster, batch: Batch) -> bool:
        """Post it until ingest has it, or never will; in halves where it is too much at once; or set it aside. False:
        told to stop."""
        wait, tries = FIRST_WAIT, 0
        while not self._stopping:
            answer = poster.post(batch.body, self._kind, batch.idempotency, self._format, coding="gzip")
            if answer.too_large and batch.records > 1:
                return all(self._deliver(poster, half) for half in _halves(batch))
            if answer.taken or _is_hopeless(answer):
                self._settle(batch, answer)
                return True
            if answer.final and not answer.is_ours:
                if not tries:
                    self._name(batch, answer)
                tries += 1
            if answer.too_large or (tries >= TRIES and _may_be_its_own(answer)):
                self._set_aside(batch, answer)
                return True
            self._wait_for_ingest(answer, wait)
            wait = min(wait * 2, MOST_WAIT)
        return False

    def _settle(self, batch: Batch, answer: Answer) -> None:
        self._go_well()
        refused = len(answer.refused) if answer.taken else batch.records
        self.books.add(sent=batch.records - refused, refused=refused)
        if refused:
            why = answer.refused[0].reason if answer.refused else answer.reason
            self._say("refused", "ingest refuses %s of %s: %s", refused, many(batch.records, "record"), why)

    def _go_well(self) -> None:
        if self.books.trouble:
            log.info("ingest takes records again; %s in the buffer", many(self.waiting, "record"))
            self.books.trouble = ""

    def _set_aside(self, batch: Batch, answer: Answer) -> None:
        self._buffer.set_aside(batch, answer.reason)
        self.books.trouble = ""
        told = "batch %s (%s) is set aside, for the answer to it is %s: see `mutt listen aside`"
        log.warning(told, batch.idempotency, many(batch.records, "record"), answer.reason)

    def _name(self, batch: Batch, answer: Answer) -> None:
        """Say which one it is: somebody may have to look into it."""
        told = "something before ingest answers %s to batch %s (%s, %s bytes), so it is tried again"
        log.warning(told, answer.status, batch.idempotency, many(batch.records, "record"), len(batch.body))

    def _wait_for_ingest(self, answer: Answer, wait: float) -> None:
        self.books.trouble = answer.reason
        self._tell()  # who closes it need not wait
        waiting = many(self.waiting, "record")
        self._say("ingest", "%s in the buffer, for ingest does not take them: %s", waiting, answer.reason)
        self._pause(answer.after + random.uniform(0, wait))
        self.books.add(retries=1)

    def _rest(self) -> None:
        if time.monotonic() >= self._look_at:
            self._buffer.recount()
            self._look_at = time.monotonic() + LOOK
        with self._changed:
            self._changed.wait_for(lambda: self._buffer.records or self._stopping, LOOK)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _say(self, about: str, sentence: str, *values: object) -> None:
        now = time.monotonic()
        if now >= self._quiet_until.get(about, 0.0):
            self._quiet_until[about] = now + SELDOM
            log.warning(sentence, *values)


def _is_hopeless(answer: Answer) -> bool:
    """Would this batch be refused for ever, though nothing else is wrong, and does ingest keep what it refused? A
    proxy's word for it is none."""
    return answer.is_ours and _may_be_its_own(answer) and not answer.too_large


def _may_be_its_own(answer: Answer) -> bool:
    """Is it about this batch, and not about all?"""
    return answer.final and answer.status not in MENDABLE


def _packed(lines: Sequence[bytes], at: float) -> Batch:
    return Batch(uuid4().hex, len(lines), at, gzip.compress(b"\n".join(lines), 1, mtime=0))


def _halves(batch: Batch) -> Iterator[Batch]:
    """Their keys follow from the batch's: halved again after a restart, they are known."""
    lines = gzip.decompress(batch.body).split(b"\n")
    middle = len(lines) // 2
    for name, half in (("a", lines[:middle]), ("b", lines[middle:])):
        yield _packed(half, batch.at)._replace(idempotency=batch.idempotency + name)
