"""net-snmp's snmptrapd, with the traphandle that stands in examples/snmptrapd."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from mutt.embedded.process import Process
from tests.senders.base import ADDRESS, EXAMPLES, Daemon, Place, filled, free_udp_port

#: net-snmp's own example notification, and an object of text below it.
TRAP, TEXT = "1.3.6.1.4.1.8072.2.3.0.1", "1.3.6.1.4.1.8072.2.3.2.1"

COMMUNITY = "a-community-of-yours"


class Snmptrapd(Daemon):
    """Hands each trap to the handler, which has a spool."""

    name = "snmptrapd"
    rate = 1
    repeats_by_name = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._port = free_udp_port()

    @classmethod
    def lacks(cls) -> str:
        there = all(map(shutil.which, ("snmptrapd", "snmptrap", "curl", "flock")))
        return "" if there else "Debian's packages snmptrapd, snmp, curl and util-linux"

    def process(self) -> Process:
        directory = self.place.directory
        shutil.copy(EXAMPLES / "snmptrapd/mutt-traphandle", self._handler)
        for folder in ("waiting", "sending"):
            (self._spool / folder).mkdir(parents=True)
        header = self.place.write("header", f"X-API-Key: {self.place.key}\n")
        told = {ADDRESS: self.place.ingest, "/etc/mutt/traphandle.header": str(header),
                "SPOOL=/var/spool/mutt-traps": f"SPOOL={self._spool}"}  # fmt: skip
        self.place.write("traphandle.conf", filled("snmptrapd/traphandle.conf", told))
        text = filled("snmptrapd/snmptrapd.conf", {"/usr/local/bin/mutt-traphandle": str(self._handler)})
        file = self.place.write("snmptrapd.conf", text)
        return Process(
            name=self.name,
            argv=("snmptrapd", "-f", "-Lo", "-On", "-n", "-C", "-c", str(file), "-p", f"{directory}/pid",
                  f"udp:127.0.0.1:{self._port}"),
            env=self._environ,
            log=directory / "log",
            ready_line="NET-SNMP version",
        )  # fmt: skip

    @property
    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "MUTT_TRAPHANDLE_CONF": str(self.place.directory / "traphandle.conf"),
            "MIBS": "",
        }

    @property
    def _handler(self) -> Path:
        return self.place.directory / "mutt-traphandle"

    @property
    def _spool(self) -> Path:
        return self.place.directory / "spool"

    def send(self, number: int) -> None:
        subprocess.run(
            [
                "snmptrap",
                "-v",
                "2c",
                "-c",
                COMMUNITY,
                f"127.0.0.1:{self._port}",
                "",
                TRAP,
                TEXT,
                "s",
                self.text(number),
            ],
            env=self._environ,
            check=True,
            timeout=10,
        )

    def after_outage(self) -> None:
        """As cron does every minute."""
        subprocess.run([self._handler, "--flush"], env=self._environ, timeout=60)

    def pending(self) -> str:
        left = [path.name for folder in ("waiting", "sending") for path in (self._spool / folder).iterdir()]
        return f"{len(left)} traps in the spool" if left else ""
