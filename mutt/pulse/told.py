"""A reading as JSON: the same for programs at the API and for ``mutt top --json``. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mutt.pulse.sample import Point, Reading, Sample, Trouble


def told(reading: Reading, *, hour: bool = True) -> dict[str, Any]:
    """``sample``, ``troubles`` and, with ``hour``, the hour's points: a list a column, as charts take them."""
    found = {"sample": _sample(reading.sample), "troubles": [_trouble(one) for one in reading.troubles]}
    return found | ({"hour": columns(reading.points)} if hour else {})


def columns(points: Sequence[Point]) -> dict[str, list[float]]:
    """A list for each field of :class:`Point`, the oldest first."""
    return {name: [getattr(point, name) for point in points] for name in Point.__struct_fields__}


def _sample(sample: Sample) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(sample)
    del found["counters"]  # for the next reading, not for people
    return found


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return {**msgspec.to_builtins(trouble), "entry": trouble.entry}
