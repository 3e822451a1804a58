"""``mutt rules``: files of rules checked, planned, brought in and taken out; versions shown and restored."""

from __future__ import annotations

import contextlib
import getpass
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

import click
import msgspec
import orjson
from rich.markup import escape

from mutt.cli.backtest import backtest
from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.cli.redactions import redactions as redactions_command
from mutt.errors import MuttError, RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.rules import book, lint
from mutt.rules.book import Book, Fault, NotRules
from mutt.rules.change import Change, falls_silent
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS
from mutt.store import plans, rulebook, usage, versions
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.plans import Plan
from mutt.store.versions import Made
from mutt.words import many

#: As large as one event of a file may be.
EVENT_MAX = 1 << 20


class NotKept(MuttError):
    """A version that can't be read again."""


class NotAllGood(MuttError):
    """Rules of a file can't be brought in."""


@click.group()
def rules() -> None:
    """The rules: which events matter, and what becomes of them."""


rules.add_command(backtest)
rules.add_command(redactions_command)


@rules.command()
@click.argument("files", type=click.File("rb"), nargs=-1, required=True)
@click.option(
    "--event", "events", type=click.File("rb"), help="Events in any known format: show each one's verdict."
)
@click.option("--development-host", "development", multiple=True, help="A host that counts as development.")
def check(files: tuple[BinaryIO, ...], events: BinaryIO | None, development: tuple[str, ...]) -> None:
    """Check rules in FILES (YAML or JSON), without any server. Exit 1 if one can't stay, naming rule, field and reason.

    What `apply` and `import` would refuse is refused here: examples that don't hold, of rules that are off too, and
    active rules that don't fit together into one ruleset.
    """
    good: list[Rule] = []
    hosts: list[str] = []
    redactions: list[Redaction] = []
    faults: list[tuple[str, Fault]] = []
    for file in files:
        checked, found = book.check(book.read(file.name, file.read()))
        good += checked.rules or ()
        hosts += checked.hosts or ()
        redactions += checked.redactions or ()
        faults += [(file.name, fault) for fault in found]
    if faults:
        table(
            "", ["file", "rule", "field", "reason"], [(name, *map(escape, fault)) for name, fault in faults]
        )
        sys.exit(1)
    good = [msgspec.structs.replace(rule, id=number) for number, rule in enumerate(good, 1)]
    development = development or tuple(hosts) or STARTING_DEVELOPMENT_HOSTS
    ruleset = Ruleset.compile(0, good, development, {}, redactions=redactions)
    click.echo(f"{many(len(good), 'rule')}, {'all of them ' if len(good) > 1 else ''}good")
    if events is not None:
        _verdicts(ruleset, events_of(events.read()))


_file = click.argument("file", type=click.File("rb"))
_replace = click.option("--replace", is_flag=True, help="Delete what FILE does not name, in its sections.")
_who = click.option("--who", help="Who changes them.  [default: you]")
_reason = click.option("--reason", required=True, help="Why; kept in the history.")
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_exit_code = click.option("--exit-code", is_flag=True, help="Exit 1 if there is anything to tell.")


@rules.command("import")
@_file
@_replace
@_who
@_reason
@spoken()
def import_(file: BinaryIO, replace: bool, who: str | None, reason: str) -> None:
    """Create or change rules by their names, all of FILE (YAML or JSON) or none. See `plan` and `apply`."""
    wanted = _wanted(file)
    with transaction(services().engine) as conn:
        before = len(rulebook.list_rules(conn))
        plans.apply(conn, wanted, replace=replace, **_said(who, reason))
        after = len(rulebook.list_rules(conn))
    brought = many(len(wanted.rules or ()), "rule")
    click.echo(f"{brought} brought in; before there were {before}, now there are {after}")


@rules.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "yaml"]),
    default="json",
    help="json: rules with every field. yaml: for people; with hosts, teams and storm policies.",
    show_default=True,
)
@spoken()
def export(form: str) -> None:
    """Print every rule in the order in which they are tried: what `plan`, `apply` and `import` take."""
    with transaction(services().engine) as conn:
        if form == "yaml":
            version, found = rulebook.unchanged(conn, plans.standing)
            click.echo(book.write(found, f"MUTT, version {version} of the ruleset"), nl=False)
        else:
            click.echo(orjson.dumps(rulebook.export(conn), option=orjson.OPT_INDENT_2))


