"""A sender's time, in the ways that senders write it, as an aware UTC datetime."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from mutt.formats.values import text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Below this, a number is an uptime, a year or a date written as digits rather than a time (1973).
_LEAST = 10**8

#: (below this the number counts these units, of which so many make a second): s, ms, us, ns.
_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))

_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip

#: Names of zones, with their hours from UTC. One that means several is not here (CST: America, China, Cuba; IST:
#: India, Ireland, Israel; BST: Britain, Bangladesh): a wrong time is worse than one that shows its doubt.
_ZONES = {
    "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MET": 1, "MEST": 2, "EET": 2, "EEST": 3,
    "MSK": 3, "EST": -5, "EDT": -4, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8, "HST": -10,
    "SGT": 8, "HKT": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip

#: RFC 3164 as it is met: a year before the month, after the day or after the time, a fraction, a zone, and Cisco's
#: mark for an unset clock. A year is no beginning of an address (2001:db8::1).
RFC3164 = re.compile(
    r"[*.]?(?:(?P<year_before>(?:19|20)\d\d) )?(?P<month>[A-Za-z]{3}) {1,2}(?P<day>\d{1,2}) (?:(?P<year>\d{4}) )?"
    r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?"
    rf"(?: ?(?P<zone>[+-]\d\d:?\d\d|(?:{'|'.join(_ZONES)})(?![\w.-])))?"
    r"(?: (?P<year_behind>(?:19|20)\d\d)(?=:?(?: |$)))?(?![\w.])",
    re.ASCII,
)
#: No other year's day of the same name is as near.
_NEAR = timedelta(days=180)

_DOUBTFUL = re.compile(rf"(?P<time>{RFC3164.pattern}) [A-Z]{{2,5}}", re.ASCII)
_NUMBER = re.compile(r"\d{9,20}(?:\.\d{1,9})?", re.ASCII)


def occurred(value: Any, received_at: datetime) -> tuple[datetime, str | None]:
    """When it happened: (UTC time, None); ``received_at`` where nothing was given. Where the sender's text can't be
    read, it is given back too; one of which only the zone can't is taken for UTC."""
    if value is None or value == "":
        return received_at, None
    if (found := _plain(value)) is not None:
        return found, None
    found = read(value, received_at)
    if found is not None:
        return found, None
    written = text(value)
    doubtful = _DOUBTFUL.fullmatch(written.strip())
    return (doubtful and read(doubtful["time"], received_at)) or received_at, written


def _plain(value: Any) -> datetime | None:
    """Most senders' times, straight to the point: RFC 3339 of this century, and seconds with a fraction."""
    if type(value) is str:
        if value[:2] == "20" and value[10:11] == "T":
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                return None
            if found.tzinfo is UTC:
                return found
    elif type(value) is float and _LEAST <= value < _UNITS[0][0]:
        return datetime.fromtimestamp(value, UTC)
    return None


def read(value: Any, received_at: datetime) -> datetime | None:
    """RFC 3339 (UTC where it has no zone), RFC 3164 (its year is the one nearest to ``received_at``), or seconds,
    ms, us or ns since 1970, as a number or as text. None for anything else, and for a time before 1970."""
    try:
        found = _read(value, received_at)
    except (ValueError, OverflowError):
        return None
    return found if found is not None and 1970 <= found.year < 9999 else None


def _read(value: Any, received_at: datetime) -> datetime | None:
    if isinstance(value, str):
        word = value.strip()
        if word[4:5] == "-":
            return _iso(word)
        if _NUMBER.fullmatch(word):
            return _epoch(float(word) if "." in word else int(word))
        return rfc3164(found, received_at) if (found := RFC3164.fullmatch(word)) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _epoch(value)


def _iso(word: str) -> datetime:
    word = word.upper()
    at, _, zone = word.rpartition(" ")
    if zone in ("UTC", "GMT"):
        word = f"{at}Z"
    elif zone[0] in "+-":
        word = f"{at}{zone}"
    found = datetime.fromisoformat(word)
    if found.tzinfo is UTC:
        return found
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _epoch(number: float) -> datetime | None:
    if not number >= _LEAST:  # so that NaN is none either
        return None
    for below, units in _UNITS:
        if number < below:
            whole, rest = divmod(number, units)
            return _EPOCH + timedelta(seconds=int(whole), microseconds=_micros(number, whole, rest, units))
    return None


def _micros(number: float, whole: float, rest: float, units: int) -> int:
    return round((number - whole) * 1_000_000) if units == 1 else int(rest * 1_000_000 // units)


def rfc3164(found: re.Match[str], received_at: datetime) -> datetime | None:
    """A match of :data:`RFC3164`, as a time. A year that it does not name is the one nearest to ``received_at``,
    so that December's last lines, received in January, stay in December."""
    month = _MONTHS.get(found["month"].lower())
    if month is None:
        return None
    year = found["year"] or found["year_behind"] or found["year_before"]
    if year:
        return _in_year(found, int(year), month)
    here = _in_year(found, received_at.year, month)
    if here is not None and abs(here - received_at) < _NEAR:
        return here
    years = range(received_at.year - 1, received_at.year + 2)
    times = [time for each in years if (time := _in_year(found, each, month)) is not None]
    return min(times, key=lambda time: abs(time - received_at), default=None)


def _in_year(found: re.Match[str], year: int, month: int) -> datetime | None:
    micros = int((found["fraction"] or "0").ljust(6, "0")[:6])
    second = min(int(found["second"]), 59)  # a leap second
    try:
        local = datetime(
            year,
            month,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            second,
            micros,
            _zone(found["zone"]),
        )
    except ValueError:  # the 29th of February in most years
        return None
    return local.astimezone(UTC)


def _zone(word: str | None) -> tzinfo:
    if word is None:
        return UTC
    if word[0] not in "+-":
        return timezone(timedelta(hours=_ZONES[word]))
    minutes = int(word[1:3]) * 60 + int(word[-2:])
    return timezone(timedelta(minutes=-minutes if word[0] == "-" else minutes))
