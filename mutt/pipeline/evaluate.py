"""Evaluate: entries of the ingest stream become audit rows and alerts, in one transaction; then they are settled.

What is to be taken out of an event goes first: no rule, row, alert, letter or page after that has it.

The first committed verdict stands. Rows that are already there are read back, not evaluated again: those of the
same request and item are this entry's own (it was committed and not settled), any other is a duplicate.
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from mutt.alert import Alert
from mutt.entry import Entry, Kind, Move, Unhandled, lead_alert, raise_alert
from mutt.errors import AlreadyStored, MuttError, PoisonRow, StoreDown, UndecodableEntry
from mutt.event import Envelope, Event, uuid7
from mutt.pipeline.clears import Clears, alert_of, is_raise, leads_of, limits_of, those_waiting
from mutt.pipeline.ports import Key, Store, StoredRow, Suspects, Transaction
from mutt.pipeline.shadow import compare
from mutt.pipeline.work import (
    Item,
    Result,
    duplicates,
    fold,
    owner_of,
    park_entry,
    park_item,
    requeued,
)
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.noise import Limits
from mutt.rules.rule import UNHANDLED
from mutt.rules.template import template_of
from mutt.span import under

#: From this delivery on an entry is worked alone, event by event.
ALONE_FROM = 3

#: So many workers died while they worked this event alone: it is the event. (One may have died of anything.)
KILLS = 2

#: The position of what is in work while an entry is opened: the entry itself.
WHOLE = -1

#: Seconds in one event's evaluation that are none: it was in an endless loop when a time limit ended it.
LOOPS = 5.0

#: Why an event is parked on which MUTT itself fails.
EVALUATION_FAILED = "evaluation failed"

#: Why what ends its workers is parked.
KILLED = "killed its worker"

#: So many times one entry's events are halved to find those that PostgreSQL does not take now.
HALVINGS = 64

#: Other workers may commit rows of this take while it is under way; each such surprise costs one more try.
TRIES = 5


@dataclass(frozen=True)
class Policy:
    """The settings that evaluating needs."""

    alert_queue_max: int
    unhandled_threshold: int
    unhandled_window: float
    cancel_cleared: bool = True  #: a clear ends raises that Moog has not got: neither they nor it are sent


class Committed(NamedTuple):
    """What one transaction found and wrote."""

    known: Sequence[Item]  #: whose row stood already
    fresh: Sequence[Item]
    poison: Sequence[tuple[Item, str]]
    alerts: Sequence[tuple[Item, Alert]]
    standing: Mapping[Key, StoredRow]
    owners: Mapping[Key, Item | None]
    theirs: Mapping[Key, Sequence[tuple[Alert, bool]]]
    leads: Mapping[UUID, Sequence[Alert]]
    ends: Mapping[UUID, Sequence[Alert]]
    limits: Mapping[UUID, Limits]


class Evaluator:
    """``evaluate_entries`` with its collaborators: a store, the suspects, a policy and a clock.

    ``interrupts`` are exceptions that end a worker's work from outside (a time limit).
    """

    def __init__(
        self,
        store: Store,
        suspects: Suspects,
        policy: Policy,
        now: Callable[[], datetime],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        interrupts: tuple[type[Exception], ...] = (),
    ) -> None:
        self._store, self._suspects, self._policy, self._now = store, suspects, policy, now
        self._monotonic, self._interrupts = monotonic, interrupts

    def shares(self, entries: Sequence[Entry]) -> list[Sequence[Entry]]:
        """What is worked and settled by itself, in this order: the innocent together, then each suspect alone.

        Those that had a worker die on them come last: what goes before them is settled when they kill the next one.
        """
        self._suspects.pay()
        together = [entry for entry in entries if entry.attempts < ALONE_FROM]
        alone = [entry for entry in entries if entry.attempts >= ALONE_FROM]
        alone.sort(key=lambda entry: (len(self._suspects.read(entry)), entry.attempts))
        return [share for share in (together, *([entry] for entry in alone)) if share]

    def evaluate_entries(self, entries: Sequence[Entry]) -> list[Move]:
        """Commit what these entries hold, and say how to settle them. Raises StoreDown, NoRuleset: nothing is lost.

        An entry without a move is for a newer worker: it is handed back.
        """
        results = [Result(entry) for entry in entries]
        together = [result for result in results if result.entry.attempts < ALONE_FROM]
        items = [item for result in together for item in self._open(result)]
        again = any(result.entry.attempts > 1 for result in together)
        # Of several entries the caller tells apart which it is.
        self._work(fold(items), reread=again, apart=len(results) == 1 and len(items) > 1)
        for result in together:
            result.raise_if_stuck()
        for result in results:
            if result.entry.attempts >= ALONE_FROM:
                self._alone(result)
        return [self._move(result) for result in results if not result.left]

    def _alone(self, result: Result) -> None:
        """An entry that came back too often: event by event, with a note of the one in work."""
        entry = result.entry
        died_at = self._suspects.read(entry)
        if died_at.count(WHOLE) >= KILLS:
            why = self._killed(entry, "while they opened it")
            park_entry(result, KILLED, why)
            self._suspects.forget(entry)
            return
        try:
            self._suspects.note(entry, WHOLE)
            items = fold(self._open(result))
            for item in items:
                if died_at.count(item.position) >= KILLS and not self._stands(item):
                    park_item(item, KILLED, self._killed(entry, "on it"))
                    continue
                self._suspects.note(entry, item.position)
                self._work([item], reread=True, apart=len(items) > 1)
            result.raise_if_stuck()
            self._suspects.forget(entry)
        except Exception as error:
            # An outage of either server is no death. To be ended from outside, by a time limit, is one.
            if not isinstance(error, self._interrupts):
                self._suspects.withdraw(entry)
            raise

    def _killed(self, entry: Entry, where: str) -> str:
        """Why it is parked. Not where PostgreSQL is away: then nothing is as sure as that. Raises StoreDown."""
        if not self._store.control_row():
            raise StoreDown(f"workers died {where}, and an ordinary row is refused")
        return f"{KILLS} workers died {where}; delivery {entry.attempts}"

    def _stands(self, item: Item) -> bool:
        """Is its row there? Then its worker died after the commit, of whatever it was."""
        with self._store.transaction() as tx:
            return item.key in tx.stored([item.key])

    def _work(self, items: list[Item], *, reread: bool, apart: bool) -> None:
        """Commit these items together; halve them until the one that can't be written is alone.

        ``apart``: they are one entry's, and those that PostgreSQL does not take now are told from the others, if it
        takes an ordinary row.
        """
        if not items:
            return
        result = items[0].result
        try:
            why = self._fault(items, reread=reread)
        except StoreDown as error:
            if not (apart and error.sqlstate and self._store.control_row()):
                raise
            if len(items) == 1 or result.halved >= HALVINGS:
                found = result.stuck if len(items) == 1 else result.unsure
                found += [one for item in items for one in (item, *item.twins)]
                result.why_stuck = str(error), error.sqlstate
                return
            result.halved += 1
            why = "", ""
        if why is None:
            return
        if len(items) > 1:
            middle = len(items) // 2
            self._work(items[:middle], reread=reread, apart=apart)
            self._work(items[middle:], reread=reread, apart=apart)
        elif self._store.control_row():
            park_item(items[0], *why)
        else:
            raise StoreDown(f"a row was refused, and so was an ordinary one: {why[1]}")

    def _fault(self, items: list[Item], *, reread: bool) -> tuple[str, str] | None:
        """Commit these items together. What is wrong with at least one of them: a reason and a detail; or nothing."""
        try:
            done = self._commit_surely(items, reread=reread)
        except PoisonRow as error:
            return "refused by PostgreSQL", str(error)
        except Exception as error:
            if isinstance(error, (MuttError, *self._interrupts)):
                raise
            # MUTT's own error about one event: its neighbours don't pay for it. As text, for the error itself holds
            # on to what a large batch took of the memory.
            return EVALUATION_FAILED, traceback.format_exc(limit=-5)[-2000:]
        _note(done)
        return None

    def _commit_surely(self, items: list[Item], *, reread: bool) -> Committed:
        for _ in range(TRIES):
            try:
                return self._commit(items, reread=reread)
            except AlreadyStored:
                reread = True
        raise StoreDown(f"rows of this take were written by others {TRIES} times over")

    def _commit(self, items: list[Item], *, reread: bool) -> Committed:
        with self._store.transaction() as tx:
            ruleset = tx.ruleset()
            if ruleset.redactions:
                for item in items:
                    item.redact(ruleset.redactions)
            standing = tx.stored([item.key for item in items]) if reread else {}
            known = [item for item in items if item.key in standing] if standing else []
            new = [item for item in items if item.key not in standing] if standing else items
            fresh, poison = self._verdicts(new, ruleset)
            alerts, cleared = self._alerts(tx, ruleset, fresh)
            ends = tx.write(fresh, ruleset.version, [alert for _, alert in alerts], cleared)
            self._ask_draft(tx, ruleset, fresh)
            owners = {item.key: owner_of(item, standing[item.key]) for item in known}
            own = [key for key, owner in owners.items() if owner]
            theirs = tx.alerts_of(own) if own else {}
            leads = leads_of(tx, [*(alert for _, alert in alerts), *those_waiting(theirs)])
        back = [(item, alert) for item in known for alert, waits in theirs.get(item.key, ()) if waits]
        limits = limits_of(ruleset, [*alerts, *back], leads)
        return Committed(known, fresh, poison, alerts, standing, owners, theirs, leads, ends, limits)

    def _ask_draft(self, tx: Transaction, ruleset: Ruleset, fresh: list[Item]) -> None:
        """What the draft of the rules, if one runs, says of the same events. Its faults stop it, and nothing else."""
        draft = tx.draft(ruleset) if fresh else None
        if draft is None:
            return
        try:
            seen = compare(fresh, draft.ruleset, self._now().timestamp(), self._monotonic)
        except Exception as error:
            if isinstance(error, self._interrupts):
                raise
            tx.stop_draft(draft, traceback.format_exc(limit=-5)[-2000:])
        else:
            tx.note_draft(draft, seen)

    def _open(self, result: Result) -> list[Item]:
        """The events of an entry; one that can't be decoded is parked whole, or left to a newer worker for a while."""
        entry = result.entry
        try:
            envelope = entry.decode(Envelope)
        except UndecodableEntry as error:
            if entry.may_wait(error, self._now().timestamp()):
                result.left = True
                return []
            park_entry(result, "undecodable", str(error))
            return []
        except Exception as error:
            # Decoding is total; should it fail, this entry alone pays for it, once it is alone.
            if entry.attempts < ALONE_FROM or isinstance(error, (MemoryError, *self._interrupts)):
                raise
            park_entry(result, EVALUATION_FAILED, traceback.format_exc(limit=-5)[-2000:])
            return []
        result.correlation_ids = [segment.correlation_id for segment in envelope.segments]
        result.traces = {one.trace: one.correlation_id for one in envelope.segments if one.trace}
        positions = itertools.count()
        items = [
            Item(
                result, next(positions), event, segment.batch_id, segment.correlation_id, trace=segment.trace
            )
            for segment in envelope.segments
            for event in segment.events
        ]
        if result.traces:
            _go_on(items, entry)
        return items

    def _verdicts(self, items: list[Item], ruleset: Ruleset) -> tuple[list[Item], list[tuple[Item, str]]]:
        """Judge these items: those that are, and those on which MUTT failed, with its traceback."""
        fresh: list[Item] = []
        poison: list[tuple[Item, str]] = []
        for item in items:
            began = self._monotonic()
            try:
                item.verdict = evaluate(item.event, ruleset)
            except MemoryError:
                raise  # perhaps the batch's fault: it is halved
            except Exception as error:  # evaluate is total; should it fail, one event pays for it
                if isinstance(error, self._interrupts) and self._monotonic() - began < LOOPS:
                    raise  # the time was spent elsewhere
                poison.append((item, traceback.format_exc(limit=-5)[-2000:]))
            else:
                fresh.append(item)
        return fresh, poison

    @staticmethod
    def _alerts(
        tx: Transaction, ruleset: Ruleset, fresh: list[Item]
    ) -> tuple[list[tuple[Item, Alert]], list[tuple[UUID, UUID]]]:
        """The alerts of new rows, and which was cleared by which."""
        keyed = [item for item in fresh if item.event.clear_key]
        if not keyed:
            return [(item, alert_of(item, ruleset)) for item in fresh if is_raise(item)], []
        tx.lock_clear_keys((item.event.hostname, item.event.clear_key or "") for item in keyed)
        clears = Clears(tx, ruleset, keyed)
        in_time = sorted(fresh, key=lambda item: item.event.received_at)
        return [(item, alert) for item in in_time for alert in clears.alerts(item)], clears.cleared

    def _move(self, result: Result) -> Move:
        follow = [*result.letters]
        # Items stand in key order; alerts of one signature go to Moog in the order of their events.
        waiting = sorted((a for a, waits in result.alerts.values() if waits), key=lambda a: a.received_at)
        for alert in waiting:
            follow += [
                lead_alert(lead, self._policy.alert_queue_max, result.limits.get(lead.alert_id))
                for lead in result.leads.get(alert.alert_id, ())
                if lead.alert_id not in result.alerts
            ]
            ends = result.ends.get(alert.alert_id) if self._policy.cancel_cleared else None
            limits = result.limits.get(alert.alert_id)
            follow.append(raise_alert(alert, self._policy.alert_queue_max, limits, ends))
        again = [requeued(items) for items in (result.stuck, result.unsure) if items]
        follow += [append for append, _ in again]
        counts = {
            "events.queued": len(result.stuck) + len(result.unsure) - result.entry.n,
            "events.settled": result.settled,
            "events.duplicate": result.duplicate,
            "events.parked": result.parked,
            "alerts.raised": len(result.alerts),
            "alerts.waiting": len(result.alerts),
            "ingest.bytes": sum(size for _, size in again) - result.entry.size,
        }
        return Move(
            result.entry,
            counts,
            follow,
            self._unhandled(result),
            result.correlation_ids,
            result.traces,
        )

    def _unhandled(self, result: Result) -> Unhandled | None:
        policy, strangers, sourced = self._policy, result.strangers, result.sourced
        threshold, window = policy.unhandled_threshold, policy.unhandled_window
        if not strangers:
            return None
        return Unhandled(strangers, lambda kind: self._crossing(kind, sourced.get(kind)), threshold, window)

    def _crossing(self, kind: Kind, of: Event | None) -> Event:
        """What MUTT itself has to say when so many events of a kind came that no rule handles; one is ``of``."""
        (hostname, template), policy, now = kind, self._policy, self._now()
        return Event(
            event_id=uuid7(now.timestamp()),
            received_at=now,
            occurred_at=now,
            hostname=hostname,
            message=f"{policy.unhandled_threshold} events within {policy.unhandled_window / 3600:g} h "
            f"that no rule handles: {template}",
            source="mutt",
            template=template,
            default_team=of.default_team if of else None,
            environment=of.environment if of else None,
        )


