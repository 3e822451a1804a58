"""Windows: when hosts, teams or rules are in maintenance, once or again and again in a time zone's own hours. Pure.

A recurring window keeps to the clock on the wall of its time zone: from 02:00 to 04:00 it is on every day, also on
those on which the clocks change. What the clock does on such a day is read as RFC 5545 says: a time that exists twice
is the first of the two; one that does not exist is what the clock would have shown without the change (02:30 becomes
03:30). If that leaves nothing between beginning and end, the occurrence lasts as long as the first one. The first
occurrence is exactly from ``starts_at`` to ``ends_at``.
"""

from __future__ import annotations

import difflib
import functools
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from dateutil.rrule import rrule, rrulestr

from mutt.errors import RuleError

#: What a verdict's ``held`` says before the window's id.
HELD = "maintenance:"

#: The longest that one occurrence may be.
LONGEST = timedelta(days=31)

#: Occurrences that are looked at to see that none begins before the last one is over.
_LOOKED_AT = 60

#: Compiled windows keep what is near by the hour, so many hours at most.
_HOUR, _HOURS_KEPT = timedelta(hours=1), 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "BYMONTHDAY", "BYMONTH", "BYSETPOS", "WKST")
_INTERVAL_MAX, _COUNT_MAX = 366, 10_000


class Occurrence(NamedTuple):
    """One time that a window is on: from ``start`` up to, not including, ``end``. Both in UTC."""

    start: datetime
    end: datetime


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts of what is in maintenance are held. Of hostname, team and rule_id all that are given must hold."""

    id: int
    name: str
    owner: str
    reason: str = ""
    hostname: str | None = None  #: a name, a glob or a CIDR
    team: str | None = None  #: the alert's team, ignoring case
    rule_id: int | None = None
    starts_at: datetime  #: of the first occurrence; aware
    ends_at: datetime
    timezone: str = "UTC"  #: an IANA name: whose clock a recurrence keeps to
    recurrence: str | None = None  #: an RFC 5545 RRULE, such as FREQ=WEEKLY;BYDAY=SA
    release: bool = True  #: send what still burns at the end of an occurrence
    is_active: bool = True
    ended_at: datetime | None = None  #: the occurrence in which this lies was ended then, by hand

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone; UTC where there is no such zone."""
        return ZoneInfo(self.timezone if self.timezone.casefold() in _zones() else "UTC")

    @property
    def fault(self) -> str:
        """Why it can't be in force; '' if it can. psql may have written anything."""
        return _fault(self)

    @property
    def held(self) -> str:
        """What the verdict says of what it holds."""
        return f"{HELD}{self.id}"

    def occurrences(self, since: datetime, until: datetime) -> list[Occurrence]:
        """Those that are on at some moment from ``since`` up to, not including, ``until``; the first first.

        What can't be in force has none.
        """
        if self.fault:
            return []
        times = _times(self.starts_at, self.ends_at, self.timezone, self.recurrence)
        return [one for each in times.between(since, until) if (one := self._cut(each)) and one.end > since]

    def at(self, instant: datetime) -> Occurrence | None:
        """The occurrence that is on at this moment, if it is switched on."""
        return next(iter(self.occurrences(instant, instant + _MICRO)), None) if self.is_active else None

    def active_at(self, instant: datetime) -> bool:
        """Is it on at this moment?"""
        return self.at(instant) is not None

    def next_after(self, instant: datetime) -> Occurrence | None:
        """The first occurrence that begins after this moment, if it is switched on and there is one."""
        if self.fault or not self.is_active:
            return None
        return _times(self.starts_at, self.ends_at, self.timezone, self.recurrence).first_after(instant)

    def covers(self, scopes: Collection[str], team: str | None, rule_id: int | None) -> bool:
        """Do all its scopes hold? ``scopes`` are the host patterns that admit the host."""
        return (
            (self.hostname is None or self.hostname in scopes)
            and (self.team is None or self.team.casefold() == (team or "").casefold())
            and (self.rule_id is None or self.rule_id == rule_id)
        )

    def _cut(self, one: Occurrence) -> Occurrence | None:
        if self.ended_at is None or not one.start <= self.ended_at < one.end:
            return one
        return Occurrence(one.start, self.ended_at) if self.ended_at > one.start else None


_MICRO = timedelta(microseconds=1)


class _Near(NamedTuple):
    """The occurrences of one hour, by the host pattern of their window; under None those without one."""

    since: datetime
    until: datetime
    by_host: dict[str | None, list[tuple[Occurrence, Window]]]


