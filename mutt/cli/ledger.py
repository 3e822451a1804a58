"""``mutt ledger``: do the books balance (P6), and does PostgreSQL say the same?"""

from __future__ import annotations

import sys
import time
from typing import Any

import click
import msgspec
import orjson
import redis
from rich.markup import escape

from mutt import names
from mutt.cli.common import console, services, table
from mutt.cli.outages import first_line, spoken
from mutt.errors import StoreDown
from mutt.services import Services
from mutt.store.engine import transaction
from mutt.store.spill import standing
from mutt.store.sums import Counted, Sums, count, sums
from mutt.streams import books
from mutt.streams.books import ALERTS, EVENTS, Books, Walked
from mutt.streams.connect import Client
from mutt.words import many

#: Seconds between two looks while waiting.
EVERY = 0.2


class Recount(msgspec.Struct, frozen=True):
    """The books counted one by one."""

    walked: Walked
    dropped: int  #: events and alerts that the drop records speak of
    outside: bool  #: alerts wait outside of full lanes, whose marks are no exact count
    counted: Counted | None  #: None: PostgreSQL can't be asked


class Report(msgspec.Struct, frozen=True):
    """The books of one moment, and the verdict."""

    events: dict[str, int]
    alerts: dict[str, int]
    off_events: int
    off_alerts: int
    postgres: dict[str, Any] | None
    lost: int | None  #: settled events without an audit row; None: in flight, or nobody can tell
    double: int | None
    at_rest: bool
    balanced: bool
    state: str  #: balanced, in flight, lost, double or off
    disagree: dict[str, int]  #: what PostgreSQL or the recount says more (or less) than the ledger, at rest
    spilled: int | None = None  #: events in PostgreSQL's spill, not in the books yet; None: nobody can tell
    walked: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--deep", is_flag=True, help="Count again by walking the streams and the rows. Slow.")
@click.option("--wait", "patience", type=click.FloatRange(0), help="Wait up to so many seconds for rest.")
@spoken()
def ledger(as_json: bool, deep: bool, patience: float | None) -> None:
    """Show the books: where every accepted event and every raised alert is. Exit 1 if they do not balance."""
    report, why = observe(services(), deep=deep) if patience is None else _at_rest(services(), patience, deep)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(report), option=orjson.OPT_INDENT_2))
    else:
        _print(report, why)
    if patience is not None and not report.at_rest:
        click.echo(f"not at rest after {patience:g} s", err=True)
        sys.exit(1)
    sys.exit(0 if report.balanced else 1)


def _at_rest(services: Services, patience: float, deep: bool) -> tuple[Report, str]:
    deadline = time.monotonic() + patience
    while True:
        late = time.monotonic() >= deadline
        try:
            report, why = observe(services, deep=False)
            if deep and (late or report.at_rest):
                report, why = observe(services, deep=True)
            if late or (report.at_rest and report.postgres is not None):
                return report, why
        except redis.RedisError:
            # Who waits for rest may wait for a restart, too.
            if late:
                raise
        time.sleep(EVERY)


def observe(services: Services, *, deep: bool) -> tuple[Report, str]:
    """The books now, and why PostgreSQL could not be asked ('' if it was). ``redis.RedisError`` passes through."""
    # What moves in between changes the ledger or stands in the delivery queue: looked at before and after.
    before, idle = books.read(services.redis), services.delivery_stream.size() == 0
    spilled: int | None = None
    summed, counted, why = None, None, ""
    try:
        with transaction(services.engine) as conn:
            # First: what flows back meanwhile moves the ledger.
            spilled = standing(conn).events
            summed, counted = sums(conn), count(conn) if deep else None
    except StoreDown as error:
        why = first_line(error)
    recount = _recount(services.redis, counted) if deep else None
    idle = idle and services.delivery_stream.size() == 0
    after = books.read(services.redis)
    at_rest = idle and before == after and after.events["queued"] == 0 and not spilled
    return weigh(after, summed, recount, spilled, at_rest=at_rest), why


def _recount(client: Client, counted: Counted | None) -> Recount:
    records = (orjson.loads(record) for _, record in client.hscan_iter(names.DROPS))
    dropped = sum(int(record.get("n", 1)) for record in records)
    return Recount(books.walk(client), dropped, bool(client.hlen(names.OUTSIDE)), counted)


