"""Outlives a killed supervisor by the seconds it takes to end what that had started, grandchildren included.

Runs as a program of its own with nothing but the standard library. Its arguments are what runs already, each a
``<pid>:<signal>``. Its input is a pipe from the supervisor: ``+ <pid> <signal>`` for each process started, ``- <pid>``
for each that has ended. The end of input means that the supervisor is gone, for whatever reason.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

#: Seconds for those who are asked rather than killed.
GRACE = 10.0


def main() -> None:
    """Listen until the supervisor is gone, then end what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    end_all(remaining(sys.stdin, sys.argv[1:]))


def remaining(lines: Iterable[str], watched: Iterable[str] = ()) -> dict[int, int]:
    """Process group to the signal it wants, of all that were ``watched`` or started, and did not end."""
    groups = {int(pid): int(number) for pid, _, number in (one.partition(":") for one in watched)}
    for line in lines:
        match line.split():
            case ["+", pid, number]:
                groups[int(pid)] = int(number)
            case ["-", pid]:
                groups.pop(int(pid), None)
    return groups


def end_all(groups: dict[int, int], grace: float = GRACE) -> None:
    """Kill each group; those that want another signal than SIGKILL get that first, and ``grace`` seconds."""
    asked = [group for group, number in groups.items() if number != signal.SIGKILL]
    for group in groups.keys() - asked:
        _signal(group, signal.SIGKILL)
    for group in asked:
        with contextlib.suppress(OSError):
            os.kill(group, groups[group])
    deadline = time.monotonic() + grace
    while any(_signal(group, 0) for group in asked) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in asked:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
