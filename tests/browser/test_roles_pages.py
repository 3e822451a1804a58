"""What a viewer, an operator and an administrator see in a browser: no more than they may do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.users import Role
from tests.bench import Bench, benches
from tests.browser.test_every_page import furnished, shape_of
from tests.people import PASSWORD, person
from tests.waiting import wait_until

_LINKS = "() => [...document.querySelectorAll('a[href]')].map(link => link.href.split('#')[0])"

#: What somebody who only looks presses: search and filters, and what is their own.
#: What a browser keeps as a file, and what was written by others.
NO_PAGES = (".csv", "/csv", "/parquet", ".yaml", ".json", "/api/docs")

_THEIRS = re.compile(
    r"^(Log out|Search|Explain|Compare|Try|Close|Change the password|End all my other sessions|Copy\s.*)$"
)


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


@pytest.fixture
def enter(admin: str, engine: Engine, open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the admin's first page as somebody with a role."""

    def entered(role: Role, **how: Any) -> Page:
        person(engine, "ada", role)
        page = open_page(**how)
        page.goto(f"{admin}/login")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("navigation").wait_for()
        return page

    return entered


def test_a_viewer_reads_everything_and_can_press_nothing(
    enter: Callable[..., Page], admin: str, engine: Engine, bench: Bench, redis_url: str
) -> None:
    """Along every link there is: each page is there, and none has a button that changes something."""
    furnished(engine, bench, redis_url)
    page = enter(Role.VIEWER, width=390)
    expect(page.locator("header .who")).to_contain_text("ada viewer")
    seen: set[str] = set()
    ahead = [f"{admin}/"]
    while ahead:
        # What is asked of a page changes no button of it.
        address = ahead.pop(0).partition("?")[0]
        if shape_of(address) in seen or address.endswith(NO_PAGES):
            continue
        seen.add(shape_of(address))
        answer = page.goto(address)
        assert answer and (address, answer.status) == (address, 200)
        buttons = page.locator("button:visible:enabled").all_inner_texts()
        assert [(address, name) for name in buttons if not _THEIRS.match(name.strip())] == []
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert (address, width) == (address, 390)
        ahead += [link for link in page.evaluate(_LINKS) if link.startswith(admin)]
    paths = {shape.removeprefix(admin) for shape in seen}
    assert {"/rules/N", "/maintenance/N", "/storms/N", "/shadow/N", "/letters/alerts/N", "/profile/"} <= paths
    assert not paths & {"/users/", "/rules/new", "/rules/test", "/history/N/undo", "/maintenance/new"}


def test_a_viewer_who_asks_all_the_same_is_told_which_role_it_takes(
    enter: Callable[..., Page], admin: str
) -> None:
    """By a page's address; and the key that begins a rule does nothing."""
    page = enter(Role.VIEWER)
    answer = page.goto(f"{admin}/rules/new")
    assert answer and answer.status == 403
    expect(page.get_by_role("main")).to_contain_text("needs the role operator; ada is viewer")
    page.keyboard.press("n")
    expect(page).to_have_url(f"{admin}/rules/new")


def test_an_operator_tries_a_draft_and_can_not_save_it(enter: Callable[..., Page], admin: str) -> None:
    """The test beside the form answers as one types; Save and Delete are not there, and Enter only tests."""
    page = enter(Role.OPERATOR)
    page.goto(f"{admin}/rules/1")
    page.get_by_label("Events", exact=True).fill("a message of some kind")
    expect(page.locator("#tested")).to_contain_text("Nothing is saved")
    for name in ("Save", "Run in shadow", "Delete for good"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    expect(page.get_by_role("button", name="Back-test")).to_be_visible()


def test_a_change_in_place_without_its_token_is_said_in_place(
    log_in: Callable[..., Page], admin: str
) -> None:
    """The row stays as it is, and what to do stands at the head of the page that is open."""
    page = log_in(refused=[400])
    page.goto(f"{admin}/rules/")
    page.evaluate("document.querySelectorAll('[name=csrf_token]').forEach(field => field.value = 'gone')")
    row = page.locator("tbody tr").first
    before = row.get_by_role("button", name="Switch").inner_text()
    row.get_by_role("button", name="Switch").click()
    expect(page.get_by_role("alert")).to_contain_text("load the page again")
    assert row.get_by_role("button", name="Switch").inner_text() == before
    page.reload()
    expect(page.locator("tbody tr").first.get_by_role("button", name="Switch")).to_have_text(before)


@pytest.mark.parametrize("cookie", ["kept", "gone"])
def test_a_session_that_ended_leads_from_a_change_in_place_to_the_login_and_back(
    enter: Callable[..., Page], admin: str, engine: Engine, cookie: str
) -> None:
    """Whether the server ended it or the browser forgot it."""
    page = enter(Role.ADMIN, refused=[401])
    # What the list asks for by itself is to be there first: else that leads to the login.
    with page.expect_response(lambda answer: "/rules/badges" in answer.url):
        page.goto(f"{admin}/rules/?active=on")
    if cookie == "gone":
        page.context.clear_cookies()
    else:
        with transaction(engine) as conn:
            users.end_sessions(conn, "ada", changed_by="test")
        wait_until(lambda: page.request.get(f"{admin}/profile/", max_redirects=0).status == 302, 5)
    page.locator("tbody tr").first.get_by_role("button", name="Switch").click()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{admin}/rules/?active=on")


@pytest.mark.parametrize("width", [1280, 390])
def test_an_administrator_makes_a_user_who_changes_their_password(
    log_in: Callable[..., Page], open_page: Callable[..., Page], admin: str, width: int
) -> None:
    """The password is shown once; with it the user logs in, and gives themselves another."""
    page = log_in(width=width)
    page.goto(f"{admin}/users/")
    page.get_by_role("link", name="New user").click()
    page.get_by_label("Name").fill("grace@example.net")
    page.get_by_label("Role").select_option("operator")
    page.get_by_role("button", name="Make").click()
    made = page.locator("main pre").inner_text()
    page.get_by_role("link", name="All users").click()
    expect(page.get_by_role("row", name="grace@example.net")).to_contain_text("operator")
    assert made not in page.content()

    theirs = open_page(width=width)
    theirs.goto(admin)
    theirs.get_by_label("Name").fill("grace@example.net")
    theirs.get_by_label("Password").fill(made)
    theirs.keyboard.press("Enter")
    theirs.locator("header .who a").click()
    theirs.get_by_label("Password now").fill(made)
    for label in ("New password", "New password again"):
        theirs.get_by_label(label, exact=True).fill(PASSWORD)
    theirs.get_by_role("button", name="Change the password").click()
    expect(theirs.get_by_role("status")).to_contain_text("is changed")
