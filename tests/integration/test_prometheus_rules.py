"""Each alert rule fires when it should and is silent when all is well: Prometheus' own tool says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from mutt.pulse.sample import TROUBLES
from tests.servers import lacking, memory, scratch

PROMETHEUS = Path(__file__).parents[2] / "docker/prometheus"
RULES = PROMETHEUS / "rules.yaml"
RUNBOOK = PROMETHEUS.parents[1] / "docs/operations.md"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule
}

#: Troubles without a rule, and why.
WITHOUT: dict[str, str] = {}

#: What Prometheus gets of a MUTT that is well: 100 events and 10 alerts a second. Values as promtool writes them,
#: one every 30 seconds.
WELL: dict[str, str] = {
    'up{job="mutt", role="ingest", instance="i"}': "1x60",
    'up{job="mutt", role="admin", instance="a"}': "1x60",
    'up{job="mutt", role="housekeeping", instance="h"}': "1x60",
    'mutt_processes{role="ingest"}': "2x60",
    'mutt_process_cores{role="ingest"}': "0.4x60",
    'mutt_process_p99_seconds{role="admin"}': "0.2x60",
    'mutt_process_store_ratio{role="alerts"}': "0.35x60",
    'mutt_process_busy_ratio{role="alerts"}': "0.9x60",
    "mutt_redis_up": "1x60",
    "mutt_postgres_up": "1x60",
    'mutt_redis_memory_bytes{redis="r"}': "100x60",
    'mutt_redis_memory_max_bytes{redis="r"}': "1000x60",
    'mutt_redis_cpu_seconds_total{redis="r"}': "0+6x60",
    "mutt_partition_months_ahead": "3x60",
    "mutt_partition_default_rows": "0x60",
    'mutt_queue_depth{queue="ingest_queue"}': "20x60",
    'mutt_queue_oldest_seconds{queue="ingest_queue"}': "0.1x60",
    'mutt_queue_oldest_seconds{queue="alert_queue:critical"}': "0.2x60",
    'mutt_queue_oldest_seconds{queue="alert_queue:minor"}': "5x60",
    'mutt_queue_oldest_seconds{queue="delivery_queue"}': "0.3x60",
    'mutt_dlq_depth{queue="ingest"}': "0x60",
    'mutt_dlq_depth{queue="moog"}': "0x60",
    'mutt_listen_lost_total{instance="l", listener="syslog-udp", reason="kernel"}': "7x60",
    'mutt_listen_waiting_seconds{instance="l"}': "0.2x60",
    'mutt_listen_aside{instance="l"}': "0x60",
    'mutt_listen_turned_away_total{instance="l", listener="syslog-tcp"}': "3x60",
    'mutt_ledger_off{of="events"}': "0x60",
    'mutt_ledger_off{of="alerts"}': "0x60",
    "mutt_breaker_state": "0x60",
    "mutt_moog_paused_seconds": "0x60",
    "mutt_budget_limit": "50x60",
    "mutt_budget_used": "10x60",
    "mutt_events_evaluated_total": "0+3000x60",
    "mutt_outcomes_recorded_total": "0+300x60",
    'mutt_moog_requests_total{status="200", reason="ok"}': "0+300x60",
    'mutt_moog_requests_total{status="none", reason="timeout"}': "0x60",
    'mutt_ingest_requests_total{status="202", format="sniffed"}': "0+3000x60",
    'mutt_ingest_requests_total{status="503", format="sniffed"}': "0x60",
    'mutt_step_seconds_count{step="ingest"}': "0+3000x60",
    'mutt_step_seconds_bucket{step="ingest", le="0.1"}': "0+3000x60",
    'mutt_step_seconds_bucket{step="ingest", le="0.5"}': "0+3000x60",
    'mutt_step_seconds_bucket{step="ingest", le="1.0"}': "0+3000x60",
    'mutt_step_seconds_bucket{step="ingest", le="+Inf"}': "0+3000x60",
    'mutt_lag_seconds_bucket{step="forward", le="2.0"}': "0+300x60",
    'mutt_lag_seconds_count{step="forward"}': "0+300x60",
}

_UP = [name for name in WELL if name.startswith("up")]
_INGEST = 'mutt_queue_oldest_seconds{queue="ingest_queue"}'
_DEPTH = 'mutt_queue_depth{queue="ingest_queue"}'
_STORE = 'mutt_process_store_ratio{role="alerts"}'
_MINOR = 'mutt_queue_oldest_seconds{queue="alert_queue:minor"}'
_DELIVERY = 'mutt_queue_oldest_seconds{queue="delivery_queue"}'
_SENT = 'mutt_moog_requests_total{status="200", reason="ok"}'
_HOUSEKEEPING = 'up{job="mutt", role="housekeeping", instance="h"}'
_LOST = 'mutt_listen_lost_total{instance="l", listener="syslog-udp", reason="kernel"}'
_HEARD = 'mutt_listen_waiting_seconds{instance="l"}'


class Case(NamedTuple):
    """An alert, and what differs from a MUTT that is well (None: the series is not there)."""

    alert: str
    differs: dict[str, str | None]
    labels: dict[str, str] | None = None  #: of the alert that fires; None: none does
    shown: str = ""  #: the value in its description
    at: str = "12m"


CASES = {
    "a target that is down": Case(
        "MuttDown", {_HOUSEKEEPING: "0x60"}, {"job": "mutt", "role": "housekeeping", "instance": "h"}
    ),
    "no target at all": Case("MuttDown", dict.fromkeys(_UP), {"job": "mutt"}),
    "nobody tells of the stores": Case("MuttDown", {"mutt_redis_up": None}, {}),
    "a target that is away for half a minute": Case("MuttDown", {_HOUSEKEEPING: "1x23 0 1x40"}),
    "no ingest is found": Case("MuttIngestAway", {'up{job="mutt", role="ingest", instance="i"}': None}, {}),
    "no ingest answers": Case("MuttIngestAway", {'up{job="mutt", role="ingest", instance="i"}': "0x60"}, {}),
    "one process that tells for all": Case(
        "MuttIngestAway",
        dict.fromkeys(_UP) | {'up{job="mutt", role="all"}': "1x60"},
    ),
    "Redis is away": Case("MuttRedisAway", {"mutt_redis_up": "1x10 0x50"}, {}),
    "Redis answers one of two": Case(
        "MuttRedisAway",
        {"mutt_redis_up": None, 'mutt_redis_up{instance="a"}': "0x60", 'mutt_redis_up{instance="b"}': "1x60"},
    ),
    "PostgreSQL is away": Case("MuttPostgresAway", {"mutt_postgres_up": "0x60"}, {}),
    "Redis is at 75 %": Case(
        "MuttRedisMemory", {'mutt_redis_memory_bytes{redis="r"}': "750x60"}, {"redis": "r"}, "75%"
    ),
    "Redis has no limit": Case(
        "MuttRedisMemory",
        {'mutt_redis_memory_bytes{redis="r"}': "750x60", 'mutt_redis_memory_max_bytes{redis="r"}': "0x60"},
    ),
    "Redis' core is busy": Case(
        "MuttRedisCore", {'mutt_redis_cpu_seconds_total{redis="r"}': "0+28.5x60"}, {"redis": "r"}, "950m"
    ),
    "workers wait for PostgreSQL": Case(
        "MuttPostgresWrites", {_STORE: "0.8x60", _INGEST: "90x60"}, {}, "80%"
    ),
    "workers wait for PostgreSQL and nothing waits": Case("MuttPostgresWrites", {_STORE: "0.8x60"}),
    "workers are slow by themselves": Case("MuttPostgresWrites", {_INGEST: "90x60"}),
    "workers have little to do": Case(
        "MuttPostgresWrites",
        {_STORE: "0.8x60", _INGEST: "90x60", 'mutt_process_busy_ratio{role="alerts"}': "0.2x60"},
    ),
    "ingest's core is busy": Case(
        "MuttIngestCpu", {'mutt_process_cores{role="ingest"}': "0.97x60"}, {}, "970m"
    ),
    "pages are slow": Case("MuttSlowPages", {'mutt_process_p99_seconds{role="admin"}': "4x60"}, {}, "4s"),
    "no ingest lives beside the one that tells": Case(
        "MuttIngestAway",
        dict.fromkeys(_UP)
        | {'up{job="mutt", role="all"}': "1x60", 'mutt_processes{role="ingest"}': "2x6 0x50"},
        {},
    ),
    "next month is missing": Case("MuttPartitionMissing", {"mutt_partition_months_ahead": "0x60"}, {}),
    "rows without a month": Case("MuttPartitionMissing", {"mutt_partition_default_rows": "4x60"}, {}),
    "nobody evaluates": Case(
        "MuttAlertsAway", {"mutt_events_evaluated_total": "5x60", _INGEST: "60x60"}, {}, "1m 0s"
    ),
    "nobody ever evaluated": Case(
        "MuttAlertsAway", {"mutt_events_evaluated_total": None, _INGEST: "60x60"}, {}, "1m 0s"
    ),
    "nobody evaluates, for PostgreSQL is away": Case(
        "MuttAlertsAway",
        {"mutt_events_evaluated_total": "5x60", _INGEST: "60x60", "mutt_postgres_up": "0x60"},
    ),
    "nothing comes in": Case("MuttAlertsAway", {"mutt_events_evaluated_total": "5x60", _INGEST: "0x60"}),
    "events pile up": Case("MuttAlertsBehind", {_INGEST: "90x60"}, {}, "1m 30s"),
    "a backlog grows": Case("MuttAlertsBehind", {_INGEST: "90x60", _DEPTH: "1000+50x60"}, {}, "1m 30s"),
    "a backlog would be drained tomorrow": Case(
        "MuttAlertsBehind", {_INGEST: "90x60", _DEPTH: "600000-20x60"}, {}, "1m 30s"
    ),
    "a backlog is soon drained": Case("MuttAlertsBehind", {_INGEST: "90x60", _DEPTH: "60000-2000x29 0x30"}),
    "nobody evaluates, which is another alert": Case(
        "MuttAlertsBehind", {"mutt_events_evaluated_total": "5x60", _INGEST: "90x60"}
    ),
    "ingest is slow": Case(
        "MuttIngestLatency",
        {
            'mutt_step_seconds_bucket{step="ingest", le="0.5"}': "0+2900x60",
            'mutt_step_seconds_bucket{step="ingest", le="0.1"}': "0+2900x60",
        },
        {},
        "850ms",
    ),
    "the breaker is open": Case("MuttMoogOutage", {"mutt_breaker_state": "2x60"}, {}),
    "the breaker probes": Case("MuttMoogOutage", {"mutt_breaker_state": "2 1 2 1 2 1 2 1x60"}, {}),
    "the breaker was open for a moment": Case("MuttMoogOutage", {"mutt_breaker_state": "0x23 2 0x40"}),
    "Moog asks for a pause again and again": Case(
        "MuttMoogOutage",
        {"mutt_moog_paused_seconds": "20 0 15 0x2 9 5 0 20 0 0 11 0 10x40", _MINOR: "90x60"},
        {},
    ),
    "Moog asks for a pause and nothing waits long": Case(
        "MuttMoogOutage", {"mutt_moog_paused_seconds": "20x60"}
    ),
    "nobody forwards": Case("MuttMoogAway", {_MINOR: "60x60", _SENT: "9x60"}, {}, "1m 0s"),
    "nobody forwards, for the breaker is open": Case(
        "MuttMoogAway", {_MINOR: "60x60", _SENT: "9x60", "mutt_breaker_state": "2x60"}
    ),
    "nobody forwards, for Moog asked to wait": Case(
        "MuttMoogAway", {_MINOR: "60x60", _SENT: "9x60", "mutt_moog_paused_seconds": "200x60"}
    ),
    "the limit is used up": Case("MuttMoogLimit", {_MINOR: "90x60", "mutt_budget_used": "50x60"}, {}, "100%"),
    "the limit is used up and nothing waits": Case("MuttMoogLimit", {"mutt_budget_used": "50x60"}),
    "the limit is nearly used up": Case(
        "MuttMoogLimit", {_MINOR: "90x60", "mutt_budget_used": "46x60"}, {}, "92%"
    ),
    "a part of the limit is free": Case(
        "MuttForwardersBehind", {_MINOR: "90x60", "mutt_budget_used": "43x60"}, {}, "1m 30s"
    ),
    "forwarders are few": Case("MuttForwardersBehind", {_MINOR: "90x60"}, {}, "1m 30s"),
    "forwarders are enough and the limit is used up": Case(
        "MuttForwardersBehind", {_MINOR: "90x60", "mutt_budget_used": "50x60"}
    ),
    "nobody records": Case(
        "MuttRecordAway", {"mutt_outcomes_recorded_total": "5x60", _DELIVERY: "90x60"}, {}, "1m 30s"
    ),
    "nobody records, for PostgreSQL is away": Case(
        "MuttRecordAway",
        {"mutt_outcomes_recorded_total": "5x60", _DELIVERY: "90x60", "mutt_postgres_up": "0x60"},
    ),
    "record is late": Case("MuttRecordBehind", {_DELIVERY: "150x60"}, {}, "2m 30s"),
    "a source is silent": Case(
        "MuttSourceSilent", {'mutt_source_silent{source="probe"}': "1x60"}, {"source": "probe"}
    ),
    "a listener that loses datagrams": Case(
        "MuttListenerLoses",
        {_LOST: "0x9 5x50"},
        {"instance": "l", "listener": "syslog-udp", "reason": "kernel"},
    ),
    "a listener that lost some a quarter of an hour ago": Case(
        "MuttListenerLoses", {_LOST: "0x9 5x50"}, at="20m"
    ),
    "a listener that ingest does not hear": Case(
        "MuttListenerBehind", {_HEARD: "0x4 0+30x55"}, {"instance": "l"}, "9m 30s"
    ),
    "a listener whose ingest was away for a minute": Case("MuttListenerBehind", {_HEARD: "0x9 0 30 60 0x48"}),
    "a listener whose records are not let through": Case(
        "MuttListenerAside", {'mutt_listen_aside{instance="l"}': "2x60"}, {"instance": "l"}, "2"
    ),
    "a listener that has no place for senders": Case(
        "MuttListenerTurnsAway",
        {'mutt_listen_turned_away_total{instance="l", listener="syslog-tcp"}': "0x9 5x50"},
        {"instance": "l", "listener": "syslog-tcp"},
    ),
    "dead letters": Case("MuttDeadLetters", {'mutt_dlq_depth{queue="moog"}': "3x60"}, {"queue": "moog"}, "3"),
    "too many events are done": Case(
        "MuttLedgerOff", {'mutt_ledger_off{of="events"}': "-2x60"}, {"of": "events"}, "2"
    ),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        lacking("promtool is not here: Debian's package prometheus has it")
    return found


def run(promtool: str, *arguments: str) -> None:
    with scratch(memory()) as directory:  # it makes a store for each test
        env = os.environ | {"TMPDIR": str(directory)}
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def expected(alert: str, labels: dict[str, str], shown: str) -> dict[str, Any]:
    """A firing alert as promtool wants to be told."""
    rule = ALERTS[alert]

    def filled(text: str) -> str:
        text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels.get(found[1], ""), text)
        return re.sub(r"{{ \$value[^}]*}}", shown, text)

    return {
        "exp_labels": rule["labels"] | labels,
        "exp_annotations": {name: filled(text) for name, text in rule["annotations"].items()},
    }


def checked(
    name: str, series: dict[str, str], at: str, wanted: dict[str, list[dict[str, Any]]], every: str = "30s"
) -> dict[str, Any]:
    """What promtool is to check."""
    return {
        "name": name,
        "interval": every,
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [
            {"eval_time": at, "alertname": alert, "exp_alerts": alerts} for alert, alerts in wanted.items()
        ],
    }


def passes(promtool: str, tmp_path: Path, tests: list[dict[str, Any]], every: str, groups: str) -> None:
    """promtool finds that all of these hold, by the groups of rules whose name matches ``groups``."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [one for one in GROUPS if re.fullmatch(groups, one["name"])]}))
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": every, "tests": tests})
    )
    run(promtool, "test", "rules", str(file))


