"""The versions of the ruleset: what stood in each, who made it, what differs; and an earlier one stands again.

Triggers keep a revision of every row of the ruleset's tables with the versions from and up to which it stood. A version
is those revisions that stood in it: nothing is copied when one is made, whoever makes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from mutt.errors import NoRuleset, Refused
from mutt.rules.book import Book, between
from mutt.rules.change import Change
from mutt.rules.evaluate import Ruleset
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule, StormPolicy
from mutt.rules.windows import Window
from mutt.store import changes, plans, rulebook
from mutt.store.history import Said
from mutt.store.plans import Plan
from mutt.store.rulebook import rule_of, tags_as_text
from mutt.store.tables import (
    alert_rules,
    config_audit_log,
    development_hosts,
    device_teams,
    maintenance_windows,
    redactions,
    rule_revisions,
    ruleset_versions,
    storm_policies,
)


class Unknown(LookupError):
    """There is no such version, or it is not kept any more."""


def made_at(conn: Connection, version: int) -> datetime:
    """When a version was made. Raises ``LookupError`` where it is not kept."""
    check_kept(conn, version)
    return conn.execute(
        select(ruleset_versions.c.at).where(ruleset_versions.c.version == version)
    ).scalar_one()


def rules_of(conn: Connection, version: int, *, but_not: int | None = None) -> list[Rule]:
    """The rules of a version, inactive ones too, by priority, then id. Raises :class:`LookupError`.

    ``but_not``: only those that did not stand in that version as they did in this one. So it is of what follows, too.
    """
    at = rule_revisions.c
    tags = func.jsonb_build_object("tags", tags_as_text(at.data["tags"]).element)
    rows = _rows(conn, version, alert_rules.name, but_not, at.data.op("||")(tags))
    return sorted((rule_of(row) for row in rows), key=lambda rule: (rule.priority, rule.id))


def hosts_of(conn: Connection, version: int, *, but_not: int | None = None) -> list[str]:
    """The development hosts of a version, in order. Raises :class:`LookupError`."""
    return sorted(row["hostname"] for row in _rows(conn, version, development_hosts.name, but_not))


def teams_of(conn: Connection, version: int, *, but_not: int | None = None) -> dict[str, str]:
    """The teams of devices in a version, in order. Raises :class:`LookupError`."""
    rows = _rows(conn, version, device_teams.name, but_not)
    return dict(sorted((row["hostname"], row["team_assignment"]) for row in rows))


def storms_of(conn: Connection, version: int, *, but_not: int | None = None) -> list[StormPolicy]:
    """The storm policies of a version, inactive ones too, by id. Raises :class:`LookupError`."""
    rows = _rows(conn, version, storm_policies.name, but_not)
    return sorted((msgspec.convert(row, StormPolicy) for row in rows), key=lambda policy: policy.id)


def windows_of(conn: Connection, version: int, *, but_not: int | None = None) -> list[Window]:
    """The maintenance windows of a version, inactive ones too, by id. Raises :class:`LookupError`."""
    rows = _rows(conn, version, maintenance_windows.name, but_not)
    return sorted((msgspec.convert(row, Window) for row in rows), key=lambda window: window.id)


def redactions_of(conn: Connection, version: int, *, but_not: int | None = None) -> list[Redaction]:
    """The redactions of a version, inactive ones too, in their order. Raises :class:`LookupError`."""
    rows = _rows(conn, version, redactions.name, but_not)
    return sorted((msgspec.convert(row, Redaction) for row in rows), key=lambda one: (one.position, one.id))


def load(conn: Connection, version: int, default_team: str) -> Ruleset:
    """The ruleset of a version, compiled as it was when it judged.

    Raises :class:`LookupError` with a sentence where the version is not kept, :class:`~mutt.errors.NoRuleset` where it
    never could be compiled.
    """
    return Ruleset.compile(
        version,
        rules_of(conn, version),
        hosts_of(conn, version),
        teams_of(conn, version),
        default_team,
        storms=storms_of(conn, version),
        windows=windows_of(conn, version),
        redactions=redactions_of(conn, version),
    )


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A version, and what the history says of how it came to be; changes that psql made are not in the history."""

    version: int
    at: datetime
    who: Sequence[str] = ()
    why: Sequence[str] = ()  #: the reasons given
    counts: Mapping[tuple[str, str], int] = {}  #: changes by (operation, table)


def latest(conn: Connection, *, before: int | None = None, limit: int = 100) -> list[Made]:
    """The versions that are kept, the newest first; ``before`` a version, for the next page."""
    at = ruleset_versions.c
    query = select(at.version, at.at).order_by(at.version.desc()).limit(limit)
    found = conn.execute(query if before is None else query.where(at.version < before)).all()
    if not found:
        return []
    said = _said(conn, [row.at for row in found])
    made = []
    for version, when in found:
        ours = said.get(version, ())
        made.append(
            Made(
                version=version,
                at=when,
                who=_distinct(row.changed_by for row in ours),
                why=_distinct(row.reason for row in ours),
                counts={
                    key: sum(row.changes for row in ours if (row.operation, row.table_name) == key)
                    for key in dict.fromkeys((row.operation, row.table_name) for row in ours)
                },
            )
        )
    return made


