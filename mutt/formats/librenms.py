"""``librenms``: an alert of LibreNMS by the names that it has for an alert: its transport Keephq, or a template."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mutt.event import State
from mutt.formats import values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat

_HOSTS = ("hostname", "sysName", "ip")
_DEVICES = frozenset({"device_id", "sysName"})

#: So many faults of an alert stand in its message.
_FAULTS = 3

#: What becomes no tag: it is long, or names people.
_UNTAGGED = ("faults", "contacts", "builder", "rule", "msg", "string")


class LibreNms(JsonFormat):
    name = "librenms"
    marks = frozenset({"rule_id"})

    def fits(self, keys: Collection[str]) -> bool:
        """A rule and a device, by LibreNMS' names; not a native event."""
        return not _DEVICES.isdisjoint(keys) and "message" not in keys

    def read(self, item: JsonObject, _context: Context) -> Fields:
        over = item.get("state") in (0, "0")
        key = f"librenms:{values.text(item.get('device_id'))}:{values.text(item.get('rule_id'))}"
        said = values.first(item, ("title", "name"))
        faults = _faults(item.get("faults"))
        shown = {
            key: value for key, value in item.items() if key not in _UNTAGGED and value not in (None, "")
        }
        return {
            "hostname": values.first(item, _HOSTS),
            "message": f"{said}: {faults}" if said and faults and not over else said,
            "time": values.first(item, ("time", "timestamp")),
            "severity": values.urgency(item.get("severity")),
            "state": State.CLEAR if over else State.RAISE,
            "source": self.name,
            "clear_key": key,
            "instance": key,
            "tags": values.tags(dict(values.flat(shown))),
        }


def _faults(given: Any) -> str:
    """What is wrong: the texts of the first faults. They are numbered from 1, in an object or an array."""
    listed = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else []
    told = [
        each["string"] for each in listed if isinstance(each, dict) and isinstance(each.get("string"), str)
    ]
    more = f" … and {len(told) - _FAULTS} more" if len(told) > _FAULTS else ""
    return " | ".join(text.strip().rstrip(";") for text in told[:_FAULTS]) + more


FORMAT = LibreNms()
