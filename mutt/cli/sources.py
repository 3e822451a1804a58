"""``mutt sources``: who sends, what is seen of each, and what is wrong with it first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
import orjson
from rich.markup import escape

from mutt import watching
from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError
from mutt.sources.view import Seen, rate, told
from mutt.store.engine import transaction
from mutt.words import age, many, printable, spark

#: Characters of the last hour's line: a list is to fit into 80 of them.
WIDTH = 12


class NoSource(MuttError):
    """There is no such source."""


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/sources.md).")
@spoken()
def sources(name: str | None, as_json: bool) -> None:
    """Who sends, by the name of its key, what is wrong first; with NAME all that is seen of one. Times are in UTC."""
    with transaction(services().engine) as conn:
        shown = watching.look(conn, services(), name, fields=as_json)
    if shown.outage:
        click.echo(shown.outage, err=True)
    if name is not None and not shown.sources:
        raise NoSource(f"there is no source of the name {name[:64]!r}: `mutt sources` lists them")
    if as_json:
        listed = [told(seen) for seen in shown.sources]
        click.echo(orjson.dumps(listed if name is None else listed[0], option=orjson.OPT_INDENT_2))
    elif name is None:
        _list(shown.sources)
    else:
        _show(shown.sources[0])


def _list(found: Sequence[Seen]) -> None:
    rows = [
        (
            escape(seen.name),
            _ago(seen),
            rate(seen.rates["now"]),
            spark(seen.hour.events, WIDTH),
            f"{seen.refused:.0%}" if seen.refused else "",
            seen.told_clock,
            seen.waits,
        )
        for seen in found
        if seen.is_live
    ]
    columns = ["source", "last event", "a second", "last hour", "refused", "clock", "heard within"]
    table("", columns, rows, numbers=[1, 2, 4], whole=[3])
    for seen in found:
        _wrong(seen, f"{seen.name}: ")


def _show(seen: Seen) -> None:
    _wrong(seen, "")
    table("", ["source", escape(seen.name)], [(what, escape(says)) for what, says in _facts(seen)])
    if seen.observed.why:
        refused = [
            (escape(printable(one.field)), escape(printable(one.reason)), one.n, _time(one.at))
            for one in seen.observed.why
        ]
        table("", ["refused", "why", "items", "last"], refused, numbers=[2])
    for name in seen.formats:
        formed = seen.observed.formats[name]
        gone = formed.gone()
        fields = [
            (
                escape(printable(field)),
                f"{formed.share(field):.0%}",
                _time(one.at),
                "vanished" * (field in gone),
            )
            for field, one in sorted(formed.fields.items())
        ]
        table("", [f"{name}: field", "events with it", "last seen", ""], fields, numbers=[1])


def _facts(seen: Seen) -> Iterator[tuple[str, str]]:
    observed, rates = seen.observed, seen.rates
    yield "key", "good" if seen.is_live else "good no more"
    yield "last event", f"{_time(observed.event_at)} ({_ago(seen)})" if observed.event_at else "never"
    yield "last seen", _time(observed.heard_at)
    yield "heard within", seen.waits
    yield (
        "events a second",
        f"{rate(rates['now'])} now, {rate(rates['5min'])} in 5 min, {rate(rates['1h'])} in 1 h",
    )
    late = f"; events come up to {age(seen.clock.late)} late" if seen.clock and seen.clock.is_late else ""
    yield "clock", (seen.told_clock or "not known") + late
    yield "events", f"{observed.events:,} in {many(observed.requests, 'request')}, {observed.bytes:,} bytes"
    yield (
        "refused",
        f"{many(observed.refused, 'item')}; nothing was taken of {many(observed.failed, 'request')};"
        f" {many(observed.over_quota, 'request')} over its quota",
    )


def _wrong(seen: Seen, before: str) -> None:
    for wrong in seen.wrong:
        style = "bold red" if wrong.kind == "silent" else "yellow"
        console.print(printable(f"{before}{wrong.kind}: {wrong.says}"), style=style, markup=False)


def _ago(seen: Seen) -> str:
    return "never" if seen.quiet is None else f"{age(seen.quiet)} ago"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" if at else "never"
