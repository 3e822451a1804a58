"""An ingest that answers as told, on a real socket; it keeps what it took, and knows an Idempotency-Key again."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Iterable
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


class Request(NamedTuple):
    path: str
    headers: dict[str, str]  #: by names in lower case
    body: bytes  #: without its coding


class Answering:
    """``script`` are the next answers; after them, each request is taken. ``keeps``: what came is there to be seen."""

    def __init__(self, script: Iterable[Told] = (), port: int = 0, *, keeps: bool = True) -> None:
        self._keeps = keeps
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

            def setup(self) -> None:
                super().setup()
                ingest._connections.add(self.connection)

            def do_POST(self) -> None:
                ingest.take(self)

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
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._connections.clear()

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        request = Request(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        with self._lock:
            if self._keeps:
                self.requests.append(request)
            told = self.script.pop(0) if self.script else Told(takes=True)
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

    def _keep(self, request: Request) -> None:
        key = request.headers["idempotency-key"]
        if key not in self.answered:
            self.answered[key] = len(self.requests)
            self.items += [json.loads(line) for line in request.body.split(b"\n")]
