"""The lane as the worker has it: posts that are there together go to one thread, and are told by the loop.

Handing over between threads is dearer than all the rest of a small post: so what costs once a group does not cost once
a post. Which posts take it: ``mutt/web/lane.py``.
"""

from __future__ import annotations

import selectors
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

from gunicorn import SERVER

from mutt.web.answer import Answer, written
from mutt.web.connection import SENDING, Connection
from mutt.web.lane import recognised
from mutt.web.post import Post

#: Posts that go to a thread together, and their bytes.
GROUP, GROUP_BYTES = 100, 64 << 10

#: What is said of an error of ours.
OURS = "an error of MUTT's own: its log has it; send it again later"

#: What answers posts that are there together, the first of them since then (monotonic). None: this one goes to a
#: thread of its own.
AnswerAll = Callable[[Sequence[tuple[Post, bytes]], float], list[Answer | None]]


class Waiting(NamedTuple):
    """A connection whose post takes the lane."""

    conn: Connection
    post: tuple[Post, bytes]
    request: bytes  #: all of it, for a thread
    since: float  #: when it was whole (monotonic)


class Loop(Protocol):
    """The worker, as the lane needs it."""

    alive: bool
    cfg: Any
    log: Any
    poller: selectors.BaseSelector
    method_queue: Any  #: calls what it is given in the loop
    tpool: Any

    def counted(self, requests: int) -> None: ...

    def to_a_thread(self, conn: Connection, request: bytes) -> None: ...

    def stop_listening(self, conn: Connection) -> None: ...

    def answered(self, conn: Connection, kept: bool) -> None: ...

    def refuse(self, conn: Connection, status: int, detail: str) -> None: ...

    def hang_up(self, conn: Connection) -> None: ...


class Lane:
    """Everything here is called by the loop, but for ``answer_all``, which has a thread of its own: others' slow
    requests may hold all threads."""

    def __init__(self, loop: Loop, answer_all: AnswerAll) -> None:
        self._loop, self._answer_all = loop, answer_all
        self._gathered: deque[Waiting] = deque()
        self.sending: dict[Connection, float] = {}  #: an answer, until when
        self._pool = ThreadPoolExecutor(1)
        self._carried = False  # is a group with it?

    @property
    def waiting(self) -> int:
        """Posts that wait for the thread."""
        return len(self._gathered)

    def took(self, conn: Connection, request: bytes) -> bool:
        """Does this request, which is whole, take the lane?"""
        post = recognised(request, conn.address)
        if post is None:
            return False
        self._gathered.append(Waiting(conn, post, request, time.monotonic()))
        return True

    def carry(self) -> None:
        """Give what is gathered to the thread, if it is free."""
        if not self._gathered or self._carried:
            return
        self._carried = True
        group = self._next_group()
        since = group[0].since  # its second is the group's
        work = self._pool.submit(self._answer_all, [one.post for one in group], since)
        work.add_done_callback(partial(self._loop.method_queue.defer, self._finish, group))

    def forget(self, conn: Connection) -> None:
        """It is closed."""
        self.sending.pop(conn, None)

    def _next_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        size = 0
        while self._gathered and len(group) < GROUP and size < GROUP_BYTES:
            group.append(self._gathered.popleft())
            size += len(group[-1].post[1])
        self._loop.counted(len(group))
        return group

    def _finish(self, group: list[Waiting], work: Future[list[Answer | None]]) -> None:
        loop = self._loop
        self._carried = False
        try:
            answers = work.result()
        except Exception:
            loop.log.exception("error handling requests of the lane")
            for one in group:
                loop.refuse(one.conn, 500, OURS)
            return
        kept, now = loop.alive and loop.cfg.keepalive > 0, time.time()
        for one, answer in zip(group, answers, strict=True):
            if answer is None:
                loop.to_a_thread(one.conn, one.request)
            else:
                self._tell(one.conn, written(answer, SERVER, now, kept=kept), kept)
        if behind := [answer.after for answer in answers if answer and answer.after]:
            loop.tpool.submit(lambda: [after() for after in behind])

    def _tell(self, conn: Connection, data: bytes, kept: bool) -> None:
        """Send an answer, or the rest of one."""
        try:
            sent = conn.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self._loop.hang_up(conn)
            return
        if sent == len(data):
            self.sending.pop(conn, None)
            self._loop.answered(conn, kept)
            return
        self._loop.stop_listening(conn)
        self.sending.setdefault(conn, time.monotonic() + SENDING)
        self._loop.poller.register(
            conn.sock, selectors.EVENT_WRITE, partial(self._tell_on, conn, data[sent:], kept)
        )

    def _tell_on(self, conn: Connection, data: bytes, kept: bool, _sock: Any) -> None:
        if conn in self.sending:
            self._loop.poller.unregister(conn.sock)
            self._tell(conn, data, kept)
