"""A whole small MUTT of the measurement's own: it sees no other Redis and no other PostgreSQL, and leaves nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

import mutt
from mutt.embedded.account import postgres_account
from mutt.embedded.home import Home
from mutt.embedded.pgbinaries import find_postgres
from mutt.embedded.ports import free_port
from mutt.embedded.postgres import PostgresServer
from mutt.embedded.process import Process, Running
from mutt.embedded.redis import RedisServer, find_redis
from mutt.embedded.stack import Sizes, Stack
from mutt.errors import MuttError
from mutt.settings import Settings, inherited
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.migrate import upgrade
from mutt.store.rulebook import import_rules

#: Only this machine's own processes, on the loopback, ever see it.
API_KEY = "mutt-plan"

#: As much as the measurement could ever put there.
_ROOM = {"INGEST_MAX_DEPTH": "100000000", "INGEST_MAX_BYTES": "64GiB"}

#: Bytes of PostgreSQL's log, as much as a worker's rows will take.
LOGGED = 256 << 20

#: Seconds for removing what was made.
REMOVING = 5.0

_NO_MOOG = "http://127.0.0.1:9/"


class DidNotStart(MuttError):
    """A process of the measurement did not start."""


@dataclass(frozen=True)
class Private:
    """Both servers, with their processes, and how to start a role beside them."""

    directory: Path
    redis_url: str
    database_url: str
    pids: Mapping[str, int]

    def stack(self, workers: int) -> tuple[Stack, dict[str, Any]]:
        """What `mutt up` would start here, and with which addresses."""
        home = Home(self.directory / "home").make()
        environ = self._environment(home)
        stack = Stack.plan(home, Settings.from_env(environ), environ, Sizes(alerts=workers, moog=0))
        home.directory(stack.metrics_dir.name)
        return stack, stack.up(None, None)

    def _environment(self, home: Home) -> dict[str, str]:
        """This process' environment without MUTT's settings: nothing of the stack that is planned for leaks in."""
        ours = {one.metadata["env"] or one.name.upper() for one in dataclasses.fields(Settings)}
        kept = {name: value for name, value in inherited().items() if name.removesuffix("_FILE") not in ours}
        return {
            **kept,
            **_ROOM,
            "MUTT_HOME": str(home.path),
            "REDIS_URL": self.redis_url,
            "DATABASE_URL": self.database_url,
            "INGEST_API_KEY": API_KEY,
            "MOOG_URL": _NO_MOOG,
        }


@contextlib.contextmanager
def private(
    rules: Sequence[Mapping[str, Any]] | None, more: Sequence[Mapping[str, Any]]
) -> Iterator[Private]:
    """Start both servers, as durable as ``mutt up`` has them; all of it is gone afterwards.

    ``rules`` take the place of the starting ones (None: they stay); the rules ``more`` come in addition.
    """
    account = postgres_account()
    server, binaries = find_redis(), find_postgres(account=account)
    directory = Path(tempfile.mkdtemp(prefix="mutt-plan-"))
    directory.chmod(0o711)  # PostgreSQL's own account has to pass
    redis = RedisServer(server, directory / "redis", free_port(0))
    place, more_room = directory / "postgres", {"min_wal_size": "512MB"}
    postgres = PostgresServer(binaries, place, free_port(0), "", account, extra=more_room)
    made = [redis.process(directory / "redis.log"), postgres.process(directory / "postgres.log")]
    try:
        with started(made) as pids:
            upgrade(postgres.url)
            _log_once(postgres.url)
            with transaction(one_shot_engine(postgres.url, role="plan")) as conn:
                given = [*(rules or ()), *more]
                import_rules(
                    conn, given, replace=rules is not None, changed_by="mutt plan", reason="measuring"
                )
            yield Private(directory, redis.url, postgres.url, pids)
    finally:
        _remove(directory)


def _remove(directory: Path) -> None:
    """Remove it, and what a server that was ended in its first moments puts there after that."""
    deadline = time.monotonic() + REMOVING
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.05)


def _log_once(url: str) -> None:
    """Let the server have files for its log, as one has that ran for a day: a new one is filled with zeros first."""
    engine = one_shot_engine(url, role="plan").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        for _ in range(LOGGED >> 20):
            conn.execute(text("SELECT pg_logical_emit_message(false, 'mutt plan', repeat('x', 1 << 20))"))
        conn.execute(text("CHECKPOINT"))


@contextlib.contextmanager
def started(processes: Sequence[Process]) -> Iterator[dict[str, int]]:
    """Run ``processes`` until the block ends; their process ids by name. Raises :class:`DidNotStart`."""
    running: list[Running] = []
    try:
        for process in processes:
            with whole():
                running.append(Running(_from_here(process)))
        for one in running:
            _await(one)
        yield {one.process.name: one.pid for one in running}
    finally:
        for one in reversed(running):
            one.ask_to_stop()
        for one in reversed(running):
            one.stop()


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Asked to end meanwhile, the block is finished first: what it starts is known to who stops it."""
    came: list[tuple[int, Any]] = []
    before: dict[int, Any] = {
        number: signal.signal(number, lambda *which: came.append(which))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came:
        handler = before[number]
        if callable(handler):
            handler(number, frame)


def _from_here(process: Process) -> Process:
    # A checkout that is not installed is found from where it stands.
    ours = process.argv[0] == sys.executable
    return dataclasses.replace(process, cwd=Path(mutt.__file__).parent.parent) if ours else process


def _await(running: Running) -> None:
    deadline = running.started + running.process.ready_timeout
    while not running.is_ready():
        if running.exit_code() is not None or time.monotonic() > deadline:
            raise DidNotStart(f"{running.process.name} did not start: {running.log_tail(3)}")
        time.sleep(0.02)


def used(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds of CPU that each process and its descendants have used so far."""
    return {name: sum(_seconds(one) for one in _tree(pid)) for name, pid in pids.items()}


def queued(pids: Mapping[str, int]) -> float:
    """Seconds that these processes and their descendants have stood ready without a core to run on (Linux; else 0)."""
    return sum(_queued(one.pid) for pid in pids.values() for one in _tree(pid))


@contextlib.contextmanager
def suspended_later(pids: Sequence[int]) -> Iterator[Callable[[], None]]:
    """Yields what makes these processes and their descendants stand still; at the end they go on."""
    still: list[psutil.Process] = []

    def suspend() -> None:
        for pid in pids:
            for one in _tree(pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.suspend()
                    still.append(one)

    try:
        yield suspend
    finally:
        for one in still:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()


def busy() -> float:
    """Seconds of CPU that the whole machine has used so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold now."""
    held = 0
    for one in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            held += one.memory_info().rss
    return held


def _tree(pid: int) -> Iterator[psutil.Process]:
    head = psutil.Process(pid)
    yield from (head, *head.children(recursive=True))


def _queued(pid: int) -> float:
    waited = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            waited += int(thread.read_text().split()[1])
    return waited / 1e9


def _seconds(process: psutil.Process) -> float:
    # One that ends just now is its parent's to count.
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(process.cpu_times()[:4])  # user, system, children's user, children's system
    return 0.0
