"""The port of metrics, and how metrics that are read become Prometheus' own; for processes large and small."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from prometheus_client import core

from mutt.errors import SettingsError
from mutt.settings import Settings

#: Seconds that somebody who asks may be silent.
PATIENCE = 10.0

Tell = Callable[[], bytes]


class Kind(NamedTuple):
    """One metric that is read."""

    help: str
    labels: tuple[str, ...] = ()
    counts: bool = False  #: it only goes up


#: Values of one metric by its labels' values, a tuple.
Values = Mapping[Any, float]


def families(told: Mapping[str, Values], kinds: Mapping[str, Kind]) -> Iterator[core.Metric]:
    """These metrics as Prometheus' library has them."""
    for name, values in told.items():
        kind = kinds[name]
        make = core.CounterMetricFamily if kind.counts else core.GaugeMetricFamily
        metric = make(name, kind.help, labels=kind.labels)
        for labels, value in values.items():
            metric.add_metric(list(labels), value)
        yield metric


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
