"""What MUTT knows of SNMP: OIDs without leading dots, varbinds in their spellings, interfaces that go down and up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mutt.event import State, Varbind
from mutt.formats.base import Fields
from mutt.formats.values import text

#: RFC 3418's traps, in the order of SNMPv1's generic-trap numbers.
GENERIC = ("coldStart", "warmStart", "linkDown", "linkUp", "authenticationFailure", "egpNeighborLoss")
_TRAPS = "1.3.6.1.6.3.1.1.5."
NAMES = {f"{_TRAPS}{number}": name for number, name in enumerate(GENERIC, start=1)}
_OIDS = {name.lower(): oid for oid, name in NAMES.items()}

LINK_DOWN, LINK_UP = f"{_TRAPS}3", f"{_TRAPS}4"

#: The varbind that carries a v2 trap's own OID.
TRAP_OID = "1.3.6.1.6.3.1.1.4.1.0"

#: Where senders write a trap's OID, and its varbinds.
_OID_KEYS = ("trap_oid", "snmp_trap_oid", "snmpTrapOID", "trapOID", "oid")
_VARBIND_KEYS = ("varbinds", "variables", "variable_bindings")
#: An object without any of these is no trap.
MARKS = frozenset({*_OID_KEYS, "generic_trap", *_VARBIND_KEYS})

#: What an SNMPv1 agent gives as its own address where it has none to give.
NO_ADDRESS = "0.0.0.0"  # noqa: S104

#: SNMP's password: it becomes no tag.
_COMMUNITY = "community"

#: Varbinds that speak of the trap itself, by OID and by name (RFC 3418, RFC 3584): what its event calls them.
_ABOUT = {
    "1.3.6.1.2.1.1.3.0": "uptime",
    "sysUpTimeInstance": "uptime",
    "sysUpTime.0": "uptime",
    TRAP_OID: "trap_oid",
    "snmpTrapOID.0": "trap_oid",
    "1.3.6.1.6.3.1.1.4.3.0": "enterprise",
    "snmpTrapEnterprise.0": "enterprise",
    "1.3.6.1.6.3.18.1.3.0": "agent_address",
    "snmpTrapAddress.0": "agent_address",
    "1.3.6.1.6.3.18.1.4.0": _COMMUNITY,
    "snmpTrapCommunity.0": _COMMUNITY,
}

_IF_TABLE, _IFX_TABLE = "1.3.6.1.2.1.2.2.1.", "1.3.6.1.2.1.31.1.1.1."
_COLUMNS = {
    f"{_IF_TABLE}1": "ifIndex",
    f"{_IF_TABLE}2": "ifDescr",
    f"{_IF_TABLE}7": "ifAdminStatus",
    f"{_IF_TABLE}8": "ifOperStatus",
    f"{_IFX_TABLE}1": "ifName",
    f"{_IFX_TABLE}18": "ifAlias",
}
_OID = re.compile(r"[0-2](?:\.\d+){2,}|[\w-]+::\S+", re.ASCII)
_INTERFACE = re.compile(
    r"(1\.3\.6\.1\.2\.1\.(?:2\.2\.1|31\.1\.1\.1)\.\d+|(?:[\w-]+::)?if[A-Z]\w*)\.(\d+)", re.ASCII
)
_IN_TEXT = re.compile(r"\bifIndex(?:\.\d+)?\s*[=:]\s*(?:INTEGER:\s*)?(\d+)", re.ASCII)
_POWERSHELL = re.compile(r"\s*oid=(?P<oid>[^;]*);\s*value=(?P<value>.*)\}", re.S)


class Trap(NamedTuple):
    """What makes an object a trap."""

    oid: str | None
    varbinds: tuple[Varbind, ...]
    keys: tuple[str, ...]  #: those of the object that are wholly read, or are nobody's business; "" is none


def find(item: Mapping[str, Any]) -> Trap:
    """The OID of its own key, of the varbind snmpTrapOID.0, or made of SNMPv1's numbers; and the varbinds."""
    written = [key for key in _VARBIND_KEYS if key in item]
    bound = next((key for key in written if item[key]), written[0] if written else "")
    binds, whole = varbinds(item.get(bound))
    key, found = _own_oid(item)
    if found is None:
        found = next((oid(bind.value) for bind in binds if _names_the_trap(bind)), None) or _from_v1(item)
    taken = (key, bound) if whole else (key,)
    return Trap(found, binds, taken if found is None else (*taken, _COMMUNITY))


def _own_oid(item: Mapping[str, Any]) -> tuple[str, str | None]:
    for key in _OID_KEYS:
        found = oid(item.get(key))
        if found is not None and (key != "oid" or _OID.fullmatch(found)):  # many things are called so
            return key, found
    return "", None


def about(name: str) -> str:
    """What a varbind of this OID says of the trap itself, by the name for it; empty: it is one of the trap's own."""
    return _ABOUT.get(name.rpartition("::")[2], "")


def generic(number: int) -> str | None:
    """The OID of SNMPv1's generic trap of this number; None where it has none."""
    return f"{_TRAPS}{number + 1}" if 0 <= number < len(GENERIC) else None


