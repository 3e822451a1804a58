"""Sealing: a secret that must be had back is kept in PostgreSQL and Redis as a text that only SEALING_KEY opens.

Fernet: AES-128-CBC and HMAC-SHA256. Of several keys the first seals and each opens, so that a key can be renewed.
"""

from __future__ import annotations

import base64
import functools

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from mutt.errors import SettingsError

#: How a key is made.
MAKE = "`mutt keys sealing-key` makes one"


def new_key() -> str:
    """A key for SEALING_KEY."""
    return Fernet.generate_key().decode()


class Sealer:
    """Seals and opens with the keys of SEALING_KEY, as the settings have them: one in a line."""

    def __init__(self, keys: str) -> None:
        self._fernet = MultiFernet([Fernet(_fernets(key)) for key in keys.split()]) if keys.strip() else None
        # Opened for each signed request.
        self.open = functools.lru_cache(maxsize=1024)(self._open)

    def seal(self, secret: str) -> str:
        """The sealed text of ``secret``. Raises :class:`SettingsError` where there is no key."""
        return self._keys().encrypt(secret.encode()).decode()

    def renew(self, sealed: str) -> str:
        """The same secret, sealed with the first key. Raises as ``open`` does."""
        try:
            return self._keys().rotate(sealed.encode()).decode()
        except InvalidToken:
            raise _closed() from None

    def need(self) -> None:
        """Raises :class:`SettingsError` where nothing can be sealed."""
        self._keys()

    def _open(self, sealed: str) -> bytes:
        try:
            return self._keys().decrypt(sealed.encode())
        except InvalidToken:
            raise _closed() from None

    def _keys(self) -> MultiFernet:
        if self._fernet is None:
            raise SettingsError("SEALING_KEY", "", f"a key for ingest and the admin: {MAKE}")
        return self._fernet


def _closed() -> SettingsError:
    return SettingsError("SEALING_KEY", "…", "also the key with which this secret was sealed")


def _fernets(key: str) -> bytes:
    """32 bytes as Fernet has them: 64 hexadecimal digits are as good."""
    return base64.urlsafe_b64encode(bytes.fromhex(key)) if len(key) == 64 else key.encode()
