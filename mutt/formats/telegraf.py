"""``telegraf``: what outputs.http posts with ``data_format = "json"``: traps and syslog as events, a metric as text."""

from __future__ import annotations

from typing import Any

from mutt.errors import RejectedItem
from mutt.formats import traps, values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat

_METRIC = frozenset({"name", "tags", "fields", "timestamp"})

#: Which tag names the device. ``host``, the machine that Telegraf itself runs on, comes last, and for a trap never.
_HOSTS = ("hostname", "source", "agent_host", "host")
_TRAP_HOSTS = ("agent_address", "source")

#: What these plugins measure stands in a tag of their own.
_MEASURED = {"ping": "url", "net_response": "server"}

#: Tags and fields of syslog that the event itself says.
_SYSLOG_SAID = ("severity", "facility", "severity_code", "facility_code", "version", "timestamp")


class Telegraf(JsonFormat):
    name = "telegraf"
    answers = Answers(none_taken=202)  # it repeats whatever got no 2xx, and what comes after waits behind it
    marks = frozenset({"metrics", "fields"})
    inside = "metrics"

    def claims(self, item: JsonObject) -> bool:
        """A batch holds nothing else; a metric has four keys, and is no native event beside."""
        if item.keys() == {"metrics"}:
            return isinstance(item["metrics"], list)
        return item.keys() >= _METRIC and not ("hostname" in item and "message" in item)

    def read(self, item: JsonObject, _context: Context) -> Fields:
        name, fields = item.get("name"), item.get("fields")
        if not isinstance(name, str) or not name.strip():
            raise RejectedItem("name", 'is no text: send metrics as data_format = "json" writes them')
        if not isinstance(fields, dict):
            raise RejectedItem("fields", 'are no object: send metrics as data_format = "json" writes them')
        tags = values.tags(values.inner(item, "tags"))
        read = _PLUGINS.get(name, _metric)(name, tags, fields)
        read.setdefault("time", item.get("timestamp"))
        read["source"] = self.name
        return read


def _trap(_name: str, tags: dict[str, str], fields: JsonObject) -> Fields:
    about, binds = traps.parted(traps.varbinds(fields)[0])
    trap_oid = traps.oid(tags.pop("oid", None))
    if trap_oid is None:
        raise RejectedItem(
            "tags.oid", "is missing: send the tags of inputs.snmp_trap, of which this names the trap"
        )
    tags.pop("community", None)  # SNMP's password
    read: Fields = {
        "hostname": _take(tags, _TRAP_HOSTS, unlike=traps.NO_ADDRESS),
        "message": traps.describe(tags.get("name") or trap_oid, binds),
        "tags": about | tags,
    }
    traps.mark(read, traps.Trap(trap_oid, binds, ()), "")
    return read


def _syslog(name: str, tags: dict[str, str], fields: JsonObject) -> Fields:
    said = values.first(fields, ("message", "msgid"))
    read: Fields = {
        "hostname": _take(tags, _HOSTS),
        "message": _described(name, tags, fields) if said is None else said,
        "severity": values.severity(values.first({**tags, **fields}, ("severity_code", "severity"))),
        "facility": values.facility(values.first({**tags, **fields}, ("facility_code", "facility"))),
        "program": tags.pop("appname", None),
        "tags": _together(tags, fields, without=("message", *_SYSLOG_SAID)),
    }
    if (at := fields.get("timestamp")) is not None:
        read["time"] = at
    return read


def _metric(name: str, tags: dict[str, str], fields: JsonObject) -> Fields:
    said = values.first(fields, ("message",))
    message = said if isinstance(said, str) else _described(name, tags, fields)
    measured = _MEASURED.get(name)
    return {
        "hostname": _take(tags, (measured, *_HOSTS) if measured else _HOSTS),
        "message": message,
        "severity": values.severity(tags.get("severity")),
        "program": name,
        "tags": _together(tags, fields, without=("message",) if message is said else ()),
    }


def _described(name: str, tags: dict[str, str], fields: JsonObject) -> str:
    """``cpu usage_idle=98.5 (cpu=cpu0, host=web-1)``."""
    about = ", ".join(f"{key}={value}" for key, value in tags.items())
    measured = [f"{key}={value}" for key, value in values.tags(fields).items()]
    return " ".join([name, *measured, *([f"({about})"] if about else [])])


def _together(tags: dict[str, str], fields: JsonObject, without: tuple[str, ...]) -> dict[str, str]:
    """Tags, and the fields beside them; one that a tag has the name of is ``fields.<name>``."""
    for key, value in values.tags(fields).items():
        tags[f"fields.{key}" if key in tags else key] = value
    return {key: value for key, value in tags.items() if key not in without}


def _take(tags: dict[str, str], keys: tuple[str, ...], unlike: str = "") -> Any:
    """The first of these tags that says something, taken out; None where none does."""
    found = next((key for key in keys if tags.get(key) not in (None, "", unlike)), "")
    return tags.pop(found, None)


_PLUGINS = {"snmp_trap": _trap, "syslog": _syslog}

FORMAT = Telegraf()
