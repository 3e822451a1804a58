"""What the tasks share: this process' services, and how a drain deals with an outage."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import redis
from celery import Task

from mutt.celery import BackgroundRing, settings
from mutt.entry import NEWER_REST, Entry, Move
from mutt.errors import NoRuleset, StoreDown
from mutt.pipeline.drain import drain
from mutt.services import Services
from mutt.store.patience import within
from mutt.streams.bound import Held
from mutt.streams.spread import HeldSpread

log = logging.getLogger("mutt.tasks")

#: A server is away, or not of use now: the data is safe, and nothing counts against it.
OUTAGES = (StoreDown, NoRuleset, redis.RedisError)

#: Seconds that entries rest when PostgreSQL is away: the tick rings for them again.
OUTAGE_REST = 2.0

#: Seconds that an entry rests which PostgreSQL does not take while it takes an ordinary row.
STUCK_REST = 10.0

#: So many failing shares of one take are halved: a few bad rows among five hundred are found, and a month's partition
#: that is gone costs a second.
HALVINGS = 64


class Rest:
    """What a process does about a queue whose store is away: from the second outage in a row on it waits for a second.

    Without, a backlog would be taken and handed back as fast as the processor can, one line of log each. One outage
    may be about one batch: the others go on. Shorter than ``OUTAGE_REST``, so that what was handed back is not again
    the first to be tried.
    """

    FROM, FOR = 2, 1.0

    def __init__(self) -> None:
        self._outages, self._until, self.reason = 0, 0.0, ""

    def due(self, now: float) -> bool:
        """Is the queue to be left alone at ``now`` (monotonic seconds)?"""
        return now < self._until

    def met(self, outage: Exception, now: float) -> None:
        """The store was away."""
        self._outages += 1
        self.reason = said(outage)
        if self._outages >= self.FROM:
            self._until = now + self.FOR

    def over(self) -> None:
        """Something was worked."""
        self._outages, self._until = 0, 0.0


_rests: defaultdict[str, Rest] = defaultdict(Rest)


def said(outage: Exception) -> str:
    """An outage for people."""
    return f"{type(outage).__name__}: {outage}"[:300]


@functools.cache
def _services(_pid: int) -> Services:
    # A forwarder's permit is good for some milliseconds: they are not spent on publishing.
    return Services(settings(), BackgroundRing())


def services() -> Services:
    """This process' services: made at the first call after a fork."""
    return _services(os.getpid())


#: Whose work a Celery queue's tasks are; the second word of a task's name says the same.
ROLE_OF = {
    "alerts": "alerts",
    "moog": "moog",
    "housekeeping": "housekeeping",
    "maintenance": "housekeeping",
    "backtests": "backtests",
}


class MuttTask(Task):
    """A task whose doorbell says nothing: whatever Celery is told of it goes to the log as one line."""

    #: Labels only ever reach the arguments; still they are not worth a line in every header.
    typing = False

    def work(self, did: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run, and say in one line what was done. An outage is a result, not a failure: the data is safe."""
        started = time.monotonic()
        try:
            with services().meters[ROLE_OF[self.name.split(".")[1]]].busy:
                result = did()
        except OUTAGES as error:
            result = {"outage": said(error)}
            log.warning("%s: %s", self.name, result["outage"])
            return result
        except MemoryError as error:
            # As it is, Celery would end the whole worker for it.
            raise RuntimeError(f"out of memory: {error}") from error
        result["took_s"] = round(time.monotonic() - started, 4)
        if set(result) - {"took_s", "reason", "left", "oldest_s", "ended", "waited_s", "outage"}:
            log.info("%s", self.name, extra={"did": result})
        return result


Work = Callable[[Sequence[Entry]], list[Move]]


def drain_queue(
    name: str,
    work: Work,
    shares: Callable[[Sequence[Entry]], Sequence[Sequence[Entry]]] = lambda entries: [entries],
    *,
    rest: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Drain a queue of this process' services; ``work`` commits and says how to settle, a share of a take at a time.

    ``rest`` is called for the seconds in which a drain waits for more.
    What it gives no move for is handed back, for the workers of a newer MUTT.
    """
    held, leave, back = services().held(name), _rests[name], Counter[str]()
    if leave.due(time.monotonic()):
        return {"outage": leave.reason, "ended": "rest"}

    def work_all(entries: Sequence[Entry]) -> None:
        with within(settings().work_most):
            try:
                back.update(_work_shares(held, work, shares(entries), services().store.control_row))
            except (StoreDown, NoRuleset) as error:
                leave.met(error, time.monotonic())
                raise
        leave.over()

    try:
        done = drain(held, work_all, monotonic=time.monotonic, now=time.time, sleep=rest)
    except redis.RedisError:
        held.hand_back()
        raise
    ended = {"left": done.left, "oldest_s": round(done.oldest_s, 3), "ended": done.ended}
    return ended | {why: n for why, n in back.items() if n}


def _work_shares(
    held: Held | HeldSpread, work: Work, shares: Sequence[Sequence[Entry]], control_row: Callable[[], bool]
) -> dict[str, int]:
    """Work and settle each share. How many entries were handed back: left to newer workers, or stuck.

    Where PostgreSQL does not take a share but takes an ordinary row, something in the share holds up the rest of it:
    it is halved, so that only what can't be written waits. In a real outage that costs one more question.
    """
    left, newer, stuck, halved = list(shares), 0, 0, 0
    while left:
        share = left.pop(0)
        try:
            moves = work(share)
        except StoreDown as error:
            if not (error.sqlstate and control_row()):
                _hand_back(held, [*share, *itertools.chain(*left)], apart=halved > 0)
                raise
            if len(share) > 1 and halved < HALVINGS:
                halved += 1
                middle = len(share) // 2
                left[:0] = [share[:middle], share[middle:]]
                continue
            about = f"{share[0].id} and {len(share) - 1} more" if len(share) > 1 else share[0].id
            log.warning(
                "PostgreSQL takes rows, but not those of entry %s, which waits: %s", about, said(error)
            )
            if len(share) > 1:
                _hand_back(held, share, apart=True)
            else:
                held.release(share, STUCK_REST)
            stuck += len(share)
            continue
        except NoRuleset:
            _hand_back(held, [*share, *itertools.chain(*left)])
            raise
        except Exception:
            # This share pays with an attempt; those that were not begun don't.
            held.release([*itertools.chain(*left)], 0.0)
            raise
        held.settle(moves)
        moved = {move.entry.id for move in moves}
        passed_on = [entry for entry in share if entry.id not in moved]
        if passed_on:
            held.release(passed_on, NEWER_REST)
            newer += len(passed_on)
    return {"newer": newer, "stuck": stuck}


def _hand_back(held: Held | HeldSpread, entries: Sequence[Entry], *, apart: bool = False) -> None:
    """Nobody pays. ``apart``: one of them is stuck, nobody knows which: not all are to come back together."""
    if not apart:
        held.release(entries, OUTAGE_REST)
        return
    held.release(entries[::2], OUTAGE_REST)
    if entries[1::2]:
        held.release(entries[1::2], STUCK_REST)
