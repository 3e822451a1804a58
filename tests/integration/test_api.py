"""The management API does what the admin's pages do, and refuses what they refuse, naming the field."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from mutt.settings import Settings
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.store.tables import config_audit_log
from mutt.web.admin.app import make_admin
from mutt.web.api import wire
from mutt.web.api.holders import KEY_NAME
from mutt.web.problem import TYPE
from tests.admin_client import log_in, settings_of, token

KEY, INGEST_KEY = "management-5e1f", "ingest-77aa"

WINDOW = {
    "name": "w",
    "owner": "o",
    "hostname": "core-*",
    "starts_at": "2026-01-01T00:00:00Z",
    "ends_at": "2026-01-01T01:00:00Z",
}
RULE = {"name": "BGP", "match_type": "contains", "match_string": "BGP-5", "team_assignment": "Backbone"}


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    keys = {"management_api_key": KEY, "ingest_api_key": INGEST_KEY, "redis_url": redis_url}
    return make_admin(settings_of(database_url, **keys), engine)


class Api:
    """A script with a key, at one version of the API."""

    def __init__(self, app: Flask, version: str = "v2", key: str = KEY) -> None:
        self._client, self._at, self._key = app.test_client(), f"/api/{version}", key

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        given = {"X-API-KEY": self._key} | {name.replace("_", "-"): text for name, text in headers.items()}
        more = {} if body is None else {"json": body}
        return self._client.open(self._at + path, method=method, headers=given, **more)


@pytest.fixture
def api(app: Flask) -> Api:
    return Api(app)


def is_problem(response: TestResponse, status: int) -> Any:
    told = response.get_json(force=True)
    assert (response.status_code, response.mimetype, told.get("status")) == (status, TYPE, status), told
    return told


def notes(engine: Engine) -> list[Any]:
    with transaction(engine) as conn:
        query = select(config_audit_log).where(config_audit_log.c.changed_by == KEY_NAME).order_by("id")
        return list(conn.execute(query))


def version_of(engine: Engine) -> int:
    with transaction(engine) as conn:
        return rulebook.current_version(conn)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_calls_that_a_user_of_the_earlier_build_makes_are_answered(app: Flask, version: str) -> None:
    """Their scripts go on, in v1 as in v2."""
    api = Api(app, version)
    made = api(
        "POST", "/rules", RULE | {"priority": 7, "prod_handling": "Page_and_ticket", "dev_handling": "Ignore"}
    )
    assert made.status_code == 201
    rule = made.get_json()
    one = f"/rules/{rule['id']}"
    assert made.headers["Location"].endswith(one)
    assert (rule["match_string"], rule["priority"], rule["is_active"]) == ("BGP-5", 7, True)
    assert api("GET", one).get_json() == rule
    listed = api("GET", "/rules").get_json()
    assert rule in listed["rules"]
    assert listed["pagination"]["total"] == len(listed["rules"])
    assert api("PUT", one, RULE | {"priority": 9}).get_json()["priority"] == 9
    assert api("DELETE", one).status_code == 200
    assert api("POST", "/dev-hosts", {"hostname": "lab-1"}).status_code == 201
    assert {"hostname": "lab-1"} in api("GET", "/dev-hosts").get_json()["hosts"]
    assert api("DELETE", "/dev-hosts/lab-1").status_code == 200
    assert api("POST", "/teams", {"hostname": "core-1", "team_assignment": "Core"}).status_code == 201
    assert api("GET", "/teams/core-1").get_json()["team_assignment"] == "Core"
    assert api("DELETE", "/teams/core-1").status_code == 200
    query = "page=1&limit=10&hostname=h&rule_id=1&start_date=2026-01-01&end_date=2026-01-02"
    logs = api("GET", f"/audit-logs?{query}").get_json()
    assert logs["logs"] == []
    assert {"page", "limit", "total", "pages"} <= logs["pagination"].keys()
    changes = api("GET", "/audit?table_name=device_teams&operation=DELETE&changed_by=api").get_json()[
        "changes"
    ]
    assert [change["record_id"] for change in changes] == ["core-1"]
    for path in ("/metrics", "/config", "/slo", "/version"):
        answer = api("GET", path)
        assert answer.status_code == 200
        assert answer.headers["X-API-Version"] == version
        assert answer.headers["X-API-Supported-Versions"] == "v1, v2"


def test_a_change_is_noted_with_who_why_and_in_which_request(api: Api, engine: Engine) -> None:
    """The history says of a script's change what it says of a person's."""
    before = version_of(engine)
    api("POST", "/rules", RULE, X_Change_Reason="ticket 7", X_Correlation_ID="run-1")
    (note,) = notes(engine)
    assert (note.operation, note.reason, note.correlation_id) == ("CREATE", "ticket 7", "run-1")
    assert version_of(engine) == before + 1


def test_the_same_put_twice_is_one_change(api: Api, engine: Engine) -> None:
    """A PUT may be sent again."""
    one = f"/rules/{api('POST', '/rules', RULE).get_json()['id']}"
    first = api("PUT", one, RULE | {"priority": 3})
    again = api("PUT", one, RULE | {"priority": 3})
    assert (first.get_json(), first.headers["ETag"]) == (again.get_json(), again.headers["ETag"])
    assert [note.operation for note in notes(engine)] == ["CREATE", "UPDATE"]
    for _ in range(2):
        assert api("PUT", "/teams/core-1", {"team_assignment": "Core"}).status_code == 200
        assert api("PUT", "/dev-hosts/lab-1").status_code == 200
    assert len(notes(engine)) == 4


def test_of_two_writers_who_read_the_same_one_is_refused_and_sees_what_stands(
    app: Flask, engine: Engine
) -> None:
    """No change is lost without its writer being told."""
    made = Api(app)("POST", "/rules", RULE)
    one, etag = f"/rules/{made.get_json()['id']}", made.headers["ETag"]

    def write(priority: int) -> TestResponse:
        return Api(app)("PATCH", one, {"priority": priority}, If_Match=etag)

    with ThreadPoolExecutor(2) as pool:
        good, late = sorted(pool.map(write, (1, 2)), key=lambda answer: answer.status_code)
    assert good.status_code == 200
    told = is_problem(late, 412)
    assert told["stands"] == good.get_json()
    assert late.headers["ETag"] == good.headers["ETag"]
    is_problem(Api(app)("DELETE", one, If_Match=etag), 412)
    assert Api(app)("DELETE", one, If_Match=good.headers["ETag"]).status_code == 200
    assert [note.operation for note in notes(engine)] == ["CREATE", "UPDATE", "DELETE"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/maintenance-windows", WINDOW),
        ("/teams", {"hostname": "core-1", "team_assignment": "Core"}),
    ],
)  # fmt: skip
def test_what_was_changed_since_it_was_read_is_not_deleted(api: Api, path: str, body: Any) -> None:
    made = api("POST", path, body)
    assert made.status_code == 201, made.get_json()
    one = f"{path}/{made.get_json().get('id', 'core-1')}"
    change = {"team_assignment": "Other"} if path == "/teams" else body | {"owner": "p"}
    assert api("PUT", one, change, If_Match=made.headers["ETag"]).status_code == 200
    is_problem(api("DELETE", one, If_Match=made.headers["ETag"]), 412)
    assert api("DELETE", one, If_Match=api("GET", one).headers["ETag"]).status_code == 200
    is_problem(api("GET", one), 404)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rules", RULE),
        ("/maintenance-windows", WINDOW),
        ("/storm-policies", {"name": "s", "group_by": "host", "alert_count": 9, "alert_window": 60}),
        ("/redactions", {"name": "r", "pattern": r"password=\S+", "replacement": ""}),
        ("/teams", {"hostname": "core-1", "team_assignment": "Core"}),
    ],
)
def test_what_was_read_may_be_sent_back_as_it_came(api: Api, path: str, body: Any) -> None:
    """Read, change a field, write: and one of several ETags that were seen is enough."""
    made = api("POST", path, body).get_json()
    one = f"{path}/{made.get('id', 'core-1')}"
    read = api("GET", one)
    same = api("PUT", one, read.get_json(), If_Match=f'"other", {read.headers["ETag"]}')
    assert (same.status_code, same.get_json()) == (200, read.get_json())


def test_redactions_are_tried_on_a_text(api: Api) -> None:
    """Those in force, or the one that is given; a field at fault is named with its place."""
    made = api("POST", "/redactions", {"name": "r", "pattern": r"(password)=\S+", "replacement": r"\1=x"})
    assert made.status_code == 201, made.get_json()
    found = api("POST", "/redactions/test", {"text": '{"password": "abc"}'}).get_json()
    taken = [{"redaction": "r", "was": "abc", "becomes": "x"}]
    assert found == {"text": '{"password": "x"}', "taken": taken}
    draft = {"text": "abc", "redaction": {"pattern": "b", "replacement": ""}}
    assert api("POST", "/redactions/test", draft).get_json()["text"] == "ac"
    for body, field in (
        ({}, "text"),
        ({"text": 1}, "text"),
        ({"text": "a", "redaction": []}, "redaction"),
        ({"text": "a", "redaction": {"pattern": "("}}, "redaction.pattern"),
        ({"text": "a", "more": 1}, "more"),
    ):
        assert is_problem(api("POST", "/redactions/test", body), 422)["field"] == field


def test_a_rule_is_not_given_another_number(api: Api) -> None:
    one = api("POST", "/rules", RULE).headers["Location"].removeprefix("/api/v2")
    assert is_problem(api("PATCH", one, {"id": 4711}), 422)["field"] == "id"


def test_a_device_is_the_one_that_is_kept_however_its_name_is_written(api: Api) -> None:
    """Blanks around a name are no part of it: nor for who asks whether it has a team."""
    assert api("PUT", "/teams/core-1", {"team_assignment": "Core"}).status_code == 200
    late = api("PUT", "/teams/%20core-1", {"team_assignment": "Other"}, If_Match='"none"')
    assert is_problem(late, 412)["stands"] == {"hostname": "core-1", "team_assignment": "Core"}
    for path in ("/teams/core-1%20", "/dev-hosts/core-1%20"):
        assert api("PUT", path, {"team_assignment": "Core"} if "teams" in path else None).status_code == 200
        assert api("GET", path).get_json()["hostname"] == "core-1"
        assert api("DELETE", path).status_code == 200
    for name in ("team_assignment", "hostname"):
        given = {"hostname": "core-1", "team_assignment": "Core"} | {name: "x" * 256}
        assert is_problem(api("POST", "/teams", given), 422)["field"] == name


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"match_type": "regex", "match_string": "("}, "match_string"),
        ({"prod_handling": "Pagee"}, "prod_handling"),
        ({"priority": "soon"}, "priority"),
        ({"matchstring": "x"}, "matchstring"),
        ({"name": "a\0b"}, "name"),
        ({"tags": [1]}, "tags"),
    ],
)
def test_a_refused_rule_names_its_field_and_leaves_no_trace(
    api: Api, engine: Engine, change: Any, field: str
) -> None:
    before = version_of(engine)
    assert is_problem(api("POST", "/rules", RULE | change), 422)["field"] == field
    assert (version_of(engine), notes(engine)) == (before, [])


def test_an_unknown_field_is_told_the_nearest_known_one(api: Api) -> None:
    assert "match_string" in is_problem(api("POST", "/rules", RULE | {"matchstring": "x"}), 422)["reason"]
    assert "team_assignment" in is_problem(api("PUT", "/teams/a", {"team_asignment": "x"}), 422)["reason"]
    assert "limit" in is_problem(api("GET", "/rules?limt=3"), 422)["reason"]


@pytest.mark.parametrize(
    ("data", "type_", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * (5 << 20) + b'"', "application/json", 413),
    ],
)
def test_a_hostile_body_is_refused(app: Flask, data: bytes, type_: str, status: int) -> None:
    asked = app.test_client().post("/api/v2/rules", data=data, content_type=type_, headers={"X-API-KEY": KEY})
    is_problem(asked, status)


def test_what_is_not_there_is_a_problem_too(api: Api) -> None:
    """A script never has to read a page."""
    is_problem(api("GET", "/rules/999999"), 404)
    is_problem(api("GET", "/no-such-thing"), 404)
    is_problem(api("GET", f"/rules/{10**30}"), 404)
    assert is_problem(api("DELETE", "/rules"), 405)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-KEY": "wrong"}, 401),
        ({"X-API-KEY": "schlüssel"}, 401),
        ({"X-API-KEY": INGEST_KEY}, 403),
        ({"Authorization": f"Bearer {INGEST_KEY}"}, 403),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"X-API-KEY": KEY}, 200),
    ],
)
def test_only_the_management_key_may_manage(
    app: Flask, caplog: pytest.LogCaptureFixture, headers: dict[str, str], status: int
) -> None:
    answer = app.test_client().get("/api/v2/rules", headers=headers)
    assert answer.status_code == status
    for key in (KEY, INGEST_KEY):
        assert key not in answer.text + str(answer.headers) + caplog.text


def test_without_a_key_in_the_settings_the_answer_says_how_to_set_it(
    engine: Engine, database_url: str
) -> None:
    app = make_admin(settings_of(database_url), engine)
    for key in ("", "x"):
        answer = app.test_client().get("/api/v2/rules", headers={"X-API-KEY": key})
        assert answer.status_code in (401, 503)
    assert "MANAGEMENT_API_KEY" in is_problem(answer, 503)["detail"]


def test_a_session_may_read_and_changes_only_with_its_token(app: Flask, engine: Engine) -> None:
    """Another site can't make the browser of somebody who is logged in change anything."""
    client = app.test_client()
    log_in(client)
    assert client.get("/api/v2/rules").status_code == 200
    is_problem(client.post("/api/v2/rules", json=RULE), 400)
    good = {"X-CSRFToken": token(client, "/rules/new")}
    assert client.post("/api/v2/rules", json=RULE, headers=good).status_code == 201
    is_problem(client.post("/api/v2/rules", json=RULE, headers={**good, "X-API-KEY": "wrong"}), 401)