def _names_the_trap(bind: Varbind) -> bool:
    return about(bind.oid) == "trap_oid"


def parted(binds: tuple[Varbind, ...]) -> tuple[dict[str, str], tuple[Varbind, ...]]:
    """(uptime, trap_oid, enterprise, agent_address: what varbinds say of the trap itself; the trap's own varbinds).

    The first of a kind counts: a text with line breaks can add others behind it.
    """
    said: dict[str, str] = {}
    for bind in binds:
        said.setdefault(about(bind.oid), bind.value.removeprefix("."))
    for key in ("", _COMMUNITY):
        said.pop(key, None)
    return said, tuple(bind for bind in binds if not about(bind.oid))


def _from_v1(item: Mapping[str, Any]) -> str | None:
    """SNMPv1's generic number, or its enterprise and specific number, as the OID that RFC 3584 gives them."""
    generic, specific = _whole(item.get("generic_trap")), _whole(item.get("specific_trap"))
    if generic is not None and generic < len(GENERIC):
        return oid(GENERIC[generic])
    enterprise = oid(item.get("enterprise"))
    return f"{enterprise}.0.{specific}" if enterprise and generic == 6 and specific is not None else None


def _whole(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else None


def oid(value: Any) -> str | None:
    """An OID without leading dots; the names of RFC 3418's traps are known. None for what is no text."""
    if not isinstance(value, str):
        return None
    word = value.strip().lstrip(".")
    if word.startswith("iso."):
        word = "1" + word[3:]
    return _OIDS.get(word.rpartition("::")[2].lower(), word) or None


def varbinds(value: Any) -> tuple[tuple[Varbind, ...], bool]:
    """(varbinds, was everything read) of a list of ``{oid, value}``, of ``{oid: value}``, or of the text
    ``@{oid=…; value=…}``."""
    found = tuple(_varbinds(value))
    whole = tuple(bind for bind in found if bind is not None)
    said = tuple(bind for bind in whole if about(bind.oid) != _COMMUNITY)
    return said, bool(whole or not value) and len(whole) == len(found)


def _varbinds(value: Any) -> Iterator[Varbind | None]:
    if isinstance(value, str):
        for written in value.split("@{")[1:] or [""]:
            found = _POWERSHELL.fullmatch(written.rstrip(" \t\r\n,;"))
            yield _varbind(found["oid"], found["value"]) if found else None
    elif isinstance(value, list):
        for inner in value:
            yield from _listed(inner)
    elif isinstance(value, dict):
        yield from (_varbind(key, inner) for key, inner in value.items())
    elif value is not None:
        yield None


def _listed(value: Any) -> Iterator[Varbind | None]:
    if isinstance(value, dict):
        name = value.get("oid", value.get("name"))
        yield _varbind(name, value.get("value")) if name is not None else None
    elif isinstance(value, str):
        yield from _varbinds(value)
    else:
        yield None


def _varbind(name: Any, value: Any) -> Varbind | None:
    known = oid(name)
    return None if known is None else Varbind(known, "" if value is None else text(value))


def instance(binds: tuple[Varbind, ...], message: str = "") -> str | None:
    """The ifIndex that a trap speaks of: of its varbinds from ifTable and ifXTable, else of ``ifIndex=N`` in its text.

    No other table is asked: the last number of an OID is often a running number (a log's), and each trap
    would be an object of its own.
    """
    named = [(found[1], found[2], bind.value) for bind in binds if (found := _INTERFACE.fullmatch(bind.oid))]
    for column, _, value in named:
        if _column(column) == "ifIndex" and value.strip().isdecimal():
            return value.strip()
    indexes = {index for _, index, _ in named}
    if indexes:
        return indexes.pop() if len(indexes) == 1 else None
    found = _IN_TEXT.search(message)
    return found[1] if found else None


def _column(name: str) -> str:
    return _COLUMNS.get(name) or name.rpartition("::")[2]


def describe(trap_oid: str | None, binds: tuple[Varbind, ...]) -> str:
    """A sentence for a trap that brought none: its name or OID, then its varbinds."""
    named = NAMES.get(trap_oid or "", trap_oid or "trap")
    return " ".join(
        [named, *(f"{_readable(bind.oid)}={bind.value}" for bind in binds if not _names_the_trap(bind))]
    )


def _readable(name: str) -> str:
    found = _INTERFACE.fullmatch(name)
    return f"{_column(found[1])}.{found[2]}" if found and found[1] in _COLUMNS else name


def mark(fields: Fields, trap: Trap, message: str) -> None:
    """Write what a trap means into ``fields``: its OID and varbinds, whom it speaks of, what it raises or ends."""
    index = instance(trap.varbinds, message)
    fields["trap_oid"], fields["varbinds"], fields["instance"] = trap.oid, trap.varbinds, index
    if trap.oid in (LINK_DOWN, LINK_UP):
        fields["state"] = State.CLEAR if trap.oid == LINK_UP else State.RAISE
        if index is not None:
            fields["clear_key"] = f"link:{index}"
