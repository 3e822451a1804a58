"""The faults: each breaks one thing, proves that it is broken, and mends it.

A fault is a context: entering breaks, and returns only when the effect was seen; the block is how long it lasts;
leaving mends. ``touches`` says what it needs for itself: two faults that share nothing can be had at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import psycopg2
import redis

from mutt import names
from tests.chaos.load import Load
from tests.chaos.site import NotSeen, Site, alive

Body = Callable[[Site, Load], Iterator[None]]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    body: Body
    touches: frozenset[str]
    hold: float = 1.0  #: seconds that it lasts once it was seen
    late: bool = False  #: mended only when the books are at rest: all must come to rest without what it broke
    way: bool = False  #: delays requests on their way to Moog, where the simulator's times say nothing of their starts
    slow: bool = (
        False  #: answers of ingest may come late: it stands still or starts, or the way to it is slow
    )
    flow: bool = (
        False  #: it shows in what flows: where two are had at once it comes first, while something flows
    )
    link: str = ""  #: one of several that can happen to this link: a run has two of them
    spill: bool = False  #: only where ingest may spill

    def __call__(self, site: Site, load: Load) -> contextlib.AbstractContextManager[None]:
        return contextlib.contextmanager(self.body)(site, load)


FAULTS: dict[str, Fault] = {}


def fault(name: str, *touches: str, **more: Any) -> Callable[[Body], Body]:
    """Add a fault to the catalogue."""

    def add(body: Body) -> Body:
        FAULTS[name] = Fault(name, body, frozenset(touches), **more)
        return body

    return add


def _each(*variants: tuple[Any, ...]) -> Callable[[Callable[..., Iterator[None]]], Any]:
    """Add one body for each variant: (name, touches, arguments, options)."""

    def add(body: Callable[..., Iterator[None]]) -> Any:
        for name, touches, arguments, options in variants:
            made = functools.partial(_call, body, arguments)
            FAULTS[name] = Fault(name, made, frozenset(touches), **options)
        return body

    return add


def _call(body: Callable[..., Iterator[None]], arguments: tuple[Any, ...], site: Site, load: Load) -> Any:
    return body(site, load, *arguments)


# Processes


@_each(
    ("a worker killed", ["alerts1"], ("alerts1",), {}),
    ("a forwarder killed", ["moog1"], ("moog1",), {}),
    ("housekeeping killed", ["housekeeping"], ("housekeeping",), {}),
    ("ingest killed", ["ingest"], ("ingest",), {"slow": True}),
    ("beat killed", ["beat"], ("beat",), {}),
    ("Flower killed", ["flower"], ("flower",), {}),
)
def killed(site: Site, _load: Load, name: str) -> Iterator[None]:
    """SIGKILL a process that the supervisor keeps."""
    yield from _ended(site, name, signal.SIGKILL)


@_each(
    ("a worker's child killed", ["alerts2"], ("alerts2", signal.SIGKILL), {}),
    ("a worker's child asked to end", ["alerts1"], ("alerts1", signal.SIGTERM), {}),
    ("ingest's child killed", ["ingest"], ("ingest", signal.SIGKILL), {"slow": True}),
    ("ingest's child asked to end", ["ingest"], ("ingest", signal.SIGTERM), {"slow": True}),
)
def child_ended(site: Site, _load: Load, name: str, number: int) -> Iterator[None]:
    """End the process that does the work; its parent lives."""
    child = site.child(name)
    child.send_signal(number)
    site.seen(lambda: not alive(child.pid), f"the child {child.pid} of {name} to be gone")
    yield


@_each(
    ("a worker's child stopped, then killed", ["alerts1"], ("alerts1",), {"hold": 4.0}),
    ("ingest's child stopped, then killed", ["ingest"], ("ingest",), {"hold": 3.0, "slow": True}),
)
def child_stopped_then_killed(site: Site, _load: Load, name: str) -> Iterator[None]:
    """SIGSTOP the process that does the work for longer than it may be silent, then SIGKILL."""
    child = site.child(name)
    child.suspend()
    try:
        site.seen(lambda: child.status() == psutil.STATUS_STOPPED, f"the child of {name} to stand still")
        yield
    finally:
        child.kill()
        site.seen(lambda: not alive(child.pid), f"the child {child.pid} of {name} to be gone")


@_each(
    ("a worker asked to end", ["alerts1"], ("alerts1",), {}),
    ("a forwarder asked to end", ["moog2"], ("moog2",), {}),
    ("housekeeping asked to end", ["housekeeping"], ("housekeeping",), {}),
    ("ingest asked to end", ["ingest"], ("ingest",), {"slow": True}),
    ("beat asked to end", ["beat"], ("beat",), {}),
    ("Flower asked to end", ["flower"], ("flower",), {}),
)
def asked_to_end(site: Site, _load: Load, name: str) -> Iterator[None]:
    """SIGTERM, as a deploy does."""
    yield from _ended(site, name, signal.SIGTERM)


def _ended(site: Site, name: str, number: int) -> Iterator[None]:
    old = site.pid(name)
    os.kill(old, number)
    try:
        site.seen(lambda: not alive(old), f"{name} ({old}) to be gone")
        yield
    finally:
        site.back(name, old)


@_each(
    ("a worker stopped, then killed", ["alerts2"], ("alerts2",), {"hold": 4.0}),
    ("a forwarder stopped, then killed", ["moog1"], ("moog1",), {"hold": 4.0}),
    ("housekeeping stopped, then killed", ["housekeeping"], ("housekeeping",), {"hold": 4.0}),
    ("ingest stopped, then killed", ["ingest"], ("ingest",), {"hold": 3.0, "slow": True}),
    ("beat stopped, then killed", ["beat"], ("beat",), {}),
    ("Flower stopped, then killed", ["flower"], ("flower",), {}),
)
def stopped_then_killed(site: Site, _load: Load, name: str) -> Iterator[None]:
    """SIGSTOP a process and its children for longer than they may be silent, then SIGKILL."""
    old = site.pid(name)
    os.killpg(old, signal.SIGSTOP)
    try:
        site.seen(lambda: psutil.Process(old).status() == psutil.STATUS_STOPPED, f"{name} to stand still")
        yield
    finally:
        os.killpg(old, signal.SIGKILL)
        site.back(name, old)


@fault("a worker stopped, then woken: robbed", "alerts1", hold=5.0)
def stopped_then_woken(site: Site, _load: Load) -> Iterator[None]:
    """A worker sleeps for longer than its claim, and goes on with entries that others have taken over."""
    old = site.pid("alerts1")
    os.killpg(old, signal.SIGSTOP)
    try:
        site.seen(lambda: psutil.Process(old).status() == psutil.STATUS_STOPPED, "the worker to stand still")
        yield
    finally:
        os.killpg(old, signal.SIGCONT)


EVERYBODY = ("supervisor", "alerts1", "alerts2", "moog1", "moog2", "ingest", "beat", "flower", "housekeeping")


@fault("the supervisor killed", *EVERYBODY, slow=True)
def supervisor_killed(site: Site, _load: Load) -> Iterator[None]:
    """SIGKILL ``mutt up`` itself: everything goes with it, and the next start finds everything."""
    tree = site.stack.tree()
    tree[0].kill()
    try:
        site.seen(lambda: not any(alive(one.pid) for one in tree), "the whole stack to be gone")
        site.stack.wait_for_end()
        yield
    finally:
        site.start()


@fault("the supervisor stopped, then killed", *EVERYBODY, hold=3.0, slow=True)
def supervisor_stopped_then_killed(site: Site, _load: Load) -> Iterator[None]:
    """SIGSTOP ``mutt up`` alone: the others go on without it, until it is killed."""
    tree = site.stack.tree()
    tree[0].suspend()
    try:
        site.seen(lambda: tree[0].status() == psutil.STATUS_STOPPED, "the supervisor to stand still")
        yield
    finally:
        tree[0].kill()
        site.seen(lambda: not any(alive(one.pid) for one in tree), "the whole stack to be gone")
        site.stack.wait_for_end()
        site.start()


@fault("the whole stack asked to end", *EVERYBODY, slow=True)
def stack_asked_to_end(site: Site, _load: Load) -> Iterator[None]:
    """Ctrl-C, and a start a second later."""
    tree = site.stack.tree()
    site.stack.stop()
    try:
        site.seen(lambda: not any(alive(one.pid) for one in tree), "the whole stack to be gone")
        yield
    finally:
        site.start()


@fault("no beat at all", "beat", late=True)
def no_beat(site: Site, _load: Load) -> Iterator[None]:
    """Beat stands still until everything is at rest: only the calendar needs it."""
    pid = site.pid("beat")
    os.kill(pid, signal.SIGSTOP)
    try:
        site.seen(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "beat to stand still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("a rolling deploy", "alerts1", "alerts2", "moog1", "moog2")
def rolling_deploy(site: Site, _load: Load) -> Iterator[None]:
    """New workers join, the old ones are asked to end one after the other, the new ones leave again."""
    with site.by_hand("alerts", "-c", "1"), site.by_hand("moog", "-P", "threads", "-c", "16"):
        for name in ("alerts1", "moog1", "alerts2", "moog2"):
            old = site.pid(name)
            os.kill(old, signal.SIGTERM)
            site.back(name, old)
        yield


# Redis


@fault("Redis killed", "redis")
def redis_killed(site: Site, _load: Load) -> Iterator[None]:
    """kill -9, away for a second, then started on what its file holds."""
    site.redis_server.kill()
    try:
        site.seen(lambda: _fails(site.redis.ping), "Redis to be gone")
        yield
    finally:
        site.redis_server.start()


@fault("Redis stalled", "redis", hold=3.0)
def redis_stalled(site: Site, _load: Load) -> Iterator[None]:
    """Redis is there and does not answer (CLIENT PAUSE)."""
    site.redis.execute_command("CLIENT", "PAUSE", "5000", "ALL")
    with redis.Redis.from_url(site.redis_server.url, socket_timeout=0.5) as asked:
        site.seen(lambda: _fails(asked.ping), "Redis to be silent")
    yield


@fault("Redis out of memory", "redis", hold=3.0)
def redis_full(site: Site, _load: Load) -> Iterator[None]:
    """Redis refuses what needs memory."""
    site.redis.config_set("maxmemory", "1mb")
    try:
        site.seen(lambda: _fails(site.redis.set, "chaos:full", "1"), "a write to be refused")
        yield
    finally:
        site.redis.config_set("maxmemory", "0")


@fault("Redis read-only", "redis", hold=2.0)
def redis_read_only(site: Site, _load: Load) -> Iterator[None]:
    """A failover that left us on what is a replica now: READONLY."""
    site.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        site.seen(lambda: _fails(site.redis.set, "chaos:readonly", "1"), "a write to be refused")
        yield
    finally:
        site.redis.execute_command("REPLICAOF", "NO", "ONE")


@fault("consumer groups lost", "redis", hold=0.0)
def groups_lost(site: Site, _load: Load) -> Iterator[None]:
    """Whatever noted who has what is gone, again and again, while the entries stand."""
    gone = 0
    for _ in range(5):
        for stream in (names.INGEST_STREAM, names.DELIVERY_STREAM, *names.LANE_STREAMS):
            with contextlib.suppress(redis.ResponseError):  # the stream is not there now
                gone += int(site.redis.xgroup_destroy(stream, names.GROUP))
        time.sleep(0.2)
    if not gone:
        raise NotSeen("there was no consumer group to lose")
    yield


def _fails(call: Callable[..., object], *arguments: object) -> bool:
    try:
        call(*arguments)
    except redis.RedisError:
        return True
    return False


# PostgreSQL


@fault("PostgreSQL killed", "postgres")
def postgres_killed(site: Site, _load: Load) -> Iterator[None]:
    """kill -9 of all its processes, away for a second, then started on what its log holds."""
    site.postgres.kill()
    try:
        site.seen(lambda: _sql_fails(site), "PostgreSQL to be gone")
        yield
    finally:
        site.postgres.start()


@fault("PostgreSQL restarted", "postgres")
def postgres_restarted(site: Site, _load: Load) -> Iterator[None]:
    """An operator's restart."""
    site.postgres.stop()
    try:
        site.seen(lambda: _sql_fails(site), "PostgreSQL to be gone")
        yield
    finally:
        site.postgres.start()


