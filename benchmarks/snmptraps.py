"""Traps a second on one core: MUTT's receiver, beside pysnmp's engine with its NotificationReceiver.

``python -m benchmarks.snmptraps``. Datagrams of net-snmp (tests/unit/snmp_datagrams.json), no socket, nothing kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysnmp.carrier.base import AbstractTransportDispatcher
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413 import ntfrcv
from pysnmp.proto.rfc1902 import OctetString

from mutt.listen.snmp import users
from mutt.listen.snmp.engine import Engine
from mutt.listen.snmp.usm import Usm
from mutt.listen.snmptrap import SnmpTraps

HERE = Path(__file__).parents[1]
DATAGRAMS = json.loads((HERE / "tests" / "unit" / "snmp_datagrams.json").read_text())
CASES = ("v1-link", "v2c", "v3-open", "v3-signs", "v3")
SECONDS, ROUNDS = 0.5, 3


class Nowhere:
    """Takes everything and keeps nothing."""

    def put(self, _record: bytes, _peer: str, _at: float) -> bool:
        return True

    def flush(self, _timeout: float) -> bool:
        return True


def ours() -> Callable[[bytes], Any]:
    known = users.read("noc SHA-256 authpass12 AES privpass12\nsigns SHA authpass12\nopen\n")
    usm = Usm(known, Engine(b"\x80\0\x1f\x88\x05benchmarks", 1, 0.0), time.monotonic)
    traps = SnmpTraps(Nowhere(), usm, (b"public",))
    return lambda data: traps.handle(data, "10.20.0.7")


def theirs() -> Callable[[bytes], Any]:
    engine = SnmpEngine()
    engine.register_transport_dispatcher(AbstractTransportDispatcher())
    where = OctetString(hexValue="8000000001020304")  # it has to be told each sender's engine id
    config.add_v1_system(engine, "area", "public")
    config.add_v3_user(engine, "noc", config.USM_AUTH_HMAC192_SHA256, "authpass12", config.USM_PRIV_CFB128_AES,
                       "privpass12", securityEngineId=where)  # fmt: skip
    config.add_v3_user(engine, "signs", config.USM_AUTH_HMAC96_SHA, "authpass12", securityEngineId=where)
    config.add_v3_user(engine, "open", securityEngineId=where)
    heard: list[Any] = []
    ntfrcv.NotificationReceiver(engine, lambda *told: heard.append(told))

    def handle(data: bytes) -> None:
        engine.message_dispatcher.receive_message(engine, (1, 3, 6, 1, 6, 1, 1), ("10.20.0.7", 162), data)
        if not heard:
            raise SystemExit("pysnmp's engine did not take a datagram")
        heard.clear()

    return handle


def rate(handle: Callable[[bytes], Any], data: bytes) -> float:
    """Datagrams a second of the processor's time, the best of some rounds."""
    return max(_round(handle, data) for _ in range(ROUNDS))


def _round(handle: Callable[[bytes], Any], data: bytes) -> float:
    began, n = time.process_time(), 0
    while time.process_time() - began < SECONDS:
        handle(data)
        n += 1
    return n / (time.process_time() - began)


def main() -> None:
    mine, other = ours(), theirs()
    print("datagram      MUTT/s   engine/s   ratio")
    for name in CASES:
        data = bytes.fromhex(DATAGRAMS[name])
        here, there = rate(mine, data), rate(other, data)
        print(f"{name:10} {here:9.0f} {there:10.0f} {here / there:7.1f}")


if __name__ == "__main__":
    main()
