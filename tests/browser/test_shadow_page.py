"""The page of the shadow in a browser: it fits, and a draft goes from the rule's form into force by clicks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.store.shadows import Edit
from tests.integration.test_admin_shadow import newest, rule_named, start, watched

LONG = "x" * 400


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_page_fits_its_screen(
    log_in: Callable[..., Page], admin: str, engine: Engine, width: int, color_scheme: str
) -> None:
    """Before the first and with one that has seen much, also with a text that can't be broken."""
    page = log_in(width=width, color_scheme=color_scheme)
    for prepare in (
        lambda: None,
        lambda: watched(engine, start(engine, Edit(None, {"match_string": LONG})), LONG),
    ):
        prepare()
        assert page.goto(f"{admin}/shadow/").status == 200
        for details in page.locator("details:not(.menu)").all():
            details.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_file_becomes_a_draft_and_the_draft_the_rules(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """Chosen, begun, looked at, promoted after a second look."""
    page = log_in()
    page.goto(f"{admin}/shadow/")
    rules = b'[{"name": "disk", "match_string": "disk full"}]'
    page.get_by_label("Rules (YAML or JSON)").set_input_files(
        {"name": "rules.json", "mimeType": "application/json", "buffer": rules}
    )
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("status")).to_contain_text("“disk” runs beside the rules in force")
    shadow = newest(engine)
    assert shadow
    watched(engine, shadow, "disk full on core-1")
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("row", name="disk full on core-1")).to_contain_text("new rule “disk”")
    page.get_by_text("Promote: make this draft the rules in force").click()
    page.get_by_label("Why it is promoted").fill("a day without surprises")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status")).to_contain_text("Promoted")
    with transaction(engine) as conn:
        assert "disk" in {rule.name for rule in rulebook.list_rules(conn)}


def test_a_rule_is_put_in_the_shadow_from_its_form(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """What its form holds is drafted, and the rule stays what it is."""
    rule = rule_named(engine, "ERROR")
    page = log_in()
    page.goto(f"{admin}/rules/{rule.id}")
    page.get_by_label("Priority", exact=True).fill("3")
    page.get_by_role("button", name="Run in shadow").click()
    expect(page.get_by_role("status")).to_contain_text("“ERROR” runs beside the rules in force")
    expect(page.get_by_role("row", name="ERROR")).to_contain_text("priority 20 3")
    assert rule_named(engine, "ERROR") == rule
