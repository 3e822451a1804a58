"""How PostgreSQL itself is: what the doctor and the pulse ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from mutt.store import partitions
from mutt.store.migrate import alembic_config

_SETTINGS = (
    "server_version_num",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "max_connections",
    "superuser_reserved_connections",
)


class Vitals(NamedTuple):
    """What a server and its database say of themselves."""

    settings: Mapping[str, str]  #: server_version_num, fsync, max_connections, …
    connections: int  #: of all clients
    ours: Mapping[str, int]  #: MUTT's connections by application_name
    migrated_to: str  #: '' where nothing was
    head: str  #: what this MUTT's migrations end with
    default_rows: int
    months: Sequence[str]  #: the names of the partitions


def vitals(conn: Connection) -> Vitals:
    """Ask everything."""
    migrated_to = MigrationContext.configure(conn).get_current_revision() or ""
    settings = conn.execute(
        text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"), {"names": list(_SETTINGS)}
    )
    clients = conn.execute(
        text(
            "SELECT application_name AS name, count(*) AS n FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' GROUP BY 1"
        )
    ).all()
    return Vitals(
        settings={row.name: row.setting for row in settings},
        connections=sum(row.n for row in clients),
        ours={row.name: row.n for row in clients if row.name.startswith("mutt-")},
        migrated_to=migrated_to,
        head=ScriptDirectory.from_config(alembic_config("")).get_current_head() or "",
        default_rows=partitions.default_rows(conn) if migrated_to else 0,
        months=[month.name for month in partitions.listing(conn)] if migrated_to else [],
    )


def clock(conn: Connection) -> datetime:
    """The server's time, now and not the transaction's."""
    now: datetime = conn.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


class Pulse(NamedTuple):
    """What is asked every few seconds, and touches no table."""

    connections: int  #: of all clients
    max_connections: int
    rows: (
        int  #: written to the audit since the server's statistics began, those that were rolled back included
    )


def pulse(conn: Connection) -> Pulse:
    """Ask for it: one statement over the server's own memory."""
    found = conn.execute(
        text(
            # pg_stat_activity would tell a role of MUTT's of its own sessions alone.
            "SELECT (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database),"
            " current_setting('max_connections')::int,"
            " (SELECT coalesce(sum(pg_stat_get_tuples_inserted(inhrelid)), 0)"
            " FROM pg_inherits WHERE inhparent = to_regclass('event_audit_log'))"
        )
    ).one()
    return Pulse(*map(int, found))
