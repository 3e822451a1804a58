"""Many rows of the ruleset changed at once: one statement for each kind of change, and a note in the history a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import msgspec
from sqlalchemy import (
    ARRAY,
    Connection,
    FromClause,
    Table,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from mutt.errors import Refused
from mutt.rules.change import HOSTS, REDACTIONS, RULES, STORMS, TEAMS, WINDOWS, Change, Fields, fields_of
from mutt.rules.check import check_redaction, check_rule, check_storm, check_window
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule, StormPolicy
from mutt.rules.windows import Window
from mutt.store import history
from mutt.store.history import Said
from mutt.store.tables import (
    alert_rules,
    development_hosts,
    device_teams,
    maintenance_windows,
    redactions,
    storm_policies,
)

_KEPT_BY_POSTGRESQL = ("created_at", "updated_at")


class Kept(NamedTuple):
    """A table whose changes can be made in bulk, and taken back."""

    table: Table
    key: str = "id"  #: the column that names a row
    check: Callable[[Fields], Fields] = dict  #: fields that may stand together; raises ``Refused``

    @property
    def columns(self) -> list[str]:
        return [each.name for each in self.table.columns if each.name not in _KEPT_BY_POSTGRESQL]

    def key_of(self, record_id: str) -> Any:
        return self.table.c[self.key].type.python_type(record_id)


def _checked(
    check: Callable[[Fields], Rule | StormPolicy | Window | Redaction],
) -> Callable[[Fields], Fields]:
    return lambda fields: fields_of(check(fields))


#: Each table that the history can give back. One more is a line here.
KEPT = {
    RULES: Kept(alert_rules, check=_checked(check_rule)),
    HOSTS: Kept(development_hosts, "hostname"),
    TEAMS: Kept(device_teams, "hostname"),
    STORMS: Kept(storm_policies, check=_checked(check_storm)),
    WINDOWS: Kept(maintenance_windows, check=_checked(check_window)),
    REDACTIONS: Kept(redactions, check=_checked(check_redaction)),
}

#: Those of which a ruleset is compiled: what stands in them has to fit together.
COMPILED = (RULES, HOSTS, TEAMS, STORMS, REDACTIONS)


def hold(conn: Connection) -> None:
    """Keep other writers from the ruleset until the transaction ends; who reads it is not kept waiting.

    Ask before anything is changed: then nobody waits for a row of ours while we wait for one of theirs.
    """
    names = ", ".join(kept.table.name for kept in KEPT.values())
    conn.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))


def write(conn: Connection, changes: Sequence[Change], **said: Unpack[Said]) -> list[Change]:
    """Make these changes and note each. The same changes, with the ids that new rows got.

    Rows must be as their ``before`` says: :func:`hold` the ruleset before you look. A new row with a ``record_id`` gets
    that; ``after`` holds every field. Values are what JSON gives.
    """
    made = with_ids(conn, changes)
    grouped: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in made:
        grouped[change.operation, change.table].append(change)
    # What goes first makes room for a name that comes.
    for operation, work in (("DELETE", _delete), ("UPDATE", _update), ("CREATE", _insert)):
        for table in KEPT:
            if found := grouped.get((operation, table)):
                work(conn, KEPT[table], found)
    if any(change.table == REDACTIONS for change in made):
        _check_names(conn)
    history.note_all(conn, made, **said)
    return made


def _check_names(conn: Connection) -> None:
    # PostgreSQL looks at the end of the transaction only, for two may exchange their names; then it is too late to say.
    twice = select(redactions.c.name).group_by(redactions.c.name).having(func.count() > 1).limit(1)
    if name := conn.execute(twice).scalar_one_or_none():
        raise Refused("name", f"two redactions would be called {name!r}; rename one first")


def with_ids(conn: Connection, changes: Sequence[Change]) -> list[Change]:
    """The same changes, with an id for each row that is new: nobody else gets it, also where it is never written."""
    lacking: dict[str, list[int]] = defaultdict(list)
    made = list(changes)
    for at, change in enumerate(made):
        if change.record_id:
            continue
        if KEPT[change.table].key == "id":
            lacking[change.table].append(at)
        else:
            made[at] = _named(change, (change.after or {})[KEPT[change.table].key])
    for table, places in lacking.items():
        sequence = func.pg_get_serial_sequence(table, "id")
        numbers = select(func.nextval(sequence)).select_from(func.generate_series(1, len(places)))
        for at, number in zip(places, conn.execute(numbers).scalars(), strict=True):
            made[at] = _named(made[at], number)
    return made


def _named(change: Change, record_id: object) -> Change:
    return msgspec.structs.replace(change, record_id=str(record_id))


def _delete(conn: Connection, kept: Kept, changes: Sequence[Change]) -> None:
    keys = [kept.key_of(change.record_id) for change in changes]
    key = kept.table.c[kept.key]
    conn.execute(delete(kept.table).where(key == func.any(cast(keys, ARRAY(key.type)))))


def _update(conn: Connection, kept: Kept, changes: Sequence[Change]) -> None:
    rows = _rows(kept, changes)
    values: dict[str, Any] = {name: rows.c[name] for name in kept.columns if name != kept.key}
    if "updated_at" in kept.table.c:
        values["updated_at"] = func.now()
    conn.execute(update(kept.table).values(values).where(kept.table.c[kept.key] == rows.c[kept.key]))


def _insert(conn: Connection, kept: Kept, changes: Sequence[Change]) -> None:
    rows = _rows(kept, changes)
    names = kept.columns
    conn.execute(insert(kept.table).from_select(names, select(*(rows.c[name] for name in names))))


def _rows(kept: Kept, changes: Sequence[Change]) -> FromClause:
    """The rows that are to stand, as a table: PostgreSQL reads each value as its column's type."""
    data = [{**(change.after or {}), kept.key: change.record_id} for change in changes]
    return _records(kept, data)


def _records(kept: Kept, data: Sequence[Fields]) -> FromClause:
    typed = [column(name, kept.table.c[name].type) for name in kept.columns]
    made = func.jsonb_populate_recordset(_nothing(kept), cast(data, JSONB))
    return made.table_valued(*typed, name="given")


def _nothing(kept: Kept) -> Any:
    return literal_column(f"NULL::{kept.table.name}")


def current(conn: Connection, table: str, record_id: str) -> dict[str, Any] | None:
    """The row as it stands, in JSON's values and without its id; locked until the transaction ends."""
    kept = KEPT[table]
    row = func.to_jsonb(literal_column(kept.table.name), type_=JSONB)
    key = kept.table.c[kept.key]
    query = select(row).where(key == kept.key_of(record_id)).with_for_update()
    found = conn.execute(query).scalar_one_or_none()
    return None if found is None else _plain(kept, found)


def as_stored(conn: Connection, table: str, fields: Fields) -> dict[str, Any]:
    """These fields as the table would give them back: times and numbers are written in one way."""
    kept = KEPT[table]
    row = func.to_jsonb(_record(kept, fields), type_=JSONB)
    stored = _plain(kept, conn.execute(select(row)).scalar_one())
    return {name: stored[name] for name in fields if name in stored}


def _record(kept: Kept, fields: Fields) -> Any:
    return func.jsonb_populate_record(_nothing(kept), cast(fields, JSONB))


def _plain(kept: Kept, row: Fields) -> dict[str, Any]:
    dropped = _KEPT_BY_POSTGRESQL if kept.key != "id" else ("id", *_KEPT_BY_POSTGRESQL)
    return {name: value for name, value in row.items() if name not in dropped}
