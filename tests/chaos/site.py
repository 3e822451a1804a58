"""What a chaos run breaks: the real ``mutt up``, with a proxy between each two of its parts.

Redis, PostgreSQL and the Moog simulator are started here, so that they can be killed and brought back at will;
``mutt up`` is told of them by their proxies' addresses. The runner itself asks them directly.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis
import requests

from mutt import keyring
from mutt.embedded.process import Process, answers
from mutt.grant import INGEST
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import keys
from mutt.store.engine import transaction
from tests.chaos.proxy import Links
from tests.ports import own_port
from tests.servers import Live, live_postgres, live_redis
from tests.stack import Stack
from tests.waiting import wait_until

#: Requests to Moog in a second that all forwarders together may start.
LIMIT = 100

#: Short claims, so that a takeover takes seconds. Everything else is as users have it.
SETTINGS = {
    "EVALUATE_CLAIM": "3s",
    "MOOG_TIMEOUT": "2s",
    "MOOG_BREAKER_TIMEOUT": "2s",
    "MOOG_RATE_LIMIT": str(LIMIT),
}

#: Senders that have keys of their own beside the one that ``mutt up`` makes.
SENDERS = ("chaos-one", "chaos-two")

ROLES = frozenset(
    {"ingest", "admin", "alerts1", "alerts2", "moog1", "moog2", "housekeeping", "backtests", "beat", "flower"}
)


class NotSeen(Exception):
    """A fault was set, and nothing of it was seen: its scenario says nothing."""


class ChaosStack(Stack):
    """``mutt up`` on servers that are not its own."""

    roles = ROLES


class Site:
    """Everything, up and running. Made by :func:`site`."""

    def __init__(
        self,
        directory: Path,
        redis_server: Live,
        postgres: Live,
        moog: Live,
        links: Links,
        settings: Mapping[str, str],
    ) -> None:
        self.directory, self.redis_server, self.postgres, self.moog = directory, redis_server, postgres, moog
        self.links = links
        given = {
            "REDIS_URL": f"redis://127.0.0.1:{links.ports['redis']}/0",
            "DATABASE_URL": _through(postgres.url, links.ports["postgres"]),
            "MOOG_URL": f"http://127.0.0.1:{links.ports['moog']}/events/webhook_webhook1",
            "MOOG_API_KEY": "chaos-moog-key",
        }
        self.stack = ChaosStack(
            directory / "home", {**SETTINGS, **settings, **given}, "--alerts", "2", "--moog", "2"
        )

    def start(self) -> None:
        """Start MUTT, and let the senders have keys."""
        self.stack.start()
        self.links.lead("ingest", int(self.stack.up["ingest"].rpartition(":")[2]))
        with transaction(self.services.engine) as conn:
            made = [keys.make(conn, name, [INGEST], changed_by="chaos")[1] for name in SENDERS]
        keyring.publish(self.services)
        # Ingest looks at them every two seconds; until then they are none.
        for key in made:
            wait_until(lambda key=key: self._is_known(key), 10, "ingest to know the senders' keys")
        self.keys = (str(self.stack.up["api_key"]), *made)

    def _is_known(self, key: str) -> bool:
        answer = requests.post(self.ingest, b"", headers={"X-API-KEY": key}, timeout=5)
        return answer.status_code == requests.codes.bad_request  # it holds no event

    def take_over(self, replica: Live) -> None:
        """From now on ``replica`` is Redis."""
        self.redis_server = replica
        for cached in ("redis", "services"):
            self.__dict__.pop(cached, None)
        self.links.lead("redis", _port(replica.url))

    @functools.cached_property
    def redis(self) -> redis.Redis:
        """Redis, past the proxy. What it says while it is broken passes through."""
        return redis.Redis.from_url(self.redis_server.url, socket_timeout=2, socket_connect_timeout=2)

    @property
    def ingest(self) -> str:
        """Where the senders send: through the proxy."""
        return f"http://127.0.0.1:{self.links.ports['ingest']}/ingest"

    @functools.cached_property
    def services(self) -> Services:
        """The collaborators of the runner's own commands, past the proxies."""
        environ = {"REDIS_URL": self.redis_server.url, "DATABASE_URL": self.postgres.url}
        settings = Settings.from_env({**environ, "MUTT_HOME": str(self.directory / "runner")})
        return Services(settings, lambda *_, **__: None, role="cli")

    @contextlib.contextmanager
    def sql(self) -> Iterator[Any]:
        """A cursor whose statements commit, past the proxy."""
        connection = psycopg2.connect(self.postgres.url, connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.sql() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def moog_says(self, path: str, **arguments: Any) -> Any:
        """Ask the simulator, past the proxy."""
        return requests.get(self.moog.url + path, params=arguments, timeout=20).json()

    def moog_does(self, *steps: dict[str, Any]) -> None:
        """Tell the simulator how to answer."""
        requests.post(self.moog.url + "/script", json=list(steps), timeout=5).raise_for_status()

    def pid(self, name: str) -> int:
        return self.stack.pids[name]

    def child(self, name: str) -> psutil.Process:
        """A child of one of MUTT's processes."""
        found = psutil.Process(self.pid(name)).children()
        if not found:
            raise NotSeen(f"{name} has no child now")
        return found[0]

    def seen(self, condition: Callable[[], Any], what: str, timeout: float = 20.0) -> None:
        """Wait until the fault shows. Raises :class:`NotSeen`."""
        try:
            wait_until(condition, timeout, what, every=0.05)
        except AssertionError as error:
            raise NotSeen(str(error)) from None

    def back(self, name: str, old: int) -> None:
        """See that ``old`` is gone, and wait until the supervisor has another in its place."""
        self.seen(lambda: not alive(old), f"{name} ({old}) to be gone")
        wait_until(
            lambda: self.stack.pids.get(name, old) != old, 60, f"{name} to be started again", every=0.1
        )

    def first_bytes(self) -> list[float]:
        """When each request's first byte left, by the forwarders' own logs (one monotonic clock on one machine)."""
        found: list[float] = []
        for log in (self.stack.home / "logs").glob("moog*.log"):
            for line in log.read_text(errors="replace").splitlines():
                if '"first_bytes"' in line:
                    with contextlib.suppress(ValueError):  # a line that a kill cut short
                        found += json.loads(line)["did"]["first_bytes"]
        return found

    @contextlib.contextmanager
    def by_hand(self, queue: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that somebody starts beside the stack: ``celery -A mutt worker -Q <queue>``."""
        name = f"{queue}-{os.urandom(3).hex()}"
        path = self.stack.home / "logs" / f"{name}.log"
        argv = ("-m", "celery", "-A", "mutt", "worker", "-Q", queue, "-n", f"{name}@%h", *options)
        with path.open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, *argv],
                env=self.stack.environ,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.seen(lambda: b" ready." in path.read_bytes(), f"{name} to be ready", 60)
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(10)


def alive(pid: int) -> bool:
    """Does the process run (and not only wait to be buried)?"""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def site(
    directory: Path, settings: Mapping[str, str] | None = None, lines: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """Start the servers (Redis with ``lines`` in its configuration), proxies and MUTT; stop them at the end."""
    with contextlib.ExitStack() as ends:
        redis_server = ends.enter_context(live_redis(directory, extra=lines))
        postgres = ends.enter_context(live_postgres(directory, durable=True))
        moog = ends.enter_context(_simulator(directory))
        targets = {
            "redis": _port(redis_server.url),
            "replica": _port(redis_server.url),
            "postgres": _port(postgres.url),
            "moog": _port(moog.url),
            "ingest": own_port(),
        }
        links = ends.enter_context(Links(targets, directory / "home" / "up.json"))
        made = Site(directory, redis_server, postgres, moog, links, settings or {})
        ends.callback(made.stack.stop_if_started)
        made.start()
        yield made


@contextlib.contextmanager
def _simulator(directory: Path) -> Iterator[Live]:
    port = own_port()
    url = f"http://127.0.0.1:{port}"
    process = Process(
        name="moogsim",
        argv=(sys.executable, "-m", "mutt.moogsim", "--port", str(port)),
        log=directory / "moogsim.log",
        ready=answers(url + "/stats"),
    )
    live = Live(url, process).start()
    try:
        yield live
    finally:
        live.stop()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def _through(url: str, port: int) -> str:
    return url.replace(f":{_port(url)}/", f":{port}/")
