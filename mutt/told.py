"""What Prometheus is told, on a port of its own: never at the doors by which events or people come in.

``METRICS_PORT`` opens it, on ``METRICS_HOST``. Processes of one machine add up in a directory (``mutt.metrics``), so
any of them tells the sum. What stands in Redis and PostgreSQL is read when it is asked for (``mutt.gauges``).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mutt.errors import SettingsError
from mutt.gauges import PostgresGauges, PulseGauges, RedisGauges, SpillGauges
from mutt.services import Services
from mutt.settings import Settings

#: Seconds that somebody who asks may be silent.
PATIENCE = 10.0

Tell = Callable[[], bytes]


def teller(services: Services, *, queues: bool) -> Tell:
    """All that a process tells. ``queues``: how the stores are, too, which ingest and most workers may not read."""
    stores = [RedisGauges(services), PulseGauges(services), PostgresGauges(services)] if queues else []
    collectors = [*stores, SpillGauges(services)]
    return lambda: services.metrics.exposition(*collectors)


def listen(settings: Settings) -> socket.socket | None:
    """The port of metrics, bound; None: there is to be none. Raises :class:`SettingsError`."""
    host, port = settings.metrics_host, settings.metrics_port
    if not port:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        expected = f"a port that can be listened on at METRICS_HOST={host} ({error.strerror or error})"
        raise SettingsError("METRICS_PORT", str(port), expected) from error


def serve(listening: socket.socket, tell: Tell) -> ThreadingHTTPServer:
    """Answer ``/metrics`` there from a thread, until the process ends. Processes may share one socket."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE
        server_version, sys_version = "mutt", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path not in ("/metrics", "/healthz"):
                self.send_error(404)
                return
            # Whether this process lives is no question to any server: an outage must not restart who waits for its end.
            try:
                text = tell() if path == "/metrics" else b"ok\n"
            except TimeoutError as error:
                self.send_error(503, str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Who asks is no news."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Who hangs up before his answer is no news, either."""

    server = Server(listening.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
