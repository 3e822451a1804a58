"""Gathers what the checks are told. A server that does not answer is a finding; its neighbours are asked too."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import cast

import msgspec
import psycopg2.extensions
import redis
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from mutt import names
from mutt.balance import Report, observe, weigh
from mutt.celery import doorbells, in_rabbitmq
from mutt.doctor import flow, postgres, wire
from mutt.doctor import redis as redis_checks
from mutt.doctor.finding import Finding, bad, ok
from mutt.entry import KINDS
from mutt.errors import SettingsError, StoreDown
from mutt.moog.client import MoogClient
from mutt.moog.outcome import Kind
from mutt.services import Services
from mutt.settings import Settings, read_up
from mutt.store import keys, spill
from mutt.store.engine import transaction
from mutt.store.vitals import Server, clock, server, vitals
from mutt.streams import books
from mutt.streams import servers as spread
from mutt.streams.acl import QUEUES
from mutt.streams.connect import Client
from mutt.streams.keys import KeysCopy


def examine(services: Services) -> list[Finding]:
    """Every check, in the order of an event's way."""
    return [
        *_redis(services),
        *_broker(services.settings),
        *_postgres(services),
        *_keys(services),
        *_books(services),
        *_moog(services.settings),
    ]


def _redis(services: Services) -> Iterator[Finding]:
    try:
        # All of it before the first word: a server that dies meanwhile is one finding, not half of them.
        found = list(_ask_redis(services.redis, services))
    except redis.RedisError as error:
        variable = services.settings.variable("stream_url")
        yield bad("Redis", f"can't be asked: {_line(error)}", f"start it, and see {variable}")
    except SettingsError as error:
        yield bad("Redis", str(error), "set REDIS_URL, or start `mutt up`")
    else:
        yield from found
    yield from _elsewhere(services)


def _elsewhere(services: Services) -> Iterator[Finding]:
    """The other servers over which the ingest queue is spread, each by its name."""
    # Settings that can't be are a finding before.
    with contextlib.suppress(SettingsError):
        for server, client in zip(services.servers[1:], services.elsewhere, strict=True):
            try:
                found = list(_ask_other(server, client, services.settings))
            except redis.RedisError as error:
                waits = "what stands there waits; events go to the others"
                says = f"can't be asked: {_line(error)}: {waits}"
                found = [bad("Redis", says, "start it, and see STREAM_URLS")]
            for one in found:
                yield msgspec.structs.replace(one, what=f"{server.name}: {one.what}")


def _ask_other(server: spread.Server, client: Client, s: Settings) -> Iterator[Finding]:
    yield from redis_checks.check(
        client.info(),
        _config(client, s, server.url),
        wait_replicas=s.ingest_wait_replicas,
        sentinel=server.url.startswith("sentinel"),
        spill=s.ingest_spill,
    )
    yield wire.address("Redis, on the wire", server.url, "set STREAM_URLS to rediss:// (docs/tls.md)")
    yield from flow.clocks({"Redis": _skew(lambda: books.clock(client))})


def _broker(settings: Settings) -> Iterator[Finding]:
    """Where doorbells go, if that is not the Redis that holds the data."""
    url = settings.broker_url
    if url == settings.stream_url:
        return
    try:
        with contextlib.closing(doorbells(settings)) as broker:
            says = broker.version()
            waiting = {queue: broker.waiting(queue) for queue in QUEUES}
    except (redis.RedisError, OperationalError) as error:
        yield bad("broker", f"can't be asked: {_line(error)}", "start it, and see BROKER_URL")
    except SettingsError as error:
        yield bad("broker", str(error), "set BROKER_URL, or unset it: then doorbells go to REDIS_URL")
    else:
        yield flow.doorbells(says, waiting)
        tls = "amqps://" if in_rabbitmq(settings) else "rediss://"
        yield wire.address("broker, on the wire", url, f"set BROKER_URL to {tls} (docs/tls.md)")


def _ask_redis(client: Client, services: Services) -> Iterator[Finding]:
    s = services.settings
    sentinel = s.stream_url.startswith("sentinel")
    yield from redis_checks.check(
        client.info(),
        _config(client, s, s.stream_url),
        wait_replicas=s.ingest_wait_replicas,
        sentinel=sentinel,
        spill=s.ingest_spill,
    )
    remedy = f"set {s.variable('stream_url')} to rediss:// (docs/tls.md)"
    yield wire.address("Redis, on the wire", s.stream_url, remedy)
    yield from flow.clocks({"Redis": _skew(lambda: books.clock(client))})
    budget = services.budget
    yield flow.round_trip(_round_trip(client), budget.slack, budget.slack_most)
    yield flow.unhandled(int(client.get(names.UNHANDLED_KINDS) or 0), KINDS)
    yield from flow.queues(books.depths(client, services.queues, books.clock(client), services.elsewhere))
    state, reason = client.hmget(names.BREAKER, "state", "reason")
    yield flow.breaker((state or b"").decode(), (reason or b"").decode())