def of(case: Case) -> dict[str, str]:
    return {name: values for name, values in (WELL | case.differs).items() if values is not None}


def test_every_alert_is_silent_while_all_is_well(promtool: str, tmp_path: Path) -> None:
    well = [checked("well", WELL, at, {name: [] for name in ALERTS}) for at in ("1m", "30m")]
    passes(promtool, tmp_path, well, "30s", ".*")


def test_each_alert_fires_for_what_it_is_about_and_for_nothing_else(promtool: str, tmp_path: Path) -> None:
    tests = []
    for name, case in CASES.items():
        fires = [] if case.labels is None else [expected(case.alert, case.labels, case.shown)]
        tests.append(checked(name, of(case), case.at, {case.alert: fires}))
    passes(promtool, tmp_path, tests, "30s", "(?!mutt-slo).*")


def test_there_is_a_case_that_fires_for_every_alert() -> None:
    burns = {"MuttSloBurnFast", "MuttSloBurnSlow"}
    assert ALERTS.keys() - burns == {case.alert for case in CASES.values() if case.labels is not None}


def test_every_trouble_has_its_alert_or_a_reason_why_not() -> None:
    named = {"Mutt" + trouble.title().replace("-", ""): trouble for trouble in TROUBLES}
    assert {trouble for alert, trouble in named.items() if alert not in ALERTS} == WITHOUT.keys()


