"""Shadow: a draft of the rules beside those in force. What it changes, and in what its verdicts differ.

A draft is a list of changes to single rules, on top of whatever is in force: so it stays what its author meant while
others change other rules. The ids of its new rules are reserved when it begins. So the ruleset that judges in the
shadow is, rule for rule, the one that stands once it is promoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from mutt.event import Event
from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import Rule, Verdict

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


class DraftChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a draft does to one rule."""

    rule_id: int
    before: Rule | None = None  #: as it stood when the draft began; None: it is new
    after: Rule | None = None  #: None: it is deleted

    @property
    def what(self) -> str:
        return "new" if self.before is None else "deleted" if self.after is None else "changed"

    @property
    def name(self) -> str:
        rule = self.after or self.before
        return rule.name if rule else f"rule {self.rule_id}"


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


def drafted(rules: Iterable[Rule], changes: Iterable[DraftChange]) -> list[Rule]:
    """The rules as they would be: the draft has its way with those that it changes, the others stand."""
    standing = {rule.id: rule for rule in rules}
    for change in changes:
        if change.after is None:
            standing.pop(change.rule_id, None)
        else:
            standing[change.rule_id] = change.after
    return list(standing.values())


def overtaken(rules: Iterable[Rule], changes: Iterable[DraftChange]) -> list[DraftChange]:
    """The changes whose rule is not any more what it was when the draft began."""
    standing = {rule.id: rule for rule in rules}
    return [change for change in changes if standing.get(change.rule_id) != change.before]


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
