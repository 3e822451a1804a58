"""Versions and the linter in a browser: they fit, and an import goes from the file by its plan to a new version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.store import rulebook
from mutt.store.engine import transaction

#: Longer than any screen, and without a place to break.
LONG = "x" * 400


def save(engine: Engine, **rule: object) -> int:
    """Save a rule; the version that it made."""
    with transaction(engine) as conn:
        rulebook.save_rule(conn, rule, changed_by="test", reason="it was asked for")
        return rulebook.current_version(conn)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(
    log_in: Callable[..., Page], admin: str, engine: Engine, width: int, color_scheme: str
) -> None:
    """On a desk and on a telephone, also with a text that can't be broken."""
    save(engine, match_string="ERR", priority=1, prod_handling="Ignore")
    version = save(engine, match_string=LONG, match_type="regex", tags={LONG[:200]: LONG[:200]})
    page = log_in(width=width, color_scheme=color_scheme)
    paths = ["/versions/", f"/versions/{version}", f"/versions/{version - 1}/restore", "/versions/import"]
    for path in (*paths, f"/versions/compare?before={version - 1}&after={version}", "/rules/lint/"):
        assert page.goto(admin + path).status == 200
        assert (path, page.evaluate("document.documentElement.scrollWidth")) == (path, width)


def test_a_file_comes_in_by_its_plan_and_goes_out_by_a_restore(
    log_in: Callable[..., Page], admin: str, engine: Engine, tmp_path: Path
) -> None:
    """What the plan shows is what is then done; the version before it can be had again."""
    before = save(engine, match_string="pump")
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {name: ERROR, match_string: ERR}\n- match_string: fan failed\n")
    page = log_in()
    page.goto(f"{admin}/versions/import")
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Show what it would change").click()
    expect(page.get_by_role("row", name="fan failed")).to_be_visible()
    page.get_by_label("Why").fill("a new fan")
    page.get_by_role("button", name="Make 2 changes").click()
    expect(page.get_by_role("status")).to_contain_text(f"version {before + 1} stands")
    page.get_by_role("link", name=f"Restore version {before}", exact=True).click()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("status")).to_contain_text(f"Version {before} stands again")
    page.get_by_role("link", name=str(before + 2), exact=True).click()
    expect(page.get_by_role("row", name="fan failed")).to_contain_text("deleted")
