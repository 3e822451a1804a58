"""HostPatterns: which of many names, globs and networks does a host name match?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import re2

from mutt.errors import RuleError
from mutt.rules.matcher import Matcher, check_expression

Network = IPv4Network | IPv6Network

_GLOB_PART = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|[^*?[]+|\[")
_CLASS_SIGN, _ESCAPED = re.compile(r"[][\\^&~|]"), r"\\\g<0>"


class HostPatterns:
    """Names, globs (``*``, ``?``, ``[a-f]``, ``[!a-f]``) and networks (CIDR, or one address); case is ignored.

    A pattern that can't be read matches nothing: :func:`check_host_pattern` refuses it when it is saved.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names: dict[str, list[str]] = {}
        self._networks: dict[tuple[int, int], dict[int, list[str]]] = {}
        self._globs: list[str] = []
        for pattern in sorted(set(patterns)):
            self._add(pattern)
        self._matcher = Matcher((number, glob_expression(glob)) for number, glob in enumerate(self._globs))

    def _add(self, pattern: str) -> None:
        network = _network(pattern)
        if network is not None:
            kind = network.version, network.max_prefixlen - network.prefixlen
            key = int(network.network_address) >> kind[1]
            self._networks.setdefault(kind, {}).setdefault(key, []).append(pattern)
        elif _is_glob(pattern):
            if _readable(pattern):
                self._globs.append(pattern)
        else:
            self._names.setdefault(pattern.strip().lower(), []).append(pattern)

    def matching(self, hostname: str) -> list[str]:
        """The patterns that match, the most telling first: name, globs (longest first), networks (narrowest first)."""
        found = list(self._names.get(hostname.strip().lower(), ()))
        if self._globs:
            globs = [self._globs[number] for number in self._matcher.match(hostname.strip())]
            found += sorted(globs, key=lambda glob: (-len(glob), glob))
        if self._networks:
            found += self._networks_of(hostname)
        return found

    def _networks_of(self, hostname: str) -> list[str]:
        try:
            address = ip_address(hostname.strip())
        except ValueError:
            return []
        found: list[str] = []
        for version, shift in sorted(self._networks):
            if version == address.version:
                found += self._networks[version, shift].get(int(address) >> shift, ())
        return found


def check_host_pattern(pattern: str, field: str = "hostname") -> None:
    """Raise :class:`RuleError` where ``pattern`` is a broken network or glob."""
    if "/" in pattern and _network(pattern) is None:
        raise RuleError(field, f"{pattern!r} is no network; write one such as 10.20.0.0/16 or 2001:db8::/32")
    if _is_glob(pattern):
        check_expression(glob_expression(pattern), field)


def glob_expression(glob: str) -> str:
    """The re2 expression of a glob, read as ``fnmatch`` reads it."""
    return rf"\A{''.join(_glob_part(part) for part in _GLOB_PART.findall(glob.strip()))}\z"


def _glob_part(part: str) -> str:
    if part[0] == "*":
        return ".*"
    if part == "?":
        return "."
    if part[0] == "[" and len(part) > 1:
        negated = part[1] == "!"
        inside = part[2 if negated else 1 : -1]
        if inside:
            return f"[{'^' if negated else ''}{_CLASS_SIGN.sub(_ESCAPED, inside)}]"
    escaped: str = re2.escape(part)
    return escaped


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _readable(glob: str) -> bool:
    try:
        check_expression(glob_expression(glob))
    except RuleError:
        return False
    return True


#: What a pattern can be.
KINDS = ("name", "glob", "network")


def kind_of(pattern: str) -> str:
    """Which of KINDS a pattern is."""
    if _network(pattern) is not None:
        return "network"
    return "glob" if _is_glob(pattern) else "name"


def _network(pattern: str) -> Network | None:
    try:
        return ip_network(pattern.strip(), strict=False)
    except ValueError:
        return None
