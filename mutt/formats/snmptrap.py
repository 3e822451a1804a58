"""``snmptrap``: a trap as a JSON object, under the key names that trap receivers use; there is no standard."""

from __future__ import annotations

from mutt.errors import RejectedItem
from mutt.formats import traps, values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.native import is_native, take_severity
from mutt.formats.objects import JsonFormat

_HOSTS = ("hostname", "host", "agent_address", "agent_addr", "source_ip", "source_address")
_MESSAGES = ("message", "msg", "description")
_TIMES = ("timestamp", "time")


class SnmpTrap(JsonFormat):
    name = "snmptrap"
    marks = traps.MARKS

    def claims(self, item: JsonObject) -> bool:
        """A trap that is not a native event already."""
        return not is_native(item) and traps.find(item).oid is not None

    def read(self, item: JsonObject, _context: Context) -> Fields:
        at, host = _first(item, _TIMES), _first(item, _HOSTS, unlike=traps.NO_ADDRESS)
        said, trap = _first(item, _MESSAGES), traps.find(item)
        if trap.oid is None:
            raise RejectedItem(
                "trap_oid", "is missing: give it, or the varbind snmpTrapOID.0, or generic_trap"
            )
        fields: Fields = {
            "hostname": item.pop(host, None),
            "message": item.pop(said, None) or traps.describe(trap.oid, trap.varbinds),
            "time": item.pop(at, None),
            "own_id": item.pop("event_id", None),
            "severity": take_severity(item),
            "source": self.name,
        }
        traps.mark(fields, trap, values.text(fields["message"]))
        for key in filter(None, trap.keys):
            item.pop(key, None)
        fields["tags"] = values.tags(item)
        return fields


def _first(item: JsonObject, keys: tuple[str, ...], unlike: str = "") -> str:
    """The first of ``keys`` that holds something; the first of all where none does."""
    return next((key for key in keys if item.get(key) not in (None, "", unlike)), keys[0])


FORMAT = SnmpTrap()
