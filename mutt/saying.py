"""Saying: a thread of its own says something of this process again and again, and disturbs nothing else.

An outage is a line in the log, and not one each time. Whatever goes wrong, the next time it is tried again: who says
nothing any more would be taken for dead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import redis

from mutt.errors import SettingsError

#: Seconds that the end waits for the last word.
PATIENCE = 1.0


def start(
    say: Callable[[], object],
    *,
    every: float,
    last: Callable[[], object],
    name: str,
    log: logging.Logger,
    what: str,
) -> Callable[[], None]:
    """Call ``say`` every so many seconds, and ``last`` at the end. What is given back brings that end, and takes a
    second at the most. ``what`` is said, for the log."""
    stopping = threading.Event()

    def run() -> None:
        trying = _Trying(log, what)
        while not stopping.wait(every):
            trying(say)
        trying(last)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()

    def end() -> None:
        stopping.set()
        thread.join(PATIENCE)

    return end


class _Trying:
    """Tries something, and logs a failure where the try before did not fail."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log, self._what, self._failed = log, what, False

    def __call__(self, say: Callable[[], object]) -> None:
        before, self._failed = self._failed, True
        try:
            say()
            self._failed = False
        except (redis.RedisError, SettingsError, OSError) as error:
            if not before:
                self._log.warning("%s can't be told now: %s", self._what, error)
        except Exception as error:  # noqa: BLE001 the thread's edge: an error of ours ends it no more than an outage does
            if not before:
                self._log.error("%s can't be told now", self._what, exc_info=error)
