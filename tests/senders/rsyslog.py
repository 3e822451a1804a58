"""rsyslog with its omprog, and the program that stands in examples/rsyslog."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mutt.embedded.process import Process
from tests.senders.base import EXAMPLES, OverTcp, listens

#: Where `.ci/run` unpacks Debian's package: as packages, rsyslog and syslog-ng exclude each other.
UNPACKED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mutt-tests" / "rsyslog"

STATS = 'module(load="impstats" interval="1" format="json" log.syslog="off" log.file="{}")\n'


@dataclass(frozen=True)
class Installed:
    """Where rsyslog is on this machine."""

    binary: str
    modules: str
    libraries: str

    @property
    def argv(self) -> tuple[str, ...]:
        return (self.binary, "-M", self.modules)

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "LD_LIBRARY_PATH": self.libraries}


def installed() -> Installed | None:
    """The machine's own rsyslog, else the unpacked one."""
    for root in (Path("/"), UNPACKED):
        for modules in root.glob("usr/lib/*/rsyslog"):
            if (modules / "omprog.so").exists() and (root / "usr/sbin/rsyslogd").exists():
                return Installed(str(root / "usr/sbin/rsyslogd"), str(modules), str(modules.parent))
    return None


class Rsyslog(OverTcp):
    """Hands each message to the program, and keeps it until that says OK."""

    name = "rsyslog"
    repeats_by_name = True

    @classmethod
    def lacks(cls) -> str:
        return "" if installed() else f"rsyslog, or Debian's package of it unpacked in {UNPACKED}"

    def process(self) -> Process:
        directory, found = self.place.directory, installed()
        assert found
        self.place.write("key", self.place.key)
        program = self.place.directory / "mutt-omprog"
        shutil.copy(EXAMPLES / "rsyslog/mutt-omprog", program)
        text = self.place.example_without_key(
            "rsyslog/rsyslog-omprog.conf",
            **{"/usr/local/lib/mutt/mutt-omprog": str(program), "/etc/mutt/key": f"{directory}/key",
               "/var/spool/rsyslog": str(directory), "/var/log/mutt-omprog.log": f"{directory}/omprog.log",
               'address="0.0.0.0" port="514"': f'address="127.0.0.1" port="{self.port}"'},
        )  # fmt: skip
        file = self.place.write("rsyslog.conf", STATS.format(self._stats) + text)
        return Process(
            name=self.name,
            argv=(*found.argv, "-n", "-f", str(file), "-i", f"{directory}/pid"),
            env=found.environ,
            log=directory / "log",
            ready=lambda: listens(self.port),
        )

    @property
    def _stats(self) -> Path:
        return self.place.directory / "stats"

    def pending(self) -> str:
        action, queue = self.counters("core.action"), self.counters("core.queue")
        done = action.get("processed", 0) >= self.sent and not action["failed"] and not action["suspended"]
        lost = queue["discarded.full"] + queue["discarded.nf"]
        return "" if done and not lost and not queue["size"] else f"{action} {queue}"

    def counters(self, origin: str) -> dict[str, int]:
        """The last that impstats said of this action, or of its queue."""
        told = [
            json.loads(line[line.index("{") :])
            for line in self._stats.read_text().splitlines()
            if "}" in line
        ]
        ours = [one for one in told if one["origin"] == origin and one["name"] in ("mutt", "mutt queue")]
        return ours[-1] if ours else {}
