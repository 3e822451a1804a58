"""The admin's lists: what is found, what is changed where it stands, what goes out and in as a file."""

from __future__ import annotations

import csv
import io
import re
import time
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, text

from mutt.store import audit, devices, rulebook, rulesearch
from mutt.store.engine import transaction
from mutt.store.tables import alerts
from tests.admin_client import notes_of, operator_of, token
from tests.integration.test_admin_records import alert_row, audited

IN_PLACE = {"HX-Request": "true"}

#: What a spreadsheet would run.
FORMULAS = ['=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''-x"]


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def save(engine: Engine, **rule: Any) -> int:
    with transaction(engine) as conn:
        return rulebook.save_rule(conn, rule, changed_by="test").id


def seen_of(engine: Engine, rule_id: int) -> str:
    with transaction(engine) as conn:
        return rulesearch.changed_at(conn, [rule_id])[rule_id].isoformat()


def names_of(page: str) -> list[str]:
    return [unescape(name) for name in re.findall(r'href="/rules/\d+">([^<]+)</a>', page)]


def rules_of(engine: Engine) -> dict[int, Any]:
    with transaction(engine) as conn:
        return {rule.id: rule for rule in rulebook.list_rules(conn)}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("match_type=regex", ["wide"]),
        ("team=Backbone", ["wide", "narrow"]),
        ("handling=Page_only", ["narrow"]),
        ("handling=Page_only&environment=development", []),
        ("team=Backbone&environment=development", ["wide"]),
        ("team=Backbone&active=off", ["narrow"]),
        ("team=Backbone&scope=yes", ["narrow"]),
        ("team=Backbone&scope=no", ["wide"]),
        ("scope=tags", ["narrow"]),
        ("q=SITE%3Dlon", ["narrow"]),
        ("q=100%25_", ["wide"]),
        ("q=%00", None),
        ("team=Backbone&order=name", ["narrow", "wide"]),
        ("team=nobody%27s&order=nothing&page=99", None),
    ],
)
def test_rules_are_found_by_what_they_are(
    operator: FlaskClient, engine: Engine, asked: str, found: list[str] | None
) -> None:
    """Each filter narrows the list, a search ignores case and knows no wildcards, and what can't be chosen is any."""
    save(
        engine,
        name="wide",
        match_type="regex",
        match_string="100%_x",
        team_assignment="Backbone",
        dev_handling="Ticket_only",
        priority=1,
    )
    save(
        engine,
        name="narrow",
        match_string="x",
        team_assignment="Backbone",
        prod_handling="Page_only",
        is_active=False,
        hostname="core-*",
        tags={"site": "lon1"},
        priority=2,
    )
    answer = operator.get(f"/rules/?{asked}")
    assert answer.status_code == 200
    assert names_of(answer.text) == found if found is not None else len(names_of(answer.text)) == 7


def test_a_long_list_has_pages(operator: FlaskClient, engine: Engine) -> None:
    """Each rule stands on exactly one page, in the order in which it is tried."""
    with transaction(engine) as conn:
        items = [(None, {"match_string": f"rule-{n:03}", "priority": n}) for n in range(245)]
        rulebook.save_rules(conn, items, changed_by="test")
    pages = [names_of(operator.get(f"/rules/?q=rule-&page={number}").text) for number in (1, 2, 3)]
    assert [len(page) for page in pages] == [100, 100, 45]
    assert [name for page in pages for name in page] == [f"rule-{n:03}" for n in range(245)]
    assert 'href="?q=rule-&amp;page=3"' in operator.get("/rules/?q=rule-&page=2").text


def test_ten_thousand_rules_are_listed_in_less_than_a_blink(operator: FlaskClient, engine: Engine) -> None:
    """The list's page is made in 0.3 s; ten times that is allowed to a busy machine."""
    with transaction(engine) as conn:
        conn.execute(
            text("""INSERT INTO alert_rules (name, match_type, match_string, prod_handling, dev_handling,
            team_assignment, priority) SELECT 'rule ' || n, 'contains', 'text ' || n, 'Page_only', 'Ignore',
            'team ' || n % 50, n FROM generate_series(1, 10000) n""")
        )
    operator.get("/rules/")
    began = time.perf_counter()
    answer = operator.get("/rules/?q=text&team=team+7&page=2")
    assert answer.status_code == 200 and len(names_of(answer.text)) == 100
    assert time.perf_counter() - began < 3


