"""API keys: who may send. Kept as SHA-256; read from a copy in Redis, with the last good one in the process."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
import time
from typing import Protocol

import redis

from mutt import names
from mutt.errors import Unavailable
from mutt.streams.connect import Client

#: Seconds that the process' copy is used before Redis is asked again.
FRESH = 2.0

#: What is said until Redis was asked with success for the first time: only the environment's own key is known.
RETRY = round(FRESH)
UNREAD = (
    f"the API keys can't be read: they are in Redis, which does not answer; it is asked again every {RETRY} s"
)

#: The id of the key that the environment brings.
BOOTSTRAP = "bootstrap"


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
    """The known keys: SHA-256 (hex) -> id."""

    def __init__(self, client: Client, bootstrap: str) -> None:
        self._client = client
        self._own = {hashlib.sha256(bootstrap.encode()).hexdigest(): BOOTSTRAP} if bootstrap else {}
        self._known: dict[str, str] = dict(self._own)
        self._read_at, self._read = float("-inf"), False
        self._lock = threading.Lock()

    def identify(self, key: bytes) -> str | None:
        """The id of ``key``, or None. Takes the same time for every key, whatever bytes it holds.

        Raises Unavailable: it is not known, and the keys in Redis could not be read since this process began.
        """
        digest = hashlib.sha256(key).hexdigest()
        found = None
        for known, key_id in self._current().items():
            if hmac.compare_digest(known, digest):
                found = key_id
        if found is None and not self._read:
            raise Unavailable(UNREAD, RETRY)  # a 401 would have its sender give up for good
        return found

    def need(self) -> str:
        """``ok``, if the keys were read since this process began. Raises Unavailable."""
        self._current()
        if not self._read:
            raise Unavailable(UNREAD, RETRY)
        return "ok"

    def _current(self) -> dict[str, str]:
        with self._lock:
            if time.monotonic() - self._read_at < FRESH:
                return self._known
            self._read_at = time.monotonic()
        try:
            found = {
                digest.decode(): name.decode() for digest, name in self._client.hgetall(names.KEYS).items()
            }
        except redis.RedisError:
            return self._known  # the last good copy; whether Redis takes events is the append's to say
        self._known, self._read = {**found, **self._own}, True
        return self._known
