"""Retention: months older than what is kept become files and go; one that is asked for comes back for a time."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, select, text, update

from mutt.errors import ArchiveUnreadable, Refused, StoreDown
from mutt.rules.redaction import Redactions
from mutt.store import partitions, rewriting
from mutt.store.archives import bulk, checking, keeping, manifest, reading, redacting, sums
from mutt.store.archives.duck import Duck
from mutt.store.archives.redacting import Redacted
from mutt.store.audit import AuditRow
from mutt.store.engine import transaction
from mutt.store.partitions import Partition, patiently, prepare
from mutt.store.patience import allow
from mutt.store.tables import event_audit_log, restored_months

log = logging.getLogger(__name__)

_RETIRERS = 7_165_840_003
_at = restored_months.c


class Restored(NamedTuple):
    """A month that was put back."""

    rows: int
    until: datetime


def due(conn: Connection, now: datetime, days: int) -> list[Partition]:
    """The months that lie wholly before the retention, the oldest first, without those restored for longer."""
    kept = set(conn.execute(select(_at.month).where(_at.until > now)).scalars())
    before = now - timedelta(days=days)
    return [
        month
        for month in partitions.listing(conn)
        if month.end <= before and manifest.month_of(month.name) not in kept
    ]


def retire(engine: Engine, now: datetime, days: int, duck: Duck) -> list[str]:
    """Archive each month that is due, then drop it, a transaction each. Names what went.

    A month goes once its files are on disk and were read back: as many rows, and the same ones. Raises
    :class:`StoreDown` if the table stays busy, ``OSError`` if an archive can't be written,
    :class:`ArchiveUnreadable` if one is not what was written, once the other months are done.
    """
    with transaction(engine) as conn:
        names = [month.name for month in due(conn, now, days)]
    gone, damaged = list[str](), list[ArchiveUnreadable]()
    for name in names:
        try:
            gone += [name] if _retire(engine, name, now, duck) else []
        except ArchiveUnreadable as error:
            log.warning("%s stays where it is: %s", name, error)
            damaged.append(error)
    if damaged:
        raise damaged[0]
    return gone


def retire_month(engine: Engine, month: str, now: datetime, duck: Duck) -> bool:
    """The same of one month (2026-05), due or not. Did it go? Not where another process is at it.

    Raises :class:`Refused` for a month that is not over, or not there.
    """
    name = manifest.table_of(month)
    with transaction(engine) as conn:
        found = _find(conn, name)
    if found is None:
        raise Refused("month", f"{month} is not in PostgreSQL: `mutt partitions list` shows what is")
    if found.end > now - timedelta(days=1):
        raise Refused("month", f"{month} is not over for a day: its rows are still coming")
    return _retire(engine, name, now, duck)


def _retire(engine: Engine, name: str, now: datetime, duck: Duck) -> bool:
    duck.directory.mkdir(parents=True, exist_ok=True)
    with transaction(engine) as conn:
        if not _alone(conn) or (month := _find(conn, name)) is None:
            return False  # another process is at it, or was
        manifest.sweep(duck.directory)
        prepare(conn)
        # A month takes long to write, and long to read back, with the transaction idle.
        unhurried(conn)
        patiently(conn, _freeze, name)
        keeping.keep(conn, month, duck, now)
        patiently(conn, _drop, name)
        conn.execute(delete(restored_months).where(_at.month == manifest.month_of(name)))
    keeping.dropped(duck.directory, manifest.month_of(name))
    return True


def convert(engine: Engine, duck: Duck, now: datetime, month: str | None = None) -> list[str]:
    """Make archives of older versions anew, of one month or of all. Names what went; nothing, where others are at it.

    Raises :class:`ArchiveUnreadable`, ``OSError``.
    """
    with transaction(engine) as alone:
        if not _alone(alone):
            return []
        unhurried(alone)
        old = dict.fromkeys(map(manifest.old_month, manifest.old_files(duck.directory, month)))
        return [name for one in old for name in keeping.convert(duck, one, now)]


def restore(
    engine: Engine,
    month: str,
    duck: Duck,
    *,
    until: datetime,
    who: str,
    each: Callable[[int], None] = lambda _rows: None,
) -> Restored:
    """Put a month back into PostgreSQL, where it stays until ``until``: all of it, or nothing.

    ``each`` is told how many rows were copied. Raises :class:`Refused`, :class:`ArchiveUnreadable`, :class:`StoreDown`.
    """
    known = manifest.read(duck.directory, month)
    if known is None:
        raise Refused(
            "month", f"{month} has no archive in {duck.directory}: `mutt audit archives` lists them"
        )
    checking.demand(duck, known)
    with transaction(engine) as conn:
        # By itself: it locks the default partition, which is written to while the rows are copied.
        prepare(conn)
        if _find(conn, known.table) is None:
            patiently(conn, partitions.make, known.start)
    with transaction(engine) as conn:
        _demand_alone(conn)
        prepare(conn)
        unhurried(conn)
        _demand_empty(conn, known)
        given = {"name": known.table, "until": until, "who": who}
        conn.execute(text("SELECT audit_begin_restore(:name, :until, :who)"), given)
        _copy_in(conn, known, duck, each)
        found, expected = sums.of_table(conn, known.start, known.end), keeping.sums_of(known)
        if found != expected:
            raise ArchiveUnreadable(
                "", f"{found.rows} rows came back of {expected.rows}, or others: none is kept"
            )
        conn.execute(update(restored_months).where(_at.month == month).values(rows=found.rows))
    return Restored(found.rows, until)


def extend(engine: Engine, month: str, until: datetime) -> bool:
    """Keep a restored month until then. Is it one?"""
    with transaction(engine) as conn:
        return (
            conn.execute(update(restored_months).where(_at.month == month).values(until=until)).rowcount == 1
        )


def drop_restored(engine: Engine, month: str, duck: Duck) -> bool:
    """Take a restored month away again: its archive holds it. Is it one?

    Raises :class:`Refused` where it holds other rows than its archive: retention brings those there;
    :class:`ArchiveUnreadable` where a file is damaged by now, :class:`StoreDown`.
    """
    with transaction(engine) as conn:
        if month not in reading.restored(conn):
            return False
        _demand_alone(conn)
        prepare(conn)
        unhurried(conn)
        known = manifest.read(duck.directory, month)
        if known is not None:
            checking.demand(duck, known)
        # From here on no late row slips in between the sum and the drop.
        patiently(conn, _freeze, manifest.table_of(month))
        if known is None or keeping.sums_of(known) != sums.of_table(conn, known.start, known.end):
            raise Refused(
                "month",
                f"{month} holds other rows than its archive: `mutt audit archive {month}` keeps both, and drops it",
            )
        patiently(conn, _drop_restored, manifest.table_of(month))
    return True


def redact_archives(
    engine: Engine,
    duck: Duck,
    made: Redactions,
    since: datetime,
    until: datetime,
    now: datetime,
    note: int | None,
) -> Iterator[Redacted]:
    """Rewrite archived rows of a time, file by file, and count them in the note; without one nothing is written.

    Raises :class:`ArchiveUnreadable`, and :class:`StoreDown` where another process archives.
    """
    with transaction(engine) as alone:
        _demand_alone(alone)
        unhurried(alone)
        for done in redacting.redact(duck, made, since, until, now, dry=note is None):
            if note is not None and done.changed:
                with transaction(engine) as conn:
                    rewriting.count(conn, note, done.changed, 0)
            yield done


def unhurried(conn: Connection) -> None:
    """Until this transaction ends nothing in it takes too long."""
    allow(conn, 0)
    conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _find(conn: Connection, name: str) -> Partition | None:
    return next((month for month in partitions.listing(conn) if month.name == name), None)


def _alone(conn: Connection) -> bool:
    return bool(conn.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _RETIRERS}).scalar_one())


def _demand_alone(conn: Connection) -> None:
    if not _alone(conn):
        raise StoreDown("another process archives or restores a month: try again in a moment")


def _demand_empty(conn: Connection, known: manifest.Manifest) -> None:
    if _find(conn, known.table) is None:
        raise StoreDown("another process took the month's partition away: try again")
    at = event_audit_log.c
    inside = select(at.event_id).where(at.received_at >= known.start, at.received_at < known.end)
    if conn.execute(inside.limit(1)).first() is not None:
        raise Refused(
            "month",
            f"{known.month} has rows in PostgreSQL: it is restored already, or they came late;"
            f" `mutt audit archive {known.month}` brings them to the others",
        )


def _copy_in(conn: Connection, known: manifest.Manifest, duck: Duck, each: Callable[[int], None]) -> None:
    columns = ", ".join(AuditRow._fields)
    statement = f"COPY event_audit_log ({columns}) FROM STDIN (FORMAT csv)"
    with contextlib.closing(conn.connection.cursor()) as cursor:
        for rows, written in bulk.as_csv(duck, known):
            cursor.copy_expert(statement, io.BytesIO(written))
            each(rows)


def _freeze(conn: Connection, name: str) -> None:
    if conn.execute(text("SHOW transaction_isolation")).scalar_one() != "read committed":
        # What was committed before the lock, and after this transaction's first look, would be dropped unseen.
        raise StoreDown("default_transaction_isolation of the database must be 'read committed'")
    conn.execute(text("SELECT audit_freeze_month(:name)"), {"name": name})


def _drop(conn: Connection, name: str) -> None:
    conn.execute(text("SELECT audit_drop_month(:name)"), {"name": name})


def _drop_restored(conn: Connection, name: str) -> None:
    conn.execute(text("SELECT audit_drop_restored(:name)"), {"name": name})
