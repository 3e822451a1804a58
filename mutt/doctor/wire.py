"""What others could read on the way to each server. Pure: addresses come in, and what libpq says of a connection."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from mutt.doctor.finding import Finding, ok, warn

CHECKED = "over TLS, checked"

_OVER_TLS = ("rediss", "sentinels", "amqps", "https")


class Postgres(NamedTuple):
    """A connection to PostgreSQL, as libpq knows it."""

    host: str  #: a name, an address, or the directory of a Unix socket
    tls: bool
    sslmode: str


def address(what: str, url: str, fix: str) -> Finding:
    """The way to a server that is named by ``url``."""
    parts = urlsplit(url)
    hosts = [re.sub(r":\d+$", "", host) for host in parts.netloc.rpartition("@")[2].split(",")]
    if parts.scheme in _OVER_TLS:
        return ok(what, CHECKED)
    if parts.scheme == "unix" or all(map(is_near, hosts)):
        return ok(what, "in the clear, and does not leave this machine")
    return warn(what, "in the clear: who is on the way reads secrets and events", fix)


def postgres(what: str, found: Postgres) -> Finding:
    """The way to PostgreSQL."""
    fix = "set DATABASE_CA (docs/tls.md)"
    if found.tls and found.sslmode == "verify-full":
        return ok(what, CHECKED)
    if found.host.startswith("/") or is_near(found.host):
        return ok(what, "does not leave this machine")
    if not found.tls:
        return warn(what, "in the clear: who is on the way reads secrets and events", fix)
    if found.sslmode == "verify-ca":
        return warn(what, "over TLS, but the host name is not checked (sslmode=verify-ca)", fix)
    return warn(what, f"over TLS, but anybody's certificate will do (sslmode={found.sslmode})", fix)


def is_near(host: str) -> bool:
    """Is it this machine's own loopback?"""
    name = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
