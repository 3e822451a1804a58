"""The verdict on the books."""

from __future__ import annotations

import msgspec
import pytest

from mutt.balance import Recount, weigh
from mutt.cli.queues import breaker, says
from mutt.store.sums import Counted, Sums
from mutt.streams.books import ALERTS, EVENTS, Books, Walked
from mutt.words import age


def books(events: dict[str, int], alerts: dict[str, int] | None = None) -> Books:
    return Books(dict.fromkeys(EVENTS, 0) | events, dict.fromkeys(ALERTS, 0) | (alerts or {}))


def sums(rows: int, **alerts: int) -> Sums:
    statuses = ("waiting", "delivered", "parked", "cancelled", "dropped")
    return Sums(rows, dict.fromkeys(statuses, 0) | alerts)


SETTLED = books({"accepted": 10, "settled": 10}, {"raised": 3, "delivered": 2, "waiting": 1})
AGREES = sums(10, delivered=2, waiting=1)


def test_at_rest_with_equal_sums_the_books_balance():
    report = weigh(SETTLED, AGREES, at_rest=True)
    assert (report.state, report.balanced, report.lost, report.double) == ("balanced", True, 0, 0)


def test_a_settled_event_without_a_row_is_lost():
    report = weigh(SETTLED, AGREES._replace(audit_rows=8), at_rest=True)
    assert (report.state, report.balanced, report.lost, report.double) == ("lost", False, 2, 0)


def test_a_row_too_many_is_double():
    report = weigh(SETTLED, AGREES._replace(audit_rows=11), at_rest=True)
    assert (report.state, report.balanced, report.lost, report.double) == ("double", False, 0, 1)


def test_while_events_move_postgresql_is_not_held_against_the_ledger():
    report = weigh(SETTLED, AGREES._replace(audit_rows=8), at_rest=False)
    assert (report.state, report.balanced, report.lost, report.double) == ("in flight", True, None, None)


def test_an_equation_that_does_not_hold_is_off_even_while_events_move():
    report = weigh(books({"accepted": 10, "settled": 9}), None, at_rest=False)
    assert (report.state, report.balanced, report.off_events) == ("off", False, 1)


def test_an_alert_of_another_status_than_the_ledger_says_is_named():
    report = weigh(SETTLED, sums(10, delivered=1, waiting=2), at_rest=True)
    assert not report.balanced
    assert report.disagree == {"alerts.waiting": 1, "alerts.delivered": -1}


def test_without_postgresql_nobody_can_tell_what_is_lost():
    report = weigh(SETTLED, None, at_rest=True)
    assert (report.balanced, report.lost, report.postgres) == (True, None, None)


WALKED = Walked(queued=0, parked=0, waiting=1, alerts_parked=0, dropped=0, undelivered=0)
COUNTED = Counted(10, 10, 0, 3, 3, False)


def recount(counted: Counted | None = COUNTED, *, outside: bool = False, **walked: int) -> Recount:
    return Recount(msgspec.structs.replace(WALKED, **walked), walked.get("dropped", 0), outside, counted)


def test_a_recount_that_agrees_changes_nothing():
    report = weigh(SETTLED, AGREES, recount(), at_rest=True)
    assert report.balanced
    assert report.walked["audit_keys"] == 10


@pytest.mark.parametrize("name", ["queued", "parked", "waiting", "alerts_parked", "dropped"])
def test_whatever_the_walk_counts_otherwise_is_named(name):
    found = recount(**{name: 7})
    assert list(weigh(SETTLED, AGREES, found, at_rest=True).disagree) == [f"walked.{name}"]


def test_marks_of_full_lanes_are_no_count_of_what_waits():
    assert weigh(SETTLED, AGREES, recount(outside=True, waiting=9), at_rest=True).balanced


@pytest.mark.parametrize(
    "changed", [{"audit_rows": 9, "audit_keys": 9}, {"doubled_items": 1}, {"alert_ids": 2}, {"audit_keys": 9}]
)
def test_rows_that_are_missing_or_double_are_seen(changed):
    assert not weigh(SETTLED, AGREES, recount(COUNTED._replace(**changed)), at_rest=True).balanced


def test_rows_of_retired_months_are_not_missed():
    retired = COUNTED._replace(audit_rows=4, audit_keys=4, months_retired=True)
    assert weigh(SETTLED, AGREES, recount(retired), at_rest=True).balanced


def test_an_open_breaker_says_why_and_until_when():
    found = breaker({"state": "open", "reason": "auth", "until": "160000000", "pause_until": "0"}, 100.0)
    assert says(found) == "open (auth), asks again in 60 s"


def test_a_breaker_that_nobody_has_asked_is_closed():
    assert says(breaker({}, 100.0)) == "closed"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (11.6, "12 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_ages_are_for_people(seconds, text):
    assert age(seconds) == text


def test_what_stands_in_the_spill_is_shown_beside_the_books_and_in_no_equation():
    report = weigh(SETTLED, AGREES, None, 7, at_rest=False)
    assert (report.spilled, report.balanced, report.state) == (7, True, "in flight")


@pytest.mark.parametrize("at_rest", [True, False])
def test_a_parked_outcome_is_said_to_be_one(at_rest):
    """The alert is at Moog, and its row waits: no equation is wrong."""
    report = weigh(SETTLED, sums(10, delivered=1, waiting=2), outcomes_parked=1, at_rest=at_rest)
    assert (report.state, report.balanced, report.outcomes_parked) == ("outcomes", False, 1)
