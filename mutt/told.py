"""What Prometheus is told, on a port of its own: never at the doors by which events or people come in.

``METRICS_PORT`` opens it, on ``METRICS_HOST``. Processes of one machine add up in a directory (``mutt.metrics``), so
any of them tells the sum. What stands in Redis and in the spill is read when it is asked for, by those who may read it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import redis
from prometheus_client import core

from mutt import names
from mutt.errors import SettingsError, Unavailable
from mutt.services import Services
from mutt.settings import Settings
from mutt.streams import books

BREAKER_STATES = {"": 0, "closed": 0, "half_open": 1, "open": 2}

#: Seconds that somebody who asks may be silent.
PATIENCE = 10.0

Tell = Callable[[], bytes]


def teller(services: Services, *, queues: bool) -> Tell:
    """All that a process tells. ``queues``: what stands in Redis, too, which ingest and most workers may not read."""
    collectors = [*([RedisGauges(services)] if queues else []), SpillGauges(services)]
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
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            text = tell()
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


class RedisGauges:
    """What stands in Redis, read when it is asked for: depths, ages, the books, the breaker."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        try:
            s = self._services
            depths = books.depths(s.redis, s.queues, time.time(), s.elsewhere)
            state = s.redis.hget(names.BREAKER, "state") or b""
        except (redis.RedisError, SettingsError):
            return  # nothing is said of what can't be asked; the counters go out all the same
        yield from _queues(depths)
        number = BREAKER_STATES.get(state.decode(), 0)
        yield _gauge("mutt_breaker_state", "Moog's breaker: 0 closed, 1 half open, 2 open", {(): number})
        try:
            ledger = books.read(s.redis, *s.elsewhere)
        except redis.RedisError:
            return  # one of several servers is away: the sum without it would be wrong
        sums = {("events", name): n for name, n in ledger.events.items()}
        sums |= {("alerts", name): n for name, n in ledger.alerts.items()}
        yield _gauge("mutt_ledger", "The books", sums, ["of", "what"])


class SpillGauges:
    """What stands in PostgreSQL's spill, where there is one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[core.Metric]:
        if not self._services.settings.ingest_spill:
            return  # PostgreSQL is not asked
        try:
            stands = self._services.spill.standing()
        except (Unavailable, SettingsError):
            return
        yield _gauge("mutt_spill_events", "Events in the spill", {(): stands.events})
        yield _gauge("mutt_spill_bytes", "Bytes in the spill", {(): stands.bytes})
        yield _gauge("mutt_spill_oldest_seconds", "Age of its oldest round", {(): stands.oldest_s})
        yield _gauge("mutt_spill_set_aside", "Rounds that can't flow back", {(): stands.set_aside})


def _queues(depths: list[books.Depth]) -> Iterator[core.Metric]:
    live = [d for d in depths if not d.queue.startswith("dlq:")]
    dead = [d for d in depths if d.queue.startswith("dlq:")]
    yield _gauge(
        "mutt_queue_depth",
        "Entries in a queue, and alerts behind them",
        {(d.queue,): d.waiting for d in live},
        ["queue"],
    )
    yield _gauge(
        "mutt_queue_oldest_seconds", "Age of its oldest", {(d.queue,): d.oldest_s for d in live}, ["queue"]
    )
    parked = {(d.queue.removeprefix("dlq:"),): d.entries for d in dead}
    yield _gauge("mutt_dlq_depth", "Dead letters", parked, ["queue"])


def _gauge(
    name: str, help_: str, values: Mapping[Any, float], labels: list[str] | None = None
) -> core.Metric:
    metric = core.GaugeMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        metric.add_metric(list(key), value)
    return metric
