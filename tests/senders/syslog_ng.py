"""syslog-ng with its http destination."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mutt.embedded.process import Process
from tests.senders.base import OverTcp, listens


class SyslogNg(OverTcp):
    """Posts what comes in by TCP, through a buffer on the disk."""

    name = "syslog-ng"

    @classmethod
    def lacks(cls) -> str:
        there = shutil.which("syslog-ng") and any(Path("/usr/lib/syslog-ng").glob("*/libhttp.so"))
        return "" if there else "Debian's packages syslog-ng-core and syslog-ng-mod-http"

    def process(self) -> Process:
        directory = self.place.directory
        text = self.place.example(
            "syslog-ng/syslog-ng.conf",
            **{
                "0.0.0.0": "127.0.0.1",
                "port(514)": f"port({self.port})",
                "/var/lib/syslog-ng": str(directory),
            },
        )
        return Process(
            name=self.name,
            argv=("syslog-ng", "-F", "--no-caps", "-f", str(self.place.write("syslog-ng.conf", text)),
                  "-R", f"{directory}/persist", "-p", f"{directory}/pid", "-c", self._control),
            log=directory / "log",
            ready=lambda: listens(self.port),
        )  # fmt: skip

    @property
    def _control(self) -> str:
        return str(self.place.directory / "control")

    def pending(self) -> str:
        found = self.counters()
        # `written` is counted where a batch is taken at last; a message in the disk buffer is neither.
        done = found["written"] + found.get("queued", 0) >= self.sent and not found["dropped"]
        return "" if done and not found.get("queued") else str(found)

    def counters(self) -> dict[str, int]:
        """The http destination's, by name."""
        said = subprocess.run(
            ["syslog-ng-ctl", "stats", "-c", self._control],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
        rows = [line.split(";") for line in said.splitlines() if line.startswith("dst.http;")]
        return {row[-2]: int(row[-1]) for row in rows}
