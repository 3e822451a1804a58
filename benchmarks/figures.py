"""Results: every run of every figure, as JSON for machines and as a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MUTT, LIST_AND_ROW, PLAIN_CELERY = "mutt", "list-and-row", "plain Celery"

#: What every other figure of the way from end to end is compared with.
END_TO_END, SINGLE = "end to end", "single"

#: Cores that may be busy with other work before a line says so.
QUIET = 0.2

BASELINES = (LIST_AND_ROW, PLAIN_CELERY)


class Figure(msgspec.Struct, frozen=True):
    """One thing measured several times.

    ``cpu`` is microseconds of CPU an event, by role, in the median run; ``others`` the cores that strangers kept
    busy in the worst one: a figure taken beside other work says little.
    """

    name: str
    subject: str
    unit: str
    runs: list[float]
    cpu: dict[str, float] = {}
    note: str = ""
    others: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def title(self) -> str:
        return self.name if self.subject in (MUTT, "") else f"{self.name}, {self.subject}"


class Report(msgspec.Struct):
    """A whole run: where, with what, and what came out."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    figures: list[Figure] = []

    def add(self, figure: Figure) -> None:
        """Keep a figure and print its line."""
        self.figures.append(figure)
        print(self.line(figure), flush=True)

    def best(self, name: str, subject: str) -> Figure | None:
        """The fastest variant of a subject (a baseline counts with the number of consumers that suits it best)."""
        found = [f for f in self.figures if f.name == name and f.subject.startswith(subject)]
        return max(found, key=lambda figure: figure.median, default=None)

    def ratios(self, figure: Figure) -> dict[str, float]:
        """How many times the baselines of this very run, where they were measured."""
        if figure.subject != MUTT or figure.unit != "events/s":
            return {}
        name = f"{END_TO_END} {SINGLE}" if figure.name.startswith(END_TO_END) else figure.name
        found = {baseline: self.best(name, baseline) for baseline in BASELINES}
        return {baseline: figure.median / base.median for baseline, base in found.items() if base}

    def line(self, figure: Figure) -> str:
        """``end to end x500   61,234 events/s   31.2x list-and-row …``"""
        value = f"{shown(figure.median)} {figure.unit}"
        spread = f"[{shown(min(figure.runs))} .. {shown(max(figure.runs))}]" if len(figure.runs) > 1 else ""
        ratios = "  ".join(f"{ratio:.1f}x {name}" for name, ratio in self.ratios(figure).items())
        busy = f"({figure.others:.1f} cores busy elsewhere)" if figure.others > QUIET else ""
        return "  ".join(
            part for part in (f"{figure.title:36}", f"{value:>18}", ratios, spread, busy) if part
        )

    def to_json(self) -> bytes:
        """Everything, with medians, extremes and ratios worked out."""
        whole = msgspec.to_builtins(self)
        whole["figures"] = [
            {
                **msgspec.to_builtins(figure),
                "median": figure.median,
                "min": min(figure.runs),
                "max": max(figure.runs),
                "ratios": self.ratios(figure),
            }
            for figure in self.figures
        ]
        return msgspec.json.format(msgspec.json.encode(whole), indent=2)

    def to_markdown(self) -> str:
        """The table, and under it where it was measured."""
        head = (
            "figure",
            "median",
            "min .. max",
            "unit",
            *BASELINES,
            "CPU µs an event",
            "cores elsewhere",
            "note",
        )
        rows = [head, ("---",) * len(head), *(self._row(figure) for figure in self.figures)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        about = [_listed("Machine", self.machine), _listed("Versions", self.versions)]
        return "\n\n".join([table, *about, _listed("Settings", self.settings)]) + "\n"

    def _row(self, figure: Figure) -> tuple[str, ...]:
        ratios = self.ratios(figure)
        return (
            figure.title,
            shown(figure.median),
            f"{shown(min(figure.runs))} .. {shown(max(figure.runs))}",
            figure.unit,
            *(f"{ratios[name]:.1f}x" if name in ratios else "" for name in BASELINES),
            ", ".join(f"{role} {cost:.3g}" for role, cost in figure.cpu.items()),
            f"{figure.others:.1f}",
            figure.note,
        )


def shown(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _listed(title: str, pairs: Mapping[str, Any]) -> str:
    return f"{title}: " + ", ".join(_worded(pairs.items())) + "."


def _worded(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"{name} {value}" for name, value in pairs]
