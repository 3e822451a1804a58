"""Maintenance and storms in a browser: legible, no wider than the screen, and planned by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import receipts, storms, windows
from mutt.store.engine import transaction
from tests.browser.test_admin_lists import CONTRAST, FAINT

HOUR = timedelta(hours=1)
LONG = "core-" + "x" * 120


def filled(engine: Engine) -> None:
    """A window that is on, one to come, one that has ended with its receipt, and a storm policy."""
    now = datetime.now(UTC)
    plain = {"owner": "ann", "reason": "CHG-1742: new line cards"}
    with transaction(engine) as conn:
        for name, start, more in (
            ("core upgrade", now - HOUR, {"hostname": "core-*", "timezone": "Europe/London"}),
            ("patch nights", now + HOUR, {"team": "Backbone", "rule_id": 1, "recurrence": "FREQ=DAILY"}),
            ("over", now - 3 * HOUR, {"hostname": LONG}),
        ):
            times = {"starts_at": start, "ends_at": start + 2 * HOUR}
            windows.save(conn, {**plain, "name": name, **times, **more}, changed_by="ann")
        storms.save(
            conn,
            {"name": "a host goes wild", "group_by": "host", "alert_count": 50, "alert_window": 60},
            changed_by="ann",
        )
    receipts.work(engine, len, now)
    receipts.work(engine, len, now + 3 * HOUR)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_pages_fit_and_can_be_read(
    log_in: Callable[..., Page], admin: str, engine: Engine, width: int, color_scheme: str
) -> None:
    """On a desk and on a telephone, by day and by night."""
    filled(engine)
    page = log_in(width=width, color_scheme=color_scheme)
    pages = ("", "new", "1", "2", "3", "receipts", "receipts/1", "receipts/2")
    for path in (*(f"/maintenance/{one}" for one in pages), "/storms/", "/storms/new", "/storms/1"):
        answer = page.goto(admin + path)
        assert answer
        assert (path, answer.status) == (path, 200)
        assert (path, page.evaluate("document.documentElement.scrollWidth")) == (path, width)
        assert (path, page.evaluate(FAINT, CONTRAST)) == (path, [])


def test_a_host_is_put_in_maintenance_by_keyboard(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """From a link with the host's name to the window that stands, without a mouse."""
    page = log_in()
    page.goto(f"{admin}/maintenance/new?hostname=core-1")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("new fan")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="new fan", exact=True)).to_be_visible()
    with transaction(engine) as conn:
        [window] = windows.windows(conn)
    assert (window.hostname, window.owner) == ("core-1", "admin")
