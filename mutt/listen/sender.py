"""From the disk to ingest: batches in their order, each until ingest has it, or it can be told that it never will."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable

from mutt.client.post import Answer, Poster
from mutt.listen.batches import halves
from mutt.listen.books import Books, Trouble
from mutt.listen.buffer import Batch, Buffer
from mutt.words import many

log = logging.getLogger("mutt.listen")

#: Seconds to wait before the second attempt, at most, doubled with each up to the most; any part of it is waited.
FIRST_WAIT, MOST_WAIT = 0.5, 15.0

#: Tries of a batch to which something on the way to ingest answers that it can't be taken: some two minutes. Then it
#: is set aside, for it may be its content that a proxy does not like.
TRIES = 20

#: Seconds between two looks for what somebody has put back.
LOOK = 5.0

#: Refusals that somebody mends, not the records: a wrong key, a wrong address, a proxy that takes headers away. Until
#: then they wait.
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
        """Post it until ingest has it, or never will; in halves where it is too much at once; or set it aside. False:
        told to stop."""
        wait, tries = FIRST_WAIT, 0
        while not self.stopping:
            answer = poster.post(batch.body, self._kind, batch.idempotency, self._format, coding="gzip")
            if answer.too_large and batch.records > 1:
                return all(self._deliver(poster, half) for half in halves(batch))
            if answer.taken or _is_hopeless(answer):
                self._settle(batch, answer)
                return True
            is_anothers = answer.final and not answer.is_ours
            tries += is_anothers
            if answer.too_large or (tries >= TRIES and _may_be_its_own(answer)):
                self._set_aside(batch, answer)
                return True
            if is_anothers and tries == 1:
                self._name(batch, answer)
            self._wait_for_ingest(answer, wait)
            wait = min(wait * 2, MOST_WAIT)
        return False

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

    def _set_aside(self, batch: Batch, answer: Answer) -> None:
        self._buffer.set_aside(batch, answer.reason)
        self._books.trouble = ""
        told = "batch %s (%s) is set aside, for the answer to it is %s: see `mutt listen aside`"
        log.warning(told, batch.idempotency, many(batch.records, "record"), answer.reason)

    def _name(self, batch: Batch, answer: Answer) -> None:
        """Say which one it is: somebody may have to look into it."""
        told = "something before ingest answers %s to batch %s (%s, %s bytes), so it is tried again"
        log.warning(told, answer.status, batch.idempotency, many(batch.records, "record"), len(batch.body))

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


def _is_hopeless(answer: Answer) -> bool:
    """Would this batch be refused for ever, though nothing else is wrong, and does ingest keep what it refused? A
    proxy's word for it is none."""
    return answer.is_ours and _may_be_its_own(answer) and not answer.too_large


def _may_be_its_own(answer: Answer) -> bool:
    """Is it about this batch, and not about all?"""
    return answer.final and answer.status not in MENDABLE
