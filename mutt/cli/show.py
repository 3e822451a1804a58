"""What ``mutt up`` shows when it is up: the sample events go in, and what became of each comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import requests
import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mutt.alert import Status
from mutt.cli.common import table
from mutt.cli.samples import Sample, samples
from mutt.errors import MuttError
from mutt.services import Services
from mutt.store import alerts as store_alerts
from mutt.store.tables import alerts, audit_ledger, event_audit_log
from mutt.streams import books

#: Seconds that the samples get to find their way.
PATIENCE = 90.0


class NotShown(MuttError):
    """The samples did not get through."""


@dataclass(frozen=True)
class Sent:
    """One group that was accepted, and the id under which its rows are found."""

    sample: Sample
    accepted: int
    correlation_id: str


def show(services: Services, ingest: str, key: str, console: Console, stop: Callable[[], bool]) -> bool:
    """Send the samples, wait until all is at rest, print the table. Do the books balance?"""
    before = books.read(services.redis)
    started = time.monotonic()
    sent = [_send(ingest, key, sample) for sample in samples(datetime.now(UTC))]
    total = sum(one.accepted for one in sent)
    with _progress(console) as progress:
        task = progress.add_task(f"{total} sample events on their way", total=None)
        while not stop():
            now = books.read(services.redis)
            settled = now.events["accepted"] - before.events["accepted"] - now.events["queued"]
            progress.update(task, completed=settled, total=total)
            if _at_rest(services, now) and settled >= total:
                break
            if time.monotonic() - started > PATIENCE:
                raise NotShown(f"{now.events['queued']} events and {now.alerts['waiting']} alerts still wait")
            time.sleep(0.1)
    if stop():
        return False
    _print(services, sent, before, books.read(services.redis))
    return balanced(services)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} settled"), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def _send(ingest: str, key: str, sample: Sample) -> Sent:
    headers = {"X-API-KEY": key, "Content-Type": sample.content_type}
    reply = requests.post(f"{ingest}/ingest/{sample.format}", sample.body, headers=headers, timeout=10)
    if reply.status_code != 202:
        raise NotShown(f"{sample.title}: ingest answered {reply.status_code}: {reply.text[:300]}")
    body = reply.json()
    return Sent(sample, body["accepted"], body["correlation_id"])


def _at_rest(services: Services, now: books.Books) -> bool:
    waits = now.events["queued"] or now.alerts["waiting"]
    return not waits and services.delivery_stream.size() == 0


def balanced(services: Services) -> bool:
    """At rest: do both equations hold, and does PostgreSQL say the same?"""
    now = books.read(services.redis)
    with services.engine.connect() as conn:
        rows = conn.execute(sa.select(sa.func.coalesce(sa.func.sum(audit_ledger.c.rows), 0))).scalar_one()
        delivered = store_alerts.counts(conn)[Status.DELIVERED]
    agree = (rows, delivered) == (now.events["settled"], now.alerts["delivered"])
    return now.off_events == 0 and now.off_alerts == 0 and agree


def _print(services: Services, sent: list[Sent], before: books.Books, after: books.Books) -> None:
    rows = list(_rows(services, sent))
    dead = sum(after.events[x] - before.events[x] for x in ("parked", "dropped"))
    dead += sum(after.alerts[x] - before.alerts[x] for x in ("parked", "dropped"))
    mutts_own = after.events["accepted"] - before.events["accepted"] - sum(one.accepted for one in sent)
    raised = after.alerts["raised"] - before.alerts["raised"] - sum(row[3] for row in rows)
    delivered = after.alerts["delivered"] - before.alerts["delivered"] - sum(row[4] for row in rows)
    own = ("MUTT's own, of the storm", mutts_own, mutts_own, raised, delivered, 0)
    listed = [*rows, own] if mutts_own else rows
    total = ("all", *(sum(int(row[i]) for row in listed) for i in range(1, 5)), dead)
    columns = ["what was sent", "accepted", "audited", "alerted", "delivered", "dead letters"]
    table("", columns, [*listed, total], numbers=(1, 2, 3, 4, 5))


def _rows(services: Services, sent: list[Sent]) -> Iterator[tuple[str, int, int, int, int, int]]:
    with services.engine.connect() as conn:
        for one in sent:
            audited = _count(conn, event_audit_log, one)
            alerted = _count(conn, alerts, one)
            delivered, parked = (_count(conn, alerts, one, s) for s in (Status.DELIVERED, Status.PARKED))
            yield one.sample.title, one.accepted, audited, alerted, delivered, parked


def _count(conn: sa.Connection, which: sa.Table, sent: Sent, status: Status | None = None) -> int:
    query = sa.select(sa.func.count()).where(which.c.correlation_id == sent.correlation_id)
    if status is not None:
        query = query.where(which.c.status == status.value)
    return conn.execute(query).scalar_one()
