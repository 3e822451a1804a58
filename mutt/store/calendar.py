"""The calendar of retention: where each month of the audit stands, and what happens to it when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from mutt.settings import Settings
from mutt.store import partitions
from mutt.store.archives import manifest, reading
from mutt.store.archives.manifest import Manifest, month_of
from mutt.store.partitions import Partition

LIVE, RESTORED, ARCHIVED = "live", "restored", "archived"


class Life(NamedTuple):
    """One month."""

    month: str  #: 2026-05
    state: str  #: live, restored or archived
    rows: int  #: of a month in PostgreSQL about so many
    bytes: int
    next: str  #: what happens to it, and when


def lives(conn: Connection, directory: Path, settings: Settings, now: datetime) -> Sequence[Life]:
    """All months, the oldest first; one that is in PostgreSQL and in files for itself. Raises ArchiveUnreadable."""
    back = {month: row.until for month, row in reading.restored(conn).items()}
    days = timedelta(days=settings.audit_retention_days)
    stand = [
        _standing(month, back.get(month_of(month.name)), days, now) for month in partitions.listing(conn)
    ]
    filed = [_filed(one, settings.audit_archive_years) for one in manifest.listed(directory)]
    return sorted([*filed, *stand], key=lambda life: (life.month, life.state))


def _standing(month: Partition, until: datetime | None, days: timedelta, now: datetime) -> Life:
    name, goes = month_of(month.name), month.end + days
    if until is not None:
        told = f"taken away again from {until:%Y-%m-%d} on; its archive stays"
        return Life(name, RESTORED, month.rows_estimate, month.bytes, told)
    told = "archived by the next retention" if goes <= now else f"archived from {goes:%Y-%m-%d} on"
    return Life(name, LIVE, month.rows_estimate, month.bytes, told)


def _filed(one: Manifest, years: int) -> Life:
    expires = (one.start.replace(year=one.start.year + years) + timedelta(days=32)).replace(day=1)
    return Life(one.month, ARCHIVED, one.rows, one.bytes, f"deleted from {expires:%Y-%m-%d} on")
