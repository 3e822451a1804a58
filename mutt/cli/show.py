"""What ``mutt up`` shows when it is up: the sample events go in, and what became of each comes out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import requests
import sqlalchemy as sa
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mutt.alert import Status
from mutt.balance import Report, observe
from mutt.cli.common import table
from mutt.cli.queues import Breaker, breaker_of, says
from mutt.cli.samples import STORM_HOST, Sample, samples
from mutt.errors import MuttError
from mutt.services import Services
from mutt.store.engine import transaction
from mutt.store.tables import alerts, event_audit_log
from mutt.streams import books
from mutt.words import many

#: Seconds that the samples get to find their way.
PATIENCE = 90.0

#: Seconds after the last sample's end in which all may come to rest; where others send, or wait, it never does.
GRACE = 2.0

#: Seconds between two looks.
EVERY = 0.2

#: The source of what MUTT itself has to say; no sender can give it.
OWN = "mutt"

#: A server's clock may be so far behind this host's.
CLOCKS = timedelta(minutes=1)


class NotShown(MuttError):
    """The samples were not accepted."""


@dataclass(frozen=True)
class Sent:
    """One group that was accepted, and the id under which its rows are found."""

    sample: Sample
    accepted: int
    correlation_id: str


class Row(NamedTuple):
    """What became of one group."""

    title: str
    accepted: int
    audited: int
    alerts: dict[Status, int]

    @property
    def ended(self) -> bool:
        """Has each of its events come to its end, as far as rows tell?"""
        return self.audited >= self.accepted and not self.alerts.get(Status.WAITING)


class Verdict(NamedTuple):
    """How the stack stands, and the sentence for it."""

    good: bool  #: at rest, and the books balance
    says: str


def show(
    services: Services, ingest: str, key: str, console: Console, stop: Callable[[], bool], *, to_rest: bool
) -> None:
    """Send the samples, wait until each has come to its end (``to_rest``: everything else too), print the table."""
    since = datetime.now(UTC)
    sent = [_send(ingest, key, sample) for sample in samples(since)]
    total = sum(one.accepted for one in sent)
    with _progress(console) as progress:
        task = progress.add_task(many(total, "sample event") + " on their way", total=total)
        patience = _Patience(PATIENCE)
        while not stop():
            rows = _rows(services, sent, since)
            progress.update(task, completed=sum(row.audited for row in rows[: len(sent)]))
            ended = not to_rest and all(row.ended for row in rows)
            audited = all(row.audited >= row.accepted for row in rows)
            if _at_rest(services) or patience.is_over(services, ended=ended, audited=audited):
                break
            time.sleep(EVERY)
    if not stop():
        queued = bool(books.read(services.redis, *services.elsewhere).events["queued"])
        _print(_rows(services, sent, since), queued=queued)


def settle(services: Services, stop: Callable[[], bool], *, patience: float = PATIENCE) -> Verdict:
    """Wait up to ``patience`` seconds until all is at rest, and say how the books stand."""
    waits = _Patience(patience)
    while True:
        report, why = observe(services, deep=False) if _at_rest(services) else (None, "")
        if report and report.at_rest:
            return _judged(report, why)
        now = books.read(services.redis, *services.elsewhere)
        if stop() or waits.is_over(services, audited=not now.events["queued"]):
            return Verdict(False, f"[yellow]{waiting(now, breaker_of(services))}[/]")
        time.sleep(EVERY)


def _judged(report: Report, why: str) -> Verdict:
    if why:
        return Verdict(False, f"[red]PostgreSQL can't be asked whether the books balance[/]: {escape(why)}")
    if report.balanced:
        return Verdict(True, "the books balance")
    return Verdict(False, "[red]the books do not balance: see `mutt ledger`[/]")


class _Patience:
    """For how long it is worth to wait."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def is_over(self, services: Services, *, ended: bool = False, audited: bool = True) -> bool:
        """``ended``: what is waited for is there. ``audited``: only Moog is waited for."""
        left = self._deadline - time.monotonic()
        if left > GRACE and (ended or (audited and breaker_of(services).asks_again_s > left)):
            self._deadline -= left - GRACE
        return left <= 0


