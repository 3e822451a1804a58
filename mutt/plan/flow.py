"""The way of an event, measured in two halves: a door that nobody works behind, then one worker and what waits."""

from __future__ import annotations

import http.client
import itertools
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg2
import redis

from mutt.errors import MuttError
from mutt.plan import sample
from mutt.plan.private import API_KEY, Private, busy, queued, resident, started, used
from mutt.plan.values import Door, Load, Worker
from mutt.streams import books

#: Seconds that events are sent, and different requests that are sent again and again.
SENDING, EVENTS = 4.0, 20_000

#: Connections: many that send one event a request, few that send many.
SINGLES, BATCHES = 16, 4

#: Of a drain the part that counts: not the worker's first take, nor the last few.
FIRST, LAST = 0.1, 0.9

#: Seconds without progress after which something is wrong, and between two looks, which cost a core a few milliseconds.
STUCK, EVERY = 20.0, 0.1


class NotTaken(MuttError):
    """The measurement's own ingest refused, or its worker stood still."""


def door(private: Private, load: Load) -> Door:
    """Send for a while to an ingest whose events nobody takes."""
    stack, up = private.stack(workers=0)
    bodies = sample.bodies(max(4, EVENTS // load.batch), load)
    with redis.Redis.from_url(private.redis_url) as client, started([stack.ingest(up)]) as pids:
        roles = {"ingest": pids["ingest"], "redis": private.pids["redis"]}
        _send(stack.url("ingest"), bodies[:4], 0.3, load)  # what is made at the first request
        first, before = int(books.read(client).events["queued"]), used(roles)
        held = int(client.info("memory")["used_memory"])
        began = time.monotonic()
        _send(stack.url("ingest"), bodies, SENDING, load)
        seconds, after = time.monotonic() - began, used(roles)
        events = int(books.read(client).events["queued"]) - first
        return Door(
            ingest=(after["ingest"] - before["ingest"]) / events,
            redis=(after["redis"] - before["redis"]) / events,
            rate=events / seconds,
            waiting_bytes=(int(client.info("memory")["used_memory"]) - held) / events,
            mark_bytes=_mark(client),
            resident_bytes=resident(pids["ingest"]),
        )


def _mark(client: redis.Redis) -> float:
    """Bytes that an append's mark takes: the key, its reply and its place among those that expire."""
    marks = list(itertools.islice(client.scan_iter("mutt:round:*", count=1000), 50))
    taken = [float(client.memory_usage(mark) or 0) for mark in marks]
    return statistics.median(taken) if taken else 0.0


def _send(url: str, bodies: Sequence[bytes], seconds: float, load: Load) -> None:
    """Post over a few connections until the time is up. Raises :class:`NotTaken`."""
    refused: list[str] = []
    ends = time.monotonic() + seconds
    connections = SINGLES if load.batch == 1 else BATCHES
    share = [itertools.cycle([*bodies[number % len(bodies) :], *bodies]) for number in range(connections)]
    senders = [threading.Thread(target=_post, args=(url, one, ends, refused), daemon=True) for one in share]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    if refused:
        raise NotTaken(f"the measurement's own ingest answered {refused[0]}")


def _post(url: str, bodies: Iterator[bytes], ends: float, refused: list[str]) -> None:
    headers = {"X-API-KEY": API_KEY, "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        while time.monotonic() < ends and not refused:
            connection.request("POST", "/ingest", next(bodies), headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != http.client.ACCEPTED:
                refused.append(f"{answer.status}: {said[:200].decode(errors='replace')}")
    except (OSError, http.client.HTTPException) as error:
        refused.append(f"nothing: {error}")
    finally:
        connection.close()


def worker(private: Private) -> Worker:
    """Let one worker drain what waits. Raises :class:`NotTaken` where it stands still."""
    stack, up = private.stack(workers=1)
    (evaluating,) = [one for one in stack.workers(up) if one.name == "alerts1"]
    log = _Log(private.database_url)
    with (
        redis.Redis.from_url(private.redis_url) as client,
        started([evaluating]) as pids,
    ):
        roles = {"worker": pids["alerts1"], **private.pids}
        looks = list(_looks(client, roles))
        held = resident(pids["alerts1"])
    first, last = (_at(looks, looks[-1].settled * share) for share in (FIRST, LAST))
    events, seconds = last.settled - first.settled, last.at - first.at
    cpu = {name: last.cpu[name] - first.cpu[name] for name in roles}
    rows, rows_bytes, wal = log.since()
    return Worker(
        worker=cpu["worker"] / events,
        redis=cpu["redis"] / events,
        postgres=cpu["postgres"] / events,
        clock=seconds / events,
        queued=(last.queued - first.queued) / events,
        strangers=max(0.0, (last.busy - first.busy - sum(cpu.values())) / seconds),
        rows_bytes=rows_bytes / rows,
        wal_bytes=wal / rows,
        resident_bytes=held,
    )


class _Look(NamedTuple):
    """When, how many events were settled by then, CPU seconds by role, and of the machine; seconds without a core."""

    at: float
    settled: int
    cpu: dict[str, float]
    busy: float
    queued: float


def _looks(client: redis.Redis, roles: dict[str, int]) -> Iterator[_Look]:
    moved, most = time.monotonic(), -1
    while True:
        events, now = books.read(client).events, time.monotonic()
        if events["settled"] > most:
            moved, most = now, int(events["settled"])
            yield _Look(now, most, used(roles), busy(), queued(roles))
        if not events["queued"]:
            return
        if now - moved > STUCK:
            raise NotTaken(f"the measurement's own worker left {events['queued']} events")
        time.sleep(EVERY)


def _at(looks: Sequence[_Look], events: float) -> _Look:
    return next(look for look in looks if look.settled >= events)


class _Log:
    """How many rows the audit has, what they take, and what was logged meanwhile."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._at = self._ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")

    def since(self) -> tuple[int, float, float]:
        """Rows; bytes of the table and its indexes; bytes of the log."""
        size = (
            "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits "
            "WHERE inhparent = 'event_audit_log'::regclass"
        )
        rows = int(self._ask("SELECT count(*) FROM event_audit_log"))
        logged = self._ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn") - self._at
        return rows, self._ask(size), logged

    def _ask(self, query: str) -> float:
        connection = psycopg2.connect(self._url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                (found,) = cursor.fetchone() or (0,)
                return float(found)
        finally:
            connection.close()
