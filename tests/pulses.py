"""Made-up readings of the pipeline, kept in Redis where the real ones are."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import redis

from mutt import names
from mutt.alert import LANES
from mutt.pulse.sample import Moog, Point, Postgres, Process, Queue, Redis, Sample

HOST = "mutt-1"

GIB = 1 << 30


def sample(at: float, **changes: Any) -> Sample:
    """A reading of a pipeline that is well: one of each process, nothing that waits for long."""
    told = {
        "queues": queues(),
        "events": {"accepted": 1_204_400, "settled": 1_204_393, "queued": 7},
        "alerts": {"raised": 4_120, "delivered": 4_117, "waiting": 3},
        "processes": processes(at),
        "redis": (Redis("127.0.0.1:6379", GIB // 4, GIB, 0.21, 4_100.0),),
        "postgres": Postgres(0.6, 698.0, 4.2, 14, 100),
        "moog": Moog(limit=50, used=21, latency_ms=21.0, slots=32),
    }
    return Sample(at=at, **{**told, **changes})


def queues(**entries: int) -> tuple[Queue, ...]:
    """Every queue; ``ingest_queue=2400`` gives one its entries, the oldest a second old each ten of them."""
    listed = ("ingest_queue", *(f"alert_queue:{lane}" for lane in LANES), "delivery_queue",
              "dlq:ingest", "dlq:alerts", "dlq:moog")  # fmt: skip
    found = []
    for name in listed:
        standing = entries.get(name.replace(":", "_"), 0)
        found.append(Queue(name, standing, standing / 10, min(standing, 2)))
    return tuple(found)


def processes(at: float, **busy: float) -> tuple[Process, ...]:
    """One of each role; ``alerts=0.9`` says how busy."""
    usual = {
        "ingest": 0.21,
        "alerts": 0.55,
        "moog": 0.3,
        "housekeeping": 0.04,
        "backtests": 0.0,
        "admin": 0.02,
    }
    slots = {"ingest": 32, "moog": 32, "housekeeping": 2, "admin": 8}
    return tuple(
        Process(
            f"{HOST}:{4100 + number}", role, at - 0.4, 0.4, 150_000_000, busy.get(role, share),
            slots.get(role, 1), 698.0 if role in ("ingest", "alerts") else 21.0, 4.0, 61.0,
        )
        for number, (role, share) in enumerate(usual.items())
    )  # fmt: skip


def point(at: float, **changes: Any) -> Point:
    """A reading in short, of the same pipeline."""
    told = {
        "events_in": 702.0, "events_out": 698.0, "alerts_in": 21.0, "alerts_out": 21.0, "ingest_depth": 7,
        "alert_depth": 3, "oldest_s": 0.7, "budget_used": 0.42, "dead": 0, "redis_share": 0.25, "redis_cpu": 0.21,
        "rows": 698.0, "workers": 1,
    }  # fmt: skip
    return Point(at=at, **{**told, **changes})


def keep(client: redis.Redis, samples: Sequence[Sample], points: Sequence[Point] = ()) -> None:
    """Keep them as whoever reads for the fleet does: the oldest first, the last one is the newest."""
    for key, listed in ((names.PULSE_SAMPLES, samples), (names.PULSE_POINTS, points)):
        if listed:
            client.lpush(key, *(msgspec.msgpack.encode(one) for one in listed))


class Fleet:
    """A fleet that reads itself once a second, as it is told to be: an old reading would be made anew by who looks."""

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._stop, self._lock = client, threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Fleet:
        self.be()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def be(self, short: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> None:
        """Be like this from now on, and have been for the last hour; ``short``: what its points say."""
        with self._lock:
            self._short, self._changes = short, changes
            self._client.delete(names.PULSE_SAMPLES, names.PULSE_POINTS)
            now = time.time()
            points = [
                point(now - 5 * n, **{"events_in": 600.0 + n % 90, **short}) for n in reversed(range(720))
            ]
            keep(self._client, [sample(now - n, **changes) for n in (2, 1, 0)], points)

    def _go_on(self) -> None:
        while not self._stop.wait(1.0):
            with self._lock:
                now = time.time()
                keep(self._client, [sample(now, **self._changes)], [point(now, **self._short)])
