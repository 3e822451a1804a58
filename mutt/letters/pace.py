"""Pace: how many letters may go now, so that nothing fresh waits behind them. Pure.

Alerts take spare budget only: as many as the budget has left, and never more than a quarter of a period's worth at a
time stands in the lanes. A fresh alert so waits for a quarter of a period behind replayed ones, at most. Events fill
the ingest queue by a few batches only.
"""

from __future__ import annotations

import dataclasses

from mutt.streams.spare import Load

#: Events that may stand in the ingest queue for a replay to add some: four batches.
EVENTS_STANDING = 2000

#: Letters that one step moves at most: Redis does nothing else meanwhile.
STEP = 100

#: Seconds between two steps, at least and at most.
TICK_LEAST, TICK_MOST = 0.05, 1.0


@dataclasses.dataclass(frozen=True)
class Room:
    """How many may go, in letters; none: why."""

    letters: int
    waits: str = ""


def tick(period: float) -> float:
    """Seconds between two steps of a replay."""
    return max(TICK_LEAST, min(TICK_MOST, period / 4))


def share(limit: int) -> int:
    """Replayed alerts that may stand in the lanes."""
    return max(1, limit // 4)


def room(queue: str, load: Load, limit: int) -> Room:
    """Room for letters of ``queue`` at this load and ``limit`` of the budget."""
    return _for_alerts(load, limit) if queue == "moog" else _for_events(load)


def _for_alerts(load: Load, limit: int) -> Room:
    if load.breaker != "closed":
        return Room(0, f"Moog's breaker is {load.breaker.replace('_', ' ')}")
    if load.paused:
        return Room(0, "Moog asked for a pause")
    if load.standing >= share(limit):
        return Room(0, f"{load.standing} alerts stand in the lanes, and go first")
    spare = limit - load.used
    if spare <= 0:
        return Room(0, "the budget is in use")
    return Room(min(STEP, spare, share(limit) - load.standing))


def _for_events(load: Load) -> Room:
    if load.queued >= EVENTS_STANDING:
        return Room(0, f"{load.queued:,} events stand in the ingest queue, and go first")
    return Room(min(STEP, EVENTS_STANDING - load.queued))
