"""The API keys as Redis holds them: a copy that ingest reads, which is made again from PostgreSQL where it is gone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mutt import names
from mutt.grant import Grant
from mutt.streams.connect import Client

log = logging.getLogger("mutt.keys")

#: A field of the copy that is no key: when it was published, in microseconds, and later than the one before. Without
#: it Redis was emptied. So many digits: a copy of an older version has another text there, and no order.
MADE = b"made"
_DIGITS = 20

#: Before the name of a source that signs, where uses are noted: a name may look like a digest.
SIGNED = "signed:"


class KeysCopy:
    """``redis.RedisError`` passes through."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def publish(
        self, grants: Mapping[str, Grant], signed: Mapping[str, Grant] | None = None, at: int | None = None
    ) -> None:
        """Make the copy anew: what each live key allows, by its digest; and those whose source signs, by name.

        ``signed`` None: those stay as they are. ``at`` is now, in microseconds of the clock that all publications
        share; None: Redis' own. Use :func:`mutt.keyring.publish`, which keeps the order of changes.
        """
        if at is None:
            seconds, micros = self._client.time()
            at = seconds * 1_000_000 + micros
        # A clock that was set back must not make this look older than what it replaces.
        made = b"%0*d" % (_DIGITS, max(at, _moment(self.stamp()) + 1))
        with self._client.pipeline(transaction=True) as pipe:
            _replace(pipe, names.KEYS, grants, made)
            if signed is not None:
                _replace(pipe, names.KEYS_SIGNED, signed, made)
            pipe.execute()

    def stamp(self) -> bytes | None:
        """Another one after each publication; None: there is no copy, or one of an older version."""
        return self._stamp(names.KEYS)

    def stamp_signed(self) -> bytes | None:
        """Likewise."""
        return self._stamp(names.KEYS_SIGNED)

    def read(self) -> dict[str, Grant] | None:
        """What each live key allows, by its digest. None: there is no copy; Redis is new, or was emptied."""
        return self._read(names.KEYS)

    def read_signed(self) -> dict[str, Grant] | None:
        """Likewise the keys whose source signs, by name."""
        return self._read(names.KEYS_SIGNED)

    def used(self, at: Mapping[str, int]) -> None:
        """Note when keys were used: digest, or SIGNED and a name -> epoch milliseconds."""
        if at:
            self._client.hset(names.KEYS_USED, mapping=dict(at))

    def take_used(self) -> dict[str, int]:
        """What was noted since it was last taken."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(names.KEYS_USED)
            pipe.delete(names.KEYS_USED)
            found, _ = pipe.execute()
        return {digest.decode(): int(at) for digest, at in found.items()}

    def _stamp(self, name: str) -> bytes | None:
        found: bytes | None = self._client.hget(name, MADE)
        return found

    def _read(self, name: str) -> dict[str, Grant] | None:
        found = self._client.hgetall(name)
        if found.pop(MADE, None) is None and not found:
            return None
        grants = {}
        for field, packed in found.items():
            try:
                grants[field.decode()] = Grant.unpack(packed)
            except ValueError:
                # One that is damaged, or of a newer version, costs no other key.
                log.warning("an API key in Redis can't be read, and is left out")
        return grants


def is_older(stamp: bytes | None, than: bytes | None) -> bool:
    """Is it a copy from before another one? So it is after a failover to a replica that lacked the last changes."""
    return 0 < _moment(stamp) < _moment(than)


def _moment(stamp: bytes | None) -> int:
    """0: it says none."""
    return int(stamp) if stamp and len(stamp) == _DIGITS and stamp.isdigit() else 0


def _replace(pipe: Any, name: str, grants: Mapping[str, Grant], made: bytes) -> None:
    pipe.delete(name)
    packed: dict[str | bytes, str | bytes] = {key: grant.pack() for key, grant in grants.items()}
    pipe.hset(name, mapping={**packed, MADE: made})
