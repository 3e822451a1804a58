"""The main path as its users meet it: a webhook in, a Moog alert out, and where to see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path

import psutil
import requests

from tests.acceptance.bodies import main_path
from tests.admin_client import filled_in
from tests.stack import QUICK, ROLES, Stack
from tests.waiting import wait_until


def flower(stack: Stack, path: str, **arguments: str):
    up = stack.up
    login = (up["admin_user"], up["admin_password"])
    return requests.get(up["flower"] + path, params=arguments, auth=login, timeout=10)


def metric(stack: Stack, name: str) -> float:
    text = requests.get(stack.up["metrics"], timeout=10).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_a_critical_event_is_at_moog_within_two_seconds_and_everywhere_that_people_look(stack):
    before = metric(stack, "mutt_events_accepted_total")
    assert main_path(stack) < 2.0
    assert metric(stack, "mutt_events_accepted_total") == before + 1
    assert metric(stack, "mutt_audit_rows_total") >= 1
    assert metric(stack, 'mutt_moog_requests_total{reason="ok"') >= 1

    def in_flower():
        tasks = flower(stack, "/api/tasks", taskname="mutt.alerts.evaluate", limit="20").json()
        return [t for t in tasks.values() if t["state"] == "SUCCESS" and "'audited'" in str(t["result"])]

    wait_until(in_flower, 15, "the task in Flower with its counts")


def test_a_worker_started_by_hand_takes_its_share_and_flower_shows_it(stack):
    environ = {**os.environ, "MUTT_HOME": str(stack.home), "APP": "mutt"}
    name = f"hand{uuid.uuid4().hex[:6]}"
    log = (stack.home / f"{name}.log").open("wb")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "worker", "-Q", "alerts", "-c", "1", "-n", f"{name}@%h"],
        env=environ,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: b" ready." in (stack.home / f"{name}.log").read_bytes(), 30, "the worker to be ready"
        )

        def shares():
            sent = stack.mutt(
                "send", "--json", "--generator", "unmatched", "--count", "20000", "--batch", "100"
            )
            assert sent.returncode == 0, sent.stderr
            tasks = flower(stack, "/api/tasks", taskname="mutt.alerts.evaluate", limit="300").json()
            mine = [
                t for t in tasks.values() if (t.get("worker") or "").startswith(name)
            ]  # none: not begun yet
            return [t for t in mine if t["state"] == "SUCCESS" and "'events'" in str(t["result"])]

        wait_until(shares, 60, "the worker's tasks, with counts, in Flower")
    finally:
        worker.terminate()
        worker.wait(30)
    stack.balanced()


def test_the_door_for_events_opens_when_those_who_work_them_are_ready(stack):
    # psutil counts from the boot in whole seconds, which is too coarse here.
    stat = Path(f"/proc/{stack.pids['ingest']}/stat").read_text().rpartition(")")[2].split()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    opened = booted + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    for worker in ("alerts1", "alerts2", "moog1", "housekeeping"):
        lines = (stack.home / "logs" / f"{worker}.log").read_text().splitlines()
        [ready] = [json.loads(line) for line in lines if " ready." in line]
        assert datetime.fromisoformat(ready["timestamp"]).timestamp() <= opened + 0.05, worker


def test_up_json_is_private_and_names_every_process(stack):
    assert (stack.home / "up.json").stat().st_mode & 0o777 == 0o600
    up = stack.up
    assert {"ingest", "admin", "flower", "moogsim", "redis_url", "database_url", "api_key"} <= set(up)
    assert {"admin_user", "admin_password"} <= set(up)
    for role in (*ROLES, "alerts2"):
        assert psutil.pid_exists(up["processes"][role]), role


def test_a_second_start_is_refused_with_a_sentence(stack):
    again = stack.mutt("up", "--no-samples", timeout=60)
    assert again.returncode == 2
    assert "already runs" in again.stderr
    assert "Traceback" not in again.stderr


def test_env_lets_another_shell_find_the_stack(stack):
    printed = stack.mutt("env", check=True).stdout
    assert f"export REDIS_URL={stack.up['redis_url']}" in printed
    assert "export APP=mutt" in printed
    assert f"export EVALUATE_CLAIM={QUICK['EVALUATE_CLAIM']}" in printed, (
        "a worker by hand behaves as theirs do"
    )
    script = printed + "celery --version && python -m mutt ledger"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert os.environ.get("MUTT_HOME", "") not in ("", str(stack.home)), "the test's own shell is another one"


def test_a_rule_saved_in_the_admin_acts_within_five_seconds_and_a_bad_one_is_refused(stack):
    word = f"ZEBRA{uuid.uuid4().hex[:8]}"
    up, browser = stack.up, requests.Session()
    browser.headers["Referer"] = up["admin"]

    def send(page: str, **fields: str) -> requests.Response:
        given = filled_in(browser.get(up["admin"] + page, timeout=10).text)
        return browser.post(up["admin"] + page, data={**given, **fields}, timeout=10)

    assert send("/login", name=up["admin_user"], password=up["admin_password"]).ok
    bad = send("/rules/new", name=word, match_type="regex", match_string=f"{word}(?=x)")
    assert bad.status_code == 422
    assert "look-ahead" in bad.text or "look-around" in bad.text

    assert send("/rules/new", name=word, match_string=word, priority="1", team_assignment="Zoo").ok
    since = time.monotonic()
    stack.post({"hostname": "zoo-1", "message": f"{word} is loose"})
    decided = "SELECT team FROM event_audit_log WHERE message LIKE :m"
    [row] = wait_until(lambda: stack.sql(decided, m=f"{word}%"), 5, "the event to be audited")
    assert row.team == "Zoo"
    assert time.monotonic() - since < 5
