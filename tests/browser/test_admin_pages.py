"""The admin in a browser: it fits, it works by keyboard, and it says what is wrong where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, insert

from mutt import codec, names
from mutt.event import Envelope, Segment
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.store.tables import alerts
from tests.bench import benches, event
from tests.integration.test_admin_records import alert_row

PAGES = ("/", "/rules/", "/rules/new", "/hosts/", "/teams/", "/audit/", "/alerts/", "/history/")

#: Longer than any screen, and without a place to break.
LONG = "x" * 400


def save(engine: Engine, **rule: object) -> int:
    with transaction(engine) as conn:
        return rulebook.save_rule(conn, rule, changed_by="test").id


def parked(redis_url: str) -> str:
    """A dead letter; its id."""
    fields, _ = codec.encode(Envelope([Segment("b", "c", [event(LONG, tags={LONG: LONG})])]))
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    why = f'{{"reason": "refused by PostgreSQL", "detail": "{LONG}", "attempts": 3}}'
    with redis.Redis.from_url(redis_url) as client:
        return str(client.xadd(names.DLQ_ALERTS, {**told, "why": why}).decode())


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(
    log_in: Callable[..., Page], admin: str, engine: Engine, redis_url: str, width: int, color_scheme: str
) -> None:
    """On a desk and on a telephone, also with a text that can't be broken."""
    rule_id = save(engine, match_string=LONG, team_assignment="NetOps")
    letter = f"/letters/alerts/{parked(redis_url)}"
    page = log_in(width=width, color_scheme=color_scheme)
    for path in (*PAGES, f"/rules/{rule_id}", "/letters/", "/letters/alerts/", letter, f"{letter}/edit"):
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
    page = log_in(refused=[422])  # the test beside the form refuses it, too
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


def lines_of(page: Page, selector: str) -> int:
    """In how many lines the text of an element stands."""
    script = """element => {
        const range = document.createRange();
        range.selectNodeContents(element);
        return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
    }"""
    return int(page.locator(selector).first.evaluate(script))


def raised(engine: Engine, **given: object) -> None:
    with transaction(engine) as conn:
        conn.execute(insert(alerts).values(**alert_row("", datetime.now(UTC)) | given))


def test_a_team_is_not_broken_within_its_word(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    raised(engine, team="Infrastructure", description="CRITICAL power supply 2 failed, slot 11 " * 4)
    page = log_in()
    page.goto(f"{admin}/alerts/")
    assert lines_of(page, "td[data-label=Team]") == 1


def test_on_a_telephone_an_empty_value_has_no_label(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    raised(engine, moog_status=None, reason="", rule_id=None, team="NetOps")
    page = log_in(width=390)
    page.goto(f"{admin}/alerts/")
    for label in ("Rule", "Moog"):
        expect(page.locator(f"td[data-label={label}]").first).to_be_hidden()
    expect(page.locator("td[data-label=Team]").first).to_be_visible()
    page.goto(f"{admin}/rules/")
    expect(page.locator("td[data-label=Only]").first).to_be_hidden()


def test_on_a_telephone_a_label_stands_at_the_top_of_what_it_names(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    rule_id = save(engine, match_string="BGP", team_assignment="NetOps")
    with transaction(engine) as conn:
        changes = {"match_string": "BGP-5", "priority": 7}
        rulebook.save_rule(conn, changes, rule_id=rule_id, changed_by="test")
    page = log_in(width=390)
    page.goto(f"{admin}/history/")
    assert lines_of(page, "td[data-label=Changed] ul") > 1
    # The label is no element of its own to measure; at the base line it would stand beside the last line.
    align = page.locator("td[data-label=Changed] ul").first.evaluate(
        "ul => getComputedStyle(ul).verticalAlign"
    )
    assert align == "top"


def test_a_button_stands_on_the_line_of_its_field(log_in: Callable[..., Page], admin: str) -> None:
    page = log_in()
    for path, field, button in (("/hosts/", "Host", "Add"), ("/audit/", "Rows", "Search")):
        page.goto(admin + path)
        main = page.get_by_role("main")
        boxes = (
            main.get_by_label(field, exact=True).bounding_box(),
            main.locator("form.row").get_by_role("button", name=button).bounding_box(),
        )
        tops = [box["y"] for box in boxes if box]
        assert len(tops) == 2
        assert abs(tops[0] - tops[1]) < 4, path


def test_a_reason_is_told_apart_from_its_label(log_in: Callable[..., Page], admin: str) -> None:
    page = log_in(refused=[422])  # the test beside the form refuses it, too
    page.goto(f"{admin}/rules/new")
    page.get_by_label("Text", exact=True).fill("x")
    page.get_by_label("Priority").fill("abc")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#priority-error")).to_contain_text("Priority: 'abc'")


def test_a_letter_is_found_edited_and_sent_by_keyboard_alone(
    log_in: Callable[..., Page], redis_url: str, database_url: str
) -> None:
    """From the first page to the copy that is accepted, without a mouse."""
    with benches(redis_url, database_url) as (bench,):
        bench.append(event("CRITICAL fan", severity=99_999))
        bench.run()
        page = log_in()
        for name in ("Dead letters", "refused by PostgreSQL"):
            page.get_by_role("link", name=name, exact=True).press("Enter")
        page.get_by_role("row").nth(1).get_by_role("link").press("Enter")
        page.get_by_role("button", name="Try against the present rules").press("Enter")
        expect(page.get_by_role("status")).to_contain_text("smallint")
        page.get_by_role("link", name="Edit a copy").press("Enter")
        page.get_by_label("Severity", exact=True).fill("2")
        page.get_by_role("button", name="Send the copy").press("Enter")
        expect(page.get_by_role("status")).to_contain_text("is accepted (changed: severity)")
        assert bench.events == {"accepted": 2, "dropped": 1, "queued": 1}
