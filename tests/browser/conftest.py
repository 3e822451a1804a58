"""A Chromium, and the admin served to it over HTTP."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    sync_playwright,
)
from sqlalchemy import Engine
from werkzeug.serving import make_server

from mutt.sealing import new_key
from mutt.web.admin.app import make_admin
from tests.admin_client import PASSWORD, settings_of
from tests.servers import lacking

NAMES = ("chromium", "chromium-browser", "google-chrome")

#: It must reach nobody but us, and runs as root where CI does.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


#: The admin's SEALING_KEY.
SEALING = new_key()


# For this folder alone: while it lives, its event loop counts as running in the main thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        lacking(f"no browser: none of {', '.join(NAMES)} is on PATH (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page: ``open_page(width=390)``. At the end no page may have complained, or asked another host.

    ``refused`` are statuses with which what a script of the page asks for may be answered.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def heard(said: ConsoleMessage) -> None:
        # A page that answers 4xx as it should is reported, too: what it loads is looked at below. So is what was
        # still asked for when the reader went on.
        if said.type == "error" and not said.text.startswith(
            ("Failed to load resource", "Response Status Error Code", "htmx:afterRequest", "htmx:send")
        ):
            complaints.append(said.text)

    def answered(response: Response, refused: Collection[int]) -> None:
        if response.request.is_navigation_request() or response.status in refused:
            return
        if response.status >= 400:
            complaints.append(f"{response.url} answered {response.status}")

    def asked(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:")):
            complaints.append(f"asked {request.url}")

    def opened(width: int = 1280, color_scheme: str = "light", refused: Collection[int] = ()) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=color_scheme)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", lambda response: answered(response, refused))
        page.on("request", asked)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def admin(engine: Engine, database_url: str, redis_url: str) -> Iterator[str]:
    """The address of an admin with the starting rules."""
    settings = settings_of(database_url, redis_url=redis_url, sealing_key=SEALING)
    server = make_server("127.0.0.1", 0, make_admin(settings, engine), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def log_in(admin: str, open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the admin's first page as its administrator, by keyboard."""

    def logged_in(**how: Any) -> Page:
        page = open_page(**how)
        page.goto(admin)
        page.get_by_label("Name").focus()
        page.keyboard.type("admin")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("navigation").wait_for()
        return page

    return logged_in