@rules.command()
@_file
@_replace
@_as_json
@_exit_code
@spoken()
def plan(file: BinaryIO, replace: bool, as_json: bool, exit_code: bool) -> None:
    """Show what FILE (YAML or JSON) would change of the rules. Nothing is changed."""
    wanted = _wanted(file)
    with transaction(services().engine) as conn:
        found = plans.plan(conn, wanted, replace=replace)
    if as_json:
        told = {"version": found.version, "changes": [_plain(change) for change in found.changes]}
        click.echo(orjson.dumps({**told, "silenced": [change.name for change in found.silenced]}))
    else:
        _show_changes(found.changes)
        click.echo(_sum(found))
    sys.exit(1 if exit_code and found.changes else 0)


@rules.command()
@_file
@_replace
@click.option(
    "--plan-version", type=int, help="Only if the rules still stand in this version, as `plan` showed it."
)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@_who
@_reason
@spoken()
def apply(
    file: BinaryIO, replace: bool, plan_version: int | None, yes: bool, who: str | None, reason: str
) -> None:
    """Make the rules hold what FILE (YAML or JSON) says, as one version: all of it, or nothing."""
    wanted = _wanted(file)
    with transaction(services().engine) as conn:
        found = plans.plan(conn, wanted, replace=replace)
    _show_changes(found.changes)
    if found.count("DELETE") and not yes:
        click.confirm(f"Delete {found.count('DELETE')} of what stands?", abort=True)
    with transaction(services().engine) as conn:
        # What was shown, and nothing else.
        pinned = found.version if plan_version is None else plan_version
        done = plans.apply(conn, wanted, replace=replace, version=pinned, **_said(who, reason))
        version = rulebook.current_version(conn)
    click.echo(f"{_sum(done)} Version {version} stands." if done.changes else "Nothing to change.")


@rules.command("versions")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_as_json
@spoken()
def list_versions(limit: int, as_json: bool) -> None:
    """List the newest versions of the ruleset: when, who, why, what."""
    with transaction(services().engine) as conn:
        found = versions.latest(conn, limit=limit)
    if as_json:
        told = [{**msgspec.to_builtins(made), "counts": _counts(made)} for made in found]
        click.echo(orjson.dumps(told))
        return
    rows = [
        (
            made.version,
            f"{made.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            escape(", ".join(made.who)),
            ", ".join(f"{count} {what}" for what, count in _counts(made).items()),
            escape("; ".join(made.why)),
        )
        for made in found
    ]
    table("", ["version", "when (UTC)", "who", "what", "why"], rows, numbers=[0])


@rules.command("show")
@click.argument("version", type=int)
@spoken()
def show_version(version: int) -> None:
    """Print a version of the ruleset as YAML: what `apply` takes."""
    with transaction(services().engine) as conn, _kept():
        found = versions.book_of(conn, version)
    click.echo(book.write(found, f"MUTT, version {version} of the ruleset"), nl=False)


@rules.command()
@click.argument("before", type=int)
@click.argument("after", type=int)
@_as_json
@_exit_code
@spoken()
def diff(before: int, after: int, as_json: bool, exit_code: bool) -> None:
    """Show what differs between two versions of the ruleset."""
    with transaction(services().engine) as conn, _kept():
        found = versions.compare(conn, before, after)
    if as_json:
        click.echo(orjson.dumps([_plain(change) for change in found]))
    else:
        _show_changes(found)
    sys.exit(1 if exit_code and found else 0)


@rules.command()
@click.argument("version", type=int)
@click.option("--yes", is_flag=True, help="Without asking.")
@_who
@_reason
@spoken()
def restore(version: int, yes: bool, who: str | None, reason: str) -> None:
    """Make rules, hosts, teams and storm policies stand again as they did in VERSION."""
    with transaction(services().engine) as conn, _kept():
        stands = rulebook.current_version(conn)
        _show_changes(versions.compare(conn, stands, version, windows=False))
    if not yes:
        click.confirm(f"Make version {version} stand again?", abort=True)
    with transaction(services().engine) as conn, _kept():
        done = versions.restore(conn, version, _said(who, reason))
        now = rulebook.current_version(conn)
    click.echo(f"{_sum(done)} Version {now} stands." if done.changes else "Nothing to change.")


