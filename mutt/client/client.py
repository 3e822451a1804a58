"""The client: events go in one at a time, batches go out from a thread of its own."""

from __future__ import annotations

import atexit
import json
import logging
import os
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Literal
from uuid import uuid4

from .post import JSON_LINES, SYSLOG_OBJECTS, TEXT_LINES, Answer, Poster, address
from .result import Counts, Full, Rejection, rejections
from .waiting import Item, Size, Waiting

log = logging.getLogger("mutt.client")

#: Ingest's answer names no more items than this, and each that it refuses has to be told of.
BATCH_MAX = 1000

#: Seconds to wait before the second attempt, at most; doubled with each one up to the most. What is waited is any part
#: of it, so that many clients don't come back at once; on top of what ``Retry-After`` asks for.
FIRST_WAIT, MOST_WAIT = 0.5, 30.0

#: Seconds that the end of the program waits for what is not sent yet.
GOODBYE = 5.0

#: Seconds between two lines of the log about an ingest that takes nothing.
SELDOM = 60.0


class Client:
    """Sends events to MUTT. Threads may share one.

    ``url`` is ingest's address (``https://mutt.example.net``), ``key`` an API key, or a function that gives it.
    ``format`` names what the events are (``/ingest/<format>``); empty: objects are looked at, texts are syslog's.

    A batch has at most ``batch`` events and ``batch_bytes`` bytes, and no event waits more than ``linger`` seconds for
    others. It is sent, under one Idempotency-Key, until ingest has it: after 408, 425, 429, any 5xx and whatever cuts a
    connection, as soon as ``Retry-After`` allows. Any other 4xx is final: ``on_rejected`` is given those events, in the
    client's thread.

    ``buffer`` events and ``buffer_bytes`` bytes may wait in memory. ``when_full`` says what then: ``block`` lets
    :meth:`send` wait for up to ``block`` seconds, then raise :class:`Full`; ``drop`` lets go of the oldest, and counts
    them. After a fork the child begins with none: what waits is the parent's to send.

    ``ca``, ``cert`` and ``timeout`` as :class:`~mutt.client.post.Poster` has them. Raises ``ValueError``.
    """

    def __init__(
        self,
        url: str,
        key: str | Callable[[], str],
        *,
        format: str = "",
        gzip: bool = True,
        batch: int = 500,
        batch_bytes: int = 1 << 20,
        linger: float = 1.0,
        buffer: int = 10_000,
        buffer_bytes: int = 64 << 20,
        when_full: Literal["block", "drop"] = "block",
        block: float = 30.0,
        timeout: float = 10.0,
        ca: str = "",
        cert: str | tuple[str, str] = "",
        on_rejected: Callable[[Sequence[Rejection]], None] | None = None,
    ) -> None:
        if when_full not in ("block", "drop"):
            raise ValueError(f"when_full={when_full!r}: write block or drop")
        if not 1 <= batch <= BATCH_MAX:
            raise ValueError(f"batch={batch}: write a number from 1 to {BATCH_MAX}")
        address(url)
        self._format, self._drops, self._block = format, when_full == "drop", block
        self._on_rejected = on_rejected
        self._make_poster = partial(Poster, url, key, timeout=timeout, compress=gzip, ca=ca, cert=cert)
        most, at_once = Size(buffer, buffer_bytes), Size(batch, batch_bytes)
        self._make_waiting = partial(Waiting, most, at_once, linger)
        self._renew()
        _open.add(self)

    def _renew(self) -> None:
        """Begin with nothing: also in a child, where the parent's threads are gone and its locks may be held."""
        self._lock = threading.Lock()
        self._waiting, self._counted, self._trouble = self._make_waiting(), Counter[str](), ""
        self._thread: SendingThread | None = None
        self._closed, self._quiet_until = False, float("-inf")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Has :meth:`close` been called?"""
        return self._closed

    @property
    def counts(self) -> Counts:
        """What became of the events so far."""
        with self._lock:
            return Counts(**self._counted, waiting=len(self._waiting), trouble=self._trouble)

    def send(self, event: Mapping[str, Any] | str) -> None:
        """Take one event: an object, or a text (without ``format``, one message of syslog, whatever is in it).

        An object with a ``hostname`` and no ``timestamp`` gets the time of now: it may wait. What JSON has no word for
        is written as text. Raises :class:`Full`; ``TypeError`` or ``ValueError`` for what can't be written;
        ``RuntimeError`` after :meth:`close`.
        """
        item = self._item(event)
        if self._closed:
            raise RuntimeError("this client is closed: make another one")
        self._begin()
        taken, dropped = (
            self._waiting.push(item) if self._drops else (self._waiting.put(item, self._block), 0)
        )
        self._count(put=int(taken), full=int(not taken), dropped=dropped)
        if not taken:
            raise Full(self.counts.trouble or "ingest takes less than is sent")

    def flush(self, timeout: float | None = None) -> bool:
        """Send what waits, at once. Is everything gone that was in, within ``timeout`` seconds (None: however long)?"""
        return self._waiting.flush(timeout)

    def close(self, timeout: float | None = GOODBYE) -> bool:
        """Send what waits, for up to ``timeout`` seconds, and take nothing more. Was everything sent?

        What was not is counted as ``lost``; a request whose answer is still awaited then may be taken all the same.
        """
        if self._closed:
            return not self.counts.lost
        self._closed = True
        _open.discard(self)
        self._waiting.close()
        if self._thread is not None:
            self._waiting.flush(timeout)
        left = self._waiting.end()
        self._count(lost=left)
        return left == 0

    def _item(self, event: Mapping[str, Any] | str) -> Item:
        now = time.monotonic()
        if isinstance(event, str):
            if self._format not in ("", "syslog"):
                return Item(event.encode("utf-8", "replace"), TEXT_LINES, self._format, now)
            return Item(_json({"line": event, "at": time.time()}), SYSLOG_OBJECTS, "syslog", now)
        if not isinstance(event, Mapping):
            raise TypeError(f"an event is an object or a text, not {type(event).__name__}")
        native = self._format in ("", "native") and "hostname" in event and "timestamp" not in event
        stamp = {"timestamp": datetime.now(UTC).isoformat()} if native else {}
        return Item(_json({**event, **stamp}), JSON_LINES, self._format, now)

    def _begin(self) -> None:
        """Late, so that a client may be made before a fork."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = SendingThread(target=self._run, name="mutt-client", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        poster = self._make_poster()
        while batch := self._waiting.take():
            self._deliver(poster, batch)
            self._waiting.done(batch)
        poster.close()

    def _deliver(self, poster: Poster, batch: list[Item]) -> None:
        """Send these until ingest has them, or never will; halved where they are too much at once."""
        body = b"\n".join(item.data for item in batch)
        idempotency, wait = uuid4().hex, FIRST_WAIT
        while True:
            if self._waiting.ended:  # they are counted as lost: nothing is to bring them in behind that
                return
            answer = poster.post(body, batch[0].kind, idempotency, batch[0].format)
            if answer.taken or answer.final:
                break
            self._tell(answer.reason)
            self._waiting.pause(answer.after + random.uniform(0, wait))
            self._count(retries=1)
            wait = min(wait * 2, MOST_WAIT)
        if answer.too_large and len(batch) > 1:
            half = len(batch) // 2
            self._deliver(poster, batch[:half])
            self._deliver(poster, batch[half:])
        elif not self._waiting.ended:  # else they are counted as lost
            self._settle(batch, answer)

    def _settle(self, batch: list[Item], answer: Answer) -> None:
        self._trouble = ""
        rejected = rejections([item.data for item in batch], answer)
        self._count(delivered=len(batch) - len(rejected), rejected=len(rejected))
        if not rejected:
            return
        if self._on_rejected is None:
            log.warning("ingest rejects %s events; the first: %s", len(rejected), rejected[0].reason)
            return
        try:
            self._on_rejected(rejected)
        except Exception:  # the caller's own code: its error must not end the thread that sends
            log.exception("on_rejected failed")

    def _tell(self, reason: str) -> None:
        self._trouble = reason
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + SELDOM
            log.warning("events wait, and are sent again: %s", reason)

    def _count(self, **more: int) -> None:
        with self._lock:
            self._counted.update(more)


class SendingThread(threading.Thread):
    """A client's own: what is logged in it is about sending, and must not be sent."""


def _json(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, default=_as_text, separators=(",", ":")).encode()


def _as_text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


#: Clients that are not closed: the end of the program sends what they hold, a forked child begins anew.
_open: weakref.WeakSet[Client] = weakref.WeakSet()


def _close_all() -> None:
    until = time.monotonic() + GOODBYE
    for client in list(_open):
        client.close(max(0.0, until - time.monotonic()))


def _renew_all() -> None:
    for client in list(_open):
        client._renew()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
