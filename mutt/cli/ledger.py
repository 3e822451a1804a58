"""``mutt ledger``: do the books balance (P6), and does PostgreSQL say the same?"""

from __future__ import annotations

import getpass
import sys
import time

import click
import msgspec
import orjson
import redis
from rich.markup import escape

from mutt import recount as recounting
from mutt.balance import Report, observe
from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.services import Services
from mutt.store.history import Said
from mutt.streams.books import ALERTS, EVENTS
from mutt.words import many

#: Seconds between two looks while waiting.
EVERY = 0.2


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--deep", is_flag=True, help="Count again by walking the streams and the rows. Slow.")
@click.option("--wait", "patience", type=click.FloatRange(0), help="Wait up to so many seconds for rest.")
@click.option(
    "--recount",
    is_flag=True,
    help="Say what the ledger should say by what stands, as after a restore (docs/backup.md); with --apply write it.",
)
@click.option("--apply", is_flag=True, help="With --recount: let the ledger say so.")
@click.option("--who", help="With --apply: who does it.  [default: you]")
@click.option("--reason", default="", help="With --apply: why; kept in the history.")
@spoken()
def ledger(
    as_json: bool,
    deep: bool,
    patience: float | None,
    recount: bool,
    apply: bool,
    who: str | None,
    reason: str,
) -> None:
    """Show the books: where every accepted event and every raised alert is. Exit 1 if they do not balance."""
    if recount:
        _recount(services(), apply, {"changed_by": who or getpass.getuser(), "reason": reason})
        return
    if apply:
        raise click.UsageError("--apply belongs to --recount")
    report, why = observe(services(), deep=deep) if patience is None else _at_rest(services(), patience, deep)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(report), option=orjson.OPT_INDENT_2))
    else:
        _print(report, why)
    if patience is not None and not report.at_rest:
        click.echo(f"not at rest after {patience:g} s", err=True)
        sys.exit(1)
    sys.exit(0 if report.balanced else 1)


def _recount(services: Services, apply: bool, said: Said) -> None:
    if apply and not said["reason"]:
        raise click.UsageError("say why: --reason TEXT; it is kept in the history")
    made = recounting.plan(services)
    if not made.changes and not made.letterless:
        click.echo("the ledger says what stands: there is nothing to change")
        return
    table("", ["", "is", "should be"], [(name, *pair) for name, pair in made.changes.items()], numbers=(1, 2))
    if (lost := made.before["events.settled"] - made.after["events.settled"]) > 0:
        click.echo(
            f"{many(lost, 'settled event')} without an audit row: the ledger forgets that, they stay lost"
        )
    if made.letterless:
        click.echo(
            f"{many(len(made.letterless), 'alert')} parked without a dead letter: to wait, and be sent"
        )
    if apply:
        recounting.apply(services, made, **said)
        click.echo("the ledger says so now")
    else:
        click.echo("nothing was changed: --apply --reason TEXT writes it")


def _at_rest(services: Services, patience: float, deep: bool) -> tuple[Report, str]:
    deadline = time.monotonic() + patience
    while True:
        late = time.monotonic() >= deadline
        try:
            report, why = observe(services, deep=False)
            if deep and (late or report.at_rest):
                report, why = observe(services, deep=True)
            if late or (report.at_rest and report.postgres is not None):
                return report, why
        except redis.RedisError:
            # Who waits for rest may wait for a restart, too.
            if late:
                raise
        time.sleep(EVERY)


_SENTENCES = {
    "balanced": "[green]the books balance[/]",
    "in flight": "in flight: the equations hold; PostgreSQL is compared when nothing moves (--wait)",
    "lost": "[red]lost[/]: {lost} settled events have no audit row",
    "double": "[red]double[/]: {double} audit rows more than settled events",
    "outcomes": "[red]the books do not balance[/]: {outcomes} of what became of alerts can't be recorded: "
    "mend what PostgreSQL refuses, then `mutt dlq replay moog`",
    "off": "[red]the books do not balance[/]",
}


def _print(report: Report, why: str) -> None:
    rows = report.postgres or {"audit_rows": "?", "alerts": {}}
    of_events = {"settled": rows["audit_rows"]}
    _side("events", EVENTS, report.events, report.off_events, of_events)
    _side("alerts", ALERTS, report.alerts, report.off_alerts, rows["alerts"])
    if report.spilled:
        console.print(
            f"[yellow]spilled[/]: {many(report.spilled, 'event')} in PostgreSQL, not in the books until they flow back"
        )
    if why:
        console.print(f"[yellow]PostgreSQL can't be asked[/], so this is Redis' side alone: {escape(why)}")
    if report.walked is not msgspec.UNSET:
        table("counted one by one", ["what", "n"], report.walked.items(), numbers=(1,))
    for name, n in report.disagree.items():
        console.print(f"  {name}: {n:+d} against the ledger")
    told = {"lost": report.lost, "double": report.double, "outcomes": many(report.outcomes_parked, "note")}
    console.print(_SENTENCES[report.state].format_map(told))


def _side(
    of: str, order: tuple[str, ...], ledger: dict[str, int], off: int, postgres: dict[str, object]
) -> None:
    rows = [
        ("Redis", *(ledger[name] for name in order), off),
        ("PostgreSQL", *(postgres.get(name, "") for name in order), ""),
    ]
    table("", [of, *order, "off"], rows, numbers=range(1, len(order) + 2))
