"""The page of the shadow: what runs, what it has seen, and how it is begun and ended by hand."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt.rules.evaluate import evaluate
from mutt.rules.rule import Rule
from mutt.rules.shadow import Difference, Kind, Status, called
from mutt.store import audit, rulebook, shadows
from mutt.store.engine import transaction
from mutt.store.shadows import Edit, Hour, Shadow
from mutt.web.admin.shadow import HEIGHT, bars
from tests.admin_client import filled_in, notes_of, operator_of, send, token
from tests.bench import event

HOUR = datetime(2026, 3, 4, 9, tzinfo=UTC)
SAID = {"changed_by": "ann", "reason": "ticket 7"}
DISK = {"name": "disk <b>", "match_string": "disk", "priority": 1, "prod_handling": "Page_only"}


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def start(engine: Engine, *edits: Edit) -> Shadow:
    with transaction(engine) as conn:
        return shadows.start(conn, edits or [Edit(None, DISK)], **SAID)


def newest(engine: Engine) -> Shadow | None:
    with transaction(engine) as conn:
        return next(iter(shadows.newest(conn)), None)


def rule_named(engine: Engine, name: str) -> Rule:
    with transaction(engine) as conn:
        return next(rule for rule in rulebook.list_rules(conn) if rule.name == name)


def upload(client: FlaskClient, content: Any, **fields: Any) -> Any:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {"csrf_token": token(client, "/shadow/"), "days": "3", "file": (io.BytesIO(data), "rules.json")}
    return client.post("/shadow/start", data={**given, **fields}, content_type="multipart/form-data")


def watched(engine: Engine, shadow: Shadow, message: str) -> None:
    """A worker's note of one event of 12."""
    one = event(message)
    with transaction(engine) as conn:
        live = rulebook.load(conn, "NETO")
        draft = rulebook.read_draft(conn, shadow.draft).compile("NETO")
        pair = evaluate(one, live), evaluate(one, draft)
        row = audit.audit_row(one, pair[0], ruleset_version=1, batch_id="b", correlation_id="c")
        audit.copy_rows(conn, [row])
        counts = {(HOUR, Kind.NEWLY_ALERTS): 1, (HOUR, Kind.SAME): 9, (HOUR, Kind.SKIPPED): 2}
        for worker in ("a", "b"):
            shadows.count(conn, shadow.id, worker, counts)
        shadows.keep(conn, shadow.id, [Difference(Kind.NEWLY_ALERTS, one, *pair)])


def test_the_page_says_what_was_seen_and_leads_to_the_events(operator: FlaskClient, engine: Engine) -> None:
    """Sums over all workers, of how many events, with samples; what senders and writers wrote is only text."""
    shadow = start(engine)
    watched(engine, shadow, "disk <script>")
    page = operator.get("/shadow/").text
    assert "it looked at <strong>20 events</strong>, and not at 4" in page
    assert re.search(r"newly alerts</a></th>\s*<td[^>]*>2</td>\s*<td[^>]*>10 %", page)
    [sample] = _samples(engine, shadow)
    [link] = re.findall(rf'"(/audit/{sample.event_id}[^"]*)"', page)
    assert operator.get(unescape(link)).status_code == 200
    assert "disk &lt;script&gt;" in page and "new rule “disk &lt;b&gt;”" in page
    assert "<script>" not in page and "style=" not in page
    assert "<rect" in page and "2026-03-04 09:00 UTC: 2 newly alerts" in page


def _samples(engine: Engine, shadow: Shadow) -> list[shadows.Sample]:
    with transaction(engine) as conn:
        return shadows.samples(conn, shadow.id, Kind.NEWLY_ALERTS)


