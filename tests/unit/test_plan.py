"""The arithmetic of `mutt plan`: what was measured and a rate become replicas, memory, disk and the first limit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mutt.cli.plan import plan_command
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.plan import sample
from mutt.plan.arithmetic import BUSY, FULL, plan
from mutt.plan.forecast import forecast, speed, throughput
from mutt.plan.scratch import _database
from mutt.plan.values import Door, Load, Machine, Measured, Question, Server, Worker
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate

seconds = st.floats(1e-7, 1e-2)
shares = st.floats(0.3, 1.0)


def measured(
    *,
    worker: float = 25e-6,
    redis: float = 6e-6,
    postgres: float = 14e-6,
    clock: float = 50e-6,
    share: float = 0.04,
) -> Measured:
    private = Server(where="private", seconds=20e-6)
    return Measured(
        at="2026-11-29T08:00:00+00:00",
        machine=Machine(cores=2),
        load=Load(alerts_share=share),
        rules=5,
        evaluate=6e-6,
        door=Door(
            ingest=16e-6,
            redis=1.5e-6,
            rate=50_000,
            waiting_bytes=200,
            mark_bytes=136,
            resident_bytes=200 << 20,
        ),
        worker=Worker(
            worker=worker,
            redis=redis,
            postgres=postgres,
            clock=clock,
            queued=0.0,
            strangers=0.0,
            crowded=worker + redis + postgres,
            rows_bytes=1500,
            wal_bytes=1400,
            resident_bytes=200 << 20,
        ),
        copy=private,
        streams=private,
        private_copy=20e-6,
        private_streams=20e-6,
        max_connections=200,
    )


def told(question: Question, found: Measured) -> dict[str, float]:
    made = plan(question, found)
    return {one.name: one.value for one in (*made.redis, *made.postgres)}


def processes(question: Question, found: Measured) -> dict[str, int]:
    return {one.role: one.processes for one in plan(question, found).replicas}


def test_replicas_are_what_an_event_takes_times_the_rate_with_room_for_bursts() -> None:
    found = processes(Question(eps=100_000), measured())
    assert found["ingest"] == 3  # 100,000 x 16 µs / 0.7
    assert found["alerts"] == 8  # 100,000 x 50 µs by the clock / 0.7


def test_a_server_that_is_farther_away_needs_more_workers_by_what_they_wait() -> None:
    near = measured()
    far = msgspec.structs.replace(near, copy=Server(where="connected", seconds=70e-6))
    assert far.worker_wall - near.worker_wall == pytest.approx(50e-6)
    assert processes(Question(eps=100_000), far)["alerts"] == 15


def test_forwarders_go_by_the_budget_and_never_by_the_rate() -> None:
    for eps in (10, 100_000, 1_000_000):
        assert processes(Question(eps=eps), measured())["moog"] == 2
    assert processes(Question(eps=10, moog_per_second=200), measured())["moog"] == 7


def test_disk_is_rows_by_day_and_the_retention_has_its_month_under_way() -> None:
    found = told(Question(eps=3000, retention_days=90), measured())
    assert found["disk a month"] == 3000 * 86_400 * 30 * 1500
    assert found["disk for 90 days"] == pytest.approx(4 * found["disk a month"])


def test_ingest_has_connections_where_it_may_spill() -> None:
    name = "connections at the most"
    without, spilling = (told(Question(eps=100_000, spill_pool=n), measured())[name] for n in (0, 4))
    assert spilling - without == 3 * 4


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("redis://u:p@h:1/0", "redis://u:p@h:1/7"),
        ("sentinel://a:1,b:2/0?master=m", "sentinel://a:1,b:2/7?master=m"),
        ("unix:///run/redis.sock?db=2&x=y", "unix:///run/redis.sock?db=7&x=y"),
    ],
    ids=["tcp", "sentinel", "socket"],
)
def test_another_database_of_a_server_has_this_address(url: str, other: str) -> None:
    assert _database(url, 7) == other


def test_memory_is_what_waits_and_ingest_refuses_before_it_is_full() -> None:
    found = told(Question(eps=3000, backlog=3600), measured())
    data = 3000 * 3600 * 200
    assert found["memory for them"] == data
    assert found["maxmemory"] == pytest.approx((data + 30 * 600 * 136) / FULL)


def test_too_few_connections_are_said_with_what_to_do() -> None:
    made = plan(Question(eps=200_000, pool_max=30), measured())
    (line,) = [one for one in made.postgres if one.name == "connections at the most"]
    assert line.value > 200
    assert "raise max_connections or lower DB_POOL_MAX" in line.formula


def test_moogs_limit_gives_way_first_where_alerts_come_faster_than_it_takes_them() -> None:
    first = plan(Question(eps=3000), measured(share=0.04)).bottleneck
    assert (first.name, first.eps) == ("Moog's limit", 1250)
    assert plan(Question(eps=3000, moog_batch=100), measured()).bottleneck.name != "Moog's limit"
    assert "Moog's limit" not in {one.name for one in plan(Question(eps=3000), measured(share=0)).limits}


@given(st.floats(1, 1e6), st.floats(1.0, 10.0), seconds, seconds, seconds)
def test_more_events_never_need_less(
    eps: float, times: float, worker: float, redis: float, postgres: float
) -> None:
    found = measured(worker=worker, redis=redis, postgres=postgres, clock=worker + redis + postgres)
    few, many = (processes(Question(eps=rate), found) for rate in (eps, eps * times))
    assert all(few[role] <= many[role] for role in few)
    few_told, many_told = (told(Question(eps=rate), found) for rate in (eps, eps * times))
    assert all(few_told[name] <= many_told[name] * (1 + 1e-9) for name in few_told)


@given(st.floats(1, 1e5), seconds)
def test_no_replica_is_busier_than_it_is_meant_to_be(eps: float, worker: float) -> None:
    for one in plan(Question(eps=eps), measured(worker=worker, clock=worker)).replicas:
        assert one.cores <= one.processes * BUSY * (1 + 1e-9) or one.role in ("backtests", "moog")


@given(st.integers(1, 12), seconds, st.floats(0, 1e-2), st.integers(1, 16), shares)
def test_a_forecast_is_bounded_by_its_workers_and_by_the_cores(
    workers: int, cpu: float, waits: float, cores: int, together: float
) -> None:
    rate = throughput(workers, cpu, waits, cores, together)
    alone = 1 / (cpu + waits)
    assert 0 < rate <= workers * alone / (together if cores == 1 else 1) * (1 + 1e-6)
    assert rate <= max(speed(count, cores, together) for count in range(1, cores + 1)) / cpu * (1 + 1e-6)


@given(st.integers(1, 8), seconds, st.floats(0, 1e-2), st.integers(1, 8))
def test_one_worker_more_never_does_less_where_cores_lose_nothing(
    workers: int, cpu: float, waits: float, cores: int
) -> None:
    assert throughput(workers + 1, cpu, waits, cores) >= throughput(workers, cpu, waits, cores) * (1 - 1e-9)


def test_workers_that_only_compute_fill_the_cores_and_no_more() -> None:
    assert [throughput(n, 1e-3, 0.0, 2) for n in (1, 2, 4)] == pytest.approx([1000, 2000, 2000])
    assert throughput(2, 1e-3, 0.0, 2, together=0.8) == pytest.approx(1600)


def test_waiting_lets_more_workers_than_cores_be_worth_it() -> None:
    one, two, four = (throughput(n, 1e-3, 3e-3, 2) for n in (1, 2, 4))
    assert one == pytest.approx(250)
    assert two == pytest.approx(500, rel=0.01)
    assert 850 < four < 1000


def test_what_others_take_of_busy_cores_is_not_there_for_workers() -> None:
    quiet = measured(clock=45e-6)
    shared = msgspec.structs.replace(
        quiet, worker=msgspec.structs.replace(quiet.worker, crowded_strangers=0.4, crowded=50e-6)
    )
    assert shared.together == pytest.approx(0.8 * 45 / 50)
    assert forecast(quiet, (8,))[8] == pytest.approx(2 / 45e-6)
    assert forecast(shared, (8,))[8] == pytest.approx(2 * 0.8 / 50e-6)


def test_redis_one_core_is_the_end_of_it() -> None:
    found = measured(worker=1e-6, redis=10e-6, postgres=1e-6, clock=100e-6)
    assert forecast(found, (1, 64))[64] == pytest.approx(1 / 10e-6)


@pytest.mark.parametrize(("size", "share"), [(300, 0.0), (540, 0.04), (1000, 0.5), (5000, 0.0)])
def test_events_have_the_size_and_the_share_that_is_asked_for(size: int, share: float) -> None:
    made = sample.events(400, Load(event_bytes=size, alerts_share=share))
    assert sum(map(len, made)) / len(made) == pytest.approx(max(size, 420), rel=0.15)
    faults = sum(b"%MUTT-PLAN-2-FAULT" in one for one in made)
    assert faults / len(made) == pytest.approx(share, abs=0.1)


def test_our_own_rules_match_what_is_to_alert_and_nothing_else() -> None:
    ruleset = Ruleset.compile(1, [check_rule(rule, rule_id=n) for n, rule in enumerate(sample.RULES)], (), {})
    body = b"[" + b",".join(sample.events(300, Load(alerts_share=0.3))) + b"]"
    context = Context(datetime.now(UTC), "test", 1 << 18, "localhost")
    events = registry.parse(registry.sniff(body, "application/json"), body, context).events
    assert len(events) == 300
    for event in events:
        assert (evaluate(event, ruleset).rule_id is not None) == ("FAULT" in event.message)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "measured.json"
    file.write_bytes(msgspec.json.encode({"measured": measured()}))
    return file


def test_what_was_measured_once_is_planned_with_again(saved: Path) -> None:
    argv = ["--measured", str(saved), "--eps", "3000", "--workers", "1,2,4", "--json"]
    said = json.loads(CliRunner().invoke(plan_command, argv, catch_exceptions=False).stdout)
    assert said["bottleneck"] == "Moog's limit"
    assert said["forecast"].keys() == {"1", "2", "4"}
    assert {one["role"] for one in said["replicas"]} >= {"ingest", "alerts", "moog", "housekeeping"}
    assert all(one["formula"] for one in said["redis"] + said["postgres"] + said["limits"])


def test_the_plan_is_told_to_people_with_its_formulas(saved: Path) -> None:
    argv = ["--measured", str(saved), "--eps", "3000", "--backlog", "2h", "--workers", "1,2"]
    text = CliRunner().invoke(plan_command, argv, catch_exceptions=False).stdout
    assert "3,000 events/s: that is too much for Moog's limit, at 1,250." in text
    assert "21,600,000 events" in text


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "say --eps, or --workers, or both"),
        (["--workers", "1,x"], "expected numbers of workers"),
        (["--eps", "0"], "not in the range"),
        (["--eps", "1", "--backlog", "soon"], "expected"),
    ],
)
def test_what_can_not_be_planned_is_a_sentence(argv: list[str], why: str) -> None:
    done = CliRunner().invoke(plan_command, argv)
    assert done.exit_code == 2
    assert why in done.output
