"""What more workers on one machine do together: a closed queueing network, solved exactly.

Each worker goes round and round: it computes, and so do Redis and PostgreSQL for it, then it waits for the disk. The
processors are one station with as many places as there are cores, all slower when more of them are busy; waiting needs
no place. With so many customers, so much work for the station and so long a wait, mean value analysis gives the
throughput (Reiser and Lavenberg, 1980, for a station whose speed depends on how many are there).
"""

from __future__ import annotations

from collections.abc import Sequence

from mutt.plan.values import Measured


def speed(present: int, cores: int, together: float) -> float:
    """How many cores' worth of work is done while ``present`` of them are wanted.

    ``together`` is what a core does while all are busy, as a share of what it does while there is room.
    """
    busy = min(present, cores)
    if busy <= 1:
        return busy * (together if cores == 1 else 1.0)
    # From one core alone to all together the loss grows evenly.
    loss = (1 - together) * (busy - 1) / (cores - 1)
    return busy * (1 - loss)


def throughput(workers: int, cpu: float, waits: float, cores: int, together: float = 1.0) -> float:
    """Rounds a second of ``workers`` that each compute for ``cpu`` seconds a round and wait for ``waits``."""
    chances, rate = [1.0], 0.0  # that so many stand at the processors, with one worker less than is looked at
    for customers in range(1, workers + 1):
        stay = sum(
            present * cpu / speed(present, cores, together) * chances[present - 1]
            for present in range(1, customers + 1)
        )
        rate = customers / (waits + stay)
        busy = [
            rate * cpu / speed(present, cores, together) * chances[present - 1]
            for present in range(1, customers + 1)
        ]
        chances = [max(0.0, 1 - sum(busy)), *busy]
    return rate


def forecast(measured: Measured, workers: Sequence[int]) -> dict[int, float]:
    """Events a second that so many ``alerts`` processes drain from a backlog here, with all servers on this machine.

    No more than Redis' one core allows.
    """
    worker = measured.worker
    ceiling = 1 / worker.redis if worker.redis else float("inf")
    return {
        count: min(
            throughput(count, worker.cpu, worker.waits, measured.machine.cores, measured.together), ceiling
        )
        for count in workers
    }
