"""Storm policies in PostgreSQL: read, and changed with a note of who did it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Unpack

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from mutt.errors import Overwrites
from mutt.rules.check import check_storm
from mutt.rules.rule import StormPolicy
from mutt.store import history
from mutt.store.history import Said
from mutt.store.tables import storm_policies

_row = storm_policies.c
_columns = [_row[name] for name in StormPolicy.__struct_fields__]


def policies(conn: Connection) -> list[StormPolicy]:
    """All of them, by id: the order in which they are asked."""
    return [_policy(row) for row in conn.execute(select(*_columns).order_by(_row.id))]


def get(conn: Connection, policy_id: int, *, lock: bool = False) -> tuple[StormPolicy, datetime]:
    """A policy, and when it was last changed; ``lock`` keeps it so. Raises ``LookupError``."""
    return _found(conn, policy_id, lock=lock)


def save(
    conn: Connection,
    data: Mapping[str, Any],
    *,
    policy_id: int | None = None,
    seen: str | None = None,
    **said: Unpack[Said],
) -> StormPolicy:
    """Create a policy, or change the fields that ``data`` gives of policy ``policy_id``; note it in the history.

    ``seen``: when it was last changed (ISO), as far as the writer knows; None: whatever stands. Raises
    :class:`~mutt.errors.RuleError` with the field at fault, :class:`Overwrites`, ``LookupError``.
    """
    if policy_id is None:
        made = insert(storm_policies).values(_fields(check_storm(data))).returning(*_columns)
        created = _policy(conn.execute(made).one())
        _note(conn, "CREATE", created.id, said, after=_fields(created))
        return created
    before, changed_at = _found(conn, policy_id, lock=True)
    _check_seen(changed_at, seen)
    after = check_storm(_fields(before) | dict(data), policy_id=policy_id)
    if after != before:
        changes = {**_fields(after), "updated_at": func.now()}
        conn.execute(update(storm_policies).where(_row.id == policy_id).values(changes))
        _note(conn, "UPDATE", policy_id, said, before=_fields(before), after=_fields(after))
    return after


def remove(conn: Connection, policy_id: int, *, seen: str | None = None, **said: Unpack[Said]) -> StormPolicy:
    """Delete a policy. Answers with what it was. Raises ``LookupError``, :class:`Overwrites`."""
    before, changed_at = _found(conn, policy_id, lock=True)
    _check_seen(changed_at, seen)
    conn.execute(delete(storm_policies).where(_row.id == policy_id))
    _note(conn, "DELETE", policy_id, said, before=_fields(before))
    return before


def _check_seen(changed_at: datetime, seen: str | None) -> None:
    if seen is not None and changed_at.isoformat() != seen:
        raise Overwrites("storm policy", changed_at)


def _found(conn: Connection, policy_id: int, *, lock: bool = False) -> tuple[StormPolicy, datetime]:
    query = select(_row.updated_at, *_columns).where(_row.id == policy_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise LookupError(f"there is no storm policy {policy_id}: it may have been deleted")
    return _policy(row[1:]), row.updated_at


def _policy(row: Row[Any] | tuple[Any, ...]) -> StormPolicy:
    return StormPolicy(**dict(zip(StormPolicy.__struct_fields__, row, strict=True)))


def _fields(policy: StormPolicy) -> dict[str, Any]:
    values = msgspec.structs.asdict(policy)
    del values["id"]  # it belongs to the database
    return values


def _note(conn: Connection, operation: str, policy_id: int, said: Said, **what: Any) -> None:
    history.note(
        conn, operation=operation, table_name=storm_policies.name, record_id=policy_id, **what, **said
    )
