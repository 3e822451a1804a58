"""The admin in a browser: it fits, it works by keyboard, and it says what is wrong where it is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import rulebook
from mutt.store.engine import transaction

PAGES = ("/", "/rules/", "/rules/new", "/hosts/", "/teams/", "/audit/", "/alerts/", "/history/")

#: Longer than any screen, and without a place to break.
LONG = "x" * 400


def save(engine: Engine, **rule: object) -> int:
    with transaction(engine) as conn:
        return rulebook.save_rule(conn, rule, changed_by="test").id


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(
    log_in: Callable[..., Page], admin: str, engine: Engine, width: int, color_scheme: str
) -> None:
    """On a desk and on a telephone, also with a text that can't be broken."""
    rule_id = save(engine, match_string=LONG, team_assignment="NetOps")
    page = log_in(width=width, color_scheme=color_scheme)
    for path in (*PAGES, f"/rules/{rule_id}"):
        assert page.goto(admin + path).status == 200
        assert (path, page.evaluate("document.documentElement.scrollWidth")) == (path, width)


def test_dark_and_light_follow_the_reader(log_in: Callable[..., Page]) -> None:
    """The page's own ground is dark where the reader asked for it."""
    ground = "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"
    dark, light = (log_in(color_scheme=scheme).evaluate(ground) for scheme in ("dark", "light"))
    assert dark != light


def test_a_rule_is_written_by_keyboard_alone(log_in: Callable[..., Page], engine: Engine) -> None:
    """From the first page to the saved rule, without a mouse."""
    page = log_in()
    page.get_by_role("link", name="Rules", exact=True).press("Enter")
    page.get_by_role("link", name="New rule").press("Enter")
    for label, text in (
        ("Text", "BGP-5-ADJCHANGE"),
        ("Name", "BGP"),
        ("Priority", "7"),
        ("Team", "Backbone"),
    ):
        page.get_by_label(label, exact=True).focus()
        page.keyboard.press("Control+A")
        page.keyboard.type(text)
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Rule “BGP” is saved")
    expect(page.get_by_role("row", name="BGP-5-ADJCHANGE")).to_contain_text("Backbone")
    with transaction(engine) as conn:
        (rule,) = [rule for rule in rulebook.list_rules(conn) if rule.name == "BGP"]
    assert (rule.match_string, rule.priority, rule.team_assignment) == ("BGP-5-ADJCHANGE", 7, "Backbone")


def test_a_refused_rule_keeps_what_was_typed_and_says_why_at_its_field(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """A pattern that can't be matched in linear time is named beside the field, and nothing is saved."""
    page = log_in()
    page.goto(f"{admin}/rules/new")
    page.get_by_label("Match type").select_option("regex")
    page.get_by_label("Text", exact=True).fill("(?<=x)down")
    page.get_by_label("Team", exact=True).fill("NetOps")
    page.get_by_role("button", name="Save").click()
    text = page.get_by_label("Text", exact=True)
    expect(text).to_have_attribute("aria-invalid", "true")
    expect(text).to_have_value("(?<=x)down")
    expect(page.locator(f"#{text.get_attribute('aria-describedby')}")).to_contain_text("look-behind")
    expect(page.get_by_label("Team", exact=True)).to_have_value("NetOps")
    with transaction(engine) as conn:
        assert not any(rule.match_type == "regex" for rule in rulebook.list_rules(conn))
