"""What the use cases need of the world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from mutt.alert import Alert, Hold, Outcome
from mutt.budget.permit import Permit
from mutt.entry import Appended, Entry, Move, Part, Taken
from mutt.event import Event
from mutt.rules.evaluate import Judged, Ruleset
from mutt.rules.shadow import Draft, Seen

Key = tuple[UUID, datetime]


class Queue(Protocol):
    """A durable stream, as a consumer sees it. Raises ``OSError``-like errors of its client, which pass through."""

    def take(self, want: int, *, held: Sequence[Entry] = (), tidy: bool = False, extra: float = 0.0) -> Taken:
        """``extra``: seconds for which the permit shall live beyond the budget's slack."""
        ...

    def settle(self, moves: Iterable[Move], *, report: Mapping[str, Any] | None = None) -> list[bool]: ...
    def release(
        self,
        entries: Sequence[Entry],
        delay: float,
        *,
        report: Mapping[str, Any] | None = None,
        strikes: int = 0,
        notes: Sequence[Outcome] = (),
    ) -> list[int]:
        """``notes``: an outcome an entry, for ``record``, of those that are really handed back."""
        ...

    def ring(self) -> None: ...
    def keep_bell(self) -> None: ...
    def quiet_bell(self) -> None: ...
    def hush_bell(self, seconds: float) -> None: ...


class Inlet(Protocol):
    """The ingest stream, as the web sees it. Raises Unavailable."""

    def first_stamps(self, seen: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
        """For each (key, stamp): the stamp that the key already has, or None where it is new."""
        ...

    def append(self, round_id: str, parts: Sequence[Part], deadline: float) -> Appended: ...


class Bed(Protocol):
    """The ingest stream, as what flows back into it sees it."""

    def of(self, server: str) -> tuple[Inlet, bool]:
        """The inlet of a server ('': home), and whether it is that one's: else the server is none of ours any more."""
        ...

    def is_deep(self, events: int) -> bool:
        """Do so many events wait for evaluation, or is the queue half full?"""
        ...

    def tell_flowed_back(self) -> None:
        """Nothing is spilled any more."""
        ...


class Spill(Protocol):
    """Where rounds go while the stream is away. Raises Unavailable."""

    def keep(self, round_id: str, events: int, data: bytes, *, sent: bool, deadline: float) -> None:
        """Committed when this returns. ``sent``: the round was sent to the stream, and may be in."""
        ...


class StoredRow(Protocol):
    """What an audit row that is already there says of itself."""

    @property
    def batch_id(self) -> str: ...
    @property
    def item(self) -> int: ...
    @property
    def handling(self) -> str: ...


class Transaction(Protocol):
    """One transaction of the store. Raises StoreDown, PoisonRow, AlreadyStored, NoRuleset."""

    def ruleset(self) -> Ruleset: ...
    def stored(self, keys: Sequence[Key]) -> Mapping[Key, StoredRow]: ...
    def alerts_of(self, keys: Sequence[Key]) -> Mapping[Key, Sequence[tuple[Alert, bool]]]:
        """The alerts that these events brought, each with: does it still wait?"""
        ...

    def lock_clear_keys(self, pairs: Iterable[tuple[str, str]]) -> None: ...
    def newest_open(self, hostname: str, clear_key: str, before: datetime) -> Alert | None: ...
    def clear_after(self, hostname: str, clear_key: str, after: datetime) -> tuple[Event, str] | None:
        """The first clear since then that was evaluated before its raise: the event and its correlation id."""
        ...

    def keep_clear(self, event: Event, correlation_id: str) -> None: ...
    def ended_by(self, clears: Sequence[UUID]) -> Mapping[UUID, Sequence[Alert]]:
        """The raises that wait and that these clears (alert ids) ended, the oldest first."""
        ...

    def write(
        self,
        rows: Sequence[Judged],
        ruleset_version: int,
        alerts: Sequence[Alert],
        cleared: Sequence[tuple[UUID, UUID]],
    ) -> Mapping[UUID, Sequence[Alert]]:
        """Audit rows, alerts, (raised, its clear) pairs and one line of the audit ledger.

        By clear: the raises that it ends and that wait; not named is one of whose raises Moog may have got one.
        """
        ...

    def draft(self, live: Ruleset) -> Draft | None:
        """The draft that runs beside ``live``; None: none does. Nothing that is wrong with it is raised."""
        ...

    def note_draft(self, draft: Draft, seen: Seen) -> None:
        """Count what the draft said, together with the rows. Where that fails, only the draft is stopped."""
        ...

    def stop_draft(self, draft: Draft, why: str) -> None: ...


class Store(Protocol):
    """PostgreSQL, as the pipeline sees it. Raises StoreDown."""

    def transaction(self) -> AbstractContextManager[Transaction]: ...
    def control_row(self) -> bool:
        """Does an ordinary row go in and out right now? Then a refused one is poison, not an outage."""
        ...

    def record(self, outcomes: Sequence[Outcome], holds: Sequence[Hold] = ()) -> None: ...


class Suspects(Protocol):
    """Which event of an entry was in work when its worker died."""

    def read(self, entry: Entry) -> list[int]: ...
    def note(self, entry: Entry, position: int) -> None: ...
    def withdraw(self, entry: Entry) -> None:
        """The worker lives; this never fails."""
        ...

    def pay(self) -> None:
        """Take back what could not be withdrawn."""
        ...

    def forget(self, entry: Entry) -> None: ...


class Answered(Protocol):
    """Moog's answer, judged (moog/outcome)."""

    @property
    def kind(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def moog_status(self) -> int | None: ...
    @property
    def text(self) -> str: ...
    @property
    def retry_after(self) -> float | None: ...
    @property
    def started_at(self) -> float | None: ...


class Moog(Protocol):
    """Moog, as the pipeline sees it: it says what came of a request, and never raises for it."""

    def send(self, alerts: Sequence[Alert], permit: Permit) -> Answered: ...
