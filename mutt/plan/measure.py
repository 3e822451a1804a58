"""Half a minute of measuring: what an event costs here, part by part. What it starts ends with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psutil
from sqlalchemy import text

from mutt.event import Envelope, Event, Segment
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.plan import flow, sample, scratch
from mutt.plan.private import Private, private
from mutt.plan.values import Load, Machine, Measured, Server
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.settings import Settings, read_up
from mutt.store.audit import AuditRow, audit_row
from mutt.store.engine import make_engine, one_shot_engine, transaction
from mutt.store.rulebook import export, load
from mutt.streams.connect import redis_of

#: Says to a person what is done now.
Say = Callable[[str], None]

#: Events that are evaluated for the rules' own figure, again and again for so many seconds.
EVENTS, EVALUATING = 4_000, 1.0

#: The largest sample of an event that is accepted, whatever the settings say.
LONGEST = 1 << 20


def measure(settings: Settings, of: Load, say: Say) -> Measured:
    """Measure this machine, and the servers that ``settings`` name, if any. Raises MuttError where it can't."""
    began = time.monotonic()
    if settings.stream_url:
        redis_of(settings).ping()  # before half a minute is spent
    rules = _rules(settings)
    whose = "the starting rules" if rules is None else f"your {len(rules)} rules"
    say(f"a private Redis and PostgreSQL with {whose}, and an ingest: events are sent to it")
    with private(rules, sample.RULES) as site:
        door = flow.door(site, of)
        say("a worker: it drains them")
        worker = flow.worker(site)
        say("COPY and the streams, by themselves")
        judged = _judged(site, of)
        own = Settings.from_env({}, redis_url=site.redis_url, database_url=site.database_url)
        alone = _servers(own, judged, "private")
        servers, most = _connected(settings, own, judged, alone)
    return Measured(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(),
        load=of,
        rules=judged.rules,
        evaluate=judged.seconds,
        door=door,
        worker=worker,
        copy=servers[0],
        streams=servers[1],
        private_copy=alone[0].seconds,
        private_streams=alone[1].seconds,
        max_connections=most,
        seconds=round(time.monotonic() - began, 1),
    )


def _machine() -> Machine:
    allowed = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 0
    count = allowed or psutil.cpu_count() or 1
    return Machine(cores=count, memory_bytes=int(psutil.virtual_memory().total))


def _rules(settings: Settings) -> list[dict[str, Any]] | None:
    """The rules of the connected PostgreSQL; None: none is connected."""
    if not settings.database_url:
        return None
    with transaction(one_shot_engine(settings.database_url, role="plan", ca=settings.database_ca)) as conn:
        return export(conn)


class _Judged(NamedTuple):
    """Events, what the rules say of them, and the CPU seconds that it takes to say it of one."""

    envelope: Envelope
    rows: Sequence[AuditRow]
    rules: int
    seconds: float


def _judged(site: Private, of: Load) -> _Judged:
    body = b"[" + b",".join(sample.events(EVENTS, of)) + b"]"
    context = Context(datetime.now(UTC), "plan", LONGEST, "localhost")
    events = registry.parse(registry.sniff(body, "application/json"), body, context).events
    with transaction(one_shot_engine(site.database_url, role="plan")) as conn:
        ruleset, rules = load(conn, "NETO"), len(export(conn)) - len(sample.RULES)
    seconds = _evaluating(ruleset, events)
    rows = [
        audit_row(event, evaluate(event, ruleset), ruleset_version=1, batch_id="plan", correlation_id="plan")
        for event in events[: scratch.TAKE]
    ]
    envelope = Envelope([Segment("plan", "plan", events[: of.batch])])
    return _Judged(envelope, rows, rules, seconds)


def _evaluating(ruleset: Ruleset, events: Sequence[Event]) -> float:
    cpu, ends, done = time.process_time(), time.monotonic() + EVALUATING, 0
    while time.monotonic() < ends:
        for event in events:
            evaluate(event, ruleset)
        done += len(events)
    return (time.process_time() - cpu) / done


def _servers(settings: Settings, judged: _Judged, where: str) -> tuple[Server, Server]:
    """PostgreSQL and Redis as ``settings`` name them. Raises NotAllowed."""
    return (
        Server(where=where, seconds=_copying(settings, judged)),
        Server(where=where, seconds=scratch.stream_seconds(settings, judged.envelope)),
    )


def _copying(settings: Settings, judged: _Judged) -> float:
    engine = make_engine(settings, role="plan")
    try:
        return scratch.copy_seconds(engine, judged.rows)
    finally:
        engine.dispose()


def _connected(
    settings: Settings, own: Settings, judged: _Judged, alone: tuple[Server, Server]
) -> tuple[tuple[Server, Server], int]:
    """Both servers as they are connected, else the private ones; and how many connections PostgreSQL allows."""
    copied, streamed = alone
    if settings.database_url:
        try:
            copied = Server(where="connected", seconds=_copying(_as_owner(settings), judged))
        except scratch.NotAllowed as error:
            copied = Server(where=f"private, for {error}", seconds=copied.seconds)
    if settings.stream_url:
        try:
            streamed = Server(where="connected", seconds=scratch.stream_seconds(settings, judged.envelope))
        except scratch.NotAllowed as error:
            streamed = Server(where=f"private, for {error}", seconds=streamed.seconds)
    asked = settings if settings.database_url else own
    with transaction(one_shot_engine(asked.database_url, role="plan", ca=asked.database_ca)) as conn:
        most = int(conn.execute(text("SHOW max_connections")).scalar_one())
    return (copied, streamed), most


def _as_owner(settings: Settings) -> Settings:
    """Beside `mutt up` its owner makes the scratch table: no role may."""
    up = read_up(settings.mutt_home)
    private_one = settings.database_url == up.get("database_url")
    return replace(settings, database_url=up["owner_url"]) if private_one else settings
