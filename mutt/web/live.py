"""What many look at: read by one thread of the process for all of them; while nobody looks nothing is read.

A viewer is a connection that costs a socket, no thread: the worker's loop tells it what is new (``audience.py``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from mutt.web.session import Ticket

log = logging.getLogger("mutt.admin")

#: In the environ of a request whose answer may go on: call it with the viewer, and the connection stays.
STAY = "mutt.stay"

#: Seconds between two looks for something new, and after which a line is sent though there is nothing.
EVERY, HEARTBEAT = 2.0, 10.0

#: Viewers of one process.
MOST = 200

#: Seconds after which a viewer has to come again: it is looked at anew who that is.
LONGEST = 300.0

#: What is sent so that nobody on the way takes the connection for dead; and to those whose session has ended.
STILL_HERE, ENDED = b":\n\n", b"event: ended\ndata: \n\n"

_Value = TypeVar("_Value")


class Shared(Generic[_Value]):
    """A value that is read anew when somebody asks and it is older than ``fresh`` seconds: once for all who ask.

    It is read in a thread of its own: whoever asks waits as long as it wants to, however long the servers take.
    """

    def __init__(self, read: Callable[[], _Value], fresh: float) -> None:
        self._read, self._fresh = read, fresh
        self._pool = ThreadPoolExecutor(1)
        self._reading: Future[_Value] | None = None
        self._last: Future[_Value] | None = None
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def get(self, patience: float) -> _Value | None:
        """The value, at most ``fresh`` seconds old; an older one, or None, where it can't be had in ``patience``."""
        with self._lock:
            if self._reading and self._reading.done():
                self._last, self._reading = self._reading, None
            if self._reading is None:
                if self._last and time.monotonic() < self._read_at + self._fresh:
                    return self._last.result()
                self._read_at = time.monotonic()
                self._reading = self._pool.submit(self._read)
            reading, last = self._reading, self._last
        wait([reading], patience)
        found = reading if reading.done() else last
        return found.result() if found else None


class Viewer:
    """Somebody who looks, until ``until`` (monotonic)."""

    def __init__(self, ticket: Ticket, until: float) -> None:
        self.ticket, self.until = ticket, until
        self.seated = False  #: has the loop the connection?


#: Sends to these viewers, from any thread. ``last``: and ends their answers.
Send = Callable[[bytes, Sequence[Viewer], bool], None]


class Live:
    """The stream of server-sent events at ``path``.

    ``event`` makes what is told, as bytes; ``ended`` says which of the tickets are of sessions that have ended.
    """

    def __init__(
        self,
        path: str,
        event: Callable[[], bytes],
        ended: Callable[[Collection[Ticket]], Collection[Ticket]],
        most: int = MOST,
    ) -> None:
        self.path, self._event, self._ended, self._most = path, event, ended, most
        self._send: Send | None = None
        self._viewers: set[Viewer] = set()
        self._told, self._told_at = b"", 0.0
        self._running = False
        self._lock = threading.Lock()

    def sent_by(self, send: Send) -> None:
        """Whoever keeps the connections says how they are told."""
        self._send = send

    def admit(self, ticket: Ticket) -> Viewer | None:
        """One more who looks; None: there are as many as may be."""
        with self._lock:
            if len(self._viewers) >= self._most:
                return None
            viewer = Viewer(ticket, time.monotonic() + LONGEST)
            self._viewers.add(viewer)
            if not self._running:
                self._running = True
                threading.Thread(target=self._go_on, name="live", daemon=True).start()
        return viewer

    def gone(self, viewer: Viewer) -> None:
        """It does not look any more."""
        with self._lock:
            self._viewers.discard(viewer)

    def _go_on(self) -> None:
        while self._is_looked_at():
            time.sleep(EVERY)
            try:
                self._turn([viewer for viewer in tuple(self._viewers) if viewer.seated])
            except Exception:
                # The thread's edge: whatever went wrong with one turn, the viewers wait for the next.
                log.exception("what goes on could not be told")

    def _is_looked_at(self) -> bool:
        with self._lock:
            self._running = bool(self._viewers)
            return self._running

    def _turn(self, viewers: Sequence[Viewer]) -> None:
        if not viewers or not self._send:
            return
        now = time.monotonic()
        news = self._news(now)
        # After the news: whose session ended while they were made is told nothing of them.
        ended = self._ended({viewer.ticket for viewer in viewers})
        out = [viewer for viewer in viewers if viewer.ticket in ended]
        again = [viewer for viewer in viewers if viewer.until <= now and viewer not in out]
        for leaving, word in ((out, ENDED), (again, STILL_HERE)):
            if leaving:
                self._send(word, leaving, True)
        if news:
            self._send(news, [viewer for viewer in viewers if viewer not in (*out, *again)], False)

    def _news(self, now: float) -> bytes:
        event = self._event()
        if event == self._told and now < self._told_at + HEARTBEAT:
            return b""
        news = STILL_HERE if event == self._told else event
        self._told, self._told_at = event, now
        return news
