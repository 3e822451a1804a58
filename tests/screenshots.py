"""Pictures of the admin's pages for the docs: `make screenshots` writes docs/images/*.png.

A whole MUTT is started on this machine, rules are written as administrators would, events go in through ingest, and a
Chromium looks at the pages. A page that this MUTT does not have is left out, with a note.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import requests
import sqlalchemy as sa
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import Engine

from mutt.settings import Settings
from mutt.store import devices, rulebook, shadows, storms
from mutt.store.engine import make_engine, transaction
from mutt.store.shadows import Edit
from tests.browser.conftest import FLAGS, NAMES
from tests.stack import Stack
from tests.waiting import wait_until

IMAGES = Path(__file__).parents[1] / "docs" / "images"

#: Bytes that one picture may have.
LARGEST = 200_000

#: Events are sent in so many posts, a moment apart, so that times differ.
POSTS, EACH = 60, 40

SITES = ("lon", "nyc", "fra", "sgp")

RULES: list[dict[str, Any]] = [
    {
        "name": "BGP neighbour down",
        "match_type": "regex",
        "match_string": r"%BGP-5-ADJCHANGE: neighbor \S+ Down",
        "hostname": "core-*",
        "priority": 4,
        "team_assignment": "Backbone",
        "dedup_window": 300,
        "examples": [
            {
                "message": "%BGP-5-ADJCHANGE: neighbor 192.0.2.1 Down Peer closed the session",
                "hostname": "core-lon-1",
            },
            {
                "message": "%BGP-5-ADJCHANGE: neighbor 192.0.2.1 Up",
                "hostname": "core-lon-1",
                "matches": False,
            },
        ],
    },
    {
        "name": "Interface down on the edge",
        "match_string": "%LINK-3-UPDOWN",
        "hostname": "edge-*",
        "priority": 8,
        "prod_handling": "Ticket_only",
        "team_assignment": "NetOps",
        "flap_count": 6,
        "flap_window": 600,
    },
    {
        "name": "Fan or power supply",
        "match_type": "regex",
        "match_string": "fan tray \\d failed|power supply \\d",
        "priority": 12,
        "team_assignment": "Data centre",
        "syslog_severity": 3,
    },
    {
        "name": "Failed logins",
        "match_string": "LOGIN_FAILED",
        "priority": 25,
        "prod_handling": "Page_only",
        "team_assignment": "Security",
        "threshold_count": 20,
        "threshold_window": 60,
    },
    {
        "name": "Memory",
        "match_string": "MALLOCFAIL",
        "priority": 30,
        "prod_handling": "Ticket_only",
        "team_assignment": "NetOps",
        "is_active": False,
    },
    {
        "name": "Uplink of London",
        "match_string": "%LINK-3-UPDOWN: Interface TenGigE0/0/1,",
        "hostname": "edge-lon-1",
        "priority": 9,
        "team_assignment": "London",
    },
    {
        "name": "OSPF errors",
        "match_type": "regex",
        "match_string": ".*OSPF-4-ERRRCV.*",
        "priority": 10,
        "team_assignment": "Backbone",
    },
]

STORM: dict[str, Any] = {
    "name": "A host goes wild",
    "group_by": "host",
    "alert_count": 25,
    "alert_window": 900,
}

MESSAGES: list[tuple[int, int, str]] = [
    # weight, severity, text
    (5, 5, "%BGP-5-ADJCHANGE: neighbor 192.0.2.{n} Down Peer closed the session"),
    (4, 5, "%BGP-5-ADJCHANGE: neighbor 192.0.2.{n} Up"),
    (9, 3, "%LINK-3-UPDOWN: Interface TenGigE0/0/{n}, changed state to down"),
    (9, 3, "%LINK-3-UPDOWN: Interface TenGigE0/0/{n}, changed state to up"),
    (2, 1, "%ENVMON-1-FAN: fan tray {d} failed"),
    (1, 2, "%PLATFORM-2-PS: power supply {d} CRITICAL temperature"),
    (8, 4, "%SEC_LOGIN-4-LOGIN_FAILED: Login failed [user: admin] [Source: 198.51.100.{n}]"),
    (1, 2, "%SYS-2-MALLOCFAIL: Memory allocation of 65536 bytes failed"),
    (30, 6, "%SEC-6-IPACCESSLOGP: list 101 denied tcp 203.0.113.{n} -> 10.0.0.{d}, 1 packet"),
    (12, 6, "%SYS-6-LOGGINGHOST_STARTSTOP: Logging to host 10.1.1.{d} started"),
]

DRAFT_EVENTS = "\n".join(
    json.dumps({"hostname": host, "message": message, "severity": 5})
    for host, message in (
        ("core-lon-1", "%BGP-5-ADJCHANGE: neighbor 192.0.2.7 Down Peer closed the session"),
        ("core-lon-1", "%BGP-5-ADJCHANGE: neighbor 192.0.2.7 Up"),
        ("edge-nyc-2", "%LINK-3-UPDOWN: Interface TenGigE0/0/3, changed state to down"),
    )
)


class Shot(NamedTuple):
    """One picture: its name, the page's path, and what is done on the page first."""

    name: str
    path: str
    prepare: Callable[[Page], None] = lambda _page: None
    width: int = 1280
    color_scheme: str = "light"
    height: int = 720


