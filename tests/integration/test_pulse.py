"""The pulse on real servers: what processes say, what is read, and what a viewer sees in an outage."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
import psutil
import pytest
import redis
from click.testing import CliRunner

from mutt import names
from mutt.cli import cli
from mutt.cli.common import services as services_of_shell
from mutt.meter import Meter
from mutt.pulse import collect, report
from mutt.pulse.collect import WHOLE, Collector, Source, hour, latest, reading
from mutt.pulse.report import Reporter
from mutt.pulse.sample import EVERY, GONE_AFTER, KEPT, Process, Sample
from mutt.services import Services
from mutt.settings import Settings
from mutt.store.patience import WAITED
from mutt.streams.letters import Letters
from mutt.web.admin.app import make_admin
from tests.bench import Bench, benches, event
from tests.servers import Live
from tests.waiting import wait_until

ROLES = ("ingest", "alerts", "moog", "housekeeping", "backtests", "admin")


@dataclass
class Clock:
    """A process' idea of the time of day, ahead of the true one."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as [made]:
        yield made


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


def says(
    client: redis.Redis, name: str, role: str = "alerts", meter: Meter | None = None, **more: Any
) -> Reporter:
    return Reporter(client, name, {role: meter or Meter()}, **({"slots": 1} | more))


def of(url: str, database_url: str = "") -> Services:
    return Services(
        Settings.from_env({}, redis_url=url, database_url=database_url), lambda *_, **__: None, role="admin"
    )


# ---- what a process says


def test_a_process_says_how_busy_it_is_how_fast_and_what_it_waits_for(client: redis.Redis) -> None:
    now = [100.0]
    meter = Meter()
    ours = says(client, "h:1", meter=meter, slots=2, queued=lambda: 3, monotonic=lambda: now[0])
    meter.did(500, [0.010, 0.020, 0.030])
    meter.refused += 4
    now[0] = 102.0
    [process] = ours.processes(1.0)
    assert (process.events, process.refused, process.queued) == (250.0, 2.0, 3)
    assert process.p50_ms == pytest.approx(20) and process.p99_ms == pytest.approx(30)
    assert process.rss > 10 << 20
    # What was counted before three reports ago is told no more.
    for second in (104.0, 106.0, 108.0):
        now[0] = second
        [process] = ours.processes(1.0)
    assert (process.events, process.p50_ms) == (0.0, None)


def test_a_worker_that_waits_in_vain_is_busy_and_is_said_to_wait(client: redis.Redis) -> None:
    meter, begun, done = Meter(), threading.Event(), threading.Event()

    def work() -> None:
        with meter.busy, WAITED:
            begun.set()
            done.wait(30)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert begun.wait(30)
        ours = says(client, "h:1", meter=meter)
        time.sleep(0.1)
        [process] = ours.processes(1.0)
    finally:
        done.set()
        worker.join()
    assert process.busy > 0.8 and process.store_share > 0.8


def test_resting_between_two_takes_is_no_work() -> None:
    meter = Meter()
    with meter.busy:
        before = meter.busy.total(time.monotonic())
        began = time.monotonic()
        meter.busy.rest(0.2)
        rested = time.monotonic() - began
        assert meter.busy.total(time.monotonic()) - before < rested - 0.1
    meter.busy.rest(0.0)  # who is not at work is not put to work by it
    assert meter.busy.total(time.monotonic() + 9) == meter.busy.total(time.monotonic())


def test_waiting_for_postgresql_and_commits_are_counted_where_they_happen(bench: Bench) -> None:
    ours = says(bench.redis, "h:1")
    with bench.sql() as conn:
        conn.exec_driver_sql("SELECT pg_sleep(0.1)")
    [process] = ours.processes(1.0)
    assert process.commit_ms is not None and process.commit_ms < 1000
    assert WAITED.total(time.monotonic()) >= 0.1