def test_the_fields_of_a_new_rule_begin_one(operator: FlaskClient, engine: Engine) -> None:
    """What the rule form sends becomes a draft; the rules in force are not touched."""
    fields = filled_in(operator.get("/rules/new").text)
    given = {**fields, "match_string": "BGP", "reason": "ticket 8"}
    answer = operator.post("/shadow/start", data=given)
    shadow = newest(engine)
    assert shadow and answer.headers["Location"] == f"/shadow/{shadow.id}"
    assert [(one.operation, one.name) for one in shadow.draft] == [("CREATE", "BGP")]
    assert (shadow.who, shadow.reason, shadow.name) == ("admin", "ticket 8", "BGP")
    assert [note.table_name for note in notes_of(engine)] == ["shadows"]


def test_the_fields_of_a_rule_that_stands_begin_one(operator: FlaskClient, engine: Engine) -> None:
    """Its id says which one; the form's other fields are its own."""
    rule = rule_named(engine, "ERROR")
    fields = filled_in(operator.get(f"/rules/{rule.id}").text)
    operator.post("/shadow/start", data={**fields, "rule_id": str(rule.id), "priority": "3"})
    shadow = newest(engine)
    assert shadow
    [change] = shadow.draft
    assert change.record_id == str(rule.id)
    assert [(one.name, one.before, one.after) for one in change.fields] == [("priority", 20, 3)]


def test_a_form_that_did_not_show_what_stands_begins_none(operator: FlaskClient, engine: Engine) -> None:
    """Somebody changed the rule after it was opened: a draft would take that back unseen."""
    rule = rule_named(engine, "ERROR")
    fields = filled_in(operator.get(f"/rules/{rule.id}").text)
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"team_assignment": "Other"}, rule_id=rule.id, **SAID)
    answer = operator.post("/shadow/start", data={**fields, "rule_id": str(rule.id), "priority": "3"})
    assert answer.status_code == 422 and "open it again" in answer.text
    assert newest(engine) is None


def test_a_file_of_yaml_begins_one(operator: FlaskClient, engine: Engine) -> None:
    """As people write rules."""
    answer = upload(operator, b"rules:\n- name: disk\n  match_string: disk\ndevelopment_hosts: [rig-*]\n")
    shadow = newest(engine)
    assert answer.status_code == 302 and shadow
    assert [called(change) for change in shadow.draft[1:]] == ["development host rig-*"]
    assert "development host rig-*" in operator.get("/shadow/").text


def test_a_file_begins_one(operator: FlaskClient, engine: Engine) -> None:
    """By names, with what the form says besides."""
    answer = upload(operator, {"rules": [DISK]}, name="storage", replace="y")
    shadow = newest(engine)
    assert answer.status_code == 302 and shadow
    assert (shadow.name, {one.operation for one in shadow.draft}) == ("storage", {"CREATE", "DELETE"})
    assert (shadow.until - shadow.created_at).days == 3


