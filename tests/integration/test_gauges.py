"""What stands in Redis and PostgreSQL is told as it is, and what can't be asked is said to be away."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import Engine, text

from mutt import gauges, names
from mutt.gauges import PostgresGauges, PulseGauges, RedisGauges, of_processes
from mutt.pulse.sample import Process, Sample
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import partitions
from mutt.store.engine import transaction
from mutt.store.outlook import outlook
from mutt.web.api import state
from tests.bench import without_months

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
AWAY = "redis://127.0.0.1:1/0"
NOBODY = "postgresql://nobody@127.0.0.1:1/mutt"


def services(**given: object) -> Services:
    return Services(Settings.from_env({}, **given), lambda *_args, **_labels: None)


def told(collector: RedisGauges | PulseGauges | PostgresGauges) -> dict[str, float]:
    """Values by name, and by their first label's value where there is one."""
    return {
        ":".join((sample.name, *sample.labels.values())): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def test_the_memory_and_the_work_of_redis_are_told_without_its_login(redis_url: str) -> None:
    found = told(RedisGauges(services(redis_url=redis_url)))
    host = redis_url.rpartition("@")[2].removeprefix("redis://").partition("/")[0]
    assert found["mutt_redis_up"] == 1
    assert found[f"mutt_redis_memory_bytes:{host}"] > 100_000
    assert found[f"mutt_redis_cpu_seconds_total:{host}"] > 0
    assert found["mutt_ledger_off:events"] == found["mutt_ledger_off:alerts"] == 0


def test_books_that_do_not_balance_are_told(redis_url: str) -> None:
    ours = services(redis_url=redis_url)
    ours.redis.hset(names.LEDGER, mapping={"events.accepted": 10, "events.settled": 7, "events.parked": 1})
    assert told(RedisGauges(ours))["mutt_ledger_off:events"] == 2


def test_every_server_is_told_of_and_one_that_is_away_takes_nothing_from_the_others(
    redis_urls: list[str],
) -> None:
    listed = [*redis_urls, AWAY]
    found = told(RedisGauges(services(redis_url=redis_urls[0], stream_urls="\n".join(listed))))
    assert len([name for name in found if name.startswith("mutt_redis_memory_bytes:")]) == len(redis_urls)
    assert found["mutt_redis_up"] == 1 and "mutt_ledger_off:events" not in found


def test_ages_go_by_the_clock_of_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = services(redis_url=redis_url)
    ours.redis.xadd(names.INGEST_STREAM, {"v": "1"})
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + 3600)
    assert told(RedisGauges(ours))["mutt_queue_oldest_seconds:ingest_queue"] < 60
    assert state._State(ours)._now()["queues"]["ingest_queue"]["oldest_s"] < 60


def test_the_budget_that_is_used_is_what_the_gate_granted_in_its_window(redis_url: str) -> None:
    ours = services(redis_url=redis_url)
    seconds, micros = ours.redis.time()
    now = seconds * 1_000_000 + micros
    ours.redis.hset(names.BREAKER, mapping={"limit": 50, "window_us": 60_000_000, "state": "half_open"})
    ours.redis.hset(names.BREAKER, "pause_until", now + 30_000_000)
    ours.redis.zadd(names.BUDGET, {"old": now - 61_000_000, "one": now - 5_000_000, "two": now})
    found = told(RedisGauges(ours))
    assert (found["mutt_budget_used"], found["mutt_budget_limit"], found["mutt_budget_window_seconds"]) == (
        2,
        50,
        60,
    )
    assert found["mutt_breaker_state"] == 1
    assert found["mutt_moog_paused_seconds"] == pytest.approx(30, abs=5)


@pytest.mark.parametrize("url", [AWAY, ""])
def test_a_redis_that_is_away_is_said_to_be_and_nothing_else_is_said_of_it(url: str) -> None:
    assert told(RedisGauges(services(redis_url=url))) == {"mutt_redis_up": 0}


@pytest.mark.parametrize("url", [NOBODY, ""])
def test_a_postgresql_that_is_away_is_said_to_be(url: str) -> None:
    assert told(PostgresGauges(services(database_url=url))) == {"mutt_postgres_up": 0}


def test_the_months_ahead_are_told_and_asked_for_no_more_than_now_and_then(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(engine) as conn:
        partitions.ensure(conn, datetime.now(UTC))
    collector = PostgresGauges(services(database_url=database_url))
    found = told(collector)
    assert found["mutt_postgres_up"] == 1
    assert found["mutt_partition_months_ahead"] == 3
    assert found["mutt_partition_default_rows"] == 0
    monkeypatch.setattr(gauges, "outlook", lambda *_: pytest.fail("asked again"))
    assert told(collector) == found


def test_processes_are_told_by_role_and_of_the_dead_nothing_but_that_they_are_missing() -> None:
    crew = (
        Process("a:1", "alerts", NOW.timestamp(), 0.4, 1, busy=0.5, store_share=0.2, p99_ms=30.0),
        Process("a:2", "alerts", NOW.timestamp() - 2, 0.9, 1, busy=0.7, store_share=0.4, starved=0.3),
        Process("a:3", "ingest", NOW.timestamp() - 60, 0.9, 1),
    )
    found = of_processes(Sample(NOW.timestamp(), processes=crew))
    assert found["mutt_processes"][("alerts",)] == 2
    assert found["mutt_processes"][("ingest",)] == 0
    assert found["mutt_process_cores"] == {("alerts",): 0.9}
    assert found["mutt_process_starved_cores"] == {("alerts",): 0.3}
    assert found["mutt_process_busy_ratio"] == pytest.approx({("alerts",): 0.6})
    assert found["mutt_process_store_ratio"] == pytest.approx({("alerts",): 0.3})
    assert found["mutt_process_p99_seconds"] == {("alerts",): 0.03}


def test_a_pulse_that_is_old_is_not_told(redis_url: str) -> None:
    ours = services(redis_url=redis_url)
    for age, said in ((60, False), (1, True)):
        sample = Sample(time.time() - age)
        ours.redis.lpush(names.PULSE_SAMPLES, msgspec.msgpack.encode(sample))
        assert ("mutt_processes:ingest" in told(PulseGauges(ours))) == said


def test_a_month_that_is_missing_ends_what_is_ahead(engine: Engine) -> None:
    with transaction(without_months(engine)) as conn:
        partitions.ensure(conn, NOW)
        assert outlook(conn, NOW).ahead == 3
        conn.execute(text(f"DROP TABLE {partitions.name_of(datetime(2027, 1, 1, tzinfo=UTC))}"))
        assert outlook(conn, NOW).ahead == 1
        conn.execute(text(f"DROP TABLE {partitions.name_of(NOW)}"))
        assert outlook(conn, NOW).ahead == -1
