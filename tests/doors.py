"""A real gunicorn, and raw sockets to it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import psutil

from mutt.embedded.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]


class Door:
    """An application as gunicorn serves it; with a ``tls`` over HTTPS, as ``localhost``."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port, self.tls = port, tls

    def connect(self, sent: bytes = b"") -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        if self.tls:
            made = self.tls.wrap_socket(made, server_hostname="localhost")
        made.sendall(sent)
        return made

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """One answer, on a connection of its own."""
        with contextlib.closing(self.connect(request)) as sock:
            return answer(sock)


def answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the next answer, the only one; what is no answer is an AssertionError."""
    with sock.makefile("rb") as file:
        return read_answer(file)


def read_answer(file: BinaryIO) -> tuple[int, dict[str, str], bytes]:
    """One answer out of several on a connection."""
    status = file.readline()
    assert status.startswith(b"HTTP/1."), status
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return int(status.split()[1]), headers, file.read(int(headers.get("content-length", 0)))


def is_closed(sock: socket.socket) -> bool:
    """Did the other side hang up? What it said before is read away."""
    try:
        while select.select([sock], [], [], 0)[0]:
            if not sock.recv(65536):
                return True
    except OSError:
        return True
    return False


def send_all(sock: socket.socket, data: bytes) -> None:
    """Until the other side has heard enough."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)


@contextlib.contextmanager
def served(
    name: str, env: Mapping[str, str], directory: Path, *options: str, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, Path]]:
    """gunicorn with the application of this name: its port and its log, in which no traceback may stand.

    ``name`` is one of ``mutt.wsgi``, or a module's and its own."""
    port, log = free_port(18300), directory / "gunicorn.log"
    told = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    told |= {"MUTT_HOME": str(directory), "PYTHONPATH": str(ROOT), **env}
    argv = [sys.executable, "-m", "gunicorn", "-c", "python:mutt.web.gunicorn", *options,
            "-b", f"127.0.0.1:{port}", name if ":" in name else f"mutt.wsgi:{name}"]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(argv, env=told, cwd=directory, stdout=file, stderr=file)
    try:
        wait_until(lambda: _answers(Door(port, tls)), 30, f"{name}: {log.read_text()}")
        yield port, log
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.terminate()
        process.wait(20)


def worker_of(port: int) -> psutil.Process:
    """gunicorn's worker behind this port: the youngest of those who listen."""
    ours = psutil.Process().children(recursive=True)
    return max((one for one in ours if _listens(one, port)), key=lambda one: one.create_time())


def _listens(one: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # a session of PostgreSQL's, that ended meanwhile
        return any(at.laddr.port == port for at in one.net_connections() if not at.raddr)
    return False


def _answers(door: Door) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return door.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
    return False
