"""Python's own SysLogHandler, over UDP to `mutt listen syslog`."""

from __future__ import annotations

import os
import re
import sys

import requests

from mutt.embedded.ports import free_port
from mutt.embedded.process import Process, answers
from tests.senders.base import Place, free_udp_port
from tests.senders.scripts import Script
from tests.servers import Live


class PythonSyslog(Script):
    """A program that logs to syslog, and the listener that takes it."""

    name = "sysloghandler"
    file = "python-logging/sysloghandler.py"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._port, self._metrics_port = free_udp_port(), free_port(0)
        self._metrics = f"http://127.0.0.1:{self._metrics_port}/metrics"
        self._live = Live("", self._listener())

    def _listener(self) -> Process:
        told = {
            "LISTEN_HOST=0.0.0.0": "LISTEN_HOST=127.0.0.1",
            "LISTEN_SYSLOG_UDP=5514": f"LISTEN_SYSLOG_UDP={self._port}",
            "LISTEN_SYSLOG_TCP=5514": "LISTEN_SYSLOG_TCP=0",
            "/var/lib/mutt-listen": f"{self.place.directory}/buffer",
            "METRICS_PORT=9465": f"METRICS_PORT={self._metrics_port}",
        }
        text = self.place.example("listen/listen.env", **told)
        settings = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z_]+=", line))
        return Process(
            name="listen",
            argv=(sys.executable, "-m", "mutt", "listen", "syslog"),
            env={**os.environ, "MUTT_HOME": str(self.place.directory), **settings},
            log=self.place.directory / "listen.log",
            ready=answers(self._metrics),
        )

    def start(self) -> None:
        self._live.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self._live.stop()

    def told(self) -> dict[str, str]:
        return {"SYSLOG_HOST": "127.0.0.1", "SYSLOG_PORT": str(self._port)}

    def send(self, number: int) -> None:
        self.give(self.text(number))

    def pending(self) -> str:
        found = {
            name: self._counted(f"mutt_listen_{name}")
            for name in ("received_total", "sent_total", "lost_total")
        }
        done = found["received_total"] == found["sent_total"] == self.sent and not found["lost_total"]
        return "" if done else str(found)

    def _counted(self, name: str) -> float:
        lines = requests.get(self._metrics, timeout=10).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}\b", line))
