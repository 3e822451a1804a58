"""The board: a reading of the pipeline as the words, bars and colours of its page. Pure: a reading in, a board out.

Each word and bar has a name, ``place.what`` (``ingest_queue.oldest``), which is its ``data-figure`` or ``data-meter``
on the page: the template writes them first, and the script of the page writes them anew, without knowing what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from mutt.pulse.sample import Moog, Point, Process, Queue, Reading, Redis, Sample, Trouble
from mutt.streams.books import ALERTS, EVENTS, Books
from mutt.words import age, many

#: Where in the picture a trouble is. Of slow pages there is no place: whoever looks has it before them.
PLACES = {
    "redis-away": "redis",
    "redis-memory": "redis",
    "postgres-away": "postgres",
    "ingest-away": "ingest",
    "alerts-away": "evaluate",
    "moog-away": "forward",
    "record-away": "record",
    "moog-outage": "moog",
    "postgres-writes": "postgres",
    "redis-core": "redis",
    "alerts-behind": "evaluate",
    "ingest-cpu": "ingest",
    "ingest-latency": "ingest",
    "moog-limit": "forward",
    "forwarders-behind": "forward",
    "record-behind": "record",
    "slow-pages": "",
    "dead-letters": "dead",
    "source-silent": "senders",
}

#: What is not known.
UNKNOWN = "–"

#: Roles of the processes that a step of the flow is made of.
STEPS = {"ingest": "ingest", "evaluate": "alerts", "forward": "moog", "record": "housekeeping"}

#: Rows of the hour's table, and seconds that each stands for.
ROWS, ROW_S = 12, 300


class Board(msgspec.Struct, frozen=True):
    """What the page shows that moves."""

    at: float  #: of the reading, seconds since the epoch
    words: dict[str, str]
    bars: dict[str, float]  #: 0 to 1
    states: dict[str, str]  #: of places where something is wrong: ``first`` (the bottleneck) or ``wrong``
    flows: dict[str, int]  #: of the pipes: 0 nothing, 1 drops, 2 a stream, 3 a torrent


class Row(msgspec.Struct, frozen=True):
    """Some minutes of the hour, in the table: means, and the most of what stands."""

    at: datetime
    events_in: float
    events_out: float
    alerts_out: float
    ingest_depth: int
    alert_depth: int
    oldest_s: float
    budget_used: float
    rows: float
    redis_share: float


def board_of(reading: Reading) -> Board:
    """The board of a reading."""
    sample, last = reading.sample, reading.points[-1] if reading.points else None
    rates = _rates(sample, last)
    return Board(
        at=sample.at,
        words={
            "at": f"{datetime.fromtimestamp(sample.at, UTC):%H:%M:%S}",
            **{f"flow.{name}": rate(value) for name, value in rates.items()},
            **_steps(sample),
            **_queues(sample),
            **_servers(sample),
            **_moog(sample),
            **_books(sample),
            **_processes(sample.processes, sample.at),
            **_troubles(reading.troubles),
        },
        bars=_bars(sample),
        states=states_of(reading.troubles),
        flows={name: _flow(value) for name, value in rates.items()},
    )


def states_of(troubles: Sequence[Trouble]) -> dict[str, str]:
    """What is wrong where; the first trouble is the bottleneck."""
    found = {PLACES[one.name]: "wrong" for one in troubles} if troubles else {}
    if troubles:
        found[PLACES[troubles[0].name]] = "first"
    return {place: state for place, state in found.items() if place}


def table_of(points: Sequence[Point]) -> list[Row]:
    """The hour in rows of five minutes, the newest first."""
    groups: dict[int, list[Point]] = {}
    for point in points:
        groups.setdefault(int(point.at // ROW_S), []).append(point)
    return [_row(groups[at]) for at in sorted(groups, reverse=True)[:ROWS]]


def _row(group: Sequence[Point]) -> Row:
    def mean(name: str) -> float:
        return sum(getattr(point, name) for point in group) / len(group)

    return Row(
        at=datetime.fromtimestamp(group[0].at, UTC),
        events_in=mean("events_in"),
        events_out=mean("events_out"),
        alerts_out=mean("alerts_out"),
        ingest_depth=max(point.ingest_depth for point in group),
        alert_depth=max(point.alert_depth for point in group),
        oldest_s=max(point.oldest_s for point in group),
        budget_used=mean("budget_used"),
        rows=mean("rows"),
        redis_share=max(point.redis_share for point in group),
    )


def books_of(sample: Sample) -> Books | None:
    """The ledger at the moment of the reading; None: it could not be read."""
    if "redis" in sample.away:
        return None
    return Books(
        {name: sample.events.get(name, 0) for name in EVENTS},
        {name: sample.alerts.get(name, 0) for name in ALERTS},
    )


def unrecorded_of(sample: Sample) -> int:
    """Letters of ``moog`` that are no alerts: notes of what became of one, which PostgreSQL can't take."""
    return max(0, sample.queue("dlq:moog").entries - sample.alerts.get("parked", 0))


