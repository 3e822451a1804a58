"""``mutt keys source``: what is known beforehand of who sends with a key."""

from __future__ import annotations

from typing import Any, TextIO

import click
import msgspec

from mutt.cli.keys import change_of_keys, publish, said
from mutt.cli.outages import spoken
from mutt.errors import Refused
from mutt.formats.registry import FORMATS
from mutt.grant import SEVERITIES, every_of, severity_of
from mutt.source import ENVIRONMENTS, Source
from mutt.store import keys

#: What takes away what was said.
NONE = "none"

_TEXTS = ("format", "team", "environment", "mapping")


class _Word(click.Choice[str]):
    """One of these, which a shell completes. What is none of them is refused as everywhere, in MUTT's words."""

    def convert(self, value: str, *_: Any, **__: Any) -> str:
        return value


def _word(option: str, words: tuple[str, ...], help_: str) -> Any:
    return click.option(option, type=_Word((*words, NONE)), metavar="WORD", help=help_)


@click.command()
@click.argument("name", metavar="NAME")
@_word("--format", tuple(sorted(FORMATS)), "What its posts to /ingest are: they are not looked at.")
@click.option("--team", help="Of unhandled events, on hosts that have no team of their own.")
@_word("--environment", ENVIRONMENTS, "Of its events, whatever their host is: production or development.")
@_word("--severity", SEVERITIES, "syslog's 0 to 7, of its events that have none.")
@click.option("--every", help="At least once in this span it should be heard: 5m, 1h; 0: it may be silent.")
@click.option("--in-address/--no-in-address", default=None, help="May its key stand in the address (?key=…)?")
@click.option(
    "--mapping-file",
    type=click.File(encoding="utf-8"),
    help="How JSON of its own becomes events (docs/formats/mapped.md); - reads it from the standard input,"
    " and an empty file takes it away.",
)
@click.option("--who", help="Who does it.  [default: you]")
@click.option("--reason", default="", help="Why; kept in the history.")
@spoken()
def source(name: str, mapping_file: TextIO | None, who: str | None, reason: str, **given: Any) -> None:
    """Say what is known of who sends with key NAME; what is not said stays, and 'none' takes it away.

    For example: mutt keys source billing --team Payments --severity 4 --mapping-file mapping.yaml
    """
    changes = {field: None if value == NONE else value for field, value in given.items() if value is not None}
    if mapping_file is not None:
        changes["mapping"] = _text(mapping_file)
    with change_of_keys() as conn:
        standing = keys.find(conn, name, lock=True).source
        changed = keys.describe(conn, name, _changed(standing, changes), **said(who, reason))
    publish()
    told = "; ".join(f"{what}: {value}" for what, value in changed.source.told.items())
    click.echo(f"known of the source of {name}: {told or 'nothing'}", err=True)


def _text(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeDecodeError:
        raise Refused("mapping", "is no UTF-8: give the file with its text") from None


def _changed(standing: Source, changes: dict[str, Any]) -> Source:
    read: dict[str, Any] = {field: value or "" for field, value in changes.items() if field in _TEXTS}
    if "severity" in changes:
        read["severity"] = severity_of(changes["severity"])
    if "every" in changes:
        read["every"] = every_of(changes["every"])
    if "in_address" in changes:
        read["in_address"] = changes["in_address"]
    return msgspec.structs.replace(standing, **read)
