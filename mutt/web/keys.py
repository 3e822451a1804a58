"""API keys at the door: which one a request shows, and what it allows. They are read from the copy in Redis."""

from __future__ import annotations

import base64
import binascii
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import redis

from mutt.errors import Unavailable
from mutt.grant import BOOTSTRAP, Grant, digest_of
from mutt.streams.connect import Client
from mutt.streams.keys import KeysCopy

log = logging.getLogger("mutt.keys")

#: Seconds that the process' copy is used before Redis is asked whether there is a newer one.
FRESH = 2.0

#: Seconds between two notes of which keys were used.
NOTED = 10.0

#: What is said of a key that is not known while the copy was never read: it may be a good one.
RETRY = round(FRESH)
UNREAD = (
    f"the API keys can't be read: they are in Redis, which does not answer; it is asked again every {RETRY} s"
)
NOT_MADE = (
    "the API keys can't be read: Redis has no copy of them; housekeeping makes it within a minute,"
    f" and it is asked for every {RETRY} s"
)


class Headers(Protocol):
    """A request's headers. Asked for names in capitals: not everybody's are found however they are written."""

    def get(self, name: str, default: str, /) -> str: ...


def presented(headers: Headers) -> bytes | None:
    """The key that a request shows: X-API-KEY, Bearer, Splunk, or the password of Basic. None: it shows none."""
    if given := headers.get("X-API-KEY", ""):
        return _bytes(given)
    scheme, _, value = headers.get("AUTHORIZATION", "").partition(" ")
    if scheme.lower() in ("bearer", "splunk") and value:
        return _bytes(value.strip())
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return None


def _bytes(value: str) -> bytes:
    # WSGI shows a header's bytes as Latin-1.
    return value.encode("latin-1", "replace")


class Keys:
    """The known keys, by digest. The last good copy stays, however long Redis is away; what expires, expires."""

    def __init__(self, client: Client, bootstrap: str, clock: Callable[[], float] = time.time) -> None:
        self._copy, self._clock = KeysCopy(client), clock
        self._own = {digest_of(bootstrap.encode()): BOOTSTRAP} if bootstrap else {}
        self._known: dict[str, Grant] = dict(self._own)
        #: Why a key that is not known may be good; empty: the copy was read.
        self._unread = UNREAD
        self._read_at = self._noted_at = float("-inf")
        self._stamp: bytes | None = None
        self.away = False  #: Redis did not answer when it was last asked
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def identify(self, key: bytes) -> Grant | None:
        """What ``key`` allows; None: it is not known, was revoked, or has expired.

        Keys are looked up by their digest: how long that takes tells nothing of them (docs/decisions/0033).
        Raises Unavailable: it is not known, and no copy of the keys could be read since this process began.
        """
        digest = digest_of(key)
        found = self._current().get(digest)
        if found is None:
            self._check_read()  # a 401 would have its sender give up for good
            return None
        now = self._clock()
        if found.expired(now):
            return None
        if found is not BOOTSTRAP:
            self._used[digest] = round(now * 1000)
            self._note_uses()
        return found

    def need(self) -> str:
        """``ok``, if the keys were read since this process began. Raises Unavailable."""
        self._current()
        self._check_read()
        return "ok"

    def _check_read(self) -> None:
        if self._unread:
            raise Unavailable(self._unread, RETRY)

    def _current(self) -> dict[str, Grant]:
        with self._lock:
            if time.monotonic() - self._read_at < FRESH:
                return self._known
            self._read_at = time.monotonic()
        try:
            stamp = self._copy.stamp()
            self.away = False
            if stamp is not None and stamp == self._stamp:
                return self._known
            found = self._copy.read()
        except redis.RedisError:
            self.away = True
            return self._known  # whether Redis takes events is the append's to say
        if found is not None:
            self._known, self._stamp, self._unread = {**found, **self._own}, stamp, ""
        elif self._unread:
            self._unread = NOT_MADE
        return self._known

    def _note_uses(self) -> None:
        """At once for the first use in a while, so that a sender who posts once a day is seen; then now and then."""
        if self.away or time.monotonic() - self._noted_at < NOTED:
            return
        with self._lock:
            used, self._used = self._used, {}
            self._noted_at = time.monotonic()
        try:
            self._copy.used(used)
        except redis.RedisError:
            self._used = {**used, **self._used}
