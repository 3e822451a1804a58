"""All pages, found by their links: each has a title, one heading, its place in the menu, fits, is legible and quiet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.sources.clock import Minute
from mutt.sources.fields import Field, Formed
from mutt.sources.heard import Refusal
from mutt.sources.observed import Count, Observed
from mutt.sources.silent import Silence
from mutt.store import keys, redactions, shadows, sources, storms, windows
from mutt.store.engine import transaction
from mutt.store.shadows import Edit
from mutt.store.users import Role
from tests.bench import Bench, benches, event
from tests.browser.test_admin_lists import CONTRAST, FAINT, filled
from tests.browser.test_admin_pages import parked
from tests.people import person

#: What is downloaded, or no page of the menu.
_ELSEWHERE = re.compile(r"\.(csv|yaml|json)$|/(csv|parquet)$|/logout$")

_FACTS = """() => ({
    title: document.title,
    headings: document.querySelectorAll('h1').length,
    width: document.documentElement.scrollWidth,
    current: document.querySelectorAll('.side [aria-current=page]').length,
    links: [...document.querySelectorAll('a[href]')].map(link => link.href.split('#')[0]),
})"""


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


def furnished(engine: Engine, bench: Bench, redis_url: str) -> None:
    """Something on every page: events, alerts that a window and a storm hold, a shadow, a dead letter."""
    now = datetime.now(UTC)
    person(engine, "eve", Role.VIEWER)
    with transaction(engine) as conn:
        policy = {"name": "wild", "group_by": "host", "alert_count": 2, "alert_window": 3600}
        storms.save(conn, policy, changed_by="ada")
        times = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1)}
        window = {"name": "new cards", "owner": "ada", "hostname": "edge-*", **times}
        windows.save(conn, window, changed_by="ada")
        keys.make(conn, "collector", ["ingest"], changed_by="ada")
        taken_out = {
            "name": "passwords",
            "pattern": "(?i)(password|secret|token)=" + "[^ ]" * 30,
            "position": 7,
        }
        redactions.save(conn, taken_out, changed_by="ada")
        shadows.start(conn, [Edit(None, {"match_string": "disk"})], changed_by="ada")
    bench.append(*(event(f"CRITICAL {n}", "core-1") for n in range(4)), event("CRITICAL fan", "edge-1"))
    bench.run()
    bench.record()
    filled(engine)
    parked(redis_url)
    off = Observed(
        first_at=1.0, heard_at=now.timestamp(), event_at=now.timestamp() - 900, events=9, refused=2,
        minutes=(Count(int(now.timestamp() // 60), 9, 2),), why=(Refusal("hostname", "is missing", 1.0, 2),),
        times=tuple(Minute(i, 3600.0, 4600.0) for i in range(9)),
        formats={"syslog": Formed(9, 200, 1000.0, {"program": Field(140, 1, 140, 1.0)})},
    )  # fmt: skip
    with transaction(engine) as conn:
        silence = Silence(now.timestamp() - 900, uuid4())
        sources.keep(conn, {"collector": sources.Stored(off, silence)})


def shape_of(address: str) -> str:
    """An address without what tells one row from another."""
    path, _, asked = address.partition("?")
    path = re.sub(r"/[0-9a-f]{8}-[0-9a-f-]{27}|/\d+(-\d+)?(?=/|$)", "/N", path)
    return path + "?".join(["", *sorted(re.findall(r"(\w+)=", asked))])


@pytest.mark.parametrize(("width", "color_scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_is_whole(
    log_in: Callable[..., Page],
    admin: str,
    engine: Engine,
    bench: Bench,
    redis_url: str,
    width: int,
    color_scheme: str,
) -> None:
    """From Home along every link there is; one of each kind."""
    furnished(engine, bench, redis_url)
    page = log_in(width=width, color_scheme=color_scheme)
    seen: set[str] = set()
    ahead = [admin + "/"]
    while ahead:
        address = ahead.pop(0)
        if shape_of(address) in seen or _ELSEWHERE.search(address.partition("?")[0]):
            continue
        seen.add(shape_of(address))
        answer = page.goto(address)
        assert answer and (address, answer.status) == (address, 200)
        ours = not address.endswith("/api/docs")
        if not ours:
            page.locator("h1").wait_for()
        found = page.evaluate(_FACTS)
        assert found["title"].endswith(" · MUTT") and len(found["title"]) > len(" · MUTT"), address
        told = (found["headings"], found["current"], found["width"])
        assert (address, *told) == (address, 1, int(ours), width)
        assert (address, page.evaluate(FAINT, CONTRAST) if ours else []) == (address, [])
        # Lists that are narrowed by two things at once look like those that are narrowed by one.
        ahead += [link for link in found["links"] if link.startswith(admin) and link.count("&") < 2]
    paths = {shape.removeprefix(admin).partition("?")[0] for shape in seen}
    for path in ("/audit/N", "/alerts/N", "/maintenance/N", "/storms/N", "/redactions/N", "/shadow/N",
                 "/history/N/undo", "/keys/collector/signing", "/keys/collector/source", "/versions/N/restore",
                 "/users/N", "/profile/", "/letters/alerts/N", "/sources/collector", "/rules/N", "/rules/lint/",
                 "/api/docs"):  # fmt: skip
        assert path in paths


def test_home_says_what_goes_on(
    log_in: Callable[..., Page], admin: str, engine: Engine, bench: Bench, redis_url: str
) -> None:
    """A window, a storm and a shadow, each a way to its page."""
    furnished(engine, bench, redis_url)
    page = log_in()
    going = page.get_by_label("What goes on")
    for name, path in (("new cards", "/maintenance/1"), ("wild", "/storms/1"), ("disk", "/shadow/1")):
        expect(going.get_by_role("link", name=name)).to_have_attribute("href", path)
    expect(going).to_contain_text("of host core-1: 2 alerts held")
    page.goto(f"{admin}/storms/")
    expect(page.get_by_role("row", name="host core-1")).to_contain_text("CRITICAL (2)")


def test_what_was_held_leads_to_what_held_it(
    log_in: Callable[..., Page], admin: str, engine: Engine, bench: Bench, redis_url: str
) -> None:
    """From the list of alerts: to the window, to the policy, and to a window for the host."""
    furnished(engine, bench, redis_url)
    page = log_in()
    for held, link, path in (
        ("maintenance", "maintenance window 1", "/maintenance/1"),
        ("storm", "storm policy 1", "/storms/1"),
    ):
        page.goto(f"{admin}/alerts/?status=held:{held}")
        page.locator("tbody tr").first.get_by_role("link").first.click()
        page.get_by_role("link", name=link).click()
        expect(page).to_have_url(admin + path)
    page.go_back()
    page.get_by_role("link", name="Its event").click()
    page.get_by_role("link", name="Put its host in maintenance").click()
    expect(page.get_by_label("Host", exact=True)).to_have_value("core-1")


@pytest.mark.parametrize("button", ["Back-test", "Run in shadow"])
def test_a_draft_that_is_refused_keeps_what_was_typed(
    log_in: Callable[..., Page], admin: str, button: str
) -> None:
    """In the rule's form, with what is wrong at its field; mended, it can be saved there."""
    page = log_in(refused=[422])  # the test beside the form refuses it, too
    page.goto(f"{admin}/rules/new")
    page.get_by_label("Match type").select_option("regex")
    page.get_by_label("Text", exact=True).fill("(?<=x)down")
    page.get_by_label("Team", exact=True).fill("Kept")
    page.get_by_label("Events", exact=True).fill("x down")
    page.get_by_role("button", name=button).click()
    expect(page.get_by_label("Text", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Team", exact=True)).to_have_value("Kept")
    expect(page.get_by_label("Events", exact=True)).to_have_value("x down")
    page.get_by_label("Text", exact=True).fill("x?down")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("is saved")
