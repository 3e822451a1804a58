"""Maintenance windows in PostgreSQL: read, and changed with a note of who did it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Unpack

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from mutt.errors import Overwrites, RuleError
from mutt.rules.check import check_window
from mutt.rules.windows import Window
from mutt.store import history
from mutt.store.history import Said
from mutt.store.tables import alert_rules, maintenance_windows

_row = maintenance_windows.c
_columns = [_row[name] for name in Window.__struct_fields__]


def windows(conn: Connection) -> list[Window]:
    """All of them, by id."""
    return [_window(row) for row in conn.execute(select(*_columns).order_by(_row.id))]


def get(conn: Connection, window_id: int, *, lock: bool = False) -> tuple[Window, datetime]:
    """A window, and when it was last changed; ``lock`` keeps it so. Raises ``LookupError``."""
    return _found(conn, window_id, lock=lock)


def save(
    conn: Connection,
    data: Mapping[str, Any],
    *,
    window_id: int | None = None,
    seen: str | None = None,
    **said: Unpack[Said],
) -> Window:
    """Create a window, or change the fields that ``data`` gives of window ``window_id``; note it in the history.

    ``seen``: when it was last changed (ISO), as far as the writer knows; None: whatever stands. Raises
    :class:`RuleError` with the field at fault, :class:`Overwrites`, ``LookupError`` if there is no such window.
    """
    if window_id is None:
        return _create(conn, check_window(data), said)
    before, changed_at = _found(conn, window_id, lock=True)
    _check_seen(changed_at, seen)
    after = check_window(_fields(before) | dict(data), window_id=window_id)
    _check_rule(conn, after, before)
    if after != before:
        _update(conn, before, after, said)
    return after


def end_now(conn: Connection, window_id: int, now: datetime, **said: Unpack[Said]) -> Window:
    """End the occurrence that is on; those to come are not touched. Raises ``LookupError``, :class:`RuleError`."""
    before, _ = _found(conn, window_id, lock=True)
    if not before.active_at(now):
        raise RuleError("", f"{before.name} is not on now; there is nothing to end")
    after = msgspec.structs.replace(before, ended_at=now)
    _update(conn, before, after, said)
    return after


def remove(conn: Connection, window_id: int, *, seen: str | None = None, **said: Unpack[Said]) -> Window:
    """Delete a window; an occurrence that is on ends. Answers with what it was. Raises as :func:`save` does."""
    before, changed_at = _found(conn, window_id, lock=True)
    _check_seen(changed_at, seen)
    conn.execute(delete(maintenance_windows).where(_row.id == window_id))
    _note(conn, "DELETE", window_id, said, before=_fields(before))
    return before


def _create(conn: Connection, window: Window, said: Said) -> Window:
    _check_rule(conn, window, None)
    made = conn.execute(insert(maintenance_windows).values(_values(window)).returning(*_columns)).one()
    created = _window(made)
    _note(conn, "CREATE", created.id, said, after=_fields(created))
    return created


def _update(conn: Connection, before: Window, after: Window, said: Said) -> None:
    changes = {**_values(after), "updated_at": func.now()}
    conn.execute(update(maintenance_windows).where(_row.id == after.id).values(changes))
    _note(conn, "UPDATE", after.id, said, before=_fields(before), after=_fields(after))


def _check_rule(conn: Connection, window: Window, before: Window | None) -> None:
    """A rule that was deleted since may stay named."""
    if window.rule_id is None or (before is not None and before.rule_id == window.rule_id):
        return
    if conn.execute(select(alert_rules.c.id).where(alert_rules.c.id == window.rule_id)).first() is None:
        raise RuleError("rule_id", f"names rule {window.rule_id}, which there is not; look up its number")


def _check_seen(changed_at: datetime, seen: str | None) -> None:
    if seen is not None and changed_at.isoformat() != seen:
        raise Overwrites("maintenance window", changed_at)


def _found(conn: Connection, window_id: int, *, lock: bool = False) -> tuple[Window, datetime]:
    query = select(_row.updated_at, *_columns).where(_row.id == window_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise LookupError(f"there is no maintenance window {window_id}: it may have been deleted")
    return _window(row[1:]), row.updated_at


def _window(row: Row[Any] | tuple[Any, ...]) -> Window:
    return Window(**dict(zip(Window.__struct_fields__, row, strict=True)))


def _values(window: Window) -> dict[str, Any]:
    values = msgspec.structs.asdict(window)
    del values["id"]  # it belongs to the database
    return values


def _fields(window: Window) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(window)
    del values["id"]
    return values


def _note(conn: Connection, operation: str, window_id: int, said: Said, **what: Any) -> None:
    history.note(
        conn, operation=operation, table_name=maintenance_windows.name, record_id=window_id, **what, **said
    )
