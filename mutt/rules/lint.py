"""The linter: what is odd about rules. Pure; only what is certain is said to be so.

``findings`` and ``badges`` look at the rules alone. ``overlaps`` and ``costs`` look at events, too: a sample of real
ones. What the audit knows (which rule never fired, which hosts there are) comes as facts from ``store.usage``.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, NamedTuple

import msgspec

from mutt.errors import NoRuleset
from mutt.event import Event
from mutt.rules.evaluate import Ruleset, Scope, fault, text_of
from mutt.rules.hosts import HostPatterns
from mutt.rules.matcher import compiled, expression
from mutt.rules.oid import normal, under
from mutt.rules.rule import MatchType, Rule


class Kind(enum.StrEnum):
    """What is odd; the worst first."""

    NOT_IN_FORCE = "not in force"
    UNREACHABLE = "unreachable"
    DUPLICATE = "duplicate"
    NO_HOST = "no such host"
    NEVER_FIRED = "never fired"
    OVERLAPPING = "overlapping"
    DEAR = "dear"
    SIMPLER = "simpler"
    AUDIT_ONLY = "audit only"
    NO_EXAMPLES = "no examples"

    @property
    def level(self) -> str:
        """``error``: it does not do what it says; ``warning``: look at it; ``info``: it may be meant."""
        return _LEVELS.get(self, "warning")


_LEVELS = {
    Kind.NOT_IN_FORCE: "error",
    Kind.OVERLAPPING: "info",
    Kind.AUDIT_ONLY: "info",
    Kind.NO_EXAMPLES: "info",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing about one rule."""

    rule_id: int
    rule: str  #: its name
    kind: Kind
    message: str
    other: int | None = None  #: the other rule that it is about
    fields: Mapping[str, Any] = {}  #: what to write instead

    @property
    def level(self) -> str:
        return self.kind.level


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit knows. None: it was not asked, or can't tell."""

    days: int  #: how far back it was looked
    silent: frozenset[int] = frozenset()  #: rules that are older than that, and decided nothing since
    hosts: frozenset[str] | None = None  #: every host name that it knows
    sample: Sequence[Event] = ()  #: some of the newest events


#: Microseconds an event from which a rule's own pattern is called dear.
DEAR_US = 5.0

#: Pairs of overlapping rules that are told.
PAIRS = 50

#: Comparisons of two rules' scopes, in all; then no more is claimed. Only many rules of one text come so far.
_COMPARISONS = 100_000


def badges(rules: Iterable[Rule]) -> dict[int, list[Finding]]:
    """What can be told of each rule at a glance, by its id: without events, without the audit, without examples."""
    found: dict[int, list[Finding]] = defaultdict(list)
    for finding in _static(list(rules)):
        found[finding.rule_id].append(finding)
    return dict(found)


def findings(
    rules: Iterable[Rule], facts: Facts | None = None, measured: Iterable[tuple[Rule, float]] = ()
) -> list[Finding]:
    """All that is odd about these rules: the worst first, then in the order in which rules are tried.

    ``measured`` is what :func:`costs` said of them.
    """
    given = list(rules)
    found = _static(given)
    bare = (rule for rule in given if not rule.examples)
    found += [
        _said(rule, Kind.NO_EXAMPLES, "no example says what it must match, and what not") for rule in bare
    ]
    if facts is not None:
        found += _unused(given, facts)
        with contextlib.suppress(NoRuleset):  # too many to be held: then workers have not got them either
            found += overlaps(Ruleset.compile(0, given, [], {}), facts.sample)
    found += [
        _said(rule, Kind.DEAR, f"looking for it takes {micros:.1f} µs an event")
        for rule, micros in measured
        if micros >= DEAR_US
    ]
    place = {rule.id: at for at, rule in enumerate(_tried(given))}
    worst = {kind: at for at, kind in enumerate(Kind)}
    return sorted(
        found, key=lambda one: (worst[one.kind], place.get(one.rule_id, len(place)), one.other or 0)
    )


def _said(rule: Rule, kind: Kind, message: str, other: int | None = None, **fields: Any) -> Finding:
    return Finding(rule_id=rule.id, rule=rule.name, kind=kind, message=message, other=other, fields=fields)


