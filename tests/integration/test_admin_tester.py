"""Test before save: what the form holds, tried on events, with nothing written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from mutt.rules.evaluate import evaluate
from mutt.source import Source
from mutt.store import keys, rulebook
from tests.admin_client import filled_in, operator_of, token
from tests.bench import Bench, benches, event
from tests.integration.test_explain import BY, judged

HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}'


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


@pytest.fixture
def operator(bench: Bench, database_url: str) -> FlaskClient:
    return operator_of(bench.services.engine, database_url)


def tried(operator: FlaskClient, page: str = "/rules/new", **fields: Any) -> TestResponse:
    """What the rule's form sends when something in it changes."""
    given = filled_in(operator.get(page).text) | fields
    return operator.post("/rules/test", data=given, headers={"HX-Request": "true"})


def words(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_a_draft_says_what_it_matches_marks_it_and_writes_nothing(
    bench: Bench, operator: FlaskClient
) -> None:
    with bench.sql() as conn:
        before = rulebook.current_version(conn)
    page = tried(
        operator, match_string="fan", priority="1", prod_handling="Ticket_only", team_assignment="Cooling",
        events="Fan 2 failed, FAN 3 too\nCRITICAL disk",
    )  # fmt: skip
    assert page.status_code == 200
    assert "<html" not in page.text
    assert page.text.count("<mark>") == 2 and "<mark>Fan</mark>" in page.text
    told = words(page.text)
    assert "Of 2 events this rule matches 1 and decides 1 ." in told
    assert "handling: Unhandled Ticket_only" in told and "team: NETO Cooling" in told
    assert "Rule 1 CRITICAL decides" in told
    with bench.sql() as conn:
        assert rulebook.current_version(conn) == before
        assert len(rulebook.list_rules(conn)) == 5


def test_a_draft_that_comes_too_late_says_which_rule_is_before_it(operator: FlaskClient) -> None:
    told = words(tried(operator, match_string="disk", priority="99", events="CRITICAL disk").text)
    assert "matches 1 and decides 0" in told
    assert "It matches too, but rule 1 CRITICAL comes before it (a lower priority number)" in told


def test_a_changed_rule_stands_in_its_own_place(operator: FlaskClient) -> None:
    told = words(
        tried(
            operator, "/rules/1", rule_id="1", match_string="disk", events="CRITICAL fan\ncritical disk"
        ).text
    )
    assert "matches 1 and decides 1" in told
    assert "rule: 1 CRITICAL none" in told and "handling: Page_and_ticket Unhandled" in told


def test_the_fault_of_a_draft_names_its_field(operator: FlaskClient) -> None:
    for fields, label in (
        ({"match_type": "regex", "match_string": "(?=x)"}, "Text"),
        ({"match_string": ""}, "Text"),
        ({"match_string": "x", "tags": "nonsense"}, "Tags"),
        ({"match_string": "x", "hostname": "10.0.0.0/99"}, "Host"),
    ):
        page = tried(operator, events="x", **fields)
        assert page.status_code == 422
        assert f'<p class="error" role="alert">{label}: ' in page.text


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("<187>Mar  4 09:15:00 core-1 %LINK-3-UPDOWN: needle", ["core-1"]),
        ("a needle\nno host\nneedle again", ["example"] * 3),
        ('{"hostname": "a", "message": "needle"}\n{"hostname": "b", "message": "m"}', ["a", "b"]),
        ('[{"hostname": "a", "message": "needle"}]', ["a"]),
        (orjson.dumps({"version": "2c", "source_ip": "10.9.8.7", "trap_oid": "1.3.6.1.6.3.1.1.5.3",
                       "varbinds": [{"oid": "1.3", "type": "STRING", "value": "needle"}]}).decode(), ["10.9.8.7"]),
    ],
)  # fmt: skip
def test_events_are_read_as_ingest_reads_them(operator: FlaskClient, text: str, hosts: list[str]) -> None:
    page = tried(operator, match_string="needle", events=text)
    assert re.findall(r'<p><strong class="text">([^<]*)</strong>', page.text) == hosts
    assert "<mark>needle</mark>" in page.text


def test_what_can_not_be_read_is_said(operator: FlaskClient) -> None:
    assert "hostname is missing" in tried(operator, match_string="x", events='{"message": "x"}').text
    assert "at most" in tried(operator, match_string="x", events="x" * 300_000).text
    assert "is no event id" in tried(operator, match_string="x", event_ids="seven").text
    many_lines = tried(operator, match_string="x", events="x\n" * 80).text
    assert "Only the first 50 of 80 events" in many_lines and many_lines.count('<li class="card">') == 50
    assert "Paste events" in tried(operator, match_string="x").text


