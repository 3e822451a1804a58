"""``mutt rules``: check a file of rules, bring it in, take it out."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO

import click
import msgspec
import orjson
from rich.markup import escape

from mutt.cli.backtest import backtest
from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError, RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.rules.book import Fault, NotRules, check_items, items_of
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.rule import Rule
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.words import many

#: As large as one event of a file may be.
EVENT_MAX = 1 << 20


class NotAllGood(MuttError):
    """Rules of a file can't be brought in."""


@click.group()
def rules() -> None:
    """The rules: which events matter, and what becomes of them."""


rules.add_command(backtest)


@rules.command()
@click.argument("files", type=click.File("rb"), nargs=-1, required=True)
@click.option(
    "--event", "events", type=click.File("rb"), help="Events in any known format: show each one's verdict."
)
@click.option("--development-host", "development", multiple=True, help="A host that counts as development.")
def check(files: tuple[BinaryIO, ...], events: BinaryIO | None, development: tuple[str, ...]) -> None:
    """Check rules in JSON FILES, without any server. Exit 1 if one can't stay, naming rule, field and reason.

    What `import` would refuse is refused here, also active rules that don't fit together into one ruleset.
    """
    good: list[Rule] = []
    faults: list[tuple[str, Fault]] = []
    for file in files:
        checked, found = check_items(items_of(file.name, file.read()))
        good += checked
        faults += [(file.name, fault) for fault in found]
    if faults:
        table(
            "", ["file", "rule", "field", "reason"], [(name, *map(escape, fault)) for name, fault in faults]
        )
        sys.exit(1)
    ruleset = Ruleset.compile(0, good, development or STARTING_DEVELOPMENT_HOSTS, {})
    click.echo(f"{many(len(good), 'rule')}, {'all of them ' if len(good) > 1 else ''}good")
    if events is not None:
        _verdicts(ruleset, events_of(events.read()))


@rules.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--replace", is_flag=True, help="Delete the rules that FILE does not name.")
@click.option("--who", help="Who changes them.  [default: you]")
@click.option("--reason", required=True, help="Why; kept in the history.")
@spoken()
def import_(file: BinaryIO, replace: bool, who: str | None, reason: str) -> None:
    """Create or change rules by their names, all of FILE (JSON) or none."""
    items = list(items_of(file.name, file.read()))
    _, faults = check_items(items)
    if faults:
        raise NotAllGood("; ".join(f"rule {rule}: {field}: {why}" for rule, field, why in faults[:5]))
    with transaction(services().engine) as conn:
        before = len(rulebook.list_rules(conn))
        written = rulebook.import_rules(
            conn, items, replace=replace, changed_by=who or getpass.getuser(), reason=reason
        )
        after = len(rulebook.list_rules(conn))
    click.echo(f"{many(len(written), 'rule')} brought in; before there were {before}, now there are {after}")


@rules.command()
@spoken()
def export() -> None:
    """Print every rule as JSON, in the order in which they are tried: what `import` takes."""
    with transaction(services().engine) as conn:
        found = rulebook.export(conn)
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def events_of(data: bytes) -> Iterator[Event]:
    """The events of a file, read as ingest would read them. Raises :class:`~mutt.errors.MuttError`."""
    context = Context(datetime.now(UTC), "check", EVENT_MAX, "unknown")
    try:
        parsed = registry.parse(registry.sniff(data, ""), data, context)
    except RejectedBody as error:
        raise NotRules(f"--event: {error}") from None
    if parsed.rejected:
        first = parsed.rejected[0]
        raise NotRules(f"--event: item {first.index}: {first.field}: {first.reason}")
    return iter(parsed.events)


def _verdicts(ruleset: Ruleset, events: Iterable[Event]) -> None:
    rows = []
    for event in events:
        told = msgspec.structs.asdict(evaluate(event, ruleset))
        rows.append(
            (event.hostname, event.message[:60], told["handling"], told["moog_severity"], told["why"])
        )
    table("", ["host", "message", "handling", "Moog", "why"], rows)
