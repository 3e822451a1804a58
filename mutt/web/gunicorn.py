"""gunicorn's settings for both applications: ``gunicorn -c python:mutt.web.gunicorn mutt.wsgi:ingest``."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from mutt import told, traces
from mutt.errors import SettingsError
from mutt.logs import configure
from mutt.pulse import report
from mutt.settings import Settings
from mutt.tls import FLOOR, check_ca, check_pair
from mutt.traces import Traces
from mutt.web import telling
from mutt.web.refused import HEADER_MAX, HEADERS_MAX, LINE_MAX

# Said, for gunicorn itself would listen everywhere where a variable PORT is set.
bind = "127.0.0.1:8000"
worker_class = "mutt.web.worker.Worker"
workers = 1
threads = 32
keepalive = 75
timeout = 60
graceful_timeout = 15
limit_request_line = LINE_MAX
limit_request_fields = HEADERS_MAX
limit_request_field_size = HEADER_MAX
try:
    _settings = Settings.from_env()
    _cert, _key = check_pair("TLS_CERT", _settings.tls_cert, "TLS_KEY", _settings.tls_key)
    _client_ca = check_ca("TLS_CLIENT_CA", _settings.tls_client_ca)
    if _client_ca and not _cert:
        raise SettingsError("TLS_CERT", "", "a PEM file, for TLS_CLIENT_CA is set")
    traces.check(_settings)
except SettingsError as error:
    # gunicorn would put a traceback around it.
    raise SystemExit(f"mutt: {error}") from None
certfile, keyfile, ca_certs = _cert or None, _key or None, _client_ca or None
cert_reqs = ssl.CERT_REQUIRED if _client_ca else ssl.CERT_NONE
# Ours say more: metrics count every request, and errors are logged where they happen.
accesslog = None
errorlog = "-"
loglevel = "warning"
# Nobody in front of us writes these, and who writes them himself chooses the path that we see.
forwarder_headers = ""
# Whom we believe about the sender is TRUSTED_PROXIES' to say, for all headers alike: see mutt/web/proxies.py.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
# Two applications of one user would share one socket in the home directory.
control_socket_disable = True


#: Seconds that a thread may compute while others wait for it: a request takes less than one, Python's default is five.
SWITCH = 0.0005


_metrics: socket.socket | None = None
_ends: list[Callable[[], None]] = []  # of what tells of this worker
_traces: Traces | None = None


def on_starting(_server: Any) -> None:
    """The port of metrics is bound once, by who forks the workers: each of them answers there."""
    global _metrics
    try:
        _metrics = told.listen(Settings.from_env())
    except SettingsError as error:
        raise SystemExit(f"mutt: {error}") from None


def ssl_context(_config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """How TLS is spoken here."""
    made = default()
    made.minimum_version = FLOOR
    return made


def post_worker_init(worker: Any) -> None:
    """The worker answers at the port of metrics, too, and says now and then how it is.

    The application stands: what it is made of is no garbage, and need not be looked through again and again.

    A full collection over it took longer than everything else that a request waits for.
    """
    if _metrics:
        told.serve(_metrics, worker.wsgi.extensions["metrics"])
    _report(worker)
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH)


def _report(worker: Any) -> None:
    # Another application than ours may run on these settings: it has nothing to say.
    role, meters = getattr(worker.wsgi, "extensions", {}).get("meters", ("", {}))
    if not role:
        return
    global _traces
    _traces = worker.wsgi.extensions.get("traces")
    settings = Settings.from_env()
    _ends[:] = [
        report.start(
            settings,
            report.name_of(worker.pid),
            {role: meters[role]},
            slots=worker.cfg.threads,
            queued=lambda: worker.waiting,
        )
    ]
    if heard := worker.wsgi.extensions.get("heard"):
        _ends.append(telling.start(settings, heard))


def worker_exit(_server: Any, _worker: Any) -> None:
    """This worker ends, and says so, with whom it heard last; its last spans go out."""
    for end in _ends:
        end()
    if _traces:
        _traces.close()


def when_ready(_server: Any) -> None:
    """What gunicorn itself has to say is said as all else is."""
    with contextlib.suppress(SettingsError):  # a worker says it
        settings = Settings.from_env()
        configure(settings, settings.mutt_role or "gunicorn")
