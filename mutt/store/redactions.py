"""Redactions in PostgreSQL: read, and changed with a note of who did it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Unpack

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from mutt.errors import Overwrites, RuleError
from mutt.rules.change import fields_of
from mutt.rules.check import check_redaction, read_flag
from mutt.rules.redaction import Redaction
from mutt.store import changes, history, rulebook
from mutt.store.history import Said
from mutt.store.tables import redactions

_row = redactions.c
_columns = [_row[name] for name in Redaction.__struct_fields__]


def listed(conn: Connection) -> list[Redaction]:
    """All of them, in the order in which they are applied."""
    return [_redaction(row) for row in conn.execute(select(*_columns).order_by(_row.position, _row.id))]


def get(conn: Connection, redaction_id: int, *, lock: bool = False) -> tuple[Redaction, datetime]:
    """A redaction, and when it was last changed; ``lock`` keeps it so. Raises ``LookupError``."""
    query = select(_row.updated_at, *_columns).where(_row.id == redaction_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise LookupError(f"there is no redaction {redaction_id}: it may have been deleted")
    return _redaction(row[1:]), row.updated_at


def by_name(conn: Connection, name: str) -> Redaction:
    """The redaction of this name. Raises ``LookupError``."""
    row = conn.execute(select(*_columns).where(_row.name == name)).first()
    if row is None:
        raise LookupError(f"there is no redaction {name!r}")
    return _redaction(row)


def save(
    conn: Connection,
    data: Mapping[str, Any],
    *,
    redaction_id: int | None = None,
    seen: str | None = None,
    **said: Unpack[Said],
) -> Redaction:
    """Create a redaction, or change the fields that ``data`` gives of one; note it in the history.

    ``seen``: when it was last changed (ISO), as far as the writer knows; None: whatever stands. Raises
    :class:`RuleError` with the field at fault, :class:`Overwrites`, ``LookupError``.
    """
    changes.hold(conn)
    if redaction_id is None:
        made = check_redaction(data)
        _check_free(conn, made)
        values = fields_of(made)
        created = _redaction(conn.execute(insert(redactions).values(values).returning(*_columns)).one())
        _note(conn, "CREATE", created.id, said, after=values)
        rulebook.check_compiles(conn, "pattern")
        return created
    before, changed_at = get(conn, redaction_id)
    _check_seen(changed_at, seen)
    after = _changed(before, data)
    if after != before:
        _check_free(conn, after)
        values = fields_of(after)
        conn.execute(
            update(redactions).where(_row.id == redaction_id).values({**values, "updated_at": func.now()})
        )
        _note(conn, "UPDATE", redaction_id, said, before=fields_of(before), after=values)
        if after.is_active:
            rulebook.check_compiles(conn, "pattern")
    return after


def remove(
    conn: Connection, redaction_id: int, *, seen: str | None = None, **said: Unpack[Said]
) -> Redaction:
    """Delete a redaction. Answers with what it was. Raises ``LookupError``, :class:`Overwrites`."""
    before, changed_at = get(conn, redaction_id, lock=True)
    _check_seen(changed_at, seen)
    conn.execute(delete(redactions).where(_row.id == redaction_id))
    _note(conn, "DELETE", redaction_id, said, before=fields_of(before))
    return before


def _changed(before: Redaction, data: Mapping[str, Any]) -> Redaction:
    if data.keys() == {"is_active"} and not read_flag("is_active", data["is_active"]):
        # Also one that would be refused today.
        return Redaction(**{**fields_of(before), "is_active": False}, id=before.id)
    return check_redaction(fields_of(before) | dict(data), redaction_id=before.id)


def _check_free(conn: Connection, redaction: Redaction) -> None:
    taken = select(_row.id).where(_row.name == redaction.name, _row.id != redaction.id)
    if conn.execute(taken).first():
        raise RuleError("name", f"is taken: there is a redaction {redaction.name!r}; write another")


def _check_seen(changed_at: datetime, seen: str | None) -> None:
    if seen is not None and changed_at.isoformat() != seen:
        raise Overwrites("redaction", changed_at)


def _redaction(row: Row[Any] | tuple[Any, ...]) -> Redaction:
    return Redaction(**dict(zip(Redaction.__struct_fields__, row, strict=True)))


def _note(conn: Connection, operation: str, redaction_id: int, said: Said, **what: Any) -> None:
    history.note(
        conn, operation=operation, table_name=redactions.name, record_id=redaction_id, **what, **said
    )
