"""`mutt up`: each process is its own user of Redis and PostgreSQL, and nothing listens but on the loopback."""

from __future__ import annotations

import ipaddress
import json
import uuid

import psutil
import pytest
import redis
import requests

from tests.stack import Stack
from tests.waiting import wait_until

#: Who works, by the name of the process, and the user that it is at each server; "" is none.
USERS = {
    "ingest": ("ingest", ""),
    "admin": ("admin", "mutt_admin"),
    "alerts": ("alerts", "mutt_alerts"),
    "moog": ("moog", ""),
    "housekeeping": ("housekeeping", "mutt_housekeeping"),
    "backtests": ("backtests", "mutt_backtests"),
    "flower": ("flower", ""),
}


@pytest.fixture
def owner(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.owner_redis_url)


def _reporting(stack: Stack) -> set[str]:
    """The roles of which a process said something of late."""
    sample = json.loads(stack.mutt("top", "--json").stdout)["sample"]
    assert sample["away"] == {}
    return {process["role"] for process in sample["processes"]}


def test_each_process_is_its_own_user_and_none_is_refused_anything(stack: Stack, owner: redis.Redis) -> None:
    """After traffic through every step, the servers' own logs name no refusal."""
    word = uuid.uuid4().hex[:8]
    stack.post([{"hostname": f"power-{word}", "message": f"CRITICAL {n}", "severity": 2} for n in range(20)])
    stack.post([{"hostname": f"power-{word}", "message": f"unmatched {n}"} for n in range(200)])
    # The admin looks into Redis for it.
    requests.get(stack.up["metrics"], timeout=10).raise_for_status()
    for arguments in (
        ("queues",),
        ("partitions", "ensure"),
        ("partitions", "list"),
        ("doctor",),
        ("migrate",),
    ):
        stack.mutt(*arguments, check=True)
    stack.balanced()
    at_redis = {client["user"] for client in owner.client_list()}
    assert {user for user, _ in USERS.values()} <= at_redis
    rows = stack.sql(
        "SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE usename LIKE 'mutt_%'"
    )
    at_postgres = {row.application_name: row.usename for row in rows}
    for name, user in at_postgres.items():
        if name.removeprefix("mutt-") in USERS:
            assert user == USERS[name.removeprefix("mutt-")][1]
    # Each process says how it is, and one of them reads it: the shell sees what was kept.
    wait_until(lambda: _reporting(stack) == set(USERS) - {"flower"}, 30, "every role in the pulse", every=1.0)
    # The shell may not see Redis' configuration: `mutt up` tells it what matters.
    assert "nobody can tell" not in stack.mutt("doctor").stdout
    refused = {(one["username"], one["object"]) for one in owner.acl_log(128)}
    assert refused <= {("cli", "config|get")}
    for log in (stack.home / "logs").iterdir():
        text = log.read_text(errors="replace").lower()
        assert "permission denied" not in text, log.name
        assert "no permissions" not in text, log.name


def test_nothing_of_it_listens_beyond_the_loopback(stack: Stack) -> None:
    """Servers, doors, Flower, the simulator and metrics: every socket of every process."""
    addresses = {
        ipaddress.ip_address(connection.laddr.ip)
        for process in stack.tree()
        for connection in _sockets(process)
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert not [address for address in addresses if not address.is_loopback]


def _sockets(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:
        return []


def test_flower_shows_nothing_without_the_login(stack: Stack) -> None:
    """Pages, its API and its metrics."""
    up = stack.up
    login = (up["admin_user"], up["admin_password"])
    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/metrics"):
        assert requests.get(up["flower"] + path, timeout=10).status_code == 401, path
        assert requests.get(up["flower"] + path, auth=(login[0], "wrong"), timeout=10).status_code == 401, (
            path
        )
        assert requests.get(up["flower"] + path, auth=login, timeout=10).status_code == 200, path
    stops = up["flower"] + "/api/worker/shutdown/alerts1@x"
    assert requests.post(stops, timeout=10).status_code == 401
    workers = up["flower"] + "/api/workers?refresh=true"
    seen = wait_until(lambda: requests.get(workers, auth=login, timeout=10).json(), 10, "workers in Flower")
    assert any(name.startswith("moog1@") for name in seen)


def test_metrics_are_at_their_own_port_and_not_at_the_doors(stack: Stack) -> None:
    """Counters of every process, and what stands in Redis, are in one answer."""
    up = stack.up
    assert requests.get(up["ingest"] + "/metrics", timeout=10).status_code == 404
    assert requests.get(up["admin"] + "/metrics", timeout=10, allow_redirects=False).status_code in (302, 404)
    text = requests.get(up["metrics"], timeout=10).text
    assert "mutt_events_accepted_total" in text
    assert 'mutt_queue_depth{queue="ingest_queue"}' in text
