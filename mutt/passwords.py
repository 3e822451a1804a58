"""Passwords: which may be chosen, and their hashes: argon2id with the parameters of RFC 9106 for little memory.

Length is what counts (NIST SP 800-63B): no rule says which characters a password is made of.
"""

from __future__ import annotations

import base64
import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mutt.errors import Refused, Unavailable

#: Characters at least, and bytes at most.
SHORTEST, LONGEST = 12, 1024

#: Hashes that a process works at once (each takes 64 MiB and 4 threads), and seconds that another waits for its turn.
AT_ONCE, TURN_WAIT = 2, 5.0

_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(AT_ONCE)


def _text(some: bytes) -> str:
    return base64.b64encode(some).rstrip(b"=").decode()


#: The hash of no password: comparing with it takes as long as with a real one.
_NOBODYS = (
    f"$argon2id$v=19$m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    f"${_text(secrets.token_bytes(_hasher.salt_len))}${_text(secrets.token_bytes(_hasher.hash_len))}"
)


def check(password: str, name: str) -> None:
    """May ``name`` have this password? Raises :class:`Refused`."""
    plain = _plain(password)
    if len(plain.decode()) < SHORTEST:
        raise Refused(
            "password", f"is too short: at least {SHORTEST} characters; a few words make a good one"
        )
    if len(plain) > LONGEST:
        raise Refused("password", f"is too long: at most {LONGEST} bytes")
    if plain.decode().strip().casefold() == name.strip().casefold():
        raise Refused("password", "is the name; choose another")


def hashed(password: str) -> str:
    """What is kept of a password. Raises :class:`Unavailable` while too many are worked."""
    with _Turn():
        return _hasher.hash(_plain(password))


def verify(stored: str | None, password: str) -> bool:
    """Is it the password of this hash? Takes as long where there is no hash. Raises :class:`Unavailable`."""
    given = _plain(password)
    with _Turn():
        try:
            return _hasher.verify(stored or _NOBODYS, given) and len(given) <= LONGEST
        except (VerificationError, InvalidHashError):
            return False


def is_dated(stored: str) -> bool:
    """Was it hashed with other parameters than are used now?"""
    return _hasher.check_needs_rehash(stored)


class _Turn:
    """A place among those who hash: so logins can't eat up the memory."""

    def __enter__(self) -> None:
        if not _turns.acquire(timeout=TURN_WAIT):
            raise Unavailable("too many passwords are looked at", 1)

    def __exit__(self, *_: object) -> None:
        _turns.release()


def _plain(password: str) -> bytes:
    # However a keyboard composes an é, it is the same password. More than may be chosen is cut, and then wrong.
    return unicodedata.normalize("NFKC", password[: LONGEST + 1]).encode(errors="replace")
