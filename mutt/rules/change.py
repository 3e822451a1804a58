"""Change: one row of the ruleset's tables made, changed or deleted. Plans, comparisons and undos are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule, StormPolicy
from mutt.rules.windows import Window

#: The tables that make a ruleset.
RULES, HOSTS, TEAMS, STORMS = "alert_rules", "development_hosts", "device_teams", "storm_policies"
WINDOWS, REDACTIONS = "maintenance_windows", "redactions"

#: What people call a row of them.
NOUNS = {
    RULES: "rule",
    HOSTS: "development host",
    TEAMS: "device team",
    STORMS: "storm policy",
    WINDOWS: "maintenance window",
    REDACTIONS: "redaction",
}

Fields = Mapping[str, Any]


class Field(NamedTuple):
    """A field that differs; None where the row, or the field, is not there."""

    name: str
    before: Any
    after: Any


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One row before and after; None where there is none. The fields are those of the history, without an id."""

    table: str
    record_id: str = ""  #: of a row that is to be made: "", for it gets one then
    before: Fields | None = None
    after: Fields | None = None

    @property
    def operation(self) -> str:
        """CREATE, UPDATE or DELETE, as the history says it."""
        if self.before is None:
            return "CREATE"
        return "DELETE" if self.after is None else "UPDATE"

    @property
    def noun(self) -> str:
        return NOUNS.get(self.table, self.table)

    @property
    def name(self) -> str:
        """What people call the row: its name before the change, if it had one."""
        row = self.before or self.after or {}
        return str(row.get("name") or row.get("hostname") or self.record_id)

    @property
    def fields(self) -> list[Field]:
        """What differs, in the order of the fields; of a row that is made or deleted all that says something."""
        before, after = self.before or {}, self.after or {}
        found = (Field(name, before.get(name), after.get(name)) for name in {**before, **after})
        return [field for field in found if field.before != field.after and not _says_nothing(field)]


def _says_nothing(field: Field) -> bool:
    return field.before in _NOTHING and field.after in _NOTHING


_NOTHING: tuple[Any, ...] = (None, "", {}, [])


def forwards(row: Fields | None) -> bool:
    """Does a rule with these fields ever send anything to Moog?"""
    if row is None or not row["is_active"]:
        return False
    return row["prod_handling"] != "Ignore" or row["dev_handling"] != "Ignore"


def falls_silent(change: Change) -> bool:
    """Is it a rule that sent alerts to Moog and does not any more?"""
    return change.table == RULES and forwards(change.before) and not forwards(change.after)


def fields_of(row: Rule | StormPolicy | Window | Redaction) -> dict[str, Any]:
    """The fields of a rule, policy, window or redaction as plain values, without its id: it is the database's."""
    values: dict[str, Any] = msgspec.to_builtins(row)
    del values["id"]
    return values
