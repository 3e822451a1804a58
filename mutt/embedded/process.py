"""One supervised process: how it starts, when it is ready, how it ends with all that it started."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mutt.embedded.account import Account

#: Bytes.
LOG_LIMIT = 64 << 20

_PR_SET_PDEATHSIG = 1
# Loaded here and not in the child: between fork and exec as little as possible may run.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def at_once() -> bool:
    """Ready as soon as it runs."""
    return True


def nothing() -> None:
    """No preparation."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """What to run. Times are seconds.

    ``env`` is the whole environment (None: the supervisor's). It is ready when ``ready()`` is true and its log
    since this start contains ``ready_line``. ``before`` runs ahead of every start, restarts included. A second
    request to stop leaves it ``hasty_grace`` in place of ``stop_grace``. ``death_signal`` is what the kernel (Linux)
    sends when the supervisor is gone.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    before: Callable[[], None] = nothing
    ready: Callable[[], bool] = at_once
    ready_line: str = ""
    ready_timeout: float = 30.0
    stop_signal: int = signal.SIGTERM
    stop_grace: float = 10.0
    hasty_grace: float = 0.0
    death_signal: int = signal.SIGKILL


class Running:
    """One run of a :class:`Process`: a session of its own, whose leader we are the parent of."""

    def __init__(self, process: Process) -> None:
        """Start it. Call from the main thread: the kernel ties a child's life to the thread that made it.

        Raises :class:`OSError` if there is nothing to execute.
        """
        self.process = process
        process.before()
        with _open_log(process.log) as log:
            self._log_start = log.tell()
            self._popen = _spawn(process, log)
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id; its session and its group have the same number."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it lives; minus the signal that ended it. What it left of its group is killed."""
        if self._popen.returncode is None and self._popen.poll() is not None:
            kill_group(self.pid)
        return self._popen.returncode

    def is_ready(self) -> bool:
        """Alive, and ready by its own definition."""
        said = not self.process.ready_line or self.process.ready_line in self._log()
        return said and self.exit_code() is None and self.process.ready()

    def ask_to_stop(self) -> None:
        """Send the stop signal to the leader; its children are the leader's to end."""
        if self.exit_code() is None:
            self._popen.send_signal(self.process.stop_signal)

    def kill(self) -> None:
        """SIGKILL the whole group, and wait."""
        if self.exit_code() is None:
            kill_group(self.pid)
            self._popen.wait()

    def wait(self, seconds: float) -> bool:
        """Has it ended within ``seconds``?"""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        kill_group(self.pid)
        return True

    def stop(self, grace: float | None = None) -> bool:
        """Ask, wait, then kill. True if asking was enough."""
        self.ask_to_stop()
        clean = self.wait(self.process.stop_grace if grace is None else grace)
        self.kill()
        return clean

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that this run wrote."""
        return "\n".join(self._log().splitlines()[-lines:])

    def trim_log(self, limit: int = LOG_LIMIT) -> None:
        """Keep a log from filling the disk: past ``limit`` bytes it becomes the one old log, ``<name>.log.1``."""
        path = self.process.log
        if path.stat().st_size > limit:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            # The process goes on writing at the end of the same file, wherever that is.
            os.truncate(path, 0)
            self._log_start = 0

    def _log(self) -> str:
        with self.process.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")


def kill_group(group: int) -> None:
    """SIGKILL what is left of a process group, if anything."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # PermissionError: macOS says so of a group of zombies.
        return


def answers(url: str, timeout: float = 1.0) -> Callable[[], bool]:
    """A readiness check: does ``url`` answer, with any status below 500?"""

    def check() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=timeout):  # noqa: S310 - our own loopback address
                return True
        except urllib.error.HTTPError as error:
            return error.code < 500
        except (OSError, ValueError):
            return False

    return check


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab")


def _spawn(process: Process, log: BinaryIO) -> subprocess.Popen[bytes]:
    account = process.account
    return subprocess.Popen(
        process.argv,
        env=process.env,
        cwd=process.cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # or Ctrl-C in the terminal would reach the servers before those who use them
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        umask=0o077,
        preexec_fn=tied_to(os.getpid(), process.death_signal),
    )


def tied_to(parent: int, death_signal: int) -> Callable[[], None] | None:
    """A ``preexec_fn``: the kernel ends the child by ``death_signal`` when ``parent`` is gone (Linux; else None)."""
    if _libc is None:
        return None
    libc = _libc

    def tie() -> None:
        # Runs after setuid, which would undo it.
        libc.prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)

    return tie
