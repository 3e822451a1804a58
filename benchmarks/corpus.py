"""The events that are sent and the rules that judge them: the same for every subject, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context

#: The share of events that some rule matches.
MATCHING = 0.04

HOSTS, SEED = 200, 20_240_501

_SITES = ("ams3", "fra1", "lhr2", "iad5", "sin1")
_FACILITIES = ("OSPF", "BGP", "LINEPROTO", "DOT1X", "SEC", "PLATFORM", "HSRP", "STP", "DHCP", "NTP")
_HANDLINGS = ("Page_and_ticket", "Ticket_only", "Page_only")

#: What a network says all day. {} are filled with numbers, addresses and ids that hardly ever repeat.
_ORDINARY = (
    "%SYS-6-LOGIN: session {hex} opened for user svc{n} from {ip} port {port} on vty{n}, token {hex2}",
    "%LINK-6-UPDOWN: interface GigabitEthernet{n}/{n2} changed state to up after {port} ms, id {hex}, peer {ip}",
    "%SEC-6-IPACCESSLOGP: list {n} permitted tcp {ip}({port}) -> {ip2}({port2}), 1 packet, flow {hex} class {hex2}",
    "%OSPF-6-LSAREFRESH: lsa {ip} seq 0x{hex} age {port} refreshed by {ip2} in area {n}, checksum {hex2}",
    "%BGP-6-ROUTE: prefix {ip}/{n} withdrawn by neighbour {ip2} after {port} s, path id {hex} community {hex2}",
    "dhcpd[{port}]: DHCPACK on {ip} to {mac} via eth{n}, lease {port2} s, xid {hex}, client uid {hex2}",
    "sshd[{port}]: accepted publickey for ops{n} from {ip} port {port2} ssh2: ED25519 SHA256:{hex}{hex2}",
    "kernel: [{port}.{port2}] nf_conntrack: {ip} -> {ip2} id {hex} expired after {n} retries, bucket {hex2}",
    "ntpd[{port}]: peer {ip} stratum {n} offset 0.{port} ms jitter 0.{port2} ms refid {hex} assoc {hex2}",
    "snmpd[{port}]: connection from udp: [{ip}]:{port2} request id {hex} community hash {hex2} in {n} ms",
    "%PLATFORM-6-FAN: tray {n} speed {port} rpm, inlet {n2} C, serial {hex}, measured by sensor {hex2} for {ip}",
    "nginx: {ip} GET /v1/poll/{hex} 200 {port} bytes in 0.{port2} s, upstream {ip2}, trace {hex2} attempt {n}",
)


_TAIL = ", uptime {port} s, event {hex3}"


class Sent(NamedTuple):
    """One event: its JSON, and the number of the rule that has to match it (None: no rule)."""

    body: bytes
    rule: int | None


def rules(count: int = 100) -> list[dict[str, Any]]:
    """``count`` rules as a file would give them: half ``contains``, three tenths regex, a fifth prefixes."""
    return [_rule(number) for number in range(count)]


def events(count: int, *, rules: int = 100, seed: int = SEED, source: str = "bench") -> Iterator[Sent]:
    """``count`` events of about 540 bytes, of which :data:`MATCHING` match one of the first ``rules`` rules."""
    rng = random.Random(seed)
    for _ in range(count):
        number = rng.randrange(rules) if rng.random() < MATCHING else None
        template = rng.choice(_ORDINARY) if number is None else _fault(number)
        yield Sent(orjson.dumps(_event(rng, template, number is not None, source)), number)


def parsed(sent: Sequence[Sent]) -> list[Event]:
    """What ingest makes of them, received now."""
    context = Context(datetime.now(UTC), "bench", 1 << 18, "localhost")
    body = b"[" + b",".join(one.body for one in sent) + b"]"
    return registry.parse(registry.sniff(body, "application/json"), body, context).events


def _rule(number: int) -> dict[str, Any]:
    kind, text = _pattern(number)
    return {
        "name": f"bench-{number}",
        "match_type": kind,
        "match_string": text,
        "priority": 10 + number % 50,
        "prod_handling": _HANDLINGS[number % len(_HANDLINGS)],
        "dev_handling": "Ignore",
        "team_assignment": f"team{number % 7}",
    }


def _pattern(number: int) -> tuple[str, str]:
    kind = number % 10
    if kind < 5:
        return "contains", f"%{_FACILITIES[number % 7]}-3-FAULT{number:05d}:"
    if kind < 8:
        return "regex", rf"fault E{number:05d} in (?:slot|module) \d+"
    return "prefix", f"CRIT-{number:05d} "


def _fault(number: int) -> str:
    """The message that rule ``number`` is there for."""
    kind, text = _pattern(number)
    opening = f"%PLATFORM-3-STATE: fault E{number:05d} in slot {{n}}:" if kind == "regex" else text.rstrip()
    return (
        opening
        + " {ip} lost {ip2} on Ethernet{n}/{n2}, session {hex} code {port}, trace {hex2} after {port2} ms"
    )


def _event(rng: random.Random, template: str, fault: bool, source: str) -> dict[str, Any]:
    host = rng.randrange(HOSTS)
    return {
        "timestamp": f"2024-05-01T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z",
        "hostname": f"edge-r{host:03d}.{_SITES[host % len(_SITES)]}.example.net",
        "message": (template + _TAIL).format_map(_values(rng)),
        "syslog_severity": 3 if fault else 6,
        "source": source,
        "program": f"proc{host % 9}",
        "site": _SITES[host % len(_SITES)],
        "vendor": "example",
        "collector": f"relay-{rng.randrange(4)}",
        "session": f"{rng.getrandbits(128):032x}",
        "digest": f"{rng.getrandbits(256):064x}",
    }


def _values(rng: random.Random) -> dict[str, object]:
    bits = rng.getrandbits(128)
    return {
        "ip": f"10.{bits & 255}.{bits >> 8 & 255}.{bits >> 16 & 255}",
        "ip2": f"172.16.{bits >> 24 & 255}.{bits >> 32 & 255}",
        "mac": ":".join(f"{bits >> shift & 255:02x}" for shift in range(0, 48, 8)),
        "port": 1024 + (bits >> 40 & 0x7FFF),
        "port2": 1024 + (bits >> 55 & 0x7FFF),
        "n": bits >> 70 & 15,
        "n2": bits >> 74 & 63,
        "hex": f"{rng.getrandbits(96):024x}",
        "hex2": f"{rng.getrandbits(96):024x}",
        "hex3": f"{rng.getrandbits(128):032x}",
    }
