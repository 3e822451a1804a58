"""gunicorn's threaded worker with a door-keeper: a thread gets a request when all of it is here.

gunicorn reads in its threads, and waits there for as long as a sender likes: as many slow senders as there are threads,
known or not, and nobody else is heard. Here the loop reads, without waiting, and a slow sender costs a socket. Whoever
is too slow is told so and left: the head, and the body's first bytes, have ``REQUEST_TIMEOUT``; each KiB that came buys
the body another second.

TLS that gunicorn itself ends is read as gunicorn does: let a proxy end it.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.http import get_parser
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import RequestEntityTooLarge

from mutt.errors import RejectedBody, SettingsError
from mutt.settings import Settings
from mutt.web.framing import Framing
from mutt.web.problem import answer
from mutt.web.refused import refusal

#: Bytes that are read at once, so that nobody has the loop for long.
_BITE = 64 << 10

#: Bytes a second that a body must have, counted from its first.
_RATE = 1 << 10

#: Requests of the largest size that may be on their way at once, in bytes all together.
_LARGEST = 4
_ROOM = 64 << 20

#: Seconds that an answer may take to be sent, and that a connection is listened to after its last answer.
_SENDING = 30.0
_LEAVING = 2.0

_FULL = (errno.EMFILE, errno.ENFILE)


def _uncounted(_status: int) -> None:
    """For an application that does not count."""


class Client(socket.socket):
    """A sender's connection. One that does not read its answer is one that went away."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the sender does not read its answer") from None


