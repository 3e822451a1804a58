"""Golden examples: events that a rule must match, or must not, checked whenever it is saved.

An example is held against the rule's own conditions, its text and its scope: which rule of all decides is another
question, whose answer changes with every other rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from mutt.errors import RuleError
from mutt.event import Event
from mutt.rules.evaluate import Scope, text_of
from mutt.rules.hosts import HostPatterns
from mutt.rules.matcher import Matcher, expression
from mutt.rules.oid import normal, under
from mutt.rules.rule import Example, MatchType, Rule

_THEN = datetime(2000, 1, 1, tzinfo=UTC)


def event_of(example: Example) -> Event:
    """The event that an example describes; its text came as its message says."""
    return Event(
        event_id=UUID(int=0),
        received_at=_THEN,
        occurred_at=_THEN,
        hostname=example.hostname,
        message=example.message,
        severity=example.severity,
        source=example.source,
        facility=example.facility,
        program=example.program,
        trap_oid=example.trap_oid,
        tags=example.tags,
        raw=example.message,
    )


def check_examples(rule: Rule) -> None:
    """Raise :class:`RuleError` at ``examples[N]``, naming the condition, where an example does not hold.

    ``rule`` can be matched: :func:`~mutt.rules.evaluate.check_matchable` has taken it.
    """
    if not rule.examples:
        return
    conditions = _Conditions(rule)
    for number, example in enumerate(rule.examples):
        failed = next(conditions.failing(event_of(example)), None)
        if example.matches and failed:
            raise RuleError(f"examples[{number}]", f"is to match, and does not: {failed}")
        if not example.matches and not failed:
            raise RuleError(
                f"examples[{number}]", "is not to match, and does: every condition of the rule holds"
            )


class _Conditions:
    """What one rule asks of an event, found out with what judges live ones."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self._scope = rule, Scope.of(rule)
        self._hosts = HostPatterns([rule.hostname] if rule.hostname else [])
        if rule.match_type is not MatchType.OID_PREFIX:
            self._text_of = text_of(rule.field)
            self._matcher = Matcher([(0, expression(rule.match_type, rule.match_string))])

    def failing(self, event: Event) -> Iterator[str]:
        """The conditions that don't hold, in words; the text's first."""
        rule = self._rule
        if rule.match_type is MatchType.OID_PREFIX:
            yield from _outside(event, normal(rule.trap_oid or ""))
        else:
            text = self._text_of(event)
            if text is None:
                yield f"it has no {rule.field}"
            elif not self._matcher.match(text):
                yield f"its {rule.field} does not match ({rule.match_type.value} {rule.match_string[:60]!r})"
        if self._scope is not None:
            yield from self._out_of_scope(self._scope, event)

    def _out_of_scope(self, scope: Scope, event: Event) -> Iterator[str]:
        if scope.severity is not None and (event.severity is None or event.severity > scope.severity):
            found = "no severity" if event.severity is None else f"severity {event.severity}"
            yield f"it has {found}, and the rule's syslog_severity is {scope.severity}"
        if scope.hostname is not None and not self._hosts.matching(event.hostname):
            yield f"its hostname {event.hostname!r} is not within {scope.hostname!r}"
        if scope.source is not None and event.source.lower() != scope.source:
            yield f"its source is {event.source!r}, not {scope.source!r}"
        if scope.program is not None and (event.program or "").lower() != scope.program:
            yield f"its program is {event.program!r}, not {scope.program!r}"
        if scope.trap_oid is not None:
            yield from _outside(event, scope.trap_oid)
        for name, value in scope.tags.items():
            if event.tags.get(name) != value:
                yield f"its tag {name} is {event.tags.get(name)!r}, not {value!r}"


def _outside(event: Event, prefix: str) -> Iterator[str]:
    if event.trap_oid is None:
        yield f"it has no trap_oid, and the rule wants one under {prefix}"
    elif not under(event.trap_oid, prefix):
        yield f"its trap_oid {event.trap_oid} is not under {prefix}"
