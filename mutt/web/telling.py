"""Telling: whom this process of ingest heard, every five seconds, from a thread with a connection of its own.

Whatever the load, that is one command; an outage is a line in the log, and what was heard meanwhile is told after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import redis

from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.sources.heard import Gathering
from mutt.streams.connect import redis_of
from mutt.streams.sources import Reports

log = logging.getLogger("mutt.sources")

#: Seconds between two reports.
EVERY = 5.0


def tell(gathering: Gathering, reports: Reports, *, bootstrap: bool = True) -> None:
    """Say what was heard since the last time, also if that is nobody. ``redis.RedisError`` passes through.

    ``bootstrap``: is there a key of INGEST_API_KEY?
    """
    heard = gathering.take()
    try:
        reports.tell(heard, time.time(), bootstrap=bootstrap)
    except BaseException:
        gathering.give_back(heard)
        raise


def start(settings: Settings, gathering: Gathering) -> Callable[[], None]:
    """Tell from a thread. What is given back ends that, tells once more, and takes a second at the most."""
    stopping = threading.Event()
    try:
        reports = Reports(redis_of(settings, timeout=1.0, max_connections=2))
    except SettingsError:
        return stopping.set  # nobody said where Redis is: there is nothing to end
    thread = threading.Thread(
        target=_run, args=(settings, gathering, reports, stopping), name="telling", daemon=True
    )
    thread.start()

    def end() -> None:
        stopping.set()
        thread.join(1.0)

    return end


def _run(settings: Settings, gathering: Gathering, reports: Reports, stopping: threading.Event) -> None:
    away = ended = False
    while not ended:
        ended = stopping.wait(EVERY)  # what came since the last report is told before the end
        try:
            tell(gathering, reports, bootstrap=bool(settings.current("ingest_api_key")))
            away = False
        except (redis.RedisError, SettingsError, OSError) as error:
            if not away:
                log.warning("whom this process hears can't be told now: %s", error)
            away = True
        except Exception:
            # The thread's edge: who says nothing any more would be taken for one that does not listen.
            if not away:
                log.exception("whom this process hears can't be told now")
            away = True
