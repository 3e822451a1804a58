"""A port to listen on: the one that is asked for, or the next free one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Container

from mutt.errors import MuttError

TRIES = 500

#: What this process was promised: held until it ends, so that another one that starts meanwhile chooses other ports.
_promises: dict[int, socket.socket] = {}


class NoFreePort(MuttError):
    """No port is free at or above the one that was asked for."""


def free_port(preferred: int, host: str = "127.0.0.1", avoid: Container[int] = ()) -> int:
    """``preferred``, or the next free port above it; 0 means any.

    ``avoid`` names ports that are promised to processes which do not listen yet. The one that is given is promised to
    this process for as long as it runs: who asks in another one gets another (Linux). Raises :class:`NoFreePort`.
    """
    if preferred == 0:
        return _bound(0, host)
    for port in range(preferred, min(preferred + TRIES, 65536)):
        if port not in avoid and _bound(port, host) and _promised(port):
            return port
    raise NoFreePort(f"no port from {preferred} to {min(preferred + TRIES, 65536) - 1} on {host} is free")


def _bound(port: int, host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after a close don't make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def _promised(port: int) -> bool:
    """Is the port ours until we end? It takes seconds until what we start listens there."""
    if port in _promises or sys.platform != "linux":
        return True
    promise = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # An abstract name: it is in no directory, belongs to the same network as the port, and ends with its holder.
        promise.bind(f"\0mutt-port-{port}")
    except OSError:
        promise.close()
        return False
    _promises[port] = promise
    return True
