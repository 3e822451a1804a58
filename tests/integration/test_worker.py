"""Real Celery workers with real children: what kills or starves them costs nothing but itself."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from mutt import codec, names
from mutt.embedded.ports import free_port
from mutt.event import Envelope, Segment
from mutt.pipeline.evaluate import ALONE_FROM, KILLS
from mutt.streams.letters import Letters
from mutt.tasks.base import Rest
from tests.bench import Bench, benches, event
from tests.proxy import proxied
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Worker:
    """``celery worker`` on the queue of events, with two children."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def outages(self) -> list[str]:
        """What its tasks said of outages, a line each."""
        return [line["event"] for line in self.lines() if "StoreDown" in line.get("event", "")]


@contextmanager
def worker(
    directory: Path, redis_url: str, database_url: str, *, app: str = "mutt", ready: bool = True, **env: str
) -> Iterator[Worker]:
    log = directory / "worker.log"
    given = {
        **os.environ,
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        **env,
    }
    argv = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", "alerts", "-c", "2", "-l", "INFO"]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=given, cwd=directory, stdout=out, stderr=out)
    started = Worker(process, log)
    try:
        if ready:
            wait_until(lambda: process.poll() is not None or " ready." in log.read_text(), 60, "the worker")
            assert process.poll() is None, log.read_text()
        yield started
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    """What the test sees of the servers, and MUTT without poison."""
    with benches(redis_url, database_url) as (made,):
        yield made


def test_a_worker_that_starts_while_its_broker_is_away_lives(tmp_path: Path, database_url: str) -> None:
    """Whoever starts it anew for being silent would do so until the outage is over."""
    port = free_port(19500)

    def answer() -> str | None:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).text
        return None

    away = "redis://127.0.0.1:1/0"
    with worker(tmp_path, away, database_url, ready=False, METRICS_PORT=str(port)) as started:
        assert wait_until(answer, 60, "an answer") == "ok\n"
        wait_until(lambda: "Trying again" in started.log.read_text(), 30, "it to look for its broker")
        assert answer() == "ok\n"
        inherited = [one for child in started.children for one in child.net_connections("tcp")]
        assert port not in {one.laddr.port for one in inherited}


#: Twice what it takes, for what else may end a holder on a busy machine.
MOST_ATTEMPTS = 2 * (ALONE_FROM + KILLS)

HARM = {
    "raise": "evaluation failed",
    "memory": "evaluation failed",
    "loop": "evaluation failed",
    "exit": "killed its worker",
}


@pytest.mark.timeout(300)
def test_each_poison_is_parked_with_its_reason_its_neighbours_are_written_once_and_it_comes_back_when_mended(
    bench: Bench, tmp_path: Path
) -> None:
    bad = {how: event(f"POISON {how}", f"bad-{how}") for how in HARM}
    for how, one in bad.items():
        bench.append(
            event(f"CRITICAL before {how}", f"a-{how}"), one, event(f"CRITICAL after {how}", f"b-{how}")
        )
    bench.append_fields(["v", "2", "n", 2, "id", "", "d", b"\x28\xb5\x2f\xfd cut short"], 2, 14)
    good = {row for how in HARM for row in (f"CRITICAL before {how}", f"CRITICAL after {how}")}

    env: dict[str, Any] = {"EVALUATE_CLAIM": "1s"}
    with worker(tmp_path, bench.settings.redis_url, bench.settings.database_url, app="tests.poisoned", **env):
        wait_until(lambda: not bench.events.get("queued"), 120, "the stream to be empty", every=0.2)
    assert sorted(row.message for row in bench.rows()) == sorted(good), "each neighbour once"
    assert bench.events == {"accepted": 14, "settled": 8, "parked": 6}
    bench.check()

    letters = {
        letter.about: letter for letter in Letters(bench.redis, bench.services.ingest_stream).listed("alerts")
    }
    for how, reason in HARM.items():
        letter = letters.pop(str(bad[how].event_id))
        assert (letter.reason, letter.events) == (reason, 1), how
        assert letter.attempts <= MOST_ATTEMPTS, how
    details = [letter["detail"] for letter in bench.letters()]
    for word in ("this event is poison", "MemoryError", "SoftTimeLimitExceeded", "workers died on it"):
        assert any(word in detail for detail in details), word
    [damaged] = letters.values()
    assert (damaged.reason, damaged.events) == ("undecodable", 2)

    wanted = [
        letter.id for letter in bench.services.letters.listed("alerts") if letter.reason != "undecodable"
    ]
    assert len(bench.replay(*wanted)) == len(HARM)
    bench.run()
    assert {row.message for row in bench.rows()} - good == {one.message for one in bad.values()}
    assert bench.events == {"accepted": 14, "settled": 12, "parked": 2}
    bench.check()


#: Events that wait while PostgreSQL is away, in entries of 500.
QUEUED = 20_000

#: Bytes that a child may have grown by meanwhile: it holds a take of 500 events at a time, never the queue.
GROWTH = 48 << 20