def test_no_secret_is_shown_among_the_settings(api: Api) -> None:
    answer = api("GET", "/config")
    shown = {one["name"]: one for one in answer.get_json()["settings"]}
    for name in ("MANAGEMENT_API_KEY", "INGEST_API_KEY", "ADMIN_PASSWORD"):
        assert (shown[name]["value"], shown[name]["is_set"]) == (None, True)
    assert KEY not in answer.text
    assert "correct horse" not in answer.text


def test_no_address_of_a_server_shows_its_password(engine: Engine, database_url: str, redis_url: str) -> None:
    more = {"redis_url": "redis://:hunter2@127.0.0.1:1/0", "management_api_key": KEY}
    more |= {"moog_url": "https://ann:hunter2@moog.example:8443/events?apiKey=hunter2"}
    more |= {"flower_url": "http://ann:hunter2@127.0.0.1:5555"}
    app = make_admin(settings_of(database_url, **more), engine)
    answer = Api(app)("GET", "/config")
    assert "hunter2" not in answer.text
    shown = {one["name"]: one["value"] for one in answer.get_json()["settings"]}
    assert shown["MOOG_URL"] == "https://moog.example:8443/events"


def test_a_plan_changes_nothing_and_is_applied_whole_or_not(api: Api, engine: Engine) -> None:
    ruleset = {"rules": [RULE], "development_hosts": ["lab-1"]}
    before = version_of(engine)
    plan = api("POST", "/rules/plan", {"ruleset": ruleset}).get_json()
    assert version_of(engine) == before == plan["version"]
    done = api("POST", "/rules/apply", {"ruleset": ruleset, "version": plan["version"]})
    assert done.status_code == 200
    assert [one["name"] for one in done.get_json()["changes"]] == [one["name"] for one in plan["changes"]]
    assert version_of(engine) == before + 1
    late = api(
        "POST", "/rules/apply", {"ruleset": {"rules": [RULE]}, "replace": True, "version": plan["version"]}
    )
    assert is_problem(late, 409)["field"] == "version"
    bad = {"rules": [RULE | {"priority": "x"}]}
    assert is_problem(api("POST", "/rules/apply", {"ruleset": bad}), 422)["field"] == "ruleset.priority"