def weigh(
    now: Books,
    summed: Sums | None,
    recount: Recount | None = None,
    spilled: int | None = None,
    *,
    at_rest: bool,
) -> Report:
    """Hold the ledger against itself and, ``at_rest``, against PostgreSQL and the recount. Pure."""
    disagree = _differences(now, summed, recount) if at_rest else {}
    lost = double = None
    if at_rest and summed is not None:
        lost = max(0, now.events["settled"] - summed.audit_rows)
        double = max(0, summed.audit_rows - now.events["settled"])
    balanced = not (now.off_events or now.off_alerts or disagree)
    return Report(
        events=now.events,
        alerts=now.alerts,
        off_events=now.off_events,
        off_alerts=now.off_alerts,
        postgres=summed._asdict() if summed else None,
        lost=lost,
        double=double,
        at_rest=at_rest,
        balanced=balanced,
        state=_state(balanced, at_rest, lost, double),
        disagree=disagree,
        spilled=spilled,
        walked=_walked(recount) if recount else msgspec.UNSET,
    )


def _state(balanced: bool, at_rest: bool, lost: int | None, double: int | None) -> str:
    if lost:
        return "lost"
    if double:
        return "double"
    if not balanced:
        return "off"
    return "balanced" if at_rest else "in flight"


def _differences(now: Books, summed: Sums | None, recount: Recount | None) -> dict[str, int]:
    found: dict[str, int] = {}
    if summed is not None:
        found["audit_rows"] = summed.audit_rows - now.events["settled"]
        found |= {f"alerts.{status}": n - now.alerts[status] for status, n in summed.alerts.items()}
    if recount is not None:
        found |= _recounted(now, recount)
        if summed is not None and recount.counted is not None:
            found |= _counted(summed, recount.counted)
    return {name: n for name, n in found.items() if n}


def _recounted(now: Books, recount: Recount) -> dict[str, int]:
    walked = recount.walked
    found = {
        "walked.queued": walked.queued - now.events["queued"],
        "walked.parked": walked.parked - now.events["parked"],
        "walked.alerts_parked": walked.alerts_parked - now.alerts["parked"],
        "walked.dropped": recount.dropped - now.events["dropped"] - now.alerts["dropped"],
    }
    return found if recount.outside else found | {"walked.waiting": walked.waiting - now.alerts["waiting"]}


def _counted(summed: Sums, counted: Counted) -> dict[str, int]:
    missing = 0 if counted.months_retired else counted.audit_rows - summed.audit_rows
    return {
        "counted.audit_rows": missing,
        "counted.audit_keys": counted.audit_keys - counted.audit_rows,
        "counted.doubled_items": counted.doubled_items,
        "counted.alert_ids": counted.alert_ids - counted.alert_rows,
    }


def _walked(recount: Recount) -> dict[str, int]:
    rows = recount.counted._asdict() if recount.counted else {}
    return {**msgspec.structs.asdict(recount.walked), "dropped": recount.dropped, **rows}


_SENTENCES = {
    "balanced": "[green]the books balance[/]",
    "in flight": "in flight: the equations hold; PostgreSQL is compared when nothing moves (--wait)",
    "lost": "[red]lost[/]: {lost} settled events have no audit row",
    "double": "[red]double[/]: {double} audit rows more than settled events",
    "off": "[red]the books do not balance[/]",
}


def _print(report: Report, why: str) -> None:
    rows = report.postgres or {"audit_rows": "?", "alerts": {}}
    of_events = {"settled": rows["audit_rows"]}
    _side("events", EVENTS, report.events, report.off_events, of_events)
    _side("alerts", ALERTS, report.alerts, report.off_alerts, rows["alerts"])
    if report.spilled:
        console.print(
            f"[yellow]spilled[/]: {many(report.spilled, 'event')} in PostgreSQL, not in the books until they flow back"
        )
    if why:
        console.print(f"[yellow]PostgreSQL can't be asked[/], so this is Redis' side alone: {escape(why)}")
    if report.walked is not msgspec.UNSET:
        table("counted one by one", ["what", "n"], report.walked.items(), numbers=(1,))
    for name, n in report.disagree.items():
        console.print(f"  {name}: {n:+d} against the ledger")
    console.print(_SENTENCES[report.state].format(lost=report.lost, double=report.double))


def _side(
    of: str, order: tuple[str, ...], ledger: dict[str, int], off: int, postgres: dict[str, object]
) -> None:
    rows = [
        ("Redis", *(ledger[name] for name in order), off),
        ("PostgreSQL", *(postgres.get(name, "") for name in order), ""),
    ]
    table("", [of, *order, "off"], rows, numbers=range(1, len(order) + 2))
