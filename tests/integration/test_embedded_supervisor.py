"""The supervisor: ordered start and stop, restarts, and no orphan however it ends."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from mutt.embedded.guard import Guard
from mutt.embedded.home import AlreadyRunning, Home
from mutt.embedded.process import Process, Running, answers
from mutt.embedded.supervisor import Kept, NotStarted, Supervisor
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Stack:
    """The stack of tests/embedded_stack.py as a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes]

    def start(self) -> dict[str, Any]:
        with (self.home.parent / "said.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.embedded_stack", str(self.home)],
                cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return wait_until(
            lambda: self.process.poll() is not None or self.up(ready=1),
            30,
            f"the stack; see {self.home.parent}",
        )

    def up(self, **wanted: Any) -> dict[str, Any]:
        try:
            found = json.loads((self.home / "up.json").read_text())
        except FileNotFoundError:
            return {}
        return found if all(found[name] == value for name, value in wanted.items()) else {}

    def said(self) -> str:
        return (self.home.parent / "said.log").read_text()

    def everything(self) -> list[psutil.Process]:
        """All processes below the stack's, and the reaper."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def restarted(self, name: str, old: int) -> dict[str, Any]:
        """``up.json`` once ``name`` runs again."""

        def again() -> dict[str, Any]:
            found = self.up()
            return found if found["processes"].get(name, old) != old else {}

        return wait_until(again, 15, f"a new {name}; see {self.home.parent}")


@contextlib.contextmanager
def started(home: Path) -> Iterator[Stack]:
    stack = Stack(home)
    try:
        stack.start()
        yield stack
    finally:
        stack.process.terminate()
        stack.process.wait(30)


@pytest.fixture(scope="module")
def stack(server_directory: Path) -> Iterator[Stack]:
    """For tests that leave it running."""
    with started(server_directory / "home") as stack:
        yield stack


@pytest.fixture
def own_stack(own_directory: Path) -> Iterator[Stack]:
    """For tests that end it."""
    with started(own_directory / "home") as stack:
        yield stack


def all_end(processes: list[psutil.Process], within: float) -> bool:
    """Do they end? A zombie has; when init collects it is not ours to say."""
    wait_until(
        lambda: not [process for process in processes if lives(process)], within, f"the end of {processes}"
    )
    return True


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def words_of(process: psutil.Process) -> list[str]:
    """Its command line, if it has not ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def is_reaper(process: psutil.Process) -> bool:
    return any("reaper.py" in word for word in words_of(process))


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def supervisor(reports: list[str]) -> Iterator[Supervisor]:
    with Supervisor(lambda _: None, report=reports.append) as supervisor:
        yield supervisor


def shell(tmp_path: Path, name: str, script: str, **more: Any) -> Process:
    return Process(name=name, argv=("sh", "-c", script), log=tmp_path / f"{name}.log", **more)


