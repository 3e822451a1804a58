"""``snmptrap``: a trap as a JSON object, under the key names that trap receivers use; there is no standard."""

from __future__ import annotations

from mutt.errors import RejectedItem
from mutt.formats import traps, values
from mutt.formats.base import Context, Fields, JsonFormat, JsonObject
from mutt.formats.native import take_severity

_OIDS = ("trap_oid", "snmp_trap_oid", "snmpTrapOID", "trapOID", "oid")
_HOSTS = ("hostname", "host", "agent_address", "agent_addr", "source_ip", "source_address")
_VARBINDS = ("varbinds", "variables", "variable_bindings")
_MESSAGES = ("message", "msg", "description")
_TIMES = ("timestamp", "time")

#: SNMP's password: it becomes no tag.
_COMMUNITY = "community"


class SnmpTrap(JsonFormat):
    name = "snmptrap"
    marks = frozenset({*_OIDS, "generic_trap"})

    def claims(self, item: JsonObject) -> bool:
        """A trap that is not a native event already."""
        return not ("hostname" in item and "message" in item) and _trap_oid(item) is not None

    def read(self, item: JsonObject, _context: Context) -> Fields:
        at, host = _first(item, _TIMES), _first(item, _HOSTS, unlike="0.0.0.0")  # noqa: S104  # SNMPv1's "no address"
        said, bound = _first(item, _MESSAGES), _first(item, _VARBINDS)
        binds, whole = traps.varbinds(item.get(bound))
        trap_oid = _trap_oid(item) or next(
            (b.value.lstrip(".") for b in binds if b.oid == traps.TRAP_OID), None
        )
        if trap_oid is None:
            raise RejectedItem("trap_oid", "is missing")
        fields: Fields = {
            "hostname": item.pop(host, None),
            "message": item.pop(said, None) or traps.describe(trap_oid, binds),
            "time": item.pop(at, None),
            "own_id": item.pop("event_id", None),
            "severity": take_severity(item),
            "source": self.name,
        }
        traps.mark(fields, trap_oid, binds, values.text(fields["message"]))
        for key in (*_OIDS, _COMMUNITY, *((bound,) if whole else ())):
            item.pop(key, None)
        fields["tags"] = values.tags(item)
        return fields


def _first(item: JsonObject, keys: tuple[str, ...], unlike: str = "") -> str:
    """The first of ``keys`` that holds something; the first of all where none does."""
    return next((key for key in keys if item.get(key) not in (None, "", unlike)), keys[0])


def _trap_oid(item: JsonObject) -> str | None:
    for key in _OIDS:
        if (found := traps.oid(item.get(key))) is not None:
            return found
    return _from_v1(item)


def _from_v1(item: JsonObject) -> str | None:
    """SNMPv1's generic number, or its enterprise and specific number, as the OID that RFC 3584 gives them."""
    generic, specific = _whole(item.get("generic_trap")), _whole(item.get("specific_trap"))
    if generic is not None and generic < len(traps.GENERIC):
        return traps.oid(traps.GENERIC[generic])
    enterprise = traps.oid(item.get("enterprise"))
    return f"{enterprise}.0.{specific}" if enterprise and generic == 6 and specific is not None else None


def _whole(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else None


FORMAT = SnmpTrap()
