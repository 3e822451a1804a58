"""Every answer of every application tells browsers what they may not do with it: pages, data, refusals and faults."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from sqlalchemy import Engine

from mutt.moogsim.server import Simulator
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.web.admin.app import make_admin
from mutt.web.health import health
from mutt.web.ingest import make_ingest
from tests.admin_client import PASSWORD, log_in, operator_of, settings_of
from tests.doors import Door, served, worker_of
from tests.waiting import wait_until

UUID = "018f0000-0000-7000-8000-000000000000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


def lacking(headers: Mapping[str, str], kind: str, *, kept: bool = False) -> list[str]:
    """What an answer's headers lack, or say and should not. ``kept``: a browser may keep it."""
    policy = headers.get("Content-Security-Policy", "")
    wanted = {
        "nosniff": headers.get("X-Content-Type-Options") == "nosniff",
        "no frame": headers.get("X-Frame-Options") == "DENY" and "frame-ancestors 'none'" in policy,
        "a closed policy": re.match("default-src '(self|none)'", policy) and "unsafe" not in policy,
        "no referrer for others": headers.get("Referrer-Policy") in ("same-origin", "no-referrer"),
        "nothing to other sites": headers.get("Cross-Origin-Resource-Policy") == "same-origin",
        "no-store": kept or headers.get("Cache-Control") == "no-store",
        "a server without its version": not re.search(r"\d|Python", headers.get("Server", "")),
        "one origin": "Access-Control-Allow-Origin" not in headers,
    }
    if kind.startswith("text/html") and headers.get("Content-Length") != "0":
        wanted["no opener"] = headers.get("Cross-Origin-Opener-Policy") == "same-origin"
        wanted["no devices"] = "camera=()" in headers.get("Permissions-Policy", "")
    return [name for name, there in wanted.items() if not there]


def addresses(app: Flask) -> Iterator[tuple[str, str]]:
    """One address of each rule, with its endpoint, and some that there are not."""
    for rule in app.url_map.iter_rules():
        values = {name: _value(rule.rule, name) for name in rule.arguments}
        yield re.sub(r"<(?:\w+:)?(\w+)>", lambda found, v=values: v[found[1]], rule.rule), rule.endpoint  # type: ignore[misc]
    for path in ("/nowhere", "/%00", "/api/v2/nowhere", "/rules/0/nowhere"):
        yield path, ""
    yield "/static/nowhere.js", "static"


def _value(rule: str, name: str) -> str:
    if name == "filename":
        return "css/bootstrap4/dist/css/bootstrap.css" if "admin" in rule else "style.css"
    return UUID if "event" in name or "uuid" in rule else "1"


@pytest.mark.parametrize("logged_in", [True, False])
def test_every_answer_of_the_admin_has_its_headers(
    engine: Engine, database_url: str, redis_url: str, logged_in: bool
) -> None:
    """Every address with every method, whether it is taken or refused."""
    with transaction(engine) as conn:
        rulebook.seed(conn)
    client = operator_of(engine, database_url, redis_url=redis_url)
    if not logged_in:
        client.delete_cookie("mutt_admin")
    statuses = set()
    for path, endpoint in addresses(client.application):
        for method in METHODS:
            answer = client.open(path, method=method)
            kept = answer.status_code < 400 and (
                endpoint in ("static", "favicon") or endpoint.endswith(".static")
            )
            found = lacking(answer.headers, answer.content_type or "", kept=kept)
            assert (method, path, answer.status_code, found) == (method, path, answer.status_code, [])
            statuses.add(answer.status_code)
    assert {200, 302, 400, 404, 405} <= statuses