def test_a_priority_is_changed_where_it_stands(operator: FlaskClient, engine: Engine) -> None:
    """The answer is the row as it stands now, which can be changed again; the history says who, why and where."""
    given = {"csrf_token": token(operator, "/rules/"), "seen": seen_of(engine, 1), "priority": "33"}
    answer = operator.post(
        "/rules/1/priority",
        data={**given, "reason": "quieter"},
        headers={**IN_PLACE, "X-Correlation-ID": "change-7"},
    )
    assert answer.status_code == 200 and answer.text.lstrip().startswith('<tr id="rule-1"')
    assert 'name="priority" value="33"' in answer.text and seen_of(engine, 1) in unescape(answer.text)
    assert answer.headers["X-Correlation-ID"] == "change-7"
    (note,) = notes_of(engine)
    assert (note.reason, note.correlation_id, note.after["priority"]) == ("quieter", "change-7", 33)
    refused = operator.post(
        "/rules/1/priority",
        data={**given, "seen": seen_of(engine, 1), "priority": "high"},
        headers=IN_PLACE,
    )
    assert refused.status_code == 422 and "whole number" in refused.text and 'value="33"' in refused.text
    without = operator.post("/rules/1/priority", data={**given, "seen": seen_of(engine, 1), "priority": "34"})
    assert without.status_code == 302 and rules_of(engine)[1].priority == 34


@pytest.mark.parametrize("headers", [IN_PLACE, {}])
def test_a_change_in_place_writes_over_nothing_unseen(
    operator: FlaskClient, engine: Engine, headers: dict[str, str]
) -> None:
    """A rule that another changed meanwhile stands as they left it, and the answer says who it was."""
    seen = seen_of(engine, 1)
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3}, rule_id=1, changed_by="grace")
    given = {"csrf_token": token(operator, "/rules/"), "seen": seen}
    for page, more in (("priority", {"priority": "44"}), ("active", {"active": "off"})):
        answer = operator.post(f"/rules/1/{page}", data={**given, **more}, headers=headers)
        assert answer.status_code == 409 and "by grace" in answer.text
        assert not headers or 'name="priority" value="3"' in answer.text
    assert (rules_of(engine)[1].priority, rules_of(engine)[1].is_active) == (3, True)
    assert not notes_of(engine)


def test_ticked_rules_are_changed_together_or_not_at_all(operator: FlaskClient, engine: Engine) -> None:
    """One change that somebody else made meanwhile keeps all of them as they are; one version is made of them all."""
    given = {"csrf_token": token(operator, "/rules/"), "reason": "night shift"}
    ticks = [f"{rule_id}@{seen_of(engine, rule_id)}" for rule_id in (1, 2, 3)]
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 99}, rule_id=2, changed_by="grace")
    late = operator.post("/rules/bulk", data={**given, "what": "delete", "rule": ticks})
    assert late.status_code == 409 and "changed rule 2" in late.text and {1, 2, 3} <= rules_of(engine).keys()
    ticks[1] = f"2@{seen_of(engine, 2)}"
    before = notes_of(engine)
    assert operator.post("/rules/bulk", data={**given, "what": "off", "rule": ticks}).status_code == 302
    assert not any(rules_of(engine)[rule_id].is_active for rule_id in (1, 2, 3))
    notes = notes_of(engine)[len(before) :]
    assert {note.reason for note in notes} == {"night shift"} and len(notes) == 3
    assert len({note.correlation_id for note in notes}) == len({note.ruleset_version for note in notes}) == 1
    ticks = [f"{rule_id}@{seen_of(engine, rule_id)}" for rule_id in (1, 2)]
    assert operator.post("/rules/bulk", data={**given, "what": "delete", "rule": ticks}).status_code == 302
    assert not {1, 2} & rules_of(engine).keys()
    for wrong in ({"what": "off"}, {"what": "burn", "rule": [f"3@{seen_of(engine, 3)}"]}, {"rule": ["x"]}):
        assert operator.post("/rules/bulk", data={**given, **wrong}).status_code == 400


def test_rules_go_out_as_csv_and_come_in_as_they_were(operator: FlaskClient, engine: Engine) -> None:
    """No cell is a formula to a spreadsheet, and the file as it was written changes nothing."""
    for formula in FORMULAS:
        save(
            engine,
            name=f"x{formula}",
            match_string=formula,
            tags={"a": formula},
            dedup_window=60,
            examples=[
                {"message": formula + " more", "tags": {"a": formula}},
                {"message": "no\nline", "matches": False},
            ],
        )
    before = rules_of(engine)
    file = operator.get("/rules/rules.csv")
    assert file.mimetype == "text/csv" and "attachment" in file.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(file.data.decode("utf-8-sig"), newline="")))
    assert len(rows) == len(before)
    assert not [
        cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    ]
    given = {"csrf_token": token(operator, "/rules/import"), "submit": "Import"}
    sent = {**given, "file": (io.BytesIO(file.data), "rules.csv")}
    assert operator.post("/rules/import", data=sent).status_code == 302
    assert rules_of(engine) == before and not notes_of(engine)
    narrowed = operator.get("/rules/rules.csv?q=link-down").data.decode("utf-8-sig")
    assert len(list(csv.DictReader(io.StringIO(narrowed)))) == 1


