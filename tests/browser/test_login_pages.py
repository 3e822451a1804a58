"""Logging in by an OpenID provider in Chromium, and where hostile addresses to come back to lead a browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Page, expect
from sqlalchemy import Engine
from werkzeug.serving import make_server

from mutt.web.admin.app import make_admin
from tests.admin_client import PASSWORD, log_in, settings_of
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, provider
from tests.oidc_provider import log_in as log_in_there


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as made:
        yield made


def oidc(op: Provider, home: str) -> dict[str, Any]:
    """The settings of an admin at ``home``."""
    op.redirect_uris |= {home + "/login/oidc/callback", home + "/login"}
    return {
        "oidc_issuer": op.issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET, "admin_url": home,
        "oidc_name": "Example ID", "oidc_roles": (("netops", "operator"),),
    }  # fmt: skip


@pytest.fixture
def site(engine: Engine, database_url: str, redis_url: str, op: Provider) -> Iterator[str]:
    """The address of an admin whose users log in at the provider."""
    server = make_server("127.0.0.1", 0, lambda *_: [], threaded=True)
    home = f"http://127.0.0.1:{server.server_port}"
    told = settings_of(database_url, redis_url=redis_url, **oidc(op, home))
    server.app = make_admin(told, engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield home
    server.shutdown()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_button_leads_through_the_provider_to_the_page_that_was_wanted_and_out_again(
    site: str, op: Provider, open_page: Callable[..., Page], width: int, scheme: str
) -> None:
    op.asks = True
    page = open_page(width=width, color_scheme=scheme)
    page.goto(site + "/rules/?q=fan")
    page.get_by_role("link", name="Log in with Example ID").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="I am Alice Example").click()
    page.wait_for_url(site + "/rules/?q=fan")
    if width < 500:
        page.get_by_text("Menu", exact=True).click()
    page.get_by_role("button", name=re.compile("^Log out")).click()
    page.get_by_role("link", name="log out there, too").click()
    page.wait_for_url(re.compile(re.escape(site) + r"/login(\?.*)?$"))
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_refusal_is_a_page_with_a_way_back(site: str, op: Provider, open_page: Callable[..., Page]) -> None:
    op.asks, op.fault = False, "denied"
    page = open_page()
    page.goto(site + "/login")
    page.get_by_role("link", name="Log in with Example ID").click()
    expect(page.get_by_role("heading", name="Example ID did not let you in")).to_be_visible()
    op.fault = ""
    page.get_by_role("link", name="Back to the login").click()
    expect(page.get_by_label("Password")).to_be_visible()


#: Addresses to come back to that would lead elsewhere, if they were followed.
HOSTILE = (
    "https://evil.example", "http:evil.example", "https:/evil.example", "//evil.example", "///evil.example",
    "////evil.example", "/\\evil.example", "\\\\evil.example", "\\/evil.example", "/\t/evil.example",
    "\t//evil.example", " //evil.example", "/\n/evil.example", "\x00//evil.example", "\x01https://evil.example",
    "/%09/evil.example", "/%5cevil.example", "/%2f/evil.example", "/.//evil.example", "/..//evil.example",
    "/a/..//evil.example", "/x/../..//evil.example", "javascript:alert(1)", "data:text/html,x", "JaVaScRiPt:alert(1)",
    "https://localhost@evil.example", "//localhost@evil.example", "//[evil", "http://[::1", "?//evil.example",
    "#//evil.example", "evil.example", "/;//evil.example", "//evil.example\\@localhost", "/\u2028/evil.example",
    "/\u00a0/evil.example", "\ufeff//evil.example", "\u3000//evil.example", "/\u200b/evil.example",
    "//evil\u3002example", "/" * 40 + "evil.example", "/login/../..//evil.example", "/?next=//evil.example",
)  # fmt: skip


@pytest.mark.parametrize("way", ["password", "known already", "provider", "provider, known", "htmx"])
def test_no_address_to_come_back_to_leads_a_browser_elsewhere(
    engine: Engine, database_url: str, op: Provider, open_page: Callable[..., Page], way: str
) -> None:
    op.asks, op.fault = False, ""
    app = make_admin(settings_of(database_url, **oidc(op, "http://localhost")), engine)
    known = app.test_client()
    assert log_in(known).status_code == 302
    page = open_page()
    # A password costs time, and what comes after it is the same.
    for target in HOSTILE[::9] if way == "password" else HOSTILE:
        found = _led_to(app.test_client(), known, way, target)
        # The browser's own reading of it, on a page of ours.
        where = page.evaluate("([to, at]) => new URL(to, at).origin", [found, "http://localhost/login"])
        assert where == "http://localhost", (target, found)


def _led_to(client: FlaskClient, known: FlaskClient, way: str, target: str) -> str:
    """The Location that a login of this way ends with."""
    query = urlencode({"next": target})
    if way == "password":
        return log_in(client, PASSWORD, f"/login?{query}").headers["Location"]
    if way == "known already":
        return known.get(f"/login?{query}").headers["Location"]
    if way == "provider":
        return log_in_there(client, f"/login/oidc?{query}").headers["Location"]
    if way == "provider, known":
        return known.get(f"/login/oidc?{query}").headers["Location"]
    try:
        asked = client.get("/rules/", headers={"HX-Request": "true", "HX-Current-URL": target})
    except ValueError:
        return "/"  # no browser can send such a header
    login = asked.headers["HX-Redirect"]
    assert login.partition("?")[0] == "/login"
    return known.get(login).headers["Location"]
