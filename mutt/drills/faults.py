"""What can be broken: each fault as a context that breaks it, holds it so, and mends it, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import orjson
import requests
from sqlalchemy import text

from mutt.drills.site import Site
from mutt.settings import Settings
from mutt.words import many

#: So many times what Moog's limit lets through come in during a storm: seen within seconds, gone within a minute.
STORM = 2.5

#: A full Redis is one that has this much more than it holds now.
ROOM = 256 << 10

#: A body that costs its sender nothing and ingest a core: blanks, which it has to unpack and to read.
BLANKS = 12 << 20


class Load(NamedTuple):
    """What ``mutt send`` makes up, and how many events a second."""

    generator: str
    rate: float
    batch: int


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. ``breaks`` holds it broken for as long as its context lasts."""

    name: str
    does: str  #: what is done, a sentence for whoever looks on
    named: tuple[str, ...]  #: what the pulse has to name: any of these
    breaks: Callable[[Site], AbstractContextManager[None]]
    load: Callable[[Settings], Load]  #: what is sent meanwhile


def steady(_settings: Settings) -> Load:
    """An ordinary day: a tenth of it becomes alerts."""
    return Load("mixed", 200.0, 20)


def alerting(settings: Settings) -> Load:
    """Alerts alone, a part of what Moog's limit lets through: soon sent once it may be."""
    return Load("critical", max(1.0, 0.4 * settings.moog_rate_limit / settings.moog_rate_period), 5)


def storming(settings: Settings) -> Load:
    """Alerts alone, far more than Moog's limit lets through."""
    return Load("critical", STORM * settings.moog_rate_limit / settings.moog_rate_period, 50)


@contextlib.contextmanager
def _moog_down(site: Site) -> Iterator[None]:
    try:
        site.moog([{"behaviour": "503"}])
        yield
    finally:
        site.moog([])


@contextlib.contextmanager
def _redis_restart(site: Site) -> Iterator[None]:
    with site.stopped("redis"):
        yield
        # Not let go first: what it held in its hands is lost with it, as in a crash.
        site.kill("redis")


@contextlib.contextmanager
def _redis_memory(site: Site) -> Iterator[None]:
    with site.redis() as client:
        before = client.config_get("maxmemory")["maxmemory"]
        used = int(client.info("memory")["used_memory"])
        try:
            client.config_set("maxmemory", used + ROOM)
            yield
        finally:
            client.config_set("maxmemory", before)


@contextlib.contextmanager
def _pg_stall(site: Site) -> Iterator[None]:
    with site.postgres() as conn:
        # Who reads goes on; who writes waits, as behind a full disk or a lock of somebody's.
        conn.execute(text("LOCK TABLE event_audit_log IN SHARE MODE"))
        yield


@contextlib.contextmanager
def _ingest_cpu(site: Site) -> Iterator[None]:
    event = {"hostname": "drill", "message": "one event, and twelve million blanks"}
    body = gzip.compress(orjson.dumps([event])[:-1] + b" " * BLANKS + b"]", 1)
    headers = {
        "X-API-KEY": str(site.up["api_key"]),
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
    }

    def post(session: requests.Session) -> None:
        session.post(site.address("ingest") + "/ingest", data=body, headers=headers, timeout=30)

    with _again_and_again(post, threads=8):
        yield


@contextlib.contextmanager
def _slow_pages(site: Site) -> Iterator[None]:
    headers = {"X-API-KEY": str(site.up["management_key"])}

    def look(session: requests.Session) -> None:
        session.get(site.address("admin") + "/api/v2/audit", headers=headers, timeout=30)

    with site.postgres() as conn:
        # Only pages read the history of changes.
        conn.execute(text("LOCK TABLE config_audit_log IN ACCESS EXCLUSIVE MODE"))
        with _again_and_again(look, threads=2):
            yield


@contextlib.contextmanager
def _storm(site: Site) -> Iterator[None]:
    site.pids("moog")
    yield


@contextlib.contextmanager
def _again_and_again(act: Callable[[requests.Session], None], *, threads: int) -> Iterator[None]:
    """Do it from several threads, over and over. An answer of any kind is one; the fault is what it may be."""
    over = threading.Event()

    def work() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not over.is_set():
                with contextlib.suppress(requests.RequestException):
                    act(session)

    workers = [threading.Thread(target=work, name=f"drill-{i}", daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join()


_LISTED = (
    Fault(
        "moog-down",
        "the Moog simulator answers 503 to everything, while alerts come in",
        ("moog-outage",),
        _moog_down,
        alerting,
    ),
    Fault(
        "redis-restart",
        "Redis is held still, then killed; the supervisor starts it again",
        ("redis-away",),
        _redis_restart,
        steady,
    ),
    Fault(
        "redis-memory",
        f"Redis' maxmemory is set to what it holds and {many(ROOM >> 10, 'KiB', 'KiB')} more",
        ("redis-memory",),
        _redis_memory,
        steady,
    ),
    Fault(
        "pg-stall",
        "a lock on event_audit_log lets nobody write there; reading goes on",
        ("postgres-writes",),
        _pg_stall,
        steady,
    ),
    Fault(
        "ingest-cpu",
        "eight senders post bodies that unpack to 12 MiB of blanks",
        ("ingest-cpu",),
        _ingest_cpu,
        steady,
    ),
    Fault(
        "slow-pages",
        "a lock on config_audit_log holds up whoever reads the history of changes",
        ("slow-pages",),
        _slow_pages,
        steady,
    ),
    Fault(
        "storm",
        f"critical events come in, {STORM:g} times as many as Moog's limit lets through",
        ("moog-limit",),
        _storm,
        storming,
    ),
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _LISTED}
