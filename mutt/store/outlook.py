"""What is ahead of the audit: are the months there that rows will need? By the catalog alone, for who asks often."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from mutt.store.partitions import DEFAULT, listing

_DEFAULT_ROWS = text("SELECT coalesce(pg_stat_get_live_tuples(to_regclass(:name)), 0)")


class Outlook(NamedTuple):
    """How far ahead the months of ``event_audit_log`` go."""

    ahead: int  #: months after the present one, without a gap; -1: the present one is missing
    default_rows: int  #: in the default partition, as PostgreSQL's statistics count them


def outlook(conn: Connection, now: datetime) -> Outlook:
    """As it stands at ``now``."""
    there = {month.start.astimezone(UTC) for month in listing(conn)}
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ahead = -1
    while month in there:
        ahead += 1
        year, index = divmod(month.year * 12 + month.month, 12)
        month = month.replace(year=year, month=index + 1)
    rows = conn.execute(_DEFAULT_ROWS, {"name": DEFAULT}).scalar_one()
    return Outlook(ahead, int(rows))
