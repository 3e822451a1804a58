"""The connected servers, asked under names of the measurement's own, which are gone afterwards.

Into PostgreSQL go rows of a table of its own that has the audit's columns and indexes. Into Redis go entries of a
database of that server which is empty, through the streams' own scripts: they move books, and these must not be
anybody's. What an interrupted run could leave there ends by itself; a table is dropped by the next run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import redis
from sqlalchemy import Connection, Engine, MetaData, Table, text

from mutt import codec, names
from mutt.entry import Move, Part
from mutt.errors import StoreDown
from mutt.event import Envelope, uuid7
from mutt.settings import Settings
from mutt.store.audit import AuditRow
from mutt.store.copying import Copy
from mutt.store.engine import transaction
from mutt.store.tables import event_audit_log
from mutt.streams.connect import Client, redis_of
from mutt.streams.stream import Stream

#: Tables of the measurement begin so; the time of their making follows.
PREFIX = "mutt_plan_"

#: Seconds after which a table is one that an interrupted run left.
LEFT_AFTER = 600

#: Seconds that rows are copied, and rows of one COPY: a worker's take.
COPYING, TAKE = 1.5, 500

#: Entries that go through the scratch stream, and seconds after which what is left there ends by itself.
ENTRIES, ENDS_AFTER = 60, 600

CONSUMER = "mutt-plan"

_NO_RIGHT = "42501"


class NotAllowed(Exception):
    """That server lets us make nothing of our own; the message says why."""


def copy_seconds(engine: Engine, rows: Sequence[AuditRow]) -> float:
    """Seconds that a row takes by COPY and commit, of one writer. Raises :class:`NotAllowed`."""
    columns = list(zip(*rows[:TAKE], strict=True))
    with scratch_table(engine) as table:
        copy = Copy(table, AuditRow._fields)
        times: list[float] = []
        ends = time.monotonic() + COPYING
        while not times or time.monotonic() < ends:
            columns[0] = tuple(uuid7() for _ in columns[0])
            began = time.perf_counter()
            with transaction(engine) as conn:
                copy.write(conn, columns)
            times.append(time.perf_counter() - began)
    # The first makes the table's files.
    counted = times[1:] or times
    return sum(counted) / len(counted) / len(columns[0])


@contextlib.contextmanager
def scratch_table(engine: Engine) -> Iterator[Table]:
    """A table with the audit's columns and indexes, dropped at the end. Raises :class:`NotAllowed`."""
    name = f"{PREFIX}{int(time.time())}_{uuid4().hex[:8]}"
    try:
        with transaction(engine) as conn:
            _drop_left(conn)
            conn.execute(text(f"CREATE TABLE {name} (LIKE event_audit_log INCLUDING ALL)"))
    except StoreDown as error:
        if error.sqlstate != _NO_RIGHT:
            raise
        raise NotAllowed(str(error)) from error
    try:
        yield event_audit_log.to_metadata(MetaData(), name=name)
    finally:
        with transaction(engine) as conn:
            conn.execute(text(f"DROP TABLE {name}"))


def _drop_left(conn: Connection) -> None:
    """Drop what interrupted runs left."""
    found = conn.execute(
        text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'mutt\\_plan\\_%'")
    ).scalars()
    for name in list(found):
        made = name.removeprefix(PREFIX).partition("_")[0]
        if made.isdigit() and int(made) < time.time() - LEFT_AFTER:
            conn.execute(text(f"DROP TABLE IF EXISTS {name}"))


def stream_seconds(settings: Settings, envelope: Envelope) -> float:
    """Seconds that an event takes from append over take to settle. Raises :class:`NotAllowed`."""
    with scratch_database(settings) as client:
        queue = names.queues(settings)["ingest_queue"]
        stream = Stream(client, queue, _nobody_rings)
        fields, size = codec.encode(envelope, n=len(envelope))
        part = Part([(len(envelope), fields, size)], batch_id=CONSUMER)
        _through(stream, part, 5)
        began = time.perf_counter()
        events = _through(stream, part, ENTRIES)
        return (time.perf_counter() - began) / events


def _through(stream: Stream, part: Part, entries: int) -> int:
    """Append so many entries, then take and settle them as a worker does; the events they held."""
    for _ in range(entries):
        stream.append(uuid4().hex, [part], max_events=1 << 40, max_bytes=1 << 40)
    stream.client.expire(names.INGEST_STREAM, ENDS_AFTER)
    done = 0
    while taken := stream.take(CONSUMER, TAKE).entries:
        counts = [
            {"events.queued": -one.n, "events.settled": one.n, "ingest.bytes": -one.size} for one in taken
        ]
        stream.settle(Move(entry, count) for entry, count in zip(taken, counts, strict=True))
        done += sum(entry.n for entry in taken)
    return done


def _nobody_rings(_queue: str, **_labels: object) -> None:
    """Nobody works there."""


@contextlib.contextmanager
def scratch_database(settings: Settings) -> Iterator[Client]:
    """An empty database of the same Redis, empty again at the end. Raises :class:`NotAllowed`."""
    client = _empty(settings)
    try:
        yield client
    finally:
        for key in list(client.scan_iter("mutt:*", count=1000)):
            client.unlink(key)
        client.close()


def _empty(settings: Settings) -> Client:
    """The last database that holds nothing: not the one that is used, nor one that others use."""
    for number in range(15, 0, -1):
        address = _database(settings.stream_url, number)
        client = redis_of(replace(settings, stream_url=address), timeout=5.0)
        try:
            if not client.dbsize():
                return client
        except redis.ResponseError as error:  # no such database, or no such right
            raise NotAllowed(str(error)) from error
        client.close()
    raise NotAllowed("none of its databases is empty")


def _database(url: str, number: int) -> str:
    """The address of another database of that server."""
    parts = urlsplit(url)
    if parts.scheme == "unix":  # its path is the socket's
        query = parse_qs(parts.query) | {"db": [str(number)]}
        return f"{url.partition('?')[0]}?{urlencode(query, doseq=True)}"
    return urlunsplit(parts._replace(path=f"/{number}"))