class Received:
    """A whole request as the parser reads it: behind its last byte is the end."""

    def __init__(self) -> None:
        self._data, self._at = b"", 0

    def give(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def recv(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._data) - self._at


class TooLarge:
    """The body of a request that says it is larger than may be: none of it is here, and whoever reads it hears why."""

    def read(self, _size: int = -1) -> bytes:
        raise RequestEntityTooLarge

    readline = read

    def readlines(self, _hint: int = -1) -> list[bytes]:
        raise RequestEntityTooLarge

    def __iter__(self) -> Iterator[bytes]:
        raise RequestEntityTooLarge


class Connection(TConn):
    """A connection, and what came on it so far."""

    parser: Any

    def __init__(self, *args: Any, most: int) -> None:
        super().__init__(*args)
        self._most = most
        self._received = Received()
        self._rest = b""
        self.data_ready = True  # whenever a thread asks
        self.began = time.monotonic()  #: this request, or to wait for it
        self.framing = Framing(most)

    def hand_over(self) -> None:
        """The request is whole: give it to the parser."""
        request, self._rest = self.framing.taken()
        self._received.give(request)

    def init(self) -> None:
        """Called in the thread, before each request."""
        self.sock.settimeout(_SENDING)
        if self.parser is None:
            self.parser = get_parser(self.cfg, self._received, self.client)

    def next(self) -> bytes:
        """Begin with the next request; what of it is here already. What nobody read of the last one is forgotten."""
        self.began, self.framing = time.monotonic(), Framing(self._most)
        self._received.give(b"")
        if self.parser is not None:
            self.parser.unreader.take_buffered()
            self.parser.mesg = None
        return self._rest

    @property
    def size(self) -> int:
        """Bytes of an unfinished request."""
        return len(self.framing)

    @property
    def agrees(self) -> bool:
        """Does the parser, which has read the head, see the request end where we do? Its body has a length then."""
        here = len(self.parser.unreader.buf.getvalue()) + self._received.left
        return not self.framing.hopeless and bool(self.parser.mesg.body.reader.length == here)

    @property
    def begun(self) -> bool:
        """Did anything of its next request come?"""
        return self.framing.headed or self.size > 0

    def deadline(self, patience: float) -> float:
        """When its sender has been too slow (monotonic)."""
        if not self.begun:
            return self.began + float(self.cfg.keepalive)
        return self.began + patience + (self.size / _RATE if self.framing.headed else 0)


class Worker(ThreadWorker):
    """The worker class of ``mutt/web/gunicorn.py``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: dict[Connection, int] = {}  # with the bytes that are counted for it
        self._leaving: dict[Connection, float] = {}  # until when
        self._held = 0  # bytes of unfinished requests
        self._looked_at = 0.0
        self._idle_until = float("inf")

    def init_process(self) -> None:
        """Called in the worker's own process; serves until the end."""
        try:
            self._patience = Settings.from_env().request_timeout
            self._too_slow = (
                f"the request came too slowly: send its headers within {self._patience:g} s (REQUEST_TIMEOUT),"
                f" and its body with {_RATE} bytes/s or more"
            )
            super().init_process()
        except SettingsError as error:
            self.log.error("mutt: %s", error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # else gunicorn would try again for ever

    def load_wsgi(self) -> None:
        """Each application has its own limit, and refuses what is larger: the loop must read as much as it takes."""
        super().load_wsgi()
        own = getattr(self.wsgi, "config", {}).get("MAX_CONTENT_LENGTH")
        self._most = own or Settings.from_env().ingest_max_body
        self._room = max(_ROOM, _LARGEST * self._most)

    # ---- a connection's life: accepted, read, handed over, read again, left

    def accept(self, listener: socket.socket) -> None:
        if self.cfg.is_ssl:
            super().accept(listener)
            return
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in _FULL:
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        client = Client(fileno=accepted.detach())
        client.setblocking(False)
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        self._await(Connection(self.cfg, client, address, listener.getsockname(), most=self._most))

    def _await(self, conn: Connection) -> None:
        """Its next request may come."""
        self._reading[conn] = 0
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))

    def _read(self, conn: Connection, _sock: socket.socket) -> None:
        if conn not in self._reading:  # another one's turn ended it, after the loop had heard of its bytes
            return
        data = self._received(conn)
        if data:
            self._feed(conn, data)
        elif data is not None:
            self._close(conn)

    @staticmethod
    def _received(conn: Connection) -> bytes | None:
        """What has come; b"": no more will; None: nothing yet."""
        try:
            return conn.sock.recv(_BITE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _feed(self, conn: Connection, data: bytes) -> None:
        asked = conn.framing.continues
        if not conn.begun:
            conn.began = time.monotonic()  # however long it was idle before
        try:
            whole = conn.framing.feed(data)
        except RejectedBody as refusal:
            self._refuse(conn, refusal.status, str(refusal))
            return
        self._held += conn.size - self._reading[conn]
        self._reading[conn] = conn.size
        if whole:
            self._stop_reading(conn)
            conn.hand_over()
            self.enqueue_req(conn)
        elif conn.framing.continues and not asked:
            with contextlib.suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._held > self._room:
            self._refuse_the_oldest_upload()

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Called in the thread when the parser has taken the head. No application may take a part for the whole."""
        if isinstance(conn, Connection):
            req._expected_100_continue = False  # who waited for one has had it, or gets a refusal
            if conn.framing.too_large:
                req.body = TooLarge()
                req.force_close()
            elif not conn.agrees:
                raise RejectedBody("request", "where it ends can't be told: send one Content-Length")
        return bool(super().handle_request(req, conn))

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Called in the thread after an answer. An unread body is here, and needs no reading: see ``next``."""
        return keepalive if isinstance(conn, Connection) else bool(super()._keepalive_after(conn, keepalive))

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        if not isinstance(conn, Connection):
            super().finish_request(conn, fs)
            return
        try:
            kept = fs.result()
        except Exception:  # noqa: BLE001 whatever ended the request, its connection ends with it
            kept = False
        if not kept:
            self._leave(conn)
            return
        conn.sock.setblocking(False)
        begun = conn.next()
        self._await(conn)
        if begun:
            self._feed(conn, begun)

    def _leave(self, conn: Connection) -> None:
        """Close it so that its sender can read the answer first: a reset would overtake that."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # also where gunicorn closed it, in the middle of an answer
            self._close(conn)
            return
        conn.next()
        self._leaving[conn] = time.monotonic() + _LEAVING
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        self._drain(conn, conn.sock)

    def _drain(self, conn: Connection, _sock: socket.socket) -> None:
        if conn not in self._leaving:
            return
        if self._received(conn) == b"":
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        self._stop_reading(conn)
        self._leaving.pop(conn, None)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def _stop_reading(self, conn: Connection) -> None:
        if conn in self._reading:
            self._held -= self._reading.pop(conn)
            self.poller.unregister(conn.sock)

    # ---- what is refused by the parser, in its thread, and by the loop

    def handle_error(self, _req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Called in the thread for what the parser refuses, and for what went wrong in an answer of ours."""
        refused = (exc.status, str(exc)) if isinstance(exc, RejectedBody) else refusal(exc)
        if refused:
            self._say(client, addr, *refused)
            return
        self.log.exception("error handling a request of %s", addr)
        self._say(client, addr, 500, "an error of MUTT's own: its log has it; send it again later")

    def _refuse(self, conn: Connection, status: int, detail: str) -> None:
        """Say why, and leave."""
        self._stop_reading(conn)
        self._say(conn.sock, conn.client, status, detail)
        self._leave(conn)

    def _say(self, sock: socket.socket, address: Any, status: int, detail: str) -> None:
        self.log.info("refused %s with %d: %s", address, status, detail)
        again = 1 if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        with contextlib.suppress(OSError):  # it may not be there any more, or not read: then it is not told
            sock.send(answer(status, detail, again))
        # The application counts what it never saw, too.
        getattr(self.wsgi, "extensions", {}).get("refused", _uncounted)(status)

    def _refuse_the_oldest_upload(self) -> None:
        oldest = min((conn for conn in self._reading if conn.size), key=lambda conn: conn.began)
        self._refuse(oldest, 503, "too many uploads are on their way: send it again, in smaller parts")

    def _make_room(self) -> None:
        """No more connections can be had: whoever has waited longest without a whole request goes."""
        waiting = self._leaving or self._reading
        if waiting:
            self._close(min(waiting, key=lambda conn: conn.began))

    # ---- what gunicorn's loop calls at least once a second

    def murder_pending(self) -> None:
        """Leave those who are too slow."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._looked_at + 0.5:
            return
        self._looked_at = now
        for conn in [conn for conn, until in self._leaving.items() if until <= now]:
            self._close(conn)
        for conn in [conn for conn in self._reading if conn.deadline(self._patience) <= now]:
            if conn.begun:
                self._refuse(conn, 408, self._too_slow)
            else:
                self._close(conn)
        if now >= self._idle_until:
            self.murder_keepalived(force=True)

    def murder_keepalived(self, force: bool = False) -> None:
        """``force``: close those that wait for a request of which nothing came."""
        super().murder_keepalived(force)
        for conn in [conn for conn in self._reading if force and not conn.begun]:
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker stops: idle connections stay until ``deadline``."""
        super()._cap_keepalive(deadline)
        self._idle_until = deadline
