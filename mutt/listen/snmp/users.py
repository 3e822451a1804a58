"""SNMPv3's users, in the words of snmptrapd.conf, and their keys. No password is kept, and none is ever shown."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from pysnmp.entity import config
from pysnmp.proto.rfc1902 import OctetString

from mutt.errors import SettingsError

_NAME = "LISTEN_SNMPTRAP_USERS"

#: RFC 3414 11.2.
_SHORTEST = 8
_LONGEST_NAME = 32  #: bytes

#: MSG_FLAGS: authenticated, encrypted.
AUTH, PRIV = 1, 2

_AUTH = {
    "MD5": config.USM_AUTH_HMAC96_MD5,
    "SHA": config.USM_AUTH_HMAC96_SHA,
    "SHA-224": config.USM_AUTH_HMAC128_SHA224,
    "SHA-256": config.USM_AUTH_HMAC192_SHA256,
    "SHA-384": config.USM_AUTH_HMAC256_SHA384,
    "SHA-512": config.USM_AUTH_HMAC384_SHA512,
}
#: The longer AES as net-snmp has it (draft-blumenthal), and with -C as Cisco has (draft-reeder).
_PRIV = {
    "DES": config.USM_PRIV_CBC56_DES,
    "AES": config.USM_PRIV_CFB128_AES,
    "AES-192": config.USM_PRIV_CFB192_AES_BLUMENTHAL,
    "AES-256": config.USM_PRIV_CFB256_AES_BLUMENTHAL,
    "AES-192-C": config.USM_PRIV_CFB192_AES,
    "AES-256-C": config.USM_PRIV_CFB256_AES,
}
_ALIKE = {"SHA1": "SHA", "SHA-1": "SHA", "AES-128": "AES", "AES128": "AES", "AES192": "AES-192",
          "AES256": "AES-256", "SHA224": "SHA-224", "SHA256": "SHA-256", "SHA384": "SHA-384",
          "SHA512": "SHA-512"}  # fmt: skip


class Keys(NamedTuple):
    """A user's keys for one engine."""

    auth: OctetString | None
    priv: OctetString | None


@dataclass(frozen=True, eq=False)
class User:
    """One who may send. Compared by identity: a user is read once."""

    name: str
    engine_id: bytes = b""  #: the only one that its traps may come from; empty: any
    auth: Any = field(default=None, repr=False)  #: pysnmp's service
    auth_key: OctetString | None = field(default=None, repr=False)
    priv: Any = field(default=None, repr=False)
    priv_key: OctetString | None = field(default=None, repr=False)
    auth_id: tuple[int, ...] = field(default=(), repr=False)

    @property
    def level(self) -> int:
        """What its messages must be: 0, AUTH, or AUTH | PRIV."""
        return (AUTH if self.auth else 0) | (PRIV if self.priv else 0)

    def keys(self, engine_id: bytes) -> Keys:
        """For messages of this engine (RFC 3414 2.6)."""
        return _localized(self, engine_id)


@lru_cache(maxsize=4096)
def _localized(user: User, engine_id: bytes) -> Keys:
    where = OctetString(engine_id)
    auth = user.auth.localize_key(user.auth_key, where) if user.auth else None
    priv = user.priv.localize_key(user.auth_id, user.priv_key, where) if user.priv else None
    return Keys(auth, priv)


def read(text: str) -> Mapping[bytes, User]:
    """Users by name, of lines such as ``createUser noc SHA-256 "a password" AES "other password"``; # is a comment.

    Raises :class:`SettingsError` naming the line and never what stands in it.
    """
    return {user.name.encode(): user for user in _users(text)}


def _users(text: str) -> Iterator[User]:
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            raise _wrong(number, "closed quotes") from None
        if words:
            yield _user(number, words)


def _user(number: int, words: list[str]) -> User:
    engine_id = b""
    words = words[1:] if words[0].lower() == "createuser" else words
    if words[:1] == ["-e"]:
        engine_id, words = _engine_id(number, words[1:2]), words[2:]
    if len(words) not in (1, 3, 4, 5) or not 0 < len(words[0].encode()) <= _LONGEST_NAME:
        raise _wrong(number, 'name, protocol, "password", protocol, "password"')
    name, *rest = words
    if not rest:
        return User(name, engine_id)
    auth_id = _protocol(number, rest[0], _AUTH)
    auth = config.AUTH_SERVICES[auth_id]
    auth_key = auth.hash_passphrase(_password(number, rest[1]))
    if len(rest) == 2:
        return User(name, engine_id, auth, auth_key, auth_id=auth_id)
    priv = config.PRIV_SERVICES[_protocol(number, rest[2], _PRIV)]
    # Without a second password the first is both, as in snmptrapd.conf.
    priv_key = priv.hash_passphrase(auth_id, _password(number, rest[1 if len(rest) == 3 else 3]))
    return User(name, engine_id, auth, auth_key, priv, priv_key, auth_id)


def _engine_id(number: int, words: list[str]) -> bytes:
    try:
        found = bytes.fromhex(words[0].removeprefix("0x"))
    except (IndexError, ValueError):
        found = b""
    if not 5 <= len(found) <= 32:
        raise _wrong(
            number, "an engine id of 5 to 32 octets in hexadecimal, such as 0x8000000001020304, after -e"
        )
    return found


def _protocol(number: int, word: str, known: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    name = word.upper()
    found = known.get(_ALIKE.get(name, name))
    if found is None:
        raise _wrong(number, f"one of {', '.join(known)} where a protocol stands")
    return found


def _password(number: int, word: str) -> bytes:
    if len(word.encode()) < _SHORTEST:
        raise _wrong(number, f"passwords of at least {_SHORTEST} characters")
    return word.encode()


def _wrong(number: int, expected: str) -> SettingsError:
    return SettingsError(_NAME, f"line {number}", expected)
