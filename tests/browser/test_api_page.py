"""The page to try the API works under the pages' policy, on a telephone, by keyboard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect


@pytest.mark.parametrize("width", [1280, 390])
def test_a_logged_in_operator_tries_a_call(log_in: Callable[..., Page], admin: str, width: int) -> None:
    """The list of operations comes, one is opened and sent by keyboard, and nothing is wider than the screen."""
    page = log_in(width=width)
    page.goto(f"{admin}/api/docs")
    page.locator("#operations-tag-version button.expand-operation").focus()
    page.keyboard.press("Enter")
    operation = page.locator(".opblock", has=page.locator("[data-path='/version']"))
    operation.locator(".opblock-summary-control").focus()
    page.keyboard.press("Enter")
    operation.get_by_role("button", name="Try it out").focus()
    page.keyboard.press("Enter")
    operation.get_by_role("button", name="Execute").focus()
    page.keyboard.press("Enter")
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
