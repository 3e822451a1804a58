"""A whole MUTT for tests: the real ``mutt up`` in a process of its own, asked only what a user could ask it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
import sqlalchemy as sa

from mutt.streams.connect import connect
from tests.waiting import wait_until

ROLES = (
    "ingest",
    "admin",
    "alerts1",
    "moog1",
    "housekeeping",
    "backtests",
    "beat",
    "flower",
    "moogsim",
    "redis",
    "postgres",
)


#: The setting that names another one than its own.
GIVEN = {"redis": "REDIS_URL", "postgres": "DATABASE_URL", "moogsim": "MOOG_URL"}


#: Short timeouts, so that a takeover takes seconds. Everything else is as users have it.
QUICK = {"EVALUATE_CLAIM": "3s", "MOOG_TIMEOUT": "2s", "MOOG_BREAKER_TIMEOUT": "3s"}

#: The same, and Moog takes what is raised as fast as it comes: how the budget is kept is another test's.
UNBOUND = {**QUICK, "MOOG_RATE_LIMIT": "500"}


class Stack:
    """``mutt up`` in ``home``, with ``settings`` in its environment."""

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None, *options: str) -> None:
        self.home, self.options = home, options
        self.environ = {**os.environ, "MUTT_HOME": str(home), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def roles(self) -> Collection[str]:
        """The processes without which it is not up: what is given it does not start."""
        given = self.environ.get
        apart = given("STREAM_URL") and given("BROKER_URL")
        return [role for role in ROLES if not (given(GIVEN.get(role, "")) or (role == "redis" and apart))]

    def start(self) -> Stack:
        """Start it, and wait until every role is there and ingest is ready."""
        # As from the folder above a clone named mutt: what is called like the package must not pass for it.
        above = self.home / "above"
        (above / "mutt").mkdir(parents=True, exist_ok=True)
        with (self.home / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mutt", "up", "--no-samples", *self.options],
                env=self.environ,
                cwd=above,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._is_up, 90, f"mutt up; see {self.home}/up.log", every=0.1)
        return self

    def _is_up(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise AssertionError((self.home / "up.log").read_text()[-3000:])
        return self.ready()

    def ready(self) -> bool:
        """Is every role running, and does ingest say that it is ready?"""
        assert self._process
        try:
            up = self.up
            return (
                # What a killed one left says where others may listen by now.
                up["processes"]["supervisor"] == self._process.pid
                and set(self.roles) <= set(up["processes"])
                and requests.get(up["ingest"] + "/readyz", timeout=2).ok
            )
        except (OSError, ValueError, KeyError):
            return False

    @property
    def up(self) -> dict[str, Any]:
        """What ``up.json`` says now."""
        return json.loads((self.home / "up.json").read_text())

    @property
    def pids(self) -> dict[str, int]:
        return self.up["processes"]

    def tree(self) -> list[psutil.Process]:
        """Every process of the stack."""
        assert self._process
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self._process.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        return []

    def command_lines(self) -> list[str]:
        """The arguments of every process of the stack, of those that have not ended meanwhile."""
        found = []
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(" ".join(process.cmdline()))
        return found

    def kill(self, name: str) -> int:
        """SIGKILL one process by its name in ``up.json``; its pid."""
        pid = self.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def back(self, name: str, old: int) -> None:
        """Wait until the supervisor has it running again."""
        wait_until(
            lambda: self.pids.get(name, old) != old and self.ready(), 60, f"{name} to be back", every=0.1
        )

    def wait_for_end(self, timeout: float = 60) -> int:
        assert self._process
        return self._process.wait(timeout)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def stop_if_started(self) -> None:
        if self._process:
            self.stop()

    def mutt(
        self, *arguments: str, timeout: float = 240, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run the ``mutt`` command as a user beside the stack would."""
        return subprocess.run(
            [sys.executable, "-m", "mutt", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=check,
        )

    def sending(self, *arguments: str) -> subprocess.Popen[str]:
        """``mutt send --json`` in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "mutt", "send", "--json", *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def post(self, events: Any, path: str = "/ingest", **headers: str) -> requests.Response:
        up = self.up
        return requests.post(
            up["ingest"] + path, json=events, headers={"X-API-KEY": up["api_key"], **headers}, timeout=10
        )

    def ledger(self, *arguments: str) -> dict[str, Any]:
        """``mutt ledger --json``."""
        done = self.mutt("ledger", "--json", *arguments)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    @property
    def owner_redis_url(self) -> str:
        """Redis for who may do everything there."""
        given = self.environ.get("STREAM_URL") or self.environ.get("REDIS_URL")
        if given:
            return given
        secret = json.loads((self.home / "secrets.json").read_text())["redis_password"]
        return f"redis://:{secret}@{self.up['redis_url'].rpartition('@')[2]}"

    def books(self, name: str) -> int:
        """One figure of the ledger, read directly: a shell's command would take the processor from what is measured."""
        spread = self.environ.get("STREAM_URLS")
        urls = [url.strip() for url in spread.split(",")] if spread else [self.owner_redis_url]
        found = 0
        for url in urls:
            with connect(url) as client:
                found += int(client.hget("mutt:ledger", name) or 0)
        return found

    def balanced(self, accepted: int | None = None, timeout: float = 180) -> dict[str, Any]:
        """Wait until all is at rest and the books balance, without any new traffic; the ledger."""

        def settled() -> dict[str, Any] | None:
            with contextlib.suppress(redis.RedisError):  # it may have been killed: the command says so
                if self.books("events.queued") or self.books("alerts.waiting"):
                    return None
            done = self.mutt("ledger", "--json", "--deep")
            if not done.stdout:
                return None
            found = json.loads(done.stdout)
            enough = accepted is None or found["events"]["accepted"] >= accepted
            enough = enough and not found["alerts"]["waiting"]
            return found if found["at_rest"] and found["balanced"] and enough else None

        try:
            return wait_until(settled, timeout, "the books to balance at rest", every=0.2)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.mutt('ledger', '--deep').stdout}\n{self.mutt('queues').stdout}"
            ) from error

    def sql(self, query: str, **values: Any) -> list[Any]:
        """Rows of the stack's PostgreSQL."""
        url = str(self.up["owner_url"]).replace("postgresql://", "postgresql+psycopg2://")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as conn:
            return list(conn.execute(sa.text(query), values))

    def moog(self, path: str, **arguments: Any) -> Any:
        """Ask the simulator."""
        return requests.get(f"{self.up['moogsim']}{path}", params=arguments, timeout=10).json()

    def script_moog(self, **behaviour: Any) -> None:
        """Tell the simulator how to behave."""
        requests.post(f"{self.up['moogsim']}/script", json=behaviour, timeout=10).raise_for_status()


@contextlib.contextmanager
def running(home: Path, settings: Mapping[str, str] | None = None, *options: str) -> Iterator[Stack]:
    """A stack that is stopped at the end, whatever happens; nothing of it may be left."""
    stack = Stack(home, settings, *options)
    try:
        yield stack.start()
    finally:
        tree = stack.tree()
        stack.stop()
        _, alive = psutil.wait_procs(tree, 15)
        for process in alive:
            process.kill()
        assert not alive, f"left behind: {alive}"
