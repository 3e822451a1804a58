"""``mutt plan``: measure this machine for half a minute, then say what a rate of events needs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from mutt.cli.common import console, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError, SettingsError
from mutt.plan.arithmetic import Plan, Told, plan
from mutt.plan.forecast import forecast
from mutt.plan.measure import measure
from mutt.plan.values import Load, Measured, Question
from mutt.settings import Settings, span
from mutt.store.spill import CONNECTIONS

_WHAT_IT_DOES = (
    "This takes about half a minute and keeps the processors busy. Events go to a private ingest, worker, "
    "Redis and PostgreSQL, which are gone afterwards. Of a connected PostgreSQL the rules are read, and rows are "
    "copied into a table of their own (mutt_plan_…), which is dropped; of a connected Redis an empty database is used, "
    "and emptied again. Nothing else is written."
)


#: Cores that others may keep busy while it is measured, before the figures are called doubtful.
BUSY_ELSEWHERE = 0.3


class Counts(click.ParamType):
    """Whole numbers with commas between them."""

    name = "counts"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(int(one) for one in value.split(","))
        except ValueError:
            found = ()
        if not found or min(found) < 1 or max(found) > 1000:
            self.fail(f"{value!r}: expected numbers of workers, as 1,2,4", param, ctx)
        return found


class Span(click.ParamType):
    """Seconds, or a number with s, m, h or d."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else float(span()("--backlog", value))
        except SettingsError as error:
            self.fail(str(error), param, ctx)


