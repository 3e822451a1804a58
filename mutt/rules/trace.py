"""Trace: which rule decides about an event, and why not the others. Pure; it agrees with ``evaluate`` on every event.

Each rule that is told has its conditions, what it wanted and what the event has. Of ten thousand rules those whose text
matches are told, and those that came nearest; the others are only counted.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterable, Iterator

import msgspec

from mutt.event import SEVERITY_NAMES, Event
from mutt.rules.evaluate import (
    DEVELOPMENT,
    Host,
    Ruleset,
    Scope,
    environment_of,
    evaluate,
    fault,
    held,
    is_field,
    team_of,
    text_of,
    unhandled,
    verdict_of,
)
from mutt.rules.hosts import HostPatterns
from mutt.rules.matcher import expression, spans
from mutt.rules.oid import normal, under
from mutt.rules.rule import MatchType, Rule, Verdict
from mutt.rules.template import template_of

#: Rules whose text matches that are told, and rules that only came near. Of so few that all can be told, all are.
MATCHING, NEAR, FEW = 50, 10, 20

#: Spans of one rule that are told, and characters of a value.
SPANS, SHOWN = 100, 200

#: So many characters of the event are looked at to find rules that came near.
LOOKED_AT = 4096

_WORD = re.compile(r"\w+")
#: The first name of each number.
_SEVERITIES = {number: name for name, number in reversed(SEVERITY_NAMES.items())}


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that a rule asks of an event."""

    what: str  #: text, oid, severity, hostname, source, program, trap_oid, tags.NAME, active or compiled
    wanted: str
    found: str | None  #: None: the event has nothing there
    holds: bool


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One rule beside the event."""

    rule_id: int  #: 0: a draft that has no id yet
    name: str
    priority: int
    draft: bool = False
    field: str = "message"  #: where its text is looked for
    conditions: tuple[Condition, ...]
    spans: tuple[tuple[int, int], ...] = ()  #: characters (from, to) of ``field``'s text
    matches: bool  #: do all conditions hold?
    decides: bool
    asked: bool  #: False: it is not in force, or another had decided before it
    why: str  #: one sentence for people

    @property
    def failed(self) -> list[Condition]:
        return [condition for condition in self.conditions if not condition.holds]


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """How one event comes to its verdict."""

    ruleset_version: int
    verdict: Verdict
    environment: str
    environment_why: str
    team_why: str  #: whose the host is, and why; a rule names its own team
    rule_id: int | None  #: that decides; None: none does
    tried: tuple[Tried, ...]  #: in the order in which rules are tried
    rules: int  #: all there are
    in_force: int  #: of them; a draft counts
    asked: int  #: rules in force up to the one that decides, or all
    untold: int  #: rules that are only counted: their text does not match, or they are too many

    @property
    def deciding(self) -> Tried | None:
        return next((one for one in self.tried if one.decides), None)


def trace(
    event: Event,
    ruleset: Ruleset,
    *,
    draft: Rule | None = None,
    only: Collection[int] | None = None,
    most: int = MATCHING,
    near: int = NEAR,
) -> Trace:
    """How ``event`` comes to its verdict.

    ``draft`` stands in place of the rule of its id, and behind all others of its priority where it has none (0).
    ``only`` names the rules to tell, beside the one that decides; else ``most`` of those that match are told and
    ``near`` others, or all where they are few.
    """
    host = ruleset.host(event.hostname)
    matching = [] if event.internal else _matching(event, ruleset, draft)
    decides = next((rule for rule in matching if _admits(rule, event, host)), None)
    verdict = evaluate(event, ruleset)
    if not event.internal and (draft is not None) and (decides is draft or _is_of(verdict, draft)):
        verdict = (
            unhandled(event, host, template_of(event.message))
            if decides is None
            else held(
                verdict_of(decides, environment_of(event, host), event.severity), event, host, ruleset.windows
            )
        )
    in_force = [rule for rule in ruleset.ranked if draft is None or rule.id != draft.id]
    if draft is not None and draft.is_active and fault(draft) is None:
        in_force.append(draft)
    told = _chosen(event, ruleset, host, draft, matching, decides, only, most, near)
    rules = {**ruleset.rules, **({draft.id: draft} if draft else {})}
    asked = 0 if event.internal else len(in_force)
    if decides is not None:
        asked = sum(_order(rule) <= _order(decides) for rule in in_force)
    return Trace(
        ruleset_version=ruleset.version,
        verdict=verdict,
        environment=environment_of(event, host),
        environment_why=_environment_why(event, host, ruleset),
        team_why=_team_why(event, host, ruleset),
        rule_id=None if decides is None else decides.id,
        tried=tuple(_tried(rule, event, host, draft, decides) for rule in told),
        rules=len(rules),
        in_force=len(in_force),
        asked=asked,
        untold=len(rules) - len(told),
    )


def conditions(rule: Rule, event: Event, host: Host | None = None) -> Iterator[Condition]:
    """What ``rule`` asks of ``event``, and what of it holds. ``host`` spares the look at the host name's pattern."""
    yield (
        _oid_condition(rule, event)
        if rule.match_type is MatchType.OID_PREFIX
        else _text_condition(rule, event)
    )
    scope = Scope.of(rule)
    if scope is None:
        return
    if scope.severity is not None:
        holds = event.severity is not None and event.severity <= scope.severity
        wanted = (
            severity_text(scope.severity) if scope.severity == 0 else f"0 to {severity_text(scope.severity)}"
        )
        found = None if event.severity is None else severity_text(event.severity)
        yield Condition("severity", wanted, found, holds)
    if scope.hostname is not None:
        holds = (
            scope.hostname in host.scopes
            if host
            else bool(HostPatterns([scope.hostname]).matching(event.hostname))
        )
        yield Condition("hostname", scope.hostname, event.hostname, holds)
    if scope.source is not None:
        yield Condition("source", rule.source or "", event.source, event.source.lower() == scope.source)
    if scope.program is not None:
        holds = (event.program or "").lower() == scope.program
        yield Condition("program", rule.program or "", event.program, holds)
    if scope.trap_oid is not None:
        holds = event.trap_oid is not None and under(event.trap_oid, scope.trap_oid)
        yield Condition("trap_oid", f"{scope.trap_oid} or below", event.trap_oid, holds)
    for name, value in scope.tags.items():
        yield Condition(f"tags.{name}", value, event.tags.get(name), event.tags.get(name) == value)


