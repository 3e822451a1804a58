"""What every real sender has: a place to run in, its example's text, numbered messages, and its own account of them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mutt.embedded.process import Process
from tests.ports import own_port
from tests.servers import Live

EXAMPLES = Path(__file__).parents[2] / "examples"

#: What every example says in place of MUTT's address and of the key.
ADDRESS, KEY = "https://mutt.example.net", "YOUR-API-KEY"

#: A message's state, as the audit's context has it.
RAISE, CLEAR = "raise", "clear"


@dataclass(frozen=True)
class Place:
    """Where a sender runs, and where its MUTT is."""

    directory: Path
    ingest: str
    key: str

    def example(self, name: str, **told: str) -> str:
        """The text of ``examples/<name>`` with what stands here in the place of what it says there.

        Raises :class:`AssertionError` where it does not say it: then something else would run than is documented.
        """
        return filled(name, {ADDRESS: self.ingest, KEY: self.key, **told})

    def example_without_key(self, name: str, **told: str) -> str:
        """Likewise, of a file that names another one for the key."""
        return filled(name, {ADDRESS: self.ingest, **told})

    def write(self, name: str, text: str) -> Path:
        """A file of this sender; its path."""
        path = self.directory / name
        path.write_text(text)
        return path


def filled(name: str, told: Mapping[str, str]) -> str:
    """The text of ``examples/<name>`` with ``told`` put in; each of its keys has to be there."""
    text = (EXAMPLES / name).read_text()
    for written, here in told.items():
        assert written in text, f"examples/{name} does not say {written}"
        text = text.replace(written, here)
    return text


class Sender:
    """One sender. It is started, sends numbered messages, and says by its own counters what became of them."""

    name: ClassVar[str]
    rate: ClassVar[int] = 10  #: messages in a second
    #: Does it say again under the same name what MUTT may have taken already? Else a repeat is an event of its own.
    repeats_by_name: ClassVar[bool] = False

    def __init__(self, place: Place) -> None:
        self.place = place
        self.sent = 0
        #: What has to be in the audit: how often each (number, state).
        self.expected: Counter[tuple[int, str]] = Counter()

    @classmethod
    def lacks(cls) -> str:
        """What is not on this machine, and where it is to be had; empty: nothing."""
        return ""

    def start(self) -> None:
        """Start it, and wait until it takes messages."""

    def stop(self) -> None:
        """Stop it, if it runs."""

    def text(self, number: int) -> str:
        """The message of this number, as it has to stand in the audit."""
        return f"the fan has failed, sent-{self.name}-{number}."

    def send_next(self) -> None:
        """Hand the next message over."""
        self.sent += 1
        self.expected[self.sent, RAISE] += 1
        self.send(self.sent)

    def send(self, number: int) -> None:
        """Hand over the message of this number."""
        raise NotImplementedError

    def in_outage(self) -> None:
        """What else it does while MUTT is away."""

    def after_outage(self) -> None:
        """What else it does once MUTT is back."""

    def pending(self) -> str:
        """By its own counters: what it has not delivered yet, or has lost. Empty: all is delivered."""
        return ""


class Daemon(Sender):
    """A sender that is a server of its own."""

    live: Live | None = None

    def process(self) -> Process:
        """How to run it; its files are written here."""
        raise NotImplementedError

    def start(self) -> None:
        self.live = Live("", self.process()).start()

    def stop(self) -> None:
        if self.live:
            self.live.stop()


class OverTcp(Daemon):
    """A daemon that is handed lines of syslog over one connection."""

    rate = 20

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.port = own_port()
        self._socket: socket.socket | None = None

    def start(self) -> None:
        super().start()
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stop(self) -> None:
        if self._socket:
            self._socket.close()
        super().stop()

    def send(self, number: int) -> None:
        assert self._socket
        line = f"<10>Nov 23 10:00:00 core-{number} fand[811]: {self.text(number)}\n"
        self._socket.sendall(line.encode())


def listens(port: int) -> bool:
    """Does somebody take TCP connections there?"""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_udp_port() -> int:
    """A port where nobody takes datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