def _config(client: Client, settings: Settings, url: str) -> Mapping[str, str] | None:
    wanted = ("appendfsync", "no-appendfsync-on-rewrite", "min-replicas-to-write")
    try:
        found = [client.config_get(name) for name in wanted]
    except redis.ResponseError:  # not for the users that MUTT has; of its private server `mutt up` tells
        up = read_up(settings.mutt_home)
        told: Mapping[str, str] = up.get("redis_config", {}) if up.get("redis_url") == url else {}
        return told or None
    return {_text(name): _text(value) for one in found for name, value in one.items()}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _round_trip(client: Client) -> float:
    """Seconds of a write and its answer: the middle one of five, the first opened the connection."""
    took = []
    for _ in range(6):
        before = time.monotonic()
        client.set(names.DOCTOR, "1", px=1000)
        took.append(time.monotonic() - before)
    return statistics.median(took[1:])


def _postgres(services: Services) -> Iterator[Finding]:
    try:
        with transaction(services.engine) as conn:
            found, primary = list(_ask_postgres(conn, services.settings)), server(conn)
    except StoreDown as error:
        yield bad("PostgreSQL", f"can't be asked: {_line(error)}", "start it, and see DATABASE_URL")
    except SettingsError as error:
        yield bad("PostgreSQL", str(error), "set DATABASE_URL, or start `mutt up`")
    else:
        yield from found
        if services.read_engine is not services.engine:
            yield from _replica(services, primary)


def _replica(services: Services, primary: Server) -> Iterator[Finding]:
    try:
        with transaction(services.read_engine) as conn:
            found = [
                _postgres_wire("replica, on the wire", conn),
                *postgres.check_replica(primary, server(conn)),
            ]
    except StoreDown as error:
        says = f"can't be asked: {_line(error)}; pages read the primary, back-tests wait"
        yield bad("replica", says, "start it, and see DATABASE_READ_URL")
    else:
        yield from found


def _ask_postgres(conn: Connection, settings: Settings) -> Iterator[Finding]:
    found = vitals(conn)
    yield _postgres_wire("PostgreSQL, on the wire", conn)
    yield from postgres.check(found, pool_max=settings.db_pool_max, now=datetime.now(UTC))
    yield from flow.clocks({"PostgreSQL": _skew(lambda: clock(conn).timestamp())})
    if found.migrated_to == found.head:
        yield flow.spill(spill.standing(conn), on=settings.ingest_spill, most=settings.ingest_spill_bytes)


def _keys(services: Services) -> Iterator[Finding]:
    # A server that can't be asked, or that is not migrated, was a finding before.
    with contextlib.suppress(redis.RedisError, SettingsError, StoreDown):
        with transaction(services.engine) as conn:
            good = keys.copy(conn)
        yield flow.keys(good, KeysCopy(services.redis).read(), time.time())


def _postgres_wire(what: str, conn: Connection) -> Finding:
    info = cast(psycopg2.extensions.connection, conn.connection.dbapi_connection).info
    return wire.postgres(
        what, wire.Postgres(info.host or "/", info.ssl_in_use, info.dsn_parameters.get("sslmode", ""))
    )


def _books(services: Services) -> Iterator[Finding]:
    # A server that can't be asked, or that no setting names, was a finding before.
    with contextlib.suppress(redis.RedisError, SettingsError):
        yield flow.ledger(_weighed(services))


def _weighed(services: Services) -> Report:
    if services.settings.database_url:
        return observe(services, deep=False)[0]
    client = services.redis
    return weigh(
        books.read(client, *services.elsewhere),
        None,
        outcomes_parked=books.outcomes_parked(client),
        at_rest=False,
    )


def _skew(ask: Callable[[], float]) -> float:
    """Seconds that a server's clock is ahead of ours, as if it was read half way between question and answer."""
    before = time.time()
    theirs = ask()
    return theirs - (before + time.time()) / 2


def _moog(settings: Settings) -> Iterator[Finding]:
    # No request: each is one unit of the budget that alerts live on. An open connection tells enough.
    try:
        client = MoogClient.from_settings(settings)
    except SettingsError as error:
        yield bad("Moog", str(error), "set MOOG_URL (and MOOG_API_KEY)")
        return
    answer = client.warm()
    client.close()
    if answer.kind is Kind.UNSENT:
        yield ok("Moog, connection", "opens; nothing was sent")
        yield wire.address("Moog, on the wire", settings.moog_url, "set MOOG_URL to https:// (docs/tls.md)")
    else:
        yield bad(
            "Moog, connection",
            f"{answer.reason}: {answer.text}".removesuffix(": "),
            "see MOOG_URL, the way there and its certificate",
        )


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
