"""``mutt audit search`` and ``export``: stored events, of the table and of archives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.errors import SettingsError
from mutt.settings import span
from mutt.store import lookup, whole
from mutt.store.lookup import AuditSearch
from mutt.store.replica import source_of
from mutt.store.whole import FORMATS
from mutt.words import many, printable


def time(_context: click.Context, option: click.Parameter, given: str | None) -> datetime | None:
    """A span before now, or a time of its own; one without a zone is in UTC."""
    if given is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=span()(str(option.name), given))
    except (SettingsError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise click.BadParameter("write a span such as 7d, or a time such as 2026-03-04T09:30Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_OPTIONS = (
    click.option("--since", callback=time, help="Received from then on: a span before now, or a time."),
    click.option("--until", callback=time, help="Received until then: a span before now, or a time."),
    click.option("--host", "hostname", default="", help="Of this host."),
    click.option("--rule", "rule_id", type=click.IntRange(0, 2**31 - 1), help="Decided by this rule."),
    click.option("--handling", default="", help="Handled so."),
    click.option("--source", default="", help="Of this source."),
    click.option("--severity", type=click.IntRange(0, 7), help="This one and all that are worse."),
    click.option("--text", default="", help="With this in the message, ignoring case."),
)


def searching(command: Callable[..., None]) -> Callable[..., None]:
    """The options that narrow a search; the command is given what they come to."""

    @functools.wraps(command)
    def called(*, limit: int = 100, **given: Any) -> None:
        asked = {name: given.pop(name) for name in AuditSearch.__struct_fields__ if name in given}
        command(asked=AuditSearch(**asked, limit=limit), **given)

    return functools.reduce(lambda made, option: option(made), reversed(_OPTIONS), called)


@click.command()
@searching
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Rows at most.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each.")
@spoken()
def search(asked: AuditSearch, as_json: bool) -> None:
    """The newest stored events that fit; the last 15 minutes where neither host, rule nor time is given."""
    s = services()
    found = whole.search(s.reader.ask, s.archives, asked.narrowed(datetime.now(UTC)))
    if as_json:
        for line in found.rows:
            click.echo(orjson.dumps(msgspec.to_builtins(line._asdict())))
        return
    rows = [
        (f"{one.received_at:%Y-%m-%d %H:%M:%S}", one.hostname, one.handling, one.message[:200], one.event_id)
        for one in found.rows
    ]
    shown = [[escape(printable(str(cell))) for cell in row] for row in rows]
    table("", ["received (UTC)", "host", "handling", "message", "id"], shown)
    if found.told:
        click.echo(found.told)
    if found.older:
        click.echo("there are more before these: `mutt audit export` writes them all")


@click.command()
@searching
@click.option("--format", "kind", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file."
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@spoken()
def export(asked: AuditSearch, kind: str, output: Path, force: bool) -> None:
    """Write every stored event that fits into a file, whole, in the order of time.

    Of CSV, cells that a spreadsheet could run begin with an apostrophe. The file has its name once it is whole.
    """
    # Late: they bring pyarrow, which no other command needs.
    from mutt.store import exports  # noqa: PLC0415
    from mutt.web.admin.exportfile import written  # noqa: PLC0415

    if output.exists() and not force:
        raise click.UsageError(f"{output} is there: give another name, or --force")
    s, now = services(), datetime.now(UTC)
    asked = asked.narrowed(now)
    with lookup.reading(s.read_engine) as conn:
        since, until = exports.span(conn, s.archives, asked, now)
        lacks = source_of(conn).says
    partial = output.with_name(f".{output.name}.partial")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as line:
        task, rows = line.add_task("", total=1.0), [0]

        def noted(count: int, share: float) -> None:
            rows[:] = [count]
            line.update(task, completed=share, description=many(count, "event"))

        try:
            with partial.open("wb") as out:
                for piece in written(
                    exports.export(s.read_engine, s.archives, asked, since, until), kind, noted
                ):
                    out.write(piece)
            partial.rename(output)
        finally:
            partial.unlink(missing_ok=True)
    click.echo(
        f"{output}: {many(rows[0], 'event')} from {since:%Y-%m-%d %H:%M} to {min(until, now):%Y-%m-%d %H:%M} UTC"
    )
    if lacks:
        click.echo(lacks, err=True)
