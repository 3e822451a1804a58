"""``mutt partitions``: the months of the audit."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import orjson

from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.store import calendar
from mutt.store import partitions as months
from mutt.store.engine import transaction


@click.group()
def partitions() -> None:
    """The months of event_audit_log."""


@partitions.command()
@click.option("--ahead", type=click.IntRange(0, 120), default=3, show_default=True, help="Months to come.")
@spoken()
def ensure(ahead: int) -> None:
    """Make the months to come, and those that rows of the default partition wait for."""
    with transaction(services().engine) as conn:
        made = months.ensure(conn, datetime.now(UTC), ahead)
    for name in made:
        click.echo(f"made {name}")
    if not made:
        click.echo("every month is there")


@partitions.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@spoken()
def list_(as_json: bool) -> None:
    """List the months, live, restored and archived, with their sizes and what happens to each next."""
    s, now = services(), datetime.now(UTC)
    with transaction(s.engine) as conn:
        found, stray = months.listing(conn), months.default_rows(conn)
        lives = calendar.lives(conn, s.archives.directory, s.settings, now)
    if as_json:
        listed = {
            "partitions": [month._asdict() for month in found],
            "months": [life._asdict() for life in lives],
            "default_rows": stray,
        }
        click.echo(orjson.dumps(listed, option=orjson.OPT_INDENT_2))
        return
    rows = [(life.month, life.state, life.rows, size(life.bytes), life.next) for life in lives]
    table("", ["month", "state", "rows (about)", "size", "what happens next"], rows, numbers=(2, 3))
    if stray:
        console.print(f"[yellow]{stray} rows stand in the default partition[/]: run `mutt partitions ensure`")


def size(count: float) -> str:
    """Bytes for people: 512 B, 40.0 KiB, 3.2 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
