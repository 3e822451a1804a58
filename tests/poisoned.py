"""The Celery application with poison in it: ``celery -A tests.poisoned worker``. A word in a message does harm.

``POISON raise`` raises, ``exit`` ends the worker's child at once (as the kernel does that is out of memory),
``memory`` takes all that the child may have, ``loop`` never ends.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any, NoReturn

from mutt.celery import app
from mutt.pipeline import evaluate as pipeline
from mutt.store import engine, patience

app.conf.task_annotations["mutt.alerts.evaluate"] = {"soft_time_limit": 4, "time_limit": 20}
pipeline.LOOPS = 1.0
patience.PING, engine.CONNECT_TIMEOUT = 0.5, 2

#: Bytes that a child may take beyond what it has.
ROOM = 256 << 20

_evaluate = pipeline.evaluate


def _raise() -> NoReturn:
    raise RuntimeError("this event is poison")


def _exit() -> NoReturn:
    os._exit(7)


def _memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.RLIM_INFINITY))
    try:
        taken = [bytearray(1 << 20) for _ in range(1 << 20)]
        taken.clear()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _loop() -> NoReturn:
    while True:
        pass


HARM = {"raise": _raise, "exit": _exit, "memory": _memory, "loop": _loop}


def _harmful(event: Any, ruleset: Any) -> Any:
    if event.message.startswith("POISON "):
        HARM[event.message.split()[1]]()
    return _evaluate(event, ruleset)


pipeline.evaluate = _harmful
