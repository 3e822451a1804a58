"""gunicorn's threaded worker with a door-keeper: a thread gets a request when all of it is here.

gunicorn reads in its threads, and waits there for as long as a sender likes: as many slow senders as there are threads,
known or not, and nobody else is heard. Here the loop reads, without waiting, and a slow sender costs a socket. Whoever
is too slow is told so and left: the head, and the body's first bytes, have ``REQUEST_TIMEOUT``; each KiB that came buys
the body another second.

Small posts of events do not go to a thread one by one: those that are there together go to one, are answered by the
application together, and share an append (the lane). What costs once a group then does not cost once a request: handing
over between threads is dearer than all the rest of it.

TLS (``mutt/web/https.py``) is read in the same loop: its handshake has ``REQUEST_TIMEOUT``, too.

An answer that goes on (``mutt/web/live.py``) has a thread for its beginning alone: what follows is told by the loop.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from gunicorn import SERVER
from gunicorn.arbiter import Arbiter
from gunicorn.http import get_parser, wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import RequestEntityTooLarge

from mutt.errors import RejectedBody, SettingsError
from mutt.settings import Settings
from mutt.web.answer import Answer, written
from mutt.web.audience import Audience
from mutt.web.client import Client
from mutt.web.framing import Framing
from mutt.web.https import IN_THE_CLEAR, Certificates, SecureClient
from mutt.web.intake import Post
from mutt.web.lane import recognised
from mutt.web.live import STAY, Viewer
from mutt.web.problem import last_words
from mutt.web.refused import HEADER_MAX, HEADERS_MAX, LINE_MAX, refusal

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

#: Posts of the lane that go to a thread together, and their bytes.
_GROUP, _GROUP_BYTES = 100, 64 << 10

#: gunicorn's settings by which it, or somebody's code, sees each request: the lane would pass them by.
_OBSERVERS = ("accesslog", "logger_class", "statsd_host", "pre_request", "post_request", "proxy_protocol")

#: Its limits, as the lane keeps them.
_LIMITS = {
    "limit_request_line": LINE_MAX,
    "limit_request_fields": HEADERS_MAX,
    "limit_request_field_size": HEADER_MAX,
}

_HTTPS = "this is a door for HTTPS: send it to https://"

_OURS = "an error of MUTT's own: its log has it; send it again later"

_FULL = (errno.EMFILE, errno.ENFILE)


#: What answers posts that are there together, the first of them since then (monotonic). None: this one goes to a
#: thread of its own.
AnswerAll = Callable[[Sequence[tuple[Post, bytes]], float], list[Answer | None]]


def _uncounted(_status: int) -> None:
    """For an application that does not count."""


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
        self.listened = False  #: does the loop hear when something comes?
        self.data_ready = True  # whenever a thread asks
        self.viewer: Viewer | None = None  #: whom its answer goes on for
        self.greeted = not isinstance(self.sock, SecureClient)  #: is its handshake done, or needs it none?
        self.began = time.monotonic()  #: this request, or to wait for it
        self.framing = Framing(most)

    def take(self) -> bytes:
        """The request, which is whole."""
        request, self._rest = self.framing.taken()
        return request

    def hand_over(self, request: bytes) -> None:
        """Give it to the parser."""
        self._received.give(request)

    @property
    def address(self) -> str:
        """Its sender's, as WSGI's REMOTE_ADDR."""
        return self.client[0] if isinstance(self.client, tuple) else "unknown"

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
        if not self.greeted:
            return self.began + patience
        if not self.begun:
            return self.began + float(self.cfg.keepalive)
        return self.began + patience + (self.size / _RATE if self.framing.headed else 0)


class Waiting(NamedTuple):
    """A connection whose post takes the lane."""

    conn: Connection
    post: tuple[Post, bytes]
    request: bytes  #: all of it, for a thread
    since: float  #: when it was whole (monotonic)


class Worker(ThreadWorker):
    """The worker class of ``mutt/web/gunicorn.py``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: dict[Connection, int] = {}  # with the bytes that are counted for it
        self._leaving: dict[Connection, float] = {}  # until when
        self._held = 0  # bytes of unfinished requests
        self._gathered: deque[Waiting] = deque()  # for the lane
        self._sending: dict[Connection, float] = {}  # an answer of the lane, until when
        self._lane_pool = ThreadPoolExecutor(1)  # its own: others' slow requests may hold all threads
        self._carried = False  # is a group of the lane with it?
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
        self._certificates = Certificates(self.cfg, self.log) if self.cfg.is_ssl else None
        self._audience = self._seats()
        own = getattr(self.wsgi, "config", {}).get("MAX_CONTENT_LENGTH")
        self._answer_all = self._lane()
        self._most = own or Settings.from_env().ingest_max_body
        self._room = max(_ROOM, _LARGEST * self._most)

    def _lane(self) -> AnswerAll | None:
        """What answers a group of posts, if the application has such a thing and nobody wants to see each of them."""
        options = [self.cfg.settings[name] for name in _OBSERVERS]
        observed = self.log.access_log_enabled or any(option.get() != option.default for option in options)
        limited = any(getattr(self.cfg, name) != most for name, most in _LIMITS.items())
        if observed or limited or self.max_keepalived <= 0:
            return None
        return getattr(self.wsgi, "extensions", {}).get("lane")

    def _seats(self) -> Audience | None:
        """Those for whom an answer of the application goes on, if it has such answers."""
        live = getattr(self.wsgi, "extensions", {}).get("live")
        if live is None:
            return None
        audience = Audience(live, self.poller, self._received, self._leave, self._close)
        live.sent_by(partial(self.method_queue.defer, audience.tell))
        return audience

    @property
    def waiting(self) -> int:
        """Whole requests that wait for a thread."""
        return len(self._gathered) + self.tpool._work_queue.qsize()

    # ---- a connection's life: accepted, read, handed over, read again, left

    def accept(self, listener: socket.socket) -> None:
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
        if self._certificates:
            try:
                client = self._certificates.wrap(client)
            except OSError:
                client.close()
                return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        self._await(Connection(self.cfg, client, address, listener.getsockname(), most=self._most))

    def _await(self, conn: Connection) -> None:
        """Its next request may come."""
        self._reading[conn] = 0
        if not conn.listened:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))
            conn.listened = True

    def _read(self, conn: Connection, _sock: socket.socket) -> None:
        if conn not in self._reading:
            self._stop_listening(conn)  # it has an answer to come first, or was ended by another one's turn
            return
        if not (conn.greeted or self._greet(conn)):
            return
        data = self._received(conn)
        if data:
            self._feed(conn, data)
        elif data is not None:
            self._close(conn)

    def _greet(self, conn: Connection) -> bool:
        """Go on with its handshake. Is it done?"""
        try:
            conn.sock.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except OSError as error:
            self.log.info("refused %s: TLS: %s", conn.client, error)
            if getattr(error, "reason", "") == IN_THE_CLEAR:
                conn.sock.say_in_the_clear(last_words(400, _HTTPS))
                self._count(400)
                self._stop_reading(conn)
                self._leave(conn)
            else:
                self._close(conn)
            return False
        conn.greeted, conn.began = True, time.monotonic()
        return True

    @staticmethod
    def _received(conn: Connection) -> bytes | None:
        """What has come; b"": no more will; None: nothing yet."""
        try:
            # Over TLS that is a record, which is less: the rest stays in the system's buffer, and the loop hears of it.
            return conn.sock.recv(_BITE)
        except (BlockingIOError, ssl.SSLWantReadError):
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
            self._go_on(conn)
        elif conn.framing.continues and not asked:
            with contextlib.suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._held > self._room:
            self._refuse_the_oldest_upload()

    def _go_on(self, conn: Connection) -> None:
        """Its request is whole."""
        self._held -= self._reading.pop(conn)
        alone = conn.framing.hopeless or not self._answer_all
        request = conn.take()
        post = None if alone else recognised(request, conn.address)
        if post:
            self._gathered.append(Waiting(conn, post, request, time.monotonic()))
        else:
            self._to_a_thread(conn, request)

    def _to_a_thread(self, conn: Connection, request: bytes) -> None:
        self._stop_listening(conn)
        conn.hand_over(request)
        self.enqueue_req(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Called in the thread when the parser has taken the head. No application may take a part for the whole."""
        if isinstance(conn, Connection):
            req._expected_100_continue = False  # who waited for one has had it, or gets a refusal
            if conn.framing.too_large:
                req.body = TooLarge()
                req.force_close()
            elif not conn.agrees:
                raise RejectedBody("request", "where it ends can't be told: send one Content-Length")
            if self._audience and self._audience.wants(req) and self.alive:
                return self._open(req, conn)
        return bool(super().handle_request(req, conn))

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Called in the thread after an answer. An unread body is here, and needs no reading: see ``next``."""
        return keepalive if isinstance(conn, Connection) else bool(super()._keepalive_after(conn, keepalive))

    def _open(self, req: Any, conn: Connection) -> bool:
        """Called in the thread for an answer that may go on: gunicorn itself would say that it ends."""
        begun = datetime.now(UTC)
        self.nr += 1
        resp, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg)
        environ["wsgi.multithread"], environ[STAY] = True, partial(setattr, conn, "viewer")
        pieces = self.wsgi(environ, resp.start_response)
        try:
            for piece in pieces:
                resp.write(piece)
            if not conn.viewer:
                resp.close()
        finally:
            pieces.close()
        self.log.access(resp, req, environ, datetime.now(UTC) - begun)
        return not resp.should_close()

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        if not isinstance(conn, Connection):
            super().finish_request(conn, fs)
            return
        try:
            kept = fs.result()
        except Exception:  # noqa: BLE001 whatever ended the request, its connection ends with it
            kept = False
        if kept:
            conn.sock.setblocking(False)
        self._answered(conn, kept)

    def _answered(self, conn: Connection, kept: bool) -> None:
        if not kept:
            self._leave(conn)
            return
        if conn.viewer and self._audience:
            self._audience.seat(conn)
            return
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
        self._stop_listening(conn)
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
        self._stop_listening(conn)
        self._leaving.pop(conn, None)
        self._sending.pop(conn, None)
        if self._audience:
            self._audience.forget(conn)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def _stop_reading(self, conn: Connection) -> None:
        if conn in self._reading:
            self._held -= self._reading.pop(conn)
            self._stop_listening(conn)

    def _stop_listening(self, conn: Connection) -> None:
        if conn.listened:
            self.poller.unregister(conn.sock)
            conn.listened = False

    # ---- the lane: gathered, answered in a thread, told by the loop

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Called by gunicorn's loop, again and again."""
        super().wait_for_and_dispatch_events(timeout)
        if self._answer_all and self._gathered and not self._carried:
            self._carried = True
            group = self._next_group()
            since = group[0].since  # its second is the group's
            work = self._lane_pool.submit(self._answer_all, [one.post for one in group], since)
            work.add_done_callback(partial(self.method_queue.defer, self._finish_group, group))

    def _next_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        size = 0
        while self._gathered and len(group) < _GROUP and size < _GROUP_BYTES:
            group.append(self._gathered.popleft())
            size += len(group[-1].post[1])
        self.nr += len(group)
        if self.nr >= self.max_requests:
            self.alive = False
        return group

    def _finish_group(self, group: list[Waiting], work: Future[list[Answer | None]]) -> None:
        self._carried = False
        try:
            answers = work.result()
        except Exception:
            self.log.exception("error handling requests of the lane")
            for one in group:
                self._refuse(one.conn, 500, _OURS)
            return
        kept, now = self.alive and self.cfg.keepalive > 0, time.time()
        for one, answer in zip(group, answers, strict=True):
            if answer is None:
                self._to_a_thread(one.conn, one.request)
            else:
                self._tell(one.conn, written(answer, SERVER, now, kept=kept), kept)
        if behind := [answer.after for answer in answers if answer and answer.after]:
            self.tpool.submit(lambda: [after() for after in behind])

    def _tell(self, conn: Connection, data: bytes, kept: bool) -> None:
        """Send an answer, or the rest of one."""
        try:
            sent = conn.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self._close(conn)
            return
        if sent == len(data):
            self._sending.pop(conn, None)
            self._answered(conn, kept)
            return
        self._stop_listening(conn)
        self._sending.setdefault(conn, time.monotonic() + _SENDING)
        self.poller.register(
            conn.sock, selectors.EVENT_WRITE, partial(self._tell_on, conn, data[sent:], kept)
        )

    def _tell_on(self, conn: Connection, data: bytes, kept: bool, _sock: socket.socket) -> None:
        if conn in self._sending:
            self.poller.unregister(conn.sock)
            self._tell(conn, data, kept)

    # ---- what is refused by the parser, in its thread, and by the loop

    def handle_error(self, _req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Called in the thread for what the parser refuses, and for what went wrong in an answer of ours."""
        refused = (exc.status, str(exc)) if isinstance(exc, RejectedBody) else refusal(exc)
        if refused:
            self._say(client, addr, *refused)
            return
        self.log.exception("error handling a request of %s", addr)
        self._say(client, addr, 500, _OURS)

    def _refuse(self, conn: Connection, status: int, detail: str) -> None:
        """Say why, and leave."""
        self._stop_reading(conn)
        self._say(conn.sock, conn.client, status, detail)
        self._leave(conn)

    def _say(self, sock: socket.socket, address: Any, status: int, detail: str) -> None:
        self.log.info("refused %s with %d: %s", address, status, detail)
        again = 1 if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        with contextlib.suppress(OSError):  # it may not be there any more, or not read: then it is not told
            sock.send(last_words(status, detail, again))
        self._count(status)

    def _count(self, status: int) -> None:
        """The application counts what it never saw, too."""
        getattr(self.wsgi, "extensions", {}).get("refused", _uncounted)(status)

    def _refuse_the_oldest_upload(self) -> None:
        oldest = min((conn for conn in self._reading if conn.size), key=lambda conn: conn.began)
        self._refuse(oldest, 503, "too many uploads are on their way: send it again, in smaller parts")

    def _make_room(self) -> None:
        """No more connections can be had: whoever has waited longest without a whole request goes."""
        waiting = self._leaving or self._sending or self._reading
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
        if self._certificates:
            self._certificates.look()
        for waiting in (self._leaving, self._sending):
            for conn in [conn for conn, until in waiting.items() if until <= now]:
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
        if self._audience:
            self._audience.end()
        self._idle_until = deadline
