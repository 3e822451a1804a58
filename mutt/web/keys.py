"""API keys at the door: which one a request shows, and what it allows. They are read from the copy in Redis."""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections.abc import Callable

import redis

from mutt.formats.base import Headers
from mutt.grant import BOOTSTRAP, Grant, digest_of
from mutt.streams.connect import Client
from mutt.streams.keys import KeysCopy
from mutt.web.copied import Copied

#: Seconds between two notes of which keys were used.
NOTED = 10.0


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

    def __init__(
        self, client: Client, bootstrap: Callable[[], str], clock: Callable[[], float] = time.time
    ) -> None:
        """``bootstrap`` gives the key that the environment brings, as it is now; empty: there is none."""
        self._copy, self._clock = KeysCopy(client), clock
        self._bootstrap, self._own = bootstrap, ("", "")  # with its digest
        self._known = Copied(self._copy.read, self._copy.stamp)
        self._noted_at = float("-inf")
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def identify(self, key: bytes) -> Grant | None:
        """What ``key`` allows; None: it is not known, was revoked, or has expired.

        Keys are looked up by their digest: how long that takes tells nothing of them (docs/decisions/0033).
        Raises Unavailable: it is not known, and no copy of the keys could be read since this process began.
        """
        digest = digest_of(key)
        if self._is_own(digest):
            self._known.renew()  # the others are to be known when Redis goes away
            return BOOTSTRAP
        found = self._known.get(digest)
        if found is None:
            self._known.need()  # a 401 would have its sender give up for good
            return None
        if found.expired(self._clock()):
            return None
        self.note(digest)
        return found

    def _is_own(self, digest: str) -> bool:
        text = self._bootstrap()
        if text != self._own[0]:
            self._own = text, digest_of(text.encode())
        return bool(text) and digest == self._own[1]

    def note(self, what: str) -> None:
        """A key was used: its digest, or SIGNED and the name of a source."""
        self._used[what] = round(self._clock() * 1000)
        self._note_uses()

    def need(self) -> str:
        """``ok``, if the keys were read since this process began. Raises Unavailable."""
        self._known.need()
        return "ok"

    @property
    def away(self) -> bool:
        """Did Redis not answer, when it was last asked for the keys? Asked again now and then, whoever posts."""
        if self._known.away:
            self._known.renew()  # posts that are signed show no key that would have it asked
        return self._known.away

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
