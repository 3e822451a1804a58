"""Copied: what Redis says of the keys, looked for every two seconds; the last good answer stays in the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import redis

from mutt.errors import Unavailable
from mutt.grant import Grant
from mutt.streams.keys import is_older

#: Seconds that an answer is used before Redis is asked whether there is a newer one.
FRESH = 2.0

#: Likewise for what is not known: it may have been made just now, and who has it tries it at once.
MISSED = 0.1

#: What is said of a key that is not known while none was ever read: it may be a good one.
RETRY = round(FRESH)
UNREAD = (
    f"the API keys can't be read: they are in Redis, which does not answer; it is asked again every {RETRY} s"
)
NOT_MADE = (
    "the API keys can't be read: Redis has no copy of them; housekeeping makes it within a minute,"
    f" and it is asked for every {RETRY} s"
)


class Copied:
    """A copy of grants, by whatever they are looked up by. ``read`` gives None where Redis holds none.

    ``stamp`` tells of a copy whether it is another one than before, without reading it; None: it can't. One that is
    older than what is known is not read: a failover must not bring back a key that was revoked.
    """

    def __init__(
        self, read: Callable[[], Mapping[str, Grant] | None], stamp: Callable[[], bytes | None]
    ) -> None:
        self._read, self._known = read, dict[str, Grant]()
        self._look = stamp
        self._stamp: bytes | None = None
        #: Why one that is not known may be good; empty: the copy was read.
        self._unread = UNREAD
        self._read_at = float("-inf")
        self._lock = threading.Lock()
        self.away = False  #: did Redis not answer, when it was last asked?

    def get(self, name: str) -> Grant | None:
        return self._current().get(name) or self._current(MISSED).get(name)

    def renew(self) -> None:
        """Ask again if it is time, and if nobody is waiting for an answer."""
        if not self._lock.locked():
            self._current()

    def need(self) -> None:
        """Raises Unavailable: nothing could be read since this process began."""
        self._current()
        if self._unread:
            raise Unavailable(self._unread, RETRY)

    def _current(self, fresh: float = FRESH) -> Mapping[str, Grant]:
        with self._lock:
            # Who doesn't answer is not asked more often for it.
            if time.monotonic() - self._read_at < (FRESH if self.away else fresh):
                return self._known
            self._read_at = time.monotonic()
            if self._unread:  # there is nothing to go on with meanwhile
                self._ask()
                return self._known
        self._ask()
        return self._known

    def _ask(self) -> None:
        try:
            stamp = self._look()
            self.away = False
            if (stamp is not None and stamp == self._stamp) or is_older(stamp, self._stamp):
                return
            found = self._read()
            if self._look() != stamp:
                return  # made anew meanwhile, or by a failover an older one: nobody knows which was read
        except redis.RedisError:
            self.away = True  # whether Redis takes events is the append's to say
            return
        if found is not None:
            self._known, self._stamp, self._unread = dict(found), stamp, ""
        elif self._unread:
            self._unread = NOT_MADE