@click.command("plan")
@click.option("--eps", type=click.FloatRange(0, min_open=True), help="Events a second to plan for.")
@click.option("--workers", type=Counts(), help="Forecast what so many `alerts` workers do here, as 1,2,4.")
@click.option(
    "--backlog", type=Span(), default="4h", show_default=True, help="How long Redis has to hold all."
)
@click.option(
    "--event-bytes",
    type=click.IntRange(100, 200_000),
    default=Load().event_bytes,
    show_default=True,
    help="An event as JSON.",
)
@click.option(
    "--batch", type=click.IntRange(1, 2000), default=Load().batch, show_default=True, help="Events a request."
)
@click.option(
    "--alerts-share",
    type=click.FloatRange(0, 1),
    default=Load().alerts_share,
    show_default=True,
    help="The part of the events that alert.",
)
@click.option(
    "--measured",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: take what an earlier `mutt plan --json` found.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@spoken()
def plan_command(
    eps: float | None,
    workers: tuple[int, ...] | None,
    backlog: float,
    event_bytes: int,
    batch: int,
    alerts_share: float,
    file: Path | None,
    as_json: bool,
) -> None:
    """Say what so many events a second need: replicas, memory, disk, connections, and what gives way first."""
    if eps is None and not workers:
        raise click.UsageError("say --eps, or --workers, or both")
    settings = Settings.from_env()
    load = Load(batch=batch, event_bytes=event_bytes, alerts_share=alerts_share)
    found = _read(file) if file else _measure(settings, load)
    made = plan(_question(settings, eps, backlog), found) if eps else None
    rates = forecast(found, workers or ())
    if as_json:
        click.echo(_json(found, made, rates))
        return
    _print_measured(found)
    if made:
        _print(made)
    if rates:
        _print_forecast(rates)


def _read(file: Path) -> Measured:
    class Saved(msgspec.Struct):
        measured: Measured

    try:
        return msgspec.json.decode(file.read_bytes(), type=Saved).measured
    except msgspec.DecodeError as error:
        raise MuttError(f"{file} is not what `mutt plan --json` writes: {error}") from error


def _measure(settings: Settings, load: Load) -> Measured:
    click.echo(f"mutt: {_WHAT_IT_DOES}", err=True)
    # Asked to end, it takes away what it made.
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        return measure(settings, load, lambda now: click.echo(f"mutt: {now}", err=True))
    finally:
        signal.signal(signal.SIGTERM, before)


def _question(settings: Settings, eps: float, backlog: float) -> Question:
    return Question(
        eps=eps,
        backlog=backlog,
        retention_days=settings.audit_retention_days,
        moog_per_second=settings.moog_rate_limit / settings.moog_rate_period,
        moog_batch=settings.moog_batch_size,
        pool_max=settings.db_pool_max,
        spill_pool=CONNECTIONS if settings.ingest_spill else 0,
    )


def _json(measured: Measured, made: Plan | None, rates: dict[int, float]) -> bytes:
    said: dict[str, Any] = {"measured": measured}
    if made:
        said |= {
            name: getattr(made, name) for name in ("question", "replicas", "redis", "postgres", "limits")
        }
        said["bottleneck"] = made.bottleneck.name
    if rates:
        said["forecast"] = {str(count): round(rate) for count, rate in rates.items()}
    return msgspec.json.format(msgspec.json.encode(said), indent=2)


def _print_measured(found: Measured) -> None:
    door, worker, load = found.door, found.worker, found.load
    rows = [
        _part("ingest", door.ingest, "one process on one core"),
        _part("the rules alone", found.evaluate, f"{found.rules:,} rules"),
        _part("worker", worker.worker, f"by the clock {1 / worker.wall:,.0f}/s: it waits, too"),
        _part("Redis", door.redis + worker.redis, "taking, handing out, settling"),
        _part("PostgreSQL", worker.postgres, f"a row is {worker.rows_bytes:.0f} bytes with indexes"),
        _part("COPY, one writer", found.copy.seconds, f"by the clock; {found.copy.where}"),
        _part("the streams", found.streams.seconds, f"by the clock; {found.streams.where}"),
    ]
    title = (
        f"measured in {found.seconds:.0f} s: requests of {load.batch} events of {load.event_bytes} bytes, "
        f"{load.alerts_share:.1%} alert; {found.machine.cores} cores, each does {found.together:.0%} when all are busy"
    )
    table(title, ["part", "µs an event", "events/s a core", ""], rows, numbers=(1, 2))
    if worker.strangers > BUSY_ELSEWHERE:
        doubtful = f"others kept {worker.strangers:.1f} cores busy meanwhile: measure again when it is quiet"
        console.print(f"[yellow]{doubtful}[/]", soft_wrap=True)


def _part(name: str, seconds: float, note: str) -> tuple[str, str, str, str]:
    return name, f"{seconds * 1e6:.1f}", f"{1 / seconds:,.0f}" if seconds else "", note


def _print_forecast(rates: Mapping[int, float]) -> None:
    least = min(rates)
    rows = [
        (count, f"{rate:,.0f}", f"{rate / count / (rates[least] / least):.2f}")
        for count, rate in rates.items()
    ]
    title = "\nforecast: a backlog drained here, everything on this machine"
    table(title, ["alerts workers", "events/s", "efficiency"], rows, numbers=(0, 1, 2))


def _print(made: Plan) -> None:
    rows = [(one.role, one.processes, f"{one.cores:.2f}", one.why) for one in made.replicas]
    title = f"\nfor {made.question.eps:,.0f} events/s"
    table(title, ["role", "processes", "cores", "why"], rows, numbers=(1, 2))
    _print_told("\nRedis", made.redis)
    _print_told("\nPostgreSQL", made.postgres)
    limits = [(one.name, f"{one.eps:,.0f}", one.formula, one.remedy) for one in made.limits]
    title = "\nlimits, the first bottleneck on top"
    table(title, ["limit", "events/s", "formula", "what then"], limits, numbers=(1,))
    first, eps = made.bottleneck, made.question.eps
    verdict = "that is too much for" if eps > first.eps else "the first to give way is"
    console.print(f"\n{eps:,.0f} events/s: {verdict} {first.name}, at {first.eps:,.0f}.", soft_wrap=True)


def _print_told(title: str, told: Sequence[Told]) -> None:
    table(title, ["what", "how much", "formula"], [(one.name, _amount(one), one.formula) for one in told])


def _amount(told: Told) -> str:
    if told.unit not in ("bytes", "bytes/s"):
        return f"{told.value:,.0f} {told.unit}" if told.value >= 10 else f"{told.value:.2g} {told.unit}"
    value, unit = told.value, told.unit
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:,.1f} {unit.replace('bytes', name)}"
    return f"{value:,.0f} {unit}"
