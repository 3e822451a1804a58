"""What a relay notes, and what it says of it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

log = logging.getLogger("mutt.listen")

#: Seconds between two lines of the log about the same trouble.
SELDOM = 60.0


@dataclass
class Books:
    """What became of the records since the start."""

    kept: int = 0  #: written to disk
    sent: int = 0  #: taken by ingest
    refused: int = 0  #: never taken by ingest; it keeps them for `mutt dlq`
    no_room: int = 0  #: not taken: the buffer was full
    retries: int = 0  #: requests that were sent again
    trouble: str = ""  #: what stands against the request that is tried now; empty: nothing
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **more: int) -> None:
        """Count so many more."""
        with self.lock:
            for name, n in more.items():
                setattr(self, name, getattr(self, name) + n)


class Trouble:
    """Lines of the log that would come again and again: about one thing one a minute."""

    def __init__(self) -> None:
        self._quiet_until = dict[str, float]()

    def say(self, about: str, sentence: str, *values: object) -> None:
        """Say it, unless that was said a while ago."""
        now = time.monotonic()
        if now >= self._quiet_until.get(about, 0.0):
            self._quiet_until[about] = now + SELDOM
            log.warning(sentence, *values)
