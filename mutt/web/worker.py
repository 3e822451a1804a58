"""gunicorn's threaded worker with a door-keeper: a thread gets a request when all of it is here.

gunicorn reads in its threads, and waits there for as long as a sender likes: as many slow senders as there are threads,
known or not, and nobody else is heard. Here the loop reads, without waiting, and a slow sender costs a socket. Whoever
is too slow is told so and left: the head, and the body's first bytes, have ``REQUEST_TIMEOUT``; each KiB that came buys
the body another second.

Small posts of events do not go to a thread one by one: those that are there together go to one, are answered by the
application together, and share an append (the lane, ``mutt/web/together.py``).

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
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.http import wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

from mutt.errors import RejectedBody, SettingsError
from mutt.settings import Settings
from mutt.web.audience import Audience
from mutt.web.client import Client
from mutt.web.connection import RATE, Connection, TooLarge
from mutt.web.https import IN_THE_CLEAR, Certificates
from mutt.web.live import STAY
from mutt.web.problem import last_words
from mutt.web.refused import HEADER_MAX, HEADERS_MAX, LINE_MAX, refusal
from mutt.web.together import OURS, Lane

#: Bytes that are read at once, so that nobody has the loop for long.
_BITE = 64 << 10

#: Requests of the largest size that may be on their way at once, in bytes all together.
_LARGEST = 4
_ROOM = 64 << 20

#: Seconds that a connection is listened to after its last answer.
_LEAVING = 2.0

#: gunicorn's settings by which it, or somebody's code, sees each request: the lane would pass them by.
_OBSERVERS = ("accesslog", "logger_class", "statsd_host", "pre_request", "post_request", "proxy_protocol")

#: Its limits, as the lane keeps them.
_LIMITS = {
    "limit_request_line": LINE_MAX,
    "limit_request_fields": HEADERS_MAX,
    "limit_request_field_size": HEADER_MAX,
}

_TOO_MANY = "too many uploads are on their way: send it again, in smaller parts"

_HTTPS = "this is a door for HTTPS: send it to https://"

_FULL = (errno.EMFILE, errno.ENFILE)


def _uncounted(_status: int) -> None:
    """For an application that does not count."""


class Worker(ThreadWorker):
    """The worker class of ``mutt/web/gunicorn.py``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: dict[Connection, int] = {}  # with the bytes that are counted for it
        self._leaving: dict[Connection, float] = {}  # until when
        self._held = 0  # bytes of unfinished requests
        self._handed = 0  # bytes of those that wait for a thread, or have one
        self._lane: Lane | None = None
        self._looked_at = 0.0
        self._idle_until = float("inf")

    def init_process(self) -> None:
        """Called in the worker's own process; serves until the end."""
        try:
            self._patience = Settings.from_env().request_timeout
            self._too_slow = (
                f"the request came too slowly: send its headers within {self._patience:g} s (REQUEST_TIMEOUT),"
                f" and its body with {RATE} bytes/s or more"
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
        self._lane = self._found_lane()
        self._most = own or Settings.from_env().ingest_max_body
        self._room = max(_ROOM, _LARGEST * self._most)
        # As much as all threads have at the most: what is beyond that would only wait.
        self._room_of_threads = max(self._room, int(self.cfg.threads) * self._most)

    def _found_lane(self) -> Lane | None:
        """The lane, if the application answers groups of posts and nobody wants to see each of them."""
        options = [self.cfg.settings[name] for name in _OBSERVERS]
        observed = self.log.access_log_enabled or any(option.get() != option.default for option in options)
        limited = any(getattr(self.cfg, name) != most for name, most in _LIMITS.items())
        if observed or limited or self.max_keepalived <= 0:
            return None
        answer_all = getattr(self.wsgi, "extensions", {}).get("lane")
        return Lane(self, answer_all) if answer_all else None

    def _seats(self) -> Audience | None:
        """Those for whom an answer of the application goes on, if it has such answers."""
        live = getattr(self.wsgi, "extensions", {}).get("live")
        if live is None:
            return None
        audience = Audience(live, self.poller, self._received, self._leave, self.hang_up)
        live.sent_by(partial(self.method_queue.defer, audience.tell))
        return audience

    @property
    def waiting(self) -> int:
        """Whole requests that wait for a thread."""
        return (self._lane.waiting if self._lane else 0) + self.tpool._work_queue.qsize()

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
            self.stop_listening(conn)  # it has an answer to come first, or was ended by another one's turn
            return
        if not (conn.greeted or self._greet(conn)):
            return
        data = self._received(conn)
        if data:
            self._feed(conn, data)
        elif data is not None:
            self.hang_up(conn)

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
                self.hang_up(conn)
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
            self.refuse(conn, refusal.status, str(refusal))
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
        elif conn.size > _BITE and self._handed > self._room_of_threads:
            self.refuse(conn, 503, _TOO_MANY)

    def _go_on(self, conn: Connection) -> None:
        """Its request is whole."""
        self._held -= self._reading.pop(conn)
        hopeless, request = conn.framing.hopeless, conn.take()
        if hopeless or not self._lane or not self._lane.took(conn, request):
            self.to_a_thread(conn, request)

    def to_a_thread(self, conn: Connection, request: bytes) -> None:
        self.stop_listening(conn)
        conn.hand_over(request)
        self._handed += conn.handed
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
        self._handed -= conn.handed
        try:
            kept = fs.result()
        except Exception:  # noqa: BLE001 whatever ended the request, its connection ends with it
            kept = False
        if kept:
            conn.sock.setblocking(False)
        self.answered(conn, kept)

    def answered(self, conn: Connection, kept: bool) -> None:
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
            self.hang_up(conn)
            return
        conn.next()
        self.stop_listening(conn)
        self._leaving[conn] = time.monotonic() + _LEAVING
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        self._drain(conn, conn.sock)

    def _drain(self, conn: Connection, _sock: socket.socket) -> None:
        if conn not in self._leaving:
            return
        if self._received(conn) == b"":
            self.hang_up(conn)

    def hang_up(self, conn: Connection) -> None:
        self._stop_reading(conn)
        self.stop_listening(conn)
        self._leaving.pop(conn, None)
        if self._lane:
            self._lane.forget(conn)
        if self._audience:
            self._audience.forget(conn)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def _stop_reading(self, conn: Connection) -> None:
        if conn in self._reading:
            self._held -= self._reading.pop(conn)
            self.stop_listening(conn)

    def stop_listening(self, conn: Connection) -> None:
        if conn.listened:
            self.poller.unregister(conn.sock)
            conn.listened = False

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Called by gunicorn's loop, again and again."""
        super().wait_for_and_dispatch_events(timeout)
        if self._lane:
            self._lane.carry()

    def counted(self, requests: int) -> None:
        """So many were taken from the lane: after ``max_requests`` the worker ends."""
        self.nr += requests
        if self.nr >= self.max_requests:
            self.alive = False

    # ---- what is refused by the parser, in its thread, and by the loop

    def handle_error(self, _req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Called in the thread for what the parser refuses, and for what went wrong in an answer of ours."""
        refused = (exc.status, str(exc)) if isinstance(exc, RejectedBody) else refusal(exc)
        if refused:
            self._say(client, addr, *refused)
            return
        self.log.exception("error handling a request of %s", addr)
        self._say(client, addr, 500, OURS)

    def refuse(self, conn: Connection, status: int, detail: str) -> None:
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
        self.refuse(oldest, 503, _TOO_MANY)

    def _make_room(self) -> None:
        """No more connections can be had: whoever has waited longest without a whole request goes."""
        waiting = self._leaving or (self._lane and self._lane.sending) or self._reading
        if waiting:
            self.hang_up(min(waiting, key=lambda conn: conn.began))

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
        for waiting in (self._leaving, self._lane.sending if self._lane else {}):
            for conn in [conn for conn, until in waiting.items() if until <= now]:
                self.hang_up(conn)
        for conn in [conn for conn in self._reading if conn.deadline(self._patience) <= now]:
            if conn.begun:
                self.refuse(conn, 408, self._too_slow)
            else:
                self.hang_up(conn)
        if now >= self._idle_until:
            self.murder_keepalived(force=True)

    def murder_keepalived(self, force: bool = False) -> None:
        """``force``: close those that wait for a request of which nothing came."""
        super().murder_keepalived(force)
        for conn in [conn for conn in self._reading if force and not conn.begun]:
            self.hang_up(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker stops: idle connections stay until ``deadline``."""
        super()._cap_keepalive(deadline)
        if self._audience:
            self._audience.end()
        self._idle_until = deadline
