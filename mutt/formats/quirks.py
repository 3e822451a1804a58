"""What network gear writes into its messages, in a table: a row a vendor, and what comes of its fields.

Cisco, Juniper, Huawei and Arista need no row: their heads and mnemonics are read as anybody's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mutt.formats.base import Fields

#: How a message is taken apart: (its text, its type) -> tags.
Split = Callable[[str, str], dict[str, str]]

_PAIR = re.compile(r'([A-Za-z][\w.-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)')

#: Columns of PAN-OS that rules may ask for, by their place; of every type, then of each.
_OF_ALL = {2: "serial", 3: "type", 4: "subtype"}
_OF_SESSIONS = _OF_ALL | {
    7: "src", 8: "dst", 11: "rule", 12: "srcuser", 13: "dstuser", 14: "app", 15: "vsys", 16: "from", 17: "to",
    18: "inbound_if", 19: "outbound_if", 24: "sport", 25: "dport", 29: "proto", 30: "action",
}  # fmt: skip
_COLUMNS: Mapping[str, Mapping[int, str]] = {
    "TRAFFIC": _OF_SESSIONS | {46: "session_end_reason", 51: "vsys_name", 52: "device_name"},
    "THREAT": _OF_SESSIONS
    | {
        31: "misc",
        32: "threatid",
        33: "category",
        34: "severity",
        35: "direction",
        58: "vsys_name",
        59: "device_name",
    },
    "SYSTEM": _OF_ALL
    | {
        7: "vsys",
        8: "eventid",
        9: "object",
        12: "module",
        13: "severity",
        21: "vsys_name",
        22: "device_name",
    },
}


def _pairs(body: str, _type: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _PAIR.findall(body)}


def _columns(body: str, type_: str) -> dict[str, str]:
    try:
        cells = next(csv.reader([body], strict=False))
    except (csv.Error, StopIteration):
        return {}
    named = _COLUMNS.get(type_, _OF_ALL)
    return {name: cells[at] for at, name in named.items() if at < len(cells) and cells[at]}


def _topics(body: str, _type: str) -> dict[str, str]:
    return {"topics": body.partition(" ")[0]}


class Quirk(NamedTuple):
    """One vendor's way."""

    vendor: str
    marks: tuple[str, ...]  #: no line without one is this vendor's: most lines are asked no more than this
    opens: re.Pattern[
        str
    ]  #: finds where its message begins, the group ``body``; other groups: ``level``, ``type``
    split: Split
    host: str = ""  #: the tag that names the device
    program: str = ""  #: the tag that says which part of it speaks; empty: the group ``type``
    level: str = ""  #: the tag that says how bad it is; empty: the group ``level``
    levels: Mapping[str, int] = {}  #: its words, as syslog's severities
    time: str = ""  #: when it happened, by its tags; not without ``tz``: it may be hours off then


#: What may stand before a message: a priority, a time, a name.
_HEAD = r"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]?\d (?:\d{4} )?\d\d:\d\d:\d\d (?:\S+ )??)?(?P<body>)"

QUIRKS = (
    Quirk(
        vendor="fortinet",
        marks=("devid=",),
        opens=re.compile(_HEAD + r"date=\d{4}-\d\d-\d\d time=\S+ (?P<type>)(?P<level>)", re.ASCII),
        split=_pairs,
        host="devname",
        program="subtype",
        level="level",
        levels={
            "emergency": 0, "alert": 1, "critical": 2, "error": 3, "warning": 4, "notice": 5, "information": 6,
            "debug": 7,
        },
        time="{date}T{time}{tz}",
    ),
    Quirk(
        vendor="paloalto",
        marks=("1,20",),
        opens=re.compile(
            _HEAD + r"1,\d{4}/\d\d/\d\d \d\d:\d\d:\d\d,\w*,(?P<type>[A-Z]{3,20}),(?P<level>)", re.ASCII
        ),
        split=_columns,
        host="device_name",
        level="severity",
        levels={"critical": 2, "high": 3, "medium": 4, "low": 5, "informational": 6},
    ),
    Quirk(
        vendor="mikrotik",
        marks=(",info", ",error", ",warning", ",critical", ",debug"),
        opens=re.compile(
            _HEAD + r"(?P<type>[a-z][a-z0-9-]{1,15}),(?P<level>critical|error|warning|info|debug)"
            r"(?:,[a-z0-9-]{1,15}){0,4} (?=\S)",
            re.ASCII,
        ),
        split=_topics,
        levels={"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7},
    ),
)  # fmt: skip
_BY_MARK = tuple((mark, quirk) for quirk in QUIRKS for mark in quirk.marks)


def apply(line: str, fields: Fields, default_host: str) -> None:
    """Add to ``fields``, which were read from ``line``, what its vendor's row says; most lines have none."""
    for mark, quirk in _BY_MARK:
        if mark in line and (found := quirk.opens.match(line)):
            _fill(quirk, found, fields, default_host)
            return


def _fill(quirk: Quirk, found: re.Match[str], fields: Fields, default_host: str) -> None:
    body, type_ = found.string[found.start("body") :], found["type"]
    tags = quirk.split(body, type_)
    # Where no name stands between the time and the message, the message's first word was taken for one.
    before = default_host if body.startswith(fields["hostname"]) else fields["hostname"]
    fields["hostname"] = tags.get(quirk.host) or before
    fields["message"] = body
    fields["program"] = tags.get(quirk.program) or type_.lower() or fields["program"]
    if fields["severity"] is None:
        fields["severity"] = quirk.levels.get(tags.get(quirk.level) or found["level"])
    if quirk.time and not fields["time"] and "tz" in tags:
        fields["time"] = quirk.time.format_map(tags)
    fields["tags"] = {**fields["tags"], "vendor": quirk.vendor, **tags}
