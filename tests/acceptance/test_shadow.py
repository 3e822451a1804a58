"""A draft beside the live rules on a whole MUTT: its counts are exact, also over workers that are killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mutt.store.shadowbook import LOOK
from tests.servers import scratch
from tests.stack import QUICK, Stack, running
from tests.waiting import wait_until

WHY = ("--who", "ann", "--reason", "is it worth a page?")


@pytest.fixture
def stack() -> Iterator[Stack]:
    """One of its own: its workers are killed."""
    with scratch() as directory, running(directory / "home", QUICK) as stack:
        yield stack


def shadow(stack: Stack, *arguments: str) -> str:
    done = stack.mutt("rules", "shadow", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(stack: Stack) -> dict[str, Any]:
    return json.loads(shadow(stack, "status", "--json"))


def rows(stack: Stack) -> int:
    return stack.sql("SELECT count(*) AS n FROM event_audit_log")[0].n


def test_what_was_seen_and_what_was_skipped_is_what_was_written(stack: Stack) -> None:
    """Over three killed workers each event is counted once; the promoted rule then pages."""
    file = stack.home / "draft.json"
    file.write_text(json.dumps([{"name": "fan", "match_string": "fan tray", "priority": 1}]))
    shadow(stack, "start", str(file), *WHY)
    known = time.monotonic() + 1.5 * LOOK
    wait_until(lambda: time.monotonic() > known, 10, "every worker to have looked")

    def asked() -> int:
        stack.post({"hostname": "core-0", "message": "fan tray"})
        return status(stack)["events"]

    wait_until(asked, 30, "a worker to have the draft compiled", every=0.2)
    sent = 0
    for _ in range(3):
        for n in range(40):
            events = [{"hostname": f"core-{n}", "message": f"fan tray {i}"} for i in range(50)]
            sent += stack.post(events).json()["accepted"]
            if n == 20:
                old = stack.kill("alerts1")
        stack.back("alerts1", old)
    stack.balanced(sent)
    seen = status(stack)
    assert sum(seen["counts"].values()) == rows(stack) >= sent
    # The same is what MUTT itself says of so many unhandled events.
    assert seen["counts"]["newly_alerts"] == seen["events"] - seen["counts"]["same"] > 0
    assert stack.sql("SELECT 1 FROM event_audit_log WHERE handling <> 'Unhandled' AND source <> 'mutt'") == []

    shadow(stack, "promote", *WHY)

    def pages() -> bool:
        stack.post({"hostname": "core-0", "message": "fan tray"})
        return bool(stack.sql("SELECT 1 FROM alerts WHERE rule_id IS NOT NULL"))

    wait_until(pages, 10, "the rule to page", every=0.2)
