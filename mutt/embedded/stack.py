"""The whole of MUTT on one machine: which processes, in which order, with which settings."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutt.embedded.account import postgres_account
from mutt.embedded.home import Home, Secrets
from mutt.embedded.pgbinaries import find_postgres
from mutt.embedded.ports import free_port
from mutt.embedded.postgres import DATABASE, PostgresServer, data_version, place_for
from mutt.embedded.process import Process, answers
from mutt.embedded.redis import RedisServer, find_redis
from mutt.errors import SettingsError
from mutt.settings import Settings, shared
from mutt.store import privileges
from mutt.store.engine import one_shot_engine, transaction
from mutt.streams import acl

HOST = "127.0.0.1"

#: Where each thing listens if nobody else does.
PORTS = {
    "ingest": 8080,
    "admin": 8081,
    "flower": 5555,
    "moogsim": 8888,
    "metrics": 9400,
    "syslog": 5514,
    "redis": 16379,
    "postgres": 15432,
}

#: The private Redis' share of the machine: ingest refuses at four fifths of it, long before the system would.
MEMORY = "2gb"

#: Who needs neither Redis nor PostgreSQL.
ALONE = ("moogsim", "listen")

#: The addresses of who needs no server.
NOTHING = {"redis_url": "", "database_url": ""}

#: What else names a Redis, where it is given.
ELSEWHERE = ("STREAM_URL", "STREAM_URLS", "BROKER_URL")

#: Threads that forward: at least twice rate times latency.
MOOG_THREADS = 32

#: The simulator is back within a second, where people wait for it: its breaker asks sooner than a real Moog's.
SIMULATORS_BREAKER = "10s"


@dataclass(frozen=True)
class Sizes:
    """How many workers of each kind."""

    alerts: int = 2
    moog: int = 1


@dataclass(frozen=True)
class Stack:
    """One machine's MUTT: ports chosen, secrets known. ``environ`` is what the children inherit."""

    home: Home
    secrets: Secrets = field(repr=False)
    settings: Settings = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    sizes: Sizes
    ports: Mapping[str, int]

    @classmethod
    def plan(cls, home: Home, settings: Settings, environ: Mapping[str, str], sizes: Sizes) -> Stack:
        """Choose ports: the usual ones, or the next that are free."""
        ports: dict[str, int] = {}
        for name, preferred in PORTS.items():
            ports[name] = free_port(preferred, HOST, avoid=ports.values())
        return cls(home, home.secrets(), settings, environ, sizes, ports)

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self.ports[name]}"

    def redis(self) -> RedisServer | None:
        """The private Redis; None: one was given, for the data and for the doorbells."""
        if self.settings.stream_url and self.settings.broker_url:
            return None
        directory, password = self.home.directory("redis"), self.secrets.redis_password
        hashes = {role: acl.hashed(self.secrets.password("redis", role)) for role in acl.ROLES}
        return RedisServer(
            find_redis(directory=directory),
            directory,
            self.ports["redis"],
            password,
            extra={"maxmemory": MEMORY},
            users=acl.file(hashes, default=acl.hashed(password)),
        )

    def postgres(self) -> PostgresServer | None:
        """The private PostgreSQL; None: one was given."""
        if self.settings.database_url:
            return None
        if self.settings.database_ca:
            expected = "no CA: the PostgreSQL that is started here listens on this machine only, without TLS"
            raise SettingsError("DATABASE_CA", self.settings.database_ca, expected)
        account = postgres_account()
        place = place_for(self.home.path, account)
        binaries = find_postgres(account=account, major=data_version(place))
        return PostgresServer(
            binaries, place, self.ports["postgres"], self.secrets.postgres_password, account
        )

    def let_in(self, server: PostgresServer) -> None:
        """Make each role's login at the private PostgreSQL, and grant what it needs. After the migrations."""
        passwords = {role: self.secrets.password("postgres", role) for role in privileges.ROLES}
        with transaction(one_shot_engine(server.url, role="migrate")) as conn:
            privileges.apply(conn, passwords)

    def up(self, redis: RedisServer | None, postgres: PostgresServer | None) -> dict[str, Any]:
        """What ``up.json`` says (but for ``roles``): where everything is, how to get in, how it was told to behave."""
        s, secrets = self.settings, self.secrets
        told: dict[str, Any] = {
            "ingest": self.url("ingest"),
            "admin": self.url("admin"),
            "flower": self.url("flower"),
            "moogsim": "" if s.moog_url else self.url("moogsim"),
            "metrics": self.url("metrics") + "/metrics",
            "moog_url": s.moog_url or self._moogsim_url(),
            "redis_url": self._redis_url(redis, "cli"),
            "database_url": self._database_url(postgres, "cli"),
            "roles": {
                role: {
                    "redis_url": self._redis_url(redis, role),
                    "database_url": self._database_url(postgres, role),
                }
                for role in acl.ROLES
            },
            # For `mutt doctor`: its user may not ask Redis.
            "redis_config": redis.durability if redis and not s.stream_url else {},
            # For `mutt migrate`: nobody who works is the owner of what he works on.
            "owner_url": postgres.url if postgres else s.database_owner_url or s.database_url,
            "api_key": s.ingest_api_key or secrets.api_key,
            "admin_user": s.admin_user,
            "admin_password": s.admin_password or secrets.admin_password,
            "management_key": s.management_api_key or secrets.management_key,
            "metrics_dir": str(self.metrics_dir),
        }
        return {**told, "settings": shared(self.environment(told, ""))}

    def _redis_url(self, server: RedisServer | None, role: str) -> str:
        """A role's way into Redis: a private one knows each role."""
        if server is None:
            return self.settings.redis_url
        return server.url_of(role, self.secrets.password("redis", role))

    def _database_url(self, server: PostgresServer | None, role: str) -> str:
        """A role's way into PostgreSQL; empty: it needs none."""
        if server is None:
            return self.settings.database_url
        if role not in privileges.ROLES:
            return ""
        return server.url_of(DATABASE, privileges.login_of(role), self.secrets.password("postgres", role))

    def _moogsim_url(self) -> str:
        path = (
            "/v1/integrations/events" if self.settings.moog_dialect == "cloud" else "/events/webhook_webhook1"
        )
        return self.url("moogsim") + path

    @property
    def metrics_dir(self) -> Path:
        return self.home.path / "metrics"

    def environment(self, up: Mapping[str, Any], role: str) -> dict[str, str]:
        """What a process of MUTT's own is started with. Secrets travel in the environment, never in arguments."""
        s = self.settings
        # Set, though empty: else the shell's stood in for it.
        own = NOTHING if role in ALONE else up["roles"].get(role, up)
        env = {
            **self.environ,
            "MUTT_HOME": str(self.home.path),
            "MUTT_ROLE": role,
            "APP": "mutt",
            "REDIS_URL": str(own["redis_url"]),
            "DATABASE_URL": str(own["database_url"]),
            "INGEST_API_KEY": str(up["api_key"]),
            "ADMIN_USER": str(up["admin_user"]),
            "ADMIN_PASSWORD": str(up["admin_password"]),
            "MANAGEMENT_API_KEY": str(up["management_key"]),
            "SECRET_KEY": s.secret_key or self.secrets.secret_key,
            "SEALING_KEY": s.sealing_key or self.secrets.sealing_key,
            "MOOG_URL": str(up["moog_url"]),
            "MOOG_API_KEY": s.moog_api_key or self.secrets.moog_key,
            "FLOWER_URL": self.url("flower"),
            "METRICS_URL": str(up["metrics"]),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics_dir),
        }
        if not s.moog_url and not env.get("MOOG_BREAKER_TIMEOUT"):
            env["MOOG_BREAKER_TIMEOUT"] = SIMULATORS_BREAKER
        # One port shows the sum; all would want the same.
        env["METRICS_HOST"] = HOST
        env["METRICS_PORT"] = str(self.ports["metrics"]) if role == "admin" else "0"
        # Nobody who works is to be the owner of what he works on.
        for name in ("DATABASE_OWNER_URL", "DATABASE_OWNER_URL_FILE"):
            env.pop(name, None)
        # What listens on this machine only needs no TLS.
        for name in ("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"):
            env.pop(name, None)
        if role in ALONE:
            for name in ELSEWHERE:
                env.pop(name, None)
                env.pop(f"{name}_FILE", None)
        if role == "listen":
            port = str(self.ports["syslog"])
            env |= {"INGEST_URL": str(up["ingest"]), "INGEST_KEY": str(up["api_key"])}
            env |= {"LISTEN_HOST": HOST, "LISTEN_SYSLOG_UDP": port, "LISTEN_SYSLOG_TCP": port}
            env["LOG_LEVEL"] = "info"  # its log says when it is ready
            env.pop("INGEST_KEY_FILE", None)
        if role == "flower":
            # It counts by the same library, and would count into our sum.
            del env["PROMETHEUS_MULTIPROC_DIR"]
        return env

    def simulator(self, up: Mapping[str, object]) -> Process | None:
        """A Moog that answers as told, where no real one is given."""
        if self.settings.moog_url:
            return None
        port = str(self.ports["moogsim"])
        argv = ("-m", "mutt.moogsim", "--host", HOST, "--port", port)
        return self._python("moogsim", up, *argv, ready_url=self.url("moogsim") + "/stats")

    def workers(self, up: Mapping[str, object]) -> list[Process]:
        """Those who work."""
        pool = ("-P", "prefork") if has_semaphores() else ("-P", "threads")
        made = [
            self._worker(f"alerts{i}", up, "alerts", *pool, "-c", "1") for i in _from_one(self.sizes.alerts)
        ]
        threads = ("-P", "threads", "-c", str(MOOG_THREADS))
        made += [self._worker(f"moog{i}", up, "moog", *threads) for i in _from_one(self.sizes.moog)]
        made.append(self._worker("housekeeping", up, "housekeeping,maintenance", "-P", "threads", "-c", "2"))
        made.append(self._worker("backtests", up, "backtests", "-P", "threads", "-c", "1"))
        return made

    def doors(self, up: Mapping[str, object]) -> list[Process]:
        """Those who let people in, and the calendar."""
        schedule = str(self.home.directory("beat") / "schedule")
        flower = ("flower", f"--address={HOST}", f"--port={self.ports['flower']}")
        return [
            self._python("beat", up, "-m", "celery", "-A", "mutt", "beat", "--pidfile=", "-s", schedule),
            self._python(
                "flower",
                up,
                "-m",
                "celery",
                "-A",
                "mutt",
                *flower,
                ready_url=self.url("flower") + "/healthcheck",
            ),
            self._gunicorn("admin", up, "--threads", "8"),
        ]

    def ingest(self, up: Mapping[str, object]) -> Process:
        """The door for events: opened last and closed first, so that the first event finds those who work it."""
        return self._gunicorn("ingest", up)

    def listener(self, up: Mapping[str, object]) -> Process:
        """Who hears syslog on this machine; behind ingest, to which it posts."""
        return self._python("listen", up, "-m", "mutt.listen", "syslog", ready_line="syslog-tcp listens")

    def _gunicorn(self, name: str, up: Mapping[str, object], *more: str) -> Process:
        bind = f"{HOST}:{self.ports[name]}"
        argv = (
            "-m",
            "gunicorn",
            "-c",
            "python:mutt.web.gunicorn",
            "--bind",
            bind,
            *more,
            f"mutt.wsgi:{name}",
        )
        return self._python(name, up, *argv, ready_url=self.url(name) + "/healthz")

    def _worker(self, name: str, up: Mapping[str, object], queues: str, *pool: str) -> Process:
        argv = ("-m", "celery", "-A", "mutt", "worker", "-Q", queues, "-n", f"{name}@%h", "-l", "INFO", *pool)
        return self._python(name, up, *argv, ready_line=" ready.", stop_grace=20.0)

    def _python(
        self,
        name: str,
        up: Mapping[str, object],
        *argv: str,
        ready_url: str = "",
        ready_line: str = "",
        stop_grace: float = 15.0,
    ) -> Process:
        return Process(
            name=name,
            argv=(sys.executable, *argv),
            log=self.home.log(name),
            # Python, gunicorn and celery look for modules where they are started: there, nothing is.
            cwd=self.home.directory("run"),
            env=self.environment(up, name.rstrip("0123456789")),
            ready=answers(ready_url) if ready_url else _at_once,
            ready_line=ready_line,
            ready_timeout=60.0,
            stop_grace=stop_grace,
        )


def _at_once() -> bool:
    return True


def _from_one(count: int) -> range:
    return range(1, count + 1)


def has_semaphores() -> bool:
    """Can this machine make the semaphores that prefork needs? A read-only /dev/shm says no."""
    try:
        multiprocessing.Semaphore()
    except OSError:
        return False
    return True
