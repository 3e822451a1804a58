"""The admin as a browser uses it: log in, fetch a form with its token, fill it in, send it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from mutt.settings import Settings
from mutt.store.engine import transaction
from mutt.store.tables import config_audit_log
from mutt.web.admin.app import make_admin

PASSWORD = "correct horse"


def settings_of(database_url: str, **more: Any) -> Settings:
    given = {"database_url": database_url, "admin_password": PASSWORD, **more}
    return Settings.from_env({}, **given)


def operator_of(engine: Engine, database_url: str, **more: Any) -> FlaskClient:
    """A browser in which the administrator is logged in."""
    client = make_admin(settings_of(database_url, **more), engine).test_client()
    assert log_in(client).status_code == 302
    return client


def log_in(client: FlaskClient, password: str = PASSWORD, page: str = "/login") -> TestResponse:
    given = {"name": "admin", "password": password, "csrf_token": token(client, "/login")}
    return client.post(page, data=given)


def token(client: FlaskClient, page: str) -> str:
    return hidden(client.get(page).text, "csrf_token")


def hidden(page: str, name: str) -> str:
    """The value of a page's first hidden field of this name."""
    for tag in re.findall(r"<input[^>]+>", page):
        if f'name="{name}"' in tag:
            return unescape(re.findall(r'value="([^"]*)"', tag)[0])
    raise LookupError(name)


def send(client: FlaskClient, page: str, **fields: Any) -> TestResponse:
    """Send a form as its page holds it, with ``fields`` filled in."""
    shown = client.get(page).text
    given = {"csrf_token": hidden(shown, "csrf_token")}
    if 'name="seen"' in shown:
        given["seen"] = hidden(shown, "seen")
    return client.post(page, data={**given, **fields})


def filled_in(page: str) -> dict[str, str]:
    """What a browser would send of a page's fields."""
    found = {}
    for tag in re.findall(r"<input[^>]+>", page):
        named = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" in named and (named.get("type") != "checkbox" or "checked" in tag):
            found.setdefault(named["name"], unescape(named.get("value", "")))
    for name, body in re.findall(r'<textarea[^>]*name="(\w+)"[^>]*>\r?\n(.*?)</textarea>', page, re.DOTALL):
        found[name] = unescape(re.sub(r"\r?\n", "\r\n", body))
    for name, body in re.findall(r'<select[^>]*name="(\w+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'<option selected value="([^"]*)"', body)
        found[name] = chosen[1] if chosen else ""
    return found


def notes_of(engine: Engine) -> list[Any]:
    """What the history says of the administrator."""
    with transaction(engine) as conn:
        query = select(config_audit_log).where(config_audit_log.c.changed_by == "admin").order_by("id")
        return list(conn.execute(query))