def test_audited_events_are_picked_by_id_or_by_host(bench: Bench, operator: FlaskClient) -> None:
    events = [event(f"fan {n}", "fan-1", program="p") for n in range(25)]
    judged(bench, *events)
    by_id = tried(
        operator, match_string="fan", program="P", event_ids=f"{events[3].event_id}, {events[4].event_id}"
    )
    assert "Of 2 events this rule matches 2" in words(by_id.text)
    by_host = words(tried(operator, match_string="fan", recent_host="fan-1").text)
    assert "Of 20 events this rule matches 20" in by_host and "fan 24" in by_host
    assert "no event of host" in tried(operator, match_string="fan", recent_host="nobody").text


def test_a_draft_that_is_off_is_tried_as_if_it_were_on(operator: FlaskClient) -> None:
    given = filled_in(operator.get("/rules/new").text) | {
        "match_string": "fan",
        "events": "fan",
        "priority": "1",
    }
    given.pop("is_active")
    page = operator.post("/rules/test", data=given, headers={"HX-Request": "1"})
    assert "matches 1 and decides 1 , if it were switched on" in words(page.text)


def test_without_script_the_page_keeps_the_draft_for_the_next_try(operator: FlaskClient) -> None:
    given = filled_in(operator.get("/rules/new").text) | {
        "match_string": "f\r\nan",
        "events": "f\r\nan",
        "tags": "a=b",
    }
    page = operator.post("/rules/test", data=given)
    assert page.status_code == 200 and "<html" in page.text
    again = filled_in(page.text)
    assert again["match_type"] == "contains" and again["tags"] == "a=b" and again["events"] == "f\r\nan"
    assert operator.post("/rules/test", data=again).status_code == 200


def test_the_page_alone_shows_what_the_rules_make_of_events(bench: Bench, operator: FlaskClient) -> None:
    told = event("CRITICAL x")
    judged(bench, told)
    page = operator.get(f"/rules/test?event_ids={told.event_id}")
    assert page.status_code == 200 and "<mark>CRITICAL</mark>" in page.text
    of_rule = operator.get(f"/rules/test?event_ids={told.event_id}&rule_id=2")
    assert "this rule matches 0 and decides 0" in words(of_rule.text).replace("  ", " ")
    assert operator.get("/rules/test?rule_id=99").status_code == 422
    assert operator.get("/rules/test?rule_id=x").status_code == 422


def test_it_takes_a_token_and_a_login(bench: Bench, operator: FlaskClient) -> None:
    assert operator.post("/rules/test", data={"events": "x"}).status_code == 400
    given = {"events": "CRITICAL x", "csrf_token": token(operator, "/rules/new")}
    assert operator.post("/rules/test", data=given).status_code == 200
    operator.post("/logout", data={"csrf_token": given["csrf_token"]})
    assert operator.get("/rules/test").status_code in (302, 401)


def test_what_is_pasted_is_text(operator: FlaskClient) -> None:
    page = tried(
        operator, match_string="x", name=HOSTILE, priority="1", events=HOSTILE, hostname=HOSTILE[:20]
    )
    assert "<script>alert" not in page.text


def test_the_answer_is_what_saving_would_do(bench: Bench, operator: FlaskClient) -> None:
    given = {
        "match_string": "disk",
        "priority": "10",
        "prod_handling": "Page_only",
        "team_assignment": "Disks",
    }
    told = words(tried(operator, events="ERROR disk\nCRITICAL disk", **given).text)
    with bench.sql() as conn:
        rulebook.save_rule(conn, given, **BY)
        ruleset = rulebook.load(conn, "NETO")
    for one in (event("ERROR disk"), event("CRITICAL disk")):
        assert f"{evaluate(one, ruleset).handling}, team {evaluate(one, ruleset).team}" in told


def test_pasted_events_are_read_and_judged_as_sent_with_a_key(bench: Bench, operator: FlaskClient) -> None:
    """By its mapping and its defaults; of a key that is not there nothing is known, and the page says so."""
    source = Source(mapping="{hostname: h, message: m}", team="Web", environment="development")
    with bench.sql() as conn:
        keys.make(conn, "billing", ["ingest"], **BY)
        keys.describe(conn, "billing", source, **BY)
    sent = {"events": '{"h": "w1", "m": "nobody knows"}'}
    told = words(tried(operator, match_string="fan", sent_with="billing", **sent).text)
    assert "Unhandled, team Web , development" in told
    for nobody in ("nobody", "No Name", "\0"):
        told = words(tried(operator, match_string="fan", sent_with=nobody, **sent).text)
        assert "can't be taken: hostname is missing" in told or "Unhandled" not in told
    assert "There is no key of the name nobody" in words(tried(operator, sent_with="nobody", **sent).text)
