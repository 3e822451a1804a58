"""``make chaos``: break everything, one thing and two at a time, under load, and balance the books after each.

Exits with 1 where an accepted event or its alert was lost or doubled, a request went beyond Moog's budget, a fault was
not seen to take effect, or the books did not come to rest.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.chaos import run as runner
from tests.chaos.balance import Found
from tests.chaos.site import site
from tests.servers import scratch

console = Console(width=None if sys.stdout.isatty() else 170)


@click.command()
@click.option("--seed", type=int, envvar="SEED", help="Chosen anew if not given; said at the start.")
@click.option("--faults", envvar="FAULTS", default="", help="Words of their names, separated by commas.")
@click.option("--pairs", type=click.IntRange(0), envvar="PAIRS", default=8, show_default=True)
@click.option("--events", type=click.IntRange(1), envvar="EVENTS", default=200_000, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(seed: int | None, faults: str, pairs: int, events: int, file: Path | None) -> None:
    """Break MUTT under load, and balance the books after each fault."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    try:
        scenarios = runner.planned(runner.chosen(faults), pairs, random.Random(seed))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    console.print(f"SEED={seed}: {len(scenarios)} scenarios, about {events:,} events")
    began = time.monotonic()
    with scratch() as directory, site(directory) as made:
        found = runner.run(made, scenarios, events, seed, _said)
    _table(found)
    bad = [one for one in found if not one.good]
    console.print(
        f"{len(found)} of {len(scenarios)} scenarios in {time.monotonic() - began:.0f} s, SEED={seed}"
    )
    if file:
        file.write_text(json.dumps({"seed": seed, "scenarios": [dataclasses.asdict(one) for one in found]}))
    for one in bad:
        console.print(
            f"[red]{one.fault}[/]: lost {one.lost}, double {one.double}, over {one.over}. {one.why}"
        )
    sys.exit(1 if bad or len(found) < len(scenarios) else 0)


def _said(one: Found) -> None:
    verdict = "ok" if one.good else "NOT AS IT MUST BE"
    console.print(f"  {one.fault}: {one.accepted:,} accepted, rest after {one.recovered_s:.1f} s, {verdict}")


def _table(found: list[Found]) -> None:
    table = Table(*runner.COLUMNS)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in runner.rows(found):
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
