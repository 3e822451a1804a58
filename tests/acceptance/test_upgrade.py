"""An older MUTT and this one on the same servers: migrated under it, worked together, nothing lost or doubled."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.servers import Live, live_postgres, live_redis, scratch
from tests.stack import ROLES, UNBOUND, Stack, running
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: The older MUTT: of before users, keys and roles, four migrations back. What it needs is among what this one needs.
OLDER, ITS_HEAD = "a9d76a4", "0010"


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Path]:
    """Its tree."""
    tree = tmp_path / "older"
    tree.mkdir()
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    known = subprocess.run([*git, "cat-file", "-e", f"{OLDER}^{{commit}}"], capture_output=True, check=False)
    if known.returncode:
        # Wherever there is no history (a shallow clone, an archive) nobody could look.
        pytest.skip(f"no commit {OLDER} here: the clone is shallow, or no clone")
    archive = subprocess.run([*git, "archive", OLDER], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    yield tree


class Older(Stack):
    """`mutt up` of another tree: ``PYTHONPATH`` names it, and `python -m mutt` finds it first."""

    #: It started everything that this one starts, but for what is given.
    roles = tuple(role for role in ROLES if role not in ("redis", "postgres"))


def schema(server: Live) -> str:
    """What the database is migrated to."""
    connection = psycopg2.connect(server.url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT version_num FROM alembic_version")
        [version] = cursor.fetchone()
    connection.close()
    return str(version)


def worked(stack: Stack) -> bool:
    """Did its workers evaluate anything?"""
    logs = (stack.home / "logs").glob("alerts[0-9].log")
    return any('"audited": ' in line and '"audited": 0' not in line for log in logs for line in log.open())


def at_rest(stack: Stack) -> bool:
    """Is nothing left that would still go to its Moog?"""
    return stack.books("events.queued") == stack.books("alerts.waiting") == 0


def sent(stack: Stack) -> set[tuple[str, str]]:
    """What its Moog got: host and signature of each alert."""
    found = stack.moog("/received", limit=50_000)
    return {(one["came"]["source"], one["came"]["signature"]) for one in found}


@pytest.mark.timeout(400)
def test_old_and_new_side_by_side(older: Path) -> None:
    """New migrations under old workers, both at work under load, then the new ones alone: the books balance exactly."""
    with (
        scratch() as directory,
        live_redis(directory) as redis,
        live_postgres(directory, durable=True) as server,
    ):
        given = {**UNBOUND, "REDIS_URL": redis.url, "DATABASE_URL": server.url}
        home = directory / "old"
        home.mkdir()
        old = Older(home, {**given, "PYTHONPATH": str(older)})
        old.start()
        try:
            assert schema(server) == ITS_HEAD
            with old.sending(
                "--count", "2000", "--batch", "20", "--rate", "400", "--retry"
            ) as under_migration:
                wait_until(lambda: old.books("events.settled") > 200, 60, "the old workers at work")
                with running(directory / "new", given) as new:
                    # `mutt up` has migrated by now, under the old workers.
                    assert schema(server) > ITS_HEAD
                    assert json.loads(under_migration.communicate(timeout=170)[0])["accepted"] == 2000
                    with old.sending(
                        "--count", "3000", "--batch", "20", "--rate", "800", "--retry"
                    ) as together:
                        assert json.loads(together.communicate(timeout=170)[0])["accepted"] == 3000
                    wait_until(lambda: at_rest(old), 120, "all to be evaluated and at a Moog", every=0.5)
                    at_old = sent(old)
                    old.stop()
                    assert worked(old) and worked(new), "both took their part"
                    _balances(new, at_old)
        finally:
            old.stop()


def _balances(new: Stack, at_old: set[tuple[str, str]]) -> None:
    found = new.balanced(5000)
    assert (found["lost"], found["double"], found["off_events"], found["off_alerts"]) == (0, 0, 0, 0)
    rows = new.sql("SELECT hostname, signature FROM alerts")
    alerts = {(row.hostname, row.signature) for row in rows}
    assert alerts == at_old | sent(new), "each alert is at one Moog or the other, under its own signature"
