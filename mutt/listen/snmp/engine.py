"""Who this receiver is to SNMPv3: an engine id that stays, and how often it was started (RFC 3411, RFC 3414 2.2).

Senders of informs remember both. With another id, or fewer boots, they would take its answers for those of an impostor.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mutt.errors import SettingsError

#: Under the number that RFC 3411 keeps for who has none of IANA's (net-snmp's is as common): octets, chosen at random.
_PREFIX = bytes.fromhex("80001f8805")
_RANDOM = 12

#: RFC 3414 2.2.2: an engine that was started so often needs another id, and nobody takes a message of it.
MOST_BOOTS = 2**31 - 1

_FILE = "snmp-engine.json"


class _Stored(msgspec.Struct):
    engine_id: str
    boots: int


@dataclass(frozen=True)
class Engine:
    """This receiver, from one start to the next."""

    engine_id: bytes
    boots: int
    started: float  #: on the clock that :meth:`time` is asked with

    def time(self, now: float) -> int:
        """Whole seconds since the start."""
        return min(int(now - self.started), MOST_BOOTS)


def started(directory: Path, now: float) -> Engine:
    """The engine of ``directory``, started once more. Raises :class:`SettingsError` where that can't be kept."""
    path = directory / _FILE
    try:
        stored = _read(path)
        stored.boots += 1
        if stored.boots >= MOST_BOOTS:
            stored = _new()
        _write(path, stored)
    except OSError as error:
        raise SettingsError("LISTEN_BUFFER", str(directory), f"a directory to write in ({error})") from None
    return Engine(bytes.fromhex(stored.engine_id), stored.boots, now)


def _new() -> _Stored:
    return _Stored((_PREFIX + secrets.token_bytes(_RANDOM)).hex(), 1)


def _read(path: Path) -> _Stored:
    """With no boot of it yet where there is none, or a damaged one: nobody may meet the same boots twice."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
        bytes.fromhex(stored.engine_id)
    except (FileNotFoundError, ValueError, msgspec.DecodeError):
        stored = _new()
        stored.boots = 0
    return stored


def _write(path: Path, stored: _Stored) -> None:
    """Whole or not at all, and on the disk before anybody is told."""
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(msgspec.json.encode(stored))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