def test_up_json_names_every_process_and_is_for_its_owner_alone(stack: Stack) -> None:
    up = stack.up()
    assert set(up["processes"]) == {"redis", "postgres", "family", "second"}
    assert all(psutil.pid_exists(pid) for pid in up["processes"].values())
    assert stat.S_IMODE((stack.home / "up.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((stack.home / "secrets.json").stat().st_mode) == 0o600


def test_no_password_shows_in_the_process_list(stack: Stack) -> None:
    secrets = Home(stack.home).secrets()
    shown = " ".join(word for process in stack.everything() for word in words_of(process))
    assert secrets.redis_password not in shown
    assert secrets.postgres_password not in shown


def test_no_orphan_is_left_when_the_supervisor_is_killed(own_stack: Stack) -> None:
    everything: list[psutil.Process] = []

    def whole() -> bool:
        everything[:] = own_stack.everything()
        return sum(words_of(process)[:1] == ["sleep"] for process in everything) == 3

    wait_until(whole, 10, "the grandchildren")
    own_stack.process.kill()
    assert all_end(everything, within=10)


def test_a_reaper_that_is_killed_is_replaced(own_stack: Stack) -> None:
    everything = own_stack.everything()
    reaper = next(process for process in everything if is_reaper(process))
    reaper.kill()
    wait_until(lambda: any(is_reaper(p) for p in own_stack.everything() if p != reaper), 5, "a new reaper")
    own_stack.process.kill()
    assert all_end(everything, within=10)


def test_a_killed_stack_starts_again_at_once_with_its_data(own_stack: Stack) -> None:
    up = own_stack.up()
    redis.Redis.from_url(up["redis_url"]).set("kept", "yes")
    with psycopg2.connect(up["database_url"]) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 1 AS number")
    own_stack.process.kill()
    own_stack.process.wait()
    (own_stack.home / "up.json").unlink()
    up = own_stack.start()
    assert redis.Redis.from_url(up["redis_url"]).get("kept") == b"yes"
    with psycopg2.connect(up["database_url"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT number FROM kept")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize("name", ["redis", "postgres", "family", "second"])
def test_what_dies_is_restarted_at_the_same_address(stack: Stack, name: str) -> None:
    before = stack.up()
    old = before["processes"][name]
    children = psutil.Process(old).children(recursive=True)
    os.kill(old, signal.SIGKILL)
    after = stack.restarted(name, old)
    assert all_end(children, within=5)
    assert after["redis_url"] == before["redis_url"]
    assert after["database_url"] == before["database_url"]
    wait_until(lambda: accepts(after), 10, "the servers to answer again")


def accepts(up: dict[str, Any]) -> bool:
    try:
        psycopg2.connect(up["database_url"]).close()
        return bool(redis.Redis.from_url(up["redis_url"]).ping())
    except (psycopg2.OperationalError, redis.RedisError):
        return False


def test_a_second_start_is_refused_with_a_sentence(stack: Stack) -> None:
    with pytest.raises(AlreadyRunning, match=f"process {stack.process.pid}"):
        with Home(stack.home).lock():
            pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_it_leaves_nothing_behind(own_stack: Stack, number: int) -> None:
    everything = own_stack.everything()
    own_stack.process.send_signal(number)
    assert own_stack.process.wait(20) == 0
    assert all_end(everything, within=1)
    assert not (own_stack.home / "up.json").exists()
    assert "killed" not in own_stack.said()


STEPS = """
tell() {{ echo $1-{name} >> {told}; }}
tell start
trap 'tell stop; exit' TERM
{pause}
tell ready
echo ready.
while :; do sleep 0.05; done
"""


def test_a_stage_waits_for_the_one_before_and_stops_ahead_of_it(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    for name, pause in (("first", "sleep 0.2"), ("second", ":")):
        script = STEPS.format(name=name, told=told, pause=pause)
        supervisor.start(shell(tmp_path, name, script, ready_line="ready."))
    supervisor.stop()
    order = ["start-first", "ready-first", "start-second", "ready-second", "stop-second", "stop-first"]
    assert told.read_text().split() == order


def test_a_stage_starts_side_by_side(supervisor: Supervisor, tmp_path: Path) -> None:
    (met := tmp_path / "met").mkdir()
    # None is ready before all of them are there.
    script = f"echo > {met}/$$; until [ $(ls {met} | wc -l) = 4 ]; do sleep 0.05; done; echo ready.; exec sleep 100"
    supervisor.start(*(shell(tmp_path, f"one{number}", script, ready_line="ready.") for number in range(4)))
    assert len(supervisor.processes) == 4


def test_one_that_ends_while_starting_is_named_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(NotStarted, match=r"(?s)broken ended \(exit code 3\).*no such table"):
        supervisor.start(shell(tmp_path, "broken", "echo no such table; exit 3", ready_line="ready."))


def test_one_that_is_never_ready_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"mute was not ready within 0\.2 s"):
        supervisor.start(shell(tmp_path, "mute", "sleep 100", ready=lambda: False, ready_timeout=0.2))


def test_one_that_cannot_be_executed_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="absent can't start"):
        supervisor.start(Process(name="absent", argv=("/does/not/exist",), log=tmp_path / "absent.log"))


def test_a_stop_asked_for_while_starting_ends_the_start(reports: list[str], tmp_path: Path) -> None:
    with Supervisor(lambda _: None, report=reports.append) as supervisor:
        supervisor.request_stop()
        supervisor.start(shell(tmp_path, "mute", "sleep 100", ready=lambda: False))
        raise AssertionError("start() went on")
    assert supervisor.processes == {}


def test_an_error_of_the_caller_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with Supervisor(lambda _: None, report=print):
            raise ZeroDivisionError


def test_one_that_does_not_stop_in_its_grace_is_killed_with_its_children(
    supervisor: Supervisor, reports: list[str], tmp_path: Path
) -> None:
    deaf = "trap '' TERM; sleep 100 & echo ready.; while :; do sleep 0.05; done"
    supervisor.start(shell(tmp_path, "deaf", deaf, ready_line="ready.", stop_grace=0.3))
    family = psutil.Process(supervisor.processes["deaf"]).children(recursive=True)
    supervisor.stop()
    assert reports == ["deaf did not stop in time: killed"]
    assert all_end(family, within=5)


def test_asked_twice_it_hastens(supervisor: Supervisor, tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo ready.; while :; do sleep 0.05; done"
    supervisor.start(shell(tmp_path, "deaf", deaf, ready_line="ready.", stop_grace=60))
    supervisor.request_stop()
    supervisor.request_stop()
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 5


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


def test_a_reaper_knows_from_its_first_moment_what_runs_already(guard: Guard, tmp_path: Path) -> None:
    """One that replaces a killed one: the supervisor may be killed, too, before it could tell it anything."""
    run = Running(shell(tmp_path, "left", "exec sleep 100"))
    guard.watch(run.pid, signal.SIGKILL)
    guard._spawn().communicate()
    assert run.wait(5)
    assert run.exit_code() == -signal.SIGKILL


def test_one_that_keeps_dying_is_started_ever_more_rarely_until_it_has_lived(
    guard: Guard, reports: list[str], tmp_path: Path
) -> None:
    kept = Kept(shell(tmp_path, "sick", "exit 4"), guard, reports.append)
    now = 0.0
    for _ in range(7):
        now = next_death(kept, now)
    assert [float(line.split()[-2]) for line in reports] == [0.5, 1, 2, 4, 8, 15, 15]
    assert reports[0] == "sick ended (exit code 4), starts again in 0.5 s"
    next_death(kept, now, lived=30.0)
    assert reports[-1].endswith("in 0.5 s")


def next_death(kept: Kept, now: float, lived: float = 0.0) -> float:
    """Start it, let it die ``lived`` seconds later by the clock it is told; the time when it may start again."""
    while kept.running is None:
        kept.tick(now)
        now += 0.5
    run = kept.running
    wait_until(lambda: run.exit_code() is not None, 5, "its death")
    kept.tick(run.started + lived)
    return run.started + lived


def test_one_that_cannot_start_again_is_tried_again(guard: Guard, reports: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program"
    kept = Kept(Process(name="late", argv=(str(program),), log=tmp_path / "late.log"), guard, reports.append)
    assert not kept.tick(0.0)
    assert "late can't start" in reports[0]
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o755)
    assert not kept.tick(0.4)
    assert kept.tick(0.5)
    assert kept.running
    kept.running.kill()


def test_a_long_log_is_set_aside_and_written_on(tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    script = f"echo first; until [ -e '{go_on}' ]; do sleep 0.05; done; echo second; exec sleep 100"
    run = Running(shell(tmp_path, "chatty", script))
    wait_until(lambda: run.log_tail() == "first", 5, "a line")
    run.trim_log(limit=3)
    go_on.touch()
    wait_until(lambda: run.log_tail() == "second", 5, "the next line, at the start of an empty file")
    run.kill()
    assert (tmp_path / "chatty.log.1").read_text() == "first\n"


def test_readiness_is_not_taken_from_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "slow.log").write_text("ready.\n")
    run = Running(shell(tmp_path, "slow", "exec sleep 100", ready_line="ready."))
    assert not run.is_ready()
    run.kill()


def test_an_address_that_answers_is_ready_and_one_that_fails_is_not() -> None:
    with http_server(204) as url:
        assert answers(url)()
    with http_server(401) as url:
        assert answers(url)()
    with http_server(503) as url:
        assert not answers(url)()
    assert not answers(url)(), "nobody listens any more"


@contextlib.contextmanager
def http_server(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()
