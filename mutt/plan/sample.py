"""Events to measure with: a network's everyday lines, whose numbers and ids hardly ever repeat."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mutt.plan.values import Load

#: What the events that alert say, and the rules that match them, whatever the other rules are. Alerts of one rule and
#: host wait for each other: with one rule nearly all would.
MARK = "%MUTT-PLAN-2-FAULT{number:02d}:"
RULES: Sequence[Mapping[str, Any]] = [
    {
        "name": f"mutt plan {number}",
        "match_type": "prefix",
        "match_string": MARK.format(number=number),
        "priority": 0,
        "prod_handling": "Page_and_ticket",
        "dev_handling": "Ignore",
        "team_assignment": "NETO",
    }
    for number in range(50)
]

HOSTS = 200

_LINES = (
    "%SYS-6-LOGIN: session {a} opened for user svc{n} from {ip} port {port} on vty{n}, token {b}",
    "%LINK-6-UPDOWN: interface GigabitEthernet{n}/{n} changed state to up after {port} ms, id {a}, peer {ip}",
    "%OSPF-6-LSAREFRESH: lsa {ip} seq 0x{a} age {port} refreshed by {ip} in area {n}, checksum {b}",
    "dhcpd[{port}]: DHCPACK on {ip} to {a} via eth{n}, lease {port} s, client uid {b}",
    "sshd[{port}]: accepted publickey for ops{n} from {ip} port {port} ssh2: ED25519 SHA256:{a}{b}",
    "kernel: [{port}.{n}] nf_conntrack: {ip} id {a} expired after {n} retries, bucket {b}",
    "nginx: {ip} GET /v1/poll/{a} 200 {port} bytes in 0.{port} s, trace {b} attempt {n}",
)
_FAULT = "{mark} {ip} lost on Ethernet{n}/{n}, session {a} code {port}, trace {b} after {port} ms"


def events(count: int, load: Load, *, seed: int = 7) -> list[bytes]:
    """``count`` events as JSON, of about ``load.event_bytes`` each; a share of ``load.alerts_share`` alerts."""
    rng = random.Random(seed)
    return [_event(rng, load) for _ in range(count)]


def bodies(count: int, load: Load, *, seed: int = 7) -> list[bytes]:
    """``count`` requests of ``load.batch`` events each."""
    made = events(count * load.batch, load, seed=seed)
    parts = [made[first : first + load.batch] for first in range(0, len(made), load.batch)]
    return [b"[" + b",".join(part) + b"]" for part in parts]


def _event(rng: random.Random, load: Load) -> bytes:
    fault = rng.random() < load.alerts_share
    host = rng.randrange(HOSTS)
    event = {
        "timestamp": f"2024-05-01T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z",
        "hostname": f"edge-r{host:03d}.example.net",
        "message": _filled(rng, _FAULT if fault else rng.choice(_LINES)),
        "syslog_severity": 3 if fault else 6,
        "source": "mutt-plan",
        "program": f"proc{host % 9}",
        "vendor": "example",
        "site": f"site{host % 5}",
        "collector": f"relay-{host % 4}",
        "session": f"{rng.getrandbits(128):032x}",
        "digest": f"{rng.getrandbits(256):064x}",
    }
    short = load.event_bytes - len(orjson.dumps(event))
    if short > 0:
        event["message"] = str(event["message"]) + _words(rng, short)
    return orjson.dumps(event)


def _filled(rng: random.Random, line: str) -> str:
    values = {
        "mark": MARK.format(number=rng.randrange(len(RULES))),
        "a": f"{rng.getrandbits(96):024x}",
        "b": f"{rng.getrandbits(96):024x}",
        "ip": f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}",
        "port": 1024 + rng.randrange(30_000),
        "n": rng.randrange(16),
    }
    return line.format_map(values)


def _words(rng: random.Random, length: int) -> str:
    """Text to fill up with: half of it ids, half words, as long messages are."""
    text = ""
    while len(text) < length:
        text += (
            f", counter {rng.randrange(10_000)} of resource {rng.getrandbits(48):012x} was reset by policy"
        )
    return text[:length]
