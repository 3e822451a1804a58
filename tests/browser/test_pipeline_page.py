"""The pipeline page: it moves by itself, names what holds the pipeline up, and is for everybody, at any width."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.pulse.sample import Redis
from mutt.store import rulebook
from mutt.store.engine import transaction
from tests import pulses
from tests.admin_client import PASSWORD
from tests.browser.conftest import SEALING
from tests.browser.test_admin_lists import CONTRAST, FAINT, REACHABLE
from tests.doors import served
from tests.pulses import Fleet

#: Milliseconds in which something new is shown.
SOON = 15_000

FULL, FULLER = (
    (Redis("127.0.0.1:6379", int(share * pulses.GIB), pulses.GIB, 0.2, 4_000.0),) for share in (0.95, 0.97)
)


@pytest.fixture
def admin(engine: Engine, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[str]:
    """The address of an admin as gunicorn serves it, with threads for fewer than look."""
    with transaction(engine) as conn:
        rulebook.seed(conn)
    env = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ADMIN_PASSWORD": PASSWORD,
        "SEALING_KEY": SEALING,
        "FLOWER_URL": "http://127.0.0.1:5555",
        "METRICS_URL": "http://127.0.0.1:9400/metrics",
    }
    with served("admin", env, tmp_path, "--threads", "2") as (port, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    """A fleet that is well, until it is told to be otherwise."""
    with redis.Redis.from_url(redis_url) as client, Fleet(client) as made:
        yield made


def test_figures_move_by_themselves(log_in: Callable[..., Page], fleet: Fleet) -> None:
    """Words, bars and charts, without a load; and who left the page costs nothing."""
    page = log_in()
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    queue = page.locator("[data-queue=ingest_queue]")
    expect(queue.locator('[data-figure="events.queued"]')).to_have_text("7")
    expect(page.locator(".plots canvas")).to_have_count(6)
    fleet.be(
        {"events_in": 1_204.0},
        events={"accepted": 1_300_000, "settled": 1_287_655, "queued": 12_345},
        queues=pulses.queues(ingest_queue=25, alert_queue_minor=9),
        processes=pulses.processes(time.time() + 60, alerts=0.88),
    )
    expect(queue.locator('[data-figure="events.queued"]')).to_have_text("12,345", timeout=SOON)
    expect(queue.locator('[data-figure="ingest_queue.oldest"]')).to_have_text("2.5 s")
    expect(page.locator('[data-queue="alert_queue:minor"]')).to_contain_text("9")
    expect(page.locator("[data-place=senders] .big")).to_have_text("1,204/s")
    assert page.locator('[data-bar="evaluate.busy"]').evaluate("bar => bar.value") == pytest.approx(0.88)
    expect(page.locator(".plots figure").first).to_contain_text("in 1,204")
    expect(page.locator(".books")).to_contain_text("1,300,000")
    # The cursor stands in all charts at once, and tells its time.
    page.locator(".plots .u-over").first.hover(position={"x": 60, "y": 40})
    for figure in page.locator(".plots figure").all():
        expect(figure.locator(".when")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))


def test_a_trouble_comes_with_what_to_do_and_goes(log_in: Callable[..., Page], fleet: Fleet) -> None:
    """It is named on top, where it is in the picture, and read aloud once; its command can be taken along."""
    page = log_in()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    expect(page.locator('[data-trouble=""]')).to_have_text("Nothing holds it up.")
    fleet.be(redis=FULL)
    trouble = page.locator("[data-trouble=redis-memory]")
    expect(trouble).to_be_visible(timeout=SOON)
    expect(trouble.get_by_role("heading")).to_contain_text("Redis")
    expect(page.locator("[data-place=redis]")).to_have_attribute("data-state", "first")
    expect(page.locator("#heard")).to_contain_text("Holds it up: Redis")
    expect(trouble.get_by_role("link")).to_have_attribute("href", "/runbook/#redis-memory")
    copy = trouble.get_by_role("button", name="Copy")
    copy.focus()
    fleet.be(redis=FULLER)  # the same trouble with other figures: who has the focus keeps it
    expect(page.locator('[data-figure="trouble.redis-memory.why"]')).to_contain_text("97%", timeout=SOON)
    expect(copy).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#heard")).to_have_text("Copied.")
    assert "maxmemory" in page.evaluate("navigator.clipboard.readText()")
    fleet.be()
    expect(page.locator('[data-trouble=""]')).to_be_visible(timeout=SOON)
    expect(trouble).to_have_count(0)
    expect(page.locator("[data-place=redis]")).to_have_attribute("data-state", "")


def test_it_fits_and_can_be_read_and_reached(log_in: Callable[..., Page], fleet: Fleet) -> None:
    """On a telephone the flow goes from top to bottom; between that and a desk nothing sticks out either."""
    fleet.be(redis=FULL)
    page = log_in(width=390, color_scheme="dark")
    expect(page.locator("[data-trouble=redis-memory]")).to_be_visible(timeout=SOON)
    expect(page.locator(".plots canvas")).to_have_count(6)
    page.get_by_text("The hour in numbers").click()
    boxes = [
        page.locator(f"[data-place={name}]").bounding_box() for name in ("senders", "ingest", "evaluate")
    ]
    tops = [box["y"] for box in boxes if box]
    assert tops == sorted(set(tops))
    for width in (390, 800, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
        assert page.evaluate(FAINT, CONTRAST) == []
    page.locator("h1").click()
    reached = set()
    for _ in range(page.evaluate(REACHABLE) + 2):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert {"Flower", "Metrics", "alerts wait"} <= reached
    assert any(one.startswith("Copy") for one in reached)


def test_without_scripts_it_stands_still_and_says_so(
    log_in: Callable[..., Page], admin: str, fleet: Fleet
) -> None:
    """All that the server wrote is there."""
    fleet.be(redis=FULL)
    told = log_in()
    still = told.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, storage_state=told.context.storage_state()
    )
    page = still.new_page()
    page.goto(admin)
    expect(page.locator("noscript .warning")).to_be_visible()
    expect(page.locator("[data-trouble=redis-memory]")).to_be_visible()
    expect(page.locator('[data-figure="events.queued"]').first).to_have_text("7")
    page.get_by_text("The hour in numbers").click()
    expect(page.get_by_role("row").nth(1)).to_be_visible()
    still.close()


def test_a_session_that_ends_leads_to_the_login(log_in: Callable[..., Page], fleet: Fleet) -> None:
    """In the page that is looked at, when one logs out in another."""
    page = log_in(refused=(401,))
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    other = page.context.new_page()
    other.goto(page.url + "profile/")
    other.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible(timeout=SOON)
