"""Record: outcomes become the alerts' status in PostgreSQL. The sweep: rows that stand nowhere come in again."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from mutt import names
from mutt.alert import LANES, Alert, Hold, Outcome, Status
from mutt.entry import Entry, Move, alert_fields, flat, outcome_of, park, recorded
from mutt.errors import MuttError, PoisonRow, StoreDown, UndecodableEntry
from mutt.pipeline.ports import Store

#: Where a page of rows ended: received_at and alert id of its last.
Cursor = tuple[datetime, UUID]

#: A row this old that stands nowhere was lost on its way (seconds): older than any claim timeout.
LOST_AFTER = 120.0

#: Rows that a sweep looks at in one transaction.
SWEEP_BATCH = 500


class Recorder:
    """``record_outcomes`` with its store and a clock."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now

    def record_outcomes(self, entries: Sequence[Entry]) -> list[Move]:
        """Write the outcomes that these entries hold and say how to settle them. Raises StoreDown: nothing is lost.

        An entry without a move is for a newer worker: it is handed back.
        """
        good: list[tuple[Entry, Outcome | Hold]] = []
        moves: list[Move] = []
        for entry in entries:
            try:
                good.append((entry, outcome_of(entry)))
            except UndecodableEntry as error:
                if not entry.may_wait(error, self._now().timestamp()):
                    moves.append(_parked(entry, "undecodable", str(error)))
        return moves + self._write(good)

    def _write(self, good: list[tuple[Entry, Outcome | Hold]]) -> list[Move]:
        if not good:
            return []
        why = self._fault([outcome for _, outcome in good])
        if why is None:
            # An alert that only begins to wait (a copy by hand) stands in a lane, or is at its end by another outcome.
            return [
                Move(
                    entry,
                    {},
                    [] if _waits(outcome) else [recorded(outcome)],
                    correlation_ids=(outcome.alert.correlation_id,) if isinstance(outcome, Outcome) else (),
                    traces=_traces(outcome),
                )
                for entry, outcome in good
            ]
        if len(good) > 1:
            middle = len(good) // 2
            return self._write(good[:middle]) + self._write(good[middle:])
        if not self._store.control_row():
            raise StoreDown(f"an outcome was refused, and so was an ordinary row: {why[1]}")
        return [_parked(good[0][0], *why)]

    def _fault(self, outcomes: list[Outcome | Hold]) -> tuple[str, str] | None:
        """Write these together. What is wrong with at least one of them: a reason and a detail; or nothing."""
        try:
            self._store.record(
                [outcome for outcome in outcomes if isinstance(outcome, Outcome)],
                [outcome for outcome in outcomes if isinstance(outcome, Hold)],
            )
        except PoisonRow as error:
            return "refused by PostgreSQL", str(error)
        except Exception as error:
            if isinstance(error, MuttError):
                raise
            # MUTT's own error about one outcome: its neighbours don't pay for it.
            return "recording failed", traceback.format_exc(limit=-5)[-2000:]
        return None


def held_reasons(moves: Iterable[Move]) -> list[str]:
    """Why alerts were held, of those of which it was just written."""
    return [
        move.entry.fields[b"held"].decode(errors="replace")
        for move in moves
        if b"held" in move.entry.fields and move.follow and move.follow[0]["op"] == "recorded"
    ]


def _traces(outcome: Outcome | Hold) -> dict[str, str]:
    """What ``Move.traces`` says of it."""
    if isinstance(outcome, Hold) or not outcome.alert.trace:
        return {}
    return {outcome.alert.trace: outcome.alert.correlation_id}


def _waits(outcome: Outcome | Hold) -> bool:
    return isinstance(outcome, Outcome) and outcome.status is Status.WAITING


def _parked(entry: Entry, reason: str, detail: str) -> Move:
    # The alert itself is at Moog; what is parked is the note of it, so the books do not move.
    why = {"reason": reason, "detail": detail[:2000], "what": "outcome"}
    return Move(entry, {}, [park(names.DLQ_MOOG, entry, flat(entry.fields), why)])


class Rows(Protocol):
    """The waiting rows of ``alerts``."""

    def waiting(
        self, lanes: Mapping[str, datetime | None], after: Cursor | None, limit: int
    ) -> AbstractContextManager[Sequence[Alert]]:
        """A page of these lanes' rows, oldest first, locked until the block ends: an outcome that was committed is
        seen, and one that comes meanwhile is written (and its alert forgotten in Redis) only after this page was dealt
        with.

        A lane's time: only rows that have not changed since; None: all.
        """
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
    def place(
        self, alerts: Sequence[Mapping[str, Any]], outside: Mapping[str, str], closed: Iterable[str] = ()
    ) -> Sequence[str]:
        """Bring these in, as far as there is room; ``closed`` are the lanes from which nothing is brought in now."""
        ...


def sweep(rows: Rows, lanes: Lanes, now: datetime, queue_max: int, *, lost: bool = True) -> dict[str, int]:
    """Bring in rows that wait and stand nowhere: the lost (with ``lost``), and those outside of a full lane.

    How many came in, a lane. A full lane is left until a tenth of it is free: to find the rows outside, those that
    stand are read too, which is worth it for many at a time only. All lanes in one pass, the oldest row first: alerts
    of one signature may stand in several.
    """
    outside = lanes.outside()
    # What is outside is looked for whatever its age: that is PostgreSQL's clock, and ours may be behind it.
    wanted = {
        lane: None if lane in outside else now - timedelta(seconds=LOST_AFTER)
        for lane in LANES
        if (lost or lane in outside) and (lane == "critical" or lanes.room(lane) >= queue_max // 10)
    }
    placed = Counter[str]()
    unfinished: set[str] = set()
    after: Cursor | None = None
    while wanted:
        with rows.waiting(wanted, after, SWEEP_BATCH) as found:
            standing = lanes.standing(found)
            missing = [alert for alert, stands in zip(found, standing, strict=True) if not stands]
            told = [alert_fields(alert, queue_max, swept=True) for alert in missing]
            results = lanes.place(told, {}, set(LANES) - wanted.keys()) if told else []
        for alert, result in zip(missing, results, strict=True):
            placed[alert.lane] += result in ("placed", "behind")
            if result == "full":
                wanted.pop(alert.lane, None)
            elif result == "later":
                unfinished.add(alert.lane)  # a clear whose raise is outside of a lane that is full
        if len(found) < SWEEP_BATCH:
            break
        after = (found[-1].received_at, found[-1].alert_id)
    # These were seen whole: they may be entered directly again, unless more came outside meanwhile.
    emptied = {lane: outside[lane] for lane in wanted if lane in outside and lane not in unfinished}
    if emptied:
        lanes.place([], emptied)
    return {lane: n for lane, n in placed.items() if n}