def _tried(rules: Iterable[Rule]) -> list[Rule]:
    """The active ones in the order in which they are tried, then the others."""
    return sorted(rules, key=lambda rule: (not rule.is_active, rule.priority, rule.id))


def _static(rules: Sequence[Rule]) -> list[Finding]:
    broken = {
        rule.id: error for rule in rules if rule.is_active and _may_be_broken(rule) and (error := fault(rule))
    }
    found = list(_unreachable([rule for rule in _tried(rules) if rule.is_active and rule.id not in broken]))
    for rule in rules:
        if rule.id in broken:
            found.append(_said(rule, Kind.NOT_IN_FORCE, str(broken[rule.id])))
        elif rule.is_active and not (rule.prod_handling.forwards or rule.dev_handling.forwards):
            found.append(_said(rule, Kind.AUDIT_ONLY, "is kept in the audit and never sent to Moog"))
        if rule.match_type is MatchType.REGEX and (simple := simpler(rule.match_string)):
            kind, text = simple
            message = f"this regex is a {kind.value}: {text}"
            found.append(_said(rule, Kind.SIMPLER, message, match_type=kind.value, match_string=text))
    return found


def _may_be_broken(rule: Rule) -> bool:
    # A literal in the message can't be, and asking re2 about each of thousands takes a second.
    odd = rule.match_type in (MatchType.REGEX, MatchType.OID_PREFIX) or rule.field != "message"
    return odd or bool(rule.hostname) or not rule.match_string


# ---- a regex that is none

_SIMPLE = re.compile(
    r"""
    (?: \(\?i\) )?
    (?P<start> \^ | \\A )?
    (?P<before> \.\*\?? )?
    (?P<text> (?: [^\\.+*?()|\[\]{}^$] | \\[^0-9A-Za-z\s] | \[[^\\\]\[^:]\] )+ )
    (?P<after> \.\*\?? )?
    (?P<end> \$ | \\z )?
    """,
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r"\\(.)|\[(.)\]|(.)", re.DOTALL)


def simpler(pattern: str) -> tuple[MatchType, str] | None:
    """What matches just what the regex ``pattern`` matches; None where there is nothing, or it can't be told.

    ``.`` matches every character here and letters ignore case either way, so ``.*`` at an end says nothing.
    """
    found = _SIMPLE.fullmatch(pattern)
    if found is None:
        return None
    text = "".join("".join(filter(None, parts)) for parts in _PART.findall(found["text"]))
    if not text.strip() or not _valid(text):
        return None
    start = bool(found["start"]) and not found["before"]
    end = bool(found["end"]) and not found["after"]
    if end and not start:
        return None
    return (MatchType.EQUALS if end else MatchType.PREFIX if start else MatchType.CONTAINS), text