def matched_spans(rule: Rule, event: Event) -> list[tuple[int, int]] | None:
    """Where the text of ``rule`` stands in its field: characters (from, to). None: nowhere."""
    text = text_of(rule.field)(event)
    if text is None or rule.match_type is MatchType.OID_PREFIX:
        return None
    return spans(text, expression(rule.match_type, rule.match_string), SPANS)


def _order(rule: Rule) -> tuple[int, float]:
    # PostgreSQL gives a new rule the next id.
    return rule.priority, rule.id or float("inf")


def _matching(event: Event, ruleset: Ruleset, draft: Rule | None) -> list[Rule]:
    """The rules in force whose text or OID matches, the first to decide first."""
    found = [ruleset.ranked[rank] for rank in ruleset.candidates(event)]
    if draft is None:
        return found
    found = [rule for rule in found if rule.id != draft.id]
    if draft.is_active and fault(draft) is None and _looks_for(draft, event):
        found.append(draft)
    return sorted(found, key=_order)


def _looks_for(rule: Rule, event: Event) -> bool:
    if rule.match_type is MatchType.OID_PREFIX:
        return _oid_condition(rule, event).holds
    return matched_spans(rule, event) is not None


def _is_of(verdict: Verdict, draft: Rule | None) -> bool:
    return draft is not None and verdict.rule_id is not None and verdict.rule_id == draft.id


def _admits(rule: Rule, event: Event, host: Host) -> bool:
    scope = Scope.of(rule)
    if scope is None:
        return True
    if scope.hostname is None or scope.hostname in host.scopes:
        return scope.admits(event, host)
    # A draft's pattern is none of the ruleset's scopes.
    scopes = frozenset(HostPatterns([scope.hostname]).matching(event.hostname))
    return scope.admits(event, host._replace(scopes=scopes))


def _chosen(
    event: Event,
    ruleset: Ruleset,
    host: Host,
    draft: Rule | None,
    matching: list[Rule],
    decides: Rule | None,
    only: Collection[int] | None,
    most: int,
    near: int,
) -> list[Rule]:
    """The rules that are told, in the order in which they are tried."""
    must = {rule.id: rule for rule in (decides, draft) if rule is not None}
    others = {**ruleset.rules, **must}
    if only is not None:
        must |= {id_: others[id_] for id_ in only if id_ in others}
    elif len(others) <= FEW:
        must = others
    else:
        must |= {rule.id: rule for rule in matching[:most]}
        if near:
            text = {rule.id for rule in matching}
            rest = (rule for rule in others.values() if rule.id not in text and rule.id not in must)
            must |= {rule.id: rule for rule in _nearest(event, host, rest, near)}
    return sorted(must.values(), key=_order)


