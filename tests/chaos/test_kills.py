"""P2 through the real commands: kill any process under load, and every accepted event is accounted for, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.bodies import under_load, worker_kill
from tests.servers import scratch
from tests.stack import UNBOUND, Stack, running
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack for all kills of this module: what survives one kill must survive the next."""
    with scratch() as directory, running(directory / "home", UNBOUND) as stack:
        yield stack


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "name", ["alerts1", "moog1", "housekeeping", "ingest", "beat", "flower", "redis", "postgres"]
)
def test_a_killed_process_costs_no_event_and_doubles_none(stack, name):
    worker_kill(stack, name)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["alerts2", "ingest", "postgres"])
def test_a_killed_child_costs_no_event_and_doubles_none(stack, name):
    def harm():
        for child in children(stack.pids[name])[:1]:
            child.send_signal(signal.SIGKILL)

    under_load(stack, harm)


@pytest.mark.timeout(400)
def test_the_supervisor_killed_leaves_nothing_behind_and_the_next_start_finds_everything(stack):
    before = stack.books("events.accepted")
    tree = stack.tree()
    with stack.sending("--count", "3000", "--batch", "20", "--rate", "1500", "--no-retry") as sender:
        wait_until(lambda: stack.books("events.accepted") > before + 200, 30, "load to flow")
        os.kill(tree[0].pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(tree[1:], 20)
        assert not alive, f"orphans: {alive}"
        sender.communicate(timeout=60)
    stack.wait_for_end()
    stack.start()
    found = stack.balanced()
    assert (found["lost"], found["double"]) == (0, 0), found
    assert found["events"]["accepted"] > before + 200