@fault("PostgreSQL stalled", "postgres", hold=5.0)
def postgres_stalled(site: Site, _load: Load) -> Iterator[None]:
    """All its processes stand still: connections are open, and nothing answers."""
    with _still(site.postgres.pid):
        site.seen(lambda: _sql_fails(site, timeout=1), "PostgreSQL to be silent")
        yield


@fault("PostgreSQL read-only", "postgres", hold=3.0)
def postgres_read_only(site: Site, _load: Load) -> Iterator[None]:
    """As on a standby: nothing can be written (25006)."""
    _configure(site, "ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        site.seen(lambda: _sql_fails(site, "CREATE TABLE chaos_read_only ()"), "a write to be refused")
        yield
    finally:
        _configure(site, "ALTER SYSTEM RESET default_transaction_read_only")


@fault("PostgreSQL out of connections", "postgres", hold=3.0)
def postgres_out_of_connections(site: Site, _load: Load) -> Iterator[None]:
    """Somebody else has every connection (53300)."""
    with contextlib.ExitStack() as held, site.sql() as cursor:
        # Whoever of MUTT's is let in again goes again, until the others have every place.
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                held.callback(psycopg2.connect(site.postgres.url, connect_timeout=5).close)
            except psycopg2.OperationalError:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'mutt-%'"
                )
                if cursor.fetchone() == (0,):
                    break
        else:
            raise NotSeen("MUTT kept connections for 20 s")
        yield


