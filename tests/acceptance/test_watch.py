"""What watches MUTT sees it: an event in the logs of every step, and a real Prometheus that scrapes and evaluates."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from mutt.embedded.ports import free_port
from tests.acceptance.bodies import main_path
from tests.servers import lacking, memory, scratch
from tests.stack import Stack
from tests.waiting import wait_until

PROMETHEUS = Path(__file__).parents[2] / "docker/prometheus"

#: What the rules wait for here, so that a test need not.
SHORT = "1s"


def lines_about(stack: Stack, text: str) -> list[dict[str, Any]]:
    """Every line of the stack's logs with this text, read as JSON."""
    return [
        json.loads(line)
        for file in (stack.home / "logs").glob("*.log")
        for line in file.read_text(errors="replace").splitlines(keepends=True)
        if text in line and line.startswith("{") and line.endswith("}\n")  # else it is being written
    ]


def test_an_event_is_followed_by_its_correlation_id_through_the_log_of_every_step(stack: Stack) -> None:
    ours = f"follow-{uuid.uuid4()}"
    reply = stack.post(
        {"hostname": f"core-{ours[-8:]}", "message": "CRITICAL fan"}, **{"X-Correlation-ID": ours}
    )
    assert reply.json()["correlation_id"] == ours
    steps = {
        ("ingest", "accepted"),
        ("alerts", "evaluated"),
        ("moog", "mutt.moog.forward"),
        ("housekeeping", "recorded"),
    }
    found = wait_until(
        lambda: (
            (told := lines_about(stack, ours))
            and {(one["role"], one["event"]) for one in told} >= steps
            and told
        ),
        20,
        "a line of each step",
    )
    for line in found:
        assert ours in (line.get("correlation_ids") or line["did"]["correlation_ids"])
        assert line["timestamp"]
    assert [one["event"] for one in found if one["role"] == "ingest"] == ["accepted"], "one line a request"


class Prometheus:
    """A real Prometheus beside a stack, with the rules as they are shipped but for how long they wait."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[float]:
        """Its values now."""
        asked = requests.get(f"{self.address}/api/v1/query", params={"query": expression}, timeout=5).json()
        assert asked["status"] == "success", asked
        return [float(one["value"][1]) for one in asked["data"]["result"]]

    def alerts(self) -> dict[str, str]:
        """The alerts that are not silent: pending or firing."""
        asked = requests.get(f"{self.address}/api/v1/alerts", timeout=5).json()
        return {one["labels"]["alertname"]: one["state"] for one in asked["data"]["alerts"]}

    def groups(self) -> list[dict[str, Any]]:
        asked = requests.get(f"{self.address}/api/v1/rules", timeout=5).json()
        groups: list[dict[str, Any]] = asked["data"]["groups"]
        return groups

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.address}/-/ready", timeout=2).ok
        except requests.ConnectionError:
            return False


@pytest.fixture
def prometheus(stack: Stack) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        lacking("prometheus is not here: Debian's package of that name has it")
    port = free_port(19700)
    with scratch(memory()) as directory:
        rules = re.sub(r"for: \w+", f"for: {SHORT}", (PROMETHEUS / "rules.yaml").read_text())
        (directory / "rules.yaml").write_text(rules)
        told = yaml.safe_load((PROMETHEUS / "mutt-up.yaml").read_text())
        told["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        target = stack.up["metrics"].removeprefix("http://").removesuffix("/metrics")
        told["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(told))
        argv = [program, f"--config.file={directory}/prometheus.yaml", f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            found = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: process.poll() is not None or found.ready(), 30, "Prometheus to be ready")
            assert process.poll() is None, (directory / "log").read_text()[-1000:]
            yield found
        finally:
            process.terminate()
            process.wait(20)


def test_a_real_prometheus_sees_events_pass_with_no_alert_and_then_that_moog_is_away(
    stack: Stack, prometheus: Prometheus
) -> None:
    seen = wait_until(lambda: prometheus.query("mutt_events_accepted_total"), 15, "a scrape")
    main_path(stack)
    wait_until(lambda: prometheus.query("mutt_events_accepted_total") > seen, 10, "the event to be seen")
    wait_until(
        lambda: all(rule["health"] == "ok" for group in prometheus.groups() for rule in group["rules"]),
        15,
        "every rule to be evaluated",
    )
    assert not {name for name, state in prometheus.alerts().items() if state == "firing"}, prometheus.alerts()
    stack.script_moog(behaviour="503")
    try:
        stack.post(
            [{"hostname": f"edge-{n}-{uuid.uuid4().hex[:6]}", "message": "CRITICAL fan"} for n in range(20)]
        )
        wait_until(
            lambda: prometheus.alerts().get("MuttMoogOutage") == "firing", 20, "the alert about Moog to fire"
        )
    finally:
        stack.script_moog(behaviour="ok")
    wait_until(lambda: "MuttMoogOutage" not in prometheus.alerts(), 20, "the alert about Moog to end")
    stack.balanced()
