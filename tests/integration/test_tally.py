"""Processes of one machine count together: whoever is killed, counters never go back and the directory stays small."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest
import requests

from mutt import tally
from mutt.embedded.ports import free_port
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from tests.doors import Door, served
from tests.servers import Live
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
EVENT = orjson.dumps({"hostname": "core-1", "message": "CRITICAL fan"})
POST = (
    f"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: {KEY}\r\nContent-Length: {len(EVENT)}\r\n\r\n".encode()
    + EVENT
)

#: A pool as Celery's: forked children that count, and a gauge of each that goes with it. One line a child: its number.
POOL = """
import os, signal, sys
from prometheus_client import Gauge
from mutt.metrics import Metrics
metrics = Metrics(sys.argv[1])
busy = Gauge("test_busy", "busy", registry=metrics.registry, multiprocess_mode="liveall")
metrics.accepted.inc(1)
for _ in range(int(sys.argv[2])):
    if not os.fork():
        metrics.accepted.inc(10)
        metrics.seconds.labels("evaluate").observe(0.3)
        busy.set(1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
if sys.argv[3:] == ["stay"]:
    busy.set(7)
    print("ready", flush=True)
    sys.stdin.read()
"""


def pool(directory: Path, children: int, *more: str) -> subprocess.Popen[str]:
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    argv = [sys.executable, "-c", POOL, str(directory), str(children), *more]
    return subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(directory: Path) -> dict[str, float]:
    """Samples by name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in tally.collect(str(directory))
        for sample in metric.samples
    }


def files(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.glob("*.db"))


def test_who_is_killed_stays_in_the_sum_and_leaves_neither_a_gauge_nor_a_file(tmp_path: Path) -> None:
    assert pool(tmp_path, 5).wait(30) == 0
    with pool(tmp_path, 3, "stay") as living:
        assert living.stdout
        assert living.stdout.readline() == "ready\n"
        for _ in range(2):
            found = told(tmp_path)
            assert found["mutt_events_accepted_total[]"] == 2 + 8 * 10
            assert found["mutt_step_seconds_bucket[('le', '0.5'), ('step', 'evaluate')]"] == 8
            assert found["mutt_step_seconds_bucket[('le', '0.25'), ('step', 'evaluate')]"] == 0
            assert found["mutt_step_seconds_count[('step', 'evaluate')]"] == 8
            assert {name: n for name, n in found.items() if "busy" in name} == {
                f"test_busy[('pid', '{living.pid}')]": 7
            }
        kinds = ["counter", "histogram"]
        assert files(tmp_path) == sorted(
            [f"{kind}_{who}.db" for kind in kinds for who in (living.pid, "gone")]
            + [f"gauge_liveall_{living.pid}.db"]
        )
        living.stdin.close() if living.stdin else None
    assert told(tmp_path)["mutt_events_accepted_total[]"] == 82
    assert files(tmp_path) == ["counter_gone.db", "histogram_gone.db"]


def test_a_process_that_starts_folds_what_others_left_though_nobody_ever_reads(tmp_path: Path) -> None:
    for _ in range(3):
        assert pool(tmp_path, 2).wait(30) == 0
    assert len(files(tmp_path)) <= 2 + 3 * 3, "of the last pool, and the sum of all before"


@pytest.mark.parametrize("done", [0, 1, 2], ids=["nothing was done", "one file was moved", "all but the end"])
def test_who_dies_while_he_folds_loses_nothing_and_doubles_nothing(tmp_path: Path, done: int) -> None:
    assert pool(tmp_path, 2).wait(30) == 0
    dead = [tmp_path / name for name in files(tmp_path)]
    made = [
        tally._sum(tmp_path, kind, [f for f in dead if f.name.startswith(kind)])
        for kind in ("counter", "histogram")
    ]
    journal = {"made": [file.name for file in made], "dead": [file.name for file in dead]}
    (tmp_path / "folding.json").write_text(json.dumps(journal))
    for file in made[:done]:
        file.replace(file.with_suffix(".db"))
    for file in dead[: len(dead) if done == 2 else 0]:
        file.unlink()
    assert told(tmp_path)["mutt_events_accepted_total[]"] == 21
    assert told(tmp_path)["mutt_events_accepted_total[]"] == 21
    assert not (tmp_path / "folding.json").exists()


def test_a_reader_that_is_stopped_in_the_middle_hangs_no_other_and_no_process_that_starts(
    tmp_path: Path,
) -> None:
    assert pool(tmp_path, 1).wait(30) == 0
    with (tmp_path / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            tally.collect(str(tmp_path), patience=0.05)
        assert pool(tmp_path, 1).wait(30) == 0
    assert told(tmp_path)["mutt_events_accepted_total[]"] == 22


@pytest.fixture
def ingest(redis_server: Live, redis_url: str, tmp_path: Path) -> Iterator[tuple[Door, str, Path]]:
    """Ingest with two workers, its metrics' address and their directory."""
    KeysCopy(connect(redis_url)).publish({})
    port, directory = free_port(19600), tmp_path / "metrics"
    env = {
        "REDIS_URL": redis_url, "INGEST_API_KEY": KEY, "METRICS_PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(directory),
    }  # fmt: skip
    with served("ingest", env, tmp_path, "--workers", "2") as (door, _):
        yield Door(door), f"http://127.0.0.1:{port}/metrics", directory


def accepted(address: str) -> float:
    text = requests.get(address, timeout=5).text
    return next(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("mutt_events_accepted_total ")
    )


def workers() -> list[int]:
    """The numbers of gunicorn's workers that live: children of the test's child."""
    return [
        one.pid
        for master in psutil.Process().children()
        if _is_alive(master) and "mutt.wsgi:ingest" in " ".join(master.cmdline())
        for one in master.children()
        if _is_alive(one)
    ]


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # its parent has buried it since it was listed
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def test_workers_of_gunicorn_add_up_and_no_scrape_ever_sees_less_though_they_are_killed(
    ingest: tuple[Door, str, Path],
) -> None:
    door, address, directory = ingest
    seen = [0.0]
    sent = 0
    for _ in range(4):
        for _ in range(10):
            assert door.ask(POST)[0] == 202
            sent += 1
        seen.append(accepted(address))
        before = workers()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda b=before: len(workers()) == 2 and workers() != b, 20, "another worker")
        wait_until(lambda: _answers(address), 10, "metrics to be told")
        seen.append(accepted(address))
    assert seen[-1] == sent
    assert seen == sorted(seen), seen
    wait_until(
        lambda: _answers(address) and len(list(directory.glob("counter_*.db"))) <= 3 + 1, 10, "few files"
    )


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.ConnectionError:
        return False
