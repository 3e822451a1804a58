"""The books: the ledger as it stands, and the same counted by walking (P6)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from uuid import uuid4

import msgspec
import redis

from mutt import codec, names
from mutt.entry import Entry
from mutt.streams.connect import Client

EVENTS = ("accepted", "settled", "duplicate", "parked", "dropped", "queued")
ALERTS = ("raised", "delivered", "waiting", "parked", "cancelled", "dropped")

#: Seconds for which it is remembered that a ledger was added to home's.
JOINED_S = 30 * 86_400

#: Entries read at a time when the streams are walked.
PAGE = 200


class Books(msgspec.Struct, frozen=True):
    """One side of the books: the sum that came in, and where it went."""

    events: dict[str, int]
    alerts: dict[str, int]

    @property
    def off_events(self) -> int:
        """accepted − (settled + duplicate + parked + dropped + queued): nought when the books balance."""
        return self.events["accepted"] - sum(self.events[name] for name in EVENTS[1:])

    @property
    def off_alerts(self) -> int:
        """raised − (delivered + waiting + parked + cancelled + dropped)."""
        return self.alerts["raised"] - sum(self.alerts[name] for name in ALERTS[1:])


def read(*clients: Client) -> Books:
    """The ledger, in one read: exact at this moment. Home's, and those of servers that hold a part of the ingest queue.

    Each server's ledger balances by itself, so their sum does, though they are read one after another; which moment
    it speaks of is exact at rest.
    """
    found: Counter[str] = Counter()
    for one in clients:
        for name, value in one.hgetall(names.LEDGER).items():
            found[name.decode()] += int(value)
    return Books(
        {name: found.get(f"events.{name}", 0) for name in EVENTS},
        {name: found.get(f"alerts.{name}", 0) for name in ALERTS},
    )


def take_over(home: Client, leaving: Client) -> dict[str, int]:
    """Add the ledger of a server that leaves to home's, once: what broke off before is gone on with. What was added."""
    with contextlib.suppress(redis.ResponseError):  # nothing ever was counted there, or it was taken before
        leaving.renamenx(names.LEDGER, names.LEDGER_LEAVING)
    if not leaving.exists(names.LEDGER_LEAVING):
        return {}
    leaving.hsetnx(names.LEDGER_LEAVING, "id", uuid4().hex)
    told = {name.decode(): value.decode() for name, value in leaving.hgetall(names.LEDGER_LEAVING).items()}
    joined = names.LEDGER_JOINED + told.pop("id")
    counts = {name: int(value) for name, value in told.items()}

    def add(pipe: Client) -> None:
        known = pipe.exists(joined)
        pipe.multi()
        if not known:
            pipe.set(joined, "1", ex=JOINED_S)
            for name, value in counts.items():
                pipe.hincrby(names.LEDGER, name, value)

    home.transaction(add, joined)
    leaving.delete(names.LEDGER_LEAVING)
    return counts


def outcomes_parked(client: Client) -> int:
    """Letters of ``moog`` that are no alerts: notes of what became of one. By the ledger, without a look at each."""
    with client.pipeline(transaction=True) as pipe:  # both of one moment
        pipe.hget(names.LEDGER, "alerts.parked")
        pipe.xlen(names.DLQ_MOOG)
        alerts, letters = pipe.execute()
    return max(0, letters - int(alerts or 0))


class Walked(msgspec.Struct, frozen=True):
    """What stands in the streams, counted one by one."""

    queued: int
    parked: int
    waiting: int  #: in the lanes, behind others of their signature, and outside of full lanes
    alerts_parked: int
    dropped: int
    undelivered: int  #: outcomes that PostgreSQL has not heard of yet