def waiting(now: books.Books, breaker: Breaker) -> str:
    """What waits, and for what. Pure."""
    queued, waits = now.events["queued"], now.alerts["waiting"]
    told = [many(queued, "event")] if queued else []
    told += [many(waits, "alert")] if waits else []
    if not told:
        return "the last outcomes are on their way to PostgreSQL: see `mutt ledger --wait 30`"
    verb = "waits" if queued + waits == 1 else "wait"
    why = f"the breaker is {says(breaker)}" if waits and not breaker.quiet else "see `mutt queues`"
    return f"{' and '.join(told)} {verb}: {why}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} audited"), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def _send(ingest: str, key: str, sample: Sample) -> Sent:
    headers = {"X-API-KEY": key, "Content-Type": sample.content_type}
    reply = requests.post(f"{ingest}/ingest/{sample.format}", sample.body, headers=headers, timeout=10)
    if reply.status_code != 202:
        raise NotShown(
            f"the samples were not accepted: {sample.title}: "
            f"ingest answered {reply.status_code}: {reply.text[:300]}"
        )
    body = reply.json()
    return Sent(sample, body["accepted"], body["correlation_id"])


def _at_rest(services: Services) -> bool:
    now = books.read(services.redis, *services.elsewhere)
    waits = now.events["queued"] or now.alerts["waiting"]
    return not waits and services.delivery_stream.size() == 0


def _rows(services: Services, sent: Sequence[Sent], since: datetime) -> list[Row]:
    """What became of each group, and last of MUTT's own event about the storm."""
    ids = [one.correlation_id for one in sent]
    audited: Counter[str] = Counter()
    alerted: dict[str, dict[Status, int]] = defaultdict(dict)
    with transaction(services.engine) as conn:
        for who, n in conn.execute(_count(event_audit_log, since, ids)):
            audited[who] = n
        for who, status, n in conn.execute(_count(alerts, since, ids, alerts.c.status)):
            alerted[who][Status(status)] = n
    rows = [
        Row(one.sample.title, one.accepted, audited[one.correlation_id], alerted[one.correlation_id])
        for one in sent
    ]
    return [*rows, Row("MUTT's own, of the storm", audited[OWN], audited[OWN], alerted[OWN])]


def _count(which: sa.Table, since: datetime, ids: Sequence[str], *by: sa.Column[str]) -> sa.Select[Any]:
    """Rows of one table by the group that they belong to."""
    own = sa.and_(which.c.source == OWN, which.c.hostname == STORM_HOST)
    who = sa.case((own, OWN), else_=which.c.correlation_id).label("who")
    # The time for the index: there is none on a correlation id.
    ours = (which.c.received_at >= since - CLOCKS) & (own | which.c.correlation_id.in_(ids))
    return sa.select(who, *by, sa.func.count()).where(ours).group_by(who, *by)


def _print(rows: Sequence[Row], *, queued: bool) -> None:
    """``queued``: what is not audited may be on its way; else it stands in the dead letters."""
    listed = [
        (
            row.title,
            row.accepted,
            row.audited,
            sum(row.alerts.values()),
            row.alerts.get(Status.DELIVERED, 0),
            row.alerts.get(Status.CANCELLED, 0),
            row.alerts.get(Status.PARKED, 0) + (0 if queued else row.accepted - row.audited),
        )
        for row in rows
        if row.accepted
    ]
    total = ("all", *(sum(int(row[i]) for row in listed) for i in range(1, 7)))
    columns = ["what was sent", "accepted", "audited", "alerted", "delivered", "held", "parked"]
    table("", columns, [*listed, total], numbers=(1, 2, 3, 4, 5, 6))
