"""Figures: what was measured, in any unit, and how it compares with what was measured beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

MUTT, LIST_AND_ROW, PLAIN_CELERY = "mutt", "list-and-row", "plain Celery"
BASELINES = (LIST_AND_ROW, PLAIN_CELERY)

#: What every other figure of the way from end to end is compared with.
END_TO_END, SINGLE = "end to end", "single"


class Ratio(msgspec.Struct, frozen=True):
    """One figure by another: of their medians, and the least and most that their runs allow."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, runs: Sequence[float], base: Sequence[float]) -> Ratio:
        value = statistics.median(runs) / statistics.median(base)
        return cls(value, min(runs) / max(base), max(runs) / min(base))


class Figure(msgspec.Struct, frozen=True):
    """One thing measured several times.

    ``cpu`` is microseconds of CPU an event and ``memory`` the peak in MiB, by role, in the median run; ``others`` the
    cores that strangers kept busy in the worst one: a figure taken beside other work says little. ``times`` says how
    many times something else it is, ``shares`` which part of a ceiling, by the other's name; ``goal`` is words.
    """

    name: str
    subject: str
    unit: str
    runs: list[float]
    cpu: dict[str, float] = {}
    memory: dict[str, float] = {}
    note: str = ""
    others: float = 0.0
    times: dict[str, Ratio] = {}
    shares: dict[str, Ratio] = {}
    goal: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def title(self) -> str:
        return self.name if self.subject in (MUTT, "") else f"{self.name}, {self.subject}"

    def as_times(self, base: Figure, name: str = "") -> Figure:
        """With the line ``2.5x NAME`` (the base's title if none is given)."""
        ratio = Ratio.of(self.runs, base.runs)
        return msgspec.structs.replace(self, times={**self.times, name or base.title: ratio})

    def as_share(self, base: Figure, name: str = "") -> Figure:
        """With the line ``45 % of NAME``."""
        ratio = Ratio.of(self.runs, base.runs)
        return msgspec.structs.replace(self, shares={**self.shares, name or base.title: ratio})

    def compared(self) -> list[str]:
        """``31.2x list-and-row``, ``45 % of PostgreSQL's own COPY``, …"""
        times = [f"{factor(ratio.value)}x {name}" for name, ratio in self.times.items()]
        return times + [f"{100 * ratio.value:.0f} % of {name}" for name, ratio in self.shares.items()]

    def spread(self) -> str:
        """``min .. max``; '' for one run."""
        return f"{shown(min(self.runs))} .. {shown(max(self.runs))}" if len(self.runs) > 1 else ""


def factor(value: float) -> str:
    """How many times."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def shown(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
