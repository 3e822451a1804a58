"""The lists in a browser: changed where they stand, by keyboard, and legible in every light."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import devices, rulebook
from mutt.store.engine import transaction
from tests.browser.test_admin_pages import PAGES, raised, save

#: The least that WCAG 2.2 AA asks for of text.
CONTRAST = 4.5

#: The contrast of each text of a page to what it stands on, of those that have too little.
FAINT = """least => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const known = new Map();
    const rgba = colour => {
        if (!known.has(colour)) {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
        }
        return known.get(colour);
    };
    const ground = element => {
        for (let one = element; one; one = one.parentElement) {
            const colour = rgba(getComputedStyle(one).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
    };
    const light = colour => {
        const [r, g, b] = colour.map(part => part / 255).map(
            part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || element.closest('.off, :disabled, .visually-hidden')) continue;
        const [one, other] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < least) faint.push(`${element.tagName} ${element.className}: ${ratio.toFixed(2)}`);
    }
    return faint;
}"""

#: What of a page can be reached by Tab, as it stands.
REACHABLE = """() => [...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
    .filter(one => one.checkVisibility({ visibilityProperty: true }) && !one.disabled && one.type !== 'hidden'
                   && one.tabIndex >= 0)
    .length"""


def filled(engine: Engine) -> None:
    """Something of everything in the lists."""
    save(
        engine,
        name="BGP",
        match_string="BGP-5",
        team_assignment="Backbone",
        hostname="core-*",
        dedup_window=60,
    )
    raised(engine, status="parked", reason="Moog refused it")
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"is_active": False}, rule_id=2, changed_by="grace", reason="too loud")
        rulebook.save_rule(conn, {"match_string": "CRITICAL fan"}, rule_id=1, changed_by="grace")
        devices.put_team(conn, "core-1", "Core", changed_by="ada")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_text_can_be_read(
    log_in: Callable[..., Page], admin: str, engine: Engine, color_scheme: str
) -> None:
    """Against what it stands on, by day and by night."""
    filled(engine)
    page = log_in(color_scheme=color_scheme)
    for path in (*PAGES, "/rules/1", "/history/1/undo", "/rules/import", "/letters/"):
        page.goto(admin + path)
        assert (path, page.evaluate(FAINT, CONTRAST)) == (path, [])


@pytest.mark.parametrize("path", ["/rules/", "/rules/new", "/teams/", "/audit/", "/history/"])
def test_tab_reaches_everything_and_leaves_again(
    log_in: Callable[..., Page], admin: str, engine: Engine, path: str
) -> None:
    """Each control of a page once, in the order in which they stand, and each shows that it has the focus."""
    filled(engine)
    page = log_in()
    page.goto(admin + path)
    wanted, reached = page.evaluate(REACHABLE), []
    page.evaluate("document.activeElement.blur()")
    described = """() => {
        const one = document.activeElement;
        if (one === document.body) return null;
        one.dataset.reached ??= document.querySelectorAll('[data-reached]').length;
        const style = getComputedStyle(one);
        return [one.dataset.reached, style.outlineStyle !== 'none' || style.boxShadow !== 'none'];
    }"""
    for _ in range(20 * wanted):
        page.keyboard.press("Tab")
        found = page.evaluate(described)
        if found is None or (reached and found[0] == "0"):
            break
        if not reached or found[0] != reached[-1][0]:
            reached.append(found)  # a field for a time has several stops
    assert len({number for number, _ in reached}) >= wanted
    assert all(visible for _, visible in reached)


def test_the_first_tab_leads_past_the_menu(log_in: Callable[..., Page]) -> None:
    page = log_in()
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip to the content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_on_a_telephone_the_menu_opens_and_leads_on(log_in: Callable[..., Page], admin: str) -> None:
    page = log_in(width=390)
    expect(page.get_by_role("link", name="Audit", exact=True)).to_be_hidden()
    page.locator("summary", has_text="Menu").press("Enter")
    page.get_by_role("link", name="Audit", exact=True).click()
    expect(page).to_have_url(f"{admin}/audit/")


def test_a_priority_and_a_switch_are_changed_in_place(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """The page stays, says what was done, and the same row can be changed again at once."""
    page = log_in()
    page.goto(f"{admin}/rules/")
    page.evaluate("window.stayed = true")
    for priority in ("33", "34"):
        field = page.get_by_label("Priority of CRITICAL")
        field.fill(priority)
        field.press("Enter")
        expect(page.get_by_role("status")).to_contain_text(f"has priority {priority}")
        expect(page.get_by_label("Priority of CRITICAL")).to_have_value(priority)
    expect(page.get_by_label("Priority of CRITICAL")).to_be_focused()
    page.get_by_role("button", name="Switch CRITICAL off").click()
    expect(page.get_by_role("button", name="Switch CRITICAL on")).to_have_text("off")
    assert page.evaluate("window.stayed")
    with transaction(engine) as conn:
        rule = rulebook.get_rule(conn, 1)
    assert rule and (rule.priority, rule.is_active) == (34, False)


def test_in_place_a_conflict_shows_what_stands(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """Nothing is written over; with what stands seen, the change can be made."""
    page = log_in(refused=[409])
    page.goto(f"{admin}/rules/")
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3}, rule_id=1, changed_by="grace")
    field = page.get_by_label("Priority of CRITICAL")
    field.fill("44")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("by grace")
    expect(field).to_have_value("3")
    field.fill("44")
    field.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("has priority 44")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_what_is_wrong_in_place_is_said_in_place(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """A rule that is gone: the page stays, and says so."""
    page = log_in(refused=[404])
    page.goto(f"{admin}/rules/")
    with transaction(engine) as conn:
        rulebook.delete_rule(conn, 1, changed_by="grace")
    page.get_by_label("Priority of CRITICAL").press("Enter")
    expect(page.locator("#said")).to_contain_text("There is no rule 1")


def test_without_script_the_lists_work_as_well(browser: Any, admin: str, engine: Engine) -> None:
    """Plain forms: a priority by Enter, a tick and a button."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{admin}/login?next=/rules/?q%3DCRITICAL")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Priority of CRITICAL").fill("21")
    page.get_by_label("Priority of CRITICAL").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("has priority 21")
    assert page.url.endswith("/rules/?q=CRITICAL")
    page.get_by_label("Tick CRITICAL").check()
    page.locator("summary", has_text="Change many").click()
    page.get_by_role("button", name="Switch off").click()
    expect(page.get_by_role("status")).to_contain_text("1 rule is off")
    context.close()
    with transaction(engine) as conn:
        rule = rulebook.get_rule(conn, 1)
    assert rule and (rule.priority, rule.is_active) == (21, False)


