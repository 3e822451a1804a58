"""``mutt audit``: retired months, which are files: archive one, look at them, prove them, put one back."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.cli.partitions import size
from mutt.errors import ArchiveUnreadable, Refused
from mutt.store.archives import manifest
from mutt.store.archives.manifest import Manifest
from mutt.words import many

#: How long a restored month stays where nobody says otherwise.
STAYS = "14"


def month_of(_context: click.Context, _option: click.Parameter, given: str | None) -> str | None:
    """A month as it is typed."""
    try:
        return None if given is None else manifest.check_month(given)
    except ValueError:
        raise click.BadParameter(f"{given!r} is no month: write it as 2026-05") from None


@click.command()
@click.argument("month", metavar="[MONTH]", required=False, callback=month_of)
@click.option(
    "--due", is_flag=True, help="All months that are older than AUDIT_RETENTION_DAYS, as retention does."
)
@spoken()
def archive(month: str | None, due: bool) -> None:
    """Write MONTH (2026-05) as a file, read it back, and only then take it out of PostgreSQL.

    An archive of an older version (csv.gz) is made anew. Where each role of MUTT has a login of its own, DATABASE_URL
    is housekeeping's then, or the owner's.
    """
    from mutt.store import retention  # noqa: PLC0415 it brings pyarrow, which few commands need

    if (month is None) is not due:
        raise click.UsageError("give a MONTH, or --due")
    s, now = services(), datetime.now(UTC)
    if due:
        gone = [
            manifest.month_of(name)
            for name in retention.retire(s.engine, now, s.settings.audit_retention_days, s.archives)
        ]
    else:
        assert month is not None
        gone = _archive(month, now)
    old = retention.convert(s.engine, s.archives, now, month)
    for name in old:
        click.echo(f"{name}: made anew as Parquet")
    for one in gone:
        found = manifest.read(s.archives.directory, one)
        assert found is not None
        click.echo(
            f"{one}: {many(found.rows, 'row')} in {size(found.bytes)}, read back and taken out of PostgreSQL"
        )
    if not gone and not old:
        click.echo("nothing is due")


def _archive(month: str, now: datetime) -> list[str]:
    from mutt.store import retention  # noqa: PLC0415 it brings pyarrow, which few commands need

    s = services()
    try:
        return [month] if retention.retire_month(s.engine, month, now, s.archives) else []
    except Refused:
        if manifest.old_files(s.archives.directory, month):
            return []
        raise


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The manifests, as JSON.")
def archives(as_json: bool) -> None:
    """List the archived months."""
    directory = services().archives.directory
    found = manifest.listed(directory)
    if as_json:
        click.echo(orjson.dumps([_told(one) for one in found], option=orjson.OPT_INDENT_2))
        return
    rows = [
        (
            one.month,
            one.rows,
            size(one.bytes),
            len(one.files),
            f"{one.span[0]:%Y-%m-%d %H:%M:%S}" if one.span else "",
            f"{one.span[1]:%Y-%m-%d %H:%M:%S}" if one.span else "",
            f"{one.verified_at:%Y-%m-%d %H:%M}" if one.verified_at else "when written",
        )
        for one in found
    ]
    table(
        "", ["month", "rows", "size", "files", "from (UTC)", "to (UTC)", "verified"], rows, numbers=(1, 2, 3)
    )
    for file in manifest.old_files(directory):
        click.echo(_old(file))
    if not rows:
        click.echo(f"no month is archived in {directory}")


def _old(file: Path) -> str:
    month = manifest.old_month(file)
    return f"{file.name} was written by an older version: `mutt audit archive {month}` makes it anew"


def _told(one: Manifest) -> dict[str, object]:
    files = [{name: getattr(file, name) for name in file.__struct_fields__} for file in one.files]
    return {
        "month": one.month,
        "rows": one.rows,
        "bytes": one.bytes,
        "verified_at": one.verified_at,
        "files": files,
    }


@click.command()
@click.argument("month", metavar="[MONTH]", required=False, callback=month_of)
def verify(month: str | None) -> None:
    """Read the archive of MONTH, or all, to the end: hashes, counts, rows. Exit 1 if one is damaged, and which."""
    duck, now, bad = services().archives, datetime.now(UTC), 0
    chosen = [month] if month else manifest.months(duck.directory)
    for one in chosen:
        bad += _verify(one, now)
    stray = [] if month else _stray()
    for file in stray:
        click.echo(
            f"{file}: no manifest names it; it was being written when something broke off, and may be deleted"
        )
    for old in manifest.old_files(duck.directory, month):
        click.echo(_old(old))
    if not chosen:
        click.echo(f"no month is archived in {duck.directory}")
    sys.exit(1 if bad else 0)


def _verify(month: str, now: datetime) -> int:
    """Say of one month whether it is whole: how many files are not."""
    from mutt.store.archives import checking  # noqa: PLC0415 it brings pyarrow, which few commands need

    duck = services().archives
    try:
        found = manifest.read(duck.directory, month)
    except ArchiveUnreadable as error:
        click.echo(f"{month}: DAMAGED: {error.file}: {error.what}")
        return 1
    if found is None:
        click.echo(f"{month}: has no archive in {duck.directory}")
        return 1
    wrong = checking.damages(duck, found)
    for file, what in wrong:
        click.echo(f"{month}: DAMAGED: {file} {what}")
    if not wrong:
        _note(month, now)
        click.echo(
            f"{month}: {many(found.rows, 'row')} in {many(len(found.files), 'file')} are as they were written"
        )
    return len(wrong)


def _note(month: str, now: datetime) -> None:
    try:
        manifest.verified(services().archives.directory, month, now)
    except OSError as error:
        click.echo(f"{month}: that it was verified can't be noted: {error}", err=True)


def _stray() -> list[str]:
    try:
        return [file.name for file in manifest.unknown_files(services().archives.directory)]
    except ArchiveUnreadable:
        return []  # said already


@click.command()
@click.argument("month", metavar="MONTH", callback=month_of)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=STAYS,
    show_default=True,
    help="How long it stays; then retention takes it away again.",
)
@click.option("--drop", is_flag=True, help="Take a restored month away now; its archive stays.")
@click.option("--who", help="Who does it.  [default: you]")
@spoken()
def restore(month: str, days: int, drop: bool, who: str | None) -> None:
    """Put MONTH (2026-05) back into PostgreSQL: all of it, counted and compared, or nothing."""
    from mutt.store import retention  # noqa: PLC0415 it brings pyarrow, which few commands need

    s = services()
    if drop:
        gone = retention.drop_restored(s.engine, month, s.archives)
        click.echo(
            f"{month} is gone from PostgreSQL; its archive stays" if gone else f"{month} is not restored"
        )
        sys.exit(0 if gone else 1)
    until = datetime.now(UTC) + timedelta(days=days)
    if retention.extend(s.engine, month, until):
        click.echo(f"{month} was restored before: it stays until {until:%Y-%m-%d}")
        return
    known = manifest.read(s.archives.directory, month)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as line:
        task = line.add_task("rows", total=known.rows if known else 0)
        name, copied = who or getpass.getuser(), partial(line.advance, task)
        done = retention.restore(s.engine, month, s.archives, until=until, who=name, each=copied)
    click.echo(
        f"{month}: {many(done.rows, 'row')} are back, the same as in the archive, until {until:%Y-%m-%d}"
    )
