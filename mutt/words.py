"""Numbers and spans of time as people say them."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def many(count: int, one: str, more: str = "") -> str:
    """A count with its noun: 1 batch, 2,500 batches."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def age(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 7 min, 3.1 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def span(seconds: int) -> str:
    """A span that somebody chose, exact and short: 90 s, 5 min, 1 h, 7 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def short_span(seconds: float) -> str:
    """The same as it is typed in: 90s, 5m, 1h, 7d."""
    return span(round(seconds)).replace("min", "m").replace(" ", "")


def spark(values: Sequence[float], width: int) -> str:
    """Values as a line of bars, the highest of each step."""
    size = max(1, -(-len(values) // width))
    steps = [max(values[at : at + size]) for at in range(0, len(values), size)]
    most = max(steps, default=0.0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] if most else _BARS[0] for value in steps)


def printable(text: str) -> str:
    """What others wrote, for a terminal: line ends and tabs stand, whatever else is no letter is written as \\xNN."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text
    )