def test_all_of_a_page_are_ticked_and_changed_at_once(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    page = log_in()
    page.goto(f"{admin}/rules/?q=o")
    shown = page.locator("tbody tr").count()
    page.locator("summary", has_text="Change many").press("Enter")
    page.get_by_label("All on this page").check()
    expect(page.get_by_text(f"{shown} ticked")).to_be_visible()
    page.get_by_role("button", name="Switch off").press("Enter")
    expect(page.get_by_role("status")).to_contain_text(f"{shown} rules are off")
    with transaction(engine) as conn:
        assert sum(not rule.is_active for rule in rulebook.list_rules(conn)) == shown


def test_two_edits_of_one_rule_meet_in_the_form(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """Mine is kept, theirs is shown; I take over one of theirs, and save mine over the others."""
    page = log_in(refused=[422])
    page.goto(f"{admin}/rules/1")
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3, "team_assignment": "Theirs"}, rule_id=1, changed_by="grace")
    page.get_by_label("Priority").fill("8")
    page.get_by_label("Why", exact=True).fill("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="by grace")).to_be_visible()
    expect(page.get_by_role("row", name="Team NETO")).to_contain_text("Theirs")
    page.get_by_role("button", name="Take over Team").press("Enter")
    expect(page.get_by_label("Team", exact=True)).to_have_value("Theirs")
    expect(page.get_by_label("Priority", exact=True)).to_have_value("8")
    page.get_by_role("button", name="Save yours").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("is saved")
    with transaction(engine) as conn:
        rule = rulebook.get_rule(conn, 1)
    assert rule and (rule.priority, rule.team_assignment) == (8, "Theirs")


def test_keys_lead_to_search_help_and_a_new_rule(log_in: Callable[..., Page], admin: str) -> None:
    """And are letters like any other while one types."""
    page = log_in()
    page.goto(f"{admin}/rules/")
    page.keyboard.press("/")
    search = page.get_by_label("Search", exact=True)
    expect(search).to_be_focused()
    page.keyboard.type("n?/")
    expect(search).to_have_value("n?/")
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("n")  # the help is open: nothing else listens
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile("/rules/new$"))


def test_the_list_shows_what_the_linter_says(log_in: Callable[..., Page], admin: str, engine: Engine) -> None:
    """Beside each rule, also after a change in place; and in the rule's form, with the reason."""
    rule_id = save(engine, name="deaf", match_string="CRITICAL fan", priority=500)
    page = log_in()
    page.goto(f"{admin}/rules/")
    badge = page.locator(f"#badges-{rule_id} .badge", has_text="unreachable")
    expect(badge).to_be_visible()
    page.get_by_label("Priority of deaf").fill("501")
    page.get_by_label("Priority of deaf").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("has priority 501")
    expect(badge).to_be_visible()
    page.get_by_role("link", name="deaf", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("unreachable")


def test_a_filter_acts_when_it_is_chosen(log_in: Callable[..., Page], admin: str) -> None:
    page = log_in()
    page.goto(f"{admin}/rules/")
    page.get_by_label("Match type").select_option("oid_prefix")
    expect(page).to_have_url(re.compile("match_type=oid_prefix"))
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_change_is_undone_with_a_click_and_a_look(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """From the history: what it would do, the reason, and that it is done."""
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"priority": 3}, rule_id=1, changed_by="grace")
    page = log_in()
    page.goto(f"{admin}/history/?who=grace")
    page.get_by_role("link", name="Undo change").click()
    expect(page.get_by_role("row", name="priority")).to_contain_text("10")
    page.get_by_label("Why").fill("too early")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status")).to_contain_text("is taken back")
    with transaction(engine) as conn:
        rule = rulebook.get_rule(conn, 1)
    assert rule and rule.priority == 10


def test_a_team_is_changed_in_place_by_keyboard(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    filled(engine)
    page = log_in()
    page.goto(f"{admin}/teams/")
    page.get_by_label("Team of core-1").fill("Edge")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Set")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("core-1 belongs to Edge")
    page.get_by_role("button", name="Remove core-1").click()
    expect(page.get_by_text("core-1 has no team of its own any more")).to_be_visible()
    expect(page.get_by_label("Team of core-1")).to_have_count(0)
