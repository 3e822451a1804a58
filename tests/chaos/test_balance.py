"""The balance of a chaos run sees each thing that it is there to see, on finds that are made up."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from tests.chaos.balance import Found, Raised, Standing, Taken, answers, weigh
from tests.chaos.load import Sent


def alert(n: int, **other: object) -> Raised:
    made = Raised(f"a{n}", f"e{n}", "delivered", "sig", mark=f"c1.{n}", written="b", item=n)
    return dataclasses.replace(made, **other)


@pytest.fixture
def sent() -> Sent:
    return Sent(
        accepted={f"c1.{n}" for n in range(4)}, perhaps={"c1.9"}, raises={"c1.0"}, ends={"c1.1": "c1.0"}
    )


@pytest.fixture
def there() -> Standing:
    """Four events, of which two are alerts of one signature: the second is a clear of the first."""
    return Standing(
        rows=[f"c1.{n}" for n in range(4)],
        alerts=[alert(0, cleared_by="a1"), alert(1, state="clear")],
        taken=[Taken("e0", "sig", 1.0), Taken("e1", "sig", 2.0)],
    )


def weighed(sent: Sent, there: Standing) -> Found:
    return weigh("none", sent, there)


def test_what_is_as_it_must_be_is_good(sent, there):
    found = weighed(sent, there)
    assert found.good
    assert (found.accepted, found.audited, found.alerts, found.at_moog_again) == (4, 4, 2, 0)


def test_an_event_that_may_have_gone_in_is_no_stranger_and_not_missed(sent, there):
    assert weighed(sent, there).good
    there.rows.append("c1.9")
    assert weighed(sent, there).good
    there.silent = ["c1.9"]
    assert weighed(sent, there).lost == 1, "but if it is there, so is its alert"


def test_a_lost_event_is_seen(sent, there):
    there.rows.remove("c1.3")
    assert weighed(sent, there).lost == 1


def test_an_event_that_was_parked_is_not_lost_and_not_good_for_no_poison_was_sent(sent, there):
    there.rows.remove("c1.3")
    there.letters = [("c1.3", "evaluation_failed")]
    found = weighed(sent, there)
    assert (found.lost, found.parked, found.good) == (0, 1, False)
    assert found.why == "1 parked, and no poison was sent: evaluation_failed (1)"


def test_all_events_parked_are_not_good(sent):
    found = weighed(sent, Standing(letters=[(mark, "undecodable") for mark in sent.accepted]))
    assert (found.audited, found.parked, found.lost, found.good) == (0, 4, 0, False)


def test_a_letter_that_can_not_be_read_is_not_good(sent, there):
    there.letters = [("", "undecodable")]
    assert "undecodable" in weighed(sent, there).why


def test_a_second_row_and_a_letter_beside_a_row_are_doubles(sent, there):
    there.rows.append("c1.2")
    there.letters = [("c1.3", "evaluation_failed")]
    assert weighed(sent, there).double == 2


def test_a_row_of_nobody_is_seen(sent, there):
    there.rows.append("c1.77")
    assert "nobody sent" in weighed(sent, there).why


def test_a_parked_alert_is_not_good_and_its_reason_is_told(sent, there):
    there.alerts[1] = alert(1, status="parked", reason="http_400")
    del there.taken[1]
    found = weighed(sent, there)
    assert (found.lost, found.parked, found.good) == (0, 1, False)
    assert "http_400 (1)" in found.why


@pytest.mark.parametrize("status", ["waiting", "cancelled", "dropped"])
def test_an_alert_that_is_not_delivered_is_lost(sent, there, status):
    there.alerts[1] = alert(1, status=status)
    assert weighed(sent, there).lost == 1


def test_a_raise_and_its_clear_that_moog_never_needed_are_not_lost(sent, there):
    gone = {"status": "cancelled", "reason": "cleared"}
    there.alerts[:2] = [alert(0, cleared_by="a1", **gone), alert(1, state="clear", **gone)]
    there.taken = []
    assert weighed(sent, there).lost == 0


def test_a_clear_that_was_cancelled_though_moog_got_its_raise_is_lost(sent, there):
    there.alerts[1] = alert(1, state="clear", status="cancelled", reason="cleared")
    del there.taken[1]
    assert weighed(sent, there).lost == 1


def test_a_delivered_alert_that_moog_never_got_is_lost(sent, there):
    del there.taken[1]
    assert weighed(sent, there).lost == 1


def test_a_repeat_at_moog_under_the_stored_signature_is_counted_and_good(sent, there):
    there.taken.append(Taken("e0", "sig", 3.0))
    found = weighed(sent, there)
    assert (found.at_moog_again, found.double, found.good) == (1, 0, True)


def test_a_repeat_at_moog_under_another_signature_is_a_double(sent, there):
    there.taken.append(Taken("e0", "another", 3.0))
    found = weighed(sent, there)
    assert (found.at_moog_again, found.double, found.good) == (0, 1, False)


def test_an_alert_that_came_under_another_signature_than_the_stored_one_alone_is_lost(sent, there):
    there.taken[1] = Taken("e1", "another", 2.0)
    assert weighed(sent, there).lost == 1


def test_a_second_alert_of_one_event_is_a_double(sent, there):
    there.alerts.append(alert(1, alert_id="another"))
    assert weighed(sent, there).double == 1


def test_a_clear_before_its_raise_is_seen(sent, there):
    there.alerts = [dataclasses.replace(one, written="") for one in there.alerts]
    there.taken = [Taken("e1", "sig", 1.0), Taken("e0", "sig", 2.0), Taken("e1", "sig", 3.0)]
    found = weighed(sent, there)
    assert not found.good
    assert "came to Moog before" in found.why


def test_an_alert_before_one_of_its_signature_and_request_that_it_follows_is_seen(sent, there):
    sent.raises, sent.ends = {"c1.0", "c1.1"}, {}
    there.alerts = [alert(0), alert(1)]
    there.taken = [Taken("e1", "sig", 1.0), Taken("e0", "sig", 2.0)]
    assert "came to Moog before" in weighed(sent, there).why


def test_an_audited_event_without_the_alert_that_its_sender_knows_of_is_seen(sent, there):
    sent.raises.add("c1.2")
    found = weighed(sent, there)
    assert (found.lost, found.why) == (1, "1 alerts missing, c1.2's among them")


def test_an_alert_of_an_event_that_makes_none_is_seen(sent, there):
    there.alerts.append(alert(3, signature="other"))
    there.taken.append(Taken("e3", "other", 3.0))
    assert weighed(sent, there).double == 1


@pytest.mark.parametrize("other", [{"signature": "another"}, {"state": "raise"}, {"alert_id": "a7"}])
def test_a_clear_that_does_not_end_its_raise_is_seen(sent, there, other):
    there.alerts[1] = alert(1, **({"state": "clear"} | other))
    there.taken[1] = Taken("e1", there.alerts[1].signature, 2.0)
    assert "do not end their raise" in weighed(sent, there).why


@pytest.mark.parametrize(
    ("accepted", "perhaps", "alerts", "lost", "double"),
    [
        (99, 0, 0, 0, 0),
        (100, 0, 1, 0, 0),
        (250, 0, 1, 0, 0),
        (99, 1, 0, 0, 0),
        (99, 1, 1, 0, 0),
        (100, 0, 0, 1, 0),
        (100, 0, 2, 0, 1),
        (99, 0, 1, 0, 1),
    ],
)
def test_so_many_events_that_no_rule_handles_are_one_alert(accepted, perhaps, alerts, lost, double):
    marks = [f"c1.{n}" for n in range(accepted + perhaps)]
    unhandled = dict.fromkeys(marks, ("h", "text"))
    sent = Sent(set(marks[:accepted]), set(marks[accepted:]), unhandled=unhandled)
    raised = [alert(n, mark="", hostname="h", written="") for n in range(alerts)]
    there = Standing(marks, alerts=raised, taken=[Taken(one.event_id, "sig", 1.0) for one in raised])
    found = weighed(sent, there)
    assert (found.lost, found.double, found.good) == (lost, double, not (lost or double))


def test_a_late_repeat_is_not_out_of_order(sent, there):
    there.taken.append(Taken("e0", "sig", 3.0))
    assert weighed(sent, there).good


def test_what_ingest_may_answer_is_no_fault():
    assert answers(Sent(statuses=Counter({0: 3, 202: 5, 503: 2}), slowest=1.1)) == []


@pytest.mark.parametrize("status", [200, 400, 401, 413, 429, 500, 502])
def test_any_other_answer_is_one(status):
    assert answers(Sent(statuses=Counter({202: 5, status: 2}))) == [f"ingest answered {status} to 2 requests"]


def test_a_503_must_come_soon_unless_the_fault_makes_it_late_and_must_name_a_time():
    late = Sent(statuses=Counter({503: 1}), slowest=1.6)
    assert answers(late) == ["a 503 took 1.6 s"]
    assert answers(late, slow=True) == []
    assert answers(Sent(statuses=Counter({503: 1}), bare=1)) == ["1 503s without a Retry-After"]