def test_a_file_is_imported_whole_or_not_at_all(operator: FlaskClient, engine: Engine) -> None:
    """Each line at fault is named with the reason; a line that is older than what stands is one of them."""
    before, stale = rules_of(engine), seen_of(engine, 1)
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3}, rule_id=1, changed_by="grace")
    given = {"csrf_token": token(operator, "/rules/import")}
    lines = [
        "id,name,match_string,priority,changed_at",
        f"1,CRITICAL,CRITICAL,4,{stale}",
        ",new,NEW,5,",
        "2,ERROR,ERROR,soon,",
        "999,gone,x,1,",
        "x,odd,x,1,",
        ",empty,,1,",
    ]
    answer = operator.post("/rules/import", data={**given, "text": "\r\n".join(lines)})
    told = dict(
        re.findall(r'data-label="Line">(\d+)</td><td class="text" data-label="Wrong">([^<]+)', answer.text)
    )
    assert answer.status_code == 422 and set(told) == {"2", "4", "5", "6", "7"}
    assert "changed at" in told["2"] and "priority" in told["4"] and "999" in told["5"]
    assert rules_of(engine).keys() == before.keys() and not notes_of(engine)
    good = "id;name;match_string;priority\n1;CRITICAL;CRITICAL;4\n;new;NEW;5"
    checked = operator.post("/rules/import", data={**given, "text": good, "check": "Only check"})
    assert checked.status_code == 200 and "2 lines can be imported" in checked.text and not notes_of(engine)
    assert operator.post("/rules/import", data={**given, "text": good}).status_code == 302
    after = rules_of(engine)
    assert after[1].priority == 4 and "NEW" in {rule.match_string for rule in after.values()}


@pytest.mark.parametrize(
    "file", ["", "id,colour\n1,red", "id,id\n1,2", "id,name\n1,a,b", 'name\n"open', "\0", b"name\n\xff\xfe"]
)
def test_what_is_no_such_file_is_refused(operator: FlaskClient, engine: Engine, file: str | bytes) -> None:
    given = {"csrf_token": token(operator, "/rules/import")}
    body = file if isinstance(file, bytes) else file.encode()
    answer = operator.post("/rules/import", data={**given, "file": (io.BytesIO(body), "x.csv")})
    assert answer.status_code == 422 and 'id="file-error"' in answer.text and not notes_of(engine)


def test_of_two_edits_the_later_one_sees_both_and_chooses(operator: FlaskClient, engine: Engine) -> None:
    """Nothing typed is lost: a field of the other's may be taken over, or one's own saved over what is now seen."""
    seen = seen_of(engine, 1)
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3, "team_assignment": "Theirs"}, rule_id=1, changed_by="grace")
    given = {"csrf_token": token(operator, "/rules/1"), "name": "Mine", "priority": "8", "is_active": "y"}
    given |= {"match_string": "CRITICAL", "team_assignment": "Ours", "prod_handling": "Page_and_ticket"}
    given |= {"dev_handling": "Ticket_only", "match_type": "contains", "field": "message"}
    late = operator.post("/rules/1", data={**given, "seen": seen})
    assert late.status_code == 422 and "by grace" in late.text
    assert re.findall(r'name="take" value="(\w+)"', late.text) == ["name", "priority", "team_assignment"]
    assert 'value="Mine"' in late.text and 'value="Ours"' in late.text
    assert rules_of(engine)[1].team_assignment == "Theirs" and not notes_of(engine)
    taken = operator.post("/rules/1", data={**given, "seen": seen, "take": "team_assignment"})
    assert taken.status_code == 200 and 'value="Theirs"' in taken.text and 'value="Mine"' in taken.text
    assert not notes_of(engine)
    now = re.search(r'name="seen" type="hidden" value="([^"]*)"', taken.text)
    assert now
    mine = {**given, "team_assignment": "Theirs", "seen": unescape(now[1])}
    assert operator.post("/rules/1", data=mine).status_code == 302
    rule = rules_of(engine)[1]
    assert (rule.name, rule.priority, rule.team_assignment) == ("Mine", 8, "Theirs")