# ---- the parts of the board


def _rates(sample: Sample, last: Point | None) -> dict[str, float | None]:
    """Of the pipes, a second."""
    recorded = sum(one.events for one in sample.of_role("housekeeping"))
    return {
        "accepted": last.events_in if last else None,
        "settled": last.events_out if last else None,
        "rows": sample.postgres.rows if sample.postgres else None,
        "raised": last.alerts_in if last else None,
        "sent": last.alerts_out if last else None,
        "recorded": recorded if last else None,
    }


def _steps(sample: Sample) -> dict[str, str]:
    words: dict[str, str] = {}
    for step, role in STEPS.items():
        processes = sample.of_role(role)
        words |= {
            f"{step}.processes": many(len(processes), "process", "processes"),
            f"{step}.slots": f"{sum(one.slots for one in processes):,}",
            f"{step}.busy": share(busy_of(processes)),
            f"{step}.cpu": f"{sum(one.cpu for one in processes):.1f}",
            f"{step}.p99": millis(max((one.p99_ms for one in processes if one.p99_ms), default=None)),
            f"{step}.refused": rate(sum(one.refused for one in processes)),
            f"{step}.queued": f"{sum(one.queued for one in processes):,}",
        }
    return words


def busy_of(processes: Iterable[Process]) -> float | None:
    """How much of what they can do at a time they do, together."""
    listed = list(processes)
    slots = sum(one.slots for one in listed)
    return sum(one.busy * one.slots for one in listed) / slots if slots else None


def _queues(sample: Sample) -> dict[str, str]:
    words: dict[str, str] = {}
    known = "redis" not in sample.away
    for queue in sample.queues:
        words |= _queue(queue)
    dead = sum(one.entries for one in sample.queues if one.name.startswith("dlq:"))
    return words | {
        "dead.total": count(dead if known else None),
    }


def _queue(queue: Queue) -> dict[str, str]:
    standing = queue.entries + queue.behind
    return {
        f"{queue.name}.waiting": count(standing),
        f"{queue.name}.held": count(queue.held),
        f"{queue.name}.oldest": age(queue.oldest_s) if queue.entries else UNKNOWN,
    }


def _servers(sample: Sample) -> dict[str, str]:
    words: dict[str, str] = {}
    for one in sample.redis:
        words |= {
            f"redis.{one.name}.memory": memory(one),
            f"redis.{one.name}.share": share(one.memory / one.max_memory if one.max_memory else None),
            f"redis.{one.name}.cpu": share(one.cpu),
            f"redis.{one.name}.commands": rate(one.commands),
        }
    store = sample.postgres
    return words | {
        "postgres.rows": rate(store.rows if store else None),
        "postgres.answer": millis(store.answer_ms if store else None),
        "postgres.commit": millis(store.commit_ms if store else None),
        "postgres.connections": f"{store.connections} of {store.max_connections}" if store else UNKNOWN,
    }


