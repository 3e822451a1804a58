"""PostgreSQL's side of the books: what the ledger's sums are held against."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, select, tuple_

from mutt.store import alerts as alert_rows
from mutt.store import partitions
from mutt.store.patience import allow
from mutt.store.tables import alerts, audit_ledger, event_audit_log, restored_months


class Sums(NamedTuple):
    """What PostgreSQL says without counting events."""

    audit_rows: int  #: ever written, those of retired months too
    alerts: dict[str, int]  #: by status; all statuses are named


class Counted(NamedTuple):
    """What PostgreSQL says when every row is counted."""

    audit_rows: int
    audit_keys: int  #: distinct (event_id, received_at)
    doubled_items: int  #: (batch_id, item) pairs that have more than one row
    alert_rows: int
    alert_ids: int  #: distinct alert_id
    months_retired: bool  #: then there are fewer audit rows than were ever written


def sums(conn: Connection) -> Sums:
    """The drains' own sums, and the alerts by status."""
    rows = conn.execute(select(func.coalesce(func.sum(audit_ledger.c.rows), 0))).scalar_one()
    return Sums(int(rows), {status.value: n for status, n in alert_rows.counts(conn).items()})


def count(conn: Connection) -> Counted:
    """Count every row. Reads the whole audit: without the session's time limit, and not often."""
    allow(conn, 0)
    log = event_audit_log.c
    distinct = func.count(func.distinct(tuple_(log.event_id, log.received_at)))
    rows, keys = conn.execute(select(func.count(), distinct).select_from(event_audit_log)).one()
    doubled = select(log.batch_id).group_by(log.batch_id, log.item).having(func.count() > 1).subquery()
    items = conn.execute(select(func.count()).select_from(doubled)).scalar_one()
    raised, ids = conn.execute(select(func.count(), func.count(func.distinct(alerts.c.alert_id)))).one()
    return Counted(rows, keys, items, raised, ids, _months_retired(conn))


def _months_retired(conn: Connection) -> bool:
    first = conn.execute(select(func.min(audit_ledger.c.at))).scalar_one()
    months = partitions.listing(conn)
    if conn.execute(select(restored_months.c.month).limit(1)).first() is not None:
        return True  # one is back; who knows about the others
    return first is not None and bool(months) and first < months[0].start
