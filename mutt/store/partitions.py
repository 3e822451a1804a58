"""The months of ``event_audit_log``: made ahead, and listed.

What takes the owner of the audit to do is a function of the database (migration 0014): housekeeping may have it done,
and is not the owner.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from mutt.errors import StoreDown
from mutt.store.patience import allow

PARENT = "event_audit_log"
DEFAULT = "event_audit_log_default"

#: A lock is not to be had in time, or who has it waits for one of ours.
_BUSY = ("55P03", "40P01")
LOCK_WAIT = 2.0  # seconds: whoever writes the audit waits as long behind us
_ATTEMPTS = 5
_MAKERS = 7_165_840_002  # two processes that make months at once queue on this number
T = TypeVar("T")

_BOUND = re.compile(r"FROM \('([^']+)'\) TO \('([^']+)'\)")


class Partition(NamedTuple):
    """One month: from ``start`` up to, not including, ``end``."""

    name: str
    start: datetime
    end: datetime
    rows_estimate: int
    bytes: int


def ensure(
    conn: Connection, now: datetime, months_ahead: int = 3, *, lock_wait: float = LOCK_WAIT
) -> list[str]:
    """Make the months from ``now``'s on, and those that rows of the default partition wait for. Names what was made.

    Raises :class:`StoreDown` if the table stays busy.
    """
    prepare(conn)
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKERS})
    if conn.execute(text("SELECT to_regclass(:name)"), {"name": DEFAULT}).scalar_one() is None:
        # Somebody dropped it: whatever has no month has no place until it is back.
        patiently(conn, _make_default, PARENT, lock_wait)
    there = {partition.name for partition in listing(conn)}
    wanted = dict.fromkeys([*_months(now, months_ahead + 1), *months_in_default(conn)])
    made = [month for month in wanted if name_of(month) not in there]
    for month in made:
        patiently(conn, make, month, lock_wait)
    return [name_of(month) for month in made]


def listing(conn: Connection) -> list[Partition]:
    """The months there are, the oldest first; the default partition is none of them."""
    found = conn.execute(
        text(
            """
            SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound,
                   greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::bigint AS rows_estimate,
                   pg_total_relation_size(c.oid) AS bytes
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = CAST(:parent AS regclass)
            """
        ),
        {"parent": PARENT},
    )
    months = [
        Partition(row.name, *_bounds(row.bound), row.rows_estimate, row.bytes)
        for row in found
        if row.bound != "DEFAULT"
    ]
    return sorted(months, key=lambda month: month.start)


def default_rows(conn: Connection) -> int:
    """How many rows stand in the default partition; anything but 0 means that a month is missing."""
    return int(conn.execute(text("SELECT coalesce(sum(n), 0) FROM audit_months_in_default()")).scalar_one())


def name_of(month: datetime) -> str:
    return f"{PARENT}_{month:%Y_%m}"


def prepare(conn: Connection) -> None:
    """Until this transaction ends times are UTC's, and a statement may take minutes."""
    conn.execute(text("SET LOCAL timezone = 'UTC'"))
    allow(conn, 300)


def _months(now: datetime, count: int) -> Iterator[datetime]:
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(count):
        yield month
        month = (month + timedelta(days=32)).replace(day=1)


def months_in_default(conn: Connection) -> list[datetime]:
    """The months that rows of the default partition are of."""
    found = conn.execute(text("SELECT month FROM audit_months_in_default()"))
    return [month.astimezone(UTC) for month in found.scalars()]


def _make_default(conn: Connection, _parent: str) -> None:
    conn.execute(text("SELECT audit_make_default()"))


def make(conn: Connection, month: datetime) -> None:
    """One month, empty but for what the default partition holds of it."""
    conn.execute(text("SELECT audit_make_month(:month)"), {"month": month})


def _bounds(bound: str) -> tuple[datetime, datetime]:
    found = _BOUND.search(bound)
    if found is None:
        raise StoreDown(f"{PARENT} has a partition that is no month: {bound}")
    start, end = (datetime.fromisoformat(edge) for edge in found.groups())
    return start, end


def patiently(
    conn: Connection, work: Callable[[Connection, T], None], on: T, lock_wait: float = LOCK_WAIT
) -> None:
    """Do ``work``, waiting for a lock only briefly at a time: all who come later queue behind one who waits."""
    conn.execute(text(f"SET LOCAL lock_timeout = '{lock_wait * 1000:.0f}ms'"))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with conn.begin_nested():
                work(conn, on)
            break
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) not in _BUSY or attempt == _ATTEMPTS:
                raise
    conn.execute(text("SET LOCAL lock_timeout = DEFAULT"))
