"""Server: the simulator in this process, or as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from mutt.moogsim import wire
from mutt.moogsim.book import Book, Received
from mutt.moogsim.handler import Moog, Server
from mutt.moogsim.script import Behaviour, Script, Step


class Simulator:
    """A Moog in this process, on threads of its own.

    ``port`` 0 is any free one, kept over stop and start. With ``require_key`` a request without it gets a 401.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        script: Iterable[Step] = (),
        require_key: str = "",
        keep: int = 100_000,
    ) -> None:
        self.host, self.port = host, port
        self.script, self.book = Script(script), Book(keep)
        self._moog = Moog(self.script, self.book, require_key)
        self._server: Server | None = None

    def start(self) -> Simulator:
        """Listen. Raises ``OSError`` where the port is taken."""
        self._server = Server((self.host, self.port), self._moog)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="moogsim", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening, and cut every connection."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            server.cut()

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def enterprise_url(self) -> str:
        return f"{self.url}{wire.ENTERPRISE_PATH}webhook_webhook1"

    @property
    def cloud_url(self) -> str:
        return f"{self.url}{wire.CLOUD_PATH}"

    @property
    def received(self) -> list[Received]:
        """Each event that came, the newest last."""
        return self.book.received()

    @property
    def starts(self) -> list[float]:
        """Monotonic times of each request's first byte, sorted."""
        return self.book.starts

    def behave(self, behaviour: str, **how: Any) -> None:
        """Answer like this from now on; ``how`` are the fields of :class:`Step`."""
        self.script.set(Step(Behaviour(behaviour), **how))


def serve(
    host: str, port: int, *, require_key: str = "", port_file: Path | None = None, keep: int = 100_000
) -> None:
    """Run a simulator until SIGTERM or SIGINT. ``port_file`` gets the port, whole or not at all."""
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the first thread starts, so that the signal waits for sigwait alone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with Simulator(host, port, require_key=require_key, keep=keep) as simulator:
            if port_file:
                _write_whole(port_file, str(simulator.port))
            sys.stdout.write(
                f"Moog simulator: {simulator.url}/\n"
                f"  Enterprise    {simulator.enterprise_url}\n"
                f"  Cloud         {simulator.cloud_url}\n"
            )
            sys.stdout.flush()
            signal.sigwait(ends)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write_whole(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(file)
