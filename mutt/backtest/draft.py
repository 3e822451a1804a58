"""Draft: rules that nobody has saved, in the place of those that stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from mutt.errors import RuleError
from mutt.rules.check import check_rule
from mutt.rules.rule import Rule


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried: fields of rules, checked."""

    rules: tuple[dict[str, Any], ...]
    rule_id: int | None = None  #: the rule that the only one stands for
    whole: bool = False  #: a file: rules are known by their names, as `mutt rules import` knows them
    replace: bool = False  #: rules that the file does not name are gone

    @classmethod
    def of_rule(cls, data: Mapping[str, Any], rule_id: int | None = None) -> Draft:
        """One rule: a new one, or rule ``rule_id`` as it would be. Raises :class:`RuleError`."""
        return cls(rules=(_builtins(check_rule(data)),), rule_id=rule_id)

    @classmethod
    def of_file(cls, items: Iterable[Mapping[str, Any]], *, replace: bool = False) -> Draft:
        """A file's rules. Raises :class:`RuleError`, which says of which rule."""
        rules = []
        for number, item in enumerate(items, 1):
            try:
                rules.append(_builtins(check_rule(item)))
            except RuleError as error:
                raise RuleError(f"rule {item.get('name') or number}: {error.field}", error.reason) from None
        if not rules:
            raise RuleError("rules", "are none; give at least one")
        return cls(rules=tuple(rules), whole=True, replace=replace)

    @property
    def name(self) -> str:
        """For a list of drafts."""
        return f"{len(self.rules)} rules of a file" if self.whole else str(self.rules[0]["name"])

    def among(self, standing: Sequence[Rule], last: int = 0) -> Drafted:
        """The rules as they would stand. Raises :class:`RuleError` where the rule is gone that it was to stand for.

        ``last`` is the highest id that a rule ever got: stored events may name one that is gone.
        """
        free = max([last, *(rule.id for rule in standing)]) + 1
        return self._file_among(standing, free) if self.whole else self._rule_among(standing, free)

    def _rule_among(self, standing: Sequence[Rule], free: int) -> Drafted:
        # A new rule's id is the highest: of equal priorities it is tried last.
        rule_id = free if self.rule_id is None else self.rule_id
        if self.rule_id is not None and all(rule.id != rule_id for rule in standing):
            raise RuleError("rule_id", f"names rule {rule_id}, which is gone; test it as a new rule")
        others = [rule for rule in standing if rule.id != rule_id]
        return Drafted([*others, _rule(self.rules[0], rule_id)], frozenset([rule_id]))

    def _file_among(self, standing: Sequence[Rule], free: int) -> Drafted:
        same: dict[str, list[Rule]] = defaultdict(list)
        for rule in standing:
            same[rule.name].append(rule)
        rules = []
        for data in self.rules:
            named = same[data["name"]]
            if named:
                rule_id = named.pop(0).id
            else:
                rule_id, free = free, free + 1
            rules.append(_rule(data, rule_id))
        ids = frozenset(rule.id for rule in rules)
        left = [] if self.replace else [rule for rule in standing if rule.id not in ids]
        return Drafted([*left, *rules], ids)


class Drafted(NamedTuple):
    """The rules with the draft among them, and which ones are the draft's."""

    rules: list[Rule]
    ids: frozenset[int]


def _rule(data: Mapping[str, Any], rule_id: int) -> Rule:
    return msgspec.convert({**data, "id": rule_id}, Rule)  # it was checked when the draft was made


def _builtins(rule: Rule) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(rule)
    del values["id"]
    return values
