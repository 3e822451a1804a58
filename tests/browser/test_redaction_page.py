"""Redactions in a browser: hostile text stays text, all of it by keyboard, no wider than a telephone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import redactions
from mutt.store.engine import transaction
from tests.bench import Bench, benches, event
from tests.browser.test_admin_lists import CONTRAST, FAINT

EVIL = "<img src=x onerror=\"document.title='evil'\">"


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


def test_a_redaction_is_tried_saved_and_switched_by_keyboard(
    bench: Bench, engine: Engine, admin: str, log_in: Callable[..., Page]
) -> None:
    """A common one is added, a draft is tried on hostile text and on stored events, saved, and switched off."""
    bench.append(event(f"CRITICAL {EVIL} password=hunter2", tags={EVIL: EVIL}))
    bench.run()
    page = log_in(width=390)
    page.goto(f"{admin}/redactions/")
    page.get_by_role("button", name="Add card numbers").press("Enter")
    expect(page.get_by_text("“card numbers” is added, and off")).to_be_visible()
    page.get_by_role("link", name="New redaction").press("Enter")
    page.get_by_label("Name", exact=True).fill(EVIL)
    page.get_by_label("Pattern").fill("hunter2|onerror")
    page.get_by_label("Text to try").fill(f"{EVIL} hunter2")
    page.get_by_role("button", name="Try it").press("Enter")
    expect(page.locator("#trial del").first).to_have_text("onerror")
    expect(page.get_by_role("status").filter(has_text="Of 1 stored event")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(FAINT, CONTRAST) == []
    assert page.title() != "evil" and page.locator("img[src=x]").count() == 0
    page.get_by_role("button", name="Save").press("Enter")
    page.get_by_role("button", name=f"Switch {EVIL} off").press("Enter")
    expect(page.locator("tr.off").filter(has_text="hunter2")).to_be_visible()
    with transaction(engine) as conn:
        made = redactions.by_name(conn, EVIL)
    assert not made.is_active
    assert page.title() != "evil"
