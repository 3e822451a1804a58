"""Noise: what is owed after a while: the summaries of storms, and the last word of a signature that flapped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from mutt.alert import Alert
from mutt.event import Event, uuid7
from mutt.rules.noise import StormState

#: What is worked at a time.
BATCH = 100

#: A storm that goes on is told of once a window, and not more often than this (ms).
TELL_EVERY = 10_000

#: What can't be done yet is looked at again after so many ms.
LATER = 1_000

#: Members of a storm that a summary names.
NAMED = 5

#: syslog's severity that makes Moog's (0 to 5).
SYSLOG = {5: 1, 4: 2, 3: 3, 2: 4, 1: 6, 0: 6}

SEVERITY_WORDS = ("clear", "indeterminate", "warning", "minor", "major", "critical")


class Owed(Protocol):
    """What is due, and what of it is done."""

    def due(self, now_ms: int, limit: int) -> Sequence[str]: ...
    def later(self, member: str, at_ms: int) -> None: ...
    def forget(self, member: str) -> None: ...
    def storm(self, key: str) -> StormState | None: ...
    def tell(self, storm: StormState, event: Event | None, *, over: bool, next_ms: int) -> bool: ...
    def rest(self, sig: str, now_ms: int) -> UUID | None: ...
    def rested(self, sig: str, alert_id: UUID) -> None: ...


class Rows(Protocol):
    def release_flapping(self, alert_id: UUID) -> tuple[bool, Alert | None]:
        """Have this alert wait again: may it (else its being held is not written yet), and what is to be placed."""
        ...


def work_due(
    owed: Owed, rows: Rows, place: Callable[[Sequence[Alert]], int], now: datetime
) -> dict[str, int]:
    """Work what is due: how many summaries were told, and how many last words sent. Safe to repeat and to break off."""
    did = Counter[str]()
    now_ms = round(now.timestamp() * 1000)
    for member in owed.due(now_ms, BATCH):
        kind, _, key = member.partition(":")
        if kind == "storm":
            did["storms"] += _storm(owed, member, key, now)
        elif kind == "flap":
            did["rested"] += _rest(owed, rows, place, key, now_ms)
        else:
            owed.forget(member)
    return {name: n for name, n in did.items() if n}


def _storm(owed: Owed, member: str, key: str, now: datetime) -> int:
    storm = owed.storm(key)
    if storm is None:
        owed.forget(member)
        return 0
    now_ms = round(now.timestamp() * 1000)
    over = now_ms - storm.touched_ms >= storm.window_ms and storm.told > 0
    event = summary(storm, now, over=over) if over or storm.count > storm.told else None
    told = owed.tell(storm, event, over=over, next_ms=now_ms + max(TELL_EVERY, storm.window_ms))
    return int(told and event is not None)


def _rest(owed: Owed, rows: Rows, place: Callable[[Sequence[Alert]], int], sig: str, now_ms: int) -> int:
    alert_id = owed.rest(sig, now_ms)
    if alert_id is None:
        return 0
    may, alert = rows.release_flapping(alert_id)
    if not may:
        owed.later(f"flap:{sig}", now_ms + LATER)
        return 0
    if alert is not None:
        place([alert])
    owed.rested(sig, alert_id)
    return int(alert is not None)


def summary(storm: StormState, now: datetime, *, over: bool) -> Event:
    """MUTT's own event about a storm. All of one storm have one signature: it is named by its beginning."""
    of = storm.value if storm.group_by == "host" else f"{storm.group_by}:{storm.value}"
    return Event(
        event_id=uuid7(now.timestamp()),
        received_at=now,
        occurred_at=now,
        hostname=of[:255],
        message=_says(storm, over),
        severity=SYSLOG[storm.worst],
        source="mutt",
        program="storm",
        instance=f"{storm.begun:%Y-%m-%dT%H:%M:%S.%f}Z",
        template=f"storm-{storm.policy}",
        team=storm.team or None,
    )


def _says(storm: StormState, over: bool) -> str:
    named = ", ".join(f"{host} {rule} ({n})" for host, rule, n in storm.members[:NAMED])
    rest = storm.count - sum(n for _, _, n in storm.members[:NAMED])
    others = f", others ({rest})" if rest > 0 else ""
    alerts = "1 alert" if storm.count == 1 else f"{storm.count} alerts"
    return (
        f"{'Storm is over' if over else 'Storm'}: {storm.name}, {storm.group_by} {storm.value}: "
        f"{alerts} held from {storm.first:%Y-%m-%d %H:%M:%S} to {storm.last:%H:%M:%S} UTC, "
        f"the worst {SEVERITY_WORDS[storm.worst]}; most of them: {named}{others}"
    )
