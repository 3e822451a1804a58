"""The linter claims only what is certain: held against what evaluation does with real events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.rules import lint
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset
from mutt.rules.golden import event_of
from mutt.rules.lint import Facts, Finding, Kind
from mutt.rules.matcher import Matcher, expression
from mutt.rules.rule import Example, MatchType, Rule
from tests.unit.rules_at_random import rules


def made(*given: dict[str, Any]) -> list[Rule]:
    return [check_rule(fields, rule_id=number) for number, fields in enumerate(given, 1)]


def kinds(*given: dict[str, Any]) -> set[tuple[int, Kind]]:
    return {(found.rule_id, found.kind) for each in lint.badges(made(*given)).values() for found in each}


def unreachable(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return (2, Kind.UNREACHABLE) in kinds({"priority": 1, **first}, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"match_string": "FAN"}, {"match_string": "fan failed"}),
        ({"match_string": "x"}, {"match_string": "x y"}),
        ({"match_string": "fan"}, {"match_string": "big fan", "match_type": "prefix"}),
        ({"match_string": "fan"}, {"match_string": "big fan", "match_type": "equals"}),
        (
            {"match_string": "big", "match_type": "prefix"},
            {"match_string": "Big fan", "match_type": "prefix"},
        ),
        (
            {"match_string": "big", "match_type": "prefix"},
            {"match_string": "Big fan", "match_type": "equals"},
        ),
        ({"match_string": "fan"}, {"match_string": "fan", "match_type": "equals"}),
        ({"match_string": ".*fan.*", "match_type": "regex"}, {"match_string": "fan failed"}),
        (
            {"match_string": "a[0-9]+b", "match_type": "regex"},
            {"match_string": "a[0-9]+b", "match_type": "regex", "source": "syslog"},
        ),
        ({"match_string": "fan", "syslog_severity": 5}, {"match_string": "fan", "syslog_severity": 3}),
        ({"match_string": "fan", "hostname": "core-*"}, {"match_string": "fan", "hostname": "CORE-1"}),
        ({"match_string": "fan", "hostname": "*"}, {"match_string": "fan 1"}),
        (
            {"match_string": "fan", "hostname": "10.0.0.0/8"},
            {"match_string": "fan", "hostname": "10.1.0.0/16"},
        ),
        ({"match_string": "fan", "hostname": "10.0.0.0/8"}, {"match_string": "fan", "hostname": "10.1.2.3"}),
        (
            {"match_string": "fan", "hostname": "2001:db8::/32"},
            {"match_string": "fan", "hostname": "2001:db8::1"},
        ),
        ({"match_string": "fan", "tags": {"a": "1"}}, {"match_string": "fan", "tags": {"a": "1", "b": "2"}}),
        ({"match_string": "fan", "source": "Syslog"}, {"match_string": "fans", "source": "syslog"}),
        (
            {"match_type": "oid_prefix", "trap_oid": "1.3.6"},
            {"match_type": "oid_prefix", "trap_oid": "1.3.6.1"},
        ),
        ({"match_type": "oid_prefix", "trap_oid": "1.3.6"}, {"match_string": "fan", "trap_oid": "1.3.6.1"}),
        ({"match_string": "fan", "field": "program"}, {"match_string": "fan x", "field": "program"}),
    ],
)
def test_a_rule_that_an_earlier_one_always_precedes(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Said where the earlier rule's text and scope are the wider ones, and not the other way round."""
    assert unreachable(first, second)
    assert not unreachable(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"match_string": "fan", "is_active": False}, {"match_string": "fan"}),
        ({"match_string": "fan", "field": "program"}, {"match_string": "fan x"}),
        ({"match_string": "fan", "match_type": "prefix"}, {"match_string": "fan"}),
        ({"match_string": "fan", "hostname": "core-*"}, {"match_string": "fan"}),
        ({"match_string": "fan", "hostname": "core-*"}, {"match_string": "fan", "hostname": "core-1*"}),
        ({"match_string": "fan", "hostname": "sw[a-z]1"}, {"match_string": "fan", "hostname": "sw[A-z]1"}),
        ({"match_string": "fan", "hostname": "i\u0307*"}, {"match_string": "fan", "hostname": "\u0130*"}),
        (
            {"match_string": "fan", "hostname": "2001:db8::*"},
            {"match_string": "fan", "hostname": "2001:db8::1"},
        ),
        ({"match_string": "a+", "match_type": "regex"}, {"match_string": "aa"}),
        ({"match_type": "oid_prefix", "trap_oid": "1.3.6"}, {"match_string": "1.3.6.1"}),
        (
            {"match_type": "oid_prefix", "trap_oid": "1.3.6"},
            {"match_type": "oid_prefix", "trap_oid": "1.3.61"},
        ),
    ],
)
def test_nothing_is_claimed_that_is_not_sure(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Not active, another field, a narrower scope, a regex whose language nobody knows."""
    assert not unreachable(first, second)


def test_rules_that_ask_for_the_same() -> None:
    """The later one is a duplicate of the earlier."""
    assert (2, Kind.DUPLICATE) in kinds({"match_string": "Fan"}, {"match_string": "fan", "priority": 200})


_events = st.builds(
    Example,
    message=st.sampled_from(
        ["fan", "fan failed in bay 3", "Fan failed", "no", "LINK-DOWN", "1:30", "010", "x"]
    ),
    hostname=st.sampled_from(["core-1", "CORE-1", "10.1.2.3", "lab-7", "other"]),
    severity=st.none() | st.integers(0, 7),
    source=st.sampled_from(["syslog", "snmptrap", "SYSLOG"]),
    program=st.none() | st.sampled_from(["sshd", "Cron"]),
    trap_oid=st.none() | st.sampled_from(["1.3.6.1.4.1.9.1", "1.3.6.1.4.1.99", "1.3.6.1.6.3.1.1.5.3"]),
    tags=st.dictionaries(st.sampled_from(["site", "rack"]), st.sampled_from(["lon1", "no", "7"])),
)


@given(st.lists(rules(field="message"), min_size=2, max_size=12), st.lists(_events, max_size=20))
def test_what_is_called_unreachable_never_decides(found: list[Rule], events: list[Example]) -> None:
    """Whatever event comes: a rule that is said to be unreachable, or a duplicate, decides none."""
    numbered = [msgspec.structs.replace(rule, id=number) for number, rule in enumerate(found, 1)]
    ruleset = Ruleset.compile(1, numbered, [], {})
    said = lint.badges(numbered)
    wanted = {Kind.UNREACHABLE, Kind.DUPLICATE}
    never = {rule_id for rule_id, each in said.items() if wanted & {finding.kind for finding in each}}
    for example in events:
        matching = ruleset.matching(event_of(example))
        assert not matching or matching[0].id not in never


@pytest.mark.parametrize(
    ("pattern", "simple"),
    [
        ("fan failed", (MatchType.CONTAINS, "fan failed")),
        (".*fan.*", (MatchType.CONTAINS, "fan")),
        ("^.*fan", (MatchType.CONTAINS, "fan")),
        ("^fan", (MatchType.PREFIX, "fan")),
        (r"\Afan.*$", (MatchType.PREFIX, "fan")),
        ("^fan$", (MatchType.EQUALS, "fan")),
        (r"(?i)^fan\.\[1\]$", (MatchType.EQUALS, "fan.[1]")),
        ("fan[.]1", (MatchType.CONTAINS, "fan.1")),
        (r"%LINK-3-UPDOWN", (MatchType.CONTAINS, "%LINK-3-UPDOWN")),
        ("fan$", None),
        ("^.*fan$", None),
        ("fan|pump", None),
        ("fan.", None),
        ("fa+n", None),
        ("fan?", None),
        (r"\d", None),
        (r"\bfan", None),
        ("[ab]", None),
        ("(fan)", None),
        ("a{2}", None),
        ("(?m)^fan", None),
        ("(?-i)fan", None),
        (" ", None),
        (".*", None),
        (r"\Qa+b\E", None),
    ],
)
def test_a_regex_that_is_none(pattern: str, simple: tuple[MatchType, str] | None) -> None:
    assert lint.simpler(pattern) == simple


_bits = st.sampled_from(
    ["fan", "K", "ſ", "é", ".", ".*", ".*?", "^", "$", r"\.", r"\-", "[.]", "[k]", r"\A", r"\z", " ", "(?i)"]
)
_signs = st.text(st.sampled_from("fanFkKKsſSéÉ.-\n "), max_size=8)


@given(st.lists(_bits, min_size=1, max_size=6).map("".join), st.lists(_signs, min_size=1, max_size=20))
def test_what_is_proposed_matches_the_very_same(pattern: str, texts: list[str]) -> None:
    """Under re2's own folding of letters, whatever the text."""
    simple = lint.simpler(pattern)
    if simple is None:
        return
    both = Matcher([(0, pattern), (1, expression(*simple))])
    for text in [*texts, simple[1], simple[1].upper(), f"x{simple[1]}", f"{simple[1]}\n"]:
        assert len(both.match(text)) in (0, 2)


def found(rules_: list[Rule], facts: Facts) -> dict[Kind, list[Finding]]:
    by_kind: dict[Kind, list[Finding]] = {}
    for finding in lint.findings(rules_, facts):
        by_kind.setdefault(finding.kind, []).append(finding)
    return by_kind


def test_what_the_facts_say() -> None:
    """Rules that were silent, scopes that no host is in, rules that share events; and the worst comes first."""
    given = made(
        {"match_string": "fan", "priority": 1},
        {"match_string": "failed", "hostname": "core-*"},
        {"match_string": "x", "hostname": "gone-*", "prod_handling": "Ignore"},
    )
    sample = [event_of(Example(message=f"fan {number} failed", hostname="core-1")) for number in range(7)]
    told = found(given, Facts(days=90, silent=frozenset([3]), hosts=frozenset(["core-1"]), sample=sample))
    assert [(one.rule_id) for one in told[Kind.NEVER_FIRED]] == [3]
    assert [(one.rule_id) for one in told[Kind.NO_HOST]] == [3]
    assert [(one.rule_id) for one in told[Kind.AUDIT_ONLY]] == [3]
    (shared,) = told[Kind.OVERLAPPING]
    assert (shared.rule_id, shared.other, shared.fields) == (2, 1, {"events": 7})
    assert len(told[Kind.NO_EXAMPLES]) == 3
    order = list(Kind)
    assert list(told) == sorted(told, key=order.index)


def test_what_a_rule_costs_is_measured() -> None:
    """Each rule with a text, in microseconds an event of the sample; a rule on an OID has none."""
    given = made(
        {"match_string": "fan"},
        {"match_string": r"(\w+\s+){3}x", "match_type": "regex"},
        {"match_type": "oid_prefix", "trap_oid": "1.3"},
    )
    sample = [event_of(Example(message="a b c d e f " * 20)) for _ in range(20)]
    measured = lint.costs(given, sample)
    costs = {rule.id: micros for rule, micros in measured}
    assert Kind.DEAR not in {one.kind for one in lint.findings(given)}
    dear = [(rule, lint.DEAR_US) for rule, _ in measured]
    assert [one.rule_id for one in lint.findings(given, measured=dear) if one.kind is Kind.DEAR] == [1, 2]
    assert costs.keys() == {1, 2}
    assert all(micros > 0 for micros in costs.values())
    assert lint.costs(given, sample, seconds=-1) == []


def test_a_rule_that_is_not_in_force() -> None:
    """Only psql can have written it; the rules beside it are looked at all the same, and it covers none of them."""
    broken = Rule(id=1, name="broken", match_type=MatchType.REGEX, match_string="(?=x)", priority=1)
    same = msgspec.structs.replace(broken, id=2)
    assert {finding.kind for each in lint.badges([broken, same]).values() for finding in each} == {
        Kind.NOT_IN_FORCE
    }
