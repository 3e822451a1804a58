"""What Flower's memory of tasks takes: ``python -m benchmarks.flower_state TASKS`` fills it, and says so as JSON.

No server: the events are those that a worker sends of one `mutt.moog.forward`, as Flower hands them to its state.
"""

from __future__ import annotations

import json
import sys
import time
from uuid import uuid4

import psutil
from flower.events import EventsState

#: What a worker and who rang say of one task, in this order.
KINDS = ("task-sent", "task-received", "task-started", "task-succeeded")

WORKERS = [f"moog{number}@host" for number in range(1, 4)]

_RESULT = "{'alerts': ['0190f2c4-7a1b-7c3d-9e5f-0123456789ab'], 'sent': 1, 'status': 200, 'waited_s': 0.02, 'left': 41}"


def fill(state: EventsState, tasks: int) -> None:
    """All events of so many tasks."""
    clock = 0
    for number in range(tasks):
        uuid, worker = str(uuid4()), WORKERS[number % len(WORKERS)]
        for kind in KINDS:
            clock += 1
            state.event(_event(kind, uuid, worker, clock))


def _event(kind: str, uuid: str, worker: str, clock: int) -> dict[str, object]:
    now = time.time()
    said: dict[str, object] = {
        "type": kind,
        "uuid": uuid,
        "hostname": worker,
        "timestamp": now,
        "local_received": now,
        "utcoffset": 0,
        "pid": 4711,
        "clock": clock,
    }
    if kind in ("task-sent", "task-received"):
        kwargs = "{'stream': 'mutt:alert_queue', 'entries': 1}"
        said |= {"name": "mutt.moog.forward", "args": "()", "kwargs": kwargs, "retries": 0, "queue": "moog"}
    if kind == "task-succeeded":
        said |= {"result": _RESULT, "runtime": 0.021}
    return said


def main(tasks: int) -> None:
    """Fill what is kept, and a tenth more, so that forgetting is measured, too."""
    state = EventsState(max_tasks_in_memory=tasks, max_workers_in_memory=5000)
    memory = psutil.Process().memory_info
    fill(state, 100)
    before, cpu = memory().rss, time.process_time()
    fill(state, tasks)
    filled, cpu_filled = memory().rss, time.process_time()
    more = tasks // 10
    fill(state, more)
    said = {
        "bytes_a_task": (filled - before) / tasks,
        "us_an_event": (cpu_filled - cpu) / tasks / len(KINDS) * 1e6,
        "us_an_event_when_full": (time.process_time() - cpu_filled) / more / len(KINDS) * 1e6,
        "mib": memory().rss / (1 << 20),
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
