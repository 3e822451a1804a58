"""The words that senders use, read into the values of an event; what can't be read is None, never an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from mutt.event import SEVERITY_NAMES, State

Read = TypeVar("Read")

#: RFC 5424's facilities, by number.
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "security", "console", "solaris-cron",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip

_STATES = dict.fromkeys(
    (
        "raise",
        "raised",
        "firing",
        "alerting",
        "down",
        "problem",
        "fault",
        "trigger",
        "triggered",
        "active",
        "open",
    ),
    State.RAISE,
) | dict.fromkeys(
    (
        "clear",
        "cleared",
        "resolved",
        "resolve",
        "ok",
        "up",
        "recovered",
        "recovery",
        "normal",
        "closed",
        "reset",
    ),
    State.CLEAR,
)

#: What alerting systems say, whose ``critical`` is the worst that they know: for them Moog's critical, where syslog's
#: is one step below it.
_URGENCIES = {
    "disaster": 1, "emergency": 1, "fatal": 1, "critical": 1, "crit": 1, "page": 1, "down": 1, "p1": 1,
    "major": 2, "high": 2, "serious": 2, "error": 2, "err": 2, "p2": 2,
    "minor": 3, "average": 3, "medium": 3, "unknown": 3, "unreachable": 3, "p3": 3,
    "warning": 4, "warn": 4, "p4": 4,
    "low": 5, "notice": 5, "p5": 5,
    "info": 6, "information": 6, "informational": 6, "none": 6, "ok": 6, "up": 6, "not classified": 6,
    "debug": 7,
}  # fmt: skip

#: OpenTelemetry's numbers, in fours: trace, debug, info, warn, error, fatal.
_TELEMETRY = (7, 7, 6, 4, 3, 2)

#: Objects nested deeper than this are kept as one tag of compact JSON.
_FLATTEN_DEPTH = 4

#: So many bytes of repeated names are fine, however short the values.
_ROOM = 1024

#: How null, an empty text, object or array are written.
_NOTHING = frozenset(("null", "", "{}", "[]"))

_unfit = re.compile("[\0\ud800-\udfff]")


def clean_text(value: str) -> str:
    """``value`` as PostgreSQL and UTF-8 can hold it.

    NUL and lone surrogates become U+FFFD; a surrogate that stands for a byte which was no UTF-8 becomes ``\\xNN``.
    """
    return value.translate(_FITTING) if _unfit.search(value) else value


#: By table: a function called for each of a body's bytes took seconds of the processor.
_FITTING = {
    code: f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"
    for code in (0, *range(0xD800, 0xE000))
}


def clean(value: Any) -> Any:
    """A decoded JSON value with every text in it, keys too, made fit by :func:`clean_text`."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [clean(inner) for inner in value]
    return value


def text(value: Any) -> str:
    """A JSON value as text: a text is itself, anything else its compact JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def severity(value: Any) -> int | None:
    """syslog's 0 to 7 from a number, a numeric text or a name."""
    if type(value) is int:
        return value if 0 <= value <= 7 else None
    if isinstance(value, str):
        word = value.strip().lower()
        if not word.isdecimal() or len(word) > 2:
            return SEVERITY_NAMES.get(word)
        value = int(word)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= 7 and value == int(value) else None


def urgency(value: Any) -> int | None:
    """syslog's 0 to 7 from the word that an alerting system has for how bad it is. A number says nothing: each of them
    counts in its own way."""
    if not isinstance(value, str):
        return None
    found = _URGENCIES.get(value)
    return _URGENCIES.get(value.strip().lower()) if found is None else found


def telemetry(number: Any) -> int | None:
    """syslog's 0 to 7 from OpenTelemetry's severity number, 1 to 24, also as text."""
    if isinstance(number, str) and number.isdecimal() and len(number) < 3:
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 24:
        return None
    return _TELEMETRY[(number - 1) // 4]


def device(value: Any) -> Any:
    """The device in what names more: ``edge1:9100``, ``[2001:db8::1]:161``, ``https://api.lab:8443/up``. Anything that
    is no text is given back as it is."""
    if not isinstance(value, str):
        return value
    name, colon, port = value.rpartition(":")
    if not colon or (name and ":" not in name and port.isdecimal()):  # most of them
        return name or value
    if "://" in value:
        return device(value.partition("://")[2].partition("/")[0].rpartition("@")[2])
    return value[1:].partition("]")[0] if value.startswith("[") else value


def facility(value: Any) -> str | None:
    """A facility's name, from its number (also as text) or its name."""
    if isinstance(value, str):
        word = value.strip()
        if not word.isdecimal() or len(word) > 2:
            return word or None
        value = int(word)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return FACILITIES[value] if 0 <= value < len(FACILITIES) else None


def state(value: Any) -> State | None:
    """Does this word report a fault, or its end?"""
    return _STATES.get(value.strip().lower()) if isinstance(value, str) else None


def flat(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The leaves of nested objects as (dotted name, text).

    An inner object stays one leaf of JSON where the names repeated before its leaves would cost more than there is
    :func:`room` for: else a long name above many leaves makes much out of little.
    """
    return _flat(value, "", 1, [room(value)])


def _flat(value: Mapping[str, Any], prefix: str, depth: int, left: list[int]) -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner and depth < _FLATTEN_DEPTH:
            cost = (len(key.encode()) + 1) * _leaves(inner, depth + 1)
            if cost <= left[0]:
                left[0] -= cost
                yield from _flat(inner, f"{prefix}{key}.", depth + 1, left)
                continue
        yield prefix + key, text(inner)


def _leaves(value: Mapping[str, Any], depth: int) -> int:
    if depth == _FLATTEN_DEPTH:
        return len(value)
    return sum(
        _leaves(inner, depth + 1) if isinstance(inner, dict) and inner else 1 for inner in value.values()
    )


def room(value: Any) -> int:
    """How many bytes of repeated names the tags made of ``value`` may hold."""
    return _ROOM + len(text(value).encode())


def tags(item: Mapping[str, Any]) -> dict[str, str]:
    """The fields of ``item`` as text; one that is null says nothing and is left out."""
    return {
        key: value if type(value) is str else text(value) for key, value in item.items() if value is not None
    }


def leaves(item: Mapping[str, Any]) -> dict[str, str]:
    """:func:`flat` as tags; what is null or empty says nothing and is left out."""
    return {key: said for key, said in flat(item) if said not in _NOTHING}


def inner(item: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object at ``key``; an empty one where something else, or nothing, is there."""
    found = item.get(key)
    return found if isinstance(found, dict) else {}


def first(item: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """The first of the values at ``keys`` that says something: neither null nor an empty text. None: none does."""
    for key in keys:
        found = item.get(key)
        if found is not None and found != "":
            return found
    return None


def pop_first(item: dict[str, Any], keys: Iterable[str]) -> Any:
    """As :func:`first`; what it found is taken out of ``item``."""
    for key in keys:
        found = item.get(key)
        if found is not None and found != "":
            return item.pop(key)
    return None


def pop_read(item: dict[str, Any], keys: Iterable[str], read: Callable[[Any], Read | None]) -> Read | None:
    """The first that ``read`` can read, taken out of ``item``; those that it can't stay there."""
    for key in keys:
        if key in item and (found := read(item[key])) is not None:
            del item[key]
            return found
    return None
