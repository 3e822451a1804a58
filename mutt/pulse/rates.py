"""From what was counted to rates: the processes of a worker as one, and two readings as a point of the hour. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from mutt.pulse.sample import Point, Process, Sample

#: Where an event's way ends, by the ledger; and of an alert's the end that counts for its rate.
ENDED = ("settled", "duplicate", "parked", "dropped")


def rate(before: float | None, now: float | None, seconds: float) -> float:
    """A second; 0 where it can't be told: a counter that began anew, as a server's does that was restarted, tells
    nothing.
    """
    if before is None or now is None or seconds <= 0 or now < before:
        return 0.0
    return (now - before) / seconds


def folded(reports: Iterable[Process]) -> tuple[Process, ...]:
    """Children (``host:pid/child``) as parts of their parents, by role and name."""
    parts: defaultdict[tuple[str, str], list[Process]] = defaultdict(list)
    for report in reports:
        parts[report.role, report.name.partition("/")[0]].append(report)
    return tuple(_whole(name, ours) for (_, name), ours in sorted(parts.items()))


def _whole(name: str, parts: Sequence[Process]) -> Process:
    slots = sum(part.slots for part in parts)
    busy = sum(part.busy * part.slots for part in parts)
    waited = sum(part.store_share * part.busy * part.slots for part in parts)
    return Process(
        name=name,
        role=parts[0].role,
        at=max(part.at for part in parts),
        cpu=sum(part.cpu for part in parts),
        rss=sum(part.rss for part in parts),
        busy=busy / slots if slots else 0.0,
        slots=slots,
        events=sum(part.events for part in parts),
        p50_ms=middle(part.p50_ms for part in parts),
        p99_ms=max((part.p99_ms for part in parts if part.p99_ms is not None), default=None),
        store_share=waited / busy if busy else 0.0,
        commit_ms=middle(part.commit_ms for part in parts),
        starved=sum(part.starved for part in parts),
        refused=sum(part.refused for part in parts),
        queued=sum(part.queued for part in parts),
    )


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def point(before: Sample | None, now: Sample) -> Point:
    """A reading in short; its rates count from ``before``."""
    last = before or now
    seconds = now.at - last.at
    waiting = [
        one.oldest_s for one in now.queues if one.name.partition(":")[0] in ("ingest_queue", "alert_queue")
    ]
    full = [one.memory / one.max_memory for one in now.redis if one.max_memory]
    return Point(
        at=now.at,
        events_in=rate(last.events.get("accepted"), now.events.get("accepted"), seconds),
        events_out=rate(_ended(last), _ended(now), seconds),
        alerts_in=rate(last.alerts.get("raised"), now.alerts.get("raised"), seconds),
        alerts_out=rate(last.alerts.get("delivered"), now.alerts.get("delivered"), seconds),
        ingest_depth=now.events.get("queued", 0),
        alert_depth=now.alerts.get("waiting", 0),
        oldest_s=max(waiting, default=0.0),
        budget_used=min(1.0, now.moog.used / now.moog.limit) if now.moog.limit else 0.0,
        dead=sum(one.entries for one in now.queues if one.name.startswith("dlq:")),
        redis_share=max(full, default=0.0),
        redis_cpu=max((one.cpu for one in now.redis), default=0.0),
        rows=now.postgres.rows if now.postgres else 0.0,
        workers=len(now.of_role("alerts")),
    )


def _ended(sample: Sample) -> int | None:
    """Events at the end of their way; None: nobody could ask."""
    return sum(sample.events.get(name, 0) for name in ENDED) if sample.events else None
