"""gunicorn's settings for both applications: ``gunicorn -c python:mutt.web.gunicorn mutt.wsgi:ingest``."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import Any

from prometheus_client import multiprocess

from mutt.errors import SettingsError
from mutt.logs import configure
from mutt.settings import Settings
from mutt.web.refused import HEADER_MAX, HEADERS_MAX, LINE_MAX

worker_class = "mutt.web.worker.Worker"
workers = 1
threads = 32
keepalive = 75
timeout = 60
graceful_timeout = 15
limit_request_line = LINE_MAX
limit_request_fields = HEADERS_MAX
limit_request_field_size = HEADER_MAX
# Ours say more: metrics count every request, and errors are logged where they happen.
accesslog = None
errorlog = "-"
loglevel = "warning"
# Nobody in front of us writes these, and who writes them himself chooses the path that we see.
forwarder_headers = ""
# Two applications of one user would share one socket in the home directory.
control_socket_disable = True


#: Seconds that a thread may compute while others wait for it: a request takes less than one, Python's default is five.
SWITCH = 0.0005


def post_worker_init(_worker: Any) -> None:
    """The application stands: what it is made of is no garbage, and need not be looked through again and again.

    A full collection over it took longer than everything else that a request waits for.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH)


def child_exit(_server: Any, worker: Any) -> None:
    """A worker is gone: its gauges go with it."""
    directory = Settings.from_env().metrics_dir
    if directory:
        multiprocess.mark_process_dead(worker.pid, path=directory)  # type: ignore[no-untyped-call]


def when_ready(_server: Any) -> None:
    """What gunicorn itself has to say is said as all else is."""
    with contextlib.suppress(SettingsError):  # a worker says it
        settings = Settings.from_env()
        configure(settings, settings.mutt_role or "gunicorn")
