"""Handler: one HTTP connection to the simulator.

::

    POST   /events/…                  Enterprise           GET    /stats     counts
    POST   /v1/integrations/events    Cloud                GET    /received  ?limit= &signature=
    POST   /script                    a step, or several   GET    /alerts    folded by signature
    DELETE /received                  forget everything    GET    /          a page
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from mutt.moogsim import wire
from mutt.moogsim.book import Book
from mutt.moogsim.script import Behaviour, Script, Step

#: The largest body that is read, in bytes.
BODY_MAX = 64 * 1024 * 1024
#: Seconds between two bytes of a drip, where the step gives no delay.
DRIP = 0.1

#: The page, and what it loads.
PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}

#: Of every answer. What came stands in them, so a browser runs and keeps none of it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Moog(msgspec.Struct, frozen=True):
    """What all connections share; an empty ``key`` lets everyone in."""

    script: Script
    book: Book
    key: str = ""


class Server(ThreadingHTTPServer):
    """Listens, a thread for each connection, and can cut them all."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], moog: Moog) -> None:
        super().__init__(address, Handler)
        self.moog = moog
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def hold(self, connection: socket.socket) -> None:
        """Note a connection, to be cut with the others."""
        with self._lock:
            self._open.add(connection)
        if self.stopped.is_set():
            self._end(connection)

    def release(self, connection: socket.socket) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._open.discard(connection)

    def cut(self) -> None:
        """End every connection, and each that still comes."""
        self.stopped.set()
        with self._lock:
            for connection in self._open:
                self._end(connection)

    @staticmethod
    def _end(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    rfile: io.BufferedReader
    at = 0.0

    def setup(self) -> None:
        super().setup()
        self.server.hold(self.connection)

    def finish(self) -> None:
        self.server.release(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one_request(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            if self.rfile.peek(1):
                self.at = time.monotonic()
                super().handle_one_request()

    def log_message(self, *_: Any) -> None:
        """Quiet: the page and ``/received`` show what came."""

    # What http.server calls:

    def send_error(self, code: int, *_: Any) -> None:
        """A request that it can't read. Its own answer would be a page that holds what was sent."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or ""
        self._json(code, {"message": HTTPStatus(code).phrase}, {"Connection": "close"})

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        dialect = wire.dialect_of(self.path)
        if dialect:
            self._events(dialect, body)
        elif urlsplit(self.path).path == "/script":
            if self._is_own():
                self._tell(body)
        else:
            self._json(404, {"message": "no such page"})

    def do_DELETE(self) -> None:
        if urlsplit(self.path).path != "/received":
            return self._json(404, {"message": "no such page"})
        if not self._is_own():
            return None
        self.server.moog.book.reset()
        return self._json(200, {})

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        limit = int(asked["limit"]) if asked.get("limit", "").isdecimal() else None
        moog = self.server.moog
        match parts.path:
            case path if path in PAGES:
                name, kind = PAGES[path]
                self._write(200, Path(__file__).with_name(name).read_bytes(), {"Content-Type": kind})
            case "/stats":
                self._json(200, moog.book.stats())
            case "/received":
                self._json(200, moog.book.received(limit, asked.get("signature")))
            case "/alerts":
                self._json(200, moog.book.alerts(limit))
            case "/script":
                self._json(200, moog.script.now)
            case _:
                self._json(404, {"message": "no such page"})

    do_HEAD = do_GET

    # Moog's part:

    def _events(self, dialect: str, body: bytes) -> None:
        clock = time.time()
        try:
            came, wrong = wire.read(dialect, body), ""
        except wire.BadBody as error:
            came, wrong = [], str(error)
        step, said = self._judge(dialect, came, wrong)
        status = 0 if step.behaviour is Behaviour.HANGUP_BEFORE else said.status
        self.server.moog.book.add(
            came, at=self.at, time=clock, status=status, taken=said.taken, behaviour=step.behaviour
        )
        self._answer(step, said)

    def _judge(self, dialect: str, came: list[wire.Came], wrong: str) -> tuple[Step, wire.Reply]:
        moog = self.server.moog
        if moog.key and not wire.authorised(dict(self.headers.items()), moog.key):
            return Step(), wire.failure(401, "API Key required")
        if wrong:
            return Step(), wire.failure(400, wrong)
        step = moog.script.next()
        return step, wire.reply(step, dialect, came)

    def _answer(self, step: Step, said: wire.Reply) -> None:
        drips = step.behaviour in (Behaviour.DRIP, Behaviour.DRIP_BODY)
        if step.delay and not drips:
            self.server.stopped.wait(step.delay)
        if step.behaviour is Behaviour.HANGUP_BEFORE:
            self.close_connection = True
        elif drips:
            self._drip(step, said)
        else:
            self._json(said.status, said.body, said.headers)
            self.close_connection |= step.behaviour is Behaviour.HANGUP_AFTER

    def _drip(self, step: Step, said: wire.Reply) -> None:
        head, body = self._encode(said.status, msgspec.json.encode(said.body), said.headers)
        if step.behaviour is Behaviour.DRIP_BODY:
            self.wfile.write(head)
            head = b""
        for byte in head + body:
            self.wfile.write(bytes((byte,)))
            if self.server.stopped.wait(step.delay or DRIP):
                break

    def _tell(self, body: bytes) -> None:
        try:
            steps = msgspec.json.decode(body, type=list[Step] | Step)
        except msgspec.DecodeError as error:
            return self._json(400, {"message": str(error)})
        self.server.moog.script.set(*(steps if isinstance(steps, list) else [steps]))
        return self._json(200, self.server.moog.script.now)

    # HTTP:

    def _is_own(self) -> bool:
        """Does no other site's page, in a browser that can reach us, ask?"""
        if self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            return True
        self._json(403, {"message": "a page of another site may not change what is answered here"})
        return False

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_MAX:
            self.close_connection = True
            self._json(413 if length.isdecimal() else 411, {"message": "Content-Length"})
            return None
        return self.rfile.read(int(length))

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._write(status, msgspec.json.encode(body), headers or {})

    def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        head, body = self._encode(status, body, headers)
        self.wfile.write(head + body)

    def _encode(self, status: int, body: bytes, headers: dict[str, str]) -> tuple[bytes, bytes]:
        fields = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        } | HEADERS
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (fields | headers).items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), b"" if self.command == "HEAD" else body
