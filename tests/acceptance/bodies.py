"""What must hold on every engine that MUTT can stand on: the main path, and a worker that is killed under load."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.stack import Stack
from tests.waiting import wait_until


def main_path(stack: Stack, *, within: float = 10.0) -> float:
    """A critical event is at Moog, audited once and recorded as delivered; the seconds until Moog had it."""
    host = f"core-{uuid.uuid4().hex[:8]}"
    posted = time.monotonic()
    reply = stack.post({"hostname": host, "message": "CRITICAL fan tray failed", "severity": 2})
    assert reply.status_code == 202, reply.text
    told = reply.json()
    assert (told["status"], told["accepted"], told["duplicates"], told["rejected"]) == ("queued", 1, 0, [])
    wait_until(
        lambda: [one for one in stack.moog("/received", limit=500) if one["came"]["source"] == host],
        within,
        "the event at Moog",
        every=0.02,
    )
    took = time.monotonic() - posted
    [row] = stack.sql("SELECT * FROM event_audit_log WHERE hostname = :host", host=host)
    assert (row.batch_id, row.handling, row.severity) == (told["batch_id"], "Page_and_ticket", 2)
    wait_until(
        lambda: stack.sql("SELECT 1 FROM alerts WHERE hostname = :host AND status = 'delivered'", host=host),
        10,
        "the alert to be recorded as delivered",
    )
    return took


def under_load(
    stack: Stack, harm: Callable[[], Any], *, count: int = 6000, rate: int = 1500
) -> dict[str, Any]:
    """Send while ``harm()`` is done, then wait for balance: nothing lost, nothing twice. What the sender says."""
    before = stack.books("events.accepted")
    with stack.sending("--count", str(count), "--batch", "20", "--rate", str(rate), "--retry") as sender:
        wait_until(lambda: stack.books("events.accepted") > before + 200, 30, "load to flow")
        harm()
        out, _ = sender.communicate(timeout=170)
    sent = json.loads(out)
    assert sent["accepted"] == count, sent
    found = stack.balanced()
    assert (found["lost"], found["double"], found["off_events"], found["off_alerts"]) == (0, 0, 0, 0), found
    assert found["events"]["accepted"] >= before + count
    return sent


def worker_kill(stack: Stack, name: str = "alerts1") -> dict[str, Any]:
    """A worker that is killed under load costs no event and doubles none."""

    def harm() -> None:
        old = stack.kill(name)
        stack.back(name, old)

    return under_load(stack, harm)
