"""Roles: who may do what. The whole table stands here: an address that it does not name fails the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.store.users import Role
from mutt.web import roles
from mutt.web.admin.app import make_admin
from tests.admin_client import log_in, notes_of, settings_of, token
from tests.people import everybody

#: What needs no login, and why that is no harm: health, the login itself, files that hold nothing of the user's.
OPEN = """
GET /healthz, GET /readyz
GET /login, POST /login, POST /logout
GET /static/<path:filename>, GET /static/admin/<path:filename>, GET /favicon.ico
GET /api/docs, GET /api/openapi.json, GET /api/<version>/openapi.json
"""

#: Reading, but for secrets and people; what is everybody's own.
VIEWER = """
GET /, GET /pipeline/events, GET /pipeline/hour, GET /runbook/
GET /rules/, GET /rules/badges, GET /rules/<int:rule_id>, GET /rules/rules.csv, GET /rules/lint/
GET /maintenance/, GET /maintenance/<int:window_id>
GET /maintenance/receipts, GET /maintenance/receipts/<int:receipt_id>
GET /storms/, GET /storms/<int:policy_id>
GET /redactions/, GET /redactions/<int:redaction_id>
GET /backtests/, GET /backtests/new, GET /backtests/<uuid:job_id>, GET /backtests/<uuid:job_id>/state
GET /shadow/, GET /shadow/<int:shadow_id>
GET /versions/, GET /versions/<int:version>, GET /versions/<int:version>.yaml, GET /versions/compare
GET /hosts/, GET /hosts/hosts.csv, GET /teams/, GET /teams/teams.csv
GET /audit/export, GET /audit/export/<uuid:job_id>/<kind>, GET /audit/export/<uuid:job_id>/state
GET /audit/, GET /audit/audit.csv, GET /audit/<uuid:event_id>, GET /audit/find
GET /alerts/, GET /alerts/alerts.csv, GET /alerts/<uuid:alert_id>
GET /sources/, GET /sources/<source_name>
GET /letters/, GET /letters/<queue>/, GET /letters/<queue>/<id_>
GET /history/
GET /profile/, POST /profile/password, POST /profile/end
GET /api/<version>/rules, GET /api/<version>/rules/<int:rule_id>, GET /api/<version>/rules/lint
GET /api/<version>/dev-hosts, GET /api/<version>/dev-hosts/<path:hostname>
GET /api/<version>/teams, GET /api/<version>/teams/<path:hostname>
GET /api/<version>/maintenance-windows, GET /api/<version>/maintenance-windows/<int:id_>
GET /api/<version>/storm-policies, GET /api/<version>/storm-policies/<int:id_>
GET /api/<version>/redactions, GET /api/<version>/redactions/<int:id_>
GET /api/<version>/versions, GET /api/<version>/versions/<int:version>
GET /api/<version>/versions/<int:version>/compare/<int:other>
GET /api/<version>/backtests, GET /api/<version>/backtests/<uuid:job>
GET /api/<version>/audit, GET /api/<version>/audit-logs, GET /api/<version>/alerts
GET /api/<version>/events/<event_id>/explain
GET /api/<version>/metrics, GET /api/<version>/config, GET /api/<version>/slo, GET /api/<version>/pulse
GET /api/<version>/dead-letters, GET /api/<version>/version
GET /api/<version>/sources, GET /api/<version>/sources/<name>
"""

#: Dead letters, maintenance windows (to end one releases what it holds), and trying rules, which changes none.
OPERATOR = """
POST /letters/<queue>/all, POST /letters/<queue>/stop
GET /letters/<queue>/<id_>/edit, POST /letters/<queue>/<id_>/edit, POST /letters/<queue>/<id_>/try
POST /letters/<queue>/<id_>/replay, POST /letters/<queue>/<id_>/drop
GET /maintenance/new, POST /maintenance/new, POST /maintenance/<int:window_id>
POST /maintenance/<int:window_id>/end, POST /maintenance/<int:window_id>/delete
GET /rules/test, GET /rules/test/, POST /rules/test, GET /rules/new
POST /backtests/new, POST /backtests/<uuid:job_id>/again, POST /backtests/<uuid:job_id>/cancel
POST /api/<version>/maintenance-windows
PUT /api/<version>/maintenance-windows/<int:id_>, DELETE /api/<version>/maintenance-windows/<int:id_>
POST /api/<version>/rules/test
POST /redactions/try, POST /api/<version>/redactions/test
POST /api/<version>/backtests, POST /api/<version>/backtests/<uuid:job>/cancel
"""

#: What decides: rules, hosts, teams, storms, drafts beside the rules, what stood before, people.
ADMIN = """
POST /rules/new, POST /rules/<int:rule_id>, POST /rules/<int:rule_id>/active, POST /rules/<int:rule_id>/priority
POST /rules/<int:rule_id>/delete, POST /rules/bulk, GET /rules/import, POST /rules/import
POST /hosts/, POST /hosts/remove, GET /hosts/import, POST /hosts/import
GET /teams/new, POST /teams/new, GET /teams/edit, POST /teams/edit, POST /teams/put, POST /teams/remove
GET /teams/import, POST /teams/import
GET /storms/new, POST /storms/new, POST /storms/<int:policy_id>, POST /storms/<int:policy_id>/delete
GET /redactions/new, POST /redactions/new, POST /redactions/<int:redaction_id>
POST /redactions/<int:redaction_id>/switch, POST /redactions/<int:redaction_id>/delete
POST /redactions/common/<int:number>
POST /shadow/start, POST /shadow/<int:shadow_id>/promote, POST /shadow/<int:shadow_id>/drop
GET /versions/<int:version>/restore, POST /versions/<int:version>/restore
GET /versions/import, POST /versions/import
GET /history/<int:note_id>/undo, POST /history/<int:note_id>/undo
GET /users/, GET /users/new, POST /users/new, GET /users/<int:user_id>, POST /users/<int:user_id>/role
GET /keys/, GET /keys/new, POST /keys/new, GET /keys/<key_name>, POST /keys/<key_name>
GET /keys/<key_name>/rotate, POST /keys/<key_name>/rotate, POST /keys/<key_name>/revoke
GET /keys/<key_name>/source, POST /keys/<key_name>/source, POST /keys/<key_name>/source/preview
GET /keys/<key_name>/signing, POST /keys/<key_name>/signing, POST /keys/<key_name>/unsign, POST /keys/<key_name>/try
GET /api/<version>/keys, POST /api/<version>/keys, GET /api/<version>/keys/<name>, PATCH /api/<version>/keys/<name>
POST /api/<version>/keys/<name>/rotate, POST /api/<version>/keys/<name>/revoke, PUT /api/<version>/keys/<name>/source
POST /users/<int:user_id>/password, POST /users/<int:user_id>/active, POST /users/<int:user_id>/end
POST /api/<version>/rules, PUT /api/<version>/rules/<int:rule_id>, PATCH /api/<version>/rules/<int:rule_id>
DELETE /api/<version>/rules/<int:rule_id>, POST /api/<version>/rules/plan, POST /api/<version>/rules/apply
POST /api/<version>/dev-hosts, PUT /api/<version>/dev-hosts/<path:hostname>
DELETE /api/<version>/dev-hosts/<path:hostname>
POST /api/<version>/teams, PUT /api/<version>/teams/<path:hostname>, DELETE /api/<version>/teams/<path:hostname>
POST /api/<version>/redactions, PUT /api/<version>/redactions/<int:id_>
PATCH /api/<version>/redactions/<int:id_>, DELETE /api/<version>/redactions/<int:id_>
POST /api/<version>/storm-policies
PUT /api/<version>/storm-policies/<int:id_>, DELETE /api/<version>/storm-policies/<int:id_>
POST /api/<version>/versions/<int:version>/restore
"""

#: Something for each kind of name in an address; nothing is there.
_FILLED = {
    "int": "999999",
    "uuid": "0198c0de-0000-7000-8000-000000000000",
    "version": "v2",
    "queue": "alerts",
    "id_": "1-0",
}


def listed(text: str) -> set[str]:
    return set(filter(None, re.split(r"[,\n]\s*", text)))


TABLE: dict[str, Role | None] = {
    address: role
    for role, text in ((None, OPEN), (Role.VIEWER, VIEWER), (Role.OPERATOR, OPERATOR), (Role.ADMIN, ADMIN))
    for address in listed(text)
}


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    with transaction(engine) as conn:
        rulebook.seed(conn)
    return make_admin(settings_of(database_url, redis_url=redis_url), engine)


def addresses(app: Flask) -> Iterator[tuple[str, str, str, str]]:
    """(address as the table has it, endpoint, method, path that can be asked for) of all that the application has."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            address = f"{method} {re.sub('^/api/v[12]/', '/api/<version>/', rule.rule)}"
            path = re.sub(r"<(?:(\w+):)?(\w+)>", _fill, rule.rule)
            yield address, rule.endpoint, method, path


