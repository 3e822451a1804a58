"""Forward: one turn. Permission and alert in one take, a ring for the successor, POST, settle with the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from mutt import names
from mutt.alert import Alert, Outcome, Status
from mutt.budget.permit import Patience, Permit
from mutt.entry import (
    NEWER_REST,
    Entry,
    Move,
    Taken,
    deliver,
    flat,
    leave_lane,
    leave_unread,
    park,
    told_of,
)
from mutt.errors import UndecodableEntry
from mutt.pipeline.ports import Answered, Moog, Queue

#: A wait of up to this many seconds is slept through; a longer one ends the turn.
SLEEP_MOST = 1.0

#: The bell stays silent for at most this many seconds when a turn ends because it has to wait.
HUSH_MOST = 2.0

#: How often a turn asks again before it leaves the asking to its successor.
ASKS = 20

#: Failures that count against an alert (Moog took others in between) before it is parked.
STRIKES = 5

#: Seconds: full jitter over BACKOFF_BASE * 2 ** attempts, at most the claim timeout.
BACKOFF_BASE = 1.0

#: What an answer tells the breaker (budget/gate.lua). An answer that is neither good nor bad shows Moog alive.
REPORTS = {
    "delivered": "accepted",
    "retry": "failed",
    "auth": "trip",
    "config": "trip",
    "unsent": "unsent",
    "broken": "broken",
}

#: Seconds that everyone pauses after a 429 that does not say how long.
PAUSE = 1.0


#: Told of each request, where requests are traced: its alerts, its permit's token, its answer, the seconds it took.
Traced = Callable[[Sequence[Alert], str, Answered, float], None]

#: Told of each request: its answer, the seconds it took, and the ages of the alerts that it delivered.
Noted = Callable[[Answered, float, Sequence[float]], None]


@dataclass(frozen=True)
class Terms:
    """The settings that forwarding needs. Durations in seconds."""

    turn: int = 1
    batch: int = 1
    slack: float = 0.025  #: that a permit lives for
    slack_most: float = 0.025  #: and may be made to, where Redis is slow
    claim: float = 20.0


@dataclass
class Turn:
    """What a turn did; Celery shows it as the task's result."""

    requests: int = 0
    delivered: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    correlation_ids: list[str] = field(default_factory=list)  #: of the alerts that were in a request
    moog_status: int | None = None
    waited_s: float = 0.0
    #: Monotonic seconds: when each request really started.
    first_bytes: list[float] = field(default_factory=list)
    reason: str = ""


