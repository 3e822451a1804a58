"""A whole run's results: a line each while it runs, JSON for machines, a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks.figures import BASELINES, END_TO_END, MUTT, SINGLE, Figure, shown

#: Cores that may be busy with other work before a line says so.
QUIET = 0.2


class Report(msgspec.Struct):
    """Where, with what, and what came out."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    figures: list[Figure] = []

    def add(self, figure: Figure) -> Figure:
        """Keep a figure, with its ratios to the baselines of this very run, and print its line."""
        figure = self._with_baselines(figure)
        self.figures.append(figure)
        print(line(figure), flush=True)
        return figure

    def best(self, name: str, subject: str = MUTT) -> Figure | None:
        """The fastest variant of a subject (a baseline counts with the number of consumers that suits it best)."""
        found = [f for f in self.figures if f.name == name and f.subject.startswith(subject)]
        return max(found, key=lambda figure: figure.median, default=None)

    def _with_baselines(self, figure: Figure) -> Figure:
        if figure.subject != MUTT or figure.unit != "events/s":
            return figure
        name = f"{END_TO_END} {SINGLE}" if figure.name.startswith(END_TO_END) else figure.name
        for baseline in BASELINES:
            base = self.best(name, baseline)
            figure = figure.as_times(base, baseline) if base else figure
        return figure

    def to_json(self) -> bytes:
        """Everything, with medians and extremes worked out."""
        whole = msgspec.to_builtins(self)
        for figure, made in zip(self.figures, whole["figures"], strict=True):
            made.update(median=figure.median, min=min(figure.runs), max=max(figure.runs))
        return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"

    def to_markdown(self) -> str:
        """The table, and under it where it was measured."""
        rows = [_HEAD, ("---",) * len(_HEAD), *map(_row, self.figures)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        about = [_listed("Machine", self.machine), _listed("Versions", self.versions)]
        return "\n\n".join([table, *about, _listed("Settings", self.settings)]) + "\n"


def line(figure: Figure) -> str:
    """``end to end x500   61,234 events/s   31.2x list-and-row  45 % of PostgreSQL's own COPY …``"""
    value = f"{shown(figure.median)} {figure.unit}"
    spread = f"[{figure.spread()}]" if figure.spread() else ""
    goal = f"(goal: {figure.goal})" if figure.goal else ""
    busy = f"({figure.others:.1f} cores busy elsewhere)" if figure.others > QUIET else ""
    parts = (f"{figure.title:36}", f"{value:>18}", *figure.compared(), spread, goal, busy)
    return "  ".join(part for part in parts if part)


_HEAD = (
    "figure",
    "median",
    "min .. max",
    "unit",
    "compared",
    "goal",
    "CPU µs an event",
    "peak MiB",
    "cores elsewhere",
    "note",
)


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.title,
        shown(figure.median),
        figure.spread(),
        figure.unit,
        ", ".join(figure.compared()),
        figure.goal,
        ", ".join(f"{role} {cost:.3g}" for role, cost in figure.cpu.items()),
        ", ".join(f"{role} {mib:.0f}" for role, mib in figure.memory.items()),
        f"{figure.others:.1f}",
        figure.note,
    )


def _listed(title: str, pairs: Mapping[str, Any]) -> str:
    return f"{title}: " + ", ".join(f"{name} {value}" for name, value in pairs.items()) + "."
