"""The evaluate side of the pipeline on a bench: real servers, no Celery; a test makes each move itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgpack
import orjson
from sqlalchemy import Connection, Engine, Row, func, select, text, update

from mutt import codec, names
from mutt.alert import Alert
from mutt.entry import Entry, Move, Part, short_hash
from mutt.event import Envelope, Event, Segment, State
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import partitions, rulebook
from mutt.store.engine import transaction
from mutt.store.tables import alert_rules, alerts, audit_ledger, event_audit_log
from mutt.streams import books
from mutt.streams.stream import GROUP, Stream
from tests.waiting import wait_until

#: Claim timeout on the bench: short enough to wait for, long enough to work in.
CLAIM = 0.3

#: Every event of a test run has its own stamp.
_started = datetime.now(UTC)
_ticks = itertools.count()


def event(message: str = "CRITICAL disk", hostname: str = "core-1", **fields: Any) -> Event:
    """An event; ``CRITICAL``, ``ERROR`` and ``LINK-DOWN`` have rules, the rest has none."""
    at = fields.pop("received_at", None) or _started + timedelta(microseconds=next(_ticks))
    plain = {"event_id": uuid4(), "received_at": at, "occurred_at": at, "raw": message}
    return Event(hostname=hostname, message=message, **(plain | fields))


def clear(message: str = "up again", hostname: str = "core-1", **fields: Any) -> Event:
    """The end of a fault."""
    return event(message, hostname, state=State.CLEAR, **fields)


class Bench:
    """One process' services on real servers. Several benches on the same servers are several workers."""

    def __init__(self, redis_url: str, database_url: str, **settings: Any) -> None:
        self.rung: list[str] = []
        # Most tests look at what stands in the lanes: also at what a clear ended before it was sent.
        told = {"evaluate_claim": CLAIM, "cancel_cleared": False} | settings
        self.settings = Settings.from_env({}, redis_url=redis_url, database_url=database_url, **told)
        self.services = Services(self.settings, lambda queue, **_: self.rung.append(queue), role="test")
        self.held = self.services.held("ingest_queue")
        self.redis = self.services.redis

    def close(self) -> None:
        self.services.engine.dispose()
        self.redis.close()

    @contextmanager
    def sql(self) -> Iterator[Connection]:
        with transaction(self.services.engine) as conn:
            yield conn

    def append(self, *events: Event, batch: str = "", server: str = "") -> None:
        """One request's events, as one entry; ``server``: where, if not at home."""
        envelope = Envelope([Segment(batch or str(uuid4()), "corr", list(events))])
        fields, size = codec.encode(envelope, n=len(events))
        self.append_fields(fields, len(events), size, server)

    def append_fields(self, fields: Sequence[Any], n: int, size: int, server: str = "") -> None:
        part = Part([(n, list(fields), size)])
        stream = self.services.ingest_servers[server] if server else self.services.ingest_stream
        stream.append(str(uuid4()), [part], max_events=10**6, max_bytes=1 << 30)

    def take(self, want: int = 500) -> list[Entry]:
        return self.held.take(want).entries

    def take_over(self, want: int = 500) -> list[Entry]:
        """What a silent holder had, once its time is up: all of it."""
        self.let_time_pass()
        more = got = wait_until(lambda: self.take(want), 5, "entries to take over")
        while more and (left := want - sum(entry.n for entry in got)) > 0:
            more = self.take(left)
            got += more
        return got

    def let_time_pass(self, seconds: float = 0.0) -> None:
        """For whoever holds something, or handed it back for a while; a claim's time, if not said otherwise. So nobody
        has to work against the clock."""
        queue = self.services.queues["ingest_queue"]
        (stream,), more = queue.streams, round((seconds or queue.claim) * 1000) + 1
        for client in self.everywhere:
            taken = client.exists(stream) and client.xinfo_groups(stream)  # by anybody yet
            for one in client.xpending_range(stream, GROUP, "-", "+", 10_000) if taken else ():
                name, id_, idle = one["consumer"], one["message_id"], one["time_since_delivered"] + more
                client.xclaim(stream, GROUP, name, 0, [id_], idle=idle, justid=True)

    def evaluate(self, entries: Sequence[Entry]) -> list[Move]:
        """Commit; nothing is settled."""
        return self.services.evaluator.evaluate_entries(entries)

    def run(self) -> None:
        """Work until the stream has nothing to hand out."""
        while entries := self.take():
            self.held.settle(self.evaluate(entries))

    def record(self) -> None:
        """What housekeeping does with the outcomes that wait."""
        held = self.services.held("delivery_queue")
        while entries := held.take(500).entries:
            held.settle(self.services.recorder.record_outcomes(entries))

    def rows(self) -> list[Row[Any]]:
        with self.sql() as conn:
            return list(conn.execute(select(event_audit_log).order_by(event_audit_log.c.received_at)))

    def alerts(self) -> list[Row[Any]]:
        with self.sql() as conn:
            return list(conn.execute(select(alerts).order_by(alerts.c.received_at)))

    def change_rules(self, **values: Any) -> None:
        with self.sql() as conn:
            conn.execute(update(alert_rules).values(values))

    @property
    def plain_lanes(self) -> Stream:
        """The lanes without Moog's budget."""
        return Stream(self.redis, self.services.queues["alert_queue"], lambda *_a, **_k: None)

    def lane(self, name: str) -> list[Alert]:
        """The alerts that stand in a lane, the first to go first."""
        found = books.entries(self.redis, f"mutt:alert_queue:{name}")
        return [codec.decode(Alert, fields) for _, fields in found]

    def behind(self, alert: Alert) -> list[Alert]:
        """Those that wait behind an alert of their signature."""
        packed = self.redis.lrange(names.BEHIND + short_hash(alert.signature), 0, -1)
        told = [msgpack.unpackb(one, raw=True)[b"fields"] for one in packed]
        return [codec.decode(Alert, codec.pairs([one if isinstance(one, bytes) else b"%d" % one for one in fields]))
                for fields in told]  # fmt: skip

    def letters(self, queue: str = "alerts") -> list[dict[str, Any]]:
        """What the dead letters say of themselves."""
        found = books.entries(self.redis, names.DLQS[queue])
        return [{"n": Entry("", id_, 1, fields).n, **orjson.loads(fields[b"why"])} for id_, fields in found]

    def replay(self, *ids: str, queue: str = "alerts") -> list[Entry]:
        """Send these letters again, or all."""
        letters = self.services.letters
        wanted = ids or [id_ for id_, _ in books.entries(self.redis, names.DLQS[queue])]
        return letters.replay(queue, letters.read(queue, wanted))

    @property
    def events(self) -> dict[str, int]:
        """The books of events, without noughts."""
        return {name: n for name, n in books.read(*self.everywhere).events.items() if n}

    @property
    def everywhere(self) -> tuple[Any, ...]:
        """A client of each Redis that holds data, home first."""
        return (self.redis, *self.services.elsewhere)

    def check(self) -> None:
        """P6 at rest: the books balance, and both servers tell the same."""
        ledger = books.read(*self.everywhere)
        assert (ledger.off_events, ledger.off_alerts) == (0, 0), ledger
        walked = books.walk(*self.everywhere)
        stands = (walked.queued, walked.parked, walked.waiting, walked.alerts_parked)
        told = (
            ledger.events["queued"],
            ledger.events["parked"],
            ledger.alerts["waiting"],
            ledger.alerts["parked"],
        )
        assert stands == told, (walked, ledger)
        for client in self.everywhere:
            queued, bytes_ = (
                int(n or 0) for n in client.hmget(names.LEDGER, "events.queued", "ingest.bytes")
            )
            assert queued >= 0 and bytes_ >= 0 and (queued or not bytes_), (
                f"{bytes_} bytes of {queued} events are still counted as queued"
            )
        with self.sql() as conn:
            sums = conn.execute(select(func.sum(audit_ledger.c.rows), func.sum(audit_ledger.c.alerts))).one()
            rows = conn.execute(select(func.count()).select_from(event_audit_log)).scalar_one()
            raised = conn.execute(select(func.count()).select_from(alerts)).scalar_one()
        assert (sums[0] or 0, rows) == (ledger.events["settled"],) * 2, ledger
        assert (sums[1] or 0, raised) == (ledger.alerts["raised"],) * 2, ledger


@contextmanager
def benches(redis_url: str, database_url: str, count: int = 1, **settings: Any) -> Iterator[list[Bench]]:
    """So many workers on the same servers, with the starting rules."""
    made = [Bench(redis_url, database_url, **settings) for _ in range(count)]
    try:
        with made[0].sql() as conn:
            rulebook.seed(conn)
        yield made
    finally:
        for bench in made:
            bench.close()


def wait_for_rows(bench: Bench, state: str) -> None:
    """Until another session of this database is in ``state`` (``active`` and waiting for a lock, say)."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = :s"
    )

    def blocked() -> bool:
        with bench.sql() as conn:
            return bool(conn.execute(query, {"s": state}).scalar_one())

    wait_until(blocked, 5, f"a session that waits for {state}")


def without_months(engine: Engine) -> Engine:
    """Those that a migrated database has were made by the real clock: for tests in which time is an argument."""
    with transaction(engine) as conn:
        for month in partitions.listing(conn):
            conn.execute(text(f"DROP TABLE {month.name}"))
    return engine
