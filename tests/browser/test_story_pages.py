"""Test before save and the pages of one event and one alert, in a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from mutt.budget.arithmetic import Budget
from mutt.moogsim.server import Simulator
from tests.bench import Bench, benches, clear, event
from tests.browser.test_admin_pages import LONG
from tests.forwarding import Works, turns_until


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


def told(bench: Bench) -> list[str]:
    """The addresses of pages with something on them: of each kind of answer."""
    down = event("LINK-DOWN Te1/0/3, changed state to down", "core-1", clear_key="k", program="%LINK-3-UPDOWN",
                 tags={"site": "lon1", "x": LONG}, severity=3)  # fmt: skip
    up = clear("up again", "core-1", clear_key="k")
    ignored, unhandled = event("ERROR x", "dev-router1"), event(f"port 12 {LONG}", "lb-1", raw=LONG)
    parked = event("CRITICAL a\0")
    bench.append(down, up, ignored, unhandled, parked)
    bench.run()
    works = Works(bench.redis, Budget(limit=100, period=0.1, threshold=1000), claim=0.1, patience=2.0)
    works.lift_fence()
    with Simulator() as moog:
        moog.behave("503")
        forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
        turns_until(forwarder, lambda: len(moog.starts) == 2)
        moog.behave("ok")
        turns_until(forwarder, lambda: len(works.outcomes()) == 2)
    bench.record()
    queued = event()
    bench.append(queued)
    pages = [f"/audit/{one.event_id}" for one in (down, up, ignored, unhandled, parked, queued)]
    return [*pages, *(f"/alerts/{row.alert_id}" for row in bench.alerts())]


@pytest.mark.parametrize(("width", "color_scheme"), [(1280, "light"), (390, "dark")])
def test_no_page_of_an_event_is_wider_than_its_screen(
    log_in: Callable[..., Page], admin: str, bench: Bench, width: int, color_scheme: str
) -> None:
    pages = told(bench)
    page = log_in(width=width, color_scheme=color_scheme)
    shots = os.environ.get("SHOTS")
    for number, path in enumerate((*pages, "/rules/test", f"/rules/test?event_ids={pages[0][7:]}")):
        assert page.goto(admin + path).status == 200
        assert (path, page.evaluate("document.documentElement.scrollWidth")) == (path, width)
        if shots:
            page.screenshot(path=f"{shots}/{width}-{number}.png", full_page=True)


def test_from_the_list_to_the_answer_by_keyboard(
    log_in: Callable[..., Page], admin: str, bench: Bench
) -> None:
    """Why did this not alert? The first sentence of the page behind the list."""
    told(bench)
    page = log_in()
    page.goto(f"{admin}/audit/?hostname=dev-router1")
    page.get_by_role("row", name="dev-router1").get_by_role("link").first.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("It did not alert because rule 2 ERROR has it ignored")
    page.get_by_role("link", name="Test a rule on it").press("Enter")
    expect(page.locator("mark")).to_have_text("ERROR")


def test_while_a_rule_is_typed_its_pane_says_what_it_matches(log_in: Callable[..., Page], admin: str) -> None:
    """Live, with the match marked; a fault is said there, and nothing is saved."""
    page = log_in(refused=[422])
    page.goto(f"{admin}/rules/new")
    page.get_by_label("Events", exact=True).fill("fan 2 failed\nCRITICAL fan")
    page.get_by_label("Text", exact=True).fill("fan")
    pane = page.locator("#tested")
    expect(pane.locator("mark")).to_have_text(["fan", "fan"])
    expect(pane).to_contain_text("this rule matches 2 and decides 1")
    page.get_by_label("Match type").select_option("regex")
    page.get_by_label("Text", exact=True).fill("(?=x)")
    expect(pane.get_by_role("alert")).to_contain_text("look-ahead")
    if shots := os.environ.get("SHOTS"):
        page.get_by_label("Text", exact=True).fill("fan( 2)?")
        expect(pane.locator("mark")).to_have_text(["fan 2", "fan"])
        page.screenshot(path=f"{shots}/pane.png", full_page=True)
