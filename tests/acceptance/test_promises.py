"""P3, P4 and P5, on the whole stack."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.servers import scratch
from tests.stack import QUICK, Stack, running
from tests.waiting import wait_until

LIMIT = 20


def most_in_window(times: list[float], window: float) -> int:
    """The largest number of ``times`` in any half-open window."""
    times, most, first = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.fixture(scope="module")
def limited() -> Iterator[Stack]:
    """Three forwarders under one small budget."""
    settings = {**QUICK, "MOOG_RATE_LIMIT": str(LIMIT)}
    with scratch() as directory, running(directory / "home", settings, "--moog", "3") as stack:
        yield stack


def first_bytes(home: Path) -> list[float]:
    """When each request's first byte left, by the forwarders' own logs (one monotonic clock on one machine)."""
    found = []
    for log in (home / "logs").glob("moog[0-9].log"):
        for line in log.read_text().splitlines(keepends=True):
            if '"first_bytes"' in line and line.endswith("\n"):  # else it is being written
                found += json.loads(line)["did"]["first_bytes"]
    return found


@pytest.mark.timeout(300)
def test_three_forwarders_never_start_more_than_the_budget_and_use_it(limited):
    """Never, in each burst; how much of it is used is what the best burst shows: others may have the processor."""
    alerts, used, began = 240, 0.0, 0
    for burst in range(3):
        events = [{"hostname": f"h{i}", "message": f"CRITICAL burst {burst} {i}"} for i in range(alerts)]
        assert limited.post(events).status_code == 202
        began += alerts
        wait_until(lambda: limited.books("alerts.delivered") >= began, 60, "the burst at Moog", every=0.2)  # noqa: B023
        limited.balanced(began)
        # A turn is logged when it has ended, and that is after its last alert.
        wait_until(lambda: len(first_bytes(limited.home)) >= began, 10, "each first byte in the logs")  # noqa: B023
        starts = sorted(first_bytes(limited.home))
        assert len(starts) == began
        assert most_in_window(starts, 1.0) <= LIMIT, "by the forwarders' first bytes, over the full period"
        reads = sorted(one["at"] for one in limited.moog("/received", limit=10_000))
        # On a busy machine the simulator reads late, and some later than others.
        late = [read - start for start, read in zip(starts, reads, strict=True)]
        assert min(late) >= 0, "no request came before the first byte that its forwarder tells of"
        assert most_in_window(reads, max(1e-6, 1.0 - max(late))) <= LIMIT, "by the simulator's first reads"
        # From the first start to the first of the last window's: whole windows, however the starts lie within them.
        these = starts[-alerts:]
        used = max(used, (alerts - LIMIT) / (these[alerts - LIMIT] - these[0]) / LIMIT)
        if used >= 0.95:
            return
    pytest.fail(f"{used:.1%} of the budget was used under backlog, at best")


@pytest.mark.timeout(300)
def test_a_critical_alert_waits_for_at_most_a_turn_behind_minor_ones(limited):
    limited.post([{"hostname": f"m{i}", "message": f"ERROR minor {i}", "severity": 3} for i in range(200)])
    wait_until(lambda: limited.books("alerts.waiting") >= 100, 30, "a backlog of minor alerts")
    host = f"crit-{uuid.uuid4().hex[:6]}"
    limited.post({"hostname": host, "message": "CRITICAL now", "severity": 0})

    def delivered():
        return [one for one in limited.moog("/received", limit=10_000) if one["came"]["source"] == host]

    posted = time.monotonic()
    wait_until(delivered, 10, "the critical alert at Moog")
    assert time.monotonic() - posted < 2.5
    assert limited.books("alerts.waiting") > 50, "the minor ones still wait"
    limited.balanced()


@pytest.mark.timeout(300)
def test_a_worker_killed_between_commit_and_settle_costs_one_row_one_alert_one_signature(stack):
    host, word = f"p5-{uuid.uuid4().hex[:6]}", f"QUAGGA{uuid.uuid4().hex[:6]}"
    rules = stack.home / "p5.json"
    rules.write_text(json.dumps([{"name": word, "match_string": word, "priority": 1}]))
    stack.mutt("rules", "import", str(rules), "--who", "test", "--reason", "p5", check=True)
    stack.balanced()
    pids = stack.pids
    lock = psycopg2.connect(stack.up["owner_url"])
    with lock.cursor() as cursor:
        # Whoever evaluates now waits for this lock, inside its transaction.
        cursor.execute("LOCK TABLE audit_ledger IN ACCESS EXCLUSIVE MODE")
        stack.post({"hostname": host, "message": f"{word} escaped"})
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'mutt-alerts'"
        wait_until(lambda: stack.sql(waiting), 10, "a worker to be inside its transaction")
        os.kill(pids["redis"], signal.SIGSTOP)
        try:
            lock.commit()
            row = "SELECT 1 FROM event_audit_log WHERE hostname = :host"
            wait_until(lambda: stack.sql(row, host=host), 4, "the row to be committed")
            for worker in ("alerts1", "alerts2"):
                os.killpg(pids[worker], signal.SIGKILL)
        finally:
            os.kill(pids["redis"], signal.SIGCONT)
    lock.close()
    rules.write_text(
        json.dumps(
            [
                {
                    "name": word,
                    "match_string": word,
                    "priority": 1,
                    "team_assignment": "Other",
                    "prod_handling": "Ignore",
                }
            ]
        )
    )
    stack.mutt("rules", "import", str(rules), "--who", "test", "--reason", "p5 changed", check=True)
    found = stack.balanced()
    assert (found["lost"], found["double"]) == (0, 0)
    rows = stack.sql("SELECT handling, team FROM event_audit_log WHERE hostname = :host", host=host)
    assert [tuple(row) for row in rows] == [("Page_and_ticket", "NETO")], "the first committed verdict stands"
    [alert] = stack.sql("SELECT signature, status FROM alerts WHERE hostname = :host", host=host)
    assert alert.status == "delivered"
    at_moog = [e["came"] for e in stack.moog("/received", limit=10_000) if e["came"]["source"] == host]
    assert {e["signature"] for e in at_moog} == {alert.signature}
