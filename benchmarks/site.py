"""Where it is measured: a private Redis and PostgreSQL, both as durable as MUTT asks for, migrated, with the rules."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import redis

from benchmarks import corpus
from benchmarks.usage import Roles
from mutt.embedded.account import postgres_account
from mutt.embedded.pgbinaries import find_postgres
from mutt.embedded.ports import free_port
from mutt.embedded.postgres import PostgresServer
from mutt.embedded.process import Process, Running
from mutt.embedded.redis import RedisServer, find_redis
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.migrate import upgrade
from mutt.store.rulebook import import_rules

#: Only this machine's own processes, on the loopback, ever see it.
API_KEY = "benchmark"

_TABLES = "event_audit_log, audit_ledger, alerts"


class Failed(Exception):
    """A run that can't be trusted: something did not start, refused, or lost rows."""


@dataclass(frozen=True)
class Site:
    """The servers' addresses, a directory for logs, and the servers' processes by role."""

    directory: Path
    redis_url: str
    database_url: str
    roles: Roles = field(default_factory=dict)

    def prepare(self, rules: int = 100) -> None:
        """Bring the schema up to date and put the benchmark's rules in the place of all others."""
        upgrade(self.database_url)
        with transaction(one_shot_engine(self.database_url, role="bench")) as conn:
            import_rules(conn, corpus.rules(rules), replace=True, changed_by="bench", reason="benchmark")

    def reset(self) -> None:
        """Empty tables and queues; files rewritten and synced, so that no run pays for the one before it."""
        self.empty_queues()
        self.execute(f"TRUNCATE {_TABLES}")
        self.execute("CHECKPOINT")

    def empty_queues(self) -> None:
        """Everything in Redis but what workers need of their broker; its file rewritten."""
        with redis.Redis.from_url(self.redis_url) as client:
            # Bindings of queues are made once, when a worker starts.
            gone = [key for key in client.scan_iter(count=5000) if not key.startswith(b"_kombu")]
            for first in range(0, len(gone), 5000):
                client.unlink(*gone[first : first + 5000])
            _rewrite(client)

    def rows(self) -> int:
        """Audit rows of events that were sent; what MUTT says of itself is not counted."""
        return int(self.ask("SELECT count(*) FROM event_audit_log WHERE source <> 'mutt'")[0][0])

    def execute(self, statement: str) -> None:
        """Run one statement on a connection of its own."""
        with self._cursor() as cursor:
            cursor.execute(statement)

    def ask(self, query: str) -> Sequence[tuple[Any, ...]]:
        """All rows of a query."""
        with self._cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        connection = psycopg2.connect(self.database_url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


def _rewrite(client: Any) -> None:
    # The server may have begun one by itself; ours has to begin after the keys are gone.
    _rewritten(client)
    client.bgrewriteaof()
    _rewritten(client)


def _rewritten(client: Any) -> None:
    deadline = time.monotonic() + 30
    while True:
        state = client.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            return
        if time.monotonic() > deadline:
            raise Failed("Redis did not finish rewriting its file within 30 s")
        time.sleep(0.01)


@contextlib.contextmanager
def private_site(postgres_settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Start both servers below the temporary directory (set TMPDIR to choose the disk), and remove them at the end.

    ``postgres_settings`` are more than `mutt up` gives PostgreSQL, for what can't be measured without.
    """
    directory = Path(tempfile.mkdtemp(prefix="mutt-bench-"))
    directory.chmod(0o711)  # PostgreSQL's own account has to pass
    account = postgres_account()
    server = RedisServer(find_redis(), directory / "redis", free_port(0))
    binaries, more = find_postgres(account=account), postgres_settings or {}
    postgres = PostgresServer(binaries, directory / "postgres", free_port(0), "", account, extra=more)
    processes = [server.process(directory / "redis.log"), postgres.process(directory / "postgres.log")]
    try:
        with started(processes) as roles:
            site = Site(directory, server.url, postgres.url, roles)
            site.prepare()
            yield site
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def started(processes: Sequence[Process]) -> Iterator[Roles]:
    """Run ``processes`` until the block ends; yields the process ids by role (a name without its number)."""
    running: list[Running] = []
    try:
        for process in processes:
            running.append(Running(process))
        for one in running:
            _await(one)
        roles: dict[str, tuple[int, ...]] = {}
        for one in running:
            role = one.process.name.rstrip("0123456789")
            roles[role] = (*roles.get(role, ()), one.pid)
        yield roles
    finally:
        for one in reversed(running):
            one.ask_to_stop()
        for one in reversed(running):
            one.stop()


def _await(running: Running) -> None:
    deadline = running.started + running.process.ready_timeout
    while not running.is_ready():
        if running.exit_code() is not None or time.monotonic() > deadline:
            raise Failed(f"{running.process.name} did not start:\n{running.log_tail()}")
        time.sleep(0.02)
