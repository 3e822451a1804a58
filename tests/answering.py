"""An ingest that answers as told, on a real socket; it keeps what it took, and knows an Idempotency-Key again."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

from mutt.embedded.ports import free_port


class Told(NamedTuple):
    """One answer. ``cut``: the connection ends instead. ``takes``: what came is in all the same."""

    status: int = 202
    headers: dict[str, str] = {}
    body: dict[str, Any] | None = None
    takes: bool = False
    cut: bool = False


def refusal(status: int, detail: str = "no", **more: Any) -> Told:
    """As ingest itself refuses a request that it has read."""
    about = {"type": "about:blank", "status": status, "detail": detail, "correlation_id": "c-1"}
    return Told(status, {"Content-Type": "application/problem+json"}, about | more)


class Request(NamedTuple):
    path: str
    headers: dict[str, str]  #: by names in lower case
    body: bytes  #: without its coding


class Answering:
    """``script`` are the next answers; after them, each request is taken that holds something. ``keeps``: what came is
    there to be seen. ``proxy`` may answer before all that."""

    def __init__(self, script: Iterable[Told] = (), port: int = 0, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self.proxy: Callable[[Request], Told | None] = lambda _request: None
        self.script, self.requests = list(script), list[Request]()
        self.items, self.answered = list[Any](), dict[str, int]()
        self._lock, self._connections = threading.Lock(), set[socket.socket]()
        self.port = port or free_port(18500)
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Answering:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Answering:
        ingest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits for the client's delayed ACK

            def setup(self) -> None:
                super().setup()
                ingest._hold(self.connection, self.server)

            def do_POST(self) -> None:
                ingest.take(self)

            def do_GET(self) -> None:  # of who follows a redirect
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            with self._lock:
                connections, self._connections = self._connections, set()
            for connection in connections:
                _cut(connection)

    def _hold(self, connection: socket.socket, server: object) -> None:
        """Note a connection, to be cut with the others; its thread may begin only after that."""
        with self._lock:
            self._connections.add(connection)
        if server is not self._server:
            _cut(connection)

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        damaged = False
        if handler.headers["Content-Encoding"] == "gzip":
            try:
                body = gzip.decompress(body)
            except OSError:
                damaged = True
        request = Request(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        with self._lock:
            if self._keeps:
                self.requests.append(request)
            told = self.proxy(request) or (
                refusal(400, "body: is not gzip") if damaged else self._told(request)
            )
            if told.takes and self._keeps:
                self._keep(request)
        if told.cut:
            handler.close_connection = True
            return
        answer = told.body if told.body is not None else {"accepted": body.count(b"\n") + 1, "rejected": []}
        written = json.dumps(answer).encode()
        handler.send_response(told.status)
        for name, value in {**told.headers, "Content-Length": str(len(written))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(written)

    def _told(self, request: Request) -> Told:
        if self.script:
            return self.script.pop(0)
        return Told(takes=True) if request.body else refusal(400, "body: holds no event: send at least one")

    def _keep(self, request: Request) -> None:
        key = request.headers.get("idempotency-key") or f"none, {len(self.requests)}"
        if key not in self.answered:
            self.answered[key] = len(self.requests)
            self.items += [json.loads(line) for line in request.body.split(b"\n") if line]


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
