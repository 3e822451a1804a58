"""``make chaos``: break everything, one thing and two at a time, under load, and balance the books after each.

Exits with 1 where an accepted event or its alert was lost, doubled or parked, an alert came to Moog out of order, a
request went beyond Moog's budget, ingest answered what it may not, a fault was not seen to take effect, or the books
did not come to rest.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.chaos import run as runner
from tests.chaos.balance import Found
from tests.chaos.plain import lost_under_kills
from tests.chaos.site import site
from tests.chaos.weaker import SETTINGS, lose
from tests.servers import scratch

console = Console(width=None if sys.stdout.isatty() else 170)


@click.command()
@click.option("--seed", type=int, envvar="SEED", help="Chosen anew if not given; said at the start.")
@click.option("--faults", envvar="FAULTS", default="", help="Words of their names, separated by commas.")
@click.option("--pairs", type=click.IntRange(0), envvar="PAIRS", default=8, show_default=True)
@click.option("--events", type=click.IntRange(1), envvar="EVENTS", default=200_000, show_default=True)
@click.option("--kills", type=click.IntRange(0), envvar="KILLS", default=20, show_default=True,
              help="Of plain Celery's workers, as a baseline.")  # fmt: skip
@click.option(
    "--spill/--no-spill", envvar="SPILL", default=None, help="INGEST_SPILL; else as the seed has it."
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures there, too.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the tables there, as Markdown.")
def main(
    seed: int | None,
    faults: str,
    pairs: int,
    events: int,
    kills: int,
    spill: bool | None,
    file: Path | None,
    report: Path | None,
) -> None:
    """Break MUTT under load, one thing and two at a time, and balance the books after each.

    With FAULTS only these are tried, without the baseline and the weaker settings.
    """
    if sys.platform != "linux":
        raise click.UsageError("the runner asks Linux' /proc whose a connection is: run it on Linux")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    dice = random.Random(seed)
    spills = "on" if (dice.random() < 0.5 if spill is None else spill) else "off"
    try:
        scenarios = runner.planned(runner.chosen(faults, dice, spill=spills == "on"), pairs, dice)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    console.print(f"SEED={seed}: {len(scenarios)} scenarios, about {events:,} events, INGEST_SPILL={spills}")
    began = time.monotonic()
    with scratch() as directory, site(directory, {"INGEST_SPILL": spills}) as made:
        found = runner.run(made, scenarios, events, seed, _said)
    weaker = [] if faults else [(setting, lose(setting, seed)) for setting in SETTINGS]
    plain = _plain(kills, seed) if kills and not faults else None
    safe = found + [one for setting, one in weaker if setting.safe]
    bad = [one for one in safe if not one.good]
    tables = {"MUTT": safe}
    if weaker:
        tables["weaker settings, outside the sum"] = [one for setting, one in weaker if not setting.safe]
    took = time.monotonic() - began
    said = f"{len(found)} of {len(scenarios)} scenarios in {took:.0f} s, SEED={seed}, INGEST_SPILL={spills}"
    sentences = [said, *([_sentence(plain)] if plain else [])]
    for title, rows in tables.items():
        _table(title, rows)
    for sentence in sentences:
        console.print(sentence)
    if file:
        figures = {"seed": seed, "mutt": safe, "weaker": [one for _, one in weaker], "plain": plain}
        file.write_text(json.dumps(figures, default=dataclasses.asdict))
    if report:
        report.write_text("\n\n".join([*sentences, *(_markdown(*table) for table in tables.items())]) + "\n")
    for one in bad:
        console.print(f"[red]{one.fault}[/]: {_wrong(one)}")
    sys.exit(1 if bad or len(found) < len(scenarios) else 0)


def _plain(kills: int, seed: int) -> dict[str, int]:
    with scratch() as directory:
        return lost_under_kills(directory, kills, seed)


def _sentence(plain: dict[str, int]) -> str:
    return (
        f"plain Celery, {plain['kills']} kills of its workers: {plain['published']:,} published, "
        f"{plain['done']:,} done, {plain['lost']:,} lost, {plain['twice']:,} done more than once"
    )


def _wrong(one: Found) -> str:
    return f"lost {one.lost}, double {one.double}, over {one.over}. {one.why}"


def _said(one: Found) -> None:
    verdict = "ok" if one.good else f"NOT AS IT MUST BE: {_wrong(one)}"
    console.print(f"  {one.fault}: {one.accepted:,} accepted, rest after {one.rest_s:.1f} s, {verdict}")


def _table(title: str, found: Sequence[Found]) -> None:
    columns: list[Any] = list(runner.COLUMNS)
    table = Table(*columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in runner.rows(found):
        table.add_row(*row)
    console.print(table)


def _markdown(title: str, found: Sequence[Found]) -> str:
    head = [title, *runner.COLUMNS[1:]]
    lines = [head, ["---", *["--:"] * len(head[1:])], *runner.rows(found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
