"""Stored events and alerts without what redactions take out: their texts are written anew, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Unpack

from sqlalchemy import (
    ARRAY,
    Connection,
    DateTime,
    Engine,
    Integer,
    Table,
    Text,
    Uuid,
    and_,
    cast,
    column,
    func,
    select,
    update,
)

from mutt.event import Event
from mutt.rules.redaction import Redactions
from mutt.store import history
from mutt.store.audit import context_of, event_of
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.patience import allow
from mutt.store.tables import alerts, config_audit_log, event_audit_log

#: Rows of a slice at most; seconds of the first one, and of the shortest and the longest.
MOST = 5_000
FIRST, SHORTEST, LONGEST = timedelta(minutes=1), timedelta(milliseconds=1), timedelta(days=31)

#: Seconds that one slice may take.
PATIENCE = 300

_OF_EVENT = ("message", "raw", "source", "context")
_OF_ALERT = ("description", "raw", "source", "clear_key")


class Rewritten(NamedTuple):
    """What a slice came to; without a note, what it would come to."""

    until: datetime  #: everything before it is done
    events: int = 0  #: looked at
    events_changed: int = 0
    alerts_changed: int = 0


def begin(
    conn: Connection, since: datetime, until: datetime, names: Sequence[str], **said: Unpack[Said]
) -> int:
    """Note that it begins, with the names of the redactions. The note's id; its counts grow with each slice."""
    return history.note(
        conn,
        operation="REDACT",
        table_name=event_audit_log.name,
        record_id=f"{since.isoformat()}/{until.isoformat()}",
        after={"redactions": ", ".join(names), "events": 0, "alerts": 0},
        **said,
    )


def count(conn: Connection, note_id: int, events: int, alerts_: int) -> None:
    """Add to the counts of a note that :func:`begin` made."""
    at = config_audit_log.c
    counts = func.jsonb_build_object(
        "events",
        cast(at.after["events"], Integer) + events,
        "alerts",
        cast(at.after["alerts"], Integer) + alerts_,
    )
    conn.execute(update(config_audit_log).where(at.id == note_id).values(after=at.after.op("||")(counts)))


def rewrite(
    engine: Engine, made: Redactions, since: datetime, until: datetime, note_id: int | None
) -> Iterator[Rewritten]:
    """Rewrite what was received in this time, each slice in a transaction of its own with its part of the note.

    Without ``note_id`` nothing is written. It may be broken off, and done again: what is redacted stays so.
    """
    start, length = since, FIRST
    while start < until:
        end = min(start + length, until)
        with transaction(engine) as conn:
            allow(conn, PATIENCE)
            events = conn.execute(_of(event_audit_log, start, end)).all()
            told = conn.execute(_of(alerts, start, end)).all()
            if max(len(events), len(told)) > MOST and length > SHORTEST:
                length /= 4
                continue
            changed = [new for row in events if (new := _event(row, made))]
            of_alerts = [new for row in told if (new := _alert(row, made))]
            if note_id is not None and (changed or of_alerts):
                _write(conn, event_audit_log, ("event_id", "received_at"), _OF_EVENT, changed)
                _write(conn, alerts, ("alert_id",), _OF_ALERT, of_alerts)
                count(conn, note_id, len(changed), len(of_alerts))
        yield Rewritten(end, len(events), len(changed), len(of_alerts))
        start = end
        if len(events) < MOST // 4:
            length = min(length * 2, LONGEST)


def _of(table: Table, start: datetime, end: datetime) -> Any:
    at = table.c.received_at
    shortest = end - start <= SHORTEST
    return select(table).where(at >= start, at < end).limit(None if shortest else MOST + 1)


def _event(row: Any, made: Redactions) -> tuple[Any, ...] | None:
    was = event_of(row)
    event = made.redact(was)
    if event is was:
        return None
    return event.event_id, event.received_at, event.message, event.raw, event.source, context_of(event)


def _alert(row: Any, made: Redactions) -> tuple[Any, ...] | None:
    """An alert's texts are an event's: they are taken out as there."""
    was = Event(
        event_id=row.event_id,
        received_at=row.received_at,
        occurred_at=row.occurred_at,
        hostname=row.hostname,
        message=row.description,
        raw=row.raw,
        source=row.source,
        clear_key=row.clear_key,
    )
    event = made.redact(was)
    if event is was:
        return None
    return row.alert_id, event.message, event.raw, event.source, event.clear_key


def _write(
    conn: Connection, table: Table, keys: tuple[str, ...], names: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> None:
    if not rows:
        return
    columns = (*keys, *names)
    types: dict[str, Any] = {"event_id": Uuid(), "alert_id": Uuid(), "received_at": DateTime(timezone=True)}
    arrays: list[Any] = [
        cast(list(values), ARRAY(types.get(name, Text())))
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    given = (
        func.unnest(*arrays)
        .table_valued(*(column(name, types.get(name, Text())) for name in columns), name="given")
        .render_derived()
    )
    same = and_(*(table.c[name] == given.c[name] for name in keys))
    conn.execute(update(table).values({name: given.c[name] for name in names}).where(same))
