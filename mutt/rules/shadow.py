"""Shadow: a draft of the rules beside those in force. What it changes, and in what its verdicts differ.

A draft is a list of changes to single rows (rules, and what else makes a ruleset), on top of whatever is in force: so
it stays what its author meant while others change other rows. The ids of its new rules are reserved when it begins. So
the ruleset that judges in the shadow is, row for row, the one that stands once it is promoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from mutt.event import Event
from mutt.rules.book import Book
from mutt.rules.change import HOSTS, REDACTIONS, RULES, STORMS, TEAMS, Change, Fields
from mutt.rules.evaluate import Ruleset
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule, StormPolicy, Verdict

#: Of a verdict, what the rule is to do with the event; which rule it was is another question.
_HANDLED = ("handling", "team", "moog_severity", "held")


class Status(StrEnum):
    """What became of a shadow."""

    RUNNING = "running"
    STOPPED = "stopped"  #: its time was up, or it could not go on; it can still be promoted
    PROMOTED = "promoted"
    DROPPED = "dropped"


class Kind(StrEnum):
    """How the draft's verdict stands to the one in force."""

    NEWLY_ALERTS = "newly_alerts"
    NO_LONGER_ALERTS = "no_longer_alerts"
    OTHER_HANDLING = "other_handling"  #: handling, team or severity
    OTHER_RULE = "other_rule"  #: to the same effect
    SAME = "same"
    SKIPPED = "skipped"  #: the draft was not asked

    @property
    def differs(self) -> bool:
        return self not in (Kind.SAME, Kind.SKIPPED)


class Draft(NamedTuple):
    """A draft that runs, as a worker has it."""

    shadow_id: int
    ruleset: Ruleset | None  #: None: it is not compiled yet for the version in force


class Difference(NamedTuple):
    """An event on which the two don't agree."""

    kind: Kind
    event: Event
    live: Verdict
    draft: Verdict


class Seen(NamedTuple):
    """What a draft said of some events."""

    counts: Mapping[tuple[datetime, Kind], int]  #: by the hour in which they were received
    differences: list[Difference]


def drafted(book: Book, changes: Iterable[Change]) -> Book:
    """What would make the ruleset: the draft has its way with the rows that it changes, the others stand."""
    rows = _rows(book)
    for change in changes:
        if change.after is None:
            rows[change.table].pop(change.record_id, None)
        else:
            rows[change.table][change.record_id] = _row(change, change.after)
    return Book(
        rules=list(rows[RULES].values()),
        hosts=list(rows[HOSTS].values()),
        teams=rows[TEAMS],
        storms=list(rows[STORMS].values()),
        redactions=list(rows[REDACTIONS].values()),
    )


def overtaken(book: Book, changes: Iterable[Change]) -> list[Change]:
    """The changes whose row is not any more what it was when the draft began."""
    rows = _rows(book)
    return [
        change
        for change in changes
        if rows[change.table].get(change.record_id) != (change.before and _row(change, change.before))
    ]


def called(change: Change) -> str:
    """What people call the row of a change."""
    return f"{change.noun} {change.record_id}" + (
        "" if change.name == change.record_id else f" “{change.name}”"
    )


def _rows(book: Book) -> dict[str, dict[str, Any]]:
    """What stands, by table and the row's name there."""
    return {
        RULES: {str(rule.id): rule for rule in book.rules or ()},
        HOSTS: {host: host for host in book.hosts or ()},
        TEAMS: dict(book.teams or {}),
        STORMS: {str(policy.id): policy for policy in book.storms or ()},
        REDACTIONS: {str(one.id): one for one in book.redactions or ()},
    }


def _row(change: Change, fields: Fields) -> Any:
    if change.table == HOSTS:
        return fields["hostname"]
    if change.table == TEAMS:
        return fields["team_assignment"]
    kind = {RULES: Rule, STORMS: StormPolicy, REDACTIONS: Redaction}[change.table]
    return msgspec.convert({**fields, "id": int(change.record_id)}, kind)


def kind_of(live: Verdict, draft: Verdict) -> Kind:
    """How they differ: by what matters most."""
    if live == draft:
        return Kind.SAME
    if _alerts(live) != _alerts(draft):
        return Kind.NEWLY_ALERTS if _alerts(draft) else Kind.NO_LONGER_ALERTS
    if any(getattr(live, name) != getattr(draft, name) for name in _HANDLED):
        return Kind.OTHER_HANDLING
    return Kind.SAME if live.rule_id == draft.rule_id else Kind.OTHER_RULE


def _alerts(verdict: Verdict) -> bool:
    return verdict.forward and not verdict.held


def hour_of(event: Event) -> datetime:
    """The hour in which it was received."""
    return event.received_at.replace(minute=0, second=0, microsecond=0)
