"""Fields: which of them the events of a format have, and which of those have gone. Pure.

A field has gone where most events had it since it first came, and of the last ones none: so many, and for so long, as
it never lacked before. A share alone would call every second device's field gone whenever that device rests.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mutt.sources.heard import FIELDS, FORMATS, Looked

#: A field is known from so many events on, of which so large a share had it.
KNOWN_FROM, KNOWN_SHARE = 100, 0.5

#: It has gone after so many events without it, and so many seconds; and after so many times its longest lack before.
GONE_EVENTS, GONE_AFTER, GONE_TIMES = 50, 600.0, 3

#: Seconds after which a field that is not seen is forgotten: the format is another one then.
FORGOTTEN = 7 * 86_400.0

#: Seconds after which one that was seen once makes room for another: names that are made up fill no slots for a week.
ONCE = 3_600.0


class Field(msgspec.Struct, frozen=True, gc=False):
    """One field's events: counted in those that were looked at."""

    n: int  #: that had it
    first: int  #: the number of the first event that had it, and of the last one
    last: int
    at: float  #: when that was
    lacked: int = 0  #: the most events in a row without it, so far


class Formed(msgspec.Struct, frozen=True, gc=False):
    """What is known of a source's events of one format."""

    events: int = 0
    looked: int = 0
    at: float = 0.0  #: of the last one
    fields: Mapping[str, Field] = msgspec.field(default_factory=dict)

    def share(self, name: str) -> float:
        """Of the events since a field first came, until it was last seen, how many had it."""
        field = self.fields[name]
        return field.n / max(1, field.last - field.first + 1)

    def gone(self) -> list[str]:
        """The fields that most events had, and that they have no more; by name."""
        return sorted(name for name in self.fields if self._is_gone(name, self.looked, self.at))

    def may_go(self, events: int, at: float) -> bool:
        """Is there one that has gone, or may have with so many events more until ``at``, whose fields are not known?"""
        looked, at = self.looked + events, max(self.at, at)
        return any(self._is_gone(name, looked, at) for name in self.fields)

    def _is_gone(self, name: str, looked: int, at: float) -> bool:
        field = self.fields[name]
        lacks = looked - field.last
        return (
            at - field.at >= GONE_AFTER
            and lacks >= max(GONE_EVENTS, GONE_TIMES * field.lacked)
            and field.last - field.first + 1 >= KNOWN_FROM
            and self.share(name) >= KNOWN_SHARE
        )


def grown(before: Formed, more: Looked, at: float) -> Formed:
    """``before`` and what was looked at until ``at``."""
    looked = before.looked + more.looked
    kept = {name: one for name, one in before.fields.items() if at - one.at < FORGOTTEN}
    for name in kept.keys() & more.fields.keys():
        one = kept[name]
        lacked = max(one.lacked, before.looked - one.last)
        kept[name] = Field(one.n + more.fields[name], one.first, looked, at, lacked)
    if new := more.fields.keys() - kept.keys():
        _make_room(kept, len(new), at)
        often = sorted(new, key=lambda name: (-more.fields[name], name))
        for name in often[: FIELDS - len(kept)]:
            kept[name] = Field(more.fields[name], before.looked + 1, looked, at)
    return Formed(before.events + more.events, looked, max(before.at, at), kept)


def _make_room(kept: dict[str, Field], wanted: int, at: float) -> None:
    """Of those that were seen once, and not of late, so many go as others are ``wanted``; the oldest first."""
    once = [name for name, one in kept.items() if one.n == 1 and at - one.at >= ONCE]
    once.sort(key=lambda name: kept[name].at)
    for name in once[: max(0, len(kept) + wanted - FIELDS)]:
        del kept[name]


def all_grown(before: Mapping[str, Formed], more: Mapping[str, Looked], at: float) -> dict[str, Formed]:
    """Likewise of every format; of too many the one that was not seen for longest goes."""
    found = dict(before)
    for name, looked in more.items():
        found[name] = grown(found.get(name, Formed()), looked, at)
    newest = sorted(found, key=lambda name: found[name].at, reverse=True)[:FORMATS]
    return {name: found[name] for name in sorted(newest)}
