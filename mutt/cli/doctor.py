"""``mutt doctor``: what is wrong with this installation, or will be, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec
import orjson
from rich.markup import escape

from mutt.cli.common import services, table
from mutt.doctor.ask import examine
from mutt.doctor.finding import Finding, Level

_SHOWN = {Level.OK: "[green]ok[/]", Level.WARN: "[yellow]warn[/]", Level.BAD: "[red]BAD[/]"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def doctor(as_json: bool) -> None:
    """Check Redis, PostgreSQL, the clocks, the queues and the way to Moog. Exit 1 if anything is bad."""
    findings = examine(services())
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(findings), option=orjson.OPT_INDENT_2))
    else:
        _print(findings)
    sys.exit(1 if any(finding.level is Level.BAD for finding in findings) else 0)


def _print(findings: Sequence[Finding]) -> None:
    rows = [(_SHOWN[found.level], found.what, escape(found.says), escape(found.fix)) for found in findings]
    table("", ["", "what", "says", "fix"], rows)
