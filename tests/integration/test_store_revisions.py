"""However rows of the ruleset change, their revisions say what stood in each version."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from mutt.errors import MuttError
from mutt.store import rulebook
from mutt.store.engine import transaction

TABLES = ("alert_rules", "development_hosts", "device_teams", "storm_policies")

#: What psql, a restore or a script may do, besides MUTT's own statements.
WAYS = (
    "INSERT INTO device_teams VALUES ('{a}', '{n}') ON CONFLICT (hostname) DO UPDATE SET team_assignment = '{n}'",
    "INSERT INTO device_teams VALUES ('{a}', '{n}') ON CONFLICT DO NOTHING",
    "UPDATE device_teams SET hostname = hostname || 'x' WHERE hostname = '{a}'",
    "UPDATE device_teams SET hostname = left(hostname, 1) WHERE hostname = '{a}x'"
    " AND NOT EXISTS (SELECT FROM device_teams WHERE hostname = '{a}')",
    "UPDATE device_teams SET team_assignment = team_assignment",
    "UPDATE device_teams SET team_assignment = '{n}'",
    "DELETE FROM device_teams WHERE hostname = '{a}'",
    "TRUNCATE device_teams",
    "TRUNCATE device_teams, development_hosts",
    "INSERT INTO development_hosts (hostname) VALUES ('{a}') ON CONFLICT DO NOTHING",
    "MERGE INTO development_hosts h USING (VALUES ('{a}'), ('{b}')) AS v (name) ON h.hostname = v.name"
    " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (hostname) VALUES (v.name)",
    "UPDATE alert_rules SET priority = {n}",
    "UPDATE alert_rules SET id = id + 1000 WHERE id = (SELECT max(id) FROM alert_rules WHERE id < 1000)",
    "WITH gone AS (DELETE FROM alert_rules WHERE id = (SELECT max(id) FROM alert_rules) RETURNING *)"
    " INSERT INTO storm_policies (name, group_by, alert_count, alert_window) SELECT name, 'host', 9, 60 FROM gone",
    "SAVEPOINT s; DELETE FROM device_teams; ROLLBACK TO s",
    "SAVEPOINT s; UPDATE device_teams SET team_assignment = 'kept'; RELEASE s",
    "DELETE FROM development_hosts; INSERT INTO development_hosts (hostname) VALUES ('{a}'), ('{b}')",
)


def stands(conn: Connection) -> dict[str, list[Any]]:
    query = "SELECT to_jsonb(t) - 'created_at' - 'updated_at' FROM {} t"
    found = {table: conn.execute(text(query.format(table))).scalars() for table in TABLES}
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


def stood(conn: Connection, version: int) -> dict[str, list[Any]]:
    query = text(
        "SELECT data FROM rule_revisions WHERE table_name = :table AND since_version <= :version"
        " AND (until_version IS NULL OR until_version > :version)"
    )
    found = {table: conn.execute(query, {"table": table, "version": version}).scalars() for table in TABLES}
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


def at_random(rng: random.Random) -> str:
    return rng.choice(WAYS).format(a=rng.choice("abc"), b=rng.choice("def"), n=rng.randint(1, 9))


@pytest.mark.parametrize("seed", range(4))
def test_each_version_is_what_stood_at_its_end(engine: Engine, seed: int) -> None:
    """Many ways in one transaction make one version, and it holds what was committed."""
    rng = random.Random(seed)
    were: dict[int, dict[str, list[Any]]] = {}
    for _ in range(25):
        with transaction(engine) as conn:
            before = rulebook.current_version(conn)
            for _ in range(rng.randint(1, 4)):
                conn.execute(text(at_random(rng)))
            version = rulebook.current_version(conn)
            assert version - before in (0, 1)
            were[version] = stands(conn)
    with transaction(engine) as conn:
        for version, was in were.items():
            assert stood(conn, version) == was, version


def test_writers_side_by_side_leave_revisions_that_agree(engine: Engine) -> None:
    """They queue; who is broken off leaves nothing."""

    def write(seed: int) -> dict[int, dict[str, list[Any]]]:
        rng, were = random.Random(seed), dict[int, dict[str, list[Any]]]()
        for _ in range(15):
            try:
                with transaction(engine) as conn:
                    conn.execute(text(at_random(rng)))
                    conn.execute(text(at_random(rng)))
                    conn.execute(text("SELECT version FROM ruleset_version FOR UPDATE"))
                    were[rulebook.current_version(conn)] = stands(conn)
                    if rng.random() < 0.2:
                        raise MuttError
            except MuttError:  # a deadlock of their own making, or broken off on purpose
                were.clear()
        return were

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(write, range(3)))
    with transaction(engine) as conn:
        assert stood(conn, rulebook.current_version(conn)) == stands(conn)
        for were in found:
            for version, was in were.items():
                assert stood(conn, version) == was, version
