"""What the rules know of devices: which hosts are development, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from mutt.rules.check import check_hostname, check_team
from mutt.store import changes, history
from mutt.store.history import Said
from mutt.store.tables import development_hosts, device_teams

HOSTNAME_MAX = 255


def hosts(conn: Connection) -> list[str]:
    """The development hosts, in order: names, globs and networks."""
    return list(conn.execute(select(development_hosts.c.hostname).order_by("hostname")).scalars())


def add_host(conn: Connection, hostname: str, **said: Unpack[Said]) -> None:
    """Make a host a development host, if it is none. Raises :class:`RuleError`."""
    _put(conn, development_hosts, {"hostname": check_hostname(hostname)}, **said)


def remove_host(conn: Connection, hostname: str, **said: Unpack[Said]) -> bool:
    """Make a host a production host again. Was it there?"""
    return _remove(conn, development_hosts, hostname, **said)


def set_hosts(conn: Connection, hostnames: Iterable[str], **said: Unpack[Said]) -> None:
    """Make exactly these the development hosts. Raises :class:`RuleError`."""
    changes.hold(conn)
    wanted = dict.fromkeys(check_hostname(hostname) for hostname in hostnames)
    for hostname in hosts(conn):
        if hostname not in wanted:
            remove_host(conn, hostname, **said)
    for hostname in wanted:
        add_host(conn, hostname, **said)


def teams(conn: Connection) -> dict[str, str]:
    """The team of each device that has one of its own."""
    found = conn.execute(select(device_teams).order_by("hostname"))
    return {row.hostname: row.team_assignment for row in found}


def put_team(conn: Connection, hostname: str, team: str, **said: Unpack[Said]) -> None:
    """Give a device to a team. Raises :class:`RuleError`."""
    row = {"hostname": check_hostname(hostname), "team_assignment": check_team("team_assignment", team)}
    _put(conn, device_teams, row, **said)


def remove_team(conn: Connection, hostname: str, **said: Unpack[Said]) -> bool:
    """Give a device back to the default team. Had it one of its own?"""
    return _remove(conn, device_teams, hostname, **said)


def set_teams(conn: Connection, assignments: Mapping[str, str], **said: Unpack[Said]) -> None:
    """Make exactly these the teams of devices. Raises :class:`RuleError`."""
    changes.hold(conn)
    wanted = {check_hostname(hostname): team for hostname, team in assignments.items()}
    for hostname in teams(conn):
        if hostname not in wanted:
            remove_team(conn, hostname, **said)
    for hostname, team in wanted.items():
        put_team(conn, hostname, team, **said)


def _put(conn: Connection, table: Table, row: dict[str, Any], **said: Unpack[Said]) -> None:
    before = _locked(conn, table, row["hostname"])
    if before is None and not _inserted(conn, table, row):
        before = _locked(conn, table, row["hostname"])  # somebody else's, who was at it
    if before == row:
        return
    if before is not None:
        conn.execute(update(table).where(table.c.hostname == row["hostname"]).values(row))
    operation = "UPDATE" if before else "CREATE"
    history.note(
        conn,
        operation=operation,
        table_name=table.name,
        record_id=row["hostname"],
        before=before,
        after=row,
        **said,
    )


def _inserted(conn: Connection, table: Table, row: dict[str, Any]) -> bool:
    made = insert(table).values(row).on_conflict_do_nothing().returning(table.c.hostname)
    return conn.execute(made).first() is not None


def _remove(conn: Connection, table: Table, hostname: str, **said: Unpack[Said]) -> bool:
    before = _locked(conn, table, hostname)
    if before is None:
        return False
    conn.execute(delete(table).where(table.c.hostname == hostname))
    history.note(conn, operation="DELETE", table_name=table.name, record_id=hostname, before=before, **said)
    return True


def _locked(conn: Connection, table: Table, hostname: str) -> dict[str, Any] | None:
    row = conn.execute(select(table).where(table.c.hostname == hostname).with_for_update()).first()
    return None if row is None else row._asdict()
