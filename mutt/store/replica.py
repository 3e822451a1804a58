"""Where pages read: from a streaming replica, which may be behind, or from the primary while it does not answer.

What machines write (the audit, alerts, their attempts) is read here. What people change is read from the primary: who
saved something sees it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mutt.errors import StoreDown
from mutt.store import lookup
from mutt.words import span

T = TypeVar("T")

#: What a replica that keeps up may be behind without a word: a page is older by the time it is read.
UNSAID = timedelta(seconds=3)

#: Seconds for which a replica that did not answer is not asked again.
REST = 10.0

#: The question took too long: the primary is not to be kept from its work with it.
_CANCELED = "57014"

#: Of a server that can't be asked; what else it says is about the question, or about its own moment.
_AWAY = ("", "08", "53", "57", "28")

#: A replica that has all that it was sent, and is being sent more, has everything; else what came with its last commit.
_STANDING = text(
    """SELECT now() AS now, pg_is_in_recovery() AS standby, CASE
        WHEN NOT pg_is_in_recovery() THEN now()
        WHEN EXISTS (SELECT FROM pg_stat_wal_receiver)
            AND pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() THEN now()
        ELSE pg_last_xact_replay_timestamp() END AS until"""
)


class Source(NamedTuple):
    """Where rows were read."""

    behind: bool = False  #: by more than :data:`UNSAID`
    until: datetime | None = None  #: what was committed by then is there; None: nobody can tell
    lag: timedelta | None = None
    away: str = ""  #: why the replica was not asked, and the primary was
    replica: bool = False

    @property
    def says(self) -> str:
        """What a reader has to know, as a sentence; empty: nothing."""
        if self.away:
            return f"The read replica can't be asked, so this was read from the primary: {self.away}."
        if not self.behind:
            return ""
        if self.until is None or self.lag is None:
            return "The read replica gets nothing from its primary: the newest rows may be missing here."
        at = f"{self.until.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        lag = span(round(self.lag.total_seconds()))
        return f"The read replica is {lag} behind: what was written after {at} UTC is not here yet."


def source_of(conn: Connection) -> Source:
    """How far the server of this connection is."""
    now, standby, until = conn.execute(_STANDING).one()
    if not standby:
        return Source()
    lag = None if until is None else now - until
    return Source(lag is None or lag > UNSAID, until, lag, replica=True)


class Reader:
    """Asks for pages. Threads may share it. ``replica`` None: there is only the primary."""

    def __init__(
        self,
        primary: Engine,
        replica: Engine | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._primary, self._replica, self._monotonic = primary, replica, monotonic
        self._rests_until, self._why = 0.0, ""

    def read(self, ask: Callable[[Connection], T]) -> tuple[T, Source]:
        """What ``ask`` finds, in one read-only transaction, and where. It may be called twice. Raises ``StoreDown``."""
        if self._replica is None:
            return self._ask_primary(ask), Source()
        if self._monotonic() < self._rests_until:
            return self._ask_primary(ask), Source(away=self._why)
        try:
            with lookup.reading(self._replica) as conn:
                # First: what comes meanwhile makes the answer better than its word.
                source = source_of(conn)
                return ask(conn), source
        except StoreDown as error:
            if error.sqlstate == _CANCELED:
                raise
            why = str(error).strip().partition("\n")[0].rstrip(".")
            # That all of our own connections are in use says nothing of the server.
            if error.sqlstate[:2] in _AWAY and not isinstance(error.__cause__, PoolTimeout):
                self._rests_until, self._why = self._monotonic() + REST, why
            return self._ask_primary(ask), Source(away=why)

    def ask(self, ask: Callable[[Connection], T]) -> T:
        """What ``ask`` finds, for who shows nobody where."""
        return self.read(ask)[0]

    def find(self, ask: Callable[[Connection], T | None]) -> tuple[T | None, Source]:
        """The same for one thing by its key: what the replica does not have yet is looked for at the primary."""
        found, source = self.read(ask)
        if found is not None or not source.replica:
            return found, source
        return self._ask_primary(ask), Source()

    def _ask_primary(self, ask: Callable[[Connection], T]) -> T:
        with lookup.reading(self._primary) as conn:
            return ask(conn)
