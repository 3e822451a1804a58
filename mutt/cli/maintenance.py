"""``mutt maintenance``: put hosts, teams or rules in maintenance, end it, and read the receipts."""

from __future__ import annotations

import getpass
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec
import orjson
from rich.markup import escape

from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError
from mutt.rules.windows import Window, check_timezone, in_zone, read_time
from mutt.store import receipts as receipt_rows
from mutt.store import windows
from mutt.store.engine import transaction
from mutt.store.history import Said

_who = click.option("--who", help="Who does it.  [default: you]")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")

_LASTS = re.compile(r"([1-9][0-9]{0,4})(min|m|h|d)")
_UNITS = {"min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


class NoWindow(MuttError):
    """There is no such maintenance window."""


@click.group()
def maintenance() -> None:
    """Windows in which alerts are held."""


@maintenance.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended or are off.")
@_json
@spoken()
def list_windows(everything: bool, as_json: bool) -> None:
    """What is in maintenance now, and what will be. Times are in UTC."""
    now = datetime.now(UTC)
    with transaction(services().engine) as conn:
        found = windows.windows(conn)
    told = [(window, window.at(now), window.next_after(now)) for window in found]
    told = [one for one in told if everything or one[1] or one[2]]
    if as_json:
        click.echo(
            orjson.dumps(
                [
                    {
                        **msgspec.to_builtins(window),
                        "on_until": on.end if on else None,
                        "next": coming._asdict() if coming else None,
                    }
                    for window, on, coming in told
                ],
                option=orjson.OPT_INDENT_2,
            )
        )
        return
    rows = [
        (window.id, escape(window.name), escape(_scope(window)), escape(window.owner), *_when(on, coming))
        for window, on, coming in told
    ]
    table("", ["id", "name", "what", "owner", "on until", "next"], rows, numbers=[0])


@maintenance.command()
@click.option("--name", required=True, help="What is done.")
@click.option("--host", "hostname", help="A name, a glob, or a network.")
@click.option("--team", help="The team that the alert goes to.")
@click.option("--rule", "rule_id", type=int, help="The number of a rule.")
@click.option("--from", "starts_at", help="When it begins, on the clock of the time zone.  [default: now]")
@click.option("--to", "ends_at", help="When it ends.")
@click.option("--for", "lasts", help="How long it lasts, in place of --to: 90min, 2h, 1d.")
@click.option("--timezone", default="UTC", show_default=True, help="An IANA name, such as Europe/London.")
@click.option("--repeat", "recurrence", default="", help="An RRULE, such as FREQ=WEEKLY;BYDAY=SA.")
@click.option("--report-only", is_flag=True, help="What still burns at the end is named, not sent.")
@click.option("--owner", help="Who answers for it.  [default: you]")
@_who
@click.option("--reason", required=True, help="Why; kept with the window and in the history.")
@spoken()
def add(
    lasts: str | None,
    starts_at: str | None,
    ends_at: str | None,
    report_only: bool,
    owner: str | None,
    who: str | None,
    **given: Any,
) -> None:
    """Plan a window, or begin one now."""
    if bool(lasts) == bool(ends_at):
        raise click.UsageError("say when it ends: --to, or --for")
    start: Any = starts_at or datetime.now(UTC).replace(microsecond=0)
    if lasts:
        ends_at = _end_after(start, lasts, given["timezone"])
    fields = {
        **given,
        "starts_at": start,
        "ends_at": ends_at,
        "owner": owner or getpass.getuser(),
        "release": not report_only,
    }
    with transaction(services().engine) as conn:
        window = windows.save(conn, fields, **_said(who, given["reason"]))
    click.echo(f"window {window.id} “{window.name}”: {_scope(window)}, {_first(window)}")


@maintenance.command()
@click.argument("window_id", metavar="ID", type=int)
@_who
@click.option("--reason", required=True, help="Why; kept in the history.")
@spoken()
def end(window_id: int, who: str | None, reason: str) -> None:
    """End window ID, which is on, now; later times of it stay."""
    try:
        with transaction(services().engine) as conn:
            window = windows.end_now(conn, window_id, datetime.now(UTC), **_said(who, reason))
    except LookupError as error:
        raise NoWindow(str(error)) from None
    click.echo(f"ended: “{window.name}”; its receipt is made within half a minute")


@maintenance.command()
@click.argument("window_id", metavar="[ID]", type=int, required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@_json
@spoken()
def receipts(window_id: int | None, limit: int, as_json: bool) -> None:
    """What each time of window ID, or of any, held; the newest first. Times are in UTC."""
    with transaction(services().engine) as conn:
        found = receipt_rows.receipts(conn, window_id=window_id, limit=limit)
    if as_json:
        # Plain texts as names: SQLAlchemy's are texts of their own.
        told = [{f"{name}": value for name, value in row._mapping.items()} for row in found]
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        return
    rows = [
        (
            row.id,
            escape(row.name),
            f"{row.starts_at.astimezone(UTC):%Y-%m-%d %H:%M}",
            f"{row.ends_at.astimezone(UTC):%Y-%m-%d %H:%M}" if row.ended_at else "on now",
            *((row.held, row.cleared, row.burning, row.released) if row.ended_at else ("", "", "", "")),
        )
        for row in found
    ]
    columns = ["id", "window", "began", "ended", "held", "cleared", "still burning", "released"]
    table("", columns, rows, numbers=[0, 4, 5, 6, 7])


def _end_after(start: Any, lasts: str, timezone: str) -> Any:
    found = _LASTS.fullmatch(lasts.replace(" ", ""))
    if found is None:
        raise click.UsageError(f"--for {lasts}: write a span such as 90min, 2h or 1d")
    began = in_zone("starts_at", read_time("starts_at", start), check_timezone(timezone))
    return began + timedelta(**{_UNITS[found[2]]: int(found[1])})


def _scope(window: Window) -> str:
    named = (("host", window.hostname), ("team", window.team), ("rule", window.rule_id))
    return ", ".join(f"{what} {value}" for what, value in named if value)


def _first(window: Window) -> str:
    start, ends = (time.astimezone(window.zone) for time in (window.starts_at, window.ends_at))
    again = f", then {window.recurrence}" if window.recurrence else ""
    return f"{start:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} {window.timezone}{again}"


def _when(on: Any, coming: Any) -> tuple[str, str]:
    return f"{on.end:%Y-%m-%d %H:%M}" if on else "", f"{coming.start:%Y-%m-%d %H:%M}" if coming else ""


def _said(who: str | None, reason: str) -> Said:
    return {"changed_by": who or getpass.getuser(), "reason": reason}
