"""Every version of the ruleset can be read again as it judged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, delete, insert, text

from mutt.store import devices, rulebook, versions
from mutt.store.engine import transaction
from mutt.store.tables import rule_revisions, ruleset_versions, storm_policies
from tests.bench import event

SAID = {"changed_by": "ann", "reason": "because"}


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with transaction(engine) as opened:
        yield opened


def changed(engine: Engine, *statements: str) -> int:
    """Run these in one transaction; the version that then stands."""
    with transaction(engine) as conn:
        for statement in statements:
            conn.execute(text(statement))
        return rulebook.current_version(conn)


def test_a_version_can_be_read_again(engine: Engine) -> None:
    """Rules, hosts, teams and storm policies of a version are those that stood in it, whatever came after."""
    with transaction(engine) as conn:
        rulebook.seed(conn)
        devices.put_team(conn, "core-*", "Backbone", **SAID)
        conn.execute(insert(storm_policies).values(name="s", group_by="host", alert_count=5, alert_window=60))
    with transaction(engine) as conn:
        version = rulebook.current_version(conn)
        stood = rulebook.load(conn, "NETO")
        rules, hosts, teams = rulebook.list_rules(conn), devices.hosts(conn), devices.teams(conn)
    changed(
        engine,
        "UPDATE alert_rules SET priority = 1, tags = '{\"site\": 7}' WHERE name = 'ERROR'",
        "DELETE FROM alert_rules WHERE name = 'CRITICAL'",
        "TRUNCATE device_teams",
        "INSERT INTO development_hosts VALUES ('lab-*')",
        "UPDATE storm_policies SET is_active = false",
    )
    with transaction(engine) as conn:
        assert versions.rules_of(conn, version) == rules
        assert versions.hosts_of(conn, version) == hosts
        assert versions.teams_of(conn, version) == teams
        again = versions.load(conn, version, "NETO")
        assert (again.version, again.rules, again.storms) == (version, stood.rules, stood.storms)
        assert versions.rules_of(conn, version + 1) == rulebook.list_rules(conn)
        assert again.deciding(event(message="CRITICAL"), again.host("r1")) is not None


def test_a_version_that_is_not_there_is_named(engine: Engine) -> None:
    """A version that never was, and one that is not kept, are a LookupError."""
    changed(engine, "INSERT INTO development_hosts VALUES ('lab-*')")
    last = changed(engine, "DELETE FROM development_hosts")
    with transaction(engine) as conn:
        conn.execute(delete(ruleset_versions).where(ruleset_versions.c.version < last))
        conn.execute(delete(rule_revisions).where(rule_revisions.c.until_version <= last))
        for version in (-1, 0, last - 1, last + 1):
            with pytest.raises(LookupError):
                versions.load(conn, version, "NETO")
        assert versions.hosts_of(conn, last) == []
