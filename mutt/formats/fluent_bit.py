"""``fluent-bit``: Fluent Bit's http output as json, json_lines or json_stream; records have the keys of their input."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from mutt.formats import values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.shipped import Shipped, are_of_a_record

#: How Windows counts in what the input winevtlog reads: critical, error, warning, information, verbose.
_OF_WINDOWS = {1: 2, 2: 3, 3: 4, 4: 6, 5: 7}


class FluentBit(Shipped):
    name = "fluent-bit"
    marks = frozenset({"date", "log"})
    hosts: ClassVar[tuple[str, ...]] = (
        "hostname",
        "host",
        "_HOSTNAME",
        "node_name",
        "Computer",
        "ComputerName",
    )
    messages: ClassVar[tuple[str, ...]] = ("message", "log", "MESSAGE", "msg", "Message")
    # Of Windows' events it dates when it read them.
    times: ClassVar[tuple[str, ...]] = (
        "TimeCreated",
        "TimeGenerated",
        "date",
        "timestamp",
        "@timestamp",
        "time",
    )
    severities: ClassVar[tuple[str, ...]] = ("severity", "level", "PRIORITY", "priority", "EventType")
    facilities: ClassVar[tuple[str, ...]] = ("facility", "SYSLOG_FACILITY")
    programs: ClassVar[tuple[str, ...]] = (
        "ident", "SYSLOG_IDENTIFIER", "program", "ProviderName", "SourceName",
    )  # fmt: skip

    def fits(self, keys: Collection[str]) -> bool:
        return "source_type" not in keys and are_of_a_record(keys, self.messages)

    def claims(self, item: JsonObject) -> bool:
        """Fluent Bit puts a date into each record; where that has another name, there is the text of its inputs."""
        return isinstance(item.get("log"), str) or isinstance(item.get("date"), int | float | str)

    def read(self, item: JsonObject, context: Context) -> Fields:
        if "kubernetes" in item and not any(map(item.get, self.hosts)):
            item["hostname"] = values.first(values.inner(item, "kubernetes"), ("host",))
        fields = super().read(item, context)
        if "pri" in item:
            _take_priority(item["pri"], fields)
        if "ProviderName" in item and fields.get("severity") is None and type(item.get("Level")) is int:
            fields["severity"] = _OF_WINDOWS.get(item["Level"])
        return fields


def _take_priority(pri: Any, fields: Fields) -> None:
    """Its parsers of syslog leave both in one number, written as text."""
    if isinstance(pri, str) and pri.isascii() and pri.isdecimal() and len(pri) < 4 and int(pri) < 192:
        fields["severity"] = int(pri) & 7
        fields["facility"] = values.FACILITIES[int(pri) >> 3]


FORMAT = FluentBit()
