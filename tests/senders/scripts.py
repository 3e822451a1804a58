"""Programs in Python that send what they are given on standard input, a line a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, ClassVar

from tests.senders.base import EXAMPLES, Place, Sender
from tests.waiting import wait_until


class Script(Sender):
    """A program of ``examples/``, as it stands there: it takes address and key from its environment."""

    file: ClassVar[str]
    repeats_by_name = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        # Unread, what it says would stop it once the pipe is full.
        with self._said.open("w") as said, (self.place.directory / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(EXAMPLES / self.file)],
                env={**os.environ, **self.told()},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=log,
                text=True,
            )

    def told(self) -> dict[str, str]:
        """What it takes from its environment."""
        return {"MUTT": self.place.ingest, "MUTT_KEY": self.place.key}

    @property
    def _said(self) -> Path:
        return self.place.directory / "said"

    def stop(self) -> None:
        if self._process:
            self._input.close()
            try:
                self._process.wait(20)
            finally:
                self._process.kill()

    @property
    def _input(self) -> IO[str]:
        assert self._process
        assert self._process.stdin
        return self._process.stdin

    def give(self, line: str) -> None:
        """Write a line to its standard input."""
        self._input.write(line + "\n")
        self._input.flush()

    def said(self) -> list[str]:
        """What it wrote to its standard output, by whole lines."""
        return [line for line in self._said.read_text().splitlines(keepends=True) if line.endswith("\n")]


class CloudEvents(Script):
    """The CloudEvents SDK with requests, which tries again after Retry-After."""

    name = "cloudevents"
    file = "cloudevents/send.py"
    rate = 5

    def send(self, number: int) -> None:
        self.give(f"core-{number} {self.text(number)}")

    def pending(self) -> str:
        statuses = [line.partition(" ")[0] for line in self.said()]
        done = statuses == ["202"] * self.sent
        return "" if done else f"{len(statuses)} of {self.sent} answered, last {self.said()[-1:]}"


class MuttLogging(Script):
    """logging with mutt.client's handler."""

    name = "python-logging"
    file = "python-logging/handler.py"

    def send(self, number: int) -> None:
        self.give(self.text(number))

    def pending(self) -> str:
        before = len(self.said())
        self.give("")
        said = wait_until(lambda: self.said()[before:], 10, "the handler's books")
        books = json.loads(said[-1])
        return "" if books["put"] == books["delivered"] == self.sent else str(books)
