"""Prometheus' Alertmanager, told of alerts over its API."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import requests

from mutt.embedded.process import Process, answers
from tests.ports import own_port
from tests.senders.base import CLEAR, Daemon, Place

#: Alerts that were told, and are resolved while MUTT is away; and those that are once it is back.
IN_OUTAGE, AFTER_OUTAGE = range(1, 4), range(4, 6)

#: The number of one that fires and is resolved while MUTT is away: Alertmanager tells nobody of it.
SHORT = 10_000


class Alertmanager(Daemon):
    """Each message is an alert with a name of its own, told while it fires and when it is resolved."""

    name = "alertmanager"
    rate = 1

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._port = own_port()
        self._address = f"http://127.0.0.1:{self._port}"

    @classmethod
    def lacks(cls) -> str:
        return "" if shutil.which("prometheus-alertmanager") else "Debian's package prometheus-alertmanager"

    def process(self) -> Process:
        file = self.place.write("alertmanager.yml", self.place.example("alertmanager/alertmanager.yml"))
        return Process(
            name=self.name,
            argv=("prometheus-alertmanager", f"--config.file={file}",
                  f"--storage.path={self.place.directory}/data", f"--web.listen-address=127.0.0.1:{self._port}",
                  "--cluster.listen-address="),
            log=self.place.directory / "log",
            ready=answers(f"{self._address}/-/ready"),
        )  # fmt: skip

    def send(self, number: int) -> None:
        self._tell([number], fires=True)

    def in_outage(self) -> None:
        self._resolve(IN_OUTAGE)
        self._tell([SHORT], fires=True)
        self._tell([SHORT], fires=False)

    def after_outage(self) -> None:
        self._resolve(AFTER_OUTAGE)

    def _resolve(self, numbers: Iterable[int]) -> None:
        self.expected.update((number, CLEAR) for number in numbers)
        self._tell(numbers, fires=False)

    def _tell(self, numbers: Iterable[int], fires: bool) -> None:
        ends = datetime.now(UTC) + timedelta(hours=1 if fires else 0)
        alerts = [
            {
                "labels": {
                    "alertname": "FanFailed",
                    "instance": f"core-{number}:9100",
                    "severity": "critical",
                },
                "annotations": {"summary": self.text(number)},
                "endsAt": ends.isoformat(),
            }
            for number in numbers
        ]
        requests.post(f"{self._address}/api/v2/alerts", json=alerts, timeout=10).raise_for_status()

    def pending(self) -> str:
        told = sum(self.expected.values())
        taken = self._counted("alertmanager_notifications_total")
        failed = self._counted("alertmanager_notifications_failed_total")
        # What failed for a whole group_interval is told by the next notification.
        return (
            ""
            if taken - failed >= told
            else f"{taken:g} notifications, {failed:g} given up, of {told} alerts"
        )

    def _counted(self, name: str) -> float:
        wanted = f'{name}{{integration="webhook"'
        lines = requests.get(f"{self._address}/metrics", timeout=10).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))
