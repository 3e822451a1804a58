"""Maintenance windows: when they are on, over changes of clocks and in any order of asking; what can't be one."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz
from hypothesis import example, given
from hypothesis import strategies as some

from mutt.errors import RuleError
from mutt.rules.check import check_window
from mutt.rules.windows import Occurrence, Window, Windows

ZONES = (
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "UTC",
    "Africa/Casablanca",
)
FIELDS = {"name": "upgrade", "owner": "ann", "hostname": "core-*"}


def window(**given: Any) -> Window:
    times = {"starts_at": "2026-03-01T02:00", "ends_at": "2026-03-01T04:00"}
    return check_window({**FIELDS, **times, **given}, window_id=given.pop("id", 7))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def starts(of: Window, since: datetime, days: int) -> list[datetime]:
    return [one.start for one in of.occurrences(since, since + timedelta(days=days))]


def test_a_single_window_is_on_from_its_beginning_up_to_its_end() -> None:
    """The beginning belongs to it, the end does not."""
    one = window()
    moments = utc(2026, 3, 1, 1, 59), utc(2026, 3, 1, 2), utc(2026, 3, 1, 3, 59), utc(2026, 3, 1, 4)
    assert [one.active_at(at) for at in moments] == [False, True, True, False]
    assert one.next_after(utc(2026, 2, 1)) == Occurrence(utc(2026, 3, 1, 2), utc(2026, 3, 1, 4))
    assert one.next_after(utc(2026, 3, 1, 2)) is None


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/London", date(2026, 3, 28), [2, 1, 1]),  # the clocks go forward on the 29th
        ("Europe/London", date(2026, 10, 24), [1, 2, 2]),  # and back on the 25th
        ("America/New_York", date(2026, 3, 7), [7, 7, 6]),
        ("America/New_York", date(2026, 10, 31), [6, 7, 7]),
        ("Asia/Kolkata", date(2026, 3, 28), [20, 20, 20]),
    ],
)
def test_two_in_the_morning_stays_two_in_the_morning(zone: str, day: date, hours: list[int]) -> None:
    """Each night begins at 02:00 on the wall of the window's time zone, whatever that is in UTC."""
    one = window(
        starts_at=f"{day}T02:00", ends_at=f"{day}T04:00", timezone=zone, recurrence="FREQ=DAILY;COUNT=3"
    )
    found = starts(one, one.starts_at - timedelta(hours=1), 4)
    assert len(found) == 3
    expected = [
        datetime.combine(day + timedelta(days=n), time(2), ZoneInfo(zone)).astimezone(UTC) for n in range(3)
    ]
    assert found == expected
    if zone == "Europe/London":
        assert [at.hour for at in found] == hours