def _nearest(event: Event, host: Host, rules: Iterable[Rule], most: int) -> list[Rule]:
    """Those that share the most with the event: words of their text, and scopes that hold."""
    fields: dict[str, frozenset[str]] = {}

    def words_of(field: str) -> frozenset[str]:
        found = fields.get(field)
        if found is None:
            text = (text_of(field)(event) or "") if is_field(field) else ""
            found = fields[field] = frozenset(_WORD.findall(text[:LOOKED_AT].casefold()))
        return found

    def nearness(rule: Rule) -> float:
        if rule.match_type is MatchType.OID_PREFIX:
            shared = float(bool(event.trap_oid) and _shares(event.trap_oid or "", rule.trap_oid or ""))
        else:
            words = _WORD.findall(rule.match_string.casefold())
            shared = sum(word in words_of(rule.field) for word in words) / len(words) if words else 0.0
        scoped = Scope.of(rule) if shared else None
        return shared + (0.5 if scoped and scoped.admits(event, host) else 0.0)

    ranked = ((nearness(rule), -rule.priority, -rule.id, rule) for rule in rules)
    return [rule for near, _, _, rule in heapq.nlargest(most, (one for one in ranked if one[0]))]


def _shares(oid: str, prefix: str) -> bool:
    """Do they begin alike, but for the last component of the prefix?"""
    return under(oid, normal(prefix).rpartition(".")[0] or normal(prefix))


def _tried(rule: Rule, event: Event, host: Host, draft: Rule | None, decides: Rule | None) -> Tried:
    error = fault(rule)
    if error is None:
        asks = tuple(conditions(rule, event, None if rule is draft else host))
        found = matched_spans(rule, event) or []
    else:
        asks = (Condition("compiled", "a rule that can be compiled", f"{error.field} {error.reason}", False),)
        found = []
    if not rule.is_active:
        asks = (Condition("active", "an active rule", "switched off", False), *asks)
    matches = all(condition.holds for condition in asks) and not event.internal
    in_force = rule.is_active and error is None and not event.internal
    asked = in_force and (decides is None or _order(rule) <= _order(decides))
    return Tried(
        rule_id=rule.id,
        name=rule.name,
        priority=rule.priority,
        draft=rule is draft,
        field=rule.field,
        conditions=asks,
        spans=tuple(found),
        matches=matches,
        decides=rule is decides,
        asked=asked,
        why=_why(rule, asks, event, decides),
    )


def _why(rule: Rule, asks: tuple[Condition, ...], event: Event, decides: Rule | None) -> str:
    if rule is decides:
        return "It is the first that matches: it decides."
    if event.internal:
        return "Raised by MUTT itself: no rule is asked."
    failed = [condition for condition in asks if not condition.holds]
    if not failed and decides is not None:
        why = (
            "a lower priority number" if decides.priority < rule.priority else "the same priority, a lower id"
        )
        other = f"rule {decides.id}" if decides.id else "the draft"
        return f"It matches too, but {other} {decides.name} comes before it ({why})."
    return "It does not match: " + "; ".join(map(says, failed)) + "."


def says(condition: Condition) -> str:
    """A condition that failed, as part of a sentence."""
    if condition.what == "active":
        return "it is switched off"
    if condition.what == "compiled":
        return f"it is not in force, {condition.found}"
    has = "the event has none" if condition.found is None else f"the event has {condition.found!r}"
    if condition.what == "text":
        return f"its text is not there ({condition.wanted})"
    return f"{condition.what} wants {condition.wanted!r}, {has}"


def _text_condition(rule: Rule, event: Event) -> Condition:
    where = "" if rule.field == "message" else f" in {rule.field}"
    text = text_of(rule.field)(event)
    holds = matched_spans(rule, event) is not None
    return Condition(
        "text", f"{rule.match_type} {_quoted(_cut(rule.match_string) or '')}{where}", _cut(text), holds
    )


def _oid_condition(rule: Rule, event: Event) -> Condition:
    prefix = normal(rule.trap_oid or "")
    holds = event.trap_oid is not None and under(event.trap_oid, prefix)
    return Condition("oid", f"{prefix} or below", event.trap_oid, holds)


def _quoted(text: str) -> str:
    # With its backslashes as they were written: a regex is full of them.
    return repr(text).replace("\\\\", "\\")


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def severity_text(number: int) -> str:
    """syslog's severity for people: 4 (warning)."""
    name = _SEVERITIES.get(number)
    return f"{number} ({name})" if name else str(number)


def _environment_why(event: Event, host: Host, ruleset: Ruleset) -> str:
    hostname = event.hostname
    pattern, _ = ruleset.patterns_of(hostname)
    if event.environment:
        return f"its API key says {event.environment}, whatever {hostname} is"
    if host.environment == DEVELOPMENT:
        return f"{hostname} is a development host by {pattern!r}"
    return f"{hostname} is no development host"


def _team_why(event: Event, host: Host, ruleset: Ruleset) -> str:
    hostname = event.hostname
    _, pattern = ruleset.patterns_of(hostname)
    if pattern is None and event.default_team:
        return (
            f"{hostname} has no team of its own; unhandled events of its API key go to {team_of(event, host)}"
        )
    if pattern is None:
        return f"{hostname} has no team of its own; unhandled events go to {host.team}"
    return f"{hostname} belongs to {host.team} by {pattern!r}"
