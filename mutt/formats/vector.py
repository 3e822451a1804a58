"""``vector``: Vector's http sink, its events as JSON: an array, or one a line."""

from __future__ import annotations

from typing import ClassVar

from mutt.formats import traps
from mutt.formats.base import JsonObject
from mutt.formats.shipped import Shipped, is_record


class Vector(Shipped):
    # It calls "hostname" what stood in the line, and "host" that or, where none did, who sent it.
    name = "vector"
    marks = frozenset({"source_type"})
    severities: ClassVar[tuple[str, ...]] = ("severity", "level")
    programs: ClassVar[tuple[str, ...]] = ("appname", "program")

    def claims(self, item: JsonObject) -> bool:
        """Every source of Vector's names itself, and nearly every one a host. Native events may do the first, too."""
        return traps.MARKS.isdisjoint(item) and ("host" in item or is_record(item))


FORMAT = Vector()
