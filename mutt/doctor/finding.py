"""Finding: what one check of the doctor says."""

from __future__ import annotations

import enum

import msgspec


class Level(enum.StrEnum):
    OK = "ok"
    WARN = "warn"  #: it works, with a bound that somebody should know
    BAD = "bad"  #: it does not work, or a promise is broken


class Finding(msgspec.Struct, frozen=True):
    """One check: what was looked at, how it stands, and what to do about it ('' where nothing)."""

    what: str
    level: Level
    says: str
    fix: str = ""


def ok(what: str, says: str) -> Finding:
    return Finding(what, Level.OK, says)


def warn(what: str, says: str, fix: str) -> Finding:
    return Finding(what, Level.WARN, says, fix)


def bad(what: str, says: str, fix: str) -> Finding:
    return Finding(what, Level.BAD, says, fix)
