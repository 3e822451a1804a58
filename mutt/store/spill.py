"""The spill: rounds that came in while Redis was away, until they flow back (pipeline/spill).

Two sides: ``Spill`` takes rounds in, for web processes, whose requests have a second in all; ``SpillRows`` hands them
out, for the worker that lets them flow back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, text

from mutt.errors import MuttError, StoreDown, Unavailable
from mutt.store.engine import transaction

log = logging.getLogger("mutt.spill")

T = TypeVar("T")

#: Connections of a web process. As many rounds can be on their way into PostgreSQL at a time.
CONNECTIONS = 4

#: Seconds that PostgreSQL gives to one statement of a web process.
STATEMENT = 0.5

#: About what a row takes beside its data, in bytes.
ROW = 200

#: From this share of its bytes on it counts as full: what is left may be too little for the next round.
FULL = 0.95

#: Redis remembers a round's id for ten minutes. After these seconds it may have forgotten it.
REMEMBERED = 540

#: What a flow back holds in memory at a time: rounds, and bytes (one round may be larger).
ROUNDS, BYTES = 100, 4 << 20

#: Seconds after which a round that could not be appended is tried again.
ASIDE = 60

#: Who lets rounds flow back holds this lock, so that they stay in order. It only has to be the same everywhere.
LOCK = 7_165_840_002

#: Seconds for which it is held at most; a flow back takes a second, and at worst the time that its marks hold.
HELD = 60


class Standing(NamedTuple):
    """What stands in the spill."""

    rounds: int
    events: int
    bytes: int
    oldest_s: float
    set_aside: int  #: rounds that can't be appended
    reason: str  #: why not, of the first of them


class Spilled(NamedTuple):
    """One round on its way back."""

    id: int
    round_id: str
    events: int
    late: int
    fresh: bool  #: it was never sent before
    data: bytes


_KEEP = text(
    "WITH room AS (UPDATE ingest_spill_size"
    " SET rounds = rounds + 1, events = events + :events, bytes = bytes + :bytes"
    " WHERE bytes + :bytes <= :most RETURNING 1)"
    " INSERT INTO ingest_spill (round_id, events, bytes, sent_at, data)"
    " SELECT :round_id, :events, :bytes, CASE WHEN :sent THEN now() END, :data FROM room RETURNING id"
)

_STANDING = text(
    "SELECT rounds, events, bytes,"
    " coalesce(extract(epoch FROM clock_timestamp()"
    "  - (SELECT spilled_at FROM ingest_spill ORDER BY id LIMIT 1)), 0)::float,"
    " (SELECT count(*) FROM ingest_spill WHERE reason <> ''),"
    " coalesce((SELECT reason FROM ingest_spill WHERE reason <> '' ORDER BY id LIMIT 1), '')"
    " FROM ingest_spill_size"
)

_OLDEST = text(
    "SELECT id, bytes, sent_at IS NULL AS fresh FROM ingest_spill WHERE due_at <= now() ORDER BY id LIMIT :rounds"
)

# One that is sent for the first time gets its mark; one whose mark is too old may be in without anybody knowing. An
# earlier mark stays: it must not be younger than what Redis remembers. By their ids, not joined with the above: a
# queue's statistics are often those of an empty table, and by them a join looked for the oldest again for each row.
_MARK = text(
    "UPDATE ingest_spill SET"
    "  late = late + CASE WHEN sent_at < now() - :remembered * interval '1 s' THEN 1 ELSE 0 END,"
    "  sent_at = CASE WHEN sent_at >= now() - :remembered * interval '1 s' THEN sent_at ELSE now() END"
    " WHERE id = ANY(:ids) RETURNING id, round_id, events, late, data"
)

_UNMARK = text("UPDATE ingest_spill SET sent_at = NULL WHERE id = ANY(:ids)")

_REMOVE = text(
    "WITH gone AS (DELETE FROM ingest_spill WHERE id = ANY(:ids) RETURNING events, bytes)"
    " UPDATE ingest_spill_size AS s"
    " SET rounds = s.rounds - g.rounds, events = s.events - g.events, bytes = s.bytes - g.bytes"
    " FROM (SELECT count(*) AS rounds, coalesce(sum(events), 0) AS events, coalesce(sum(bytes), 0) AS bytes"
    "  FROM gone) AS g"
)

_SET_ASIDE = text(
    "UPDATE ingest_spill SET reason = :reason, due_at = now() + :aside * interval '1 s' WHERE id = :id"
)


def standing(conn: Connection) -> Standing:
    """What stands there now."""
    return Standing(*conn.execute(_STANDING).one())


class Spill:
    """The spill as a web process sees it. Raises Unavailable.

    The server may hang, and psycopg2 can't be told how long to wait: so each call has a thread of its own, and who asks
    waits for it no longer than the deadline. What is late is not committed, unless it is in the commit already. The
    thread ends soon after: its connection hangs up on a session that says nothing (``HastyConnection``).
    """

    def __init__(
        self, engine: Engine, most_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._most, self._monotonic = engine, most_bytes, monotonic
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    def keep(self, round_id: str, events: int, data: bytes, *, sent: bool, deadline: float) -> None:
        """Commit one round within ``deadline`` (monotonic). ``sent``: it was sent to Redis, and may be there."""
        size = len(data) + ROW
        told = {"round_id": round_id, "events": events, "bytes": size, "sent": sent, "data": data}

        def work() -> bool:
            with transaction(self._engine) as conn:
                kept = conn.execute(_KEEP, told | {"most": self._most}).one_or_none() is not None
                if self._monotonic() > deadline:
                    raise StoreDown("its answer came too late")
            return kept

        if not self._within(deadline, work):
            raise Unavailable("the spill is full (INGEST_SPILL_BYTES)", retry_after=5)

    def standing(self, patience: float = STATEMENT) -> Standing:
        """What stands there, within ``patience`` seconds."""

        def work() -> Standing:
            with transaction(self._engine) as conn:
                return standing(conn)

        return self._within(self._monotonic() + patience, work)

    def has_room(self) -> str:
        """``ok``, if it takes rounds. Raises Unavailable."""
        if self.standing().bytes >= self._most * FULL:
            raise Unavailable("the spill is full (INGEST_SPILL_BYTES)")
        return "ok"

    def _within(self, deadline: float, work: Callable[[], T]) -> T:
        results: list[T] = []
        errors: list[Exception] = []
        if not self._free.acquire(timeout=max(0.0, deadline - self._monotonic())):
            raise Unavailable("the spill does not answer")

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001 a thread's edge: who waits is told
                errors.append(error)
            finally:
                self._free.release()

        thread = threading.Thread(target=run, name="spill", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - self._monotonic()))
        if results:
            return results[0]
        if not errors:
            raise Unavailable("the spill does not answer in time")
        if not isinstance(errors[0], MuttError):
            raise errors[0]
        log.warning("PostgreSQL, which holds the spill, can't be reached: %s", errors[0])
        raise Unavailable("PostgreSQL, which holds the spill, can't be reached") from errors[0]


class SpillRows:
    """The spill as the flow back sees it. Raises StoreDown."""

    def __init__(self, engine: Engine, guard: Engine) -> None:
        """``guard`` is where the lock is held, beside the work: it must not take a connection from the same pool."""
        self._engine, self._guard = engine, guard

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """True: nobody else lets rounds flow back until the block ends. A holder that dies loses its lock."""
        with transaction(self._guard) as conn:
            # One that is frozen, too.
            conn.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{HELD}s'"))
            yield bool(
                conn.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": LOCK}).scalar_one()
            )

    def mark(self) -> list[Spilled]:
        """The oldest rounds, few enough to hold in memory. Their marks are committed."""
        with transaction(self._engine) as conn:
            return marked(conn)

    def remove(self, ids: Sequence[int], untouched: Sequence[int]) -> None:
        """``ids`` are in the stream; ``untouched`` were marked and never sent."""
        with transaction(self._engine) as conn:
            if untouched:
                conn.execute(_UNMARK, {"ids": list(untouched)})
            if ids:
                conn.execute(_REMOVE, {"ids": list(ids)})

    def set_aside(self, id_: int, reason: str) -> None:
        """This one can't be appended: it is tried again in a minute."""
        with transaction(self._engine) as conn:
            conn.execute(_SET_ASIDE, {"id": id_, "reason": reason, "aside": ASIDE})


def marked(conn: Connection) -> list[Spilled]:
    """The oldest rounds, few enough to hold in memory, marked as sent."""
    fresh = _first(conn)
    found = [
        Spilled(row.id, row.round_id, row.events, row.late, fresh[row.id], bytes(row.data))
        for row in conn.execute(_MARK, {"ids": list(fresh), "remembered": REMEMBERED})
    ]
    return sorted(found)


def _first(conn: Connection) -> dict[int, bool]:
    """The ids of the oldest rounds, as far as there is memory for them; of each whether it was never sent."""
    fresh: dict[int, bool] = {}
    size = 0
    for row in conn.execute(_OLDEST, {"rounds": ROUNDS}):
        size += row.bytes
        if fresh and size > BYTES:
            break
        fresh[row.id] = row.fresh
    return fresh
