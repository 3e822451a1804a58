"""``fluent-bit``: Fluent Bit's http output as json, json_lines or json_stream; records have the keys of their input."""

from __future__ import annotations

from typing import ClassVar

from mutt.formats import values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.shipped import Shipped, is_record

#: journald's own name of the host, and the one that Kubernetes' filter finds.
_HOSTS = ("hostname", "host", "_HOSTNAME", "node_name")


class FluentBit(Shipped):
    name = "fluent-bit"
    marks = frozenset({"date", "log"})
    hosts: ClassVar[tuple[str, ...]] = _HOSTS
    messages: ClassVar[tuple[str, ...]] = ("message", "log", "MESSAGE", "msg")
    times: ClassVar[tuple[str, ...]] = ("date", "timestamp", "@timestamp", "time")
    severities: ClassVar[tuple[str, ...]] = ("severity", "level", "PRIORITY", "priority")
    facilities: ClassVar[tuple[str, ...]] = ("facility", "SYSLOG_FACILITY")
    programs: ClassVar[tuple[str, ...]] = ("ident", "SYSLOG_IDENTIFIER", "program")

    def claims(self, item: JsonObject) -> bool:
        """Fluent Bit puts a date into each record; where that has another name, there is the text of its inputs."""
        named = isinstance(item.get("date"), int | float | str) or isinstance(item.get("log"), str)
        return named and "source_type" not in item and is_record(item)

    def read(self, item: JsonObject, context: Context) -> Fields:
        pri, node = item.get("pri"), values.inner(item, "kubernetes").get("host")
        if isinstance(node, str) and not any(map(item.get, _HOSTS)):
            item["hostname"] = node
        fields = super().read(item, context)
        # Its parsers of syslog leave both in one number.
        if isinstance(pri, str) and pri.isascii() and pri.isdecimal() and len(pri) < 4 and int(pri) < 192:
            fields["severity"] = int(pri) & 7
            fields["facility"] = values.FACILITIES[int(pri) >> 3]
        return fields


FORMAT = FluentBit()
