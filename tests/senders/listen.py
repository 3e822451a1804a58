"""What sends straight to `mutt listen`: Python's own SysLogHandler by UDP, net-snmp's informs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import requests

from mutt.embedded.process import Process, answers
from tests.ports import own_port
from tests.senders.base import Place, Sender, free_udp_port
from tests.senders.scripts import Script
from tests.senders.snmptrapd import TEXT, TRAP
from tests.servers import Live


class Listener:
    """`mutt listen KIND`, by ``examples/listen/listen.env``; its UDP port is ``port``."""

    def __init__(self, place: Place, kind: str) -> None:
        self._place, self._kind = place, kind
        self.port, self._metrics_port = free_udp_port(), own_port()
        self._metrics = f"http://127.0.0.1:{self._metrics_port}/metrics"
        self._live = Live("", self._process())

    def _process(self) -> Process:
        told = {
            "LISTEN_HOST=0.0.0.0": "LISTEN_HOST=127.0.0.1",
            "LISTEN_SYSLOG_UDP=5514": f"LISTEN_SYSLOG_UDP={self.port}",
            "LISTEN_SYSLOG_TCP=5514": "LISTEN_SYSLOG_TCP=0",
            "LISTEN_SNMPTRAP_UDP=1162": f"LISTEN_SNMPTRAP_UDP={self.port}",
            "/var/lib/mutt-listen": f"{self._place.directory}/buffer",
            "METRICS_PORT=9465": f"METRICS_PORT={self._metrics_port}",
        }
        text = self._place.example("listen/listen.env", **told)
        settings = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z_]+=", line))
        return Process(
            name=f"listen-{self._kind}",
            argv=(sys.executable, "-m", "mutt", "listen", self._kind),
            env={**os.environ, "MUTT_HOME": str(self._place.directory), **settings},
            log=self._place.directory / "listen.log",
            ready=answers(self._metrics),
        )

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._live.start()

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._live.stop()

    def pending(self, sent: int) -> str:
        """By its own metrics: what it has not received, not sent, or lost. Empty: nothing."""
        found = {name: self._counted(name) for name in ("received", "sent", "lost")}
        done = found["received"] >= sent and found["sent"] == sent and not found["lost"]
        return "" if done else str(found)

    def _counted(self, name: str) -> float:
        lines = requests.get(self._metrics, timeout=10).text.splitlines()
        wanted = re.compile(rf"mutt_listen_{name}_total\b")
        return sum(float(line.rpartition(" ")[2]) for line in lines if wanted.match(line))


class PythonSyslog(Script):
    """A program that logs to syslog, and the listener that takes it."""

    name = "sysloghandler"
    file = "python-logging/sysloghandler.py"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._listener = Listener(place, "syslog")

    def start(self) -> None:
        self._listener.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self._listener.stop()

    def told(self) -> dict[str, str]:
        return {"SYSLOG_HOST": "127.0.0.1", "SYSLOG_PORT": str(self._listener.port)}

    def send(self, number: int) -> None:
        self.give(self.text(number))

    def pending(self) -> str:
        return self._listener.pending(self.sent)


class Informs(Sender):
    """net-snmp's informs: each is answered once it is on the listener's disk, else its sender says so."""

    name = "snmpinform"
    rate = 1
    repeats_by_name = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._listener = Listener(place, "snmptrap")

    @classmethod
    def lacks(cls) -> str:
        return "" if shutil.which("snmpinform") else "Debian's package snmp"

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        self._listener.stop()

    def send(self, number: int) -> None:
        subprocess.run(
            ["snmpinform", "-v", "2c", "-c", "public", f"127.0.0.1:{self._listener.port}", "", TRAP, TEXT, "s",
             self.text(number)],
            env={**os.environ, "MIBS": ""},
            check=True,
            timeout=20,
        )  # fmt: skip

    def pending(self) -> str:
        return self._listener.pending(self.sent)
