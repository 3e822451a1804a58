"""The audit: one row for every event, written by COPY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    Connection,
    DateTime,
    Engine,
    TableValuedAlias,
    Uuid,
    cast,
    column,
    delete,
    func,
    insert,
    select,
)

from mutt.errors import AlreadyStored, PoisonRow, StoreDown
from mutt.event import Event
from mutt.rules.evaluate import Judged
from mutt.rules.rule import Verdict
from mutt.store.copying import Copy
from mutt.store.engine import transaction
from mutt.store.tables import audit_ledger, event_audit_log

Key = tuple[UUID, datetime]


class AuditRow(NamedTuple):
    """A row of ``event_audit_log``, in its columns' order."""

    event_id: UUID
    received_at: datetime
    occurred_at: datetime
    hostname: str
    severity: int | None
    source: str
    message: str
    matched_rule_id: int | None
    ruleset_version: int
    handling: str
    team: str | None
    batch_id: str
    item: int
    correlation_id: str
    raw: str


class Stored(NamedTuple):
    """What a row that stands says of itself: which item of which request it came from, and how it was handled."""

    batch_id: str
    item: int
    handling: str


_AUDIT = Copy(event_audit_log, AuditRow._fields)


def audit_row(
    event: Event, verdict: Verdict, *, ruleset_version: int, batch_id: str, correlation_id: str
) -> AuditRow:
    """What the audit keeps of one event and its verdict."""
    return AuditRow(
        event.event_id,
        event.received_at,
        event.occurred_at,
        event.hostname,
        event.severity,
        event.source,
        event.message,
        verdict.rule_id,
        ruleset_version,
        verdict.handling,
        verdict.team,
        batch_id,
        event.item,
        correlation_id,
        event.raw,
    )


def copy_rows(conn: Connection, rows: Sequence[AuditRow]) -> None:
    """Append ``rows`` in the order given. Give them in key order, so that two writers of equal keys can't deadlock.

    Within ``translated()``, :class:`AlreadyStored` means that a key is there, :class:`PoisonRow` that a value can't be.
    """
    _AUDIT.write(conn, list(zip(*rows, strict=True)))


def copy_judged(conn: Connection, rows: Sequence[Judged], ruleset_version: int) -> None:
    """The same of events with their verdicts, without making a row of each: see :func:`audit_row`."""
    events, verdicts = [row.event for row in rows], [row.verdict for row in rows]
    _AUDIT.write(
        conn,
        [
            [event.event_id for event in events],
            [event.received_at for event in events],
            [event.occurred_at for event in events],
            [event.hostname for event in events],
            [event.severity for event in events],
            [event.source for event in events],
            [event.message for event in events],
            [verdict.rule_id for verdict in verdicts],
            [ruleset_version] * len(rows),
            [verdict.handling for verdict in verdicts],
            [verdict.team for verdict in verdicts],
            [row.batch_id for row in rows],
            [event.item for event in events],
            [row.correlation_id for row in rows],
            [event.raw for event in events],
        ],
    )


def write_ledger(conn: Connection, rows: int, alerts: int) -> None:
    """Note one drain's sums, in the transaction that writes its rows."""
    conn.execute(insert(audit_ledger).values(rows=rows, alerts=alerts))


def stored(conn: Connection, keys: Sequence[Key]) -> dict[Key, Stored]:
    """Which of ``keys`` have a row, and whose it is."""
    if not keys:
        return {}
    log = event_audit_log.c
    times = [at for _, at in keys]
    wanted = key_table(keys)
    query = (
        select(log.event_id, log.received_at, log.batch_id, log.item, log.handling)
        .join(wanted, (log.event_id == wanted.c.event_id) & (log.received_at == wanted.c.received_at))
        .where(log.received_at.between(min(times), max(times)))  # so that other months are not even looked at
    )
    return {(event_id, at): Stored(*rest) for event_id, at, *rest in conn.execute(query)}


def key_table(keys: Sequence[Key]) -> TableValuedAlias:
    """``keys`` as a table of ``event_id`` and ``received_at`` to join with."""
    ids, times = zip(*keys, strict=True)
    return (
        func.unnest(cast(list(ids), ARRAY(Uuid)), cast(list(times), ARRAY(DateTime(timezone=True))))
        .table_valued(column("event_id", Uuid), column("received_at", DateTime(timezone=True)), name="wanted")
        .render_derived()
    )


def control_row(engine: Engine) -> bool:
    """Does the audit take rows now? A row of our own goes through COPY and is deleted, in one committed transaction."""
    try:
        with transaction(engine) as conn:
            return _through_and_out(conn)
    except (StoreDown, PoisonRow, AlreadyStored):
        return False


def _through_and_out(conn: Connection) -> bool:
    now: datetime = conn.execute(select(func.now())).scalar_one()
    row = AuditRow(
        uuid4(), now, now, "mutt", None, "mutt", "control", None, 0, "Ignore", None, "control", 0, "", ""
    )
    copy_rows(conn, [row])
    log = event_audit_log.c
    gone = conn.execute(delete(event_audit_log).where(log.event_id == row.event_id, log.received_at == now))
    return gone.rowcount == 1
