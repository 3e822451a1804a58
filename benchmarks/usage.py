"""What process trees cost: CPU time between two looks, and the most memory that they held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

#: A role, as in the table -> the processes at the head of its trees.
Roles = Mapping[str, tuple[int, ...]]

_MIB = 1 << 20


def used(roles: Roles) -> dict[str, float]:
    """Seconds of CPU that each role's processes have used so far, children and ended children included."""
    return {role: sum(map(_seconds, _trees(pids))) for role, pids in roles.items()}


def busy() -> float:
    """Seconds of CPU that the whole machine has used so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def forget_peaks(roles: Roles) -> None:
    """Let the peaks of memory begin anew, where the system can (Linux)."""
    for pids in roles.values():
        for process in _trees(pids):
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peaks(roles: Roles) -> dict[str, float]:
    """MiB of resident memory at the most, by role: the sum of its processes' peaks, as Linux keeps them.

    What processes share counts in each that touched it. Elsewhere it is what they hold now.
    """
    return {role: sum(map(_peak, _trees(pids))) / _MIB for role, pids in roles.items()}


def _trees(pids: tuple[int, ...]) -> Iterator[psutil.Process]:
    for pid in pids:
        head = psutil.Process(pid)
        yield from (head, *head.children(recursive=True))


def _seconds(process: psutil.Process) -> float:
    # One that ends just now is its parent's to count.
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(process.cpu_times()[:4])  # user, system, children's user, children's system
    return 0.0


def _peak(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        status = Path(f"/proc/{process.pid}/status")
        if not status.exists():
            return float(process.memory_info().rss)
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    return 0.0
