"""``mutt rules shadow``: run a draft of the rules beside those in force, look at it, promote or drop it."""

from __future__ import annotations

import getpass
from typing import BinaryIO

import click
import orjson
from rich.markup import escape
from sqlalchemy import Connection

from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError
from mutt.rules.book import Book, NotRules, check, items_of, read
from mutt.rules.shadow import Kind, called
from mutt.store import shadows
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.shadows import DAYS, DAYS_MAX, Edit, Shadow
from mutt.words import many

_who = click.option("--who", help="Who does it.  [default: you]")
_reason = click.option("--reason", required=True, help="Why; kept in the history.")
_which = click.argument("shadow_id", metavar="[ID]", type=int, required=False)


class NoShadow(MuttError):
    """There is no such shadow, or no such rule."""


@click.group()
def shadow() -> None:
    """A draft of the rules beside those in force: it judges live traffic, and touches nothing."""


@shadow.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--replace", is_flag=True, help="Without what FILE does not name, of what it speaks of.")
@click.option(
    "--rule", "changed", multiple=True, metavar="ID=FILE", help="Rule ID with what FILE says of it."
)
@click.option("--delete", "deleted", multiple=True, type=int, metavar="ID", help="Without rule ID.")
@click.option("--name", default="", help="What it is called.  [default: the first rule's name]")
@click.option(
    "--days",
    type=click.IntRange(1, DAYS_MAX),
    default=DAYS,
    show_default=True,
    help="Then it ends by itself.",
)
@_who
@_reason
@spoken()
def start(
    file: BinaryIO | None,
    replace: bool,
    changed: tuple[str, ...],
    deleted: tuple[int, ...],
    name: str,
    days: int,
    who: str | None,
    reason: str,
) -> None:
    """Begin one: with what FILE (YAML or JSON) holds, rules by their names; or with single rules.

    It stands on top of whatever is in force: rules that it does not change follow those in force.
    """
    if replace and file is None:
        raise click.UsageError("--replace needs FILE: the rules that are to stay")
    wanted = _book(file) if file else None
    edits = [*map(_edit, changed), *(Edit(rule_id, None) for rule_id in deleted)]
    if wanted is None and not edits:
        raise click.UsageError("say what it is to change: FILE, --rule or --delete")
    try:
        with transaction(services().engine) as conn:
            begun = shadows.start(
                conn, edits, wanted, replace=replace, name=name, days=days, **_said(who, reason)
            )
    except LookupError as error:
        raise NoShadow(str(error)) from None
    click.echo(
        f"shadow {begun.id} “{begun.name}”: {many(len(begun.draft), 'change')}, "
        f"until {begun.until:%Y-%m-%d %H:%M} UTC; look at it with `mutt rules shadow status`"
    )


@shadow.command()
@_which
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@spoken()
def status(shadow_id: int | None, as_json: bool) -> None:
    """What shadow ID, or the newest, has seen so far."""
    with transaction(services().engine) as conn:
        found = _found(conn, shadow_id)
        totals = shadows.totals(shadows.hours(conn, found.id))
        in_the_way = shadows.changed_since(conn, found) if found.is_open else []
    asked = sum(totals.values()) - totals[Kind.SKIPPED]
    if as_json:
        told = {
            **{name: getattr(found, name) for name in ("id", "name", "who", "reason", "status", "error")},
            **{name: getattr(found, name) for name in ("created_at", "until", "ended_at", "base_version")},
            "promoted_version": found.promoted_version,
            "events": asked,
            "counts": {kind.value: n for kind, n in totals.items()},
            "changed_since": [called(change) for change in in_the_way],
        }
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        return
    click.echo(f"shadow {found.id} “{found.name}”, {found.status}: {many(asked, 'event')} looked at")
    if found.error:
        click.echo(f"it was stopped: {found.error}")
    for change in in_the_way:
        click.echo(f"{called(change)} was changed since: it can't be promoted")
    rows = [(kind.replace("_", " "), f"{n:,}") for kind, n in totals.items()]
    table("", ["kind", "events"], rows, numbers=[1])
    changes = [(change.operation.lower(), escape(called(change))) for change in found.draft]
    table("", ["what", "row"], changes)


@shadow.command()
@_which
@_who
@_reason
@spoken()
def promote(shadow_id: int | None, who: str | None, reason: str) -> None:
    """Make shadow ID, or the newest, the rules in force. Refused where its rules were changed since it began."""
    with transaction(services().engine) as conn:
        found = _found(conn, shadow_id)
        version = shadows.promote(conn, found.id, **_said(who, reason))
    click.echo(f"promoted: “{found.name}” is version {version} of the rules")


@shadow.command()
@_which
@_who
@_reason
@spoken()
def drop(shadow_id: int | None, who: str | None, reason: str) -> None:
    """End shadow ID, or the newest; the rules in force stay what they are."""
    with transaction(services().engine) as conn:
        found = shadows.drop(conn, _found(conn, shadow_id).id, **_said(who, reason))
    click.echo(f"dropped: “{found.name}”")


def _book(file: BinaryIO) -> Book:
    found, faults = check(read(file.name, file.read()))
    if faults:
        raise NotRules("; ".join(f"{what}: {field}: {why}" for what, field, why in faults[:5]))
    return found


def _edit(told: str) -> Edit:
    rule_id, _, path = told.partition("=")
    if not rule_id.isdigit() or not path:
        raise click.UsageError(f"--rule {told}: write ID=FILE, such as 7=bgp.json")
    try:
        with click.open_file(path, "rb") as file:
            items = items_of(path, file.read())
    except OSError as error:
        raise click.UsageError(f"--rule {told}: {error.strerror}") from None
    if len(items) != 1:
        raise NotRules(f"{path} holds {many(len(items), 'rule')}; --rule takes one")
    return Edit(int(rule_id), items[0])


def _found(conn: Connection, shadow_id: int | None) -> Shadow:
    try:
        newest = shadows.newest(conn, limit=1)
        if shadow_id is None and not newest:
            raise LookupError("no shadow has run yet")
        return newest[0] if shadow_id is None else shadows.get(conn, shadow_id)
    except LookupError as error:
        raise NoShadow(str(error)) from None


def _said(who: str | None, reason: str) -> Said:
    return {"changed_by": who or getpass.getuser(), "reason": reason}
