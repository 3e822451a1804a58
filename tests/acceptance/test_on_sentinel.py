"""MUTT on a Redis behind Sentinel: data, doorbells, tick, beat, Flower. A failover loses and doubles nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from types import TracebackType

import pytest
import redis
import requests

from mutt.moogsim.book import most_in_window
from tests.acceptance import bodies
from tests.sentinels import Watched, watched_redis
from tests.servers import memory, scratch
from tests.stack import QUICK, Stack, running
from tests.waiting import wait_until

#: Requests to Moog a second, over a failover as ever.
LIMIT = 80

#: Seconds until an event is at Moog, on a busy machine, right after a start or a failover.
PATIENCE = 15.0

#: Seconds within which each request is answered: one, and what a busy machine adds.
SLOWEST = 1.5

#: Seconds until ingest takes events again: Sentinel needs one to see that a primary is gone (users give it five).
REFUSES = 6.0

#: So many events that were taken one after another end an outage.
CALM = 20


class Sender(threading.Thread):
    """Posts an event every 50 ms, as a sender that gives up at once; what it was told, and when."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        up = stack.up
        self._address, self._key = up["ingest"] + "/ingest", up["api_key"]
        self._done = threading.Event()
        self.told: list[tuple[float, int, float]] = []  #: when it was sent, the status, seconds

    def run(self) -> None:
        with requests.Session() as session:
            session.headers["X-API-KEY"] = self._key
            while not self._done.wait(0.05):
                sent = time.monotonic()
                event = {"hostname": "sender-1", "message": f"CRITICAL at {sent}", "severity": 2}
                status = session.post(self._address, json=event, timeout=10).status_code
                self.told.append((sent, status, time.monotonic() - sent))

    def __enter__(self) -> Sender:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self._done.set()
        self.join()

    def is_over_it(self) -> bool:
        """Was it refused, and is taken again?"""
        last = [status for _, status, _ in self.told]
        return requests.codes.unavailable in last and set(last[-CALM:]) == {requests.codes.accepted}

    def refused(self) -> float:
        """Seconds from the first refusal until the last one was over; 0: none."""
        at = [index for index, (_, status, _) in enumerate(self.told) if status != requests.codes.accepted]
        if not at:
            return 0.0
        after = next((sent for sent, _, _ in self.told[at[-1] + 1 :]), time.monotonic())
        return after - self.told[at[0]][0]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with scratch(memory()) as directory, watched_redis(directory) as servers:
        yield servers


@pytest.fixture(scope="module")
def stack(watched: Watched) -> Iterator[Stack]:
    settings = {
        **QUICK,
        "REDIS_URL": watched.url,
        "INGEST_WAIT_REPLICAS": "1",
        "MOOG_RATE_LIMIT": str(LIMIT),
        "MOOG_BREAKER_TIMEOUT": "1s",
    }
    with scratch(memory()) as directory:
        with running(directory / "home", settings) as started:
            yield started


def over(stack: Stack) -> int:
    """By how many requests the fullest second exceeds the limit, by the forwarders' own first bytes."""
    starts = []
    for log in (stack.home / "logs").glob("moog*.log"):
        for line in log.read_text(errors="replace").splitlines(keepends=True):
            if '"first_bytes"' in line and line.endswith("\n"):  # else it is being written
                starts += json.loads(line)["did"]["first_bytes"]
    return max(0, most_in_window(sorted(starts), 1.0) - LIMIT)


def audited(stack: Stack) -> int:
    [row] = stack.sql("SELECT count(*) AS n FROM event_audit_log WHERE hostname = 'sender-1'")
    return int(row.n)


def test_the_main_path(stack: Stack) -> None:
    bodies.main_path(stack, within=PATIENCE)


def test_a_worker_that_is_killed_costs_nothing(stack: Stack) -> None:
    bodies.worker_kill(stack)


@pytest.mark.parametrize("kind", ["planned", "killed"])
def test_a_failover_under_load_loses_and_doubles_nothing(stack: Stack, watched: Watched, kind: str) -> None:
    """Ingest says 503 within a second while there is no primary; what it took stands on the next one."""
    before = audited(stack)
    moved: list[tuple[int, int]] = []

    def harm() -> None:
        moved.append(watched.fail_over() if kind == "planned" else watched.kill_primary())
        wait_until(sender.is_over_it, 2 * REFUSES, "ingest to take events again")
        sender.end()  # the books are at rest when nothing comes any more

    with Sender(stack) as sender:
        bodies.under_load(stack, harm, count=3000, rate=800)
    [(old, new)] = moved
    assert {status for _, status, _ in sender.told} == {202, 503}
    assert max(took for _, _, took in sender.told) < SLOWEST
    assert sender.refused() < REFUSES
    taken = sum(status == requests.codes.accepted for _, status, _ in sender.told)
    # A 503 may stand for an event that the new primary has: its word did not come in time.
    assert audited(stack) - before >= taken
    assert over(stack) == 0
    if kind == "killed":
        watched.servers[old].start()
    wait_until(watched.whole, 30, "the old primary to follow the new one", every=0.1)
    with watched.server(old) as client, pytest.raises(redis.ReadOnlyError):
        client.set("mutt:probe", "1")
    assert watched.primary == new
    bodies.main_path(stack, within=PATIENCE)
    print(f"\n{kind}: refused for {sender.refused():.2f} s")


def test_flower_and_remote_control_are_back_after_failovers(stack: Stack) -> None:
    up = stack.up
    login = (up["admin_user"], up["admin_password"])
    workers = up["flower"] + "/api/workers?refresh=true"

    def all_of_them() -> bool:
        seen = requests.get(workers, auth=login, timeout=10).json()
        return {name.partition("@")[0] for name in seen} >= {"alerts1", "moog1", "housekeeping"}

    wait_until(all_of_them, 20, "the workers in Flower", every=0.5)


def test_the_doctor_finds_the_replicas(stack: Stack) -> None:
    [told] = [
        one for one in json.loads(stack.mutt("doctor", "--json").stdout) if one["what"] == "Redis replicas"
    ]
    assert told["says"].startswith("2 connected, 1 waited for; pause the primary")