def test_an_outage_of_redis_is_one_line_and_ends_by_itself(
    own_redis: Live, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "REPORT_EVERY", 0.05)
    caplog.set_level(logging.WARNING, logger="mutt.pulse")

    def ours() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "mutt.pulse"]

    end = report.start(Settings.from_env({}, redis_url=own_redis.url), "h:1", {"alerts": Meter()}, slots=1)
    with redis.Redis.from_url(own_redis.url) as client:
        wait_until(lambda: client.hexists(names.PULSE_OF + "alerts", "h:1"), what="a report")
        own_redis.kill()
        wait_until(ours, what="the outage in the log")
        time.sleep(0.3)
        own_redis.start()
        client.flushall()
        wait_until(lambda: client.hexists(names.PULSE_OF + "alerts", "h:1"), what="a report after the outage")
        assert len(ours()) == 1
        end()
        # Whoever ends in order is not waited for.
        assert not client.hexists(names.PULSE_OF + "alerts", "h:1")


# ---- what is read


def test_everything_is_read_once_and_kept(bench: Bench, client: redis.Redis) -> None:
    bench.append(event("CRITICAL fan"), event("CRITICAL disk"), event("unmatched"))
    bench.append(event("later"))
    bench.take(1)
    Letters(client, bench.services.ingest_stream).keep_rejected("k", [], most_bytes=1 << 20)
    for role in ROLES:
        says(client, f"h:{role}", role, slots=4).once()
    time.sleep(0.05)
    sample = Collector(bench.services).once()
    queue = sample.queue("ingest_queue")
    assert (queue.entries, queue.held) == (2, 1) and 0.04 < queue.oldest_s < 30
    assert (sample.events["accepted"], sample.events["queued"]) == (4, 4)
    assert [one.name for one in sample.of_role("moog")] == ["h:moog"]
    assert sample.moog.slots == 4 and sample.moog.limit == 50
    assert sample.redis[0].memory > 1 << 20 and "@" not in sample.redis[0].name
    assert sample.postgres and sample.postgres.answer_ms < 1000 and sample.postgres.max_connections > 10
    assert sample.away == {}
    assert latest(client) == [sample]
    [point] = hour(client)
    assert (point.ingest_depth, point.workers) == (4, 1)


def test_rates_are_differences_and_a_counter_that_began_anew_gives_none(
    bench: Bench, client: redis.Redis
) -> None:
    collector = Collector(bench.services)
    collector.once()
    bench.append(event(), event())
    bench.run()
    wait_until(
        lambda: _rows(bench), what="the statistics of PostgreSQL"
    )  # they are written behind the commit
    time.sleep(0.1)
    second = collector.once()
    point = hour(client)[-1]
    assert point.events_in > 0 and point.events_out > 0 and point.alerts_in > 0
    assert second.postgres and second.postgres.rows > 0 and second.redis[0].commands > 0
    client.delete(names.LEDGER)
    client.config_resetstat()
    collector.once()
    last = hour(client)[-1]
    assert min(msgspec.to_builtins(last)) >= 0
    assert (last.events_in, last.events_out, last.alerts_in) == (0.0, 0.0, 0.0)


def _rows(bench: Bench) -> int:
    with bench.sql() as conn:
        conn.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        query = (
            "SELECT coalesce(sum(pg_stat_get_tuples_inserted(inhrelid)), 0)::int FROM pg_inherits"
            " WHERE inhparent = 'event_audit_log'::regclass"
        )
        return int(conn.exec_driver_sql(query).scalar_one())


def test_a_server_in_the_place_of_another_shows_no_work_that_it_did_before(
    client: redis.Redis, redis_url: str
) -> None:
    """As after a failover: more processor time than there is in five seconds is another server's."""
    sources = [Source("m@s:1", client, [names.INGEST_STREAM])]
    before = Sample(time.time() - 5, counters={"cpu m@s:1": -600.0, "commands m@s:1": -1e6})
    client.lpush(names.PULSE_SAMPLES, msgspec.msgpack.encode(before))
    [found] = Collector(of(redis_url), sources=lambda: sources).once().redis
    assert (found.cpu, found.commands) == (0.0, 0.0)


