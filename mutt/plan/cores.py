"""What a core does alone and beside the others: ``python -m mutt.plan.cores`` computes for a moment and says how much.

A virtual core is often half of a real one. What the halves do together decides what a second worker is worth. It goes
by the processor's time, so that what others run on the machine takes little from it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

#: Seconds that each computes.
SECONDS = 0.6

_SAMPLE = {"hostname": "edge-r001.example.net", "message": "a line of text " * 12, "n": list(range(20))}


def together(cores: int) -> float:
    """The part of a core's lone speed that is left to it while all of them compute. 1: they share nothing."""
    if cores < 2:
        return 1.0
    alone = _rounds(1)
    return min(1.0, _rounds(cores) / alone)


def _rounds(processes: int) -> float:
    """Rounds that one of so many processes does in a second of a processor's time, all at work at once."""
    argv = [sys.executable, "-m", "mutt.plan.cores"]
    running = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for one in running:
        one.stdout.readline()  # type: ignore[union-attr]  # it is ready
    for one in running:
        one.stdin.close()  # type: ignore[union-attr]
    said = [float(one.stdout.read()) for one in running]  # type: ignore[union-attr]
    for one in running:
        one.wait()
    return sum(said) / len(said)


def _compute(seconds: float) -> float:
    done, cpu, ends = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < ends:
        for _ in range(50):
            json.loads(json.dumps(_SAMPLE))
        done += 1
    return done / (time.process_time() - cpu)


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    sys.stdout.write(f"{_compute(SECONDS)}\n")
