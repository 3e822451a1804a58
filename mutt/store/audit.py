"""The audit: one row for every event, written by COPY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import (
    ARRAY,
    Connection,
    DateTime,
    Engine,
    TableValuedAlias,
    Uuid,
    cast,
    column,
    func,
    insert,
    select,
)

from mutt.errors import AlreadyStored, PoisonRow, StoreDown
from mutt.event import Event, State, Varbind
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
    context: str | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What of an event has no column of its own; in the row as JSON. With it an event can be judged once more."""

    facility: str | None = None
    program: str | None = None
    trap_oid: str | None = None
    varbinds: tuple[Varbind, ...] = ()
    tags: dict[str, str] = {}
    state: State = State.RAISE
    occurred_text: str | None = None
    clear_key: str | None = None
    instance: str | None = None
    template: str | None = None
    team: str | None = None
    default_team: str | None = None
    environment: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Context).decode
_NOTHING = Context()


def context_of(event: Event) -> str | None:
    """The row's ``context``; None where there is nothing to tell."""
    told = _encode(
        Context(
            facility=event.facility,
            program=event.program,
            trap_oid=event.trap_oid,
            varbinds=event.varbinds,
            tags=event.tags,
            state=event.state,
            occurred_text=event.occurred_text,
            clear_key=event.clear_key,
            instance=event.instance,
            template=event.template,
            team=event.team,
            default_team=event.default_team,
            environment=event.environment,
        )
    )
    return None if told == b"{}" else told.decode()


def event_of(row: Any) -> Event:
    """The event of a row (anything with the columns' names): the one that was judged, but for what the row lacks.

    A row that was written before there was a ``context`` has its columns only.
    """
    more = _decode(row.context) if row.context else _NOTHING
    return Event(
        event_id=row.event_id,
        received_at=row.received_at,
        occurred_at=row.occurred_at,
        hostname=row.hostname,
        message=row.message,
        item=row.item,
        severity=row.severity,
        state=more.state,
        source=row.source,
        facility=more.facility,
        program=more.program,
        trap_oid=more.trap_oid,
        varbinds=more.varbinds,
        tags=more.tags,
        raw=row.raw,
        occurred_text=more.occurred_text,
        clear_key=more.clear_key,
        instance=more.instance,
        template=more.template,
        team=more.team,
        default_team=more.default_team,
        environment=more.environment,
    )


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
        context_of(event),
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
            [context_of(event) for event in events],
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
    # Nobody may delete rows of the audit: the database itself takes out this one.
    return bool(conn.execute(select(func.audit_forget_control(row.event_id, now))).scalar_one())