@fault("PostgreSQL's disk full", "postgres", hold=3.0)
def postgres_full(site: Site, _load: Load) -> Iterator[None]:
    """Each write of audit rows ends with what a full disk ends with (53100); a trigger stands in for the disk."""
    with site.sql() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION chaos_full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER chaos_full BEFORE INSERT ON event_audit_log"
            " FOR EACH STATEMENT EXECUTE FUNCTION chaos_full()"
        )
    try:
        query = "INSERT INTO event_audit_log SELECT * FROM event_audit_log WHERE false"
        site.seen(lambda: _sql_fails(site, query), "a write to be refused")
        yield
    finally:
        with site.sql() as cursor:
            cursor.execute("DROP FUNCTION chaos_full CASCADE")


@fault("a migration missing", "postgres", hold=3.0)
def migration_missing(site: Site, _load: Load) -> Iterator[None]:
    """Workers run on a schema that lacks a column of theirs (42703)."""
    with site.sql() as cursor:
        cursor.execute("ALTER TABLE alerts RENAME COLUMN signature TO signature_gone")
    try:
        site.seen(lambda: _sql_fails(site, "SELECT signature FROM alerts LIMIT 1"), "the column to be gone")
        yield
    finally:
        with site.sql() as cursor:
            cursor.execute("ALTER TABLE alerts RENAME COLUMN signature_gone TO signature")


