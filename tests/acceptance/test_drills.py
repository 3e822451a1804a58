"""Each drill on a real stack, with a Chromium on the pipeline page: it names what holds the pipeline up, and the books
balance after."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mutt.drills.faults import FAULTS
from tests.browser.conftest import FLAGS, NAMES
from tests.servers import lacking, scratch
from tests.stack import QUICK, Stack, running

#: A limit that the storm uses up whatever else this machine has to do; the ordinary load needs half of it.
SETTINGS = {**QUICK, "MOOG_RATE_LIMIT": "40"}

#: Seconds that a fault lasts once it is named: as long as the page may be behind.
HOLD = 6

WITHIN_MS = 60_000


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with scratch() as directory, running(directory / "home", SETTINGS) as stack:
        yield stack


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Page]:
    """The pipeline page, as somebody who logged in left it open."""
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        lacking(f"no browser: none of {', '.join(NAMES)} is on PATH (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        page = chromium.new_page()
        page.goto(str(stack.up["admin"]))
        page.get_by_label("Name").fill(str(stack.up["admin_user"]))
        page.get_by_label("Password").fill(str(stack.up["admin_password"]))
        page.keyboard.press("Enter")
        page.get_by_role("navigation").wait_for()
        yield page
        chromium.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_the_page_names_what_is_broken_and_the_books_balance_after(
    stack: Stack, page: Page, name: str
) -> None:
    argv = [sys.executable, "-m", "mutt", "drill", name, "--json", "--hold", str(HOLD)]
    with subprocess.Popen(argv, env=stack.environ, stdout=subprocess.PIPE, text=True) as drill:
        try:
            first = f'.trouble.first[data-trouble="{FAULTS[name].named[0]}"]'
            expect(page.locator(first)).to_be_visible(timeout=WITHIN_MS)
        finally:
            out, _ = drill.communicate(timeout=330)
    result = json.loads(out)
    assert result["good"], result
    assert (result["lost"], result["double"]) == (0, 0), result
