"""Hostile values in every form and address of the admin: never a 500, and an answer that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from mutt import codec, names
from mutt.alert import from_verdict
from mutt.entry import alert_fields
from mutt.event import Envelope, Event, Segment
from mutt.rules.rule import Verdict
from mutt.settings import Settings
from mutt.store import devices, rulebook
from mutt.store.engine import transaction
from mutt.streams.connect import connect
from mutt.web.admin.app import make_admin
from tests.admin_client import filled_in, operator_of, settings_of, token

longer = settings.get_current_profile_name() == "fuzz"
seeded = settings(
    max_examples=2_000 if longer else 60,
    derandomize=not longer,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

#: What a form is answered with: taken, shown again with the reason, gone elsewhere meanwhile.
ANSWERS = {200, 302, 308, 400, 403, 404, 405, 409, 413, 422}

VALUES = [
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff",
    "\uffff",
    "\u202e",
    "ü" * 300,
    "x" * 100_000,
    "-1",
    "0",
    "1",
    "2147483648",
    "1e400",
    "9223372036854775808",
    "9" * 5000,
    "١",
    "NaN",
    "0001-01-01T00:00",
    "0000-01-01T00:00",
    "9999-12-31T23:59:59",
    "10000-01-01T00:00",
    "2026-02-30T00:00",
    "'; DROP TABLE alerts; --",
    "%s%(x)s",
    "<script>",
    "{{ 7 * 7 }}",
    "../..",
    "//evil.example",
    "\\\\evil",
    "(?=x)",
    "(",
    "[" * 2000,
    "a{1000}{1000}",
    "(a*)*b",
    ".*" * 200,
    "*",
    "10.0.0.0/99",
    "::/0",
    "1.3.6..1",
    ".",
    "a=b\na=c",
    "=",
    "\n" * 1000,
    "regex",
    "oid_prefix",
    "Page_only",
    "Ignore",
    "core-*",
]
values = st.one_of(st.sampled_from(VALUES), st.text(max_size=8))

FIELDS = [
    "name",
    "password",
    "match_type",
    "match_string",
    "field",
    "trap_oid",
    "syslog_severity",
    "hostname",
    "source",
    "program",
    "tags",
    "priority",
    "prod_handling",
    "dev_handling",
    "team_assignment",
    "moog_severity",
    "is_active",
    "reason",
    "seen",
    "active",
    "rule_id",
    "since",
    "until",
    "limit",
    "status",
    "table",
    "record",
    "q",
    "search",
    "page",
    "next",
    "csrf_token",
    *("before", "after", "span", "who", "operation", "correlation", "text", "handling", "severity", "lane"),
    *("team", "kind", "host", "order", "scope", "environment", "what", "rule", "take", "check"),
    *("examples", "dedup_window", "threshold_count", "threshold_window", "flap_count", "flap_window"),
]
given_fields = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)

#: The application's own map, without what files are served from.
RULES = [
    rule
    for rule in make_admin(
        Settings.from_env({}, database_url="postgresql://u@127.0.0.1:1/x", admin_password="x")
    ).url_map.iter_rules()
    if "static" not in rule.endpoint and rule.endpoint != "auth.logout"
]


def encoded(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"), safe="")


def address(rule: Any, filled: list[str]) -> str:
    """The rule's path with its blanks filled in."""
    left = iter(filled * 3)
    return re.sub(r"<[^>]+>", lambda _: encoded(next(left)[:300]) or "1", str(rule.rule))


@pytest.fixture
def operator(engine: Engine, database_url: str, redis_url: str) -> FlaskClient:
    with transaction(engine) as conn:
        rulebook.seed(conn)
        devices.put_team(conn, "core-1", "NetOps", changed_by="test")
        devices.set_hosts(conn, ["lab-*"], changed_by="test")
    return operator_of(engine, database_url, redis_url=redis_url)


@seeded
@given(rule=st.sampled_from(RULES), filled=st.lists(values, min_size=1, max_size=2), fields=given_fields)
@example(rule=next(rule for rule in RULES if "audit" in rule.rule), filled=["1"], fields={"hostname": "a\0b"})
def test_no_address_of_the_admin_answers_with_a_500(
    operator: FlaskClient, rule: Any, filled: list[str], fields: dict[str, str]
) -> None:
    asked = urlencode({name: value.encode("utf-8", "surrogatepass") for name, value in fields.items()})
    response = operator.get(f"{address(rule, filled)}?{asked}")
    assert response.status_code in ANSWERS or rule.rule == "/readyz", response.text
    said_why(response)


#: The lists, with what narrows each.
LISTS = {
    "/rules/": ("q", "match_type", "team", "handling", "environment", "active", "scope", "order", "page"),
    "/hosts/": ("q", "kind", "host", "page"),
    "/teams/": ("q", "kind", "host", "page"),
    "/audit/": ("hostname", "text", "span", "source", "before", "after", "severity"),
    "/alerts/": ("hostname", "team", "span", "before", "after"),
    "/history/": ("who", "table", "record", "correlation", "before", "span"),
}


@pytest.mark.parametrize("page", LISTS)
def test_whatever_a_list_is_asked_for_it_answers(operator: FlaskClient, page: str) -> None:
    """Each hostile value in all its filters, and in the first alone: what can't be chosen or looked for is any."""
    for value in VALUES:
        for asked_for in (LISTS[page], LISTS[page][:1]):
            asked = urlencode({name: value.encode("utf-8", "surrogatepass") for name in asked_for})
            assert operator.get(f"{page}?{asked}").status_code == 200, asked[:200]


