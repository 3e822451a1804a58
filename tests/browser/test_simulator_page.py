"""The simulator's page shows what came, and sets what it answers."""

from __future__ import annotations

from collections.abc import Callable

import requests
from playwright.sync_api import Page, expect

from mutt.moogsim.server import Simulator


def test_the_page_shows_what_came_and_sets_the_answer(open_page: Callable[..., Page]) -> None:
    with Simulator() as moog:
        page = open_page()
        page.goto(moog.url)
        event = {"signature": "core-1::7", "source": "core-1", "severity": 5, "description": "<b>down</b>"}
        assert requests.post(moog.enterprise_url, json={"events": [event]}, timeout=5).ok
        expect(page.locator("#alerts")).to_contain_text("<b>down</b>")
        page.get_by_label("Answer with").select_option("503")
        page.get_by_role("button", name="Set").press("Enter")
        expect(page.locator("#note")).not_to_be_empty()
        assert requests.post(moog.enterprise_url, json={"events": [event]}, timeout=5).status_code == 503
        page.get_by_role("button", name="Forget all").click()
        expect(page.locator("#alerts")).to_be_empty()
