"""The main path and a worker kill on a large PostgreSQL: a primary behind PgBouncer, a streaming replica for pages."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from tests.acceptance.bodies import main_path, worker_kill
from tests.servers import Live, live_pgbouncer, live_postgres, live_replica, scratch
from tests.stack import UNBOUND, Stack, running
from tests.waiting import wait_until


class OnReplica:
    """The stack, and the two servers under it."""

    def __init__(self, stack: Stack, primary: Live, replica: Live) -> None:
        self.stack, self.primary, self.replica = stack, primary, replica

    def ask(self, server: Live, statement: str) -> list[Any]:
        url = server.url.replace("postgresql://", "postgresql+psycopg2://")
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as conn:
            return list(conn.execute(sa.text(statement)))

    def pause(self, on: bool) -> None:
        self.ask(self.replica, f"SELECT pg_wal_replay_{'pause' if on else 'resume'}()")

    def get(self, path: str) -> requests.Response:
        up = self.stack.up
        return requests.get(up["admin"] + path, headers={"X-API-KEY": up["management_key"]}, timeout=15)


@pytest.fixture(scope="module")
def large() -> Iterator[OnReplica]:
    with (
        scratch() as directory,
        live_postgres(directory, durable=True) as primary,
        live_replica(directory, primary, extra={"hot_standby_feedback": "on"}) as replica,
        live_pgbouncer(directory, primary) as pooler,
    ):
        settings = {
            **UNBOUND,
            "DATABASE_URL": pooler.url,
            "DATABASE_READ_URL": replica.url,
            "DATABASE_OWNER_URL": primary.url,
        }
        with running(directory / "home", settings) as stack:
            yield OnReplica(stack, primary, replica)


def test_the_main_path(large: OnReplica) -> None:
    """From the request to Moog, with every statement of every worker through the pooler."""
    main_path(large.stack)


def test_a_worker_that_is_killed(large: OnReplica) -> None:
    """Costs no event and doubles none, though its session is the pooler's and lives on."""
    worker_kill(large.stack)


def test_pages_and_back_tests_read_the_replica_and_never_write_there(large: OnReplica) -> None:
    """With replay paused they show what was, and say so; what a worker is to know comes from the primary."""
    stack, host = large.stack, f"replica-{uuid.uuid4().hex[:8]}"
    stack.post({"hostname": host, "message": "CRITICAL before", "severity": 2}).raise_for_status()
    logs = f"/api/v2/audit-logs?hostname={host}"
    wait_until(lambda: len(large.get(logs).json()["logs"]) == 1, 15, "the row at the replica")
    large.pause(True)
    try:
        stack.post({"hostname": host, "message": "CRITICAL while paused", "severity": 2}).raise_for_status()
        of_host = "SELECT event_id FROM event_audit_log WHERE hostname = :host ORDER BY received_at"
        rows = wait_until(
            lambda: found if len(found := stack.sql(of_host, host=host)) == 2 else None, 15, "the row"
        )
        answer = wait_until(
            lambda: told if "X-Read-Note" in (told := large.get(logs)).headers else None, 15, "the note"
        )
        assert len(answer.json()["logs"]) == 1
        assert re.search(
            r"behind: what was written after .* UTC is not here yet", answer.headers["X-Read-Note"]
        )
        for path in ("/api/v2/alerts", "/api/v2/metrics", "/api/v2/slo"):
            assert "X-Read-Note" in large.get(path).headers, path
        fresh = large.get(f"/api/v2/events/{rows[1].event_id}/explain")
        assert (fresh.status_code, fresh.json()["found"]) == (200, "audited")
        rules = stack.home / "draft.json"
        rules.write_text('[{"name": "draft", "match_string": "CRITICAL", "priority": 1}]')
        told = stack.mutt("rules", "backtest", str(rules), "--host", host, "--since", "1h", check=True).stdout
        assert told.startswith("1 event: ")
        assert "behind: what was written after" in told
        saved = stack.mutt("rules", "import", str(rules), "--who", "test", "--reason", "replica")
        assert saved.returncode == 0, saved.stderr
        names = [rule["name"] for rule in large.get("/api/v2/rules?limit=500").json()["rules"]]
        assert "draft" in names, "what somebody saved is read from the primary"
    finally:
        large.pause(False)
    wait_until(lambda: len(large.get(logs).json()["logs"]) == 2, 15, "the row at the replica")
    stack.balanced()


def test_the_doctor_and_a_migration_beside_it(large: OnReplica) -> None:
    """The doctor finds a standby that keeps up; migrations go to the primary itself."""
    said = large.stack.mutt("doctor", "--json")
    assert "a standby of this primary, with its schema" in said.stdout, said.stdout + said.stderr
    done = large.stack.mutt("migrate")
    assert done.returncode == 0, done.stderr


def test_without_its_replica_pages_read_the_primary(large: OnReplica) -> None:
    """And say so; back-tests and everything else go on."""
    large.replica.stop()
    answer = large.get("/api/v2/alerts")
    assert answer.status_code == 200
    assert "can't be asked, so this was read from the primary" in answer.headers["X-Read-Note"]
    main_path(large.stack)