class Windows:
    """The windows of a ruleset, ready to be asked for each event. What is near is found once an hour of the events."""

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        given = sorted((one for one in windows if one.is_active), key=lambda one: one.id)
        faults = {window.id: window.fault for window in given if window.fault}
        self.refused = faults  #: active windows that can't be read, by id; their neighbours stand
        self._windows = [window for window in given if window.id not in faults]
        self._hours: dict[int, _Near] = {}
        self._last = _Near(_EPOCH, _EPOCH, {})  #: the hour that was asked for last

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        return iter(self._windows)

    def holding(
        self, at: datetime, scopes: Collection[str], team: str | None, rule_id: int | None
    ) -> Window | None:
        """The window that holds an alert of this moment: of several the one that ends last, then the lowest id."""
        near = self._last
        if not near.since <= at < near.until:
            near = self._hour_of(at)
        if not near.by_host:
            return None
        holding = [
            (one.end, window)
            for scope in (None, *scopes)
            for one, window in near.by_host.get(scope, ())
            if one.start <= at < one.end and window.covers(scopes, team, rule_id)
        ]
        return max(holding, key=lambda each: (each[0], -each[1].id))[1] if holding else None

    def _hour_of(self, at: datetime) -> _Near:
        number = (at - _EPOCH) // _HOUR
        near = self._hours.get(number)
        if near is None:
            near = _Near(_EPOCH + number * _HOUR, _EPOCH + (number + 1) * _HOUR, {})
            for window in self._windows:
                for one in window.occurrences(near.since, near.until):
                    near.by_host.setdefault(window.hostname, []).append((one, window))
            if len(self._hours) >= _HOURS_KEPT:
                self._hours.clear()
            self._hours[number] = near
        self._last = near
        return near


@functools.lru_cache(maxsize=4096)
def _fault(window: Window) -> str:
    try:
        check_timezone(window.timezone)
        read_recurrence("recurrence", window.recurrence or "")
        check_times(window)
    except RuleError as error:
        return str(error)
    return ""


class _Times:
    """The occurrences that a definition makes, worked out as far as somebody has asked. Threads may share it."""

    def __init__(self, first: Occurrence, zone: ZoneInfo, recurrence: str | None) -> None:
        local = _wall(first.start, zone)
        self._first, self._zone, self._began = first, zone, local
        self._length = _wall(first.end, zone) - local
        self._lasts = first.end - first.start
        self._more: Iterator[datetime] = iter(_rule(recurrence, local, zone) if recurrence else [local])
        self._known: list[Occurrence] = []
        self._longest = timedelta()
        self._lock = threading.Lock()

    def between(self, since: datetime, until: datetime) -> list[Occurrence]:
        with self._lock:
            self._work_out(until)
            low = bisect_right(self._known, (since - self._longest - _MICRO, since))
            high = bisect_right(self._known, (until - _MICRO, _LAST))
            return [one for one in self._known[low:high] if one.end > since]

    def first_after(self, instant: datetime) -> Occurrence | None:
        with self._lock:
            self._work_out(instant + _MICRO)
            at = bisect_right(self._known, (instant, _LAST))
            return self._known[at] if at < len(self._known) else None

    def _work_out(self, until: datetime) -> None:
        """Up to the first that begins at ``until`` or later."""
        while not self._known or self._known[-1].start < until:
            local = next(self._more, None)
            if local is None:
                return
            one = self._occurrence(local)
            self._longest = max(self._longest, one.end - one.start)
            self._known.append(one)

    def _occurrence(self, local: datetime) -> Occurrence:
        if local == self._began:
            return self._first
        start, end = (
            time.replace(tzinfo=self._zone).astimezone(UTC) for time in (local, local + self._length)
        )
        return Occurrence(start, end if end > start else start + self._lasts)


_LAST = datetime.max.replace(tzinfo=UTC)


@functools.lru_cache(maxsize=4096)
def _times(starts_at: datetime, ends_at: datetime, timezone: str, recurrence: str | None) -> _Times:
    # Kept beyond one version of the ruleset: a window that began years ago has many occurrences to go through.
    first = Occurrence(starts_at.astimezone(UTC), ends_at.astimezone(UTC))
    return _Times(first, ZoneInfo(timezone), recurrence)


# ---- checks


def check_timezone(given: Any, field: str = "timezone") -> str:
    """The IANA name that is meant. Raises :class:`RuleError` with names that are near."""
    name = str(given).strip()
    known = _zones()
    if name.casefold() not in known:
        cities = {zone.rpartition("/")[2].casefold(): zone for zone in known.values()}
        wanted = name.replace(" ", "_").casefold()
        near = [known[one] for one in difflib.get_close_matches(wanted, known, n=3)]
        near += [cities[one] for one in difflib.get_close_matches(wanted, cities, n=3)]
        hint = f"did you mean {' or '.join(list(dict.fromkeys(near))[:3])}?" if near else _FOR_EXAMPLE
        raise RuleError(field, f"{name[:60]!r} is no time zone; {hint}")
    return known[name.casefold()]


_FOR_EXAMPLE = "write an IANA name such as Europe/London or UTC"


@functools.cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in available_timezones()}


def read_time(field: str, given: Any) -> datetime:
    """A time as text or value; naive where no offset is given. Raises :class:`RuleError`."""
    if isinstance(given, datetime):
        return given
    try:
        return datetime.fromisoformat(str(given).strip())
    except ValueError:
        raise RuleError(
            field, f"{str(given)[:60]!r} is no time; write one such as 2026-11-28T02:00, or with an offset"
        ) from None