def test_a_version_is_shown_compared_and_restored(api: Api, engine: Engine) -> None:
    before = version_of(engine)
    api("POST", "/rules", RULE)
    after = version_of(engine)
    assert api("GET", "/versions").get_json()["versions"][0]["version"] == after
    (change,) = api("GET", f"/versions/{before}/compare/{after}").get_json()["changes"]
    assert (change["operation"], change["name"]) == ("CREATE", "BGP")
    assert api("POST", f"/versions/{before}/restore").status_code == 200
    assert "BGP" not in api("GET", "/rules").text
    whole = api("GET", f"/versions/{after}").get_json()["ruleset"]
    assert "BGP" in [rule["name"] for rule in whole["rules"]]


def test_a_draft_is_tried_on_events(api: Api, engine: Engine) -> None:
    """What matches, which rule decides, and what would change; nothing is saved."""
    before = version_of(engine)
    events = [{"hostname": "core-1", "message": "BGP-5 down"}, {"hostname": "core-1", "message": "all well"}]
    tested = api("POST", "/rules/test", {"rule": RULE, "events": events}).get_json()["tested"]
    assert [one["matches"] for one in tested] == [True, False]
    assert tested[0]["after"]["team"] == "Backbone"
    assert version_of(engine) == before
    assert is_problem(api("POST", "/rules/test", {"rule": RULE, "events": [{}]}), 422)["field"].startswith(
        "events.0"
    )
    assert api("POST", "/rules/test", {"events": "<11>Oct 11 22:14:15 h su: CRITICAL"}).status_code == 200