@pytest.mark.parametrize(
    ("content", "fields", "says"),
    [
        (b"", {}, "is empty"),
        (b"{", {}, "is no JSON"),
        ({"x": 1}, {}, "is no field of a rule"),
        ({"rules": 7}, {}, "is no list"),
        ([{"match_string": "a(?=b)", "match_type": "regex"}], {}, "look-ahead"),
        ([DISK], {"days": "15"}, "out of range"),
        ([DISK], {"days": "x"}, "no whole number"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_begins(
    operator: FlaskClient, engine: Engine, content: Any, fields: dict[str, str], says: str
) -> None:
    """With what would be right, at the form."""
    answer = upload(operator, content, **fields)
    assert answer.status_code == 422 and says in answer.text
    assert newest(engine) is None


def test_while_one_runs_no_other_begins(operator: FlaskClient, engine: Engine) -> None:
    """The page says which one runs."""
    shadow = start(engine)
    fields = filled_in(operator.get("/rules/new").text)
    answer = operator.post("/shadow/start", data={**fields, "match_string": "BGP"})
    assert answer.status_code == 422 and "runs already" in answer.text
    standing = newest(engine)
    assert standing and standing.id == shadow.id


def test_promote_makes_it_the_rules_in_force(operator: FlaskClient, engine: Engine) -> None:
    """The rule is there, the page of its id too, and the history says who."""
    shadow = start(engine)
    answer = operator.post(
        f"/shadow/{shadow.id}/promote",
        data={"csrf_token": token(operator, "/shadow/"), "reason": "it is good"},
    )
    assert answer.status_code == 302
    assert operator.get(f"/rules/{shadow.draft[0].record_id}").status_code == 200
    page = operator.get("/shadow/").text
    assert "Promoted</strong> as version" in page and "/promote" not in page
    history = operator.get(f"/history/?table=shadows&record={shadow.id}").text
    assert "it is good" in history and "promoted" in history
    assert {note.reason for note in notes_of(engine)} == {"it is good"}


def test_drop_ends_it(operator: FlaskClient, engine: Engine) -> None:
    """The rules stay, and what was counted can be looked at."""
    shadow = start(engine)
    watched(engine, shadow, "disk full")
    rules = rulebook_of(engine)
    assert send(operator, f"/shadow/{shadow.id}").status_code == 405
    answer = operator.post(f"/shadow/{shadow.id}/drop", data={"csrf_token": token(operator, "/shadow/")})
    assert answer.status_code == 302
    standing = newest(engine)
    assert standing and standing.status is Status.DROPPED
    assert rulebook_of(engine) == rules
    assert "it looked at <strong>20 events</strong>" in operator.get(f"/shadow/{shadow.id}").text


def rulebook_of(engine: Engine) -> list[Rule]:
    with transaction(engine) as conn:
        return rulebook.list_rules(conn)


def test_what_others_changed_stands_in_the_way_and_is_named(operator: FlaskClient, engine: Engine) -> None:
    """The page says it beforehand; a page that was loaded before gets a refusal."""
    rule = rule_named(engine, "ERROR")
    shadow = start(engine, Edit(rule.id, {"priority": 3}))
    assert "/promote" in operator.get("/shadow/").text
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"team_assignment": "Other"}, rule_id=rule.id, **SAID)
    page = operator.get("/shadow/").text
    assert f"rule {rule.id} “ERROR”" in page and "/promote" not in page
    answer = operator.post(f"/shadow/{shadow.id}/promote", data={"csrf_token": token(operator, "/shadow/")})
    assert answer.status_code == 409 and f"rule {rule.id} “ERROR”" in answer.text


def test_why_it_was_stopped_is_on_the_page(operator: FlaskClient, engine: Engine) -> None:
    """With its error, as text."""
    shadow = start(engine)
    with transaction(engine) as conn:
        shadows.stop(conn, shadow.id, "can't be compiled: <b>")
    assert "can&#39;t be compiled: &lt;b&gt;" in operator.get("/shadow/").text


def test_pages_that_are_not_there(operator: FlaskClient, engine: Engine) -> None:
    """An empty page before the first; none of an id that never was; and nobody ends what never ran."""
    given = {"csrf_token": token(operator, "/shadow/")}
    assert "None has run yet" in operator.get("/shadow/").text
    assert operator.get("/shadow/7").status_code == 404
    assert operator.post("/shadow/7/drop", data=given).status_code == 404
    fields = filled_in(operator.get("/rules/new").text)
    answer = operator.post("/shadow/start", data={**fields, "match_string": "x", "rule_id": "999"})
    assert answer.status_code == 404


def test_the_chart_stands_on_its_ground_and_fits() -> None:
    """The highest hour fills it, parts of an hour stand upon each other, the newest hour is on the right."""
    kinds = {Kind.NEWLY_ALERTS: 30, Kind.NO_LONGER_ALERTS: 10, Kind.SAME: 1000}
    later = HOUR.replace(hour=11)
    drawn = bars(
        [Hour(later, kinds), Hour(HOUR, {Kind.SAME: 7}), Hour(HOUR.replace(hour=8), {Kind.OTHER_RULE: 4})]
    )
    lower, upper, first = drawn
    assert (lower.y + lower.height, upper.y + upper.height, upper.y) == (HEIGHT, lower.y, 0)
    assert first.x == 0 < lower.x == upper.x
    assert bars([]) == [] == bars([Hour(HOUR, {Kind.SAME: 7})])
