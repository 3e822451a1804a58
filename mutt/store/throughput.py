"""How much went through, and how soon: sums of the audit's ledger and of the alerts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from mutt.alert import Status
from mutt.store.tables import alerts, audit_ledger


class Sums(NamedTuple):
    events: int
    alerts: int


class Level(NamedTuple):
    """The share of what went well, and the seconds within which 99 % of it did; None: there was nothing."""

    availability: float | None
    p99: float | None


_at = audit_ledger.c
_sums = (func.coalesce(func.sum(_at.rows), 0), func.coalesce(func.sum(_at.alerts), 0))


def since(conn: Connection, begin: datetime) -> Sums:
    """Events audited and alerts raised since then."""
    return Sums(*map(int, conn.execute(select(*_sums).where(_at.at >= begin)).one()))


def by_hour(conn: Connection, begin: datetime) -> list[tuple[datetime, Sums]]:
    """The same an hour, the oldest first; hours in which nothing went through are left out."""
    hour = func.date_trunc("hour", _at.at, "UTC")
    found = conn.execute(select(hour, *_sums).where(_at.at >= begin).group_by(hour).order_by(hour))
    return [(row[0].astimezone(UTC), Sums(int(row[1]), int(row[2]))) for row in found]


def forwarded(conn: Connection, begin: datetime) -> Level:
    """Of the alerts received since then: which share of those that came to an end at Moog was delivered, and how soon.

    Alerts that were held by MUTT itself are none of them; those that wait have not come to their end.
    """
    at = alerts.c
    ends = (Status.DELIVERED.value, Status.PARKED.value, Status.DROPPED.value)
    took = func.extract("epoch", at.delivered_at - at.received_at)
    query = select(
        func.count().filter(at.status == Status.DELIVERED.value),
        func.count(),
        func.percentile_disc(0.99).within_group(took.asc()).filter(at.delivered_at.is_not(None)),
    ).where(at.received_at >= begin, at.status.in_(ends))
    delivered, ended, p99 = conn.execute(query).one()
    return Level(delivered / ended if ended else None, None if p99 is None else float(p99))
