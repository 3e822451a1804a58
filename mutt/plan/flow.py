"""The way of an event, measured in two halves: a door that nobody works behind, then one worker and what waits."""

from __future__ import annotations

import http.client
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
import psycopg2
import redis

from mutt.errors import MuttError
from mutt.plan import sample
from mutt.plan.private import API_KEY, Private, busy, queued, resident, started, suspended_later, used
from mutt.plan.values import Door, Load, Worker
from mutt.streams import books

#: Seconds that events are sent, and different requests that are sent again and again.
SENDING, EVENTS = 4.0, 20_000

#: Connections: many that send one event a request, few that send many.
SINGLES, BATCHES = 16, 4

#: The parts of a drain that count: where every core has a worker, and where one works alone; not the first take, nor
#: the last. Of so many windows of the second part the second calmest counts: others, and a busy disk, only add.
CROWDED, FREE, WINDOWS = (0.1, 0.5), (0.55, 0.95), 5

#: Workers at the most, however many cores there are.
MOST = 4

#: Events that wait for the worker at the most: it takes three to six seconds for them.
WAITING = 160_000

#: Seconds without progress after which something is wrong, or, where some workers stand still, what is left is theirs;
#: and between two looks, which cost a core a few milliseconds.
STUCK, HELD, EVERY = 20.0, 1.0, 0.1


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
        _send(stack.url("ingest"), bodies, SENDING, load, WAITING // load.batch)
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


def _send(url: str, bodies: list[bytes], seconds: float, load: Load, most: int = 1 << 40) -> None:
    """Post over a few connections until the time is up, or ``most`` requests are sent. Raises :class:`NotTaken`."""
    refused: list[str] = []
    ends = time.monotonic() + seconds
    connections = SINGLES if load.batch == 1 else BATCHES
    share = [
        itertools.islice(itertools.cycle(bodies[number % len(bodies) :] + bodies), most // connections)
        for number in range(connections)
    ]
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
        for body in bodies:
            if refused or time.monotonic() > ends:
                break
            connection.request("POST", "/ingest", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != http.client.ACCEPTED:
                refused.append(f"{answer.status}: {said[:200].decode(errors='replace')}")
    except (OSError, http.client.HTTPException) as error:
        refused.append(f"nothing: {error}")
    finally:
        connection.close()


def worker(private: Private) -> Worker:
    """Let as many workers as there are cores drain what waits, then one alone. Raises :class:`NotTaken`."""
    stack, up = private.stack(workers=min(psutil.cpu_count() or 1, MOST))
    log = _Log(private.database_url)
    with (
        redis.Redis.from_url(private.redis_url) as client,
        started([one for one in stack.workers(up) if one.name.startswith("alerts")]) as workers,
    ):
        alone, *others = workers.values()
        with suspended_later(others) as suspend:
            looks = list(_looks(client, workers, private.pids, suspend))
        held = resident(alone)
    crowded, free = _window(*_ends(looks, *CROWDED)), _calm(looks, *FREE)
    rows, rows_bytes, wal = log.since()
    return Worker(
        **free,
        crowded=crowded["worker"] + crowded["redis"] + crowded["postgres"],
        crowded_strangers=crowded["strangers"],
        rows_bytes=rows_bytes / rows,
        wal_bytes=wal / rows,
        resident_bytes=held,
    )


class _Look(NamedTuple):
    """When, events settled by then and in all, CPU seconds by role, and of the machine; seconds without a core."""

    at: float
    settled: int
    whole: int
    cpu: dict[str, float]
    busy: float
    queued: float


def _looks(
    client: redis.Redis, workers: Mapping[str, int], servers: Mapping[str, int], suspend: Callable[[], None]
) -> Iterator[_Look]:
    """Until hardly anything waits; when half of it is settled, all workers but one stand still."""
    moved, most, suspended = time.monotonic(), -1, False
    while True:
        events, now = books.read(client).events, time.monotonic()
        settled, whole = int(events["settled"]), int(events["settled"] + events["queued"])
        if settled > most:
            moved, most = now, settled
            cpu = {"worker": sum(used(workers).values()), **used(servers)}
            yield _Look(now, settled, whole, cpu, busy(), queued({**workers, **servers}))
        if settled >= FREE[1] * whole or (suspended and now - moved > HELD):
            return
        if not suspended and settled >= CROWDED[1] * whole:
            suspend()
            suspended = True
        if now - moved > STUCK:
            raise NotTaken(f"the measurement's own worker left {events['queued']} events")
        time.sleep(EVERY)


def _ends(looks: Sequence[_Look], first: float, last: float) -> tuple[_Look, _Look]:
    """The looks at two shares of the whole; where they are one, for nobody let us look, those at both ends."""
    ends = _at(looks, looks[-1].whole * first), _at(looks, looks[-1].whole * last)
    if ends[0] is ends[1]:
        ends = looks[0], looks[-1]
    if ends[0].settled == ends[1].settled:
        raise NotTaken(
            "the worker was done before anybody could look: measure again when the machine is quiet"
        )
    return ends


def _calm(looks: Sequence[_Look], first: float, last: float) -> dict[str, float]:
    """What an event took between two shares of the whole, when it was calm."""
    windows = [_window(one, other) for one, other in itertools.pairwise(_marks(looks, first, last))]
    windows = windows or [_window(*_ends(looks, first, last))]
    windows.sort(key=lambda window: window["clock"])
    return windows[min(1, len(windows) - 1)]


def _marks(looks: Sequence[_Look], first: float, last: float) -> list[_Look]:
    """The looks between the windows."""
    marks = [
        _at(looks, looks[-1].whole * (first + (last - first) * number / WINDOWS))
        for number in range(WINDOWS + 1)
    ]
    return [one for one, other in itertools.pairwise(marks) if one is not other] + marks[-1:]


def _window(first: _Look, last: _Look) -> dict[str, float]:
    """What an event took between two looks."""
    events, seconds = last.settled - first.settled, last.at - first.at
    cpu = {name: last.cpu[name] - first.cpu[name] for name in last.cpu}
    return {
        **{name: spent / events for name, spent in cpu.items()},
        "clock": seconds / events,
        "queued": (last.queued - first.queued) / events,
        "strangers": max(0.0, (last.busy - first.busy - sum(cpu.values())) / seconds),
    }


def _at(looks: Sequence[_Look], events: float) -> _Look:
    return next((look for look in looks if look.settled >= events), looks[-1])


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
