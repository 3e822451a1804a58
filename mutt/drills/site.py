"""The stack that is drilled: ``mutt up`` of this home, with its own servers, as its owner."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil
import redis
import requests
from sqlalchemy import Connection, text

from mutt.embedded.home import Home
from mutt.errors import MuttError
from mutt.settings import Settings, inherited
from mutt.store.engine import one_shot_engine, transaction
from mutt.streams.connect import Client, connect

#: Seconds that an address of the stack may take to answer, and the sender to finish what it has begun.
TIMEOUT, SENT_WITHIN = 10.0, 30.0


#: Seconds that a fault may last once it is named, and a lock whose drill does nothing any more.
HOLD_MOST, IDLE_MOST = 300, 600


class NotForDrills(MuttError):
    """Nothing runs here that may be broken for practice."""


class Site:
    """One running ``mutt up``. Raises :class:`NotForDrills` where a drill needs what it does not have."""

    def __init__(self, settings: Settings) -> None:
        self.home = Home(settings.mutt_home)
        self.up: Mapping[str, Any] = self.home.read_up()
        if not self.up:
            raise NotForDrills(
                f"nothing runs in {self.home.path}: drills break a running `mutt up`, start one first"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One drill at a time: two would be judged by each other's faults. Raises :class:`NotForDrills`."""
        with (self.home.path / "drill.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotForDrills(f"another drill runs in {self.home.path}: wait for its end") from None
            yield

    def address(self, name: str) -> str:
        """Of ``ingest``, ``admin``, ``moogsim``, …; empty: it has none."""
        return str(self.up.get(name, ""))

    def pids(self, *names: str) -> list[int]:
        """The processes by their names, as they are now; a name such as ``alerts`` stands for all that are numbered."""
        found = self.home.read_up().get("processes", {})
        pids = [pid for name, pid in found.items() if name.rstrip("0123456789") in names]
        if not pids:
            raise NotForDrills(f"this stack runs no {' or '.join(names)} of its own")
        return pids

    @contextlib.contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """Processes with all their children held still (SIGSTOP), and let go at the end."""
        held = [process for pid in self.pids(*names) for process in _tree(pid)]
        try:
            for process in held:
                _signal(process, signal.SIGSTOP)
            yield
        finally:
            for process in held:
                _signal(process, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End a process at once; the supervisor starts it again."""
        for pid in self.pids(name):
            os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def redis(self) -> Iterator[Client]:
        """The stack's own Redis, as its owner."""
        self.pids("redis")
        client = connect(self._owner_of_redis(), timeout=TIMEOUT)
        try:
            yield client
        finally:
            with contextlib.suppress(redis.RedisError):
                client.close()

    def _owner_of_redis(self) -> str:
        where = str(self.up["redis_url"]).rpartition("@")[2]
        return f"redis://:{self.home.secrets().redis_password}@{where}"

    @contextlib.contextmanager
    def postgres(self) -> Iterator[Connection]:
        """A transaction in the stack's own PostgreSQL, as its owner. One whose drill is held still ends by itself."""
        self.pids("postgres")
        engine = one_shot_engine(str(self.up["owner_url"]), role="drill")
        with transaction(engine) as conn:
            conn.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_MOST}s'"))
            yield conn

    @contextlib.contextmanager
    def load(self, generator: str, rate: float, batch: int) -> Iterator[None]:
        """``mutt send`` in the background, asked to end at the end: it has SENT_WITHIN to finish what it began."""
        told = {"--generator": generator, "--rate": f"{rate:g}", "--batch": str(batch), "--count": "0"}
        argv = [sys.executable, "-m", "mutt", "send", "--json", *itertools.chain(*told.items())]
        env = {**inherited(), "MUTT_HOME": str(self.home.path)}
        sender = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            sender.send_signal(signal.SIGINT)
            try:
                sender.wait(SENT_WITHIN)
            except subprocess.TimeoutExpired:
                sender.kill()
                sender.wait()

    def moog(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """Tell the simulator how to behave from now on."""
        simulator = self.address("moogsim")
        if not simulator:
            raise NotForDrills("this stack sends to a real Moog: only the simulator may be taken away")
        requests.post(f"{simulator}/script", json=list(steps), timeout=TIMEOUT).raise_for_status()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    # One that is gone was started anew meanwhile, and runs.
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
