"""Who changed which configuration, when and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Required, TypedDict

from sqlalchemy import Connection, delete, insert

from mutt.store.tables import config_audit_log


class Said(TypedDict, total=False):
    """Who makes a change, and what they say about it."""

    changed_by: Required[str]
    reason: str
    correlation_id: str


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
) -> None:
    """Record one change, in the transaction that makes it. ``operation`` is CREATE, UPDATE or DELETE."""
    values = {
        "changed_by": changed_by,
        "operation": operation,
        "table_name": table_name,
        "record_id": str(record_id),
        "before": before,
        "after": after,
        "reason": reason,
        "correlation_id": correlation_id,
    }
    conn.execute(insert(config_audit_log).values(values))


def prune(conn: Connection, before: datetime) -> int:
    """Forget what changed before this time. How many notes went."""
    return conn.execute(delete(config_audit_log).where(config_audit_log.c.at < before)).rowcount