def test_a_night_over_the_change_of_clocks_ends_when_the_wall_says() -> None:
    """From 22:00 to 06:00: seven hours on the night that is short, nine on the one that is long."""
    for day, lasts in ((date(2026, 3, 27), [8, 7, 8]), (date(2026, 10, 23), [8, 9, 8])):
        one = window(
            starts_at=f"{day}T22:00",
            ends_at=f"{day + timedelta(days=1)}T06:00",
            timezone="Europe/London",
            recurrence="FREQ=DAILY",
        )
        found = one.occurrences(one.starts_at, one.starts_at + timedelta(days=2, hours=2))
        assert [(each.end - each.start) // timedelta(hours=1) for each in found] == lasts


def test_times_that_are_not_there_or_twice() -> None:
    """02:30 on the day of the gap is 03:30; 01:30 on the day that has it twice is the first; nothing is ever empty."""
    gap = window(
        starts_at="2026-03-07T02:30",
        ends_at="2026-03-07T03:15",
        timezone="America/New_York",
        recurrence="FREQ=DAILY;COUNT=2",
    )
    second = gap.occurrences(utc(2026, 3, 8), utc(2026, 3, 9))
    assert second == [Occurrence(utc(2026, 3, 8, 7, 30), utc(2026, 3, 8, 8, 15))]
    twice = window(
        starts_at="2026-10-31T01:30",
        ends_at="2026-10-31T01:45",
        timezone="America/New_York",
        recurrence="FREQ=DAILY;COUNT=2",
    )
    second = twice.occurrences(utc(2026, 11, 1), utc(2026, 11, 2))
    assert second == [Occurrence(utc(2026, 11, 1, 5, 30), utc(2026, 11, 1, 5, 45))]


def test_until_is_read_in_the_time_zone_and_a_day_with_all_its_hours() -> None:
    """UNTIL as a day, as local time and in UTC; COUNT ends it too."""
    told = {"starts_at": "2026-03-01T22:00", "ends_at": "2026-03-01T23:00", "timezone": "America/New_York"}
    for until in ("20260303", "20260303T220000", "20260304T030000Z"):
        one = window(**told, recurrence=f"FREQ=DAILY;UNTIL={until}")
        assert len(starts(one, one.starts_at, 30)) == 3, until
    assert len(starts(window(**told, recurrence="RRULE:freq=daily;count=4"), utc(2026, 3, 1), 30)) == 4


def test_what_was_ended_by_hand_ends_only_that_time() -> None:
    """The occurrence in which somebody pressed End is cut; the next one is whole."""
    one = window(recurrence="FREQ=DAILY", ended_at="2026-03-02T02:30")
    found = one.occurrences(utc(2026, 3, 2), utc(2026, 3, 4))
    assert [(each.end - each.start) // timedelta(minutes=1) for each in found] == [30, 120]
    assert not one.active_at(utc(2026, 3, 2, 3)) and one.active_at(utc(2026, 3, 3, 3))


@given(
    zone=some.sampled_from(ZONES),
    day=some.dates(date(2025, 1, 1), date(2026, 12, 31)),
    minute=some.integers(0, 24 * 60 - 1),
    lasts=some.integers(1, 23 * 60),
    every=some.integers(1, 9),
    weekly=some.booleans(),
    asked=some.lists(some.integers(-3 * 24 * 60, 400 * 24 * 60), min_size=1, max_size=8),
)
@example("Europe/London", date(2025, 3, 29), 90, 30, 1, False, [24 * 60 - 5, 24 * 60, 24 * 60 + 35])
@example("Australia/Lord_Howe", date(2025, 4, 5), 100, 25, 1, False, [24 * 60, 24 * 60 + 30])
def test_asked_in_any_order_it_agrees_with_a_walk_over_the_days(
    zone: str, day: date, minute: int, lasts: int, every: int, weekly: bool, asked: list[int]
) -> None:
    """Compiled or not, and whoever asked what before: on is what a slow walk over local days says."""
    local = datetime.combine(day, time()) + timedelta(minutes=minute)
    recurrence = f"FREQ={'WEEKLY' if weekly else 'DAILY'};INTERVAL={every}"
    try:
        one = window(
            starts_at=local.isoformat(),
            ends_at=(local + timedelta(minutes=lasts)).isoformat(),
            timezone=zone,
            recurrence=recurrence,
        )
    except RuleError:  # it would begin, or end, at a time that the first day has not
        return
    compiled = Windows([one])
    for after in asked:
        at = one.starts_at + timedelta(minutes=after, microseconds=1)
        wanted = _on_by_walking(one, local, timedelta(minutes=lasts), every * (7 if weekly else 1), at)
        assert one.active_at(at) == wanted, at
        assert (compiled.holding(at, {"core-*"}, None, None) is one) == wanted, at


def _on_by_walking(one: Window, local: datetime, lasts: timedelta, days: int, at: datetime) -> bool:
    """By another library's clocks: a wall time that is not there is moved by the gap, the first of two is meant."""
    zone = tz.gettz(one.timezone)
    first = one.ends_at - one.starts_at
    for n in range(0, 403, days):
        start, end = (
            tz.resolve_imaginary(wall.replace(tzinfo=zone)).astimezone(UTC)
            for wall in (local + timedelta(days=n), local + timedelta(days=n) + lasts)
        )
        if end <= start:
            end = start + first
        if n == 0:
            start, end = one.starts_at, one.ends_at
        if start <= at < end:
            return True
    return False


def test_all_scopes_that_are_given_must_hold() -> None:
    """A window of a team and a rule holds only that rule's alerts of that team."""
    both = window(hostname=None, team="Core", rule_id=3)
    assert both.covers((), "core", 3)
    assert not both.covers((), "core", 4) and not both.covers((), None, 3)
    assert window().covers({"core-*"}, None, None) and not window().covers({"edge-*"}, None, None)


def test_of_several_windows_the_one_that_ends_last_holds() -> None:
    """So that what is in two windows is not released when the first one ends."""
    short, long = window(id=1), window(id=2, ends_at="2026-03-01T06:00")
    found = Windows([short, long])
    at = utc(2026, 3, 1, 3)
    assert found.holding(at, {"core-*"}, None, None) is long
    assert Windows([window(id=5), window(id=4)]).holding(at, {"core-*"}, None, None).id == 4  # type: ignore[union-attr]


def test_windows_that_are_off_or_broken_hold_nothing() -> None:
    """What psql wrote and nobody can read is left out, with the reason; its neighbours stand."""
    broken = Window(
        id=1, name="a", owner="b", hostname="core-*", starts_at=utc(2026, 3, 1), ends_at=utc(2026, 3, 9),
        timezone="Mars/Olympus",
    )  # fmt: skip
    endless = Window(
        id=2, name="a", owner="b", hostname="core-*", starts_at=utc(2026, 3, 1), ends_at=utc(2026, 3, 1, 0, 1),
        recurrence="FREQ=SECONDLY",
    )  # fmt: skip
    found = Windows([broken, endless, window(id=3), window(id=4, is_active=False)])
    assert set(found.refused) == {1, 2} and [one.id for one in found] == [3]
    assert found.holding(utc(2026, 3, 1, 3), {"core-*"}, None, None) is not None


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"timezone": "London"}, "timezone", "Europe/London"),
        ({"timezone": "Europe/Londn"}, "timezone", "Europe/London"),
        ({"timezone": "?"}, "timezone", "IANA"),
        ({"name": " "}, "name", "is empty"),
        ({"owner": ""}, "owner", "is empty"),
        ({"hostname": ""}, "hostname", "team and rule_id"),
        ({"hostname": "10.0.0.0/99"}, "hostname", "no network"),
        ({"rule_id": "x"}, "rule_id", "no whole number"),
        ({"starts_at": "soon"}, "starts_at", "no time"),
        ({"ends_at": ""}, "ends_at", "is empty"),
        ({"ends_at": "2026-03-01T02:00"}, "ends_at", "not after"),
        ({"ends_at": "2026-05-01T02:00"}, "ends_at", "31 days"),
        ({"recurrence": "weekly"}, "recurrence", "NAME=VALUE"),
        ({"recurrence": "FREQ=SECONDLY"}, "recurrence", "DAILY"),
        ({"recurrence": "FREQ=HOURLY"}, "recurrence", "DAILY"),
        ({"recurrence": "FREQ=DAILY;BYSECOND=1"}, "recurrence", "BYSECOND"),
        ({"recurrence": "FREQ=DAILY;INTERVAL=0"}, "recurrence", "INTERVAL"),
        ({"recurrence": "FREQ=DAILY;COUNT=2;UNTIL=20270101"}, "recurrence", "both"),
        ({"recurrence": "FREQ=WEEKLY;BYDAY=XX"}, "recurrence", "can't be read"),
        ({"recurrence": "FREQ=DAILY;UNTIL=yesterday"}, "recurrence", "can't be read"),
        ({"recurrence": "FREQ=DAILY;UNTIL=20200101"}, "recurrence", "UNTIL"),
        ({"recurrence": "FREQ=WEEKLY;BYDAY=SA"}, "starts_at", "Saturday 2026-03-07 02:00"),
        ({"recurrence": "FREQ=DAILY", "ends_at": "2026-03-02T03:00"}, "ends_at", "next occurrence"),
        ({"timezone": "Europe/London", "starts_at": "2026-03-29T01:30", "ends_at": "2026-03-29T04:00"},
         "starts_at", "write 02:30"),
        ({"release": "perhaps"}, "release", "neither"),
        ({"colour": "red"}, "colour", "no field"),
        ({"starts_at": "9999-12-31T23:59-12:00"}, "starts_at", "too far"),
    ],
)  # fmt: skip
def test_what_can_t_be_a_window_says_which_field_and_what_to_write(
    given: dict[str, Any], field: str, says: str
) -> None:
    """Each bad value is refused at its field with the remedy."""
    with pytest.raises(RuleError) as refused:
        window(**given)
    assert refused.value.field == field and says in refused.value.reason, refused.value


def test_windows_that_are_on_for_other_hosts_cost_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many windows that are on only those of the event's own host patterns are looked at."""
    many = Windows(window(id=n, recurrence="FREQ=DAILY", hostname=f"h{n}") for n in range(1, 50))
    at = utc(2027, 3, 1, 3)
    assert many.holding(at, {"h7"}, None, None) is not None
    looked_at: list[int] = []
    monkeypatch.setattr(Window, "covers", lambda self, *_: looked_at.append(self.id))
    monkeypatch.setattr(Window, "occurrences", lambda *_: pytest.fail("it was worked out again"))
    for minutes in (0, 30, 59):
        many.holding(at + timedelta(minutes=minutes), {"h7"}, None, None)
    assert set(looked_at) == {7}
