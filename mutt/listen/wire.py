"""What listeners of every kind do with sockets and addresses."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket

from mutt.errors import SettingsError

log = logging.getLogger("mutt.listen")

#: Files that a listener has open beside its connections: its buffer, ingest, metrics, certificates.
OWN_FILES = 64

#: Seconds of silence until a peer is asked whether it is there; between two questions; and how many of them.
ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def connections_within(asked: int, listeners: int) -> int:
    """So many connections may each of ``listeners`` have, of those ``asked`` for: each is an open file, and without
    one left nothing could be sent to ingest. The process' soft limit is raised to what is needed, if it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = asked * listeners + OWN_FILES
    if soft in range(needed):
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft not in range(needed):
        return asked
    fit = max(1, (soft - OWN_FILES) // max(1, listeners))
    log.warning("LISTEN_CONNECTIONS=%s: %s fit into %s open files (ulimit -n)", asked, fit, soft)
    return fit


def bound(host: str, port: int, kind: socket.SocketKind, name: str) -> socket.socket:
    """A socket on this address; ``::`` hears IPv4 too. Raises :class:`SettingsError` about the setting ``name``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        why = error.strerror or error
        low = " (below 1024 only root may, or who has CAP_NET_BIND_SERVICE)" if port < 1024 else ""
        raise SettingsError(
            name, str(port), f"a port that can be listened on at LISTEN_HOST={host}: {why}{low}"
        ) from error
    return made


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel find out within two minutes that a peer is gone. By itself it would take more than two hours, and
    senders that come back after a power cut would find their places taken by themselves."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in ALIVE.items():
        if option := getattr(socket, name, 0):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def plain_address(peer: str) -> str:
    """An IPv4 address that came by an IPv6 socket as itself, and none with the name of an interface behind it."""
    return peer.removeprefix("::ffff:").partition("%")[0] if ":" in peer else peer
