"""Backup and restore as docs/backup.md has them: taken under load, restored on new servers, nothing of it lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from tests.servers import Live, lacking, live_postgres, live_redis, scratch
from tests.stack import QUICK, Stack, running
from tests.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs" / "backup.md"


def shell(heading: str, environ: dict[str, str], directory: Path) -> None:
    """Run the commands that stand below a heading of the page, but for what starts servers and MUTT."""
    section = DOCS.read_text().partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.S)).splitlines()
    ours = [line for line in lines if not line.startswith(("redis-server", "mutt"))]
    script = "\n".join(
        ["set -eu", f"DATA={directory}", *(line.replace(" DATA/", " $DATA/") for line in ours)]
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": os.environ["PATH"], **environ},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def at_moog(stack: Stack) -> list[tuple[str, str]]:
    """What Moog got: host and signature of each alert."""
    return [
        (one["came"]["source"], one["came"]["signature"]) for one in stack.moog("/received", limit=50_000)
    ]


@pytest.fixture
def directory() -> Iterator[Path]:
    for program in ("redis-cli", "pg_dump", "pg_restore"):
        if not shutil.which(program):
            lacking(f"no {program} on this machine")
    with scratch() as made:
        yield made


def taken(directory: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A stack of `mutt up`, backed up while events come in and alerts wait; then it is gone. What it knew, and Moog."""
    with running(directory / "old", {**QUICK, "MOOG_RATE_LIMIT": "40"}) as stack:
        with stack.sending("--count", "3000", "--batch", "20", "--rate", "600", "--retry") as sender:
            wait_until(lambda: stack.books("alerts.delivered") > 20, 60, "alerts at Moog")
            accepted = stack.books("events.accepted")
            shell("Take it", _access(stack), directory)
            later = stack.books("events.accepted")
            sender.communicate(timeout=120)
        assert stack.books("alerts.waiting") > 0, "the backup is of a stack that works"
        sent = at_moog(stack)
        secrets = (stack.home / "secrets.json").read_bytes()
    shutil.rmtree(directory / "old")
    return {"accepted": accepted, "later": later, "secrets": secrets}, sent


def _access(stack: Stack) -> dict[str, str]:
    """The variables of the page."""
    redis, postgres = urlsplit(stack.owner_redis_url), urlsplit(str(stack.up["owner_url"]))
    return {
        "REDIS_HOST": redis.hostname or "",
        "REDIS_PORT": str(redis.port),
        "REDISCLI_AUTH": redis.password or "",
        "DATABASE": f"postgresql://{postgres.username}@{postgres.hostname}:{postgres.port}{postgres.path}",
        "PGPASSWORD": postgres.password or "",
    }


@pytest.mark.timeout(400)
def test_a_backup_under_load_is_restored_on_new_servers(directory: Path) -> None:
    """All that was accepted before is audited once, each alert is at Moog under one signature, the books balance."""
    knew, sent = taken(directory)
    data = directory / "redis"
    data.mkdir()
    shutil.copy(directory / "redis.rdb", data)
    with live_postgres(directory, durable=True) as postgres:
        shutil.copy(directory / "mutt.dump", data)
        shell("Restore it", {"DATABASE": postgres.url}, data)
        # A restore takes longer than the two minutes after which the sweep believes that a row stands nowhere.
        with psycopg2.connect(postgres.url) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE alerts SET updated_at = updated_at - interval '5 min'")
        connection.close()
        with live_redis(directory) as redis:
            _work(directory, redis, postgres, knew, sent)


def _work(
    directory: Path, redis: Live, postgres: Live, knew: dict[str, Any], sent: list[tuple[str, str]]
) -> None:
    home = directory / "new"
    home.mkdir(mode=0o700)
    (home / "secrets.json").write_bytes(knew["secrets"])
    (home / "secrets.json").chmod(0o600)
    settings = {**QUICK, "REDIS_URL": redis.url, "DATABASE_URL": postgres.url, "MOOG_RATE_LIMIT": "500"}
    with running(home, settings) as stack:
        # What stands in the lanes goes at once; what stands in PostgreSQL alone comes with the sweep.
        wait_until(
            lambda: not stack.sql("SELECT 1 FROM alerts WHERE status = 'waiting' LIMIT 1"),
            240,
            "alerts at Moog",
        )
        stack.mutt("ledger", "--wait", "60")
        looked = stack.mutt("ledger", "--recount", check=True).stdout
        assert "nothing was changed" in looked or "nothing to change" in looked
        stack.mutt("ledger", "--recount", "--apply", "--reason", "restored", check=True)
        ledger = json.loads(stack.mutt("ledger", "--json", "--deep", check=True).stdout)
        assert (ledger["state"], ledger["balanced"]) == ("balanced", True), ledger
        assert knew["accepted"] <= ledger["events"]["settled"] <= knew["later"] + 3000
        rows = stack.sql(
            "SELECT count(*) AS n, count(DISTINCT (event_id, received_at)) AS keys FROM event_audit_log"
        )
        assert rows[0].n == rows[0].keys == ledger["events"]["settled"]
        again = at_moog(stack)
        alerts = {
            (row.hostname, row.signature) for row in stack.sql("SELECT hostname, signature FROM alerts")
        }
        assert alerts <= {*sent, *again}, "each alert of the backup is at Moog"
        assert set(again) <= alerts, "and under the signature that stands with it"
        assert stack.post({"hostname": "after", "message": "CRITICAL after the restore"}).status_code == 202
        stack.balanced()
