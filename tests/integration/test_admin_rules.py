"""What the admin saves has been checked and noted; what it refuses leaves no trace."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from mutt.store import devices, rulebook
from mutt.store.engine import transaction
from tests.admin_client import (
    filled_in,
    notes_of,
    operator_of,
    send,
    token,
)

RULE = {
    "name": "BGP",
    "match_type": "contains",
    "match_string": "BGP-5-ADJCHANGE",
    "field": "message",
    "priority": "7",
    "prod_handling": "Page_and_ticket",
    "dev_handling": "Ignore",
    "team_assignment": "Backbone",
    "tags": "site=lon1\r\nrack=a=b",
    "is_active": "y",
}


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def rules_of(engine: Engine) -> dict[str, Any]:
    with transaction(engine) as conn:
        return {rule.name: rule for rule in rulebook.list_rules(conn)}


def version_of(engine: Engine) -> int:
    with transaction(engine) as conn:
        return rulebook.current_version(conn)


def test_a_saved_rule_moves_the_version_and_is_noted(operator: FlaskClient, engine: Engine) -> None:
    """What workers watch moves with it, and the history says who and why."""
    before = version_of(engine)
    assert send(operator, "/rules/new", **RULE, reason="ticket 7").status_code == 302
    rule = rules_of(engine)["BGP"]
    assert (rule.match_string, rule.priority, rule.tags) == (
        "BGP-5-ADJCHANGE",
        7,
        {"site": "lon1", "rack": "a=b"},
    )
    assert version_of(engine) > before
    (note,) = notes_of(engine)
    assert (note.operation, note.reason, note.after["name"]) == ("CREATE", "ticket 7", "BGP")
    assert "ticket 7" in operator.get("/history/").text


@pytest.mark.parametrize(
    ("wrong", "label", "reason"),
    [
        ({"match_type": "regex", "match_string": "(?<=x)y"}, "match_string", "look"),
        ({"match_type": "regex", "match_string": "("}, "match_string", ""),
        ({"match_type": "regex", "match_string": "a.{500}b"}, "match_string", "write .+ in place of .{500}"),
        ({"match_string": "  "}, "match_string", "needs the text to look for"),
        ({"prod_handling": "Page_and_tickets"}, "prod_handling", "is none of"),
        ({"priority": "high"}, "priority", "whole number"),
        ({"match_type": "oid_prefix", "match_string": "", "trap_oid": "1.3.x"}, "trap_oid", "is no OID"),
        ({"team_assignment": " "}, "team_assignment", "name a team"),
        ({"field": "mesage"}, "field", ""),
        ({"hostname": "10.0.0.0/99"}, "hostname", ""),
        ({"tags": "site"}, "tags", "write name=value"),
        ({"name": "a\0b"}, "name", "can't be stored"),
    ],
)
def test_an_invalid_rule_is_refused_at_its_field(
    operator: FlaskClient, engine: Engine, wrong: dict[str, str], label: str, reason: str
) -> None:
    """The page says why at the field at fault and keeps what was written; nothing is stored, nothing noted."""
    before = rules_of(engine), version_of(engine)
    answer = send(operator, "/rules/new", **{**RULE, **wrong})
    assert answer.status_code == 422
    (error,) = re.findall(rf'id="{label}-error">([^<]+)<', answer.text)
    assert reason in unescape(error)
    assert len(re.findall(r'class="error"', answer.text)) == 1
    assert 'value="Backbone"' in answer.text or label == "team_assignment"
    assert (rules_of(engine), version_of(engine)) == before and not notes_of(engine)


def test_an_edit_changes_what_was_filled_in(operator: FlaskClient, engine: Engine) -> None:
    send(operator, "/rules/new", **RULE)
    rule = rules_of(engine)["BGP"]
    changed = {name: value for name, value in RULE.items() if name != "is_active"} | {"syslog_severity": "4"}
    assert send(operator, f"/rules/{rule.id}", **changed).status_code == 302
    after = rules_of(engine)["BGP"]
    assert (after.is_active, after.syslog_severity, after.id) == (False, 4, rule.id)


def test_a_form_sent_as_it_came_changes_nothing(operator: FlaskClient, engine: Engine) -> None:
    """No field of a rule is lost or bent on its way through the form."""
    odd = {
        **RULE,
        "match_type": "regex",
        "match_string": "  a\n b ",
        "moog_severity": 0,
        "syslog_severity": 0,
    }
    with transaction(engine) as conn:
        odd |= {"tags": {"a": " b "}, "hostname": "core-*", "source": "s", "program": "p", "trap_oid": "1.3"}
        rule = rulebook.save_rule(conn, {**odd, "is_active": True}, changed_by="test")
    shown = operator.get(f"/rules/{rule.id}").text
    assert send(operator, f"/rules/{rule.id}", **filled_in(shown)).status_code == 302
    assert rules_of(engine)["BGP"] == rule and not notes_of(engine)


def test_a_rule_whose_tags_psql_wrote_as_numbers_is_shown(operator: FlaskClient, engine: Engine) -> None:
    with transaction(engine) as psql:
        psql.execute(text("""UPDATE alert_rules SET tags = '{"site": 1}' WHERE id = 2"""))
    assert "site=1" in operator.get("/rules/").text
    assert "site=1" in operator.get("/rules/2").text


def test_a_rule_that_psql_broke_is_shown_with_what_is_wrong_and_can_be_switched_off(
    operator: FlaskClient, engine: Engine
) -> None:
    with transaction(engine) as psql:
        psql.execute(text("UPDATE alert_rules SET match_type = 'regex', match_string = '(?=x)' WHERE id = 2"))
    shown = operator.get("/rules/").text
    assert "Not in force: match_string: look-ahead" in shown and shown.count("Not in force") == 1
    off = {"active": "off", "csrf_token": token(operator, "/rules/")}
    assert operator.post("/rules/2/active", data=off).status_code == 302
    assert "Not in force" not in operator.get("/rules/").text


def test_a_rule_changed_meanwhile_is_not_written_over(operator: FlaskClient, engine: Engine) -> None:
    """Whoever saves second is told; what stands is the first one's."""
    page = "/rules/1"
    seen = re.search(r'name="seen" type="hidden" value="([^"]*)"', operator.get(page).text)
    assert seen
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3}, rule_id=1, changed_by="another")
    answer = send(operator, page, **{**RULE, "seen": seen[1]})
    assert answer.status_code == 422 and "This rule was changed at" in answer.text
    late = operator.post("/rules/1/delete", data={"seen": seen[1], "csrf_token": token(operator, page)})
    assert late.status_code == 409 and "open it again" in late.text
    assert rules_of(engine)["CRITICAL"].priority == 3 and not notes_of(engine)