def test_every_alert_says_what_it_is_what_to_read_and_whom_it_wakes() -> None:
    for name, rule in ALERTS.items():
        words = re.findall("[A-Z][a-z]*", name.removeprefix("Mutt"))
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{'-'.join(words).lower()}"
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.skipif(not RUNBOOK.exists(), reason="there is no runbook yet")
def test_every_alert_has_its_entry_in_the_runbook() -> None:
    entries = set(re.findall("^## ([a-z-]+)$", RUNBOOK.read_text(), re.M))
    named = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in ALERTS.values()}
    assert named <= entries


@pytest.mark.parametrize("name", ["prometheus.yaml", "mutt-up.yaml", "hosts.yaml"])
def test_what_prometheus_is_told_to_ask_is_valid(promtool: str, name: str) -> None:
    run(promtool, "check", "config", str(PROMETHEUS / name))


def test_what_prometheus_is_told_to_ask_in_a_cluster_is_valid(promtool: str, tmp_path: Path) -> None:
    told = yaml.safe_load((PROMETHEUS / "kubernetes.yaml").read_text())
    for job in told["scrape_configs"]:
        del job["kubernetes_sd_configs"]  # Debian's is built without: test_kubernetes.py looks at it
    shutil.copy(RULES, tmp_path)
    (tmp_path / "kubernetes.yaml").write_text(yaml.safe_dump(told))
    run(promtool, "check", "config", str(tmp_path / "kubernetes.yaml"))