def walk(client: Client, *elsewhere: Client) -> Walked:
    """Count by walking. Exact when nothing moves."""
    behind = sum(client.llen(key) for key in client.scan_iter(match=names.BEHIND + "*", count=1000))
    lanes = sum(client.xlen(lane) for lane in names.LANE_STREAMS)
    outside = sum(int(count) for count in client.hvals(names.OUTSIDE))
    return Walked(
        queued=sum(_events(one, names.INGEST_STREAM) for one in (client, *elsewhere)),
        parked=_events(client, names.DLQ_ALERTS),
        waiting=lanes + behind + outside,
        alerts_parked=sum(
            b'"what":"outcome"' not in fields.get(b"why", b"")
            for _, fields in entries(client, names.DLQ_MOOG)
        ),
        dropped=client.hlen(names.DROPS),
        undelivered=client.xlen(names.DELIVERY_STREAM),
    )


def _events(client: Client, stream: str) -> int:
    return sum(Entry(stream, id_, 1, fields).n for id_, fields in entries(client, stream))


def entries(client: Client, stream: str) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    """Every entry of a stream, page by page: (id, fields)."""
    start = "-"
    while True:
        page = client.xrange(stream, start, "+", count=PAGE)
        for entry_id, fields in page:
            yield entry_id.decode(), fields if isinstance(fields, dict) else codec.pairs(fields)
        if len(page) < PAGE:
            return
        start = "(" + page[-1][0].decode()


class Depth(msgspec.Struct, frozen=True):
    """One queue for people: how much stands in it, and since when."""

    queue: str
    entries: int
    held: int  #: with a consumer
    oldest_s: float
    doorbell: bool  #: is its bell set?
    behind: int = 0  #: alerts that stand behind others of their signature, beside the entries

    @property
    def waiting(self) -> int:
        """Everything that stands there."""
        return self.entries + self.behind


def clock(client: Client) -> float:
    """Redis' time, by which entries are stamped: a host's own clock would make their ages wrong."""
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)


def depths(
    client: Client, queues: dict[str, names.Queue], now: float, elsewhere: Sequence[Client] = ()
) -> list[Depth]:
    """Every queue and lane, and every dead-letter queue. What the ingest queue has ``elsewhere`` is in it, but for
    servers that do not answer."""
    found = []
    behind = {lane.decode(): int(n) for lane, n in client.hgetall(names.BEHIND_COUNTS).items()}
    for queue in queues.values():
        bell = bool(client.exists(queue.bell))
        found += [
            _depth(client, stream, bell, now, behind.get(stream.rpartition(":")[2], 0))
            for stream in queue.streams
        ]
    if elsewhere:
        queue = queues["ingest_queue"]
        found = [_joined(one, elsewhere, queue, now) if one.queue == queue.name else one for one in found]
    return found + [_depth(client, stream, False, now, held=False) for stream in names.DLQS.values()]


def _joined(home: Depth, elsewhere: Sequence[Client], queue: names.Queue, now: float) -> Depth:
    parts = [home]
    for client in elsewhere:
        with contextlib.suppress(redis.RedisError):
            parts.append(depth_of(client, queue, now))
    return Depth(
        home.queue,
        sum(one.entries for one in parts),
        sum(one.held for one in parts),
        max(one.oldest_s for one in parts),
        any(one.doorbell for one in parts),
    )


def depth_of(client: Client, queue: names.Queue, now: float) -> Depth:
    """A queue of one stream, on this server."""
    return _depth(client, queue.streams[0], bool(client.exists(queue.bell)), now)


def _depth(
    client: Client, stream: str, bell: bool, now: float, behind: int = 0, *, held: bool = True
) -> Depth:
    count = client.xlen(stream)
    first = client.xrange(stream, count=1) if count else []
    oldest = max(0.0, now - int(first[0][0].decode().split("-")[0]) / 1000) if first else 0.0
    pending = 0
    if held and count:
        try:
            pending = int(client.xpending(stream, names.GROUP)["pending"])
        except redis.ResponseError:  # no group yet: nobody ever took from it
            pending = 0
    return Depth(stream.removeprefix("mutt:"), count, pending, oldest, bell, behind)
