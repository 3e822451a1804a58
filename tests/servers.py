"""Real servers for tests: found as `mutt up` finds them, started privately, killed and restarted at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from mutt.embedded.account import postgres_account
from mutt.embedded.pgbinaries import find_postgres
from mutt.embedded.ports import free_port
from mutt.embedded.postgres import PostgresServer
from mutt.embedded.process import Process, Running
from mutt.embedded.redis import RedisServer, find_redis
from mutt.errors import MuttError
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
    server = RedisServer(binary, directory / "redis", free_port(0), password, extra=extra or {})
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
        binaries, directory / "postgres", free_port(0), password, account, durable, extra=extra or {}
    )
    yield from _while(Live(server.url, server.process(directory / "postgres.log")))


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
