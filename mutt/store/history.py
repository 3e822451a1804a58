"""Who changed which configuration, when and why.

Notes are only added. What else happens to one goes through functions of the database (migration 0014), which let
nobody but its owner change any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Required, TypedDict, Unpack

from sqlalchemy import Connection, cast, func, insert, select
from sqlalchemy.dialects.postgresql import JSONB

from mutt.rules.change import Change
from mutt.store.tables import config_audit_log, ruleset_version


class Said(TypedDict, total=False):
    """Who makes a change, and what they say about it."""

    changed_by: Required[str]
    reason: str
    correlation_id: str
    undoes: int | None


def note(
    conn: Connection,
    changed_by: str,
    operation: str,
    table_name: str,
    record_id: object,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    correlation_id: str = "",
    undoes: int | None = None,
) -> int:
    """Record one change, in the transaction that makes it. The note's id.

    ``operation`` is CREATE, UPDATE or DELETE; of dead letters REPLAY, EDIT or DROP; of stored events REDACT; of the
    ledger RECOUNT. ``undoes`` is the id of the note whose change this one takes back. Note a change of the rules after
    it is made: its version then stands in the note.
    """
    values = {
        "changed_by": changed_by,
        "operation": operation,
        "table_name": table_name,
        "record_id": str(record_id),
        "before": before,
        "after": after,
        "reason": reason,
        "correlation_id": correlation_id,
        "ruleset_version": select(ruleset_version.c.version).scalar_subquery(),
        "undoes": undoes,
    }
    noted = conn.execute(insert(config_audit_log).values(values).returning(config_audit_log.c.id))
    return int(noted.scalar_one())


def note_all(conn: Connection, changes: Sequence[Change], **said: Unpack[Said]) -> None:
    """Record many changes, in the transaction that makes them and after they are made."""
    if not changes:
        return
    version = conn.execute(select(ruleset_version.c.version)).scalar_one_or_none()
    rows = [
        {
            "operation": change.operation,
            "table_name": change.table,
            "record_id": change.record_id,
            "before": change.before,
            "after": change.after,
            "ruleset_version": version,
            **said,
        }
        for change in changes
    ]
    conn.execute(insert(config_audit_log), rows)


def add(conn: Connection, note_id: int, counts: Mapping[str, int]) -> None:
    """Count on while the dead letters of a note move: these are added to the numbers of its ``after``."""
    conn.execute(select(func.history_count(note_id, cast(dict(counts), JSONB))))


def withdraw(conn: Connection, note_id: int) -> None:
    """Take back the note of dead letters that were not moved."""
    conn.execute(select(func.history_withdraw(note_id)))


def prune(conn: Connection, before: datetime) -> int:
    """Forget what changed before this time. How many notes went."""
    return int(conn.execute(select(func.history_prune(before))).scalar_one())
