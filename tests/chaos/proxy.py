"""A TCP proxy that breaks connections as told: by the link that they belong to and the process that made them.

``python -m tests.chaos.proxy LINKS`` takes one order a line on standard input, and answers each with a line: a process
of its own, so that no load of the runner's delays what passes through. A link is a name and where it leads; who is at
its near end is found by asking the kernel for the socket's owner (Linux), so that one address serves all roles.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What a link may do to a connection; every other word is refused.
KINDS = ("latency", "blackhole", "refuse", "cut", "cut_reply")

_RESET = struct.pack("ii", 1, 0)
_CHUNK = 1 << 16


@dataclasses.dataclass(eq=False)
class Connection:
    """One connection: both ends, and whose it is."""

    link: str
    role: str
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter

    def reset(self) -> None:
        """End it at once, as a router that lost its state would."""
        for writer in (self.near, self.far):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """All links, what each is told to do, and how often it did."""

    def __init__(self, links: Mapping[str, int], roles: Path) -> None:
        self._targets, self._roles = dict(links), roles
        self._orders: dict[tuple[str, str], dict[str, Any]] = {}
        self._changed = asyncio.Condition()
        self._open: set[Connection] = set()
        self._did: Counter[str] = Counter()
        self.ports: dict[str, int] = {}

    async def listen(self) -> None:
        """Open a port for each link."""
        for link in self._targets:

            async def came(reader: Any, writer: Any, link: str = link) -> None:
                await self._serve(link, reader, writer)

            server = await asyncio.start_server(came, "127.0.0.1", 0)
            self.ports[link] = server.sockets[0].getsockname()[1]

    async def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order; what it came to."""
        link = order["link"]
        if "target" in order:
            self._targets[link] = order["target"]
            self._reset(link, "")
        elif order["do"]:
            for role in order["roles"]:
                self._orders[link, role] = order["do"]
                if order["do"]["kind"] in ("cut", "refuse"):
                    self._reset(link, role)
        else:
            for role in order["roles"]:
                self._orders.pop((link, role), None)
        async with self._changed:
            self._changed.notify_all()
        return {"did": dict(self._did), "open": dict(Counter(f"{c.link} {c.role}" for c in self._open))}

    def _reset(self, link: str, role: str) -> None:
        for one in [c for c in self._open if c.link == link and role in ("", c.role)]:
            self._count(one)
            one.reset()

    def _count(self, connection: Connection) -> None:
        self._did[f"{connection.link} {connection.role}"] += 1
        self._did[connection.link] += 1

    def _told(self, link: str, role: str) -> dict[str, Any]:
        return self._orders.get((link, role)) or self._orders.get((link, "")) or {}

    async def _serve(self, link: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        role = _role_of(writer.get_extra_info("peername")[1], self.ports[link], self._roles)
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._targets[link])
        except OSError:
            # What is not there refuses: so do we.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
            return
        connection = Connection(link, role, writer, far)
        if self._told(link, role).get("kind") == "refuse":
            self._count(connection)
            connection.reset()
            return
        self._open.add(connection)
        try:
            await asyncio.gather(
                self._pump(connection, reader, far, reply=False),
                self._pump(connection, far_reader, writer, reply=True),
            )
        finally:
            self._open.discard(connection)

    async def _pump(self, c: Connection, reader: asyncio.StreamReader, writer: Any, *, reply: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(_CHUNK):
                if not await self._let_pass(c, data, writer, reply):
                    return
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def _let_pass(self, c: Connection, data: bytes, writer: Any, reply: bool) -> bool:
        """Do to ``data`` what the link is told; False: the connection is gone."""
        told = self._told(c.link, c.role)
        kind = told.get("kind")
        if kind == "latency":
            self._count(c)
            await asyncio.sleep(told["seconds"] * random.uniform(1 - told["jitter"], 1 + told["jitter"]))
        elif kind == "blackhole":
            self._count(c)
            async with self._changed:
                await self._changed.wait_for(lambda: self._told(c.link, c.role).get("kind") != "blackhole")
        elif kind == "cut_reply" and reply and random.random() < told["share"]:
            self._count(c)
            writer.write(data[: len(data) // 2])
            with contextlib.suppress(OSError):
                await writer.drain()
            c.reset()
            return False
        return True


def _role_of(near: int, port: int, roles: Path) -> str:
    """Which process of ``up.json`` has the socket from port ``near`` to ``port``; its role, or '': somebody else."""
    inode = _inode(near, port)
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = {pid: name for name, pid in json.loads(roles.read_text())["processes"].items()}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if _session(process) in known and _has(process, inode):
                    return known[_session(process)].rstrip("0123456789")
    return ""


def _session(process: Path) -> int:
    # The supervisor makes every process the leader of a session of its own; children stay in it.
    return int((process / "stat").read_text().rpartition(")")[2].split()[3])


def _inode(near: int, port: int) -> str:
    local, remote = f":{near:04X}", f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[1].endswith(local) and fields[2].endswith(remote):
            return fields[9]
    return "?"


def _has(process: Path, inode: str) -> bool:
    wanted = f"socket:[{inode}]"
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if str(fd.readlink()) == wanted:
                return True
    return False


async def _main(links: Mapping[str, int], roles: Path) -> None:
    proxy = Proxy(links, roles)
    await proxy.listen()
    sys.stdout.write(json.dumps(proxy.ports) + "\n")
    sys.stdout.flush()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        sys.stdout.write(json.dumps(await proxy.order(json.loads(line))) + "\n")
        sys.stdout.flush()
    os._exit(0)  # the runner is done: nobody waits for what still stands in the connections


class Links:
    """The proxy as the runner sees it."""

    def __init__(self, targets: Mapping[str, int], roles: Path) -> None:
        argv = (sys.executable, "-m", "tests.chaos.proxy", json.dumps(dict(targets)), str(roles))
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports: dict[str, int] = self._read()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)

    def do(self, link: str, kind: str, *roles: str, **how: float) -> None:
        """From now on do ``kind`` to the link's connections of ``roles`` (none: of everybody)."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {KINDS}")
        self._order(link=link, roles=roles or [""], do={"kind": kind, **how})

    def heal(self, link: str, *roles: str) -> None:
        """Let everything of theirs pass again."""
        self._order(link=link, roles=roles or [""], do=None)

    def lead(self, link: str, port: int) -> None:
        """Let the link lead to another port; what is connected is cut."""
        self._order(link=link, target=port)

    def did(self, link: str, role: str = "") -> int:
        """How often something was done to the link's connections (of ``role``)."""
        return self._order(link=link, roles=[], do=None)["did"].get(f"{link} {role}".strip(), 0)

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the proxy ended with {self._process.wait(10)}")
        return json.loads(line)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1]), Path(sys.argv[2])))
