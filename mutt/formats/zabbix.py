"""``zabbix``: what a webhook of Zabbix posts: its media type's parameters, under the names that Zabbix' own have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from mutt.errors import RejectedItem
from mutt.event import State
from mutt.formats import values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.native import is_native
from mutt.formats.objects import JsonFormat

_HOSTS = ("host_host", "host", "service", "host_name", "hostname", "host_dns", "host_ip")
_NAMES = ("event_name", "name", "trigger_name", "subject", "alert_subject", "message", "alert_message")
_EVENTS = ("event_id", "id")
_TRIGGERS = ("trigger_id", "triggerId")
_VALUES = ("event_value", "value")
_STATUSES = ("event_status", "status", "trigger_status")
_SEVERITIES = ("event_severity", "severity", "trigger_severity")
_NUMBERS = ("event_nseverity", "trigger_nseverity")

#: The names of an event and of its value, in Zabbix' own media types and in Keep's.
_KNOWN = (frozenset({"event_id", "event_value"}), frozenset({"triggerId", "value"}))

#: syslog's severity of Zabbix' 0 to 5: not classified, information, warning, average, high, disaster.
_SEVERITY = (6, 6, 4, 3, 2, 1)

#: What becomes of a macro that says nothing.
_UNKNOWN = "*UNKNOWN*"


class Zabbix(JsonFormat):
    name = "zabbix"
    answers = Answers(none_taken=202)  # a script can't end without success and not be called again
    marks = frozenset({"event_value", "triggerId"})

    def fits(self, keys: Collection[str]) -> bool:
        return any(both.issubset(keys) for both in _KNOWN) and not is_native(keys)

    def read(self, item: JsonObject, _context: Context) -> Fields:
        said = {key: value for key, value in item.items() if _says(value)}
        event, trigger = values.first(said, _EVENTS), values.first(said, _TRIGGERS)
        if event is None:
            raise RejectedItem("event_id", "is missing: give the media type a parameter event_id, {EVENT.ID}")
        state, updated = _state(said), _is_one(said.get("event_update_status"))
        part = "event_update" if updated else "event_recovery" if state is State.CLEAR else "event"
        host = values.first(said, _HOSTS)
        at = " ".join(values.text(said[key]) for key in (f"{part}_date", f"{part}_time") if key in said)
        fields: Fields = {
            "hostname": host,
            "message": _message(said, updated),
            "time": values.first(said, ("event_datetime_timestamp",)) or at,
            # With the host: another Zabbix counts its events from 1, too, and may send by the same key.
            "own_id": f"zabbix:{values.text(event)}:{state}:{at if updated else ''}:{values.text(host)}",
            "severity": _severity(said),
            "state": state,
            "source": self.name,
            "clear_key": f"zabbix:{values.text(event)}",
            "instance": f"zabbix:{values.text(event if trigger is None else trigger)}",
        }
        fields["tags"] = _tags(said)
        return fields


def _says(value: Any) -> bool:
    """A macro that is not known stays as it was written: ``{EVENT.RECOVERY.DATE}`` of a problem."""
    if not isinstance(value, str):
        return value is not None
    return value not in ("", _UNKNOWN) and not (
        value[0] == "{" and value[-1] == "}" and value[1:-1].isupper()
    )


def _is_one(value: Any) -> bool:
    return value in (1, "1")


def _state(said: JsonObject) -> State:
    """By the event's value, 1 or 0; else by the word for its status."""
    value = values.first(said, _VALUES)
    if value in (0, "0"):
        return State.CLEAR
    return State.RAISE if _is_one(value) else values.state(values.first(said, _STATUSES)) or State.RAISE


def _severity(said: JsonObject) -> int | None:
    number = values.text(values.first(said, _NUMBERS))
    if number.isdecimal() and len(number) == 1 and int(number) < len(_SEVERITY):
        return _SEVERITY[int(number)]
    return values.urgency(values.first(said, _SEVERITIES))


def _message(said: JsonObject, updated: bool) -> Any:
    name = values.first(said, _NAMES)
    if not updated or name is None:
        return name
    did = " ".join(
        values.text(said[key]) for key in ("event_update_user", "event_update_action") if key in said
    )
    told = f"{did or 'updated'}: {values.text(name)}"
    note = said.get("event_update_message")
    return f"{told} ({values.text(note)})" if note is not None else told


def _tags(said: JsonObject) -> dict[str, str]:
    own = _event_tags(said.pop("event_tags", None) or said.pop("tags", None))
    return values.tags(said) | {f"tag.{name}": value for name, value in own.items()}


def _event_tags(given: Any) -> dict[str, str]:
    """Zabbix' tags of an event: ``[{"tag", "value"}]``, that as text ({EVENT.TAGSJSON}), or ``{tag: [value]}``."""
    if isinstance(given, str):
        try:
            given = values.clean(msgspec.json.decode(given))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return {}
    if isinstance(given, dict):
        given = [{"tag": name, "value": each} for name, each in given.items()]
    found: dict[str, str] = {}
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict) and isinstance(name := one.get("tag"), str):
            value = one.get("value", "")
            told = ", ".join(map(values.text, value)) if isinstance(value, list) else values.text(value)
            found[name] = f"{found[name]}, {told}" if name in found else told
    return found


FORMAT = Zabbix()
