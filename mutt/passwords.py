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

#: Hashes that a process works at once (each takes 64 MiB and 4 threads), how many more may wait for their turn, and
#: for how many seconds: so logins can eat up neither the memory nor the threads that serve pages.
AT_ONCE, WAITING, TURN_WAIT = 2, 2, 5.0

_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(AT_ONCE)
_places = threading.BoundedSemaphore(AT_ONCE + WAITING)


def check(password: str, name: str) -> None:
    """May ``name`` have this password? Raises :class:`Refused`."""
    plain = _plain(password)
    if len(plain.decode()) < SHORTEST:
        raise Refused(
            "password", f"is too short: at least {SHORTEST} characters; a few words make a good one"
        )
    if max(len(plain), len(password)) > LONGEST:
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
            same = _hasher.verify(stored or _nobodys(), given)
            return same and max(len(given), len(password)) <= LONGEST
        except (VerificationError, InvalidHashError):
            return False


def is_dated(stored: str) -> bool:
    """Was it hashed with other parameters than are used now?"""
    return _hasher.check_needs_rehash(stored)


class _Turn:
    """A place among those who hash."""

    def __enter__(self) -> None:
        if not _places.acquire(blocking=False):
            raise Unavailable("too many passwords are looked at", 1)
        if not _turns.acquire(timeout=TURN_WAIT):
            _places.release()
            raise Unavailable("too many passwords are looked at", 1)

    def __exit__(self, *_: object) -> None:
        _turns.release()
        _places.release()


def _nobodys() -> str:
    """The hash of no password: comparing with it takes as long as with a real one."""
    salt, digest = (_text(secrets.token_bytes(size)) for size in (_hasher.salt_len, _hasher.hash_len))
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


def _text(some: bytes) -> str:
    return base64.b64encode(some).rstrip(b"=").decode()


def _plain(password: str) -> bytes:
    # However a keyboard composes an é, it is the same password. More than may be chosen is cut, and then wrong.
    return unicodedata.normalize("NFKC", password[: LONGEST + 1]).encode(errors="replace")