class Forwarder:
    """``forward_turn`` with its collaborators: the lanes, Moog, clocks, sleep and dice."""

    def __init__(
        self,
        lanes: Queue,
        moog: Moog,
        terms: Terms,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        dice: Callable[[], float],
        noted: Noted = lambda _answer, _took, _ages: None,
        traced: Traced | None = None,
    ) -> None:
        self._lanes, self._moog, self._terms, self._now = lanes, moog, terms, now
        self._monotonic, self._sleep, self._dice, self._noted = monotonic, sleep, dice, noted
        self._traced = traced
        self._patience = Patience(terms.slack, terms.slack_most)

    def forward_turn(self) -> Turn:
        """Send up to ``turn`` requests, each with its own permit, each starting again at the highest lane."""
        turn, rung = Turn(), False
        while turn.requests < self._terms.turn:
            permit, taken = self._take(turn)
            if not taken.entries:
                break
            entries = self._together(taken.entries)
            if (taken.left or len(entries) < len(taken.entries)) and not rung:
                # Before the POST: the next turn must not wait for this one's answer. And once: a doorbell that rang
                # for each request would bring ever more doorbells.
                self._lanes.ring()
                rung = True
            self._send(entries, permit, turn)
        return turn

    def _together(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those that go in one request: a suspect goes alone, or its neighbours would fail with it."""
        if len(entries) == 1 or not any(entry.suspect for entry in entries):
            return entries
        chosen = entries[:1] if entries[0].suspect else [entry for entry in entries if not entry.suspect]
        self._lanes.release([entry for entry in entries if entry not in chosen], 0.0)
        return chosen

    def _take(self, turn: Turn) -> tuple[Permit, Taken]:
        """Take the next alerts; sleep through short waits. Without entries the turn is over, ``reason`` says why."""
        for _ in range(ASKS):
            permit, taken = self._ask(self._terms.batch)
            if taken.entries:
                turn.reason = ""
                return permit, taken
            if not taken.wait:
                return self._look_again(turn)
            turn.reason = taken.reason
            if taken.wait > SLEEP_MOST:
                self._lanes.hush_bell(min(taken.wait, HUSH_MOST))
                return permit, taken
            self._lanes.keep_bell()
            self._sleep(taken.wait)
            turn.waited_s += taken.wait
        self._lanes.ring()
        return permit, Taken([])

    def _look_again(self, turn: Turn) -> tuple[Permit, Taken]:
        # Between an empty read and a silent bell an append may have come and not rung: so look once more.
        self._lanes.quiet_bell()
        permit, taken = self._ask(self._terms.batch, tidy=True)
        if taken.wait:
            self._lanes.ring()
        turn.reason = "" if taken.entries else taken.reason or "empty"
        return permit, taken

    def _ask(self, want: int, *, held: Sequence[Entry] = (), tidy: bool = False) -> tuple[Permit, Taken]:
        """Take; the permit's life counts from before the budget was asked."""
        before, (life, extra) = self._monotonic(), self._patience.now()
        taken = self._lanes.take(want, held=held, tidy=tidy, extra=extra)
        return Permit(taken.token, taken.generation, before + life), taken

    def _send(self, entries: Sequence[Entry], permit: Permit, turn: Turn) -> None:
        opened = [(entry, self._alert(entry, turn)) for entry in entries]
        pairs = [(entry, alert) for entry, alert in opened if alert is not None]
        if not pairs:
            self._lanes.settle([], report=_report("unsent", permit))
            return
        turn.requests += 1
        turn.correlation_ids += [alert.correlation_id for _, alert in pairs]
        began = self._monotonic()
        answer = self._moog.send([told_of(entry, alert) for entry, alert in pairs], permit)
        took = self._monotonic() - began
        self._note(answer, took, [alert for _, alert in pairs])
        if self._traced is not None:
            self._traced([alert for _, alert in pairs], permit.token, answer, took)
        if answer.started_at is not None:
            self._patience.used()
            turn.first_bytes.append(round(answer.started_at, 6))
        elif answer.reason == "expired":
            self._patience.ran_out(self._monotonic())
        turn.moog_status, turn.reason = answer.moog_status, answer.reason
        if answer.kind == "delivered":
            self._finish(pairs, answer, permit, turn, Status.DELIVERED)
        elif answer.kind in ("refused", "too_large"):
            self._refused(pairs, answer, permit, turn)
        elif answer.kind == "broken" and len(pairs) > 1:
            # MUTT itself failed on one of these: each goes alone next, so that its neighbours don't pay.
            entries = [entry for entry, _ in pairs]
            self._lanes.release(
                entries, 0.0, report=_report("alone", permit), notes=self._notes(pairs, answer)
            )
            self._lanes.settle([], report=_report("broken", permit, answer))
            turn.returned += [str(alert.alert_id) for _, alert in pairs]
        else:
            self._hand_back(pairs, answer, permit, turn)

    def _note(self, answer: Answered, took: float, alerts: Sequence[Alert]) -> None:
        now = self._now()
        delivered = alerts if answer.kind == "delivered" else ()
        self._noted(answer, took, [(now - alert.received_at).total_seconds() for alert in delivered])

    def _alert(self, entry: Entry, turn: Turn) -> Alert | None:
        """The alert of an entry; one that can't be decoded is parked, and the next of its signature comes in."""
        try:
            return entry.decode(Alert)
        except UndecodableEntry as error:
            if entry.may_wait(error, self._now().timestamp()):
                self._lanes.release([entry], NEWER_REST)
                turn.returned.append(entry.fields.get(b"id", b"").decode(errors="replace"))
                turn.reason = "newer"
                return None
            why = {"reason": "undecodable", "detail": str(error)}
            counts = {"alerts.waiting": -1, "alerts.parked": 1}
            follow = [*leave_unread(entry), park(names.DLQ_MOOG, entry, flat(entry.fields), why)]
            if self._lanes.settle([Move(entry, counts, follow)])[0]:
                turn.parked.append(entry.fields.get(b"id", b"").decode(errors="replace"))
            return None

    def _finish(
        self,
        pairs: Sequence[tuple[Entry, Alert]],
        answer: Answered,
        permit: Permit,
        turn: Turn,
        status: Status,
    ) -> None:
        moves = [self._move(entry, alert, answer, status) for entry, alert in pairs]
        kind = REPORTS.get(answer.kind, "alive")
        settled = self._lanes.settle(moves, report=_report(kind, permit, answer))
        ids = turn.delivered if status is Status.DELIVERED else turn.parked
        ids += [str(alert.alert_id) for (_, alert), ours in zip(pairs, settled, strict=True) if ours]

    def _outcome(self, entry: Entry, alert: Alert, answer: Answered, status: Status) -> Outcome:
        return Outcome(
            alert=alert,
            status=status,
            attempts=entry.requests + 1,
            at=self._now(),
            moog_status=answer.moog_status,
            moog_answer=answer.text,
            reason=answer.reason,
            kind=str(answer.kind),
        )

    def _notes(self, pairs: Sequence[tuple[Entry, Alert]], answer: Answered) -> list[Outcome]:
        """What is noted of a request whose alerts wait on; nothing where none was made."""
        if answer.kind == "unsent":
            return []
        return [self._outcome(entry, alert, answer, Status.WAITING) for entry, alert in pairs]

    def _move(self, entry: Entry, alert: Alert, answer: Answered, status: Status) -> Move:
        outcome = self._outcome(entry, alert, answer, status)
        follow = [leave_lane(alert), deliver(outcome)]
        if status is Status.PARKED:
            why = {
                "reason": str(answer.reason),
                "detail": answer.text,
                "moog_status": answer.moog_status,
                "requests": outcome.attempts,
            }
            follow.append(park(names.DLQ_MOOG, entry, flat(entry.fields), why))
        return Move(entry, {"alerts.waiting": -1, f"alerts.{status}": 1}, follow)

    def _refused(
        self, pairs: Sequence[tuple[Entry, Alert]], answer: Answered, permit: Permit, turn: Turn
    ) -> None:
        """Moog refuses this request: park the one alert, or halve the batch; each half needs a permit of its own."""
        if len(pairs) == 1:
            self._finish(pairs, answer, permit, turn, Status.PARKED)
            return
        self._lanes.settle([], report=_report("alive", permit, answer))
        middle = len(pairs) // 2
        for half in (pairs[:middle], pairs[middle:]):
            held = [entry for entry, _ in half]
            permit, taken = self._permit_for(held)
            if taken.entries:
                self._send(taken.entries, permit, turn)
            else:
                # Each alone then: the same batch would only be refused again.
                self._lanes.release(held, 0.0, report=_report("alone", permit))

    def _permit_for(self, held: Sequence[Entry]) -> tuple[Permit, Taken]:
        for _ in range(ASKS):
            permit, taken = self._ask(len(held), held=held)
            if taken.entries or not taken.wait or taken.wait > SLEEP_MOST:
                break
            self._sleep(taken.wait)
        return permit, taken

    def _hand_back(
        self, pairs: Sequence[tuple[Entry, Alert]], answer: Answered, permit: Permit, turn: Turn
    ) -> None:
        """The same again later; parked only if it keeps failing, at Moog or in MUTT, while Moog takes others."""
        entries = [entry for entry, _ in pairs]
        kind = REPORTS.get(answer.kind, "alive")
        delay = 0.0
        # Also after a 429: everyone pauses, and then others go first, or one that is always throttled keeps them out.
        if kind in ("failed", "broken") or answer.kind == "throttled":
            most = min(
                self._terms.claim, BACKOFF_BASE * 2 ** min(10, max(entry.requests for entry in entries))
            )
            delay = most * self._dice()
        notes = self._notes(pairs, answer)
        strikes = self._lanes.release(
            entries, delay, report=_report(kind, permit, answer), strikes=STRIKES, notes=notes
        )
        struck = [pair for pair, count in zip(pairs, strikes, strict=True) if count >= STRIKES]
        if struck:
            moves = [self._move(entry, alert, answer, Status.PARKED) for entry, alert in struck]
            settled = self._lanes.settle(moves)
            turn.parked += [
                str(alert.alert_id) for (_, alert), ours in zip(struck, settled, strict=True) if ours
            ]
        turn.returned += [str(alert.alert_id) for pair in pairs if pair not in struck for alert in pair[1:]]


def _report(kind: str, permit: Permit, answer: Answered | None = None) -> dict[str, object]:
    pause = 0.0
    if answer is not None:
        pause = answer.retry_after or (PAUSE if answer.kind == "throttled" else 0.0)
    # Of what MUTT failed on, nobody but the answer knows whether it was sent: then the grant is used.
    used = kind == "broken" and answer is not None and answer.started_at is not None
    return {
        "kind": kind,
        "token": "" if used else permit.token,
        "generation": permit.generation,
        "reason": str(answer.reason) if answer else "",
        "pause_us": round(pause * 1e6),
    }


def result_of(turn: Turn) -> dict[str, object]:
    """A turn as Celery's result: empty parts left out."""
    return {
        name: value for name, value in msgspec.to_builtins(turn).items() if value not in ([], None, "", 0.0)
    }
