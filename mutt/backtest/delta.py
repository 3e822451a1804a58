"""Delta: which stored events can be judged otherwise by rules that are not those that judged them?

An event was judged by some version of the rules. A rule that is the same there and in both rulesets of a back-test is
*kept*. Where a kept rule decided, or none did, and no rule that is not kept matches the event's text, then the kept
rules decide in both as they did then. All other events are judged anew. So only the rules that are not kept are looked
for in every text, which is what makes a back-test of one rule fast; a property test holds this to plain evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from mutt.rules.evaluate import Ruleset
from mutt.rules.matcher import Matcher, expression
from mutt.rules.oid import OidPrefixes
from mutt.rules.rule import META, MatchType, Rule
from mutt.store.audit import Context
from mutt.store.past import Judges, Rows

#: So many values of hosts and sources are remembered; then it begins anew.
REMEMBERED = 65_536

#: What decides no verdict.
_APART = {
    "name": "",
    "examples": (),
    "dedup_window": None,
    "threshold_count": None,
    "threshold_window": None,
    "flap_count": None,
    "flap_window": None,
}

_context = msgspec.json.Decoder(Context).decode


class Delta:
    """What tells the events that ``base`` or ``draft`` can judge otherwise than they were judged."""

    def __init__(self, base: Ruleset, draft: Ruleset, judges: Judges) -> None:
        ours, theirs = _in_force(base), _in_force(draft)
        kept = {
            rule_id
            for rule_id, rule in ours.items()
            if rule_id not in judges.revised and rule_id in theirs and _same(rule, theirs[rule_id])
        }
        self.rules = [rule for side in (ours, theirs) for rule in side.values() if rule.id not in kept]
        self._trusted = judges.trusted_from, base.version
        self.kept = frozenset(kept)  #: ids of rules that decide the same in all of them
        self._decided = frozenset(["", *map(str, kept)])
        by_field: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for number, rule in enumerate(self.rules):
            if rule.match_type is not MatchType.OID_PREFIX:
                by_field[rule.field].append((number, expression(rule.match_type, rule.match_string)))
        oids = [(0, rule.trap_oid or "") for rule in self.rules if rule.match_type is MatchType.OID_PREFIX]
        matchers = {field: Matcher(patterns) for field, patterns in by_field.items()}
        self._message, self._raw = matchers.pop("message", None), matchers.pop("raw", None)
        self._plain = {
            field: _remembering(matchers.pop(field)) for field in ("hostname", "source") if field in matchers
        }
        self._fields, self._oids = matchers, OidPrefixes(oids) if oids else None

    def touched(self, rows: Rows) -> set[int]:
        """The indices of the rows that are to be judged anew."""
        kept = self._decided
        found = {i for i, rule_id in enumerate(rows.rule_id) if rule_id not in kept}
        low, high = self._trusted
        doubted = {version for version in set(rows.version) if not low <= int(version) <= high}
        if doubted:
            found |= {i for i, version in enumerate(rows.version) if version in doubted}
        if self._message:
            found |= _matching(self._message, rows.message)
        if self._raw:
            found |= _matching(self._raw, rows.raw)
        for field, matches in self._plain.items():
            found |= {i for i, value in enumerate(getattr(rows, field)) if matches(value)}
        if self._fields or self._oids:
            found |= {i for i, context in enumerate(rows.context) if context and self._in_context(context)}
        if META in rows.handling:
            found = {i for i in found if rows.handling[i] != META}  # no rule is asked of these
        return found

    def _in_context(self, context: str) -> bool:
        told = _context(context)
        if self._oids and told.trap_oid is not None and self._oids.match(told.trap_oid):
            return True
        for field, matcher in self._fields.items():
            name = field.removeprefix("tags.")
            value = told.tags.get(name) if name != field else getattr(told, field)
            if value is not None and matcher.match(value):
                return True
        return False


def looks_at_raw(*rulesets: Ruleset) -> bool:
    """Does a rule look at the text as it came? Then it has to be read."""
    return any(rule.field == "raw" for one in rulesets for rule in _in_force(one).values())


def _matching(matcher: Matcher, texts: Sequence[str]) -> set[int]:
    match = matcher.match
    return {i for i, text in enumerate(texts) if match(text)}


def _in_force(ruleset: Ruleset) -> dict[int, Rule]:
    return {
        rule.id: rule for rule in ruleset.rules.values() if rule.is_active and rule.id not in ruleset.refused
    }


def _same(one: Rule, other: Rule) -> bool:
    return msgspec.structs.replace(one, **_APART) == msgspec.structs.replace(other, **_APART)


def _remembering(matcher: Matcher) -> Callable[[str], bool]:
    known: dict[str, bool] = {}

    def matches(value: str) -> bool:
        found = known.get(value)
        if found is None:
            if len(known) >= REMEMBERED:
                known.clear()
            found = known[value] = bool(matcher.match(value))
        return found

    return matches
