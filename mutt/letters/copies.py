"""Copies: what of an event or an alert may be changed, and how it is written as text. Pure.

A change is given as text (a form, ``--set``) or as a JSON value (a file). What is not given stays as it is, to the
byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from mutt.alert import LANE_OF, Alert
from mutt.errors import Refused
from mutt.event import Event, State, Varbind
from mutt.formats import times, values
from mutt.formats.base import CLEAR_KEY_MAX, HOSTNAME_MAX

Reader = Callable[[str, Any], Any]

#: Characters of a field's text.
TEXT_MAX = 1 << 20


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(field, "must be text")
    if len(value) > TEXT_MAX:
        raise Refused(field, f"is {len(value)} characters long; at most {TEXT_MAX} are taken")
    return values.clean_text(value)


def _needed(field: str, value: Any) -> str:
    text = _text(field, value)
    if not text or text.isspace():
        raise Refused(field, "is empty; write something")
    return text


def _hostname(field: str, value: Any) -> str:
    name = _needed(field, value).strip()
    if len(name) > HOSTNAME_MAX:
        raise Refused(field, f"is {len(name)} characters long; at most {HOSTNAME_MAX} are taken")
    return name


def _maybe(field: str, value: Any) -> str | None:
    return None if value is None else _text(field, value) or None


def _severity(field: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    found = values.severity(value)
    if found is None:
        raise Refused(field, f"{value!r} is no severity; write 0 (emergency) to 7 (debug), or nothing")
    return found


def _moog_severity(field: str, value: Any) -> int:
    text = str(value).strip()
    if text not in ("1", "2", "3", "4", "5"):
        raise Refused(field, f"{value!r} is no severity of Moog's; write 1 (indeterminate) to 5 (critical)")
    return int(text)


def _state(field: str, value: Any) -> State:
    found = values.state(value)
    if found is None:
        raise Refused(field, f"{value!r} is no state; write raise or clear")
    return found


def _time(field: str, value: Any) -> datetime:
    # A time without a year would be read as of now.
    found = times.read(value, datetime.now(UTC))
    if found is None:
        raise Refused(field, f"{value!r} is no time; write it as 2026-01-31T12:00:00Z")
    return found


def _clear_key(field: str, value: Any) -> str | None:
    key = _maybe(field, value)
    if key and len(key.encode()) > CLEAR_KEY_MAX:
        raise Refused(field, f"is {len(key.encode())} bytes long; at most {CLEAR_KEY_MAX} are taken")
    return key


def _oid(field: str, value: Any) -> str | None:
    oid = _maybe(field, value)
    if oid is None:
        return None
    oid = oid.strip().removeprefix(".")
    if not all(part.isascii() and part.isdigit() for part in oid.split(".")):
        raise Refused(field, f"{value!r} is no OID; write numbers with dots, such as 1.3.6.1.6.3.1.1.5.3")
    return oid


def _tags(field: str, value: Any) -> dict[str, str]:
    if isinstance(value, str):
        pairs = read_pairs(field, value)
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Refused(field, f"name {twice} a second time; write each once")
        return dict(pairs)
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Refused(field, 'must be an object of texts, such as {"site": "lon1"}')
    return {values.clean_text(name): _text(field, one) for name, one in value.items()}


def _varbinds(field: str, value: Any) -> tuple[Varbind, ...]:
    if isinstance(value, str):
        return tuple(Varbind(oid, text) for oid, text in read_pairs(field, value))
    try:
        found = [(one["oid"], one["value"]) for one in value]
    except (TypeError, KeyError):
        raise Refused(field, 'must be a list such as [{"oid": "1.3.6.1.2", "value": "x"}]') from None
    return tuple(Varbind(_needed(field, oid), _text(field, text)) for oid, text in found)


#: The fields of an event that a copy may have otherwise. Its id and its stamp are the copy's own.
OF_EVENT: dict[str, Reader] = {
    "hostname": _hostname,
    "message": _needed,
    "severity": _severity,
    "state": _state,
    "source": _needed,
    "facility": _maybe,
    "program": _maybe,
    "occurred_at": _time,
    "trap_oid": _oid,
    "varbinds": _varbinds,
    "tags": _tags,
    "clear_key": _clear_key,
    "instance": _maybe,
    "raw": _text,
}

#: The same of an alert. Its signature stays: Moog shall fold the copy into the same alert.
OF_ALERT: dict[str, Reader] = {
    "hostname": _hostname,
    "description": _needed,
    "severity": _moog_severity,
    "team": _text,
    "type": _needed,
    "source": _needed,
    "occurred_at": _time,
}

#: Fields that a form shows as several lines.
OF_LINES = frozenset({"message", "description", "varbinds", "tags", "raw"})


def of_event(event: Event, changes: Mapping[str, Any]) -> Event:
    """The event with ``changes``. Raises Refused with the field at fault."""
    return msgspec.structs.replace(event, **_read(OF_EVENT, changes, "an event"))


def of_alert(alert: Alert, changes: Mapping[str, Any]) -> Alert:
    """The alert with ``changes``; its lane follows its severity. Raises Refused with the field at fault."""
    read = _read(OF_ALERT, changes, "an alert")
    if "severity" in read:
        if alert.state is State.CLEAR:
            raise Refused("severity", "is clear (0) and stays so: leave it out")
        read["lane"] = LANE_OF[read["severity"]]
    return msgspec.structs.replace(alert, **read)


def _read(readers: Mapping[str, Reader], changes: Mapping[str, Any], what: str) -> dict[str, Any]:
    for field in changes:
        if field not in readers:
            raise Refused(
                field, f"is no field of {what} that can be changed; there are: {', '.join(readers)}"
            )
    return {field: readers[field](field, value) for field, value in changes.items()}


def changed(before: Event | Alert, after: Event | Alert) -> list[str]:
    """The names of the fields that differ."""
    return [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name, None)]


def as_json(value: Event | Alert) -> dict[str, Any]:
    """What may be changed, as a file holds it."""
    names = OF_EVENT if isinstance(value, Event) else OF_ALERT
    return {name: _plain(getattr(value, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [{"oid": one.oid, "value": one.value} for one in value]
    return value.isoformat() if isinstance(value, datetime) else value


def as_text(value: Event | Alert) -> dict[str, str]:
    """What may be changed, as a form holds it."""
    names = OF_EVENT if isinstance(value, Event) else OF_ALERT
    return {name: _written(getattr(value, name)) for name in names}


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return write_pairs(value.items())
    if isinstance(value, tuple):
        return write_pairs((one.oid, one.value) for one in value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def changes_of(value: Event | Alert, form: Mapping[str, str]) -> dict[str, str]:
    """What a form really changed. Browsers write other line ends, and none into a field of one line: such a
    difference is none."""
    shown = as_text(value)
    return {name: text for name, text in form.items() if seen(name, text) != seen(name, shown.get(name, ""))}


def seen(name: str, text: str) -> str:
    """A field's text without what a browser does to its line ends."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines.strip("\n") if name in OF_LINES else lines.replace("\n", "")