def _valid(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


# ---- a rule that another always precedes


#: The field ("" for an OID), how it is looked at, and for what: folded text, a regex as it stands, or an OID.
_Key = tuple[str, MatchType, str]


class _Wants(NamedTuple):
    """What a rule asks of an event, in a form that can be compared with another's."""

    key: _Key
    scope: Scope


def _wants(rule: Rule) -> _Wants:
    kind, text = rule.match_type, rule.match_string
    scope = Scope.of(rule) or _ANY
    if kind is MatchType.OID_PREFIX:
        return _Wants(("", kind, normal(rule.trap_oid or "")), scope)
    if kind is MatchType.REGEX:
        simple = simpler(text)
        if simple is None:
            return _Wants((rule.field, kind, text), scope)
        kind, text = simple
    return _Wants((rule.field, kind, _folded(text)), scope)


_ANY = Scope(None, None, None, None, None, {})


def _folded(text: str) -> str:
    # Of letters beyond ASCII only the very same ones are taken for equal: less is claimed than is so, never more.
    return (
        text.lower() if text.isascii() else "".join(sign.lower() if sign.isascii() else sign for sign in text)
    )


class _Earlier:
    """Rules that are tried before, to be found by what they look for."""

    def __init__(self) -> None:
        self._found: dict[_Key, dict[str, list[tuple[Rule, _Wants]]]] = {}
        self._left = _COMPARISONS

    def add(self, rule: Rule, wants: _Wants) -> None:
        # By host: many rules of one text are mostly of one host each.
        host = _host(wants.scope)
        group = self._found.setdefault(wants.key, {})
        group.setdefault(host if _is_name(host) else "*", []).append((rule, wants))

    def covering(self, wants: _Wants, keys: Iterable[_Key]) -> tuple[Rule, _Wants] | None:
        """One of these that matches whatever ``wants`` could match."""
        for key in keys:
            group = self._found.get(key)
            for pattern in dict.fromkeys(("*", _host(wants.scope))) if group else ():
                for rule, theirs in group.get(pattern, ()) if group else ():
                    self._left -= 1
                    if self._left < 0:
                        return None
                    if _wider(theirs.scope, wants.scope):
                        return rule, theirs
        return None


def _unreachable(tried: Sequence[Rule]) -> Iterator[Finding]:
    """Rules of which an earlier one decides every event that they could match, found without any event."""
    asked = [(rule, _wants(rule)) for rule in tried]
    within = _Within(wants for _, wants in asked)
    earlier = _Earlier()
    for rule, wants in asked:
        found = earlier.covering(wants, _wider_keys(wants, within))
        if found is not None:
            first, theirs = found
            same = theirs == wants
            what = "asks for the same" if same else "matches whatever this one matches"
            yield _said(
                rule,
                Kind.DUPLICATE if same else Kind.UNREACHABLE,
                f"rule {first.id} {first.name} (priority {first.priority}) is tried first and {what}",
                first.id,
            )
        earlier.add(rule, wants)


def _wider_keys(wants: _Wants, within: _Within) -> Iterator[_Key]:
    """What an earlier rule may look for to match whatever ``wants`` matches."""
    field, kind, text = wants.key
    if kind is MatchType.OID_PREFIX or wants.scope.trap_oid:
        parts = (text if kind is MatchType.OID_PREFIX else wants.scope.trap_oid or "").split(".")
        for length in range(1, len(parts) + 1):
            yield "", MatchType.OID_PREFIX, ".".join(parts[:length])
    if kind is MatchType.REGEX:
        yield wants.key
    elif kind is not MatchType.OID_PREFIX:
        for part in within.parts(field, text):
            yield field, MatchType.CONTAINS, part
        if kind is not MatchType.CONTAINS:
            for beginning in within.beginnings(field, text):
                yield field, MatchType.PREFIX, beginning
        if kind is MatchType.EQUALS:
            yield wants.key


class _Within:
    """Which of many texts are part of a text: each is looked for by its rarest few letters."""

    def __init__(self, asked: Iterable[_Wants]) -> None:
        contained: defaultdict[str, set[str]] = defaultdict(set)
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for (field, kind, text), _ in asked:
            if kind is MatchType.CONTAINS:
                contained[field].add(text)
            elif kind is MatchType.PREFIX:
                lengths[field].add(len(text))
        self._lengths = {field: sorted(found) for field, found in lengths.items()}
        self._parts = {field: _by_rarest(texts) for field, texts in contained.items()}

    def parts(self, field: str, text: str) -> Iterator[str]:
        """The texts that rules look for anywhere in ``field``, and that are part of ``text``."""
        by_gram = self._parts.get(field)
        if not by_gram:
            return
        for gram in itertools.chain(_grams(text), by_gram[""]):
            for part in by_gram.get(gram, ()):
                if part in text:
                    yield part

    def beginnings(self, field: str, text: str) -> Iterator[str]:
        """Beginnings of ``text``, of the lengths that prefix rules of ``field`` have."""
        for length in self._lengths.get(field, ()):
            if length <= len(text):
                yield text[:length]


def _by_rarest(texts: Iterable[str]) -> dict[str, list[str]]:
    """Each text under the rarest gram that it has; one that is too short to have any under itself, and under ""."""
    grams = {text: _grams(text) for text in texts}
    counts = Counter([gram for found in grams.values() for gram in found])
    by_gram: defaultdict[str, list[str]] = defaultdict(list)
    by_gram[""] = [text for text, found in grams.items() if not found]
    for text, found in grams.items():
        by_gram[min(found, key=counts.__getitem__) if found else text].append(text)
    return dict(by_gram)


_GRAM = 4


def _grams(text: str) -> list[str]:
    return [text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)]


