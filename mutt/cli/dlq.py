"""``mutt dlq``: the dead letters; what could not be worked, why, and the two ways out."""

from __future__ import annotations

import contextlib
import getpass
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import click
import orjson
import redis
from kombu.exceptions import OperationalError
from rich.markup import escape
from rich.padding import Padding
from sqlalchemy import Connection, select

from mutt import names
from mutt.alert import Status
from mutt.celery import ring
from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.entry import Entry
from mutt.errors import MuttError
from mutt.services import Services
from mutt.store import alerts as alert_rows
from mutt.store.engine import transaction
from mutt.store.tables import alerts
from mutt.streams.books import entries
from mutt.streams.letters import Letter, Letters
from mutt.streams.stream import Stream
from mutt.words import many

QUEUE = click.argument("queue", type=click.Choice(list(names.DLQS)))


#: Columns that the table of letters needs.
WIDE = 140


class NoLetter(MuttError):
    """There is no dead letter of this id."""


@click.group()
def dlq() -> None:
    """Dead letters: list them by reason, look at one, send them through again, or give them up."""


@dlq.command("list")
@click.argument("queue", type=click.Choice(list(names.DLQS)), required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@spoken()
def list_(queue: str | None, as_json: bool) -> None:
    """Count the letters by their reason."""
    found = {name: grouped(letters(services()).listed(name)) for name in ([queue] if queue else names.DLQS)}
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    rows = [(name, escape(why), n) for name, reasons in found.items() for why, n in reasons.items()]
    if not rows:
        click.echo("no dead letters")
        return
    table("", ["queue", "reason", "letters"], rows, numbers=(2,))


@dlq.command()
@QUEUE
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Letters to list.")
@click.option("--json", "as_json", is_flag=True, help="JSON: one object, or one a line.")
@spoken()
def show(queue: str, id_: str | None, limit: int, as_json: bool) -> None:
    """List a queue's letters, the oldest first; with ID show one whole. JSON tells what each holds, too."""
    if id_ is None:
        _list(queue, limit, as_json=as_json)
        return
    wanted = (one for one in letters(services()).listed(queue, payload=True) if one.id == id_)
    found = next(wanted, None)
    if found is None:
        raise NoLetter(f"no letter {id_} stands in {queue}: `mutt dlq show {queue}` lists them")
    click.echo(_json(found, indent=True))


@dlq.command()
@QUEUE
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter of the queue.")
@spoken()
def replay(queue: str, ids: tuple[str, ...], everything: bool) -> None:
    """Send letters through again: those named, or --all."""
    if bool(ids) == everything:
        raise click.UsageError("name the letters, or say --all")
    moved = replayed(services(), queue, ids)
    _moved(moved, ids, "sent again")


@dlq.command()
@QUEUE
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter of the queue.")
@click.option("--reason", required=True, help="Why; kept with the letter's id in mutt:drops.")
@spoken()
def drop(queue: str, ids: tuple[str, ...], everything: bool, reason: str) -> None:
    """Give letters up, for a reason that is kept: those named, or --all."""
    if bool(ids) == everything:
        raise click.UsageError("name the letters, or say --all")
    _moved(dropped(services(), queue, ids, reason=reason, who=getpass.getuser()), ids, "dropped")


def grouped(listed: Iterator[Letter]) -> dict[str, int]:
    """How many letters have each reason, the most common first."""
    return dict(Counter(letter.reason or "unknown" for letter in listed).most_common())


def letters(services: Services) -> Letters:
    """The dead letters. A doorbell that can't be rung stops nothing: the tick rings within a second."""
    stream = Stream(services.redis, services.queues["ingest_queue"], _ring_if_possible)
    return Letters(services.redis, stream)


def _ring_if_possible(queue: str, **labels: Any) -> None:
    with contextlib.suppress(OperationalError, redis.RedisError, OSError):
        ring(queue, **labels)


def replayed(services: Services, queue: str, ids: Sequence[str]) -> list[Entry]:
    """Send letters through again (no ids: all); an alert's row waits again. The ones that were still there."""
    if queue != "moog":
        return letters(services).replay(queue, ids)
    with _rows(services, ids) as conn:
        moved = letters(services).replay(queue, ids)
        alert_rows.set_status(conn, _alert_ids(moved), Status.WAITING, "sent again by hand")
    return moved


def dropped(services: Services, queue: str, ids: Sequence[str], *, reason: str, who: str) -> list[Entry]:
    """Give letters up; an alert's row says so. The ones that were still there."""
    if queue != "moog":
        return letters(services).drop(queue, ids, reason=reason, who=who)
    with _rows(services, ids) as conn:
        moved = letters(services).drop(queue, ids, reason=reason, who=who)
        alert_rows.set_status(conn, _alert_ids(moved), Status.DROPPED, f"{reason} ({who})")
    return moved


@contextlib.contextmanager
def _rows(services: Services, ids: Sequence[str]) -> Iterator[Connection]:
    """A transaction that holds the rows of these letters' alerts; commits after Redis has moved the letters.

    Redis first: a row that waits while its letter still stands would be swept into a lane, and stand twice. The
    other way round a crash leaves a row that says parked, which the alert's next outcome puts right. The rows are
    held meanwhile, so that an outcome that comes at once is written after ours, and not under it.
    """
    wanted = set(ids)
    parked = [
        Entry(names.DLQ_MOOG, id_, 1, fields) for id_, fields in entries(services.redis, names.DLQ_MOOG)
    ]
    chosen = _alert_ids([entry for entry in parked if not wanted or entry.id in wanted])
    with transaction(services.engine) as conn:
        # In the order in which the sweep and record lock them.
        order = alerts.c.received_at, alerts.c.alert_id
        conn.execute(
            select(alerts.c.alert_id).where(alerts.c.alert_id.in_(chosen)).order_by(*order).with_for_update()
        )
        yield conn


def _alert_ids(moved: Sequence[Entry]) -> list[UUID]:
    """The alerts of these letters; a note of an outcome is none, its alert is at Moog."""
    return [
        UUID(entry.fields[b"id"].decode())
        for entry in moved
        if b'"what":"outcome"' not in entry.fields.get(b"why", b"")
    ]


def _list(queue: str, limit: int, *, as_json: bool) -> None:
    listed = letters(services()).listed(queue, payload=as_json)
    shown = [letter for letter, _ in zip(listed, range(limit), strict=False)]
    if as_json:
        for letter in shown:
            click.echo(_json(letter))
        return
    if console.width < WIDE:
        for one in shown:
            _narrow(one)
    else:
        rows = [(one.id, one.at, one.events, one.attempts, one.about, escape(_short(one))) for one in shown]
        table("", ["id", "parked", "events", "attempts", "about", "reason"], rows, numbers=(2, 3))
    if len(shown) == limit:
        console.print(f"[dim]the oldest {limit}; --limit shows more[/]")


def _narrow(letter: Letter) -> None:
    """One letter in lines of its own: an id that is cut in two can't be copied."""
    told = (letter.at, many(letter.events, "event"), many(letter.attempts, "attempt"))
    console.print(f"[bold]{letter.id}[/]  {', '.join(told)}", soft_wrap=True)
    for line in filter(None, (letter.about, _short(letter))):
        console.print(Padding(escape(line), (0, 0, 0, 2)))


def _short(letter: Letter) -> str:
    detail = letter.detail.strip().rpartition("\n")[2]
    return f"{letter.reason}: {detail}"[:120] if detail else letter.reason


def _json(letter: Letter, *, indent: bool = False) -> bytes:
    told = {name: getattr(letter, name) for name in letter.__struct_fields__}
    return orjson.dumps(told, default=str, option=orjson.OPT_INDENT_2 if indent else 0)


def _moved(moved: Sequence[Entry], ids: Sequence[str], what: str) -> None:
    events = sum(entry.n for entry in moved)
    click.echo(f"{many(len(moved), 'letter')} ({many(events, 'event or alert', 'events or alerts')}) {what}")
    missing = sorted(set(ids) - {entry.id for entry in moved})
    if missing:
        raise NoLetter(f"not there any more: {', '.join(missing)}")