def write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """One ``name=value`` a line; a name or a value that would be read otherwise is written as JSON text."""
    return "\n".join(f"{_quoted(name, '=')}={_quoted(value)}" for name, value in pairs)


def _quoted(text: str, more: str = "") -> str:
    odd = text.startswith('"') or any(mark in text for mark in ("\n", "\r", *more))
    return msgspec.json.encode(text).decode() if odd else text


def read_pairs(field: str, text: str) -> list[tuple[str, str]]:
    """What :func:`write_pairs` wrote. Raises Refused with the line at fault."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [_pair(field, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _pair(field: str, number: int, line: str) -> tuple[str, str]:
    try:
        name, rest = _json_text(line) if line.startswith('"') else _until_equals(line)
        if not rest.startswith("="):
            raise ValueError
        value, end = _json_text(rest[1:]) if rest[1:].startswith('"') else (rest[1:], "")
        if end.strip():
            raise ValueError
    except ValueError:
        raise Refused(field, f"line {number} can't be read; write name=value") from None
    return values.clean_text(name), values.clean_text(value)


def _until_equals(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    return name, equals + value


def _json_text(text: str) -> tuple[str, str]:
    """A JSON text and what stands behind it. Raises ValueError."""
    end = 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    try:
        return msgspec.json.decode(text[: end + 1], type=str), text[end + 1 :]
    except msgspec.DecodeError as error:
        raise ValueError from error
