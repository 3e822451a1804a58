"""CPU time of process trees: what each role used between two looks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import psutil

#: A role, as in the table -> the processes at the head of its trees.
Roles = Mapping[str, tuple[int, ...]]


def used(roles: Roles) -> dict[str, float]:
    """Seconds of CPU that each role's processes have used so far, children and ended children included."""
    return {role: sum(_tree(pid) for pid in pids) for role, pids in roles.items()}


def busy() -> float:
    """Seconds of CPU that the whole machine has used so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _tree(pid: int) -> float:
    head = psutil.Process(pid)
    seconds = 0.0
    for process in (head, *head.children(recursive=True)):
        # One that ends just now is its parent's to count.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += sum(times[:4])  # user, system, children's user, children's system
    return seconds
