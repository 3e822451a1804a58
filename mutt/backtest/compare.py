"""Stored events, judged by what stands and by the draft: what each would become."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from typing import NamedTuple

from mutt.event import Event
from mutt.rules.evaluate import MOOG_SEVERITY, SEVERITY_OF_HANDLING, Ruleset, evaluate, unhandled
from mutt.rules.hosts import HostPatterns
from mutt.rules.rule import META, Handling, Verdict
from mutt.store.past import Rows

#: What an alert is made of.
FORWARDED = frozenset([META, *(handling.value for handling in Handling if handling.forwards)])

_CLEARS = '"state":"clear"'


class Kind(NamedTuple):
    """What distinguishes one decision from another."""

    rule_id: int | None
    handling: str
    team: str
    severity: int | None  #: Moog's, where it is forwarded and known


class Judged(NamedTuple):
    """One event as it is decided without the draft and with it."""

    row: int  #: its index
    event: Event
    old: Verdict
    new: Verdict


class Judge:
    """Judges rows by both rulesets. With ``then`` the old verdict is the stored one, else what ``base`` makes of it."""

    def __init__(self, base: Ruleset, draft: Ruleset, *, then: bool = False) -> None:
        self.base, self.draft, self.then = base, draft, then

    def judged(self, rows: Rows, touched: set[int]) -> Iterable[Judged]:
        """The rows that are ``touched``, and of the others those that raise or clear an alert."""
        wanted = touched | alerting(rows)
        for index in sorted(wanted):
            event = rows.event(index)
            if rows.handling[index] == META:
                old = new = stored(rows, index)
            else:
                new = verdict_of(event, self.draft)
                old = self._old(rows, index, event, new, index in touched)
            yield Judged(index, event, old, new)

    def _old(self, rows: Rows, index: int, event: Event, new: Verdict, touched: bool) -> Verdict:
        if not touched:
            return new
        return stored(rows, index) if self.then else verdict_of(event, self.base)

    def kind(self, verdict: Verdict) -> Kind:
        """What is compared; of a stored verdict the severity is not known."""
        severity = None if self.then else verdict.moog_severity
        return Kind(verdict.rule_id, verdict.handling, verdict.team or "", severity)


def verdict_of(event: Event, ruleset: Ruleset) -> Verdict:
    """:func:`evaluate`, but for the template of what no rule matches: nobody asks for it here.

    Of an event that came before a redaction was made, what is taken out today is taken out first.
    """
    event = ruleset.redactions.redact(event)
    if event.internal or ruleset.candidates(event):
        return evaluate(event, ruleset)
    return unhandled(event, ruleset.host(event.hostname))


def stored(rows: Rows, index: int) -> Verdict:
    """What was decided when the event came."""
    rule_id, handling, severity = rows.rule_id[index], rows.handling[index], rows.severity[index]
    forward = handling in FORWARDED
    moog = MOOG_SEVERITY.get(int(severity)) if severity else None
    if forward and moog is None:
        moog = 3 if handling == META else SEVERITY_OF_HANDLING[Handling(handling)]
    return Verdict(
        rule_id=int(rule_id) if rule_id else None,
        handling=handling,
        forward=forward,
        environment="",
        team=rows.team[index] or None,
        moog_severity=moog if forward else None,
        why="stored",
    )


def alerting(rows: Rows) -> set[int]:
    """The rows of which an alert was made, or that may have ended one."""
    found = {i for i, handling in enumerate(rows.handling) if handling in FORWARDED}
    return found | {i for i, context in enumerate(rows.context) if _CLEARS in context}


class Filter:
    """The rows of some hosts: a name, a glob or a network."""

    def __init__(self, pattern: str) -> None:
        self._patterns, self._known = HostPatterns([pattern]), dict[str, bool]()

    def __call__(self, rows: Rows) -> Rows | None:
        """Those rows, or None where there are none."""
        known = self._known
        for name in set(rows.hostname):
            if name not in known:
                known[name] = bool(self._patterns.matching(name))
        mask = [known[name] for name in rows.hostname]
        if all(mask):
            return rows
        return Rows(*(list(compress(column, mask)) for column in rows)) if any(mask) else None
