"""The sample events of ``mutt up``: what an ordinary quarter of an hour on a network sounds like, a storm among it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

#: Whose storm it is.
STORM_HOST = "lb-07"


@dataclass(frozen=True)
class Sample:
    """One group of events that are posted together."""

    title: str
    format: str  #: of /ingest/<format>
    content_type: str
    body: bytes
    events: int


def samples(now: datetime, seed: int = 7) -> list[Sample]:
    """The same events each time, but for their times."""
    dice = random.Random(seed)
    return [make(now, dice) for make in (_switches, _servers, _traps, _application, _alertmanager, _storm)]


def _stamp(at: datetime) -> str:
    return at.strftime("%b %e %H:%M:%S")


def _lines(title: str, lines: list[str]) -> Sample:
    return Sample(title, "syslog", "text/plain", "\n".join(lines).encode(), len(lines))


def _switches(now: datetime, dice: random.Random) -> Sample:
    lines = []
    for i in range(60):
        at, switch = _stamp(now - timedelta(seconds=900 - i * 9)), f"acc-sw-{dice.randint(1, 24):02}"
        port = f"GigabitEthernet1/0/{dice.randint(1, 48)}"
        if i % 15 == 7:
            lines.append(
                f"<187>{at} {switch} %LINK-3-UPDOWN: LINK-DOWN Interface {port}, changed state to down"
            )
        elif i % 20 == 3:
            lines.append(f"<189>{at} {switch} %DOT1X-5-FAIL: DOT1X-FIRMWARE-RUNNING 17.09.04 on {port}")
        else:
            peer = f"192.0.2.{dice.randint(1, 254)}"
            lines.append(f"<190>{at} {switch} %SYS-6-LOGGINGHOST_STARTSTOP: Logging to host {peer} started")
    return _lines("syslog 3164, switches", lines)


def _servers(now: datetime, dice: random.Random) -> Sample:
    lines = []
    for i in range(60):
        at = (now - timedelta(seconds=880 - i * 8)).isoformat(timespec="milliseconds")
        host, pid = f"db-{dice.randint(1, 20):02}.prod.example.net", dice.randint(400, 32000)
        if i % 12 == 5:
            text = (
                f"ERROR: could not extend file base/16384/{dice.randint(2000, 9000)}: No space left on device"
            )
            lines.append(f"<131>1 {at} {host} postgres {pid} - - {text}")
        elif i == 30:
            lines.append(
                f"<128>1 {at} {host} mdadm {pid} - - CRITICAL array md0 is degraded, 1 of 4 disks missing"
            )
        else:
            user = dice.choice(["deploy", "backup", "monitor"])
            lines.append(
                f"<86>1 {at} {host} sshd {pid} - - Accepted publickey for {user} from 10.20.{i}.7 port {pid}"
            )
    return _lines("syslog 5424, databases", lines)


def _traps(now: datetime, dice: random.Random) -> Sample:
    traps = []
    for i in range(6):
        index, router = dice.randint(1, 60), f"10.20.0.{i + 1}"
        down = {"version": "2c", "source_ip": router, "trap_oid": "1.3.6.1.6.3.1.1.5.3"}
        binds = [
            {"oid": f"1.3.6.1.2.1.2.2.1.1.{index}", "type": "INTEGER", "value": index},
            {"oid": f"1.3.6.1.2.1.2.2.1.2.{index}", "type": "STRING", "value": f"Te1/0/{index} LINK-DOWN"},
        ]
        at = now - timedelta(seconds=300 - i * 20)
        traps.append({**down, "timestamp": at.isoformat(), "varbinds": binds})
        if i % 2:
            up = {
                **down,
                "trap_oid": "1.3.6.1.6.3.1.1.5.4",
                "timestamp": (at + timedelta(seconds=9)).isoformat(),
            }
            traps.append({**up, "varbinds": binds[:1]})
    cisco = {
        "version": "2c",
        "source_ip": "10.20.0.99",
        "trap_oid": ".1.3.6.1.4.1.9.9.41.2.0.1",
        "varbinds": [{"oid": "1.3.6.1.4.1.9.9.41.1.2.3.1.5.1", "type": "STRING", "value": "FAN 2 failed"}],
    }
    title = "traps, links down and up"
    return Sample(title, "snmptrap", "application/json", orjson.dumps([*traps, cisco]), len(traps) + 1)


def _application(now: datetime, dice: random.Random) -> Sample:
    said: list[tuple[str, str, int]] = [
        ("app-9", "CRITICAL payment queue stalled for 300 s", 2),
        ("dev-router1", "link-down on eth3", 3),
        ("qa-firewall1", "ERROR session table 92 percent full", 4),
        ("app-9", "checkout answered in 812 ms", 6),
        ("app-3", "cache hit rate 97.1 percent", 6),
    ]
    events = [
        {
            "timestamp": (now - timedelta(seconds=dice.randint(5, 60))).isoformat(),
            "hostname": host,
            "message": message,
            "severity": severity,
            "source_type": "application",
        }
        for host, message, severity in said
    ]
    return Sample("JSON, applications", "native", "application/json", orjson.dumps(events), len(events))


def _alertmanager(now: datetime, dice: random.Random) -> Sample:
    """Two posts of a webhook: two alerts fire, then one of them is over."""

    def alert(peer: str, *, over: bool) -> dict[str, object]:
        labels = {"alertname": "BGPDown", "instance": "edge-1:9342", "peer": peer, "severity": "critical"}
        began, ended = now - timedelta(seconds=90), now - timedelta(seconds=dice.randint(5, 30))
        return {
            "status": "resolved" if over else "firing",
            "labels": labels,
            "annotations": {"summary": f"CRITICAL BGP session to {peer} is down"},
            "startsAt": began.isoformat(),
            "endsAt": ended.isoformat() if over else "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.net/graph",
            "fingerprint": f"9c1f0b7a22d4{peer.rpartition('.')[2]:0>4}",
        }

    group = {"version": "4", "receiver": "mutt", "groupKey": "{}:{}", "status": "firing", "groupLabels": {}}
    first, second = alert("192.0.2.9", over=False), alert("192.0.2.21", over=False)
    posts = [{**group, "alerts": [first, second]}, {**group, "alerts": [alert("192.0.2.9", over=True)]}]
    body = b"\n".join(map(orjson.dumps, posts))
    return Sample("Alertmanager, a session down and up", "alertmanager", "application/json", body, 3)


def _storm(now: datetime, dice: random.Random) -> Sample:
    lines = [
        f"<134>{_stamp(now - timedelta(seconds=30 - i * 0.1))} {STORM_HOST} haproxy[{1900 + i}]: "
        f"backend api-{dice.randint(1, 9)} has no server available, {dice.randint(1, 4000)} requests queued"
        for i in range(240)
    ]
    return _lines("a storm without a rule", lines)
