"""Undo: one change of the history taken back, unless what it changed was changed again since."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Row, select

from mutt.errors import Refused
from mutt.rules.change import Change, Fields
from mutt.store import changes, rulebook
from mutt.store.history import Said
from mutt.store.tables import config_audit_log


def undo(conn: Connection, note_id: int, said: Said) -> Change:
    """Take the change of note ``note_id`` back; answers with the change that did it, whose note ``undoes`` the other.

    A row that was made is deleted, one that was deleted stands again under its old id, fields that were changed have
    their former values. The note of an undo can be undone like any other. Raises ``LookupError`` where there is no
    such note, :class:`~mutt.errors.Refused` where it can't be taken back, with the reason.
    """
    # One after the other, also with who makes a row anew that this gives back: it can't be locked before it is there.
    changes.hold(conn)
    note = conn.execute(select(config_audit_log).where(config_audit_log.c.id == note_id)).first()
    if note is None:
        raise LookupError(f"the history has no change {note_id}: it may be too old to be kept")
    change = _reverse(conn, note)
    made = changes.write(conn, [change], **_said(note, said))[0]
    if change.after is not None and change.table in changes.COMPILED:
        rulebook.check_compiles(conn, "")
    return made


def can_be_undone(note: Any) -> bool:
    """May a note of the history (a row of it) be asked to be undone? Whether it can, :func:`undo` says."""
    known = note.table_name in changes.KEPT and note.operation in ("CREATE", "UPDATE", "DELETE")
    return known and note.before != note.after


def _said(note: Row[Any], said: Said) -> Said:
    reason = said.get("reason") or f"takes back change {note.id}"
    return cast(Said, {**said, "reason": reason, "undoes": note.id})


def _reverse(conn: Connection, note: Row[Any]) -> Change:
    if not can_be_undone(note):
        raise Refused(
            "", f"change {note.id} ({note.operation} of {note.table_name}) is none that can be undone"
        )
    stands = changes.current(conn, note.table_name, note.record_id)
    change = Change(table=note.table_name, record_id=note.record_id, before=stands)
    row = f"{change.noun} {note.record_id}"
    if note.after is None:  # it was deleted
        if stands is not None:
            raise Refused("", f"there is a {row} again; nothing was deleted that could come back")
        return _made_into(change, note.before)
    if stands is None:
        raise Refused("", f"the {row} was deleted since; undo that first")
    was = changes.as_stored(conn, note.table_name, note.before or {})
    became = changes.as_stored(conn, note.table_name, note.after)
    touched = [name for name, value in became.items() if note.before is None or was.get(name) != value]
    _check_untouched(row, became, stands, touched)
    if note.before is None:
        return change
    return _made_into(change, {**stands, **{name: was.get(name) for name in touched}})


def _check_untouched(row: str, became: Fields, stands: Fields, touched: list[str]) -> None:
    since = [name for name in touched if stands.get(name) != became[name]]
    if since:
        raise Refused(
            "", f"the {row} was changed since ({', '.join(since)}); undo the later change first, or edit it"
        )


def _made_into(change: Change, fields: Fields) -> Change:
    known = changes.KEPT[change.table]
    after = known.check({name: value for name, value in fields.items() if name in known.columns})
    return Change(table=change.table, record_id=change.record_id, before=change.before, after=after)
