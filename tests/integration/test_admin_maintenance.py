"""The pages of maintenance and of storms: planned, changed, ended and deleted by hand, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from mutt.rules.rule import StormPolicy
from mutt.rules.windows import Window
from mutt.store import receipts, storms, windows
from mutt.store.engine import transaction
from tests.admin_client import filled_in, hidden, notes_of, operator_of

HOUR = timedelta(hours=1)
SAID = {"changed_by": "ann", "reason": "ticket 7"}


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def all_windows(engine: Engine) -> list[Window]:
    with transaction(engine) as conn:
        return windows.windows(conn)


def all_storms(engine: Engine) -> list[StormPolicy]:
    with transaction(engine) as conn:
        return storms.policies(conn)


def add(engine: Engine, **given: Any) -> Window:
    now = datetime.now(UTC)
    plain = {"name": "upgrade <b>", "owner": "ann", "hostname": "core-*"}
    with transaction(engine) as conn:
        return windows.save(conn, {**plain, "starts_at": now - HOUR, "ends_at": now + HOUR, **given}, **SAID)


def fill(client: FlaskClient, page: str, **fields: Any) -> Any:
    """Send the form as a browser would, with these fields filled in."""
    return client.post(page, data={**filled_in(client.get(page).text), **fields})


def test_a_window_is_planned_in_its_own_time_zone(operator: FlaskClient, engine: Engine) -> None:
    """What the form's clock says is the time there; days and last day become the rule."""
    given = {
        "name": "patch night", "hostname": "core-*", "starts_at": "2030-03-23T02:00", "ends_at": "2030-03-23T04:00",
        "timezone": "Europe/London", "repeat": "weekly", "days": ["SA", "SU"], "until": "2030-04-30", "why": "ticket",
    }  # fmt: skip
    assert fill(operator, "/maintenance/new", **given).status_code == 302
    [window] = all_windows(engine)
    assert window.starts_at == datetime(2030, 3, 23, 2, tzinfo=UTC)
    assert window.recurrence == "FREQ=WEEKLY;UNTIL=20300430;BYDAY=SA,SU"
    assert (window.owner, window.release) == ("admin", True)
    assert [note.reason for note in notes_of(engine)] == ["ticket"]
    page = operator.get("/maintenance/").text
    assert "every Sat, Sun, until 2030-04-30" in page
    assert "Sat 2030-03-23 02:00 to 04:00" in page and "Europe/London" in page
    shown = operator.get(f"/maintenance/{window.id}").text
    assert "Sun 2030-03-31 02:00 to 04:00" in shown and "Sun 2030-03-31 01:00 to 03:00" in shown
    assert filled_in(shown)["starts_at"] == "2030-03-23T02:00"
    again = fill(operator, f"/maintenance/{window.id}", days=["SA", "SU"], name="patch nights")
    assert again.status_code == 302
    [changed] = all_windows(engine)
    assert (changed.name, changed.recurrence) == ("patch nights", window.recurrence)