def test_a_rule_is_switched_off_and_on(operator: FlaskClient, engine: Engine) -> None:
    for word, wanted in (("off", False), ("off", False), ("on", True)):
        given = {"active": word, "csrf_token": token(operator, "/rules/")}
        assert operator.post("/rules/1/active", data=given).status_code == 302
        assert rules_of(engine)["CRITICAL"].is_active is wanted
    assert [note.after["is_active"] for note in notes_of(engine)] == [False, True]
    given = {"active": "perhaps", "csrf_token": token(operator, "/rules/")}
    assert operator.post("/rules/1/active", data=given).status_code == 400


def test_a_rule_is_deleted_and_then_gone(operator: FlaskClient, engine: Engine) -> None:
    seen = re.search(r'name="seen" value="([^"]+)"', operator.get("/rules/1").text)
    assert seen
    given = {"seen": unescape(seen[1]), "csrf_token": token(operator, "/rules/1")}
    assert operator.post("/rules/1/delete", data=given).status_code == 302
    assert "CRITICAL" not in rules_of(engine)
    assert [note.operation for note in notes_of(engine)] == ["DELETE"]
    gone = operator.get("/rules/1")
    assert gone.status_code == 404 and "There is no rule 1" in gone.text
    given["csrf_token"] = token(operator, "/rules/")
    assert operator.post("/rules/1/delete", data=given).status_code == 404
    assert operator.post("/rules/1/active", data={**given, "active": "on"}).status_code == 404


def test_rules_are_listed_as_they_are_tried_and_searched(operator: FlaskClient) -> None:
    shown = operator.get("/rules/").text
    in_order = [shown.index(f">{name}<") for name in ("LINK-DOWN", "CRITICAL", "ERROR")]
    assert in_order == sorted(in_order)
    found = operator.get("/rules/?q=link-d").text
    assert ">LINK-DOWN<" in found and ">CRITICAL<" not in found


def test_a_copy_begins_with_the_values_of_another(operator: FlaskClient) -> None:
    shown = operator.get("/rules/new?like=1").text
    assert 'value="CRITICAL"' in shown and "<h1>New rule</h1>" in shown
    assert operator.get("/rules/new?like=999").status_code == 404


def test_development_hosts_are_added_and_removed(operator: FlaskClient, engine: Engine) -> None:
    before = version_of(engine)
    assert send(operator, "/hosts/", hostname=" 10.9.0.0/16 ").status_code == 302
    with transaction(engine) as conn:
        assert "10.9.0.0/16" in devices.hosts(conn)
    assert version_of(engine) > before
    given = {"hostname": "10.9.0.0/16", "csrf_token": token(operator, "/hosts/")}
    assert operator.post("/hosts/remove", data=given).status_code == 302
    with transaction(engine) as conn:
        assert "10.9.0.0/16" not in devices.hosts(conn)
    assert [note.operation for note in notes_of(engine)] == ["CREATE", "DELETE"]


@pytest.mark.parametrize("hostname", ["", "10.0.0.0/99", "x" * 256])
def test_an_invalid_host_is_refused(operator: FlaskClient, engine: Engine, hostname: str) -> None:
    answer = send(operator, "/hosts/", hostname=hostname)
    assert answer.status_code == 422 and 'id="hostname-error"' in answer.text
    assert not notes_of(engine)


def test_a_device_is_given_to_a_team(operator: FlaskClient, engine: Engine) -> None:
    """A team that somebody else changed meanwhile, or that stands already, is not written over."""
    page = "/teams/edit?host=10.0.0.0/8"
    assert send(operator, "/teams/new", hostname="10.0.0.0/8", team_assignment="Backbone").status_code == 302
    again = send(operator, "/teams/new", hostname="10.0.0.0/8", team_assignment="Other")
    assert again.status_code == 422 and "belongs to Backbone" in again.text
    assert send(operator, page, team_assignment="Core").status_code == 302
    assert send(operator, page, team_assignment=" ").status_code == 422
    assert send(operator, page, team_assignment="Edge", seen="Backbone").status_code == 422
    with transaction(engine) as conn:
        assert devices.teams(conn)["10.0.0.0/8"] == "Core"
    given = {"hostname": "10.0.0.0/8", "seen": "Core", "csrf_token": token(operator, page)}
    assert operator.post("/teams/remove", data={**given, "seen": "Backbone"}).status_code == 409
    assert operator.post("/teams/remove", data=given).status_code == 302
    assert operator.get(page).status_code == 404
    assert [note.operation for note in notes_of(engine)] == ["CREATE", "UPDATE", "DELETE"]
