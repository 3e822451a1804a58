"""What can go wrong, as a tree; an exception carries data, its docstring is its message.

::

    MuttError
    ├── SettingsError      name, value, expected
    │   └── StackGone      home                   (`mutt up` was killed there)
    ├── Refused            field, reason          (input that its sender can mend)
    │   ├── RejectedItem   one event of a request
    │   ├── RejectedBody   a whole request        (status)
    │   ├── RuleError      a rule that can't be saved
    │   ├── Overtaken      rules                  (a draft's rules, changed by others since)
    │   └── Overwrites     changed_at             (a change that its writer has not seen)
    ├── ManyRefused        reasons                (some of many; none was saved)
    ├── Unavailable        reason, retry_after    (ask again later; nothing was taken)
    │   ├── NoRoom                                (a Redis is full; nothing went out that may be in)
    │   └── StreamAway     sent                   (Redis is away, or did not answer)
    ├── OverQuota          quota, retry_after     (a sender's own limit; nothing was taken)
    ├── LoginFailed        kind, why              (of a login by the OpenID provider)
    ├── NoRuleset          a worker without rules refuses to evaluate
    ├── StoreDown          PostgreSQL can't be asked, or not now
    ├── ArchiveUnreadable  file, what             (a file of the archives is damaged, or gone)
    ├── PoisonRow          PostgreSQL refuses what these rows hold
    ├── AlreadyStored      another commit wrote one of these rows first
    ├── UndecodableEntry   a stream entry that is damaged, or of no version
    │   └── NewerEntry     of a version that only a newer MUTT knows
    └── PermitExpired      the permission to send ran out before the first byte
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path


class MuttError(Exception):
    """Something went wrong in MUTT."""


class SettingsError(MuttError):
    """A setting has a value it can't have."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}={value!r}: expected {expected}")
        self.name, self.value, self.expected = name, value, expected


class StackGone(SettingsError):
    """A setting was to come from the stack of ``home``, whose ``mutt up`` was killed."""

    def __init__(self, home: Path) -> None:
        MuttError.__init__(self, f"the stack in {home} is gone: start `mutt up`")
        self.home = home


class Kind(StrEnum):
    """What is wrong with input, in a word: for protocols that have a number for it."""

    OTHER = "other"
    NOTHING = "nothing"  #: there is none
    MISSING = "missing"  #: what an event can't be without
    BLANK = "blank"  #: likewise
    TOO_LARGE = "too large"  #: an item


class Refused(MuttError):
    """Input that its sender can mend: which field, and what to do about it."""

    def __init__(self, field: str, reason: str, *, kind: Kind = Kind.OTHER) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason, self.kind = field, reason, kind


class RejectedItem(Refused):
    """One event of a request can't be taken; its neighbours can."""


class RejectedBody(Refused):
    """No part of a request can be read; ``status`` is the HTTP answer (400, 403, 413 or 415)."""

    def __init__(self, field: str, reason: str, status: int = 400, *, kind: Kind = Kind.OTHER) -> None:
        super().__init__(field, reason, kind=kind)
        self.status = status


class RuleError(Refused):
    """A rule can't be saved."""


class Overtaken(Refused):
    """A draft can't be promoted: others have changed these of its rules since it began."""

    def __init__(self, rules: Sequence[str]) -> None:
        named = ", ".join(rules[:5]) + (" and others" if len(rules) > 5 else "")
        super().__init__(
            "shadow", f"{named}: changed since the draft began; drop it, and begin again from what stands"
        )
        self.rules = rules


class ManyRefused(MuttError):
    """Some of many items can't be saved, so none is: ``reasons`` by their index, from 0."""

    def __init__(self, reasons: Mapping[int, Refused]) -> None:
        super().__init__("; ".join(f"{index}: {reason}" for index, reason in reasons.items()))
        self.reasons = reasons


class Overwrites(Refused):
    """A change would write over a later one that its writer has not seen."""

    def __init__(self, what: str, changed_at: datetime) -> None:
        when = f"{changed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        super().__init__(
            "", f"This {what} was changed at {when}, after you opened it: open it again to see what stands."
        )
        self.changed_at = changed_at


class Unavailable(MuttError):
    """Nothing was taken; ask again after ``retry_after`` seconds."""

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class NoRoom(Unavailable):
    """There is no room: nothing was sent that may be in, and another server may have some."""


#: What is said of a Redis that does not answer.
UNREACHABLE = "Redis, which holds the stream, can't be reached"


class StreamAway(Unavailable):
    """Redis can't be reached, or refuses writes. ``sent``: the round went out, so it may be in all the same."""

    def __init__(self, reason: str = UNREACHABLE, retry_after: int = 1, *, sent: bool = False) -> None:
        super().__init__(reason, retry_after)
        self.sent = sent


class OverQuota(MuttError):
    """A key has sent its ``quota`` (events a minute): it may go on after ``retry_after`` seconds."""

    def __init__(self, quota: int, retry_after: int) -> None:
        super().__init__(f"the quota of this key, {quota} events a minute, is used up")
        self.quota, self.retry_after = quota, retry_after


class LoginFailed(MuttError):
    """Nobody was logged in by the OpenID provider. ``kind`` is of a closed set, ``why`` is for the log: no secret."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind, self.why = kind, why


class NoRuleset(MuttError):
    """No ruleset could be read: a worker without rules refuses to evaluate."""


class StoreDown(MuttError):
    """PostgreSQL can't be asked, or can't answer now."""

    #: What PostgreSQL said, if it said anything: a server that is away or hangs does not.
    sqlstate = ""

    def __init__(self, message: str = "", sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ArchiveUnreadable(MuttError):
    """A file of the archives is damaged, gone, or not what its manifest says; ``file`` may be empty: some file is."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(f"archive {file}: {what}" if file else f"an archive can't be read: {what}")
        self.file, self.what = file, what


class PoisonRow(MuttError):
    """PostgreSQL refuses what at least one of these rows holds; ``sqlstate`` says why."""

    def __init__(self, reason: str, sqlstate: str = "") -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate


class AlreadyStored(MuttError):
    """Another commit wrote one of these rows first: read back what stands, and go on."""


class UndecodableEntry(MuttError):
    """A stream entry that is damaged, or of no version."""


class NewerEntry(UndecodableEntry):
    """A stream entry of a version that only a newer MUTT knows."""


class PermitExpired(MuttError):
    """The permission to send ran out before the first byte; nothing was sent."""