def test_a_fault_in_one_reading_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    class Soon(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return self.is_set()

    class Faulty:
        turns = 0

        def turn(self) -> bool:
            self.turns += 1
            if self.turns == 1:
                raise ValueError("of ours")
            stopping.set()
            return False

    stopping, faulty = Soon(), Faulty()
    collect._run(faulty, stopping)
    assert faulty.turns == 2 and "of ours" in caplog.text


def test_children_are_a_part_of_their_worker(client: redis.Redis, redis_url: str) -> None:
    says(client, "h:1", slots=0).once()
    for child in (2, 3):
        meter = Meter()
        with meter.busy:
            ours = says(client, f"h:1/{child}", meter=meter)
            time.sleep(0.05)
            meter.did(10 * child, [0.01])
            ours.once()
    [worker] = Collector(of(redis_url)).once().of_role("alerts")
    assert (worker.name, worker.slots) == ("h:1", 2)
    assert worker.events > 0 and worker.busy > 0.5
    assert worker.rss > report.resident() * 2


def test_who_says_nothing_is_gone_and_forgotten(client: redis.Redis, redis_url: str) -> None:
    key, now = names.PULSE_OF + "alerts", time.time()
    for name, age in (("h:1", 1.0), ("h:2", GONE_AFTER + 1), ("h:3", GONE_AFTER * 7)):
        client.hset(key, name, msgspec.msgpack.encode(Process(name, "alerts", now - age, 0.0, 0)))
    client.hset(key, "h:4", b"of a newer MUTT")
    sample = Collector(of(redis_url)).once()
    assert [one.name for one in sample.processes] == ["h:1"]
    assert set(client.hkeys(key)) == {b"h:1", b"h:2", b"h:4"}


def test_clocks_of_hosts_may_differ(client: redis.Redis, redis_url: str) -> None:
    """Redis' clock counts, for the reading and for whoever reports to it."""
    ours = says(client, "h:1")
    ours.once()
    ours.once()  # the first one learnt how far this host's clock is off
    collector = Collector(of(redis_url), now=Clock(ahead=3600.0))
    collector.once()
    sample = collector.once()
    assert abs(sample.at - time.time()) < 5
    assert [one.name for one in sample.processes] == ["h:1"]


def test_several_servers_are_added_up(own_redis: Live, client: redis.Redis, redis_url: str) -> None:
    """Entries and books of a queue that is spread; the first server has all the rest."""
    with redis.Redis.from_url(own_redis.url) as other:
        for one, n in ((client, 2), (other, 3)):
            for _ in range(n):
                one.xadd(names.INGEST_STREAM, {"v": "1"})
            one.hset(names.LEDGER, "events.accepted", n)
        sources = [
            Source("a:1", client, [names.INGEST_STREAM, names.DELIVERY_STREAM]),
            Source("b:1", other, [names.INGEST_STREAM]),
        ]
        sample = Collector(of(redis_url), sources=lambda: sources).once()
        assert sample.queue("ingest_queue").entries == 5
        assert sample.events["accepted"] == 5
        assert [one.name for one in sample.redis] == ["a:1", "b:1"]
        own_redis.kill()
        sample = Collector(of(redis_url), sources=lambda: sources).once()
        assert "b:1" in sample.away["redis"] and sample.queue("ingest_queue").entries == 2
        assert not sample.events, "a part of the books is none"
        own_redis.start()
        other.hset(names.LEDGER, "events.accepted", 1000)
        Collector(of(redis_url), sources=lambda: sources).once()
        assert hour(client)[-1].events_in == 0, "what a server did before it was away is no flow"


def test_of_several_servers_the_first_that_is_away_is_asked_once_a_while(
    own_redis: Live, client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "FRESH", 0.0)
    asked = []

    def gone(*_args: Any, **_named: Any) -> Any:
        asked.append(1)
        raise redis.ConnectionError("refused")

    with redis.Redis.from_url(own_redis.url) as home:
        sources = [
            Source("a:1", home, [names.INGEST_STREAM]),
            Source("b:1", client, [names.INGEST_STREAM]),
        ]
        home.pipeline = home.lrange = gone
        collector = Collector(of(redis_url), sources=lambda: sources)
        for _ in range(3):
            found = collector.reading()
        assert "a:1" in found.sample.away["redis"] and len(found.points) == 1
        assert len(asked) == 2, "by who looks first, and by the reading that it makes"


def test_what_moog_does_is_told(redis_url: str, database_url: str, client: redis.Redis) -> None:
    now = time.time()
    client.hset(
        names.BREAKER, mapping={"state": "half_open", "reason": "timeout", "until": round((now + 9) * 1e6)}
    )
    client.hset(names.BREAKER, mapping={"limit": 7, "limit_until": round((now + 9) * 1e6)})
    client.zadd(names.BUDGET, {"a": round((now + 9) * 1e6), "b": round((now - 60) * 1e6)})
    moog = Collector(of(redis_url, database_url)).once().moog
    assert (moog.breaker, moog.reason, moog.limit, moog.used) == ("half open", "timeout", 7, 1)
    assert moog.until == pytest.approx(now + 9, abs=0.01)


def test_one_of_the_fleet_reads(redis_url: str, client: redis.Redis) -> None:
    one, other = Collector(of(redis_url)), Collector(of(redis_url))
    assert one.turn() and not other.turn()
    assert EVERY - 1 < client.pttl(names.PULSE_TURN) / 1000 <= EVERY


def test_an_hour_is_kept_and_no_more(redis_url: str, client: redis.Redis) -> None:
    collector = Collector(of(redis_url))
    sample = collector.once()
    with client.pipeline() as pipe:
        for _ in range(KEPT + 5):
            pipe.lpush(names.PULSE_POINTS, client.lindex(names.PULSE_POINTS, 0))
            pipe.lpush(names.PULSE_SAMPLES, client.lindex(names.PULSE_SAMPLES, 0))
        pipe.execute()
    collector.once()
    assert (client.llen(names.PULSE_POINTS), client.llen(names.PULSE_SAMPLES)) == (KEPT, WHOLE)
    assert len(msgspec.msgpack.encode(sample)) < 3000


# ---- outages


def test_a_full_redis_is_read_and_kept_all_the_same(own_redis: Live) -> None:
    """That is when somebody looks."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1 << 20)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("x", "1" * (1 << 20))
            client.set("y", "1")
        says(client, "h:1", "ingest").once()
        collector = Collector(of(own_redis.url))
        assert collector.turn()
        found = collector.reading()
        assert [one.name for one in found.sample.of_role("ingest")] == ["h:1"]
        assert (
            found.troubles[0].name == "redis-memory"
            and "redis-cli -h 127.0.0.1 -p " in found.troubles[0].command
        )
        assert len(latest(client)) == 1


def test_while_redis_is_away_a_viewer_sees_that_and_what_postgresql_says(
    own_redis: Live, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "EVERY", 0.5)
    monkeypatch.setattr(collect, "FRESH", 0.1)
    services = of(own_redis.url, database_url)
    assert "redis-away" not in [one.name for one in reading(services).troubles]
    own_redis.kill()
    found = _next(services, lambda one: "redis" in one.away)
    assert found.sample.postgres and not found.sample.queues
    wait_until(
        lambda: [one.name for one in reading(services).troubles] == ["redis-away"],
        20,
        "redis-away",
        every=0.5,
    )
    own_redis.start()
    _next(services, lambda one: not one.away)


def _next(services: Services, test: Any) -> Any:
    return wait_until(
        lambda: found if test((found := reading(services)).sample) else None,
        25,
        "the next reading",
        every=0.5,
    )


def test_postgresql_that_hangs_costs_a_second_and_is_named(redis_url: str, bench: Bench) -> None:
    collector = Collector(of(redis_url, bench.settings.database_url))
    assert collector.once().postgres
    with bench.sql() as conn:
        mine = "application_name = 'mutt-admin' AND datname = current_database()"
        [pid] = conn.exec_driver_sql(f"SELECT pid FROM pg_stat_activity WHERE {mine}").scalars()
    # A session that hangs is replaced: that is no outage. Here nobody makes a new one, either.
    stopped = [pid, psutil.Process(pid).ppid()]
    for one in stopped:
        os.kill(one, signal.SIGSTOP)
    try:
        began = time.monotonic()
        sample = collector.once()
        assert "PostgreSQL does not answer" in sample.away["postgres"] and sample.postgres is None
        assert time.monotonic() - began < 4
        assert sample.queues
    finally:
        for one in stopped:
            os.kill(one, signal.SIGCONT)
    wait_until(lambda: collector.once().postgres, what="PostgreSQL to be back")


def test_a_viewer_reads_what_others_read_and_reads_itself_where_nobody_does(
    redis_url: str, client: redis.Redis
) -> None:
    Collector(of(redis_url)).once()
    services = of(redis_url)
    before = reading(services).sample
    assert len(latest(client)) == 1 and latest(client) == [before]
    old = msgspec.structs.replace(before, at=before.at - 60)
    client.delete(names.PULSE_SAMPLES)
    client.lpush(names.PULSE_SAMPLES, msgspec.msgpack.encode(old))
    found = wait_until(
        lambda: one if (one := reading(services).sample).at > before.at else None, what="a reading"
    )
    assert isinstance(found, Sample) and len(latest(client)) == 2


# ---- who shows it


def test_the_api_gives_the_reading(redis_url: str, database_url: str) -> None:
    settings = Settings.from_env({}, redis_url=redis_url, database_url=database_url, management_api_key="m")
    asked = make_admin(settings).test_client()
    answer = asked.get("/api/v2/pulse", headers={"X-API-KEY": "m"})
    assert answer.status_code == 200
    told = answer.get_json()
    assert told["sample"]["moog"]["limit"] == 50 and "counters" not in told["sample"]
    assert [one["name"] for one in told["troubles"]] == ["ingest-away"]
    assert told["troubles"][0]["entry"] == "docs/operations.md#ingest-away"
    assert len(told["hour"]["at"]) == len(told["hour"]["events_in"]) == 1


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, redis_url: str, database_url: str) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    services_of_shell.cache_clear()
    yield
    services_of_shell.cache_clear()


def test_top_shows_it_once_where_nobody_watches(shell: None, bench: Bench) -> None:
    bench.append(event())
    says(bench.redis, "h:1", "alerts").once()
    shown = CliRunner().invoke(cli, ["top"])
    assert shown.exit_code == 0, shown.output
    for word in (
        "No ingest runs",
        "ingest-away",
        "$ gunicorn",
        "ingest_queue",
        "breaker closed",
        "audit rows/s",
    ):
        assert word in shown.output
    told = orjson.loads(CliRunner().invoke(cli, ["top", "--json"]).output)
    assert set(told) == {"sample", "troubles"} and told["sample"]["events"]["queued"] == 1


def test_top_says_so_where_redis_is_away(shell: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://user:secret@127.0.0.1:1/0")
    shown = CliRunner().invoke(cli, ["top", "--once"])
    assert shown.exit_code == 0, shown.output
    assert "Redis is away" in shown.output and "secret" not in shown.output
    assert "audit rows/s" in shown.output  # PostgreSQL's part is there