def _moog(sample: Sample) -> dict[str, str]:
    moog, known = sample.moog, "redis" not in sample.away
    return {
        "moog.breaker": moog.breaker if known else UNKNOWN,
        "moog.why": f": {moog.reason}" if moog.reason and moog.breaker != "closed" else "",
        "moog.until": _until(moog, sample.at),
        "moog.latency": millis(moog.latency_ms),
        "moog.slots": count(moog.slots if known else None),
        "budget.used": f"{moog.used:,} of {moog.limit:,}" if known else UNKNOWN,
        "budget.period": _period(moog.period),
    }


def _until(moog: Moog, now: float) -> str:
    """When something is tried again."""
    if moog.breaker == "open" and moog.until > now:
        return f"tried again at {_clock(moog.until, now)} UTC"
    if moog.paused_until > now:
        return f"it asked to wait until {_clock(moog.paused_until, now)} UTC"
    return ""


def _clock(at: float, now: float) -> str:
    """A time, with its day if that is not today."""
    time, today = (datetime.fromtimestamp(one, UTC) for one in (at, now))
    return f"{time:%H:%M:%S}" if time.date() == today.date() else f"{time:%Y-%m-%d %H:%M:%S}"


def _period(seconds: float) -> str:
    return "a second" if seconds == 1 else f"in {seconds:g} s"


def _books(sample: Sample) -> dict[str, str]:
    kept = books_of(sample)
    if kept is None:
        return {}
    return {
        **{f"events.{name}": count(value) for name, value in kept.events.items()},
        **{f"alerts.{name}": count(value) for name, value in kept.alerts.items()},
    }


def _processes(processes: Sequence[Process], now: float) -> dict[str, str]:
    words: dict[str, str] = {}
    for one in processes:
        words |= {
            f"process.{one.name}.busy": share(one.busy),
            f"process.{one.name}.events": rate(one.events),
            f"process.{one.name}.p50": millis(one.p50_ms),
            f"process.{one.name}.p99": millis(one.p99_ms),
            f"process.{one.name}.cpu": f"{one.cpu:.2f}",
            f"process.{one.name}.memory": size(one.rss),
            f"process.{one.name}.told": f"{age(max(0.0, now - one.at))} ago",
        }
    return words


def _troubles(troubles: Sequence[Trouble]) -> dict[str, str]:
    words: dict[str, str] = {}
    for one in troubles:
        words |= {
            f"trouble.{one.name}.title": one.title,
            f"trouble.{one.name}.why": one.why,
            f"trouble.{one.name}.do": one.do,
            f"trouble.{one.name}.command": one.command,
        }
    return words


def _bars(sample: Sample) -> dict[str, float]:
    moog, store = sample.moog, sample.postgres
    bars = {f"{step}.busy": busy_of(sample.of_role(role)) or 0.0 for step, role in STEPS.items()}
    bars["budget.used"] = moog.used / moog.limit if moog.limit else 0.0
    if store and store.max_connections:
        bars["postgres.connections"] = store.connections / store.max_connections
    for one in sample.redis:
        bars[f"redis.{one.name}.memory"] = one.memory / one.max_memory if one.max_memory else 0.0
        bars[f"redis.{one.name}.cpu"] = one.cpu
    for process in sample.processes:
        bars[f"process.{process.name}.busy"] = process.busy
    return {name: round(min(1.0, max(0.0, value)), 3) for name, value in bars.items()}


def _flow(value: float | None) -> int:
    """How lively a pipe is drawn."""
    if not value or value < 0.05:
        return 0
    return 1 if value < 10 else 2 if value < 1000 else 3


# ---- figures for people


def rate(value: float | None) -> str:
    """So many a second: 0.4, 12, 1,204."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.0f} %"


def millis(value: float | None) -> str:
    """Milliseconds: 0.4 ms, 12 ms, 1.2 s."""
    if value is None:
        return UNKNOWN
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def size(value: float) -> str:
    """Bytes: 12 MB, 1.4 GB."""
    for most, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= most:
            scaled = value / most
            return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:.0f} {unit}"
    return f"{value:.0f} B"


def memory(one: Redis) -> str:
    """What a Redis holds, and of how much."""
    return (
        f"{size(one.memory)} of {size(one.max_memory)}" if one.max_memory else f"{size(one.memory)}, no limit"
    )
