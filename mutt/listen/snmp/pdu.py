"""A trap's content as a JSON object of the format ``snmptrap``: its OID, and its varbinds with their types."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from pyasn1.codec.ber import decoder, encoder
from pyasn1.error import PyAsn1Error
from pyasn1.type import univ
from pysnmp.proto import api, rfc1902, rfc1905

from mutt.formats import traps

V1, V2C, V3 = 0, 1, 3

Json = dict[str, Any]

#: SNMPv1's generic trap that says "look at the specific one" (RFC 3584 3.1).
_ENTERPRISE_SPECIFIC = 6

#: An integer's kinds, the most special first: pysnmp's classes inherit.
_INTEGERS = (
    (rfc1902.Counter64, "Counter64"),
    (rfc1902.Counter32, "Counter32"),
    (rfc1902.TimeTicks, "Timeticks"),
    (rfc1902.Gauge32, "Gauge32"),
)

#: What a trap says of itself is of these types (RFC 3418, RFC 3584); of another it is a varbind like any.
_TYPES = {"uptime": "Timeticks", "trap_oid": "OID", "enterprise": "OID", "agent_address": "IpAddress"}

_SPEC_V1, _SPEC_V2 = api.v1.Message(), api.v2c.Message()
_INTEGER, _OCTETS = univ.Integer(), univ.OctetString()

#: Bytes of a datagram, and values in what is decoded of it: anybody may send one, and each value takes some 10 us.
#: RFC 3417 recommends datagrams of up to 1472 bytes, which hold some hundred varbinds of three values each.
MOST_BYTES, _MOST_VALUES = 8 << 10, 512

_SEQUENCE, _CONSTRUCTED = 0x30, 0x20
_LEAST_PARTS, _MOST_PARTS = 3, 4


class Dropped(Exception):
    """A datagram that is not taken: ``reason``, of a closed set, is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


UNREADABLE, NO_TRAP, COMMUNITY = "unreadable", "no trap", "unknown community"
TOO_LARGE, TOO_MANY = "too large", "too many values"

#: Not refused, but asked: how each sender of informs begins.
ASKED = "asked for the engine id"


def parts(data: bytes) -> list[bytes]:
    """The values of a message, a SEQUENCE: version, community, PDU; or v3's four. Raises :class:`Dropped`.

    None of them is looked into. What a stranger sends is not decoded before it is known who sent it: that takes time.
    """
    if len(data) > MOST_BYTES:
        raise Dropped(TOO_LARGE)
    at, end = within(data)
    if data[0] != _SEQUENCE or end != len(data):
        raise Dropped(UNREADABLE)
    found = list[bytes]()
    while at < end and len(found) < _MOST_PARTS:
        _, behind = within(data, at)
        found.append(data[at:behind])
        at = behind
    if at != end or len(found) < _LEAST_PARTS:
        raise Dropped(UNREADABLE)
    return found


def within(data: bytes, at: int = 0) -> tuple[int, int]:
    """Where the content of the value that is written from ``at`` on begins and ends. Raises :class:`Dropped`."""
    head = data[at : at + 6]
    more = head[1] & 0x7F if len(head) > 1 and head[1] & 0x80 else 0
    if len(head) < 2 + more or more > 4 or head[1] == 0x80:  # RFC 3417 8: lengths are definite
        raise Dropped(UNREADABLE)
    begin = at + 2 + more
    end = begin + (int.from_bytes(head[2 : 2 + more], "big") if more else head[1])
    if end > len(data):
        raise Dropped(UNREADABLE)
    return begin, end


def version(part: bytes) -> int:
    """The number that a message begins with. Raises :class:`Dropped`."""
    return int(decode(part, _INTEGER))


def octets(part: bytes) -> bytes:
    """An OCTET STRING's. Raises :class:`Dropped`."""
    return bytes(decode(part, _OCTETS))


def decode(data: bytes, spec: Any) -> Any:
    """One BER value, and nothing behind it. Raises :class:`Dropped`, whatever the sender wrote."""
    _check_count(data)
    try:
        found, rest = decoder.decode(data, asn1Spec=spec)
    # pyasn1 raises what it stumbles over, and these are a stranger's bytes.
    except (PyAsn1Error, ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, OverflowError,
            MemoryError):  # fmt: skip
        raise Dropped(UNREADABLE) from None
    if rest:
        raise Dropped(UNREADABLE)
    return found


def _check_count(data: bytes) -> None:
    """Raises :class:`Dropped` where too many values stand in ``data``, inside one another or not."""
    at = count = 0
    while at < len(data):
        begin, end = within(data, at)
        at = begin if data[at] & _CONSTRUCTED else end
        count += 1
        if count > _MOST_VALUES:
            raise Dropped(TOO_MANY)