def _fill(found: re.Match[str]) -> str:
    return _FILLED.get(found[1] or found[2], "nobody")


def test_every_address_has_its_role(app: Flask) -> None:
    """What the application asks for is the table, to the word: nothing is there that nobody decided about."""
    with app.app_context():
        asked = {
            address: roles.of_endpoint(endpoint, method) for address, endpoint, method, _ in addresses(app)
        }
    assert {address: role for address, role in asked.items() if TABLE.get(address, "none") != role} == {}
    assert set(TABLE) - set(asked) == set()


def test_who_has_too_little_of_a_role_is_refused_everywhere(app: Flask, engine: Engine) -> None:
    """Asked for as each role, each address answers 403 to those below its role, and to nobody else."""
    clients = everybody(engine, app)
    wrong = []
    for address, _, method, path in addresses(app):
        needed = TABLE[address]
        if needed is None:
            continue
        stranger = app.test_client().open(path, method=method)
        if stranger.status_code not in ((401,) if path.startswith("/api/") else (302, 400)):
            wrong.append(("nobody", address, stranger.status_code))
        for name, client in clients.items():
            answer = client.open(path, method=method, headers={"X-CSRFToken": token(client, "/profile/")})
            refused = answer.status_code == 403
            if refused != (Role(name) < needed) or answer.status_code == 500:
                wrong.append((name, address, answer.status_code))
            if refused and needed.value not in answer.text:
                wrong.append((name, address, answer.text))
    assert wrong == []


