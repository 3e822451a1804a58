"""How a window recurs, as people choose and read it: a few presets, and any other RRULE as its text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from mutt.rules.windows import DAYS

NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FULL = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}

ONCE, DAILY, WEEKLY, MONTHLY, NTH, OTHER = "once", "daily", "weekly", "monthly", "nth", "other"
PRESETS = {
    ONCE: "once",
    DAILY: "every day",
    WEEKLY: "every week, on the days below",
    MONTHLY: "every month, on the same day",
    NTH: "every month, on the same weekday (such as the second Saturday)",
    OTHER: "as the RRULE below says",
}


class Repeat(NamedTuple):
    """A preset with what belongs to it."""

    preset: str
    days: Sequence[str] = ()  #: of a week, as RFC 5545 writes them
    until: str = ""  #: the last day, as a date field has it


def written(repeat: Repeat, first: datetime | None, rule: str) -> str:
    """The RRULE of what was chosen, for a window whose ``first`` local beginning that is; '' for once.

    ``rule`` is the text beside the preset ``other``.
    """
    if repeat.preset == OTHER:
        return rule
    day = DAYS[first.weekday()] if first else ""
    made = {
        DAILY: "FREQ=DAILY",
        WEEKLY: f"FREQ=WEEKLY;BYDAY={','.join(repeat.days) or day}",
        MONTHLY: f"FREQ=MONTHLY;BYMONTHDAY={first.day if first else ''}",
        NTH: f"FREQ=MONTHLY;BYDAY={(first.day - 1) // 7 + 1 if first else ''}{day}",
    }.get(repeat.preset, "")
    return f"{made};UNTIL={repeat.until.replace('-', '')}" if made and repeat.until else made


def read(rule: str | None, first: datetime) -> Repeat:
    """The preset that makes this rule of a window whose first local beginning is ``first``; else ``other``."""
    if not rule:
        return Repeat(ONCE)
    parts = dict(part.partition("=")[::2] for part in rule.split(";"))
    until = _day(parts.get("UNTIL", ""))
    days = tuple(parts.get("BYDAY", "").split(",")) if parts.get("FREQ") == "WEEKLY" else ()
    for preset in (DAILY, WEEKLY, MONTHLY, NTH):
        made = Repeat(preset, days, until)
        if sorted(written(made, first, "").split(";")) == sorted(rule.split(";")):
            return made
    return Repeat(OTHER)


def said(rule: str | None, first: datetime) -> str:
    """The rule in words, where it is one of the presets."""
    repeat = read(rule, first)
    until = f", until {repeat.until}" if repeat.until else ""
    words = {
        ONCE: "once",
        DAILY: "every day",
        WEEKLY: "every " + ", ".join(NAMES[DAYS.index(day)] for day in repeat.days if day in DAYS),
        MONTHLY: f"every month on day {first.day}",
        NTH: f"every month on the {_NTH[(first.day - 1) // 7 + 1]} {_FULL[first.weekday()]}",
    }
    return words[repeat.preset] + until if repeat.preset in words else str(rule)


def _day(until: str) -> str:
    try:
        return f"{date.fromisoformat(until)}" if len(until) == 8 else ""
    except ValueError:
        return ""
