"""The budget, measured: forwarders as light processes that die and stall by themselves, and what their starts make.

``python -m tests.budget_windows`` runs so many forwarders and nothing else; :class:`Fleet` does so for a test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import redis

from mutt.budget.arithmetic import Budget
from mutt.moog.client import MoogClient
from mutt.moog.connection import Exchange
from mutt.moog.dialects import DIALECTS
from mutt.moogsim.book import most_in_window
from mutt.streams.connect import connect
from tests.forwarding import Works
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]

#: Seconds between two looks for stopped forwarders: longer than any permit lives.
STALL = 0.3

#: Bytes of a start's line; a line is written in one step, so a killed forwarder leaves no half of one.
LINE = b"%.6f\n"


def over_in_window(times: Sequence[float], limit: int, period: float) -> int:
    """By how many the fullest window of ``period`` seconds exceeds ``limit``; 0: in none."""
    return max(0, most_in_window(sorted(times), period) - limit)


class Orders(msgspec.Struct, frozen=True):
    """What a fleet's processes are told."""

    redis_url: str
    moog_url: str
    starts: str  #: a file for the first bytes (monotonic seconds, a line each)
    forwarders: int
    limit: int
    period: float
    kill: float = 0.0  #: how likely a forwarder kills itself between permit and first byte
    stop: float = 0.0  #: how likely it stops itself there, for longer than a permit lives
    clock: float = 0.0  #: by how many seconds its wall clock jumps, at most, each time it is read


class Fleet:
    """Forwarders in processes of their own, behind one parent that replaces the dead and wakes the stopped."""

    def __init__(self, directory: Path, name: str, **orders: Any) -> None:
        self._starts = directory / f"{name}.starts"
        self._orders = Orders(starts=str(self._starts), **orders)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Fleet:
        self._starts.touch()
        argv = [sys.executable, "-m", "tests.budget_windows", json.dumps(msgspec.to_builtins(self._orders))]
        self._process = subprocess.Popen(argv, cwd=ROOT, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def starts(self) -> list[float]:
        """When each request's first byte left, by the forwarders' own clock: the one of this machine."""
        return sorted(float(line) for line in self._starts.read_text().splitlines())

    def faults(self) -> Counter[str]:
        """How many forwarders were found ``killed``, and how many ``stopped``."""
        noted = Path(_faults_beside(str(self._starts)))
        return Counter(noted.read_text().split() if noted.exists() else [])

    def wait_for_starts(self, more: int, timeout: float = 30) -> None:
        """Until so many more requests were started."""
        enough = len(self.starts()) + more
        wait_until(lambda: len(self.starts()) >= enough, timeout, f"{more} more starts", every=0.05)


def main() -> None:
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    for _ in range(orders.forwarders):
        _spawn(orders)
    parent = psutil.Process()
    faults = os.open(_faults_beside(orders.starts), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    while True:
        time.sleep(STALL)
        for child in parent.children():
            if child.status() == psutil.STATUS_STOPPED:
                os.write(faults, b"stopped\n")
                child.send_signal(signal.SIGCONT)
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if os.WIFSIGNALED(found[1]):
                os.write(faults, b"killed\n")
            _spawn(orders)


def _faults_beside(starts: str) -> str:
    return starts + ".faults"


def _spawn(orders: Orders) -> None:
    if os.fork() == 0:
        try:
            _forward(orders)
        finally:
            os._exit(1)


def _forward(orders: Orders) -> None:
    dice = random.Random(os.getpid())
    real_time = time.time
    if orders.clock:
        time.time = lambda: real_time() + dice.uniform(-orders.clock, orders.clock)
    _note_starts(os.open(orders.starts, os.O_WRONLY | os.O_APPEND))
    with connect(orders.redis_url, timeout=1.0) as client:
        works = Works(client, Budget(limit=orders.limit, period=orders.period))
        forwarder = works.forwarder(_Frail(works, orders, dice), f"f{os.getpid()}")
        while True:
            try:
                if not forwarder.forward_turn().requests:
                    time.sleep(0.01)
            except redis.RedisError:
                time.sleep(0.05)


def _note_starts(file: int) -> None:
    start = Exchange.start

    def noted(self: Exchange) -> None:
        start(self)
        assert self.started_at is not None
        os.write(file, LINE % self.started_at)

    Exchange.start = noted  # type: ignore[method-assign]


class _Frail:
    """Moog's client, in a process that may die or stall with a permit in its hands."""

    def __init__(self, works: Works, orders: Orders, dice: random.Random) -> None:
        self._client = MoogClient(orders.moog_url, DIALECTS["enterprise"], "", timeout=5.0)
        self._orders, self._dice = orders, dice

    def send(self, alerts: Any, permit: Any) -> Any:
        chance = self._dice.random()
        if chance < self._orders.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        elif chance < self._orders.kill + self._orders.stop:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self._client.send(alerts, permit)


if __name__ == "__main__":
    main()