def _configure(site: Site, statement: str) -> None:
    with site.sql() as cursor:
        cursor.execute(statement)
        cursor.execute("SELECT pg_reload_conf()")


def _sql_fails(site: Site, statement: str = "SELECT 1", timeout: int = 2) -> bool:
    try:
        connection = psycopg2.connect(site.postgres.url, connect_timeout=timeout)
    except psycopg2.Error:
        return True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = '{timeout}s'")
            cursor.execute(statement)
        return False
    except psycopg2.Error:
        return True
    finally:
        connection.close()  # nothing of it was committed


@contextlib.contextmanager
def _still(pid: int) -> Iterator[None]:
    leader = psutil.Process(pid)
    everyone = [leader]
    leader.suspend()
    everyone += leader.children(recursive=True)
    for one in everyone[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.suspend()
    try:
        yield
    finally:
        for one in reversed(everyone):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()


# Moog


@_each(
    (
        "Moog throttles: 429",
        ["moog"],
        ({"behaviour": "429", "retry_after": 1},),
        {"hold": 4.0, "flow": True},
    ),
    ("Moog fails: 500", ["moog"], ({"behaviour": "500"},), {"hold": 3.0, "flow": True}),
    ("Moog's key was changed: 401", ["moog"], ({"behaviour": "401"},), {"hold": 3.0, "flow": True}),
    (
        "Moog hangs up after it took",
        ["moog"],
        ({"behaviour": "hangup_before"},),
        {"hold": 2.0, "flow": True},
    ),
    (
        "Moog hangs up after its answer",
        ["moog"],
        ({"behaviour": "hangup_after"},),
        {"hold": 2.0, "flow": True},
    ),
    (
        "Moog answers by drips",
        ["moog"],
        ({"behaviour": "drip", "delay": 0.5},),
        {"hold": 5.0, "flow": True},
    ),
    (
        "Moog answers half",
        ["moog"],
        ({"behaviour": "drip_body", "delay": 0.5},),
        {"hold": 5.0, "flow": True},
    ),
)
def moog_answers(site: Site, _load: Load, step: dict[str, Any]) -> Iterator[None]:
    """The simulator answers as told, to every request. An answer that breaks off does so behind its head: half."""

    def answered() -> int:
        return int(site.moog_says("/stats")["by_behaviour"].get(step["behaviour"], 0))

    site.moog_does(step)
    before = answered()
    try:
        site.seen(lambda: answered() > before, f"a request to meet {step['behaviour']}")
        yield
    finally:
        site.moog_does()


@fault("Moog away for longer than any claim", "moog", hold=14.0, flow=True)
def moog_away(site: Site, _load: Load) -> Iterator[None]:
    """Nobody listens where Moog was."""
    site.links.do("moog", "refuse")
    try:
        state = lambda: site.redis.hget(names.BREAKER, "state")  # noqa: E731
        site.seen(lambda: state() in (b"open", b"half_open"), "the breaker to open")
        yield
    finally:
        site.links.heal("moog")


# The network


#: What can happen to any link.
HAPPENS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("cut", "cut", {}),
    ("refused", "refuse", {}),
    ("black hole", "blackhole", {}),
    ("replies cut", "cut_reply", {"share": 0.1}),
    ("slow", "latency", {"seconds": 0.05, "jitter": 0.9}),
)