def test_devices_are_narrowed_by_kind_and_tried_with_a_host(operator: FlaskClient, engine: Engine) -> None:
    with transaction(engine) as conn:
        for name, team in (("core-*", "Backbone"), ("10.0.0.0/8", "Campus"), ("core-1", "Core")):
            devices.add_host(conn, name, changed_by="test")
            devices.put_team(conn, name, team, changed_by="test")
    for page in ("/hosts/", "/teams/"):
        shown = operator.get(f"{page}?kind=glob").text
        assert "core-*" in shown and "10.0.0.0/8" not in shown
        assert "10.0.0.0/8" in operator.get(f"{page}?kind=network").text
        assert "core-*" in operator.get(f"{page}?host=core-9").text
    assert ">development<" in operator.get("/hosts/?host=10.1.2.3").text
    assert ">production<" in operator.get("/hosts/?host=192.0.2.1").text


def test_a_team_is_changed_where_it_stands(operator: FlaskClient, engine: Engine) -> None:
    """What another changed meanwhile is shown, not written over."""
    with transaction(engine) as conn:
        devices.put_team(conn, "core-1", "Core", changed_by="test")
    given = {"csrf_token": token(operator, "/teams/"), "hostname": "core-1"}
    mine = operator.post(
        "/teams/put", data={**given, "seen": "Core", "team_assignment": "Edge"}, headers=IN_PLACE
    )
    assert mine.status_code == 200 and 'name="team_assignment" value="Edge"' in mine.text
    late = operator.post(
        "/teams/put", data={**given, "seen": "Core", "team_assignment": "Mine"}, headers=IN_PLACE
    )
    assert late.status_code == 409 and "belongs to Edge" in late.text and 'value="Edge"' in late.text
    removed = operator.post("/teams/remove", data={**given, "seen": "Edge"}, headers=IN_PLACE)
    assert removed.status_code == 200 and "<tr" not in removed.text
    assert [note.operation for note in notes_of(engine)] == ["UPDATE", "DELETE"]


def test_devices_go_out_as_csv_and_come_in(operator: FlaskClient, engine: Engine) -> None:
    """Lines that stand already change nothing; one that is wrong keeps the others out."""
    given = {"csrf_token": token(operator, "/hosts/import")}
    wrong = operator.post("/hosts/import", data={**given, "text": "hostname\nlab-*\n10.0.0.0/99"})
    assert wrong.status_code == 422 and ">3<" in wrong.text and not notes_of(engine)
    assert operator.post("/hosts/import", data={**given, "text": "hostname\nlab-*"}).status_code == 302
    assert "lab-*" in operator.get("/hosts/hosts.csv").text
    teams = "hostname,team_assignment,seen\ncore-1,Core,\ncore-2,Edge,"
    assert operator.post("/teams/import", data={**given, "text": teams}).status_code == 302
    written = operator.get("/teams/teams.csv").text
    assert "core-1,Core,Core" in written
    stale = "hostname,team_assignment,seen\ncore-1,Mine,Nobody"
    assert operator.post("/teams/import", data={**given, "text": stale}).status_code == 422
    with transaction(engine) as conn:
        assert devices.teams(conn) == {"core-1": "Core", "core-2": "Edge"}


