"""What stands in Redis and PostgreSQL is told as it is, and what can't be asked is said to be away."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from mutt import gauges, names
from mutt.gauges import PostgresGauges, RedisGauges
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import partitions
from mutt.store.engine import transaction
from mutt.store.outlook import outlook

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
AWAY = "redis://127.0.0.1:1/0"
NOBODY = "postgresql://nobody@127.0.0.1:1/mutt"


def services(**given: object) -> Services:
    return Services(Settings.from_env({}, **given), lambda *_args, **_labels: None)


def told(collector: RedisGauges | PostgresGauges) -> dict[str, float]:
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


def test_a_month_that_is_missing_ends_what_is_ahead(engine: Engine) -> None:
    with transaction(engine) as conn:
        partitions.ensure(conn, NOW)
        assert outlook(conn, NOW).ahead == 3
        conn.execute(text(f"DROP TABLE {partitions.name_of(datetime(2027, 1, 1, tzinfo=UTC))}"))
        assert outlook(conn, NOW).ahead == 1
        conn.execute(text(f"DROP TABLE {partitions.name_of(NOW)}"))
        assert outlook(conn, NOW).ahead == -1