@pytest.mark.parametrize(
    ("repeat", "rule", "says"),
    [
        ("once", None, "once"),
        ("daily", "FREQ=DAILY", "every day"),
        ("weekly", "FREQ=WEEKLY;BYDAY=SA", "every Sat"),
        ("monthly", "FREQ=MONTHLY;BYMONTHDAY=23", "every month on day 23"),
        ("nth", "FREQ=MONTHLY;BYDAY=4SA", "every month on the fourth Saturday"),
        ("other", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA"),
    ],
)
def test_each_preset_makes_a_rule_and_is_found_again(
    operator: FlaskClient, engine: Engine, repeat: str, rule: str | None, says: str
) -> None:
    """The rule that is saved shows as the preset that made it."""
    times = {"starts_at": "2030-03-23T02:00", "ends_at": "2030-03-23T04:00"}
    told = {"name": "n", "hostname": "h", "repeat": repeat, "recurrence": (rule or "").lower()}
    assert fill(operator, "/maintenance/new", **times, **told).status_code == 302
    [window] = all_windows(engine)
    assert window.recurrence == rule
    assert says in operator.get("/maintenance/").text
    assert filled_in(operator.get(f"/maintenance/{window.id}").text)["repeat"] == repeat


def test_bad_fields_are_named_and_nothing_is_saved(operator: FlaskClient, engine: Engine) -> None:
    """Each at its field, with what was written still there."""
    for given in (
        {"name": ""},
        {"hostname": ""},
        {"ends_at": "2030-03-23T01:00"},
        {"timezone": "Mars"},
        {"starts_at": "later"},
        {"repeat": "other", "recurrence": "FREQ=SECONDLY"},
        {"rule_id": "7777"},
        {"repeat": "weekly", "days": ["MO"]},
    ):
        plain = {"name": "n", "hostname": "h", "starts_at": "2030-03-23T02:00", "ends_at": "2030-03-23T04:00"}
        answer = fill(operator, "/maintenance/new", **{**plain, **given})
        assert answer.status_code == 422 and 'class="error"' in answer.text, given
    assert all_windows(engine) == []


def test_links_put_a_host_in_maintenance_and_copy_a_window(operator: FlaskClient, engine: Engine) -> None:
    """Other pages may lead here with a scope; a copy begins with all of the other window."""
    shown = filled_in(operator.get("/maintenance/new?hostname=core-1&team=Core&rule_id=3").text)
    assert (shown["hostname"], shown["team"], shown["rule_id"]) == ("core-1", "Core", "3")
    window = add(engine, recurrence="FREQ=DAILY")
    copied = filled_in(operator.get(f"/maintenance/new?like={window.id}").text)
    assert (copied["name"], copied["hostname"], copied["repeat"]) == (window.name, "core-*", "daily")


def test_a_window_that_is_on_is_ended_by_a_button(operator: FlaskClient, engine: Engine) -> None:
    """It is listed as on, then as ended; what is not on can't be ended."""
    window = add(engine)
    page = operator.get("/maintenance/").text
    assert "<h2>Now</h2>" in page and "upgrade &lt;b&gt;" in page and "style=" not in page
    end = {"csrf_token": hidden(page, "csrf_token")}
    assert operator.post(f"/maintenance/{window.id}/end", data=end).status_code == 302
    assert "<h2>Now</h2>" not in operator.get("/maintenance/").text
    assert operator.post(f"/maintenance/{window.id}/end", data=end).status_code == 409
    assert operator.post("/maintenance/99/end", data=end).status_code == 404


def test_a_change_that_was_not_seen_is_not_written_over(operator: FlaskClient, engine: Engine) -> None:
    """Neither by saving nor by deleting: the page says when it was changed."""
    window = add(engine)
    page = operator.get(f"/maintenance/{window.id}").text
    with transaction(engine) as conn:
        windows.save(conn, {"name": "theirs"}, window_id=window.id, **SAID)
    assert (
        operator.post(f"/maintenance/{window.id}", data={**filled_in(page), "name": "ours"}).status_code
        == 409
    )
    given = {"csrf_token": hidden(page, "csrf_token"), "seen": hidden(page, "seen")}
    assert operator.post(f"/maintenance/{window.id}/delete", data=given).status_code == 409
    assert [one.name for one in all_windows(engine)] == ["theirs"]
    page = operator.get(f"/maintenance/{window.id}").text
    given = {"csrf_token": hidden(page, "csrf_token"), "seen": hidden(page, "seen"), "reason": "done"}
    assert operator.post(f"/maintenance/{window.id}/delete", data=given).status_code == 302
    assert all_windows(engine) == []
    assert operator.get(f"/maintenance/{window.id}").status_code == 404


def test_saving_the_form_of_a_window_that_is_on_changes_nothing_else(
    operator: FlaskClient, engine: Engine
) -> None:
    """Its times come back as they were, to the second: its occurrence, and so its receipt, is the same."""
    window = add(engine)
    assert fill(operator, f"/maintenance/{window.id}", name="other").status_code == 302
    [changed] = all_windows(engine)
    assert (changed.name, changed.starts_at, changed.ends_at) == ("other", window.starts_at, window.ends_at)


def test_the_receipts_are_shown(operator: FlaskClient, engine: Engine) -> None:
    """One that is on, and one that ended, with its page; that of a deleted window too."""
    window = add(engine)
    assert operator.get("/maintenance/receipts").status_code == 200
    receipts.work(engine, len, datetime.now(UTC))
    assert "on now" in operator.get(f"/maintenance/receipts?window={window.id}").text
    with transaction(engine) as conn:
        [receipt] = receipts.receipts(conn)
        windows.remove(conn, window.id, **SAID)
    assert operator.get(f"/maintenance/receipts/{receipt.id}").status_code == 200
    receipts.work(engine, len, datetime.now(UTC))
    page = operator.get(f"/maintenance/receipts/{receipt.id}").text
    assert "Still burning at the end" in page and "upgrade &lt;b&gt;" in page
    assert operator.get("/maintenance/receipts/99").status_code == 404


def test_what_psql_wrote_hides_no_other_window(operator: FlaskClient, engine: Engine) -> None:
    """A time zone that there is not: the page says that this window is not in force, and shows the others."""
    add(engine)
    with transaction(engine) as conn:
        conn.execute(
            text(
                "INSERT INTO maintenance_windows (name, owner, hostname, starts_at, ends_at, timezone)"
                " VALUES ('odd', 'psql', 'h', now(), now() + interval '1 hour', 'Mars')"
            )
        )
    page = operator.get("/maintenance/").text
    assert "Not in force" in page and "<h2>Now</h2>" in page
    [odd] = [window for window in all_windows(engine) if window.name == "odd"]
    assert operator.get(f"/maintenance/{odd.id}").status_code == 200
    assert receipts.work(engine, len, datetime.now(UTC)) == {"opened": 1}


def test_storm_policies_are_made_changed_and_deleted(operator: FlaskClient, engine: Engine) -> None:
    """Each with a note; bad fields are named; a change that was not seen is not written over."""
    assert "no storm policy" in operator.get("/storms/").text
    given = {
        "name": "a host <b>",
        "group_by": "tags.site",
        "alert_count": "20",
        "alert_window": "300",
        "why": "t",
    }
    assert fill(operator, "/storms/new", **given).status_code == 302
    [policy] = all_storms(engine)
    assert (policy.group_by, policy.alert_count, policy.alert_window) == ("tags.site", 20, 300)
    page = operator.get("/storms/").text
    assert "a host &lt;b&gt;" in page and "more than 20 alerts in 5 min" in page
    for bad in (
        {"name": ""},
        {"group_by": "colour"},
        {"alert_count": "1"},
        {"alert_window": "x"},
        {"hostname": "1/99"},
    ):
        assert fill(operator, "/storms/new", **{**given, **bad}).status_code == 422, bad
    shown = operator.get(f"/storms/{policy.id}").text
    assert (
        operator.post(f"/storms/{policy.id}", data={**filled_in(shown), "alert_count": "30"}).status_code
        == 302
    )
    assert (
        operator.post(f"/storms/{policy.id}", data={**filled_in(shown), "alert_count": "40"}).status_code
        == 409
    )
    assert [one.alert_count for one in all_storms(engine)] == [30]
    assert filled_in(operator.get(f"/storms/new?like={policy.id}").text)["alert_count"] == "30"
    shown = operator.get(f"/storms/{policy.id}").text
    gone = {"csrf_token": hidden(shown, "csrf_token"), "seen": hidden(shown, "seen")}
    assert operator.post(f"/storms/{policy.id}/delete", data=gone).status_code == 302
    assert operator.get(f"/storms/{policy.id}").status_code == 404
    assert [note.operation for note in notes_of(engine)] == ["CREATE", "UPDATE", "DELETE"]
