"""``mutt drill``: break one thing of the running ``mutt up`` on purpose, and see what names and mends it."""

from __future__ import annotations

import sys

import click
import orjson
from rich.markup import escape

from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.drills.faults import FAULTS
from mutt.drills.run import Result
from mutt.drills.run import drill as run_drill
from mutt.drills.site import HOLD_MOST, Site
from mutt.pulse.collect import reading
from mutt.settings import Settings
from mutt.streams.books import ALERTS, EVENTS


@click.command()
@click.argument("name", type=click.Choice(list(FAULTS)))
@click.option(
    "--hold",
    type=click.FloatRange(0, HOLD_MOST),
    default=5.0,
    show_default=True,
    help="Seconds that it stays broken once it is named.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@spoken()
def drill(name: str, hold: float, as_json: bool) -> None:
    """Break one thing of the `mutt up` that runs here, and mend it: it must be named, and the books balance after.

    Never on what people rely on: events are sent, and alerts go to the Moog that this stack has. Exit 1 if another
    trouble was named, or an event is missing.
    """
    site, made = Site(Settings.from_env()), services()

    def say(sentence: str) -> None:
        if not as_json:
            console.print(escape(sentence), soft_wrap=True)

    result = run_drill(FAULTS[name], site, made, lambda: reading(made).troubles, hold=hold, say=say)
    if as_json:
        click.echo(orjson.dumps(_told(result), option=orjson.OPT_INDENT_2))
    else:
        _print(result)
    sys.exit(0 if result.good else 1)


def _told(result: Result) -> dict[str, object]:
    after = result.after
    return {
        "drill": result.fault,
        "named": result.named,
        "named_after_s": result.named_after,
        "seen": list(result.seen),
        "before": {"events": result.before.events, "alerts": result.before.alerts},
        "after": {"events": after.events, "alerts": after.alerts},
        "lost": after.lost,
        "double": after.double,
        "balanced": after.balanced,
        "at_rest": after.at_rest,
        "good": result.good,
    }


def _print(result: Result) -> None:
    before, after = result.before, result.after
    for of, order in (("events", EVENTS), ("alerts", ALERTS)):
        sides = (("before", getattr(before, of)), ("after", getattr(after, of)))
        rows = [(title, *(side[name] for name in order)) for title, side in sides]
        table("", [of, *order], rows, numbers=range(1, len(order) + 1))
    for sentence in verdict(result):
        console.print(sentence, soft_wrap=True)


def verdict(result: Result) -> list[str]:
    """How it went, in sentences."""
    after = result.after
    if result.named:
        said = [f"[green]named[/] {result.named} after {result.named_after:.1f} s"]
    else:
        said = [f"[red]not named[/]: what stood first was {', '.join(result.seen) or 'nothing'}"]
    if not after.at_rest:
        said.append("[red]not at rest[/]: see `mutt queues` and `mutt ledger --wait 60`")
    elif after.lost or after.double or not after.balanced:
        said.append(
            f"[red]the books do not balance[/]: {after.lost} lost, {after.double} double; `mutt ledger --deep`"
        )
    else:
        said.append("[green]the books balance[/]: nothing is lost, nothing is there twice")
    return said
