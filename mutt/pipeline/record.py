"""Record: outcomes become the alerts' status in PostgreSQL. The sweep: rows that stand nowhere come in again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from mutt import names
from mutt.alert import LANES, Alert, Outcome
from mutt.entry import Entry, Move, alert_fields, flat, park, recorded
from mutt.errors import PoisonRow, StoreDown, UndecodableEntry
from mutt.pipeline.ports import Store

#: Where a page of rows ended: received_at and alert id of its last.
Cursor = tuple[datetime, UUID]

#: A row this old that stands nowhere was lost on its way (seconds): older than any claim timeout.
LOST_AFTER = 120.0

#: Rows that a sweep looks at in one transaction.
SWEEP_BATCH = 500


class Recorder:
    """``record_outcomes`` with its store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record_outcomes(self, entries: Sequence[Entry]) -> list[Move]:
        """Write the outcomes that these entries hold and say how to settle them. Raises StoreDown: nothing is lost."""
        good: list[tuple[Entry, Outcome]] = []
        moves: list[Move] = []
        for entry in entries:
            try:
                good.append((entry, entry.decode(Outcome)))
            except UndecodableEntry as error:
                moves.append(_parked(entry, "undecodable", str(error)))
        return moves + self._write(good)

    def _write(self, good: list[tuple[Entry, Outcome]]) -> list[Move]:
        if not good:
            return []
        try:
            self._store.record([outcome for _, outcome in good])
        except PoisonRow as error:
            if len(good) > 1:
                middle = len(good) // 2
                return self._write(good[:middle]) + self._write(good[middle:])
            if not self._store.control_row():
                raise StoreDown(f"an outcome was refused, and so was an ordinary row: {error}") from error
            return [_parked(good[0][0], "refused by PostgreSQL", str(error))]
        return [Move(entry, {}, [recorded(outcome)]) for entry, outcome in good]


def _parked(entry: Entry, reason: str, detail: str) -> Move:
    # The alert itself is at Moog; what is parked is the note of it, so the books do not move.
    why = {"reason": reason, "detail": detail, "what": "outcome"}
    return Move(entry, {}, [park(names.DLQ_MOOG, entry, flat(entry.fields), why)])


class Rows(Protocol):
    """The waiting rows of ``alerts``."""

    def waiting(
        self, lane: str, before: datetime, after: Cursor | None, limit: int
    ) -> AbstractContextManager[Sequence[Alert]]:
        """A page of them, oldest first, locked until the block ends: an outcome that was committed is seen, and one
        that comes meanwhile is written (and its alert forgotten in Redis) only after this page was dealt with."""
        ...


class Lanes(Protocol):
    """Where alerts stand."""

    def outside(self) -> Mapping[str, str]:
        """Lanes with alerts outside, and how many were put there."""
        ...

    def room(self, lane: str) -> int:
        """How many more entries the lane takes."""
        ...

    def standing(self, alerts: Sequence[Alert]) -> Sequence[bool]: ...
    def place(self, alerts: Sequence[Mapping[str, Any]], outside: Mapping[str, str]) -> Sequence[str]: ...


def sweep(rows: Rows, lanes: Lanes, now: datetime, queue_max: int, *, lost: bool = True) -> dict[str, int]:
    """Bring in rows that wait and stand nowhere: the lost (with ``lost``), and those outside of a full lane.

    How many came in, a lane. A full lane is left until a tenth of it is free: to find the rows outside, those that
    stand are read too, which is worth it for many at a time only.
    """
    placed: dict[str, int] = {}
    outside = lanes.outside()
    for lane in LANES:
        roomy = lane == "critical" or lanes.room(lane) >= queue_max // 10
        if not roomy or not (lost or lane in outside):
            continue
        before = now if lane in outside else now - timedelta(seconds=LOST_AFTER)
        count, whole = _sweep_lane(rows, lanes, lane, before, queue_max)
        if whole and lane in outside:
            lanes.place([], {lane: outside[lane]})
        if count:
            placed[lane] = count
    return placed


def _sweep_lane(rows: Rows, lanes: Lanes, lane: str, before: datetime, queue_max: int) -> tuple[int, bool]:
    """How many came in, and whether all of the lane's rows were seen."""
    count, after = 0, None
    while True:
        with rows.waiting(lane, before, after, SWEEP_BATCH) as found:
            lost = [alert for alert, stands in zip(found, lanes.standing(found), strict=True) if not stands]
            told = [alert_fields(alert, queue_max, swept=True) for alert in lost]
            results = lanes.place(told, {}) if told else []
        count += sum(result in ("placed", "behind") for result in results)
        if "full" in results:
            return count, False
        if len(found) < SWEEP_BATCH:
            return count, True
        after = (found[-1].received_at, found[-1].alert_id)