def _wider(theirs: Scope, ours: Scope) -> bool:
    """Does ``theirs`` admit every event that ``ours`` admits? For certain: no may mean that it can't be told."""
    return (
        (theirs.severity is None or (ours.severity is not None and ours.severity <= theirs.severity))
        and theirs.source in (None, ours.source)
        and theirs.program in (None, ours.program)
        and (theirs.trap_oid is None or (ours.trap_oid is not None and under(ours.trap_oid, theirs.trap_oid)))
        and theirs.tags.items() <= ours.tags.items()
        and _wider_host(_host(theirs), _host(ours))
    )


def _host(scope: Scope) -> str:
    pattern = (scope.hostname or "").strip()
    # A class may hold other signs in small letters ([A-z]), and so may a letter beyond ASCII.
    return pattern.lower() if pattern.isascii() and "[" not in pattern else pattern


def _is_name(pattern: str) -> bool:
    return bool(pattern) and not any(sign in pattern for sign in "*?[/")


def _wider_host(theirs: str, ours: str) -> bool:
    if theirs == ours or not theirs.strip("*"):
        return True
    if not ours or not ours.isascii():
        return False
    if _is_name(ours) and ":" not in ours:  # an address of IPv6 is written in many ways, and matches each
        return bool(_patterns(theirs).matching(ours))
    if "/" not in theirs:
        return False
    try:
        inner, outer = ip_network(ours, strict=False), ip_network(theirs, strict=False)
    except ValueError:
        return False
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


@lru_cache(4096)
def _patterns(pattern: str) -> HostPatterns:
    return HostPatterns([pattern])


# ---- with facts


def _unused(rules: Sequence[Rule], facts: Facts) -> Iterator[Finding]:
    active = [rule for rule in rules if rule.is_active]
    for rule in active:
        if rule.id in facts.silent:
            yield _said(rule, Kind.NEVER_FIRED, f"has decided no event in {facts.days} days")
    if facts.hosts:
        patterns = HostPatterns(rule.hostname for rule in active if rule.hostname)
        known = {pattern for host in facts.hosts for pattern in patterns.matching(host)}
        for rule in active:
            if rule.hostname and rule.hostname not in known:
                message = f"{rule.hostname} is none of the {len(facts.hosts)} hosts that the audit knows"
                yield _said(rule, Kind.NO_HOST, message)


def overlaps(ruleset: Ruleset, sample: Sequence[Event]) -> list[Finding]:
    """Rules that match events of the sample which an earlier rule decides: the pairs that share most."""
    shared: Counter[tuple[int, int]] = Counter()
    for event in sample:
        matching = [] if event.internal else ruleset.matching(ruleset.redactions.redact(event))
        shared.update((matching[0].id, other.id) for other in matching[1:])
    return [
        _said(
            ruleset.rules[other],
            Kind.OVERLAPPING,
            f"of {len(sample)} sampled events it matches {count} that rule {first}"
            f" {ruleset.rule_name(first)} decides",
            first,
            events=count,
        )
        for (first, other), count in shared.most_common(PAIRS)
    ]


def costs(
    rules: Iterable[Rule], sample: Sequence[Event], *, seconds: float = 3.0
) -> list[tuple[Rule, float]]:
    """What looking for the text of each active rule alone takes, in microseconds an event of the sample.

    All rules together take less than the sum: they share one pass. Regexes are measured first; after ``seconds`` in
    all, the others are left out.
    """
    measured = []
    texts: dict[str, list[bytes]] = {}
    active = [rule for rule in rules if rule.is_active and rule.match_type is not MatchType.OID_PREFIX]
    ends = time.perf_counter() + seconds
    for rule in sorted(active, key=lambda rule: rule.match_type is not MatchType.REGEX):
        if time.perf_counter() > ends:
            break
        if fault(rule):
            continue
        if rule.field not in texts:
            read = text_of(rule.field)
            texts[rule.field] = [text.encode() for event in sample if (text := read(event)) is not None]
        looked_at = texts[rule.field]
        if looked_at:
            measured.append((rule, _micros(rule, looked_at, len(sample))))
    return measured


def _micros(rule: Rule, texts: Sequence[bytes], events: int) -> float:
    search = compiled(expression(rule.match_type, rule.match_string)).search
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for text in texts:
            search(text)
        best = min(best, time.perf_counter() - started)
    return best * 1e6 / events
