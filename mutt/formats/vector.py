"""``vector``: Vector's http sink, its events as JSON: an array, or one a line."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from mutt.formats import traps
from mutt.formats.shipped import Shipped, are_of_a_record


class Vector(Shipped):
    # It calls "hostname" what stood in the line, and "host" that or, where none did, who sent it.
    name = "vector"
    marks = frozenset({"source_type"})
    severities: ClassVar[tuple[str, ...]] = ("severity", "level")
    programs: ClassVar[tuple[str, ...]] = ("appname", "program")

    def fits(self, keys: Collection[str]) -> bool:
        """Every source of Vector's names itself, and nearly every one a host. Native events may do the first, too."""
        return traps.MARKS.isdisjoint(keys) and ("host" in keys or are_of_a_record(keys))


FORMAT = Vector()
