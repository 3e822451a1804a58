"""The supervisor's end of the reaper: tells it what runs, and keeps it running."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from mutt.embedded import reaper


class Guard:
    """While this object's process lives the reaper waits; when it dies the reaper ends what is watched."""

    def __init__(self, keep_open: Sequence[int] = ()) -> None:
        """``keep_open``: file descriptors that the reaper holds until it is through, such as a lock's."""
        self._keep_open = tuple(keep_open)
        self._watched: dict[int, int] = {}
        self._reaper = self._spawn()

    def watch(self, pid: int, death_signal: int) -> None:
        """End ``pid`` and its group by ``death_signal``, should we be killed."""
        self._watched[pid] = death_signal
        self._tell(f"+ {pid} {death_signal}")

    def forget(self, pid: int) -> None:
        """``pid`` and its group have ended."""
        if self._watched.pop(pid, None) is not None:
            self._tell(f"- {pid}")

    def check(self) -> None:
        """Start the reaper anew if someone killed it."""
        if self._reaper.poll() is not None:
            self._reaper = self._spawn()

    def close(self) -> None:
        """Nothing is left to guard (what still is, ends)."""
        self._reaper.communicate()

    @property
    def pid(self) -> int:
        """The reaper's process id."""
        return self._reaper.pid

    def _tell(self, line: str) -> None:
        assert self._reaper.stdin
        try:
            self._reaper.stdin.write(line + "\n")
            self._reaper.stdin.flush()
        except BrokenPipeError:
            return  # check() starts another, which knows everything

    def _spawn(self) -> subprocess.Popen[str]:
        # What is watched already it knows from its first moment: we may be killed before we could tell it.
        watched = [f"{pid}:{number}" for pid, number in self._watched.items()]
        # By its path and isolated: it must start wherever, and whatever PYTHONPATH says.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, *watched],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._keep_open,
            start_new_session=True,
            cwd="/",
            text=True,
        )
