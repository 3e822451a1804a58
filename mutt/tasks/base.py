"""What the tasks share: this process' services, and how a drain deals with an outage."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from celery import Task

from mutt.celery import BackgroundRing, settings
from mutt.entry import Entry, Move
from mutt.errors import NoRuleset, StoreDown
from mutt.pipeline.drain import drain
from mutt.services import Services

log = logging.getLogger("mutt.tasks")

#: A server is away, or not of use now: the data is safe, and nothing counts against it.
OUTAGES = (StoreDown, NoRuleset, redis.RedisError)

#: Seconds that entries rest when PostgreSQL is away: the tick rings for them again.
OUTAGE_REST = 2.0


@functools.cache
def _services(_pid: int) -> Services:
    # A forwarder's permit is good for some milliseconds: they are not spent on publishing.
    return Services(settings(), BackgroundRing())


def services() -> Services:
    """This process' services: made at the first call after a fork."""
    return _services(os.getpid())


class MuttTask(Task):
    """A task whose doorbell says nothing: whatever Celery is told of it goes to the log as one line."""

    #: Labels only ever reach the arguments; still they are not worth a line in every header.
    typing = False

    def work(self, did: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run, and say in one line what was done. An outage is a result, not a failure: the data is safe."""
        started = time.monotonic()
        try:
            result = did()
        except OUTAGES as error:
            result = {"outage": f"{type(error).__name__}: {error}"[:300]}
            log.warning("%s: %s", self.name, result["outage"])
            return result
        result["took_s"] = round(time.monotonic() - started, 4)
        if set(result) - {"took_s", "reason", "left", "oldest_s", "ended", "waited_s"}:
            log.info("%s", self.name, extra={"did": result})
        return result


def drain_queue(name: str, work: Callable[[Sequence[Entry]], list[Move]]) -> dict[str, Any]:
    """Drain a queue of this process' services; ``work`` commits and says how to settle."""
    held = services().held(name)

    def work_and_settle(entries: Sequence[Entry]) -> None:
        try:
            moves = work(entries)
        except (StoreDown, NoRuleset):
            held.release(entries, OUTAGE_REST)
            raise
        held.settle(moves)

    done = drain(held, work_and_settle, monotonic=time.monotonic, now=time.time, sleep=time.sleep)
    return {"left": done.left, "oldest_s": round(done.oldest_s, 3), "ended": done.ended}