def message(data: bytes, number: int) -> tuple[Any, Any]:
    """(the PDU, the message) of SNMPv1 or v2c. Raises :class:`Dropped`."""
    found = decode(data, _SPEC_V1 if number == V1 else _SPEC_V2)
    proto = api.v1 if number == V1 else api.v2c
    return proto.apiMessage.get_pdu(found), found


def is_inform(pdu: Any) -> bool:
    """Does its sender wait for an answer?"""
    return pdu.isSameTypeWith(rfc1905.InformRequestPDU(), matchConstraints=False)


def response(pdu: Any) -> Any:
    """The PDU that answers an inform: it holds the same (RFC 3416 4.2.7)."""
    answer = api.v2c.apiPDU.get_response(pdu)
    api.v2c.apiPDU.set_varbinds(answer, api.v2c.apiPDU.get_varbinds(pdu))
    return answer


def community_response(found: Any) -> bytes:
    """The message that answers ``found``, an inform of SNMPv2c."""
    answer = api.v2c.apiMessage.get_response(found)
    api.v2c.apiMessage.set_pdu(answer, response(api.v2c.apiMessage.get_pdu(found)))
    return bytes(encoder.encode(answer))


def from_v1(pdu: Any) -> Json:
    """Of SNMPv1's Trap-PDU. Raises :class:`Dropped` for another."""
    if not pdu.isSameTypeWith(api.v1.TrapPDU(), matchConstraints=False):
        raise Dropped(NO_TRAP)
    trap = api.v1.apiTrapPDU
    enterprise, generic = str(trap.get_enterprise(pdu)), int(trap.get_generic_trap(pdu))
    specific = int(trap.get_specific_trap(pdu))
    binds = _varbinds(trap.get_varbinds(pdu))
    own = f"{enterprise}.0.{specific}" if generic == _ENTERPRISE_SPECIFIC else traps.generic(generic)
    if own is None:
        raise Dropped(NO_TRAP)
    return {
        "version": "1",
        "trap_oid": own,
        "agent_address": _address(trap.get_agent_address(pdu)),
        "enterprise": enterprise,
        "uptime": int(trap.get_timestamp(pdu)),
        "varbinds": [bind for bind in binds if not traps.about(bind["oid"])],
    }


def from_v2(pdu: Any) -> Json:
    """Of a trap or inform of v2c or v3. Raises :class:`Dropped` for another PDU, and for one that names no trap."""
    if not (is_inform(pdu) or pdu.isSameTypeWith(rfc1905.SNMPv2TrapPDU(), matchConstraints=False)):
        raise Dropped(NO_TRAP)
    found: Json = {}
    varbinds: list[Json] = []
    for bind in _varbinds(api.v2c.apiPDU.get_varbinds(pdu)):
        said = traps.about(bind["oid"])
        if said not in found and _TYPES.get(said) == bind["type"]:
            found[said] = bind["value"]
        elif said != "community":  # a proxy's (RFC 3584), and a password
            varbinds.append(bind)
    if not found.get("trap_oid"):
        raise Dropped(NO_TRAP)
    return {**found, "varbinds": varbinds}


def _varbinds(binds: Any) -> Iterator[Json]:
    for oid, value in binds:
        kind, plain = _plain(value)
        yield {"oid": str(oid), "type": kind, "value": plain}


def _plain(value: Any) -> tuple[str, Any]:
    """(a value's type by net-snmp's name for it, the value in JSON)."""
    if isinstance(value, univ.Null):  # also noSuchObject and its like
        return "NULL", None
    if isinstance(value, univ.ObjectIdentifier):
        return "OID", str(value)
    if isinstance(value, rfc1902.IpAddress):
        return "IpAddress", _address(value)
    if isinstance(value, univ.Integer):
        return next((name for kind, name in _INTEGERS if isinstance(value, kind)), "INTEGER"), int(value)
    return _octets(bytes(value), opaque=isinstance(value, rfc1902.Opaque))


def _octets(data: bytes, *, opaque: bool) -> tuple[str, str]:
    """A text, if it is one; else octets in hexadecimal."""
    try:
        text = data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        text = ""
    if (text or not data) and not opaque and all(sign.isprintable() or sign.isspace() for sign in text):
        return "STRING", text
    return ("Opaque" if opaque else "Hex-STRING"), data.hex(" ").upper()


def _address(value: Any) -> str:
    data = bytes(value)
    return str(ipaddress.IPv4Address(data)) if len(data) == 4 else data.hex(":")
