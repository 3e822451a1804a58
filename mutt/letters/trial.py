"""Trial: what the present rules and PostgreSQL would make of events, by the code of the workers, with nothing written.

The evaluator runs on a store whose transactions are rolled back, and what it says is not settled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import orjson
from sqlalchemy import Connection, Engine, text

from mutt import codec
from mutt.alert import Alert
from mutt.entry import Entry, Move
from mutt.event import Envelope, Event, Segment
from mutt.pipeline.evaluate import Evaluator, Policy
from mutt.rules.evaluate import Judged
from mutt.services import utcnow
from mutt.store import audit
from mutt.store.engine import transaction
from mutt.store.facade import Evaluation
from mutt.store.rulebook import Rulebook

#: Seconds that one statement of a trial may take: somebody waits for it.
PATIENCE = 5


class Trial(msgspec.Struct, kw_only=True):
    """What would become of one letter now. Nothing was written."""

    outcome: str  #: audited, duplicate, parked or refused
    why: str = ""  #: of the verdict: which rule, or that none; empty: the rules were not asked
    fault: str = ""  #: why it would be parked or refused
    rule_id: int | None = None
    handling: str = ""
    environment: str = ""
    team: str | None = None
    ruleset_version: int = 0
    alerts: list[Alert] = []  #: that Moog would be told of
    note: str = ""  #: what this trial could not tell


class _Undo(Exception):
    """The end of a trial's transaction."""


class _Tried(Evaluation):
    """One transaction of a trial: it does all that a worker's does, and remembers what it was asked to write."""

    def __init__(self, conn: Connection, rulebook: Rulebook, store: TrialStore) -> None:
        super().__init__(conn, rulebook)
        self._store = store

    def write(
        self,
        rows: Sequence[Judged],
        ruleset_version: int,
        new: Sequence[Alert],
        cleared: Sequence[tuple[UUID, UUID]],
    ) -> Mapping[UUID, Sequence[Alert]]:
        if rows:
            self._store.rows, self._store.alerts, self._store.version = list(rows), list(new), ruleset_version
        return super().write(rows, ruleset_version, new, cleared)


class TrialStore:
    """PostgreSQL behind an evaluator, rolled back each time. As :class:`mutt.pipeline.ports.Store`."""

    def __init__(self, engine: Engine, rulebook: Rulebook) -> None:
        self._engine, self._rulebook = engine, rulebook
        self.rows: list[Judged] = []
        self.alerts: list[Alert] = []
        self.version = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Evaluation]:
        with contextlib.suppress(_Undo), transaction(self._engine) as conn:
            conn.execute(text(f"SET LOCAL statement_timeout = '{PATIENCE}s'"))
            yield _Tried(conn, self._rulebook, self)
            raise _Undo

    def control_row(self) -> bool:
        return audit.control_row(self._engine)

    def record(self, _outcomes: Sequence[object], _holds: Sequence[object] = ()) -> None:
        raise NotImplementedError("a trial records nothing")


class _NoSuspects:
    """A first delivery has none."""

    def read(self, _entry: Entry) -> list[int]:
        return []

    def note(self, _entry: Entry, _position: int) -> None:
        """Nothing is noted."""

    def withdraw(self, _entry: Entry) -> None:
        """Nothing was noted."""

    def pay(self) -> None:
        """Nothing is owed."""

    def forget(self, _entry: Entry) -> None:
        """Nothing was noted."""


def try_entry(entry: Entry, engine: Engine, rulebook: Rulebook, policy: Policy) -> Trial:
    """What a worker would make of this entry now. Raises StoreDown, NoRuleset."""
    store = TrialStore(engine, rulebook)
    (move,) = Evaluator(store, _NoSuspects(), policy, utcnow).evaluate_entries([entry])
    return _trial(move, store)


def try_event(event: Event, engine: Engine, rulebook: Rulebook, policy: Policy) -> Trial:
    """What a worker would make of this event now. Raises StoreDown, NoRuleset."""
    fields, _ = codec.encode(Envelope([Segment("trial", "trial", [event])]))
    # An entry's fields come from Redis as bytes.
    told = [one if isinstance(one, bytes) else str(one).encode() for one in fields]
    return try_entry(Entry("", _id(event.received_at), 1, codec.pairs(told)), engine, rulebook, policy)


def _id(at: datetime) -> str:
    return f"{round(at.timestamp() * 1000)}-0"


def _trial(move: Move, store: TrialStore) -> Trial:
    trial = Trial(outcome="audited", ruleset_version=store.version)
    if store.rows:
        verdict = store.rows[0].verdict
        trial.why, trial.rule_id, trial.handling = verdict.why, verdict.rule_id, verdict.handling
        trial.environment, trial.team = verdict.environment, verdict.team
    if move.counts["events.parked"]:
        trial.outcome = "parked"
        letter = next(follow for follow in move.follow if "why" in follow.get("fields", ()))
        told = orjson.loads(letter["fields"][-1])
        trial.fault = f"{told['reason']}: {told['detail']}"
    elif move.counts["events.duplicate"]:
        trial.outcome, trial.alerts = "duplicate", []
        trial.note = "The audit has a row of this event already: it would count as a duplicate."
    else:
        trial.alerts = store.alerts
    return trial


#: What is said of an outcome.
OUTCOMES = {
    "audited": "PostgreSQL takes its row",
    "duplicate": "a duplicate: the audit has its row already",
    "parked": "it would be parked again",
    "refused": "ingest refuses it",
}


def told(trial: Trial) -> list[tuple[str, str]]:
    """A trial for people: labels and texts."""
    lines = [("outcome", OUTCOMES[trial.outcome]), ("fault", trial.fault), ("why", trial.why)]
    if trial.handling:
        handled = f"{trial.handling} in {trial.environment}, team {trial.team or 'none'}"
        lines.append(("handling", f"{handled} (rules version {trial.ruleset_version})"))
    for alert in trial.alerts:
        what = "ends a fault" if alert.severity == 0 else f"severity {alert.severity}"
        lines.append(
            ("alert", f"{what}, lane {alert.lane}, signature {alert.signature}: {alert.description}")
        )
    if trial.outcome == "audited" and trial.handling and not trial.alerts:
        lines.append(("alert", "none: Moog is not told"))
    lines.append(("mind", trial.note))
    return [(label, text) for label, text in lines if text]
