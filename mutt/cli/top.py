"""``mutt top``: the pipeline in a terminal: what holds it up first, then what flows, waits and works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
import orjson
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mutt.cli.common import console, services
from mutt.pulse.collect import ROLES, reading
from mutt.pulse.sample import Moog, Point, Reading, Sample, Trouble
from mutt.pulse.told import told
from mutt.pulse.view import crew
from mutt.words import age, many, spark

#: Seconds between two looks; a reading is made every five.
EVERY = 2.0

#: Columns of the hour's line.
WIDTH = 60


@click.command()
@click.option("--once", is_flag=True, help="Show it once; so does what is no terminal.")
@click.option(
    "--json", "as_json", is_flag=True, help="The reading as one JSON object, once (docs/api.md, pulse)."
)
def top(once: bool, as_json: bool) -> None:
    """Watch the pipeline: what holds it up and what to do, queues, rates, Moog, workers, servers. Ctrl-C ends it."""
    of = services()
    of.settings.need("stream_url")
    if as_json:
        click.echo(orjson.dumps(told(reading(of), hour=False), option=orjson.OPT_INDENT_2))
    elif once or not console.is_terminal:
        console.print(shown(reading(of)))
    else:
        with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=True) as live:
            while True:
                live.update(shown(reading(of)), refresh=True)
                time.sleep(EVERY)


def shown(reading: Reading) -> RenderableType:
    """A reading for people."""
    sample, points = reading.sample, reading.points
    last = points[-1] if points else None
    parts: list[RenderableType] = [_heading(sample), *_troubles(reading.troubles), Text()]
    if last and sample.events:
        parts += [*_rates(last), _moog(sample.moog, last), Text()]
    if sample.queues:
        parts += [_queues(sample), Text()]
    if sample.processes:
        parts += [_workers(sample), Text()]
    parts += _servers(sample)
    if len(points) > 1:
        parts.append(
            _line("last hour", f"{spark([one.events_in for one in points], WIDTH)}  events a second in")
        )
    return Group(*parts)


def _heading(sample: Sample) -> Text:
    at = datetime.fromtimestamp(sample.at, UTC)
    return Text(f"MUTT  {at:%Y-%m-%d %H:%M:%S} UTC", style="bold")


def _troubles(troubles: Sequence[Trouble]) -> Iterator[Text]:
    if not troubles:
        yield Text("Nothing holds the pipeline up.", style="green")
    for trouble in troubles:
        yield Text.assemble(
            (f"{trouble.title}", "bold red" if trouble.urgent else "bold yellow"), f"  ({trouble.name})"
        )
        yield Text(f"  {trouble.why}")
        yield Text(f"  {trouble.do}")
        if trouble.command:
            yield Text(f"  $ {trouble.command}", style="bold")


def _rates(last: Point) -> Iterator[Text]:
    yield _line(
        "events", f"{last.events_in:,.0f}/s in, {last.events_out:,.0f}/s done, {last.ingest_depth:,} wait"
    )
    yield _line(
        "alerts",
        f"{last.alerts_in:,.1f}/s raised, {last.alerts_out:,.1f}/s delivered, {last.alert_depth:,} wait",
    )


def _moog(moog: Moog, last: Point) -> Text:
    state = moog.breaker + (f" ({moog.reason})" if moog.reason else "")
    parts = [f"breaker {state}"]
    if moog.until > last.at:
        parts.append(f"asks again in {age(moog.until - last.at)}")
    if moog.paused_until > last.at:
        parts.append(f"paused for {age(moog.paused_until - last.at)}")
    parts.append(f"{moog.used} of {moog.limit} requests in {moog.period:g} s")
    if moog.latency_ms is not None:
        parts.append(f"answers in {moog.latency_ms:.0f} ms")
    return _line("Moog", ", ".join([*parts, f"{moog.slots} at a time"]))


def _queues(sample: Sample) -> Table:
    made = _table("queue", "entries", "held", "behind", "oldest")
    for one in sample.queues:
        if one.entries or not one.name.startswith("dlq:"):
            behind, oldest = f"{one.behind:,}" if one.behind else "", age(one.oldest_s) if one.entries else ""
            made.add_row(one.name, f"{one.entries:,}", f"{one.held:,}", behind, oldest)
    return made


def _workers(sample: Sample) -> Table:
    made = _table("role", "here", "busy", "a second", "p50", "p99", "in PG", "cores", "wanting", "memory")
    for role in ROLES:
        ours = sample.of_role(role)
        if not ours:
            continue
        together = crew(ours)
        p50 = [one.p50_ms for one in ours if one.p50_ms is not None]
        made.add_row(
            role,
            f"{len(ours)} x {together.slots // len(ours)}",
            f"{together.busy:.0%}",
            f"{sum(one.events for one in ours):,.1f}",
            _ms(max(p50, default=None)),
            _ms(together.p99_ms),
            f"{together.store_share:.0%}" if together.busy >= 0.01 else "",
            f"{sum(one.cpu for one in ours):.2f}",
            f"{sum(one.starved for one in ours):.2f}",
            _mib(sum(one.rss for one in ours)),
        )
    return made


def _servers(sample: Sample) -> Iterator[Text]:
    for one in sample.redis:
        most = f" of {_mib(one.max_memory)}" if one.max_memory else ""
        says = f"{_mib(one.memory)}{most}, {one.cpu:.0%} of its core, {one.commands:,.0f} commands/s, at {one.name}"
        yield _line("Redis", says)
    if "redis" in sample.away:
        yield _line("Redis", sample.away["redis"])
    if store := sample.postgres:
        commit = f", a COMMIT takes {_ms(store.commit_ms)}" if store.commit_ms is not None else ""
        yield _line(
            "PostgreSQL",
            f"{store.rows:,.0f} audit rows/s{commit}, answers in {_ms(store.answer_ms)},"
            f" {many(store.connections, 'connection')} of {store.max_connections}",
        )
    elif "postgres" in sample.away:
        yield _line("PostgreSQL", sample.away["postgres"])


def _line(what: str, says: str) -> Text:
    return Text(f"{what:<12}{says}")


def _table(first: str, *numbers: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column(first, no_wrap=True)
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