@_each(
    *(
        (
            f"ingest - PostgreSQL: {words}, and Redis away",
            ["ingest", "redis", "postgres"],
            (kind, how),
            {"link": "ingest - PostgreSQL", "hold": 3.0, "flow": True, "spill": True},
        )
        for words, kind, how in HAPPENS
        if kind != "cut"  # nothing is open there while Redis is
    )
)
def spill_broken(site: Site, load: Load, kind: str, how: dict[str, float]) -> Iterator[None]:
    """Ingest has no Redis, and the way to where it spills is broken too. Where nothing can pass there, it says so."""
    before, refused = site.links.did("postgres", "ingest"), load.answered(503)
    site.links.do("redis", "refuse", "ingest")
    site.links.do("postgres", kind, "ingest", **how)
    try:
        site.seen(lambda: site.links.did("postgres", "ingest") > before, f"postgres of ingest: {kind}")
        if kind in ("refuse", "blackhole"):
            site.seen(lambda: load.answered(503) > refused, "a 503")
        yield
    finally:
        site.links.heal("redis", "ingest")
        site.links.heal("postgres", "ingest")


#: Each link: what people call it, the proxy's name of it, whose end of it, and what it needs for itself. Upstream
#: first: what nothing flows behind any more.
LINKS = (
    ("everybody - Redis", "redis", "", ["redis"]),
    ("everybody - PostgreSQL", "postgres", "", ["postgres"]),
    ("senders - ingest", "ingest", "", ["ingest"]),
    ("ingest - Redis", "redis", "ingest", ["ingest", "redis"]),
    ("workers - Redis", "redis", "alerts", ["alerts1", "alerts2", "redis"]),
    ("workers - PostgreSQL", "postgres", "alerts", ["alerts1", "alerts2", "postgres"]),
    ("forwarders - Redis", "redis", "moog", ["moog1", "moog2", "redis"]),
    ("forwarders - Moog", "moog", "", ["moog1", "moog2", "moog"]),
    ("housekeeping - Redis", "redis", "housekeeping", ["housekeeping", "redis"]),
    ("housekeeping - PostgreSQL", "postgres", "housekeeping", ["housekeeping", "postgres"]),
    ("Flower - Redis", "redis", "flower", ["flower", "redis"]),
)


