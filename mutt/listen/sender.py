"""From the disk to ingest: batches in their order, each until ingest has it, or it can be told that it never will."""

from __future__ import annotations

import gzip
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from uuid import uuid4

from mutt.client.post import Answer, Poster
from mutt.listen.batches import halves
from mutt.listen.books import Books, Trouble
from mutt.listen.buffer import Batch, Buffer
from mutt.words import many

log = logging.getLogger("mutt.listen")

#: Seconds to wait before the second attempt, at most, doubled with each up to the most; any part of it is waited.
FIRST_WAIT, MOST_WAIT = 0.5, 15.0

#: Tries of a batch to which something answers that it can't be taken, until it is asked whether that is about this
#: batch: some ten seconds.
TRIES = 6

#: A body without any record. Where ingest itself answers to it, the way and the key are good.
NOTHING = gzip.compress(b"", 1, mtime=0)

#: Seconds between two looks for what somebody has put back.
LOOK = 5.0

#: Refusals of ingest that somebody mends, not the records: a wrong key, a wrong address, a header that is taken away on
#: the way. Until then they wait.
MENDABLE = frozenset({401, 403, 404, 405, 407, 415})

#: Seconds between two tries to write to a disk that takes nothing.
DISK_AGAIN = 1.0


class Sender:
    """Empties ``buffer`` into ``/ingest/<format>``, as bodies of the Content-Type ``kind``.

    ``connect`` makes what posts: in the thread that runs it. ``changed`` is told of what becomes less, and tells of
    what comes; ``waiting`` says how many records are not sent yet.
    """

    def __init__(
        self,
        buffer: Buffer,
        connect: Callable[[], Poster],
        format_: str,
        kind: str,
        *,
        books: Books,
        trouble: Trouble,
        changed: threading.Condition,
        waiting: Callable[[], int],
    ) -> None:
        self._buffer, self._connect, self._format, self._kind = buffer, connect, format_, kind
        self._books, self._trouble, self._changed, self._waiting = books, trouble, changed, waiting
        self.stopping = False
        self._look_at = 0.0
        self._patience = TRIES  # less, once it was found that there are batches that are not let through

    def stop(self) -> None:
        """Send nothing more."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def run(self) -> None:
        """Send what is there and what comes, until told to stop."""
        poster, delivered = self._connect(), list[Batch]()  # one at most: what the disk does not let go of
        while not self.stopping:
            try:
                self._go_on(poster, delivered)
            except sqlite3.Error as error:
                self._trouble.say("read", "the buffer can't be read or emptied: %s", error)
                self.pause(DISK_AGAIN)
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
        """Post it until ingest has it, or has refused it for good: then it is to be removed. False: it was taken apart
        or set aside, or the end came."""
        wait, tries = FIRST_WAIT, 0
        while not self.stopping:
            answer = poster.post(batch.body, self._kind, batch.idempotency, self._format, coding="gzip")
            if answer.taken or _is_refused(answer):
                self._settle(batch, answer)
                return True
            tries += _may_be_its_own(answer)
            if answer.too_large or (tries >= self._patience and self._is_its_own(poster)):
                self._part(batch, answer)
                return False
            if _may_be_its_own(answer) and tries == 1:
                self._name(batch, answer)
            tries %= self._patience
            self._wait_for_ingest(answer, wait)
            wait = min(wait * 2, MOST_WAIT)
        return False

    def _is_its_own(self, poster: Poster) -> bool:
        """Is a refusal about this batch? If so, one without any record comes through to ingest, by the same way and
        with the same key."""
        answer = poster.post(NOTHING, self._kind, uuid4().hex, self._format, coding="gzip")
        comes_through = answer.taken or (answer.is_ours and answer.final and answer.status not in MENDABLE)
        self._patience = 1 if comes_through else TRIES
        return comes_through

    def _part(self, batch: Batch, answer: Answer) -> None:
        """Its halves go on by themselves, for one record may be what is not let through; a single one is set aside."""
        if batch.records > 1 and (parts := halves(batch)):
            self._buffer.split(batch, *parts)
            return
        self._buffer.set_aside(batch, answer.reason)
        self._books.trouble = ""
        told = "batch %s (%s) is set aside, for the answer to it is %s: see `mutt listen aside`"
        self._trouble.say("aside", told, batch.idempotency, many(batch.records, "record"), answer.reason)
        self._tell()

    def _settle(self, batch: Batch, answer: Answer) -> None:
        if self._books.trouble:
            log.info("ingest takes records again; %s in the buffer", many(self._waiting(), "record"))
            self._books.trouble = ""
        refused = len(answer.refused) if answer.taken else batch.records
        self._books.add(sent=batch.records - refused, refused=refused)
        if refused:
            why = answer.refused[0].reason if answer.refused else answer.reason
            self._trouble.say(
                "refused", "ingest refuses %s of %s: %s", refused, many(batch.records, "record"), why
            )

    def _name(self, batch: Batch, answer: Answer) -> None:
        """Say which one it is: somebody may have to look into it."""
        told = "the answer to batch %s (%s, %s bytes) is %s, so it is tried again"
        about = many(batch.records, "record"), len(batch.body), answer.reason
        self._trouble.say("batch", told, batch.idempotency, *about)

    def _wait_for_ingest(self, answer: Answer, wait: float) -> None:
        self._books.trouble = answer.reason
        self._tell()  # who closes it need not wait
        waiting = many(self._waiting(), "record")
        self._trouble.say(
            "ingest", "%s in the buffer, for ingest does not take them: %s", waiting, answer.reason
        )
        self.pause(answer.after + random.uniform(0, wait))
        self._books.add(retries=1)

    def _rest(self) -> None:
        if time.monotonic() >= self._look_at:
            self._buffer.recount()
            self._look_at = time.monotonic() + LOOK
        with self._changed:
            self._changed.wait_for(lambda: self._buffer.records or self.stopping, LOOK)

    def pause(self, seconds: float) -> None:
        """Wait, but for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopping, seconds)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _is_refused(answer: Answer) -> bool:
    """Has ingest looked at the records, refused all, and kept them? Anybody else's word for it is none, and a refusal
    of ingest that names no record is about the request."""
    return answer.is_ours and answer.final and bool(answer.refused)


def _may_be_its_own(answer: Answer) -> bool:
    """May it be about this batch, and not about all?"""
    return answer.final and not (answer.is_ours and answer.status in MENDABLE)
