"""How PostgreSQL itself is: what the doctor and the pulse ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from mutt.store import partitions
from mutt.store.migrate import alembic_config
from mutt.store.replica import Source, source_of

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
    ahead: bool = False  #: migrated to what this MUTT does not know


def vitals(conn: Connection) -> Vitals:
    """Ask everything."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 late: see migrate

    migrated_to = _migrated_to(conn)
    settings = conn.execute(
        text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"), {"names": list(_SETTINGS)}
    )
    clients = conn.execute(
        text(
            "SELECT application_name AS name, count(*) AS n FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' GROUP BY 1"
        )
    ).all()
    ours = ScriptDirectory.from_config(alembic_config(""))
    return Vitals(
        settings={row.name: row.setting for row in settings},
        connections=sum(row.n for row in clients),
        ours={row.name: row.n for row in clients if row.name.startswith("mutt-")},
        migrated_to=migrated_to,
        head=ours.get_current_head() or "",
        default_rows=partitions.default_rows(conn) if migrated_to else 0,
        months=[month.name for month in partitions.listing(conn)] if migrated_to else [],
        ahead=bool(migrated_to) and migrated_to not in {one.revision for one in ours.walk_revisions()},
    )


class Server(NamedTuple):
    """Which server answers, and how far it is."""

    standby: bool
    system: str  #: the same at a primary and its standbys
    migrated_to: str
    feedback: bool  #: does a standby have its primary keep the rows that are read?
    source: Source


def server(conn: Connection) -> Server:
    """Ask a server what it is."""
    standby, system, feedback = conn.execute(
        text(
            "SELECT pg_is_in_recovery(), system_identifier::text, current_setting('hot_standby_feedback') = 'on'"
            " FROM pg_control_system()"
        )
    ).one()
    migrated_to = _migrated_to(conn)
    return Server(standby, system, migrated_to, feedback, source_of(conn))


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


def _migrated_to(conn: Connection) -> str:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 late: see migrate

    return MigrationContext.configure(conn).get_current_revision() or ""