def test_who_is_refused_changes_nothing(app: Flask, engine: Engine) -> None:
    """A viewer's form and a viewer's call, both with a token, leave the rules as they are."""
    viewer = everybody(engine, app)["viewer"]
    with transaction(engine) as conn:
        before = rulebook.current_version(conn)
    with_token = {"X-CSRFToken": token(viewer, "/profile/")}
    assert viewer.post("/rules/1/delete", headers=with_token).status_code == 403
    answer = viewer.delete("/api/v2/rules/1", headers=with_token)
    assert (answer.status_code, answer.mimetype) == (403, "application/problem+json")
    with transaction(engine) as conn:
        assert rulebook.current_version(conn) == before


def test_nobody_is_shown_what_they_may_not_do(app: Flask, engine: Engine) -> None:
    """Pages of a viewer have no form but the filters, their password and the way out; no link leads to a 403."""
    clients = everybody(engine, app)
    for name in ("viewer", "operator"):
        for page in ("/", "/rules/", "/rules/1", "/maintenance/", "/storms/", "/shadow/", "/versions/", "/hosts/",
                     "/teams/", "/backtests/", "/history/", "/letters/", "/letters/alerts/", "/profile/"):  # fmt: skip
            shown = clients[name].get(page).text
            for target in _sends(shown):
                assert _role_of(app, target, "POST") <= Role(name), (name, page, target)
            for target in re.findall(r'<a[^>]* href="(/[^"#?]*)', shown):
                assert _role_of(app, target, "GET") <= Role(name), (name, page, target)
    assert "<button" not in _main(clients["viewer"].get("/rules/1").text)
    assert ">Test</button>" in clients["operator"].get("/rules/1").text
    assert ">Save</button>" not in clients["operator"].get("/rules/1").text
    assert ">Save</button>" in clients["admin"].get("/rules/1").text


def _sends(page: str) -> list[str]:
    """Where a page's forms go that send something and have a button for it."""
    found = []
    for form in re.findall(r'<form[^>]* method="post".*?</form>', page, re.DOTALL):
        if "<button" in form:
            found += re.findall(r'(?:action|formaction|hx-post)="([^"]+)"', form)
    return found


def _main(page: str) -> str:
    return page[page.index("<main") : page.index("</main>")]


def _role_of(app: Flask, path: str, method: str) -> Role:
    endpoint, _ = app.url_map.bind("").match(path.partition("?")[0], method)
    with app.app_context():
        return roles.of_endpoint(endpoint, method) or Role.VIEWER


@pytest.mark.parametrize("given", [None, "", "garbage", "another's"])
def test_no_change_goes_without_its_token(app: Flask, engine: Engine, given: str | None) -> None:
    """Of every address that changes something the answer is 400, which names what to do, and nothing is changed."""
    client, other = app.test_client(), app.test_client()
    assert log_in(client).status_code == 302
    assert log_in(other).status_code == 302
    given = token(other, "/profile/") if given == "another's" else given
    headers = {} if given is None else {"X-CSRFToken": given}
    with transaction(engine) as conn:
        before = rulebook.current_version(conn)
    answers = {
        address: client.open(path, method=method, headers=headers)
        for address, _, method, path in addresses(app)
        if method != "GET"
    }
    assert {
        address: answer.status_code for address, answer in answers.items() if answer.status_code != 400
    } == {}
    for address, answer in answers.items():
        remedy = "X-CSRFToken" if "/api/" in address else "load the page again"
        assert remedy in answer.text, address
    assert notes_of(engine) == []
    with transaction(engine) as conn:
        assert rulebook.current_version(conn) == before
    assert client.get("/").status_code == 200, "nobody is logged out from elsewhere either"


def test_a_key_of_management_is_no_session(engine: Engine, database_url: str, redis_url: str) -> None:
    """It needs no role and no token: it is the key that says what may be done with it."""
    settings = settings_of(database_url, redis_url=redis_url, management_api_key="k" * 32)
    client: FlaskClient = make_admin(settings, engine).test_client()
    body: dict[str, Any] = {"hostname": "lab-1"}
    assert client.post("/api/v2/dev-hosts", json=body, headers={"X-API-KEY": "k" * 32}).status_code == 201