# ---- the objectives


class Objective(NamedTuple):
    """One objective: the share that may fail, and the series of so many good and bad ones a minute."""

    slo: str
    budget: float
    good: str
    bad: str = ""  #: where a series counts failures; else they are what the whole has more than the good
    whole: str = ""

    def series(self, *phases: tuple[float, int]) -> dict[str, str]:
        """1,000 a minute, of which such a share fails for so many minutes, one phase after the other."""
        told = {self.good: _rising(*((1000 * (1 - share), n) for share, n in phases))}
        if self.bad:
            return told | {self.bad: _rising(*((1000 * share, n) for share, n in phases))}
        return told | {self.whole: _rising(*((1000.0, n) for _, n in phases))}


def _rising(*phases: tuple[float, int]) -> str:
    total, said = 0.0, []
    for step, minutes in phases:
        said.append(f"{total:g}+{step:g}x{minutes - 1}")
        total += step * minutes
    return " ".join(said)


OBJECTIVES = [
    Objective(
        "ingest-availability",
        0.001,
        'mutt_ingest_requests_total{status="202"}',
        bad='mutt_ingest_requests_total{status="503"}',
    ),
    Objective(
        "ingest-latency",
        0.01,
        'mutt_step_seconds_bucket{step="ingest", le="0.5"}',
        whole='mutt_step_seconds_count{step="ingest"}',
    ),
    Objective(
        "forward-availability",
        0.005,
        'mutt_moog_requests_total{reason="ok"}',
        bad='mutt_moog_requests_total{reason="http_5xx"}',
    ),
    Objective(
        "forward-latency",
        0.01,
        'mutt_lag_seconds_bucket{step="forward", le="2.0"}',
        whole='mutt_lag_seconds_count{step="forward"}',
    ),
]

