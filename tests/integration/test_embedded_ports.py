"""A port: the one asked for, or the next free one."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mutt.embedded.ports import NoFreePort, free_port

_hundreds = itertools.count(21000, 100)


@pytest.fixture
def taken() -> Iterator[int]:
    """Below those that the system gives to whoever asks for any: nobody else takes and leaves the next ones.

    Each test has a hundred of its own: what this process was promised it keeps.
    """
    with socket.create_server(("127.0.0.1", free_port(next(_hundreds)))) as server:
        yield server.getsockname()[1]


def test_a_free_port_is_given_as_asked() -> None:
    port = free_port(0)
    assert free_port(port) == port


def test_a_taken_port_gives_the_next_free_one(taken: int) -> None:
    assert taken < free_port(taken) < taken + 50


def test_a_promised_port_is_not_given_twice(taken: int) -> None:
    first = free_port(taken)
    assert free_port(taken, avoid={first}) > first


@pytest.mark.skipif(sys.platform != "linux", reason="promises between processes are made on Linux only")
def test_a_port_that_another_process_was_promised_is_not_given_though_nobody_listens_there_yet(
    taken: int,
) -> None:
    ask = f"from mutt.embedded.ports import free_port; print(free_port({taken}), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        theirs = int(other.stdout.readline())
        assert free_port(taken) > theirs
        other.communicate("\n")
    assert free_port(taken) == theirs, "what it was promised ended with it"


def test_a_port_taken_on_all_addresses_is_taken() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert free_port(server.getsockname()[1]) != server.getsockname()[1]


def test_no_free_port_is_said() -> None:
    with pytest.raises(NoFreePort, match="from 65535 to 65535"):
        free_port(65535, avoid={65535})
