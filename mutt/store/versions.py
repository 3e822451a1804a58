"""The versions of the ruleset: what stood in each, who made it, what differs; and an earlier one stands again.

Triggers keep a revision of every row of the ruleset's tables with the versions from and up to which it stood. A version
is those revisions that stood in it: nothing is copied when one is made, whoever makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import Rule, StormPolicy
from mutt.rules.windows import Window
from mutt.store.rulebook import rule_of, tags_as_text
from mutt.store.tables import (
    alert_rules,
    development_hosts,
    device_teams,
    maintenance_windows,
    rule_revisions,
    ruleset_versions,
    storm_policies,
)


class Unknown(LookupError):
    """There is no such version, or it is not kept any more."""


def rules_of(conn: Connection, version: int) -> list[Rule]:
    """The rules of a version, inactive ones too, by priority, then id. Raises :class:`LookupError`."""
    at = rule_revisions.c
    tags = func.jsonb_build_object("tags", tags_as_text(at.data["tags"]).element)
    rows = _rows(conn, version, alert_rules.name, at.data.op("||")(tags))
    return sorted((rule_of(row) for row in rows), key=lambda rule: (rule.priority, rule.id))


def hosts_of(conn: Connection, version: int) -> list[str]:
    """The development hosts of a version, in order. Raises :class:`LookupError`."""
    return sorted(row["hostname"] for row in _rows(conn, version, development_hosts.name))


def teams_of(conn: Connection, version: int) -> dict[str, str]:
    """The teams of devices in a version, in order. Raises :class:`LookupError`."""
    rows = _rows(conn, version, device_teams.name)
    return dict(sorted((row["hostname"], row["team_assignment"]) for row in rows))


def storms_of(conn: Connection, version: int) -> list[StormPolicy]:
    """The storm policies of a version, inactive ones too, by id. Raises :class:`LookupError`."""
    rows = _rows(conn, version, storm_policies.name)
    return sorted((msgspec.convert(row, StormPolicy) for row in rows), key=lambda policy: policy.id)


def windows_of(conn: Connection, version: int) -> list[Window]:
    """The maintenance windows of a version, inactive ones too, by id. Raises :class:`LookupError`."""
    rows = _rows(conn, version, maintenance_windows.name)
    return sorted((msgspec.convert(row, Window) for row in rows), key=lambda window: window.id)


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
    )


def _rows(conn: Connection, version: int, table: str, data: Any = rule_revisions.c.data) -> Sequence[Any]:
    check_kept(conn, version)
    at = rule_revisions.c
    stood = (at.since_version <= version) & (at.until_version.is_(None) | (at.until_version > version))
    return conn.execute(select(data).where(at.table_name == table, stood)).scalars().all()


def check_kept(conn: Connection, version: int) -> None:
    """Raise :class:`Unknown`, which is a ``LookupError``, with a sentence if the version can't be read again."""
    at = ruleset_versions.c
    if conn.execute(select(at.version).where(at.version == version)).first():
        return
    first, last = conn.execute(select(func.min(at.version), func.max(at.version))).one()
    if first is None or version > last:
        raise Unknown(f"there is no version {version} yet; the last is {last}")
    raise Unknown(f"version {version} is not kept any more; the first that is, is {first}")


def made_at(conn: Connection, version: int) -> datetime:
    """When a version was made. Raises :class:`LookupError`."""
    check_kept(conn, version)
    at = ruleset_versions.c
    return conn.execute(select(at.at).where(at.version == version)).scalar_one()
