"""``mutt rules redactions``: what is taken out of events before they are judged and kept."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

import click
import msgspec
import orjson
from rich.markup import escape

from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError
from mutt.rules.check import check_redaction
from mutt.rules.redaction import COMMON, Redaction, Redactions, common
from mutt.store import redactions as rows
from mutt.store.engine import transaction
from mutt.store.history import Said

_who = click.option("--who", help="Who changes them.  [default: you]")
_reason = click.option("--reason", required=True, help="Why; kept in the history.")


class NoRedaction(MuttError):
    """There is no such redaction."""


@click.group()
def redactions() -> None:
    """What is taken out of events before they are judged and kept."""


@redactions.command("list")
@click.option("--common", "offered", is_flag=True, help="Those that `add --common` makes.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@spoken()
def list_redactions(offered: bool, as_json: bool) -> None:
    """All of them, in the order in which they are applied."""
    if offered:
        table("", ["redaction", "what it takes"], [(name, escape(what)) for name, what, _, _ in COMMON])
        return
    with transaction(services().engine) as conn:
        found = rows.listed(conn)
    if as_json:
        click.echo(orjson.dumps([msgspec.to_builtins(one) for one in found]))
        return
    table(
        "",
        ["id", "position", "redaction", "pattern", "becomes", ""],
        [
            (
                one.id,
                one.position,
                escape(one.name),
                escape(one.pattern),
                escape(one.replacement),
                "" if one.is_active else "off",
            )
            for one in found
        ],
        numbers=(0, 1),
    )


@redactions.command()
@click.argument("name", required=False)
@click.argument("pattern", required=False)
@click.option(
    "--replacement", help="What stands there instead; \\1 is the first group.  [default: [redacted]]"
)
@click.option("--position", type=int, help="The lowest goes first.  [default: 100]")
@click.option("--off", is_flag=True, help="Not in force yet.")
@click.option("--common", "offered", metavar="NAME", help="One of `list --common` instead; switched on.")
@_who
@_reason
@spoken()
def add(
    name: str | None,
    pattern: str | None,
    replacement: str | None,
    position: int | None,
    off: bool,
    offered: str | None,
    who: str | None,
    reason: str,
) -> None:
    """Take what PATTERN (RE2) matches out of events from now on."""
    given: dict[str, Any] = {"name": name, "pattern": pattern}
    if offered is not None:
        given = msgspec.structs.asdict(_common(offered)) | {"name": name or offered}
    elif name is None or pattern is None:
        raise click.UsageError("give NAME and PATTERN, or --common")
    more = {"replacement": replacement, "position": position}
    given |= {field: value for field, value in more.items() if value is not None} | {"is_active": not off}
    with transaction(services().engine) as conn:
        made = rows.save(conn, given, **_said(who, reason))
    click.echo(f"{made.name} is {'added' if made.is_active else 'added, and off'}")


@redactions.command()
@click.argument("name")
@_who
@_reason
@spoken()
def remove(name: str, who: str | None, reason: str) -> None:
    """Delete one: what it takes out is kept from then on."""
    _of_name(name, lambda conn, one: rows.remove(conn, one.id, **_said(who, reason)))
    click.echo(f"{name} is deleted")


@redactions.command()
@click.argument("name")
@click.argument("switch", type=click.Choice(["on", "off"]))
@_who
@_reason
@spoken()
def turn(name: str, switch: str, who: str | None, reason: str) -> None:
    """Switch one on or off."""
    fields = {"is_active": switch == "on"}
    _of_name(name, lambda conn, one: rows.save(conn, fields, redaction_id=one.id, **_said(who, reason)))
    click.echo(f"{name} is {switch}")


@redactions.command()
@click.argument("file", type=click.File("r", errors="replace"), default="-")
@click.option("--pattern", help="Only this one, which need not stand; then no server is asked.")
@click.option("--replacement", help="Of it.")
@spoken()
def test(file: Any, pattern: str | None, replacement: str | None) -> None:
    """Show each line of FILE, or of what is typed, as it would be kept. Nothing is kept."""
    if pattern is None:
        with transaction(services().engine) as conn:
            made = Redactions(rows.listed(conn))
    else:
        given = {"name": "draft", "pattern": pattern}
        made = Redactions([check_redaction(given | ({"replacement": replacement} if replacement else {}))])
    for line in file:
        click.echo(made.text(line.rstrip("\n")))


def _common(name: str) -> Redaction:
    found = next((one for one in common() if one.name == name), None)
    if found is None:
        raise NoRedaction(f"{name!r} is none of {', '.join(one.name for one in common())}")
    return found


def _of_name(name: str, change: Callable[[Any, Redaction], object]) -> None:
    with transaction(services().engine) as conn:
        try:
            change(conn, rows.by_name(conn, name))
        except LookupError as error:
            raise NoRedaction(str(error)) from None


def _said(who: str | None, reason: str) -> Said:
    return {"changed_by": who or getpass.getuser(), "reason": reason}