def test_a_fault_of_the_admin_has_them_too(
    engine: Engine, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that fails, and one whose store is away; the answer tells nothing of the error."""
    client = operator_of(engine, database_url, redis_url=redis_url)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr("mutt.web.admin.pipeline.Pipeline.render", fails)
    answer = client.get("/")
    assert (answer.status_code, lacking(answer.headers, answer.content_type or "")) == (500, [])
    assert "secret" not in answer.text
    away = operator_of(engine, database_url, redis_url="redis://127.0.0.1:1")
    answer = away.get("/letters/")
    assert (answer.status_code, lacking(answer.headers, answer.content_type or "")) == (503, [])


def test_every_answer_of_ingest_has_its_headers(redis_url: str) -> None:
    """Every address with every method, with a key and without."""
    settings = Settings.from_env({}, redis_url=redis_url, ingest_api_key="k")
    services = Services(settings, lambda *_, **__: None, role="ingest", web=True)
    app = make_ingest(services)
    app.register_blueprint(health(services, {}))
    statuses = set()
    for path, _ in addresses(app):
        for method in METHODS:
            for key in ({"X-API-KEY": "k"}, {}):
                answer = app.test_client().open(path, method=method, headers=key)
                assert (method, path, lacking(answer.headers, answer.content_type or "")) == (
                    method,
                    path,
                    [],
                )
                statuses.add(answer.status_code)
    assert {200, 400, 401, 404, 405} <= statuses


#: What gunicorn's parser, the worker's loop and the lane answer, before or beside any application.
RAW = {
    "no HTTP": (b"<13>no HTTP\r\n\r\n", 400),
    "no method": (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a version of its own": (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "a long line": (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 5000), 414),
    "many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    "a long header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n" % (b"b" * 10_000), 431),
    "a head without end": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 70_000, 431),
    "two lengths": (
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    "another expectation": (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417),
    "too much": (
        b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: k\r\nContent-Length: 99999999\r\n\r\n",
        413,
    ),
    "nobody's method": (b"BREW /login HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "no such address": (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "the lane": (b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: k\r\nContent-Length: 2\r\n\r\n{}", 400),
    "no key": (b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 401),
}


def test_what_no_application_answers_has_them_too(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """gunicorn's own refusals, of both applications, the lane's answers and the worker's."""
    env = {
        "REDIS_URL": redis_url, "DATABASE_URL": database_url, "INGEST_API_KEY": "k", "ADMIN_PASSWORD": PASSWORD,
    }  # fmt: skip
    for name in ("ingest", "admin"):
        with served(name, env, tmp_path) as (port, _):
            for what, (request, status) in RAW.items():
                expected = {"admin": {"the lane": 404, "no key": 404, "too much": 404}}.get(name, {}).get(
                    what, status
                )
                if what == "nobody's method" and name == "ingest":
                    expected = 404
                found, headers, _body = Door(port).ask(request)
                told = {key.title(): value for key, value in headers.items()}
                told = {key.replace("Api", "API"): value for key, value in told.items()}
                assert (name, what, found, lacking(told, told["Content-Type"])) == (name, what, expected, [])


def test_every_answer_of_the_simulator_has_them() -> None:
    """Its page, what it loads, what came, Moog's answers, and what http.server would answer by itself."""
    with Simulator() as moog:
        port = urlsplit(moog.url).port
        assert port
        for method in ("GET", "HEAD", "POST", "DELETE", "BREW"):
            for path in (
                "/",
                "/page.css",
                "/page.js",
                "/stats",
                "/received",
                "/alerts",
                "/script",
                "/no",
                "/events/x",
            ):
                told = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                told.request(method, path, "{}" if method == "POST" else None)
                answer = told.getresponse()
                headers = {key.title(): value for key, value in answer.getheaders()}
                assert (method, path, lacking(headers, headers["Content-Type"])) == (method, path, [])
                told.close()
        for raw in (b"no HTTP\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"):
            _, lower, body = Door(port).ask(raw)
            headers = {key.title(): value for key, value in lower.items()}
            assert lacking(headers, headers["Content-Type"]) == []
            assert b"no HTTP" not in body


def test_the_admin_sets_no_cookie_that_scripts_can_read(engine: Engine, database_url: str) -> None:
    """HttpOnly and SameSite on whatever cookie there is."""
    client = make_admin(settings_of(database_url), engine).test_client()
    page, login = client.get("/login"), log_in(client)
    cookies = page.headers.getlist("Set-Cookie") + login.headers.getlist("Set-Cookie")
    assert cookies
    assert [cookie for cookie in cookies if "HttpOnly" not in cookie or "SameSite=" not in cookie] == []


def test_what_gunicorn_itself_logs_is_a_record(redis_url: str, tmp_path: Path) -> None:
    """Of a worker that was killed, and of requests that are none: one JSON object a line."""
    env = {"REDIS_URL": redis_url, "INGEST_API_KEY": "k", "LOG_LEVEL": "info"}
    with served("ingest", env, tmp_path) as (port, log):
        Door(port).ask(b'GET /%0a{"event":"forged"} HTTP/1.1\r\nA\x1b[2J: b\r\n\r\n')
        worker_of(port).kill()
        wait_until(lambda: "SIGKILL" in log.read_text(), 10, "the master's word on it")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("SIGKILL" in record["event"] for record in records)
