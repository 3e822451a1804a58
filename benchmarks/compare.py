"""A run beside the saved one. Ratios come first, for they carry over between machines; it judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.figures import Ratio, factor, shown
from benchmarks.report import Report

#: The table of the last release.
SAVED = Path(__file__).parent / "results" / "saved.json"

#: Machines that agree in these may be compared by absolute figures, too.
_SAME = ("cpu", "cores", "memory_gib")

#: Figures that are named one by one; of more their number is enough.
LISTED = 8

BEYOND, UNKNOWN = "differs by more than the spread", "one run: its spread is not known"


class Pair(NamedTuple):
    """One value now and as it was saved, each with the least and the most of its runs."""

    title: str
    unit: str
    now: Ratio
    saved: Ratio

    @property
    def change(self) -> float:
        """Of the saved value: 0.1 is a tenth more."""
        return self.now.value / self.saved.value - 1 if self.saved.value else 0.0

    @property
    def remark(self) -> str:
        """'' where the runs of both overlap: nothing says that they differ."""
        if self.now.low == self.now.high or self.saved.low == self.saved.high:
            return UNKNOWN
        apart = self.now.low > self.saved.high or self.now.high < self.saved.low
        return BEYOND if apart else ""


def read(path: Path) -> Report:
    """What ``--save`` or ``--json`` wrote. Raises OSError, ValueError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} holds no figures of this benchmark: {error}") from error


def save(report: Report, path: Path) -> None:
    """Write it for machines, and the table for people beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(report.to_json())
    path.with_suffix(".md").write_text(report.to_markdown())


def comparison(now: Report, saved: Report) -> str:
    """What ``--compare`` prints."""
    return "\n".join(_lines(now, saved))


def ratios(now: Report, saved: Report) -> list[Pair]:
    """Every ratio and share that both have."""
    return _pairs(_ratios(now), _ratios(saved))


def absolutes(now: Report, saved: Report) -> list[Pair]:
    """Every figure that both have in the same unit."""
    return _pairs(_medians(now), _medians(saved))


def _lines(now: Report, saved: Report) -> Iterator[str]:
    yield "Ratios, now and as saved; they carry over between machines:"
    yield from map(_line, ratios(now, saved))
    yield ""
    yield f"Absolute figures, now and as saved; {_worth(now, saved)}:"
    yield from map(_line, absolutes(now, saved))
    known, old = {one.title for one in now.figures}, {one.title for one in saved.figures}
    for said, titles in (
        ("Not in the saved table", known - old),
        ("Saved, and not measured now", old - known),
    ):
        if titles:
            yield f"{said}: {'; '.join(sorted(titles)) if len(titles) <= LISTED else f'{len(titles)} figures'}."
    for said, mine, its in (
        ("Versions", now.versions, saved.versions),
        ("Settings", now.settings, saved.settings),
    ):
        if other := _differing(mine, its):
            yield f"{said} that differ: {other}."


def _worth(now: Report, saved: Report) -> str:
    other = _differing(*({name: report.machine.get(name) for name in _SAME} for report in (now, saved)))
    return f"another machine ({other}), so they say little" if other else "the same kind of machine"


def _differing(now: Mapping[str, object], saved: Mapping[str, object]) -> str:
    names = [name for name in {**now, **saved} if now.get(name) != saved.get(name)]
    return ", ".join(f"{name} {now.get(name, '-')} (saved: {saved.get(name, '-')})" for name in names)


def _line(pair: Pair) -> str:
    now, saved = (_value(one, pair.unit) for one in (pair.now, pair.saved))
    return f"  {pair.title:48} {now:>38} {saved:>38} {pair.change:>+6.0%}  {pair.remark}".rstrip()


def _value(ratio: Ratio, unit: str) -> str:
    show = {"x": factor, "%": lambda value: f"{100 * value:.0f}"}.get(unit, shown)
    spread = f" [{show(ratio.low)} .. {show(ratio.high)}]" if ratio.low != ratio.high else ""
    return f"{show(ratio.value)}{'' if unit == 'x' else ' '}{unit}{spread}"


def _pairs(now: Mapping[tuple[str, str], Ratio], saved: Mapping[tuple[str, str], Ratio]) -> list[Pair]:
    return [
        Pair(title, unit, one, saved[title, unit])
        for (title, unit), one in now.items()
        if (title, unit) in saved
    ]


def _ratios(report: Report) -> dict[tuple[str, str], Ratio]:
    found = {}
    for figure in report.figures:
        found |= {(f"{figure.title} : {name}", "x"): ratio for name, ratio in figure.times.items()}
        found |= {(f"{figure.title} : {name}", "%"): ratio for name, ratio in figure.shares.items()}
    return found


def _medians(report: Report) -> dict[tuple[str, str], Ratio]:
    return {(one.title, one.unit): Ratio(one.median, min(one.runs), max(one.runs)) for one in report.figures}
