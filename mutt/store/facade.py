"""The store as the pipeline sees it: one transaction at a time, errors translated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mutt.alert import Alert, Hold, Outcome, Status
from mutt.errors import MuttError, NoRuleset, StoreDown
from mutt.event import Event
from mutt.rules.evaluate import Judged, Ruleset
from mutt.rules.noise import FLAPPING
from mutt.rules.shadow import Draft, Seen
from mutt.store import alerts, audit
from mutt.store.audit import Key, Stored
from mutt.store.engine import fault, transaction
from mutt.store.rulebook import Rulebook
from mutt.store.shadowbook import ShadowBook


def _may_be_unsent(status: Status, reason: str) -> bool:
    """Has Moog not heard of such a raise, or perhaps not? What was parked may have reached it.

    Of a signature that flapped Moog may show an earlier raise, whose clear was held: the next clear ends that, too.
    """
    return status is Status.WAITING or (status is Status.CANCELLED and reason != FLAPPING)


class Evaluation:
    """One transaction of evaluate, on one connection. Without a ``shadowbook`` no draft is asked."""

    def __init__(self, conn: Connection, rulebook: Rulebook, shadowbook: ShadowBook | None = None) -> None:
        self._conn, self._rulebook, self._shadowbook = conn, rulebook, shadowbook

    def ruleset(self) -> Ruleset:
        """Raises NoRuleset for whatever is wrong with the rules: no event is at fault for it."""
        try:
            return self._rulebook.current(self._conn)
        except DBAPIError as error:
            if isinstance(fault(error), StoreDown):
                raise
            raise NoRuleset(f"the rules can't be read: {fault(error)}") from error
        except Exception as error:
            # Else it would look like an error of each event in turn.
            if isinstance(error, MuttError | SQLAlchemyError):
                raise
            raise NoRuleset(f"the rules can't be read: {error!r}") from error

    def stored(self, keys: Sequence[Key]) -> Mapping[Key, Stored]:
        return audit.stored(self._conn, keys)

    def alerts_of(self, keys: Sequence[Key]) -> Mapping[Key, list[tuple[Alert, bool]]]:
        found = alerts.by_events(self._conn, keys)
        return {
            key: [(alert, status is Status.WAITING) for alert, status in ours] for key, ours in found.items()
        }

    def lock_clear_keys(self, pairs: Iterable[tuple[str, str]]) -> None:
        alerts.lock_clear_keys(self._conn, pairs)

    def newest_open(self, hostname: str, clear_key: str, before: datetime) -> Alert | None:
        return alerts.newest_open(self._conn, hostname, clear_key, before)

    def clear_after(self, hostname: str, clear_key: str, after: datetime) -> tuple[Event, str] | None:
        return alerts.clear_after(self._conn, hostname, clear_key, after)

    def ended_by(self, clears: Sequence[UUID]) -> Mapping[UUID, list[Alert]]:
        return alerts.ended_by(self._conn, clears)

    def keep_clear(self, event: Event, correlation_id: str) -> None:
        alerts.keep_clear(self._conn, event, correlation_id)

    def write(
        self,
        rows: Sequence[Judged],
        ruleset_version: int,
        new: Sequence[Alert],
        cleared: Sequence[tuple[UUID, UUID]],
    ) -> Mapping[UUID, Sequence[Alert]]:
        """Audit rows (in the order given), alerts, which clear ended which, and the ledger's line.

        By clear: the raises that it ends and that wait; not named is one of whose raises Moog may have got one.
        """
        if not rows:
            return {}
        audit.copy_judged(self._conn, rows, ruleset_version)
        alerts.insert(self._conn, new)
        unsent: dict[UUID, list[Alert]] = {}
        for raised, by in cleared:
            ended = alerts.mark_cleared(self._conn, raised, by)
            if all(_may_be_unsent(status, reason) for _, status, reason in ended):
                unsent[by] = [alert for alert, status, _ in ended if status is Status.WAITING]
        audit.write_ledger(self._conn, len(rows), len(new))
        return unsent

    def draft(self, live: Ruleset) -> Draft | None:
        return self._shadowbook.draft(self._conn, live) if self._shadowbook else None

    def note_draft(self, draft: Draft, seen: Seen) -> None:
        if self._shadowbook:
            self._shadowbook.note(self._conn, draft, seen)

    def stop_draft(self, draft: Draft, why: str) -> None:
        if self._shadowbook:
            self._shadowbook.stop(draft.shadow_id, why)


class AuditStore:
    """PostgreSQL behind the pipeline. Raises StoreDown, PoisonRow, AlreadyStored, NoRuleset."""

    def __init__(self, engine: Engine, rulebook: Rulebook, shadowbook: ShadowBook | None = None) -> None:
        self.engine, self._rulebook, self._shadowbook = engine, rulebook, shadowbook

    @contextmanager
    def transaction(self) -> Iterator[Evaluation]:
        with transaction(self.engine) as conn:
            yield Evaluation(conn, self._rulebook, self._shadowbook)

    def control_row(self) -> bool:
        return audit.control_row(self.engine)

    def record(self, outcomes: Sequence[Outcome], holds: Sequence[Hold] = ()) -> None:
        # Apart: each locks rows in the sweep's order.
        if outcomes:
            with transaction(self.engine) as conn:
                alerts.record(conn, outcomes)
        if holds:
            with transaction(self.engine) as conn:
                alerts.record_held(conn, holds)

    def release_flapping(self, alert_id: UUID) -> tuple[bool, Alert | None]:
        """Have this alert wait again: may it (else its being held is not written yet), and what is to be placed."""
        with transaction(self.engine) as conn:
            return alerts.release_one(conn, FLAPPING, alert_id)

    @contextmanager
    def waiting(
        self, lanes: Mapping[str, datetime | None], after: tuple[datetime, UUID] | None, limit: int
    ) -> Iterator[Sequence[Alert]]:
        """A page of waiting rows, oldest first, locked until the block ends."""
        with transaction(self.engine) as conn:
            yield alerts.lock_waiting(conn, lanes, limit, after=after)