FAST, SLOW = "MuttSloBurnFast", "MuttSloBurnSlow"

#: Times the budget's pace that each objective burns, for minutes; when it is looked at; which alerts fire, if any.
BURNS: dict[str, tuple[list[tuple[float, int]], str, dict[str, bool]]] = {
    "within the budget": ([(0.9, 180)], "3h", {FAST: False, SLOW: False}),
    "a slow burn": ([(4, 120)], "2h", {FAST: False, SLOW: True}),
    "a slower burn, of days": ([(1.5, 480)], "8h", {FAST: False, SLOW: True}),
    "a fast burn": ([(0, 60), (20, 120)], "3h", {FAST: True}),
    "a fast burn of hours": ([(8, 120)], "2h", {FAST: True}),
    "one that is over": ([(20, 60), (0, 60)], "2h", {FAST: False}),
}


def test_an_objective_wakes_somebody_in_a_fast_burn_and_writes_a_ticket_in_a_slow_one_and_none_in_its_budget(
    promtool: str, tmp_path: Path
) -> None:
    tests = []
    for name, (phases, at, wanted) in BURNS.items():
        series, burning = {}, phases[-1][0]
        for one in OBJECTIVES:
            series |= one.series(*((times * one.budget, minutes) for times, minutes in phases))
        fires = [expected(SLOW, {"slo": one.slo}, f"{burning * one.budget * 100:.4g}%") for one in OBJECTIVES]
        fast = [expected(FAST, {"slo": one.slo}, f"{burning * one.budget * 100:.4g}%") for one in OBJECTIVES]
        told = {alert: (fast if alert == FAST else fires) if fire else [] for alert, fire in wanted.items()}
        tests.append(checked(name, series, at, told, "1m"))
    passes(promtool, tmp_path, tests, "5m", "mutt-slo.*")


def test_what_is_the_senders_fault_or_moogs_limit_is_no_failure_of_ours(
    promtool: str, tmp_path: Path
) -> None:
    moogs = ("http_429", "refused", "too_large", "expired")
    series = {
        'mutt_ingest_requests_total{status="202"}': "0+10x180",
        **{f'mutt_ingest_requests_total{{status="{n}"}}': "0+10x180" for n in (400, 401, 403, 413, 429)},
        'mutt_moog_requests_total{reason="ok"}': "0+10x180",
        **{f'mutt_moog_requests_total{{reason="{one}"}}': "0+10x180" for one in moogs},
    }
    passes(
        promtool, tmp_path, [checked("theirs", series, "3h", {FAST: [], SLOW: []}, "1m")], "5m", "mutt-slo.*"
    )
