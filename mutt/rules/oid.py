"""OIDs: matched on component boundaries, leading and trailing dots ignored."""

from __future__ import annotations

from collections.abc import Iterable


def normal(oid: str) -> str:
    """``oid`` without surrounding blanks and dots."""
    return oid.strip(" .\t\r\n")


def under(oid: str, prefix: str) -> bool:
    """Is ``oid`` the (normal) ``prefix``, or below it?"""
    return f"{normal(oid)}.".startswith(f"{prefix}.")


class OidPrefixes:
    """Many OID prefixes; one look-up for each length that occurs among them."""

    def __init__(self, prefixes: Iterable[tuple[int, str]]) -> None:
        """``prefixes`` are (index, OID)."""
        self._by_prefix: dict[tuple[str, ...], list[int]] = {}
        for index, prefix in prefixes:
            self._by_prefix.setdefault(_components(prefix), []).append(index)
        self._depths = sorted({len(prefix) for prefix in self._by_prefix})

    def match(self, oid: str) -> list[int]:
        """The indices of all prefixes that ``oid`` is, or is below."""
        components = _components(oid)
        found: list[int] = []
        for depth in self._depths:
            if depth > len(components):
                break
            found += self._by_prefix.get(components[:depth], ())
        return found


def _components(oid: str) -> tuple[str, ...]:
    return tuple(normal(oid).split("."))
