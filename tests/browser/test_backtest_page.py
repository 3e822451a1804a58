"""The pages of back-tests in a browser: they fit, and a rule goes from its form to the result, and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.backtest import jobs
from mutt.rules.evaluate import evaluate
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import audit, rulebook
from mutt.store.engine import transaction
from tests.bench import event

LONG = "x" * 400


@pytest.fixture
def services(redis_url: str, database_url: str) -> Services:
    """What a worker of back-tests has."""
    told = Settings.from_env({}, redis_url=redis_url, database_url=database_url)
    return Services(told, lambda *_a, **_k: None, role="test")


def store(engine: Engine, *messages: str) -> None:
    """Events of the last hours, judged."""
    with transaction(engine) as conn:
        ruleset = rulebook.load(conn, "NETO")
        for n, message in enumerate(messages):
            one = event(message, f"{message}-host", received_at=datetime.now(UTC) - timedelta(hours=n))
            row = audit.audit_row(
                one, evaluate(one, ruleset), ruleset_version=ruleset.version, batch_id="b", correlation_id="c"
            )
            audit.copy_rows(conn, [row])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_a_rule_goes_from_its_form_to_the_result_and_back(
    log_in: Callable[..., Page], admin: str, engine: Engine, services: Services, width: int, color_scheme: str
) -> None:
    """The page that waits becomes the one with the result by itself; all of it fits, and the form has the draft."""
    store(engine, "fan failed", "well", f"fan {LONG}")
    page = log_in(width=width, color_scheme=color_scheme)
    page.goto(f"{admin}/rules/new")
    page.get_by_label("Text", exact=True).fill("fan")
    page.get_by_label("Name").fill(f"fans {LONG[:60]}")
    page.get_by_role("button", name="Back-test").click()
    expect(page.get_by_role("status")).to_contain_text("Queued")
    page.wait_for_load_state("load")  # without its style sheet nothing fits
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert jobs.work(services) == {"done": 1}
    expect(page.get_by_role("heading", name="What changes")).to_be_visible(timeout=10_000)
    expect(page.get_by_role("img")).to_be_visible()
    for details in page.locator("details:not(.menu):not([open])").all():
        details.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_role("link", name="To the form, to save it").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("fan")
    assert page.goto(f"{admin}/backtests/").status == 200
    assert page.evaluate("document.documentElement.scrollWidth") == width
    services.engine.dispose()