def _said(conn: Connection, times: Sequence[datetime]) -> dict[int, list[Any]]:
    at = config_audit_log.c
    groups = (at.ruleset_version, at.changed_by, at.reason, at.operation, at.table_name)
    query = (
        select(*groups, func.count().label("changes"))
        # A note is made in the transaction that makes its version, and so has its very time: the index on it serves.
        .where(at.at.between(min(times), max(times)), at.table_name.in_(list(changes.KEPT)))
        .group_by(*groups)
        .order_by(func.min(at.id))
    )
    found: dict[int, list[Any]] = defaultdict(list)
    for row in conn.execute(query):
        found[row.ruleset_version].append(row)
    return found


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(word for word in words if word))


def book_of(conn: Connection, version: int) -> Book:
    """All that can be restored of a version. Raises :class:`LookupError`."""
    return _book(conn, version)


def _book(conn: Connection, version: int, *, but_not: int | None = None) -> Book:
    return Book(
        rules=rules_of(conn, version, but_not=but_not),
        hosts=hosts_of(conn, version, but_not=but_not),
        teams=teams_of(conn, version, but_not=but_not),
        storms=storms_of(conn, version, but_not=but_not),
        redactions=redactions_of(conn, version, but_not=but_not),
    )


def sizes(conn: Connection, version: int) -> dict[str, int]:
    """How many rows of each table a version holds. Raises :class:`LookupError`."""
    check_kept(conn, version)
    table = rule_revisions.c.table_name
    found = dict.fromkeys(changes.KEPT, 0)
    query = select(table, func.count()).where(_stood(version)).group_by(table)
    for name, count in conn.execute(query):
        found[name] = count
    return found


def compare(conn: Connection, before: int, after: int, *, windows: bool = True) -> list[Change]:
    """What was made, changed and deleted from one version to another. Raises :class:`LookupError`.

    Without ``windows``, the maintenance windows are left out: what a restore would change. Takes as long as there are
    differences, not rules.
    """
    first, second = _book(conn, before, but_not=after), _book(conn, after, but_not=before)
    if windows:
        first = msgspec.structs.replace(first, windows=windows_of(conn, before, but_not=after))
        second = msgspec.structs.replace(second, windows=windows_of(conn, after, but_not=before))
    return between(first, second)


def restore(conn: Connection, version: int, said: Said, *, seen: int | None = None) -> Plan:
    """Make rules, hosts, teams, storm policies and redactions stand as in a version: as a new one, each change noted.

    Rows that were deleted since get their ids back. Maintenance windows are left alone: they belong to their time.
    With ``seen``, only if that version stands. Raises :class:`LookupError` where the version is not kept,
    :class:`~mutt.errors.Refused` where another stands, or its rules don't fit into one ruleset.
    """
    changes.hold(conn)
    check_kept(conn, version)
    stands = rulebook.current_version(conn)
    if seen is not None and stands != seen:
        raise Refused("", f"version {stands} was made since you looked: look at what would change now")
    reason = said.get("reason") or f"version {version} restored"
    plan = Plan(version=stands, changes=compare(conn, stands, version, windows=False))
    return plans.write(conn, plan, **cast(Said, {**said, "reason": reason}))


def prune(conn: Connection, before: datetime) -> int:
    """Forget the versions that had ceased to stand by this time, and what stood in no other. How many versions went.

    The one that stood then is kept, and with it any that may have judged since: where the version of that time could
    not be compiled, workers went on with an earlier one.
    """
    at = ruleset_versions.c
    oldest = conn.execute(select(func.max(at.version)).where(at.at <= before)).scalar_one_or_none()
    if oldest is None:
        return 0
    while (earlier := _before(conn, oldest)) is not None and not _compiles(conn, oldest):
        oldest = earlier
    return int(conn.execute(select(func.versions_prune(oldest))).scalar_one())


def _before(conn: Connection, version: int) -> int | None:
    at = ruleset_versions.c
    return conn.execute(select(func.max(at.version)).where(at.version < version)).scalar_one_or_none()


def _compiles(conn: Connection, version: int) -> bool:
    try:
        load(conn, version, "")
    except NoRuleset:
        return False
    return True


def _rows(
    conn: Connection, version: int, table: str, but_not: int | None, data: Any = rule_revisions.c.data
) -> Sequence[Any]:
    check_kept(conn, version)
    query = select(data).where(rule_revisions.c.table_name == table, _stood(version))
    if but_not is not None:
        check_kept(conn, but_not)
        query = query.where(~_stood(but_not))
    return conn.execute(query).scalars().all()


def _stood(version: int) -> ColumnElement[bool]:
    at = rule_revisions.c
    return and_(at.since_version <= version, or_(at.until_version.is_(None), at.until_version > version))


def check_kept(conn: Connection, version: int) -> None:
    """Raise :class:`Unknown`, which is a ``LookupError``, with a sentence if the version can't be read again."""
    at = ruleset_versions.c
    if conn.execute(select(at.version).where(at.version == version)).first():
        return
    first, last = conn.execute(select(func.min(at.version), func.max(at.version))).one()
    if first is None or version > last:
        raise Unknown(f"there is no version {version} yet; the last is {last}")
    raise Unknown(f"version {version} is not kept any more; the first that is, is {first}")