def test_the_audit_is_read_page_by_page(operator: FlaskClient, engine: Engine) -> None:
    """Each event stands on one page, also among those of one moment; from any page there is a way back."""
    now = datetime.now(UTC)
    with transaction(engine) as conn:
        # Threes of one moment, so that a page ends among them.
        rows = [audited("r1", f"event-{n:03}", now - timedelta(seconds=n // 3)) for n in range(250)]
        audit.copy_rows(conn, rows)
    pages, address, back = [], "/audit/?limit=100&span=1h", ""
    while address:
        shown = operator.get(address).text
        pages.append(re.findall(r"event-\d{3}", shown))
        back = next(iter(re.findall(r'rel="prev" href="([^"]+)"', shown)), back)
        following = re.findall(r'rel="next" href="([^"]+)"', shown)
        address = "/audit/" + unescape(following[0]) if following else ""
    assert [len(page) for page in pages] == [100, 100, 50]
    assert sorted(name for page in pages for name in page) == [f"event-{n:03}" for n in range(250)]
    assert re.findall(r"event-\d{3}", operator.get("/audit/" + unescape(back)).text) == pages[1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("text=FAN", {"fan failed"}),
        ("text=100%25", {"at 100% load"}),
        ("severity=1", {"fan failed"}),
        ("handling=Page_only", {"at 100% load"}),
        ("source=snmptrap", {"at 100% load"}),
        ("hostname=r1&text=fan&span=7d", {"fan failed", "fan old"}),
        ("hostname=r1&text=fan", {"fan failed"}),
        ("before=nonsense", {"fan failed", "at 100% load"}),
    ],
)
def test_the_audit_is_narrowed_by_what_an_event_is(
    operator: FlaskClient, engine: Engine, asked: str, found: set[str]
) -> None:
    """What no index leads to is searched within a span only."""
    now = datetime.now(UTC)
    with transaction(engine) as conn:
        rows = [
            audited("r1", "fan failed", now)._replace(severity=1),
            audited("r2", "at 100% load", now)._replace(handling="Page_only", source="snmptrap"),
            audited("r1", "fan old", now - timedelta(days=2)),
        ]
        audit.copy_rows(conn, rows)
    shown = operator.get(f"/audit/?{asked}").text
    assert {text for text in ("fan failed", "at 100% load", "fan old") if text in shown} == found
    file = operator.get(f"/audit/audit.csv?{asked}").data.decode("utf-8-sig")
    assert {row["message"] for row in csv.DictReader(io.StringIO(file))} == found


def test_alerts_are_narrowed_by_what_became_of_them(operator: FlaskClient, engine: Engine) -> None:
    """Also by what held them back."""
    now = datetime.now(UTC)
    fates = {
        "r1": {"status": "cancelled", "reason": "maintenance:3", "lane": "major", "rule_id": 7},
        "r2": {"status": "cancelled", "reason": "dedup", "team": "Backbone"},
        "r3": {"status": "delivered", "delivered_at": now},
    }
    with transaction(engine) as conn:
        for host, more in fates.items():
            conn.execute(insert(alerts).values(**alert_row(host, now) | {"alert_id": uuid4()} | more))
    asked = {
        "status=held:maintenance": {"r1"},
        "status=held:dedup": {"r2"},
        "status=cancelled": {"r1", "r2"},
        "status=delivered": {"r3"},
        "lane=major": {"r1"},
        "rule_id=7": {"r1"},
        "team=Backbone": {"r2"},
        "hostname=r3": {"r3"},
        "span=1h": {"r1", "r2", "r3"},
        f"until={now - timedelta(hours=1):%Y-%m-%dT%H:%M}": set(),
    }
    for query, found in asked.items():
        shown = operator.get(f"/alerts/?{query}").text
        assert {host for host in fates if f">{host}</a>" in shown} == found, query
    assert "maintenance:3" in operator.get("/alerts/alerts.csv").text


def test_the_history_is_narrowed_and_a_change_undone(operator: FlaskClient, engine: Engine) -> None:
    """After a look at what it would do; the undoing is a change itself, that says what it takes back."""
    given = {"csrf_token": token(operator, "/rules/"), "seen": seen_of(engine, 1), "priority": "33"}
    assert operator.post("/rules/1/priority", data=given).status_code == 302
    (note,) = notes_of(engine)
    shown = operator.get("/history/?who=admin").text
    assert f'id="change-{note.id}"' in shown
    assert ">33</ins>" in shown and "starting rules" not in shown
    for query in (
        "operation=UPDATE",
        "table=alert_rules&record=1",
        f"correlation={note.correlation_id}",
        "span=1h",
    ):
        assert f'id="change-{note.id}"' in operator.get(f"/history/?{query}").text, query
    assert f'id="change-{note.id}"' not in operator.get("/history/?operation=DELETE").text
    look = operator.get(f"/history/{note.id}/undo")
    assert look.status_code == 200 and ">10</ins>" in look.text and rules_of(engine)[1].priority == 33
    sent = {
        "csrf_token": token(operator, f"/history/{note.id}/undo"),
        "reason": "too late",
    }
    assert operator.post(f"/history/{note.id}/undo", data=sent).status_code == 302
    undoing = notes_of(engine)[-1]
    assert rules_of(engine)[1].priority == 10 and (undoing.undoes, undoing.reason) == (note.id, "too late")
    assert f"undone by {undoing.id}" in operator.get("/history/").text
    again = operator.post(f"/history/{note.id}/undo", data=sent)
    assert again.status_code == 422 and 'role="alert"' in again.text
    assert operator.get("/history/999999/undo").status_code == 404


def test_a_part_of_a_page_without_a_session_leads_the_whole_page_to_the_login(
    engine: Engine, database_url: str, operator: FlaskClient
) -> None:
    given = {"csrf_token": token(operator, "/rules/")}
    operator.post("/logout", data=given)
    came_from = {"HX-Current-URL": "http://localhost/rules/?q=x"}
    given = {"csrf_token": token(operator, "/login")}
    answer = operator.post("/rules/1/active", data=given, headers={**IN_PLACE, **came_from})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/rules/?q%3Dx"