def test_dead_letters_are_counted_and_findings_told(api: Api) -> None:
    assert api("GET", "/dead-letters").get_json() == {"queues": {"ingest": 0, "alerts": 0, "moog": 0}}
    assert api("GET", "/rules/lint").status_code == 200
    assert api("GET", "/backtests").get_json() == {"backtests": []}


def test_a_backtest_is_asked_for_looked_at_and_ended(api: Api) -> None:
    asked = api("POST", "/backtests", {"rule": RULE})
    assert asked.status_code == 202, asked.get_json()
    one = f"/backtests/{asked.get_json()['id']}"
    assert api("GET", one).status_code == 200
    assert api("POST", f"{one}/cancel").status_code == 200
    is_problem(api("GET", "/backtests/01890a5d-ac96-774b-bcce-b302099a8057"), 404)


def test_scripts_side_by_side_wait_for_their_turn(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages keep threads of their own."""
    monkeypatch.setattr(wire, "TURN_WAIT", 0.01)
    for _ in range(wire.AT_ONCE):
        assert wire._turns.acquire(timeout=5)
    try:
        assert is_problem(api("GET", "/rules"), 429)
    finally:
        wire._turns.release(wire.AT_ONCE)
    assert api("GET", "/rules").status_code == 200


def test_an_admin_without_its_servers_starts_and_says_what_is_missing() -> None:
    """No setting of a server is needed before it is asked."""
    app = make_admin(Settings.from_env({}, management_api_key=KEY))
    assert "DATABASE_URL" in is_problem(Api(app)("GET", "/rules"), 503)["detail"]


def test_a_login_of_a_proxy_in_front_is_no_key_for_who_is_logged_in(app: Flask) -> None:
    """A browser shows it beside the session; a script without a session still shows its key by Basic."""
    client = app.test_client()
    assert client.get("/api/v2/rules", auth=("proxy", "its password")).status_code == 401
    assert client.get("/api/v2/rules", auth=("x", KEY)).status_code == 200
    log_in(client)
    assert client.get("/api/v2/rules", auth=("proxy", "its password")).status_code == 200
