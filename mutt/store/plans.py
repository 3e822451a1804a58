"""Plans: what a file would change of the rules, shown first, then made in one transaction or refused as too old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import msgspec
from sqlalchemy import Connection

from mutt.errors import Refused
from mutt.rules.book import Book, planned
from mutt.rules.change import Change, falls_silent
from mutt.store import changes, devices, redactions, rulebook, storms
from mutt.store.history import Said


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of the rules as they stand in a version."""

    version: int
    changes: Sequence[Change]

    def count(self, operation: str) -> int:
        """How many changes are a CREATE, an UPDATE, a DELETE."""
        return sum(change.operation == operation for change in self.changes)

    @property
    def silenced(self) -> list[Change]:
        """Changes of rules that send alerts now, and will not."""
        return [change for change in self.changes if falls_silent(change)]


def standing(conn: Connection) -> Book:
    """What makes the ruleset now."""
    return Book(
        rules=rulebook.list_rules(conn),
        hosts=devices.hosts(conn),
        teams=devices.teams(conn),
        storms=storms.policies(conn),
        redactions=redactions.listed(conn),
    )


def plan(conn: Connection, wanted: Book, *, replace: bool = False) -> Plan:
    """What would make the rules hold what ``wanted`` says; with ``replace`` nothing else, of what it speaks of.

    Raises :class:`~mutt.errors.NoRuleset` if the rules change faster than they can be read.
    """
    version, book = rulebook.unchanged(conn, standing)
    return Plan(version=version, changes=planned(book, wanted, replace=replace))


def apply(
    conn: Connection,
    wanted: Book,
    *,
    replace: bool = False,
    version: int | None = None,
    **said: Unpack[Said],
) -> Plan:
    """Do what :func:`plan` would say now, as one version; all of it or nothing.

    With ``version``, that of the plan that was looked at, only if the rules still stand as they did. Raises
    :class:`~mutt.errors.Refused` if they don't, or if they would not fit into one ruleset.
    """
    changes.hold(conn)
    made = plan(conn, wanted, replace=replace)
    if version is not None and made.version != version:
        raise Refused(
            "version",
            f"the plan was made for version {version}, and {made.version} stands: look at a new plan",
        )
    return write(conn, made, **said)


def write(conn: Connection, made: Plan, **said: Unpack[Said]) -> Plan:
    """Make the changes of a plan; its rows are held (:func:`mutt.store.changes.hold`). With the ids of new rows."""
    done = msgspec.structs.replace(made, changes=changes.write(conn, made.changes, **said))
    if any(map(rulebook.looks_for_more, done.changes)):
        rulebook.check_compiles(conn)
    return done
