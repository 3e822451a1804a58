"""The page Keys in a browser: a key is made by keyboard and seen once; its pages fit and can be read."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt.sealing import Sealer
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.web.signatures import PRESETS
from tests.browser.conftest import SEALING
from tests.browser.test_admin_lists import CONTRAST, FAINT


def test_a_key_is_made_seen_once_and_gone_after(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """Neither a reload nor the key's own page shows it again."""
    page = log_in()
    page.goto(f"{admin}/keys/")
    page.get_by_role("link", name="New key").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name").focus()
    page.keyboard.type("collector")
    page.get_by_label("syslog", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Make it").focus()
    page.keyboard.press("Enter")
    key = page.locator(".once").inner_text()
    with transaction(engine) as conn:
        found = keys.find(conn, "collector")
    assert (found.secrets[0].hint, found.formats) == (key[-4:], ("syslog",))
    assert key not in page.url
    page.reload()
    expect(page.get_by_role("heading", name="New key")).to_be_visible()
    assert key not in page.content()
    page.goto(f"{admin}/keys/collector")
    assert key not in page.content()
    expect(page.get_by_role("row", name=f"…{key[-4:]}")).to_contain_text("good")


def test_posts_are_signed_with_a_secret_that_is_seen_once_and_a_signature_is_tried(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    with transaction(engine) as conn:
        keys.make(conn, "deploys", ["ingest"], changed_by="ada")
    page = log_in()
    page.goto(f"{admin}/keys/deploys/signing")
    page.get_by_label("As", exact=True).select_option("github")
    page.get_by_role("button", name="Save").click()
    secret = page.locator(".once").inner_text()
    page.goto(f"{admin}/keys/deploys/signing")
    assert secret not in page.content()
    page.get_by_label("Body").fill('{"a": 1}\n{"a": 2}')
    digest = hmac.digest(secret.encode(), b'{"a": 1}\n{"a": 2}', "sha256").hex()
    page.get_by_label("X-Hub-Signature-256").fill(f"sha256={digest}")
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#try [role=status]")).to_have_class("note")


@pytest.mark.parametrize(("width", "color_scheme"), [(1280, "light"), (390, "dark")])
def test_the_pages_fit_and_can_be_read(
    log_in: Callable[..., Page], admin: str, engine: Engine, width: int, color_scheme: str
) -> None:
    """On a desk and on a telephone, however long a name and a note are."""
    long = "a" * 64
    ends = datetime.now(UTC) + timedelta(days=30)
    signing = msgspec.structs.replace(PRESETS["slack"], secret=Sealer(SEALING).seal("x" * 20))
    with transaction(engine) as conn:
        for name in (long, "revoked"):
            keys.make(
                conn,
                name,
                ["ingest", "management"],
                ["syslog", "native"],
                6000,
                ends,
                "n" * 500,
                changed_by="a",
            )
        keys.rotate(conn, long, timedelta(days=1), changed_by="a")
        keys.sign_with(conn, long, signing, changed_by="a")
        keys.revoke(conn, "revoked", changed_by="a")
    page = log_in(width=width, color_scheme=color_scheme)
    paths = ["/keys/", "/keys/new", "/keys/revoked", "/keys/revoked/signing", f"/keys/{long}"]
    for path in (*paths, *(f"/keys/{long}/{page_of}" for page_of in ("rotate", "signing", "source"))):
        answer = page.goto(admin + path)
        assert answer
        assert (path, answer.status) == (path, 200)
        assert (path, page.evaluate("document.documentElement.scrollWidth")) == (path, width)
        assert (path, page.evaluate(FAINT, CONTRAST)) == (path, [])


def test_a_mapping_is_seen_at_work_while_it_is_typed(
    log_in: Callable[..., Page], admin: str, engine: Engine
) -> None:
    """On a pasted sample, with the place at fault; what is seen is what is saved."""
    with transaction(engine) as conn:
        keys.make(conn, "billing", ["ingest"], changed_by="ada")
    page = log_in()
    page.goto(f"{admin}/keys/billing/source")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("Pick a refused item or paste")
    page.get_by_label("Or this").fill('{"host": {"name": "web-1"}, "title": "disk full", "prio": "P1"}')
    expect(preview).to_contain_text("hostname is missing")
    mapping = page.get_by_label("Mapping")
    mapping.fill("hostname: host..name")
    expect(preview.get_by_role("alert")).to_contain_text("message is missing")
    mapping.fill("hostname: host..name\nmessage: title")
    expect(preview.get_by_role("alert")).to_contain_text("hostname can't be read at character 6")
    mapping.fill("hostname: host.name\nmessage: title\nseverity: prio\nwords: {severity: {P1: 2}}")
    expect(preview.get_by_role("row", name="hostname")).to_contain_text("web-1")
    page.get_by_label("Team").fill("Payments")
    expect(preview.get_by_role("row", name="team")).to_contain_text("Payments")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("is changed.")).to_be_visible()
    with transaction(engine) as conn:
        found = keys.find(conn, "billing").source
    assert (found.team, found.mapping.splitlines()[0]) == ("Payments", "hostname: host.name")