@seeded
@given(
    rule=st.sampled_from([rule for rule in RULES if "POST" in rule.methods]),
    known=st.booleans(),
    fields=given_fields,
    filled=st.lists(values, min_size=1, max_size=2),
)
def test_no_form_of_the_admin_answers_with_a_500(
    operator: FlaskClient, rule: Any, known: bool, fields: dict[str, str], filled: list[str]
) -> None:
    told = {"csrf_token": token(operator, "/rules/new"), **fields}
    page = address(rule, ["1"] if known else filled)
    data = urlencode({name: value.encode("utf-8", "surrogatepass") for name, value in told.items()})
    response = operator.post(page, data=data, content_type="application/x-www-form-urlencoded")
    assert response.status_code in ANSWERS, response.text
    said_why(response)


#: The fields of the forms of a letter's copy.
OF_A_LETTER = [
    "hostname",
    "message",
    "description",
    "severity",
    "state",
    "occurred_at",
    "source",
    "facility",
    "program",
    "trap_oid",
    "instance",
    "clear_key",
    "varbinds",
    "tags",
    "raw",
    "team",
    "type",
    "text",
    "format",
    "keep",
    "reason",
    "seen",
    "group",
    "what",
]


@pytest.fixture
def letter(redis_url: str) -> Callable[[str], str]:
    """Puts one letter into a queue, and tells its id."""
    at = datetime.now(UTC)
    plain = {
        "event_id": uuid4(),
        "received_at": at,
        "occurred_at": at,
        "raw": "CRITICAL fan",
        "source": "json",
    }
    parked = Event(hostname="core-1", message="CRITICAL fan", tags={"site": "lon1"}, severity=3, **plain)
    verdict = Verdict(
        rule_id=1,
        handling="Page_only",
        forward=True,
        environment="production",
        team="NetOps",
        moog_severity=3,
        why="a rule",
    )
    alert = from_verdict(parked, verdict, correlation_id="c", rule_name="r")
    held = {
        "alerts": codec.encode(Envelope([Segment("b", "c", [parked])]))[0],
        "moog": alert_fields(alert, 1)["fields"],
        "ingest": ["v", "json", "n", 1, "id", "k", "d", b'{"index":0,"raw":"{\\"message\\":\\"m\\"}"}'],
    }
    client = connect(redis_url)

    def put(queue: str) -> str:
        fields = [*held[queue], "why", b'{"reason":"refused","detail":"why","moog_status":400}']
        told = dict(zip(fields[::2], fields[1::2], strict=True))
        return str(client.xadd(names.DLQS[queue], told).decode())

    return put


@seeded
@given(
    queue=st.sampled_from(list(names.DLQS)),
    # A trial starts a process: one among many.
    action=st.sampled_from(["edit"] * 8 + ["replay", "drop", "all", "stop", "try"]),
    fields=st.dictionaries(st.sampled_from(OF_A_LETTER), values, max_size=5),
)
def test_no_form_of_a_letter_answers_with_a_500(
    operator: FlaskClient, letter: Callable[[str], str], queue: str, action: str, fields: dict[str, str]
) -> None:
    page = f"/letters/{queue}/{letter(queue)}"
    shown = operator.get(f"{page}/edit" if action == "edit" else page)
    assert shown.status_code == 200, shown.text
    data = urlencode(
        {
            name: value.encode("utf-8", "surrogatepass")
            for name, value in {**filled_in(shown.text), **fields}.items()
        }
    )
    target = f"/letters/{queue}/{action}" if action in ("all", "stop") else f"{page}/{action}"
    response = operator.post(target, data=data, content_type="application/x-www-form-urlencoded")
    assert response.status_code in ANSWERS - {404, 405}, response.text
    said_why(response)


def said_why(response: Any) -> None:
    """A refusal is a page with a sentence, and hostile text never is markup."""
    if response.status_code >= 400 and response.mimetype == "text/html":
        assert re.search(r'class="[^"]*(error|refus|fault|problem|sorry)|<p[ >]', response.text), (
            response.text
        )
    assert "<script>" not in response.text


def test_a_form_that_ends_before_its_length_is_a_400(operator: FlaskClient) -> None:
    form = urlencode(
        {"csrf_token": token(operator, "/teams/new"), "hostname": "core-1", "team_assignment": "Core"}
    )
    cut = {"CONTENT_LENGTH": str(len(form) + 1), "wsgi.input_terminated": True}
    kind = "application/x-www-form-urlencoded"
    response = operator.post("/teams/new", data=form, content_type=kind, environ_overrides=cut)
    assert response.status_code == 400


@pytest.fixture
def stranger(engine: Engine, database_url: str) -> FlaskClient:
    """A browser in which nobody is logged in."""
    return make_admin(settings_of(database_url), engine).test_client()


@seeded
@given(fields=st.dictionaries(st.sampled_from(["name", "password", "csrf_token", "next"]), values))
def test_no_login_answers_with_a_500_or_lets_anybody_in(
    stranger: FlaskClient, fields: dict[str, str]
) -> None:
    told = {"csrf_token": token(stranger, "/login"), **fields}
    data = urlencode({name: value.encode("utf-8", "surrogatepass") for name, value in told.items()})
    page = "/login?next=" + encoded(fields.get("next", ""))
    response = stranger.post(page, data=data, content_type="application/x-www-form-urlencoded")
    assert response.status_code in (400, 403, 429)
