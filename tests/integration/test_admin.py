"""The admin: nobody enters without the password, no form goes without its token, an outage is a sentence."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from mutt import names
from mutt.store import lookup, rulebook
from mutt.store.engine import transaction
from mutt.web.admin.app import make_admin
from mutt.web.auth import safe_next
from tests.admin_client import (
    PASSWORD,
    log_in,
    operator_of,
    settings_of,
    token,
)
from tests.servers import Live

#: What may be seen without a login: health, the login itself, and files that hold nothing of the user's.
OPEN = {
    "health.healthz",
    "health.readyz",
    "health.metrics",
    "auth.login",
    "auth.logout",
    "static",
    "favicon",
    "api_docs.openapi",
    "api_docs.docs",
}


@pytest.fixture
def app(database_url: str, engine: Engine) -> Flask:
    return make_admin(settings_of(database_url), engine)


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def version_of(engine: Engine) -> int:
    with transaction(engine) as conn:
        return rulebook.current_version(conn)


def test_every_page_asks_for_the_login(app: Flask, stranger: FlaskClient) -> None:
    """Whatever address is added later, it is closed unless this test names it."""
    closed = 0
    for address in app.url_map.iter_rules():
        if address.endpoint in OPEN or address.endpoint.endswith(".static"):
            continue
        page = re.sub(r"<int:\w+>", "1", re.sub(r"<uuid:\w+>", str(UUID(int=1)), address.rule))
        if page.startswith("/api/"):
            method = next(iter(address.methods - {"HEAD", "OPTIONS"}))
            answer = stranger.open(page, method=method, json={})
            assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), page
            closed += 1
            continue
        if "GET" in address.methods:
            answer = stranger.get(page)
        else:
            answer = stranger.post(page, data={"csrf_token": token(stranger, "/login")})
        assert (answer.status_code, answer.location.partition("?")[0]) == (302, "/login"), page
        closed += 1
    assert closed > 10


def test_a_wrong_password_is_refused(stranger: FlaskClient) -> None:
    answer = log_in(stranger, "wrong")
    assert answer.status_code == 403 and "Name or password is wrong" in answer.text
    assert stranger.get("/").status_code == 302


def test_without_admin_password_nobody_enters(database_url: str, engine: Engine) -> None:
    """An empty password is no password: the page says what is missing, and refuses the empty one too."""
    client = make_admin(settings_of(database_url, admin_password=""), engine).test_client()
    assert "nobody can log in" in client.get("/login").text
    assert log_in(client, "").status_code == 403
    assert client.get("/").status_code == 302


def test_the_session_ends_at_logout_and_with_the_password(database_url: str, engine: Engine) -> None:
    """A cookie of before the password was changed opens nothing, though the key that signs it stays."""
    old = make_admin(settings_of(database_url, secret_key="s" * 32), engine).test_client()
    log_in(old)
    assert old.get("/").status_code == 200
    cookie = old.get_cookie("mutt_admin")
    assert cookie is not None
    new = make_admin(
        settings_of(database_url, secret_key="s" * 32, admin_password="new"), engine
    ).test_client()
    new.set_cookie("mutt_admin", cookie.value)
    assert new.get("/").status_code == 302
    old.post("/logout", data={"csrf_token": token(old, "/")})
    assert old.get("/").status_code == 302


def test_processes_without_secret_key_share_their_sessions(database_url: str, engine: Engine) -> None:
    first, second = (make_admin(settings_of(database_url), engine).test_client() for _ in range(2))
    log_in(first)
    cookie = first.get_cookie("mutt_admin")
    assert cookie is not None
    second.set_cookie("mutt_admin", cookie.value)
    assert second.get("/").status_code == 200


def test_the_cookie_is_for_this_site_and_no_script(stranger: FlaskClient) -> None:
    said = log_in(stranger).headers["Set-Cookie"]
    assert "HttpOnly" in said and "SameSite=Lax" in said and PASSWORD not in said


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("/rules/?q=a", "/rules/?q=a"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),  # browsers skip the tab
        (" //evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("rules", "/"),
    ],
)
def test_the_login_leads_to_this_site_only(target: str, goes_to: str) -> None:
    assert safe_next(target) == goes_to


def test_the_login_leads_back(stranger: FlaskClient) -> None:
    page = stranger.get("/audit/?hostname=r1").location
    assert log_in(stranger, page=page).location == "/audit/?hostname=r1"
    assert log_in(stranger.application.test_client(), page="/login?next=//evil.example").location == "/"


@pytest.mark.parametrize(
    "page",
    [
        "/login",
        "/logout",
        "/rules/new",
        "/rules/1",
        "/rules/1/active",
        "/rules/1/delete",
        "/hosts/",
        "/hosts/remove",
        "/teams/new",
        "/teams/edit?host=core1",
        "/teams/remove",
    ],
)
def test_a_form_without_its_token_is_a_400(operator: FlaskClient, engine: Engine, page: str) -> None:
    """It says so, and nothing is changed."""
    before = version_of(engine)
    answer = operator.post(page, data={"name": "x", "match_string": "x", "hostname": "x", "active": "off"})
    assert answer.status_code == 400
    assert "CSRF token is missing" in answer.text and "Nothing was changed" in answer.text
    assert version_of(engine) == before


@pytest.mark.parametrize("page", ["/", "/login", "/healthz", "/nowhere", "/static/style.css"])
def test_every_answer_tells_the_browser_to_trust_nothing_else(operator: FlaskClient, page: str) -> None:
    said = operator.get(page).headers
    assert "default-src 'self'" in said["Content-Security-Policy"]
    assert "unsafe" not in said["Content-Security-Policy"]
    assert said["X-Content-Type-Options"] == "nosniff" and said["X-Frame-Options"] == "DENY"
    assert said["Referrer-Policy"] == "same-origin"


PAGES = ["/", "/rules/", "/rules/new", "/rules/1", "/rules/new?like=1", "/hosts/", "/teams/", "/teams/new"]
PAGES += ["/audit/", "/alerts/", "/history/", "/login", "/nowhere"]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_needs_what_the_policy_forbids(operator: FlaskClient, page: str) -> None:
    """No inline script or style, and nothing from elsewhere."""
    shown = operator.get(page).text
    assert not re.search(r"<script(?![^>]+src=)|<style|\sstyle=|\son\w+=|javascript:", shown)
    assert not re.search(r"""(?:src|href)=["'](?:(?![/#?])|//)""", shown)


