"""Sealing: a secret that must be had back is kept in PostgreSQL and Redis as a text that only SEALING_KEY opens.

Fernet: AES-128-CBC and HMAC-SHA256. Of several keys the first seals and each opens, so that a key can be renewed.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from mutt.errors import SettingsError

#: How a key is made.
MAKE = "`mutt keys sealing-key` makes one"


def new_key() -> str:
    """A key for SEALING_KEY."""
    return Fernet.generate_key().decode()


class Sealer:
    """Seals and opens with the keys of SEALING_KEY, as the settings have them: one in a line. ``keys`` may be asked."""

    def __init__(self, keys: str | Callable[[], str]) -> None:
        self._keys = keys if callable(keys) else lambda: keys
        # Opened for each signed request.
        self._opened = functools.lru_cache(maxsize=1024)(_open)

    def seal(self, secret: str) -> str:
        """The sealed text of ``secret``. Raises :class:`SettingsError` where there is no key."""
        return _fernet(self._keys()).encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> bytes:
        """What was sealed. Raises :class:`SettingsError`: there is no key, or not the one that it was sealed with."""
        return self._opened(self._keys(), sealed)

    def renew(self, sealed: str) -> str:
        """The same secret, sealed with the first key. Raises as ``open`` does."""
        try:
            return _fernet(self._keys()).rotate(sealed.encode()).decode()
        except InvalidToken:
            raise _closed() from None

    def need(self) -> None:
        """Raises :class:`SettingsError` where nothing can be sealed."""
        _fernet(self._keys())


def _open(keys: str, sealed: str) -> bytes:
    try:
        return _fernet(keys).decrypt(sealed.encode())
    except InvalidToken:
        raise _closed() from None


@functools.lru_cache(maxsize=4)
def _fernet(keys: str) -> MultiFernet:
    if not keys.strip():
        raise SettingsError("SEALING_KEY", "", f"a key for ingest and the admin: {MAKE}")
    return MultiFernet([Fernet(_as_fernet(key)) for key in keys.split()])


def _closed() -> SettingsError:
    return SettingsError("SEALING_KEY", "…", "also the key with which this secret was sealed")


def _as_fernet(key: str) -> bytes:
    """32 bytes as Fernet has them: 64 hexadecimal digits are as good."""
    return base64.urlsafe_b64encode(bytes.fromhex(key)) if len(key) == 64 else key.encode()
