"""Ports for servers of the tests' own: nobody else gets one, also while its server is dead, or has not begun to listen.

Whoever asks the kernel for any port may get one that a test found free before, and binds seconds later: another
process of the suite asks for one all the time.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import sys
from collections.abc import Iterator

from mutt.embedded.ports import free_port

#: Below those that the kernel gives to who asks for any. A process of the suite has a block of them to itself.
_PORTS, _BLOCK = range(20_000, 30_000), 250


def own_port() -> int:
    """A port on which nobody listens, and that no other process is given before this one ends (Linux)."""
    if sys.platform != "linux":
        return free_port(0)
    _, ports = _block(os.getpid())
    return next(port for port in itertools.islice(ports, _BLOCK) if _is_free(port))


@functools.cache
def _block(_pid: int) -> tuple[socket.socket, Iterator[int]]:
    for first in _PORTS[::_BLOCK]:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # An abstract name: it ends with its holder.
            claim.bind(f"\0mutt-tests-ports-{first}")
        except OSError:
            claim.close()
        else:
            return claim, itertools.cycle(range(first, first + _BLOCK))
    raise AssertionError(f"too many processes of the suite: each block of {_PORTS} is taken")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after a close don't make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
