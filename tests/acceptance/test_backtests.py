"""A back-test on a whole MUTT: asked for on the page, done by its worker, over events that went through ingest."""

from __future__ import annotations

import re

import requests

from tests.stack import Stack
from tests.waiting import wait_until


def _token(page: requests.Response) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def test_a_rule_is_tried_on_what_came_in_before_it_is_saved(stack: Stack) -> None:
    """From the form to the result; its worker is told within seconds, and nothing of it is saved."""
    up = stack.up
    stack.post([{"hostname": f"lab-{n}", "message": "quench pump failed"} for n in range(7)])
    wait_until(
        lambda: stack.sql("SELECT count(*) AS n FROM event_audit_log WHERE message LIKE 'quench%'")[0].n == 7,
        60,
        "the rows",
    )
    with requests.Session() as browser:
        login = browser.get(up["admin"] + "/login", timeout=10)
        told = {"name": up["admin_user"], "password": up["admin_password"], "csrf_token": _token(login)}
        assert browser.post(up["admin"] + "/login", data=told, timeout=10).ok
        form = browser.get(up["admin"] + "/rules/new", timeout=10)
        rule = {"match_type": "contains", "match_string": "quench pump", "field": "message", "priority": "1"}
        rule |= {"prod_handling": "Page_only", "dev_handling": "Page_only", "team_assignment": "Cryo"}
        rule |= {"is_active": "y", "csrf_token": _token(form)}
        asked = browser.post(up["admin"] + "/backtests/new", data=rule, timeout=10)
        assert asked.ok and "/backtests/" in asked.url, asked.text
        done = wait_until(
            lambda: (page := browser.get(asked.url, timeout=10)) and "hx-get" not in page.text and page,
            60,
            "the result",
            every=0.2,
        )
    assert re.search(r"Newly matched</h2><p class=\"figure\">7<", done.text), done.text
    assert not stack.sql("SELECT 1 FROM alert_rules WHERE match_string = 'quench pump'")
    (job,) = stack.sql("SELECT status, who, attempts FROM backtests ORDER BY created_at DESC LIMIT 1")
    assert (job.status, job.who, job.attempts) == ("done", up["admin_user"], 1)