@rules.command("lint")
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--days", type=click.IntRange(1), help="Look back so far for rules that never fired.  [default: 90]"
)
@_as_json
@_exit_code
@spoken()
def lint_(file: BinaryIO | None, days: int | None, as_json: bool, exit_code: bool) -> None:
    """Say what is odd about the rules, or about those in FILE: that needs no server.

    Of the rules that stand the audit is asked too: which never fired, which overlap, what each costs on real events.
    With --exit-code, exit 1 if there is an error or a warning.
    """
    costs: list[tuple[Rule, float]] = []
    if file is not None:
        found = lint.findings(_wanted(file).rules or ())
    else:
        kept = services().settings.audit_retention_days
        with transaction(services().engine) as conn:
            stands = rulebook.list_rules(conn)
            facts = usage.facts(conn, datetime.now(UTC), days=min(days or usage.SILENT_DAYS, kept))
        costs = lint.costs(stands, facts.sample)
        found = lint.findings(stands, facts, costs)
    if as_json:
        told = [{**msgspec.to_builtins(each), "level": each.level} for each in found]
        click.echo(orjson.dumps({"findings": told, "cost_us": {str(rule.id): us for rule, us in costs}}))
    else:
        rows = [(each.level, each.kind, escape(each.rule), escape(each.message)) for each in found]
        table("", ["level", "what", "rule", "why"], rows)
        click.echo(many(len(found), "finding"))
    sys.exit(1 if exit_code and any(each.level != "info" for each in found) else 0)


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except LookupError as error:
        raise NotKept(*error.args) from None


def _wanted(file: BinaryIO) -> Book:
    """What a file wants. Raises :class:`NotAllGood` with what can't stay."""
    wanted, faults = book.check(book.read(file.name, file.read()))
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise NotAllGood("; ".join(f"rule {rule}: {field}: {why}" for rule, field, why in faults[:5]) + more)
    return wanted


def _said(who: str | None, reason: str) -> Said:
    return {"changed_by": who or getpass.getuser(), "reason": reason}


_SIGNS = {"CREATE": ("+", "green"), "UPDATE": ("~", "yellow"), "DELETE": ("-", "red")}


def _show_changes(found: Sequence[Change]) -> None:
    for change in found:
        sign, colour = _SIGNS[change.operation]
        number = f" (id {change.record_id})" if change.record_id.isdigit() else ""
        silent = "  no alerts any more" if falls_silent(change) else ""
        click.secho(f"{sign} {change.noun} {_quoted(change.name)}{number}{silent}", fg=colour)
        for name, was, becomes in change.fields if change.operation != "DELETE" else ():
            told = f"{_quoted(was)} -> " if change.operation == "UPDATE" else ""
            click.echo(f"    {name}: {told}{_quoted(becomes)}")


def _quoted(value: Any) -> str:
    # As JSON: an escape sequence of a terminal in somebody's rule stays a text.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sum(found: Plan) -> str:
    counted = ((found.count(operation), word) for operation, word in _DONE.items())
    told = ", ".join(f"{count} {word}" for count, word in counted)
    silenced = f" {many(len(found.silenced), 'rule')} alert no more." if found.silenced else ""
    return f"Version {found.version}: {told}.{silenced}"


_DONE = {"CREATE": "to add", "UPDATE": "to change", "DELETE": "to delete"}


def _plain(change: Change) -> dict[str, Any]:
    return {
        "operation": change.operation,
        "table": change.table,
        "record_id": change.record_id,
        "name": change.name,
        "fields": {name: [was, becomes] for name, was, becomes in change.fields},
    }


def _counts(made: Made) -> dict[str, int]:
    return {f"{operation} {table}": count for (operation, table), count in made.counts.items()}


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
        kept = ruleset.redactions.redact(event)
        told = msgspec.structs.asdict(evaluate(kept, ruleset))
        rows.append((kept.hostname, kept.message[:60], told["handling"], told["moog_severity"], told["why"]))
    table("", ["host", "message", "handling", "Moog", "why"], rows)