def in_zone(field: str, time: datetime, timezone: str) -> datetime:
    """The instant, in UTC, that ``time`` is on the clock of ``timezone`` where it has no offset of its own.

    Raises :class:`RuleError` where that clock never shows it.
    """
    try:
        if time.tzinfo is not None:
            return time.astimezone(UTC)
        at = time.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
        shown = at.astimezone(ZoneInfo(timezone)).replace(tzinfo=None, fold=0)
    except OverflowError:
        raise RuleError(field, "is too far from today; write a year that people live in") from None
    if shown != time.replace(fold=0):
        raise RuleError(
            field,
            f"{time:%Y-%m-%d %H:%M} does not exist in {timezone}: the clocks change then; write {shown:%H:%M}",
        )
    return at


def read_recurrence(field: str, given: Any) -> str | None:
    """An RRULE in one way of writing; None for none. Raises :class:`RuleError`."""
    text = str(given).strip().upper().removeprefix("RRULE:")
    if not text or text == "NONE":
        return None
    parts: dict[str, str] = {}
    for part in text.strip(";").split(";"):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not value or name in parts:
            raise RuleError(field, f"{part[:60]!r} is no NAME=VALUE of its own; write FREQ=WEEKLY;BYDAY=SA")
        parts[name] = value
    for name in parts:
        if name not in _PARTS:
            raise RuleError(field, f"{name[:30]} can't be used here; there are {', '.join(_PARTS)}")
    if parts.get("FREQ") not in FREQUENCIES:
        # What recurs by the hour or faster never ends to be worked out, and nobody plans maintenance so.
        raise RuleError(field, f"needs FREQ, one of {', '.join(FREQUENCIES)}; write FREQ=WEEKLY;BYDAY=SA")
    for name, most in (("INTERVAL", _INTERVAL_MAX), ("COUNT", _COUNT_MAX)):
        if name in parts and not (parts[name].isdecimal() and 1 <= int(parts[name]) <= most):
            raise RuleError(field, f"{name}={parts[name][:20]} is out of range; write 1 to {most}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise RuleError(field, "has both COUNT and UNTIL; keep one of them")
    return ";".join(f"{name}={parts[name]}" for name in _PARTS if name in parts)


def check_times(window: Window) -> None:
    """Raise :class:`RuleError` where a window's times don't go together."""
    if window.ends_at <= window.starts_at:
        raise RuleError("ends_at", "is not after starts_at; say when the first occurrence ends")
    if window.ends_at - window.starts_at > LONGEST:
        raise RuleError("ends_at", f"is more than {LONGEST.days} days after starts_at; use a shorter window")
    if window.recurrence is None:
        return
    local = _wall(window.starts_at, window.zone)
    try:
        rule = _rule(window.recurrence, local, window.zone)
        first = next(iter(rule), None)
    except (ValueError, TypeError, AttributeError) as error:
        raise RuleError(
            "recurrence", f"can't be read: {error}; write one such as FREQ=WEEKLY;BYDAY=SA"
        ) from None
    if first is None:
        raise RuleError("recurrence", "ends before it begins; set UNTIL after starts_at")
    if first != local:
        raise RuleError(
            "starts_at",
            f"is no time of the recurrence; the first is {first:%A %Y-%m-%d %H:%M}: begin there, "
            "or change the recurrence",
        )
    _check_apart(window)


def _check_apart(window: Window) -> None:
    times = _times(window.starts_at, window.ends_at, window.timezone, window.recurrence)
    last = Occurrence(window.starts_at, window.ends_at)
    for _ in range(_LOOKED_AT):
        following = times.first_after(last.start)
        if following is None:
            return
        if following.start < last.end:
            raise RuleError(
                "ends_at", "lies after the beginning of the next occurrence; make it shorter, or recur less"
            )
        last = following


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows: recurrences know whole seconds."""
    return at.astimezone(zone).replace(tzinfo=None, microsecond=0)


def _rule(recurrence: str, local: datetime, zone: ZoneInfo) -> rrule:
    """The local times of a recurrence, without a zone. Raises ``ValueError``."""
    parts = dict(part.split("=", 1) for part in recurrence.split(";"))
    if "UNTIL" in parts:
        parts["UNTIL"] = _local_until(parts["UNTIL"], zone)
    made = rrulestr(";".join(f"{name}={value}" for name, value in parts.items()), dtstart=local)
    if not isinstance(made, rrule):
        raise ValueError("it is more than one rule")
    return made


def _local_until(until: str, zone: ZoneInfo) -> str:
    if "T" not in until:
        return f"{until}T235959"  # a day is meant with all its hours
    if until.endswith("Z"):
        at = datetime.strptime(until, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return f"{at.astimezone(zone):%Y%m%dT%H%M%S}"
    return until