class Missing(Exception):
    """This MUTT has no such page, or nothing to show on it."""


def main() -> int:
    """Make the pictures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--only", default="", help="pictures whose name holds this")
    chosen = parser.parse_args()
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        print(f"no browser: none of {', '.join(NAMES)} is on PATH", file=sys.stderr)
        return 1
    chosen.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutt-shots-") as home:
        stack = Stack(Path(home))
        try:
            stack.start()
            engine = make_engine(Settings.from_env({}, database_url=stack.up["database_url"]), role="shots")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=binary, args=FLAGS)
                configure(engine)
                plan(browser, stack)
                send(stack, engine)
                missing = [
                    shot.name
                    for shot in shots(engine)
                    if chosen.only in shot.name and not take(browser, stack, shot, chosen.to)
                ]
                missing += watched(browser, stack, chosen)
                browser.close()
        finally:
            stack.stop_if_started()
    if missing:
        print(f"left out, for this MUTT has no such page: {', '.join(missing)}")
    return 0


def configure(engine: Engine) -> None:
    """Rules, devices and some history."""
    with transaction(engine) as conn:
        for rule in RULES:
            rulebook.save_rule(conn, rule, changed_by="ada", reason="CHG-4402: rules of the backbone")
        for host in ("lab-*", "10.99.0.0/16"):
            devices.add_host(conn, host, changed_by="ada", reason="the lab moves")
        for host, team in (("core-*", "Backbone"), ("edge-lon-*", "London"), ("10.20.0.0/16", "Campus")):
            devices.put_team(conn, host, team, changed_by="ada")
        storms.save(conn, STORM, changed_by="ada", reason="INC-1190: one fan, 400 tickets")
    for who, reason, change in (
        ("grace", "CHG-4471: the night shift was paged for nothing", {"prod_handling": "Ticket_only"}),
        ("grace", "CHG-4475: only what is new", {"match_string": "CRITICAL temperature", "priority": 11}),
        ("linus", "INC-1208", {"team_assignment": "Data centre"}),
    ):
        with transaction(engine) as conn:
            rulebook.save_rule(conn, change, rule_id=1, changed_by=who, reason=reason)
    wider = {"match_string": r"%BGP-5-ADJCHANGE: neighbor \S+ (Up|Down)", "examples": []}
    with transaction(engine) as conn:
        bgp = next(rule.id for rule in rulebook.list_rules(conn) if rule.name == RULES[0]["name"])
        shadows.start(conn, [Edit(bgp, wider)], changed_by="grace", reason="CHG-4492: ups, too")


def plan(browser: Any, stack: Stack) -> None:
    """Maintenance windows, by hand: one that is on, and one of every Saturday night."""
    now = datetime.now(UTC)
    saturday = now + timedelta(days=(5 - now.weekday()) % 7 or 7)
    windows = [
        {
            "name": "Edge upgrade Singapore",
            "hostname": "edge-sgp-*",
            "reason": "CHG-4490",
            "starts_at": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}",
            "ends_at": f"{now + timedelta(hours=2):%Y-%m-%dT%H:%M}",
        },
        {
            "name": "Patch night",
            "hostname": "core-*",
            "reason": "CHG-3000",
            "timezone": "Europe/London",
            "starts_at": f"{saturday:%Y-%m-%d}T02:00",
            "ends_at": f"{saturday:%Y-%m-%d}T04:00",
            "repeat": "weekly",
        },
    ]
    with entered(browser, stack, 1280, "light") as page:
        for window in windows:
            answer = page.goto(stack.up["admin"] + "/maintenance/new")
            if answer is None or not answer.ok:
                return
            for name, value in window.items():
                field = page.locator(f"[name={name}]")
                field.select_option(value) if name == "repeat" else field.fill(value)
            page.get_by_role("button", name="Save").click()
            page.get_by_role("status").first.wait_for()


def send(stack: Stack, engine: Engine) -> None:
    """Events through ingest, until each is audited and its alert is at its end."""
    chance = random.Random(7)
    weights = [weight for weight, _, _ in MESSAGES]
    for _ in range(POSTS):
        drawn = chance.choices(MESSAGES, weights, k=EACH)
        events = [_event(chance, severity, text) for _, severity, text in drawn]
        # A busy machine may answer that nothing was taken, and to ask again.
        wait_until(lambda events=events: stack.post(events).ok, 60, "events to be taken", every=1)
        time.sleep(0.5)  # so that the pages have times to tell apart
    wild = {"hostname": "core-fra-2", "message": "%ENVMON-1-FAN: fan tray 2 failed", "syslog_severity": 1}
    wait_until(lambda: stack.post([wild] * EACH).ok, 60, "the storm to be taken", every=1)
    wait_until(lambda: _audited(engine) >= (POSTS + 1) * EACH, 120, "all events to be audited", every=0.5)
    stack.balanced()


def _event(chance: random.Random, severity: int, text: str) -> dict[str, Any]:
    kind = chance.choices(("core", "edge", "access", "lab"), (3, 5, 3, 1))[0]
    return {
        "hostname": f"{kind}-{chance.choice(SITES)}-{chance.randint(1, 6)}",
        "message": text.format(n=chance.randint(1, 48), d=chance.randint(1, 3)),
        "syslog_severity": severity,
        "source": "syslog",
        "program": text[1:].split("-", 1)[0].lower(),
    }


def _audited(engine: Engine) -> int:
    with transaction(engine) as conn:
        return int(conn.execute(sa.text("SELECT count(*) FROM event_audit_log")).scalar_one())


def _scalar(engine: Engine, question: str) -> str:
    with transaction(engine) as conn:
        return str(conn.execute(sa.text(question)).scalar() or "none")


def shots(engine: Engine) -> list[Shot]:
    """The pictures, in the order in which they are taken."""
    rule = _scalar(engine, "SELECT id FROM alert_rules WHERE name = 'BGP neighbour down'")
    change = _scalar(engine, "SELECT max(id) FROM config_audit_log WHERE operation = 'UPDATE'")
    event = _scalar(
        engine,
        f"SELECT event_id FROM event_audit_log WHERE matched_rule_id = {int(rule)} ORDER BY received_at LIMIT 1",
    )
    alert = _scalar(
        engine, "SELECT alert_id FROM alerts WHERE status = 'delivered' ORDER BY received_at LIMIT 1"
    )
    return [
        Shot("rules", "/rules/"),
        Shot("rules-dark", "/rules/", color_scheme="dark"),
        Shot("rules-390", "/rules/", width=390),
        Shot("rule", f"/rules/{rule}"),
        Shot("rule-test", f"/rules/{rule}", _test),
        Shot("rule-conflict", "/rules/1", lambda page: _conflict(page, engine)),
        Shot("backtest", f"/rules/{rule}", _backtest),
        Shot("tester", "/rules/test?recent_host=core-lon-1"),
        Shot("shadow", "/shadow/"),
        Shot("maintenance", "/maintenance/"),
        Shot("storms", "/storms/"),
        Shot("lint", "/rules/lint/"),
        Shot("versions", "/versions/"),
        Shot("audit", "/audit/?span=1h&severity=5"),
        Shot("audit-dark-390", "/audit/", width=390, color_scheme="dark"),
        Shot("explain", f"/audit/{event}"),
        Shot("alerts", "/alerts/"),
        Shot("alert", f"/alerts/{alert}"),
        Shot("hosts", "/hosts/?host=lab-lon-1"),
        Shot("teams", "/teams/"),
        Shot("history", "/history/"),
        Shot("undo", f"/history/{change}/undo"),
        Shot("api", "/api/docs", _operations),
    ]


#: The pipeline while it works, and while Moog is away.
AT_WORK = (
    Shot("pipeline-at-work", "/", lambda page: _drawn(page, ""), 1200, height=860),
    Shot("pipeline-at-work-dark", "/", lambda page: _drawn(page, ""), 1200, "dark", 860),
)
IN_TROUBLE = (
    Shot("pipeline", "/", lambda page: _drawn(page, "moog-outage"), 1200, height=860),
    Shot("pipeline-390", "/", lambda page: _drawn(page, "moog-outage"), 390, "dark"),
)

#: Seconds of work that the charts show, batches a second and events in each.
WORKED, BATCHES, BATCH = 180, 8, 40


def watched(browser: Any, stack: Stack, chosen: argparse.Namespace) -> list[str]:
    """The pictures of the pipeline, under load; those that could not be taken."""
    if not any(chosen.only in shot.name for shot in (*AT_WORK, *IN_TROUBLE)):
        return []
    done = threading.Event()
    load = threading.Thread(target=_work, args=(stack, done))
    load.start()
    try:
        time.sleep(WORKED)
        missing = _all(browser, stack, AT_WORK, chosen)
        stack.script_moog(behaviour="503")
        return missing + _all(browser, stack, IN_TROUBLE, chosen)
    finally:
        done.set()
        load.join()
        stack.script_moog()


def _all(browser: Any, stack: Stack, listed: Sequence[Shot], chosen: argparse.Namespace) -> list[str]:
    wanted = [shot for shot in listed if chosen.only in shot.name]
    return [shot.name for shot in wanted if not take(browser, stack, shot, chosen.to)]


def _work(stack: Stack, done: threading.Event) -> None:
    """Events at a rate that swells and ebbs, until ``done``."""
    chance, weights = random.Random(11), [weight for weight, _, _ in MESSAGES]
    began = time.monotonic()
    while not done.wait(1 / BATCHES):
        many = round(BATCH * (1 + 0.5 * math.sin((time.monotonic() - began) / 25)))
        drawn = chance.choices(MESSAGES, weights, k=many)
        with contextlib.suppress(requests.RequestException):
            stack.post([_event(chance, severity, text) for _, severity, text in drawn])


def _drawn(page: Page, trouble: str) -> None:
    """Wait until the page is live, and says what is expected."""
    page.locator("[data-live=live]").wait_for()
    page.locator(f'[data-trouble="{trouble}"]').first.wait_for(timeout=120_000)
    page.locator(".plots canvas").last.wait_for()


def _test(page: Page) -> None:
    events = page.locator("textarea[name=events]")
    if not events.count():
        raise Missing
    events.fill(DRAFT_EVENTS)
    page.get_by_role("button", name="Test", exact=True).click()
    page.locator("#tested:not(:empty)").wait_for()
    page.locator("#tested").scroll_into_view_if_needed()


def _backtest(page: Page) -> None:
    button = page.get_by_role("button", name="Back-test")
    if not button.count():
        raise Missing
    page.get_by_label("Text", exact=True).fill(r"%BGP-5-ADJCHANGE: neighbor \S+ (Up|Down)")
    page.get_by_label("Examples").fill("")
    button.click()
    # It shows its progress by itself, and in the end what it found.
    page.locator(".chart").first.wait_for(timeout=60_000)


def _operations(page: Page) -> None:
    page.locator(".opblock-tag").first.click()
    page.locator(".opblock").first.wait_for()


def _conflict(page: Page, engine: Engine) -> None:
    page.get_by_label("Priority", exact=True).fill("7")
    with transaction(engine) as conn:
        changes = {"priority": 14, "team_assignment": "Facilities"}
        rulebook.save_rule(conn, changes, rule_id=1, changed_by="grace", reason="CHG-4480")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("alert").first.wait_for()


@contextlib.contextmanager
def entered(browser: Any, stack: Stack, width: int, color_scheme: str, height: int = 720) -> Iterator[Page]:
    """A page of the administrator's, logged in."""
    up = stack.up
    size = {"width": width, "height": 844 if width < 500 else height}
    context = browser.new_context(viewport=size, color_scheme=color_scheme)
    try:
        page = context.new_page()
        page.goto(f"{up['admin']}/login")
        page.get_by_label("Name").fill(up["admin_user"])
        page.get_by_label("Password").fill(up["admin_password"])
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("navigation").first.wait_for()
        yield page
    finally:
        context.close()


def take(browser: Any, stack: Stack, shot: Shot, to: Path) -> bool:
    """Take one picture. Is there such a page?"""
    path = to / f"{shot.name}.png"
    with entered(browser, stack, shot.width, shot.color_scheme, shot.height) as page:
        answer = page.goto(stack.up["admin"] + shot.path)
        if answer is None or not answer.ok:
            return False
        try:
            shot.prepare(page)
        except Missing:
            return False
        if shot.path != "/":  # which goes on for ever
            page.wait_for_load_state("networkidle")
        page.screenshot(path=path)
    size_of = path.stat().st_size
    print(f"{path.name}: {size_of / 1000:.0f} kB" + (", too large" if size_of > LARGEST else ""))
    return True


if __name__ == "__main__":
    sys.exit(main())
