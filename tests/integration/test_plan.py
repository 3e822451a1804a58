"""`mutt plan` measures beside servers that others use, and leaves nothing there, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import Engine, text

from mutt.embedded.ports import free_port
from mutt.plan import flow, measure, private, scratch
from mutt.plan.values import Load
from mutt.settings import Settings
from mutt.store.engine import make_engine, transaction
from tests.waiting import wait_until


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that mean nothing, soon."""
    monkeypatch.setattr(flow, "SENDING", 1.0)
    monkeypatch.setattr(private, "LOGGED", 1 << 20)
    monkeypatch.setattr(flow, "WAITING", 12_000)
    monkeypatch.setattr(flow, "EVENTS", 1_000)
    monkeypatch.setattr(measure, "EVENTS", 600)
    monkeypatch.setattr(measure, "EVALUATING", 0.05)
    monkeypatch.setattr(scratch, "COPYING", 0.1)


@pytest.fixture
def settings(redis_url: str, database_url: str) -> Settings:
    return Settings.from_env({}, redis_url=redis_url, database_url=database_url)


def tables(engine: Engine) -> list[str]:
    with transaction(engine) as conn:
        found = conn.execute(text("SELECT relname FROM pg_class WHERE relname LIKE 'mutt\\_plan\\_%'"))
        return list(found.scalars())


def rows(engine: Engine) -> int:
    with transaction(engine) as conn:
        return conn.execute(text("SELECT count(*) FROM event_audit_log")).scalar_one()


def keys(url: str) -> dict[str, int]:
    with redis.Redis.from_url(url) as client:
        return {name: found["keys"] for name, found in client.info("keyspace").items()}


@pytest.mark.usefixtures("hasty")
def test_it_finds_what_everything_costs_and_leaves_the_connected_servers_as_they_were(
    settings: Settings, engine: Engine, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("mutt:mine", "1")
    said: list[str] = []
    found = measure.measure(settings, Load(batch=50), said.append)
    assert found.copy.where == found.streams.where == "connected"
    assert min(found.door.ingest, found.worker.worker, found.worker.clock, found.evaluate) > 0
    assert min(found.copy.seconds, found.streams.seconds, found.worker.rows_bytes) > 0
    assert found.rules == 5
    assert (tables(engine), rows(engine), keys(redis_url)) == ([], 0, {"db0": 1})
    assert any("your 5 rules" in line for line in said)


def test_an_interrupted_run_takes_its_table_and_its_keys_with_it(
    settings: Settings, engine: Engine, redis_url: str
) -> None:
    with pytest.raises(KeyboardInterrupt), scratch.scratch_table(engine):
        assert tables(engine)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), scratch.scratch_database(settings) as client:
        client.set("mutt:something", "1")
        raise KeyboardInterrupt
    assert (tables(engine), keys(redis_url)) == ([], {})


def test_what_a_killed_run_left_the_next_one_drops(engine: Engine) -> None:
    old = int(time.time()) - scratch.LEFT_AFTER - 1
    with transaction(engine) as conn:
        conn.execute(text(f"CREATE TABLE mutt_plan_{old}_0a (n int)"))
        conn.execute(text(f"CREATE TABLE mutt_plan_{old + 500}_0b (n int)"))  # another's, at work
        conn.execute(text("CREATE TABLE mutt_plan_of_mine (n int)"))
    with scratch.scratch_table(engine):
        pass
    assert sorted(tables(engine)) == [f"mutt_plan_{old + 500}_0b", "mutt_plan_of_mine"]


def test_without_the_right_to_make_a_table_it_is_said_and_nothing_is_written(
    settings: Settings, engine: Engine
) -> None:
    with transaction(engine) as conn:
        conn.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        conn.execute(text("DROP ROLE IF EXISTS plan_reader"))
        conn.execute(text("CREATE ROLE plan_reader LOGIN"))
    theirs = settings.database_url.replace("mutt@", "plan_reader@", 1)
    other = make_engine(Settings.from_env({}, database_url=theirs), role="test")
    try:
        with pytest.raises(scratch.NotAllowed, match="permission denied"), scratch.scratch_table(other):
            pass
    finally:
        other.dispose()
        with transaction(engine) as conn:
            conn.execute(text("DROP ROLE plan_reader"))


def test_a_redis_without_an_empty_database_is_not_used(settings: Settings, redis_url: str) -> None:
    for number in range(1, 16):
        with redis.Redis.from_url(redis_url.replace("/0", f"/{number}")) as client:
            client.set("somebody's", "1")
    with pytest.raises(scratch.NotAllowed, match="empty"), scratch.scratch_database(settings):
        pass


def test_a_server_that_is_away_is_said_before_anything_is_measured() -> None:
    said: list[str] = []
    gone = Settings.from_env({}, redis_url=f"redis://127.0.0.1:{free_port(0)}/0")
    with pytest.raises(redis.ConnectionError):
        measure.measure(gone, Load(), said.append)
    assert said == []


def test_asked_to_end_it_leaves_no_process_and_no_file(own_directory: Path) -> None:
    env = {**os.environ, "TMPDIR": str(own_directory), "MUTT_HOME": str(own_directory / "none")}
    argv = [sys.executable, "-m", "mutt", "plan", "--eps", "100"]
    running = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True)
    me = psutil.Process(running.pid)
    wait_until(lambda: any(one.name() == "postgres" for one in me.children()), timeout=120)
    children = me.children(recursive=True)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not list(own_directory.glob("mutt-plan-*"))
