"""Trusted proxies: who sent a request, and to which address of ours, where a proxy stands between.

Anybody can write ``X-Forwarded-For``, so what such headers say counts only when a proxy that ``TRUSTED_PROXIES`` names
hands the request over, and only as far back as such proxies follow each other: the sender is the right-most address
that is none of theirs. What stands left of it was written by the sender. One family of headers is believed, never the
other one too: a proxy passes on unseen what it does not write itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from mutt.settings import Network

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Address = IPv4Address | IPv6Address

#: An IPv4 address with a port, or an IPv6 address in brackets, as some proxies write them.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")

#: A name or an address, and a port: what may stand in an address of ours.
_HOST = re.compile(
    r"(?:(?:[A-Za-z0-9-]{1,63}\.){0,12}[A-Za-z0-9-]{1,63}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)

#: A header's value by its name in capitals; empty: it is not there.
Header = Callable[[str], str]


class Origin(NamedTuple):
    """Where a request came from, and what its sender asked for. Empty: nobody who is trusted says."""

    address: str
    scheme: str = ""
    host: str = ""


class _Hop(NamedTuple):
    """What one proxy says of the request as it got it."""

    sender: str = ""
    scheme: str = ""
    host: str = ""


class Proxies:
    """The trusted ones: addresses and networks, and the family of headers that they write.

    Without networks it is false, and nobody is believed.
    """

    def __init__(self, networks: Sequence[Network], family: str = "x-forwarded") -> None:
        self._networks = networks
        self._hops = _forwarded if family == "forwarded" else _x_forwarded

    def __bool__(self) -> bool:
        return bool(self._networks)

    def origin(self, peer: str, header: Header) -> Origin:
        """Who sent a request that ``peer`` (an address) handed over. What is malformed ends the row."""
        client, said = peer, _Hop()
        address = _plain(peer)
        for hop in self._hops(header):
            if address is None or not self._trusts(address):
                break
            said = _Hop(hop.sender, hop.scheme or said.scheme, hop.host or said.host)
            address = _claimed(hop.sender)
            if address is not None:
                client = str(address)
        scheme = said.scheme.lower()
        return Origin(
            client,
            scheme if scheme in ("http", "https") else "",
            said.host if _HOST.fullmatch(said.host) else "",
        )

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def believing(app: WSGIApplication, proxies: Proxies) -> WSGIApplication:
    """``app``, which sees the sender where a trusted proxy stands between."""

    def seen(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def header(name: str) -> str:
            value: Any = environ.get("HTTP_" + name.replace("-", "_"), "")
            return str(value)

        origin = proxies.origin(environ.get("REMOTE_ADDR", ""), header)
        environ["REMOTE_ADDR"] = origin.address
        if origin.scheme:
            environ["wsgi.url_scheme"] = origin.scheme
        if origin.host:
            environ["HTTP_HOST"] = origin.host
        return app(environ, start_response)

    return seen


def _x_forwarded(header: Header) -> Iterable[_Hop]:
    """The hops as X-Forwarded-* tell them, the nearest first."""
    schemes, hosts = _parts(header("X-FORWARDED-PROTO")), _parts(header("X-FORWARDED-HOST"))
    for n, sender in enumerate(_parts(header("X-FORWARDED-FOR"))):
        # The last proxy of a row often writes these anew: then there is one of them, whatever the number of hops.
        yield _Hop(sender, _at(schemes, n), _at(hosts, n))


def _forwarded(header: Header) -> Iterable[_Hop]:
    """The hops as RFC 7239's Forwarded tells them, the nearest first.

    Cut at each comma, also at one in quotes: what we ask for has none, and a sender who opens a quote can't hide what
    the proxy wrote behind it.
    """
    for element in _parts(header("FORWARDED")):
        pairs = (pair.strip().partition("=") for pair in element.split(";"))
        found = {name.lower(): _unquoted(value) for name, _, value in pairs}
        yield _Hop(found.get("for", ""), found.get("proto", ""), found.get("host", ""))


def _parts(text: str) -> Sequence[str]:
    return [part.strip(" \t") for part in reversed(text.split(","))]


def _at(values: Sequence[str], n: int) -> str:
    return values[n] if n < len(values) else ""


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _claimed(text: str) -> Address | None:
    """The address that a header names, without its port. None: it names none, or one of a single link."""
    found = _WITH_PORT.fullmatch(text)
    return _plain(found[1] or found[2] if found else text) if "%" not in text else None


def _plain(text: str) -> Address | None:
    """An address; one of IPv4 that a socket of IPv6 shows is one of IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