@_each(
    *(
        (
            f"{name}: {words}",
            touches,
            (link, kind, role, how),
            {
                "link": "" if (link, kind) == ("moog", "cut_reply") else name,  # half an answer: in every run
                "hold": 3.0,
                "flow": True,
                "way": link == "moog" and kind in ("latency", "blackhole"),
                "slow": link == "ingest" and kind in ("latency", "blackhole"),
            },
        )
        for name, link, role, touches in LINKS
        for words, kind, how in HAPPENS
    )
)
def network(
    site: Site, _load: Load, link: str, kind: str, role: str, how: dict[str, float]
) -> Iterator[None]:
    """The way between two of them, through the proxy."""
    roles = (role,) if role else ()
    before = site.links.did(link, role)
    site.links.do(link, kind, *roles, **how)
    try:
        site.seen(lambda: site.links.did(link, role) > before, f"{link} of {role or 'everybody'}: {kind}")
        yield
    finally:
        site.links.heal(link, *roles)


# Senders and doorbells


@fault("senders' clocks stepped", "senders", hold=2.0, flow=True)
def clocks_stepped(site: Site, load: Load) -> Iterator[None]:
    """The times that senders give are days, years and decades off, to both sides."""
    for days in (-20_000, 3, 15_000, -1, 400):
        load.step = timedelta(days=days)
        time.sleep(0.3)
    query = (
        "SELECT bool_or(occurred_at > received_at + interval '300 days')"
        " AND bool_or(occurred_at < received_at - interval '300 days') FROM event_audit_log WHERE hostname LIKE %s"
    )
    try:
        site.seen(lambda: site.ask(query, f"{load.hosts}%") == [(True,)], "events of both times")
        yield
    finally:
        load.step = timedelta()


CELERY_QUEUES = ("alerts", "moog", "housekeeping", "maintenance", "backtests")


@contextlib.contextmanager
def _stealing(site: Site, act: Callable[[bytes, bytes], None], threads: int = 1) -> Iterator[None]:
    """Take doorbells before workers do, as long as the block lasts; ``act(queue, message)`` with each.

    A doorbell stands in its list only where no worker waits for it: so wait in line like a worker.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            with contextlib.suppress(redis.RedisError):  # another fault is at Redis
                found = site.redis.brpop(CELERY_QUEUES, timeout=1)
                if found:
                    act(*found)

    thieves = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thief in thieves:
        thief.start()
    try:
        yield
    finally:
        ended.set()
        for thief in thieves:
            thief.join(10)


@fault("doorbells lost", "doorbells", hold=4.0, flow=True)
def doorbells_lost(site: Site, _load: Load) -> Iterator[None]:
    """Most of what is put into Celery's queues is gone before a worker has it."""
    gone: list[bytes] = []
    with _stealing(site, lambda queue, _: gone.append(queue), threads=4):
        site.seen(lambda: len(gone) > 2, "doorbells to be lost")
        yield


@fault("doorbells doubled", "doorbells", hold=4.0, flow=True)
def doorbells_doubled(site: Site, _load: Load) -> Iterator[None]:
    """What is put into Celery's queues is there twice."""
    doubled: set[str] = set()

    def double(queue: bytes, message: bytes) -> None:
        name, copy = _copy(message)
        if _name(message) in doubled:
            site.redis.lpush(queue, message)
            time.sleep(0.002)  # let a worker have it
            return
        doubled.update({_name(message), name})
        site.redis.lpush(queue, message, copy)

    with _stealing(site, double):
        site.seen(lambda: len(doubled) > 4, "doorbells to be doubled")
        yield


@fault("a thousand doorbells at once", "doorbells", hold=0.0, flow=True)
def thousand_doorbells(site: Site, _load: Load) -> Iterator[None]:
    """One doorbell of each kind, a thousand times."""
    caught: dict[bytes, bytes] = {}
    with _stealing(site, caught.setdefault):
        site.seen(lambda: {b"alerts", b"moog"} <= set(caught), "a doorbell of each kind")
    for queue, message in caught.items():
        site.redis.lpush(queue, *(_copy(message)[1] for _ in range(1000)))
    yield


def _name(message: bytes) -> str:
    return str(json.loads(message)["headers"]["id"])


def _copy(message: bytes) -> tuple[str, bytes]:
    """The same doorbell under a name of its own, and that name."""
    told, name = json.loads(message), str(uuid.uuid4())
    told["properties"]["delivery_tag"] = str(uuid.uuid4())
    told["headers"]["id"] = told["properties"]["correlation_id"] = name
    return name, json.dumps(told).encode()
