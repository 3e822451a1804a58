"""``native``: MUTT's own JSON, a flat object with ``hostname`` and ``message``; every other key is kept as a tag."""

from __future__ import annotations

from collections.abc import Collection

from mutt.formats import traps, values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat

#: Objects whose keys are tags.
_NESTED = ("tags", "metadata")

#: What few events have: asked for once, so that the others need not be asked for each.
_DETAILS = frozenset({*_NESTED, "facility", "state", "clear_key", *traps.MARKS})


class Native(JsonFormat):
    name = "native"

    def read(self, item: JsonObject, _context: Context) -> Fields:
        take, plain = item.pop, _DETAILS.isdisjoint(item)
        nested = [] if plain else [(name, take(name)) for name in _NESTED if isinstance(item.get(name), dict)]
        fields: Fields = {
            "hostname": take("hostname", None),
            "message": take("message", None),
            "time": take("timestamp", None),
            "own_id": take("event_id", None),
            "severity": take_severity(item),
            "source": _take_source(item),
        }
        if "program" in item:
            fields["program"] = _text_or_none(take("program"))
        if not plain:
            _take_details(item, fields)
            _take_trap(item, fields)
        fields["tags"] = tags = values.tags(item)
        for name, value in nested:
            _add_nested(name, value, tags)
        return fields


def is_native(keys: Collection[str]) -> bool:
    """What says this needs no other format, whatever else it holds."""
    return "hostname" in keys and "message" in keys


def take_severity(item: JsonObject) -> int | None:
    """``syslog_severity``, else ``severity``. The one that was not read, or can't be, is left in ``item``."""
    said = item.get("syslog_severity")
    if type(said) is int and 0 <= said <= 7:  # most senders: straight to the point
        del item["syslog_severity"]
        return said
    for key in ("syslog_severity", "severity"):
        value = item.pop(key, None)
        if value is not None:
            found = values.severity(value)
            if found is not None:
                return found
            item[key] = value
    return None


def _take_source(item: JsonObject) -> str:
    for key in ("source", "source_type"):
        value = item.get(key)
        if value and isinstance(value, str):
            del item[key]
            return value
    return "native"


def _take_details(item: JsonObject, fields: Fields) -> None:
    """What an event may have or not; a word that says nothing to MUTT is left in ``item``."""
    if "facility" in item and (facility := values.facility(item["facility"])) is not None:
        fields["facility"] = facility
        del item["facility"]
    if "state" in item and (state := values.state(item["state"])) is not None:
        fields["state"] = state
        del item["state"]
    if "clear_key" in item:
        fields["clear_key"] = _text_or_none(item.pop("clear_key"))


def _text_or_none(value: object) -> str | None:
    return None if value is None else values.text(value)


def _take_trap(item: JsonObject, fields: Fields) -> None:
    if traps.MARKS.isdisjoint(item):
        return
    trap, message = traps.find(item), fields["message"]
    for key in filter(None, trap.keys):
        item.pop(key, None)
    if trap.oid is not None or trap.varbinds:
        traps.mark(fields, trap, message if isinstance(message, str) else "")


def _add_nested(name: str, value: JsonObject, tags: dict[str, str]) -> None:
    """Flattened into ``tags``; where the event has a key itself, as ``<name>.<key>``."""
    for key, inner in values.flat(value):
        tags[f"{name}.{key}" if key in tags else key] = inner


FORMAT = Native()