def _go_on(items: Sequence[Item], entry: Entry) -> None:
    """What comes of traced events follows from their evaluation here."""
    for item in items:
        if item.trace:
            item.trace = under(item.trace, entry.id)


def _note(done: Committed) -> None:
    """It is committed: the results only say so, and none of this can fail."""
    for item in done.fresh:
        item.result.settled += 1
        if item.twins:
            duplicates(item, but=item)
        if item.verdict.handling == UNHANDLED:
            _note_stranger(item, item.verdict.template or "")
    for item, alert in done.alerts:
        item.result.alerts[alert.alert_id] = (alert, True)
        item.result.leads[alert.alert_id] = done.leads.get(alert.alert_id, ())
        if alert.alert_id in done.ends:
            item.result.ends[alert.alert_id] = done.ends[alert.alert_id]
        _note_limits(item, alert, done)
    for item in done.known:
        owner = done.owners[item.key]
        duplicates(item, but=owner)
        if owner:
            _read_back(owner, done.standing[item.key], done.theirs.get(item.key, ()), done)
    for item, why in done.poison:
        park_item(item, EVALUATION_FAILED, why)


def _note_stranger(item: Item, template: str) -> None:
    event, kind = item.event, (item.event.hostname, template)
    item.result.strangers[kind] += 1
    if event.default_team or event.environment:
        item.result.sourced[kind] = event


def _read_back(
    item: Item,
    row: StoredRow,
    alerts: Sequence[tuple[Alert, bool]],
    done: Committed,
) -> None:
    """This very item was committed and not settled: what stands counts, its alerts come from their rows."""
    item.result.settled += 1
    if row.handling == UNHANDLED:
        _note_stranger(item, template_of(item.event.message))
    for alert, waits in alerts:
        if item.trace:
            alert = msgspec.structs.replace(alert, trace=item.trace)
        item.result.alerts[alert.alert_id] = (alert, waits)
        item.result.leads[alert.alert_id] = done.leads.get(alert.alert_id, ())
        _note_limits(item, alert, done)


def _note_limits(item: Item, alert: Alert, done: Committed) -> None:
    for one in (alert, *done.leads.get(alert.alert_id, ())):
        if one.alert_id in done.limits:
            item.result.limits[one.alert_id] = done.limits[one.alert_id]
