"""The events that are sent and the rules that judge them: the same for every subject, the same in every run."""

from __future__ import annotations

import base64
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


#: What long messages go on with: explanations, remedies and traces, which say the same again and again.
_VERBOSE = (
    "This event is generated when the state of a monitored resource changes; it may be positively correlated with a "
    "later event of the same resource using the identifier {n}{port}.",
    "Recommended action: verify the cabling and the transceiver on both ends of Ethernet{n}/{n2}, clear the counters, "
    "and collect the output of show tech-support before opening a case.",
    "Subject: security id S-1-5-18, account name svc{n}$, account domain EXAMPLE, logon id 0x{port}; process name: "
    "C:\\Windows\\System32\\services.exe, elevated token: yes, impersonation level: impersonation.",
    "caused by: java.net.SocketTimeoutException: read timed out at java.base/java.net.SocketInputStream.read("
    "SocketInputStream.java:{port}) at com.example.poller.Session.receive(Session.java:{n2}).",
    "policy {n} of zone inside permitted the session from {ip} to {ip2}, application ssl, action allow, reason "
    "aged-out, bytes sent {port}, bytes received {port2}, packets {n2}, elapsed {n} s.",
)

_TAIL = ", uptime {port} s, event {hex3}"


class Sent(NamedTuple):
    """One event: its JSON, and the number of the rule that has to match it (None: no rule)."""

    body: bytes
    rule: int | None


def rules(count: int = 100) -> list[dict[str, Any]]:
    """``count`` rules as a file would give them: half ``contains``, three tenths regex, a fifth prefixes."""
    return [_rule(number) for number in range(count)]


def events(
    count: int,
    *,
    rules: int = 100,
    seed: int = SEED,
    source: str = "bench",
    matching: float = MATCHING,
    noise: bool = False,
    length: int = 0,
) -> Iterator[Sent]:
    """``count`` events of about 540 bytes, of which a share of ``matching`` match one of the first ``rules`` rules.

    With ``noise`` messages are random hex and base64 that share no template; with ``length`` they go on until an
    event has about so many bytes, with what long messages say.
    """
    rng = random.Random(seed)
    for _ in range(count):
        number = rng.randrange(rules) if rng.random() < matching else None
        template = _ordinary(rng, noise) if number is None else _fault(number, noise)
        event = _event(rng, template, number is not None, source)
        body = orjson.dumps(event)
        while len(body) < length - 90:  # half of what the next one adds
            event["message"] += "; " + rng.choice(_VERBOSE).format_map(_Values(rng))
            body = orjson.dumps(event)
        yield Sent(body, number)


def _ordinary(rng: random.Random, noise: bool) -> str:
    return "{noise} {noise} {noise} {noise} {noise}" if noise else rng.choice(_ORDINARY)


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


def _fault(number: int, noise: bool) -> str:
    """The message that rule ``number`` is there for."""
    kind, text = _pattern(number)
    opening = f"%PLATFORM-3-STATE: fault E{number:05d} in slot {{n}}:" if kind == "regex" else text.rstrip()
    if noise:
        return opening + " {noise} {noise} {noise} {noise}"
    return (
        opening
        + " {ip} lost {ip2} on Ethernet{n}/{n2}, session {hex} code {port}, trace {hex2} after {port2} ms"
    )


def _event(rng: random.Random, template: str, fault: bool, source: str) -> dict[str, Any]:
    host = rng.randrange(HOSTS)
    return {
        "timestamp": f"2024-05-01T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z",
        "hostname": f"edge-r{host:03d}.{_SITES[host % len(_SITES)]}.example.net",
        "message": (template + _TAIL).format_map(_Values(rng)),
        "syslog_severity": 3 if fault else 6,
        "source": source,
        "program": f"proc{host % 9}",
        "site": _SITES[host % len(_SITES)],
        "vendor": "example",
        "collector": f"relay-{rng.randrange(4)}",
        "session": f"{rng.getrandbits(128):032x}",
        "digest": f"{rng.getrandbits(256):064x}",
    }


class _Values(dict[str, object]):
    """What fills a message. Noise is made anew for each place, and only where it is asked for."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        bits = rng.getrandbits(128)
        super().__init__(
            ip=f"10.{bits & 255}.{bits >> 8 & 255}.{bits >> 16 & 255}",
            ip2=f"172.16.{bits >> 24 & 255}.{bits >> 32 & 255}",
            mac=":".join(f"{bits >> shift & 255:02x}" for shift in range(0, 48, 8)),
            port=1024 + (bits >> 40 & 0x7FFF),
            port2=1024 + (bits >> 55 & 0x7FFF),
            n=bits >> 70 & 15,
            n2=bits >> 74 & 63,
            hex=f"{rng.getrandbits(96):024x}",
            hex2=f"{rng.getrandbits(96):024x}",
            hex3=f"{rng.getrandbits(128):032x}",
        )

    def __missing__(self, name: str) -> str:
        if name != "noise":
            raise KeyError(name)
        some = self._rng.randbytes(self._rng.randrange(6, 33))
        return some.hex() if self._rng.random() < 0.5 else base64.b64encode(some).decode()
