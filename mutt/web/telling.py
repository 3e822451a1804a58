"""Telling: whom this process of ingest heard, every five seconds, from a thread with a connection of its own.

Whatever the load, that is one command; an outage is a line in the log, and what was heard meanwhile is told after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mutt import saying
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
    try:
        reports = Reports(redis_of(settings, timeout=1.0, max_connections=2))
    except SettingsError:
        return lambda: None  # nobody said where Redis is: there is nothing to end

    def say() -> None:
        tell(gathering, reports, bootstrap=bool(settings.current("ingest_api_key")))

    # What came since the last report is told before the end.
    return saying.start(say, every=EVERY, last=say, name="telling", log=log, what="whom this process hears")
