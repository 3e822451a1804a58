"""A whole ``mutt up`` over TLS to servers that are given: every password changes under it, and nothing is restarted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import redis
import requests

from mutt.event import uuid7
from tests.private_ca import Registry
from tests.secure import PASSWORD, SecureMoog, SecurePostgres, SecureRedis, secure_postgres, secure_redis
from tests.servers import scratch
from tests.stack import QUICK, ROLES, Stack
from tests.waiting import wait_until

GIVEN = {"redis", "postgres", "moogsim"}


class Given(Stack):
    """A stack that starts no servers of its own."""

    roles = tuple(role for role in ROLES if role not in GIVEN)


class Site:
    """The stack, its servers, and the files that its secrets stand in."""

    def __init__(
        self, stack: Stack, redis: SecureRedis, postgres: SecurePostgres, moog: SecureMoog, files: Path
    ) -> None:
        self.stack, self.redis, self.postgres, self.moog, self._files = stack, redis, postgres, moog, files
        self.pids = dict(stack.pids)

    def write(self, name: str, text: str) -> None:
        """As a Vault agent does it: at once, another file by the same name."""
        (self._files / f"{name}.new").write_text(text)
        (self._files / f"{name}.new").replace(self._files / name)

    def send(self, count: int = 5) -> list[str]:
        """Events that become alerts; the ids under which Moog gets to know them."""
        events = [
            {"hostname": f"core-{uuid7()}", "message": f"CRITICAL fan {n} failed", "severity": "critical"}
            for n in range(count)
        ]
        reply = self.stack.post(events)
        assert reply.status_code in (202, 503), reply.text  # what is refused is for its sender to keep
        return [event["hostname"] for event in events] if reply.ok else []

    def delivered(self, hosts: list[str], seconds: float = 30) -> bool:
        def all_there() -> bool:
            text = str([one.came for one in self.moog.received if one.taken])
            return all(host in text for host in hosts)

        return wait_until(all_there, seconds, "Moog to have it all", every=0.1)

    def same_processes(self) -> bool:
        return dict(self.stack.pids) == self.pids


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        scratch() as directory,
        secure_redis(directory, papers := Registry(directory)) as redis,
        secure_postgres(directory, papers) as postgres,
        SecureMoog(papers.right, PASSWORD) as moog,
    ):
        files = directory / "secrets"
        files.mkdir()
        ca = str(papers.ca.pem)
        secrets = {"REDIS_URL": redis.url, "DATABASE_URL": postgres.url, "MOOG_API_KEY": PASSWORD}
        for name, text in secrets.items():
            (files / name).write_text(text)
        told = {
            **QUICK, "MOOG_BREAKER_TIMEOUT": "1s",
            **{f"{name}_FILE": str(files / name) for name in secrets},
            "REDIS_CA": ca, "DATABASE_CA": ca, "MOOG_CA": ca, "MOOG_URL": moog.enterprise_url,
        }  # fmt: skip
        (directory / "home").mkdir()
        stack = Given(directory / "home", told, "--alerts", "1")
        try:
            yield Site(stack.start(), redis, postgres, moog, files)
        finally:
            stack.stop_if_started()


def test_events_go_all_the_way_over_tls(site: Site) -> None:
    """Ingest, Redis, the broker, workers, PostgreSQL and Moog; Flower and beat are there, too."""
    assert site.delivered(site.send())
    url = urlsplit(site.redis.url)
    with redis.Redis.from_url(site.redis.live.url) as client:
        plain = [one for one in client.client_list() if not one["laddr"].endswith(f":{url.port}")]
        assert len(client.client_list()) > len(plain) == 1, "ours is the only one in the clear"
    up = site.stack.up
    login = (up["admin_user"], up["admin_password"])

    def queues() -> set[str]:
        # Flower asks the workers once, for a second: whoever was busy then is asked again.
        requests.get(f"{up['flower']}/api/workers", params={"refresh": "1"}, auth=login, timeout=10)
        lengths = requests.get(f"{up['flower']}/api/queues/length", auth=login, timeout=10)
        return {queue["name"] for queue in lengths.json()["active_queues"]}

    wait_until(lambda: queues() >= {"alerts", "moog"}, 30, "Flower to have asked every worker", every=1.0)


def test_the_doctor_finds_nothing_in_the_clear(site: Site) -> None:
    said = site.stack.mutt("doctor", "--json").stdout
    assert said.count("over TLS, checked") == 3, said


def test_redis_gets_a_new_password_and_nothing_is_lost(site: Site) -> None:
    new = "another-password-of-redis"
    hosts = site.send()
    site.redis.admin("ACL", "SETUSER", "default", f">{new}")
    site.write("REDIS_URL", site.redis.url.replace(PASSWORD, new))
    site.redis.admin("ACL", "SETUSER", "default", f"<{PASSWORD}")
    with redis.Redis.from_url(site.redis.live.url.replace(PASSWORD, new)) as client:
        with pytest.raises(redis.AuthenticationError):
            site.redis.admin("PING")
        client.acl_log_reset()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        hosts += sent_through(site, lambda: site.delivered(hosts))
        assert site.delivered(hosts)
        assert [entry["reason"] for entry in client.acl_log()] == [], "nobody tried the old one"
    assert site.same_processes()


def test_postgresql_gets_a_new_password_and_nothing_is_lost(site: Site) -> None:
    new = "another-password-of-postgresql"
    hosts = site.send()
    site.write("DATABASE_URL", site.postgres.url.replace(PASSWORD, new))
    site.postgres.admin(f"ALTER ROLE mutt PASSWORD '{new}'")
    with pytest.raises(psycopg2.OperationalError):
        site.postgres.admin("SELECT 1")
    with psycopg2.connect(site.postgres.live.url.replace(PASSWORD, new)) as conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'mutt-%'"
        )
    conn.close()
    hosts += sent_through(site, lambda: site.delivered(hosts))
    assert site.delivered(hosts)
    assert site.same_processes()


def test_moog_demands_a_new_key_and_nothing_is_lost(site: Site) -> None:
    new = "another-key-of-moog"
    site.moog.require(new)
    hosts = site.send()
    wait_until(lambda: any(one.status == 401 for one in site.moog.received), 20, "Moog to refuse")
    site.write("MOOG_API_KEY", new)
    hosts += sent_through(site, lambda: site.delivered(hosts))
    assert site.delivered(hosts)
    assert site.same_processes()


def test_no_log_holds_any_of_the_passwords(site: Site) -> None:
    logs = "".join(log.read_text(errors="replace") for log in site.stack.home.rglob("*.log"))
    assert "has changed: the new value is used from now on" in logs
    assert PASSWORD not in logs
    assert "another-" not in logs


def sent_through(site: Site, done: Callable[[], bool]) -> list[str]:
    """Send all the while until it is ``done``: all that was accepted."""
    over, hosts = threading.Event(), list[str]()

    def send() -> None:
        while not over.is_set():
            hosts.extend(site.send(1))
            time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            assert done()
        finally:
            over.set()
        sending.result()
    return hosts