def test_what_the_layout_asks_for_is_there(stranger: FlaskClient) -> None:
    linked = re.findall(r'<link[^>]+href="([^"]+)"', stranger.get("/login").text)
    assert len(linked) == 2
    assert [stranger.get(page).status_code for page in (*linked, "/favicon.ico")] == [200] * 3


def test_ready_says_what_is_missing(app: Flask, stranger: FlaskClient, engine: Engine) -> None:
    assert stranger.get("/readyz").json == {"status": "ok", "needs": {"postgresql": "ok"}}
    with transaction(engine) as conn:
        conn.execute(text("DELETE FROM ruleset_version"))
    assert stranger.get("/readyz").status_code == 503
    assert stranger.get("/healthz").status_code == 200


def test_pages_say_that_postgresql_is_away(database_url: str) -> None:
    """A sentence and a 503, never a 500; and nothing of the address."""
    away = "postgresql://mutt:s3cret@127.0.0.1:1/mutt"
    app = make_admin(settings_of(away))
    client = app.test_client()
    assert log_in(client).status_code == 302
    home = client.get("/")
    assert home.status_code == 200 and "PostgreSQL does not answer" in home.text
    for page in ("/rules/", "/rules/1", "/hosts/", "/teams/", "/audit/", "/alerts/", "/history/"):
        answer = client.get(page)
        assert answer.status_code == 503 and "PostgreSQL does not answer" in answer.text, page
    saving = client.post("/rules/new", data={"match_string": "x", "csrf_token": token(client, "/rules/new")})
    assert saving.status_code == 503 and "Nothing was changed" in saving.text
    ready = client.get("/readyz")
    assert ready.status_code == 503 and "s3cret" not in ready.text + home.text


def test_a_question_that_takes_too_long_is_stopped(engine: Engine) -> None:
    with lookup.reading(engine) as conn:
        assert conn.execute(text("SHOW statement_timeout")).scalar_one() == f"{lookup.PATIENCE}s"
        assert conn.execute(text("SHOW transaction_read_only")).scalar_one() == "on"


def test_the_first_page_shows_what_redis_knows(database_url: str, engine: Engine, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(names.INGEST_STREAM, {"n": 5})
        client.hset(names.LEDGER, mapping={"events.accepted": 1234567, "events.queued": 5})
        client.hset(
            names.BREAKER, mapping={"state": "open", "reason": "auth", "until": 1_800_000_000_000_000}
        )
    settings = settings_of(database_url, redis_url=redis_url, flower_url="http://127.0.0.1:5555")
    page = make_admin(settings, engine).test_client()
    log_in(page)
    shown = page.get("/").text
    for expected in (
        "1,234,567",
        "off by 1,234,562",
        "ingest_queue",
        ">open<",
        ": auth",
        "2027-01-15 08:00:00",
    ):
        assert expected in shown, expected
    assert 'href="http://127.0.0.1:5555"' in shown
    assert "Redis does not answer" not in shown


def test_the_first_page_says_that_redis_is_away(database_url: str, engine: Engine, own_redis: Live) -> None:
    page = make_admin(settings_of(database_url, redis_url=own_redis.url), engine).test_client()
    log_in(page)
    own_redis.kill()
    shown = page.get("/")
    assert shown.status_code == 200 and "Redis does not answer" in shown.text
    assert 'data-trouble="redis-away"' in shown.text
    assert "rules are active" in shown.text
