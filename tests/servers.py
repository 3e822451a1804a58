"""Real servers for tests: found as `mutt up` finds them, started privately, killed and restarted at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import psycopg2
import pytest

from mutt.embedded.account import postgres_account
from mutt.embedded.pgbinaries import as_account, find_postgres
from mutt.embedded.postgres import PostgresServer
from mutt.embedded.process import Process, Running
from mutt.embedded.redis import RedisServer, find_redis
from mutt.errors import MuttError
from tests.ports import own_port
from tests.waiting import wait_until

#: Read when the suite starts: the tests themselves run in a clean environment.
REDIS_BIN = os.environ.get("MUTT_TEST_REDIS_BIN")
PG_BIN = os.environ.get("MUTT_TEST_PG_BIN")
MUST_HAVE = bool(os.environ.get("CI")) and not os.environ.get("MUTT_TEST_MAY_SKIP")

#: Bytes that the session's servers may need.
ROOM = 2 << 30


def lacking(reason: str) -> NoReturn:
    """A test's server or program is not here: a laptop skips; CI fails, unless it was not allowed to install it."""
    if MUST_HAVE:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Live:
    """A server that a test may kill and start again: same port, same data."""

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self._process = process
        self._running: Running | None = None

    @property
    def pid(self) -> int:
        assert self._running
        return self._running.pid

    #: Seconds that it may take until it is ready, on a busy machine.
    patience = 30.0

    def start(self) -> Live:
        """Start it, and wait until it is ready."""
        running = self._running = Running(self._process)
        what = f"{self._process.name}; see {self._process.log}"
        wait_until(lambda: running.exit_code() is not None or running.is_ready(), self.patience, what)
        if running.exit_code() is not None:
            raise AssertionError(f"{self._process.name} ended at once: {running.log_tail()}")
        return self

    def kill(self) -> None:
        """As a power cut would."""
        if self._running:
            self._running.kill()

    def stop(self) -> None:
        """As an operator would."""
        if self._running:
            self._running.stop()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()


@contextlib.contextmanager
def scratch(below: Path | None = None) -> Iterator[Path]:
    """A directory that PostgreSQL's own account can reach; pytest's are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="mutt-tests-", dir=below))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def memory() -> Path | None:
    """Where files are quickest, if there is room: a database is cloned for each test."""
    shm = Path("/dev/shm")
    roomy = shm.is_dir() and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > ROOM
    return shm if roomy else None


@contextlib.contextmanager
def live_redis(
    directory: Path, *, password: str = "", extra: Mapping[str, str] | None = None
) -> Iterator[Live]:
    """A private Redis that keeps everything it accepted."""
    with _or_skip():
        binary = find_redis(REDIS_BIN)
    server = RedisServer(binary, directory / "redis", own_port(), password, extra=extra or {})
    yield from _while(Live(server.url, server.process(directory / "redis.log")))


@contextlib.contextmanager
def live_postgres(
    directory: Path, *, password: str = "", durable: bool = False, extra: Mapping[str, str] | None = None
) -> Iterator[Live]:
    """A private PostgreSQL with an empty database ``mutt``; ``durable`` for tests that pull its plug."""
    account = postgres_account()
    with _or_skip():
        binaries = find_postgres(PG_BIN, account=account)
    server = PostgresServer(
        binaries, directory / "postgres", own_port(), password, account, durable, extra=extra or {}
    )
    yield from _while(Live(server.url, server.process(directory / "postgres.log")))


@contextlib.contextmanager
def live_replica(directory: Path, primary: Live, *, extra: Mapping[str, str] | None = None) -> Iterator[Live]:
    """A streaming replica of ``primary``, which is a :func:`live_postgres` without a password."""
    account = postgres_account()
    with _or_skip():
        binaries = find_postgres(PG_BIN, account=account)
    copier = binaries.directory / "pg_basebackup"
    if not copier.exists():
        lacking(f"no pg_basebackup beside {binaries.directory / 'postgres'}")
    extra = {"wal_retrieve_retry_interval": "200ms", **(extra or {})}
    server = PostgresServer(binaries, directory / "replica", own_port(), "", account, False, extra=extra)
    server.directory.mkdir(mode=0o700)
    if account:
        account.own(server.directory)
    subprocess.run(
        [copier, "-d", primary.url, "-D", server.directory / "data", "-R", "-c", "fast", "-X", "stream"],
        check=True, capture_output=True, cwd="/", timeout=60, **as_account(account),
    )  # fmt: skip
    yield from _while(Live(server.url, server.process(directory / "replica.log")))


PGBOUNCER = """
[databases]
* = host=127.0.0.1 port={target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
ignore_startup_parameters = extra_float_digits,options
max_client_conn = 500
default_pool_size = {size}
server_login_retry = 1
"""


@contextlib.contextmanager
def live_pgbouncer(directory: Path, target: Live, *, size: int = 20) -> Iterator[Live]:
    """PgBouncer in front of a server without a password: it lends a session for a transaction. Kill it at will."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        lacking("no pgbouncer on this machine")
    parts, port, account = urlsplit(target.url), own_port(), postgres_account()
    users, config = directory / "pgbouncer.users", directory / "pgbouncer.ini"
    users.write_text(f'"{parts.username}" ""\n')
    config.write_text(PGBOUNCER.format(target=parts.port, port=port, users=users, size=size))
    url = target.url.replace(f":{parts.port}/", f":{port}/")

    def ready() -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(url, connect_timeout=2).close()
            return True
        return False

    process = Process(
        name="pgbouncer",
        argv=(program, str(config)),
        log=directory / "pgbouncer.log",
        account=account,
        cwd=Path("/"),
        ready=ready,
        stop_signal=signal.SIGTERM,
    )
    yield from _while(Live(url, process))


def _while(server: Live) -> Iterator[Live]:
    try:
        yield server.start()
    finally:
        server.stop()


@contextlib.contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except MuttError as error:
        lacking(str(error))
