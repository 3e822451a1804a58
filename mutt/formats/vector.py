"""``vector``: Vector's http sink, its events as JSON: an array, or one a line."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from mutt.formats import traps, values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.shipped import Shipped, are_of_a_record

#: Where its sources kubernetes_logs and opentelemetry name the machine, which the others call "host".
_NODES = (("kubernetes", "pod_node_name"), ("resources", "host.name"))


class Vector(Shipped):
    # It calls "hostname" what stood in the line, and "host" that or, where none did, who sent it.
    name = "vector"
    marks = frozenset({"source_type"})
    severities: ClassVar[tuple[str, ...]] = ("severity", "level", "PRIORITY", "severity_text")
    facilities: ClassVar[tuple[str, ...]] = ("facility", "SYSLOG_FACILITY")
    programs: ClassVar[tuple[str, ...]] = ("appname", "program", "SYSLOG_IDENTIFIER")

    def fits(self, keys: Collection[str]) -> bool:
        """Every source of Vector's names itself, and nearly every one a host. Native events may do the first, too."""
        by_host = "host" in keys and "message" in keys and traps.MARKS.isdisjoint(keys)
        return by_host or are_of_a_record(keys, self.messages)

    def read(self, item: JsonObject, context: Context) -> Fields:
        if not any(map(item.get, self.hosts)):
            named = (values.inner(item, key).get(name) for key, name in _NODES)
            item["host"] = next(filter(None, named), None)
        fields = super().read(item, context)
        if fields.get("severity") is None and "severity_number" in item:
            fields["severity"] = values.telemetry(item["severity_number"])
        return fields


FORMAT = Vector()