def queue_up(bench: Bench, events: int) -> None:
    for first in range(0, events, 500):
        many = [event(f"ERROR session {n}", "qa-firewall1") for n in range(first, first + 500)]
        fields, size = codec.encode(Envelope([Segment(f"b{first}", "corr", many)]), n=500)
        bench.append_fields(fields, 500, size)


@pytest.mark.timeout(300)
def test_while_postgresql_is_away_a_worker_waits_in_little_memory_and_drains_all_of_it_in_whole_batches_after(
    bench: Bench, tmp_path: Path
) -> None:
    with (
        proxied(bench.settings.database_url) as proxy,
        worker(tmp_path, bench.settings.redis_url, proxy.url, app="tests.poisoned") as working,
    ):
        bench.append(*[event("ERROR warm", "qa-firewall1") for _ in range(500)])
        wait_until(lambda: bench.events.get("settled") == 500, 30, "the worker to be warm")
        pids, before = [child.pid for child in working.children], resident(working)
        proxy.silence()
        queue_up(bench, QUEUED)
        wait_until(working.outages, 60, "an outage though nobody says so")
        proxy.refuse()
        proxy.speak()
        wait_until(lambda: len(working.outages()) >= 4, 60, "outages in the tasks' results", every=0.2)
        seen, since = len(working.outages()), time.monotonic()
        wait_until(lambda: time.monotonic() - since > 2, every=0.2)
        takes, rests = len(working.outages()), (time.monotonic() - since) / Rest.FOR
        assert takes - seen <= 2 * (rests + 1), "each child tries once a second, and not as fast as it can"
        assert bench.events["queued"] == QUEUED
        assert bench.letters() == []
        assert resident(working) - before < GROWTH
        wait_until(lambda: 0 in deliveries(bench), 30, "an entry that was handed back without an attempt")
        assert max(deliveries(bench)) <= 1
        takes = len(working.outages())
        proxy.listen()
        wait_until(lambda: not bench.events.get("queued"), 120, "the backlog to be drained", every=0.2)
        assert [child.pid for child in working.children] == pids, "nobody was restarted"
        assert len(working.outages()) <= takes + 6, "no outage lives on"
    assert bench.redis.hlen(names.SUSPECTS) == 0
    with bench.sql() as conn:
        drains = conn.exec_driver_sql("SELECT count(*) FROM audit_ledger").scalar_one()
    assert drains <= 1 + QUEUED // 500, "whole batches, none event by event"
    assert bench.events == {"accepted": QUEUED + 500, "settled": QUEUED + 500}


def deliveries(bench: Bench) -> list[int]:
    """How often each entry that is out or was handed back counts as delivered."""
    held = bench.redis.xpending_range(names.INGEST_STREAM, names.GROUP, "-", "+", 1000)
    return [one["times_delivered"] for one in held]


def resident(working: Worker) -> int:
    return max(child.memory_info().rss for child in working.children)


@pytest.mark.parametrize(
    "command", ["celery -A mutt worker -Q alerts", "gunicorn -c python:mutt.web.gunicorn mutt.wsgi:ingest"]
)
def test_a_process_with_a_setting_that_is_wrong_says_which_and_ends_without_a_traceback(
    tmp_path: Path, command: str
) -> None:
    env = {**os.environ, "REDIS_URL": "http://redis", "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", *command.split()]
    ended = subprocess.run(
        argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "mutt: REDIS_URL='http://…': expected an address" in ended.stderr
    assert "Traceback" not in ended.stderr


def _message(**changes: Any) -> bytes:
    properties = {
        "delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "alerts"}, "body_encoding": "base64",
    }  # fmt: skip
    whole = {"body": "e30=", "headers": {}, "properties": properties, "content-type": "application/json",
             "content-encoding": "utf-8"}  # fmt: skip
    return json.dumps(whole | changes).encode()


#: What whoever may ring could put where doorbells are looked for.
NO_DOORBELLS = (
    b"", b"ring", b"\xff\xfe\x00", b"{", b"[]", b"7", b"null", b'"x"', b"{}", b"[" * 100_000, b"1e999999",
    b'{"properties": 3}', b'{"properties": {}}', b'{"properties": {"delivery_tag": "x"}}',
    _message(body=None), _message(properties=[]), _message(headers={"task": "mutt.alerts.evaluate"}),
    _message(body="!!", headers={"task": "mutt.alerts.evaluate", "id": "1"}),
    _message(**{"content-type": "application/x-python-serialize"}), _message(**{"content-encoding": "x"}),
)  # fmt: skip


def test_what_is_no_doorbell_ends_no_worker_and_keeps_no_event_waiting(
    tmp_path: Path, bench: Bench, redis_url: str, database_url: str
) -> None:
    with worker(tmp_path, redis_url, database_url) as working:
        for item in NO_DOORBELLS:
            bench.services.redis.lpush("alerts", item)
        wait_until(lambda: not bench.services.redis.llen("alerts"), 20, "all of it to be taken")
        queue_up(bench, 3)
        wait_until(lambda: not bench.services.redis.xlen(names.INGEST_STREAM), 20, "the events to be worked")
        assert working.process.poll() is None, working.log.read_text()
        assert "Unrecoverable" not in working.log.read_text()
