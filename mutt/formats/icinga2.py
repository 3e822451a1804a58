"""``icinga2``: a notification of Icinga 2 or Nagios by script, and the notifications of Icinga's event stream."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mutt.event import State
from mutt.formats import values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.native import is_native
from mutt.formats.objects import JsonFormat

_HOSTS = ("host", "hostname", "host_name", "hostdisplay", "address")
_SERVICES = ("service", "service_desc", "service_name", "servicedisplay")
_STATES = ("state", "service_state", "host_state")
_OUTPUTS = ("output", "message", "service_output", "host_output")
_TIMES = ("time", "timestamp", "datetime")

_FLAPPING = "FLAPPING"
_WELL = ("OK", "UP")

#: The states that Icinga counts: of a service, of a host, and of a host's check.
_OF_SERVICE, _OF_HOST, _OF_CHECK = (
    ("OK", "WARNING", "CRITICAL", "UNKNOWN"),
    ("UP", "DOWN"),
    ("UP", "UP", "DOWN", "DOWN"),
)

#: Those whose text says it all; any other type (ACKNOWLEDGEMENT, DOWNTIMESTART, CUSTOM …) stands in the message.
_PLAIN = ("PROBLEM", "RECOVERY", "")


class Icinga2(JsonFormat):
    name = "icinga2"
    marks = frozenset({"notification_type", "check_result"})

    def fits(self, keys: Collection[str]) -> bool:
        """With a type of notification, or with a check's result beside its host."""
        hosts = ("host",) if "check_result" in keys else ("host", "hostname", "host_name")
        return any(key in keys for key in hosts) and not is_native(keys)

    def read(self, item: JsonObject, _context: Context) -> Fields:
        kind = values.text(item.get("notification_type") or "").strip().upper()
        service, result = _name(values.first(item, _SERVICES)), values.inner(item, "check_result")
        status = _status(item, result, service)
        output = values.first(item, _OUTPUTS) or values.first(result, ("output",))
        what = f"{self.name} flapping" if kind.startswith(_FLAPPING) else self.name
        key = f"{what}:{service}" if service else what  # a service may be called anything, host too
        return {
            "hostname": _name(values.first(item, _HOSTS)),
            "message": _message(item, kind, f"{service or 'Host'} is {status}", output),
            "time": values.first(item, _TIMES) or result.get("execution_end"),
            "own_id": item.pop("event_id", None),
            "severity": values.urgency(status),
            "state": _state(kind, status),
            "source": self.name,
            "clear_key": key,
            "instance": key,
            "tags": _tags(item),
        }


def _name(value: Any) -> Any:
    """A host's or a service's name, where it stands alone or in an object."""
    return value.get("name") if isinstance(value, dict) else value


def _status(item: JsonObject, result: JsonObject, service: Any) -> str:
    """The word for how the host or service is."""
    said = values.first(item, _STATES)
    counted = (
        (_OF_SERVICE if service else _OF_HOST)
        if said is not None
        else (_OF_SERVICE if service else _OF_CHECK)
    )
    said = values.first(result, ("state", "exit_status")) if said is None else said
    if isinstance(said, str):
        return said.strip().upper()
    return counted[int(said)] if type(said) in (int, float) and 0 <= said < len(counted) else "UNKNOWN"


def _state(kind: str, status: str) -> State:
    """Flapping begins and ends whatever the check says meanwhile."""
    if kind.startswith(_FLAPPING):
        return State.CLEAR if kind.endswith(("END", "STOP", "DISABLED")) else State.RAISE
    return State.CLEAR if kind == "RECOVERY" or status in _WELL else State.RAISE


def _message(item: JsonObject, kind: str, told: str, output: Any) -> str:
    told = f"{told}: {output}" if output else told
    if kind in _PLAIN:
        return told
    by, comment = item.get("author"), values.first(item, ("comment", "text"))
    return f"{kind}{f' by {by}' if by else ''}{f' ({comment})' if comment else ''}; {told}"


def _tags(item: JsonObject) -> dict[str, str]:
    nested = dict(values.flat({key: value for key, value in item.items() if value not in (None, "", {}, [])}))
    for key in (*_OUTPUTS, *_TIMES, "check_result.output"):
        nested.pop(key, None)
    return nested


FORMAT = Icinga2()
