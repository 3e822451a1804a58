"""An example holds against the rule's own conditions, and what fails is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.golden import check_examples, event_of
from mutt.rules.rule import Example, Rule
from tests.unit.rules_at_random import rules

RULE = {
    "match_string": "fan",
    "syslog_severity": 4,
    "hostname": "core-*",
    "source": "syslog",
    "program": "envd",
    "trap_oid": "1.3.6.1",
    "tags": {"site": "lon1"},
}
GOOD = {
    "message": "FAN failed",
    "severity": 3,
    "hostname": "core-1",
    "source": "syslog",
    "program": "ENVD",
    "trap_oid": "1.3.6.1.4",
    "tags": {"site": "lon1"},
}


def test_an_example_that_holds_is_kept() -> None:
    """Both kinds, among them the short form."""
    rule = check_rule({**RULE, "examples": [GOOD, {**GOOD, "severity": 5, "matches": False}]})
    assert [example.matches for example in rule.examples] == [True, False]
    assert check_rule({"match_string": "fan", "examples": ["fan failed"]}).examples


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"message": "pump"}, "message"),
        ({"severity": 5}, "severity 5"),
        ({"severity": None}, "no severity"),
        ({"hostname": "lab-1"}, "hostname"),
        ({"source": "native"}, "source"),
        ({"program": "sshd"}, "program"),
        ({"trap_oid": "1.3.7"}, "trap_oid"),
        ({"trap_oid": None}, "trap_oid"),
        ({"tags": {}}, "tag site"),
    ],
)
def test_the_condition_that_failed_is_named(change: dict[str, Any], named: str) -> None:
    """Which example, and which part of the rule keeps it out; the same example may stand as one that must not match."""
    with pytest.raises(RuleError) as refused:
        check_rule({**RULE, "examples": [GOOD, {**GOOD, **change}]})
    assert refused.value.field == "examples[1]"
    assert named in refused.value.reason
    check_rule({**RULE, "examples": [GOOD, {**GOOD, **change, "matches": False}]})


def test_an_event_that_must_not_match_and_does() -> None:
    """Refused, also of a rule that is off: it could be switched on."""
    with pytest.raises(RuleError) as refused:
        check_rule(
            {"match_string": "fan", "is_active": False, "examples": [{"message": "fan", "matches": False}]}
        )
    assert refused.value.field == "examples[0]"


_examples = st.builds(
    Example,
    message=st.sampled_from(["fan failed in bay 3", "FAN", "no", "LINK-DOWN x", "two\nlines", "1:30"]),
    hostname=st.sampled_from(["core-1", "10.1.2.3", "lab-7", "CORE-9"]),
    severity=st.none() | st.integers(0, 7),
    source=st.sampled_from(["syslog", "snmptrap", "native"]),
    program=st.none() | st.sampled_from(["sshd", "Cron"]),
    trap_oid=st.none() | st.sampled_from(["1.3.6.1.4.1.9.1", "1.3.6.1.4.1.99"]),
    tags=st.dictionaries(st.sampled_from(["site", "rack"]), st.sampled_from(["lon1", "no"])),
)


@given(rules(is_active=True), _examples)
def test_an_example_matches_where_the_live_rule_would(rule: Rule, example: Example) -> None:
    """What an example says of a rule is what evaluation says of that event with this rule alone."""
    ruleset = Ruleset.compile(1, [rule], [], {})
    decided = evaluate(event_of(example), ruleset).rule_id is not None
    held = msgspec.structs.replace(rule, examples=(msgspec.structs.replace(example, matches=decided),))
    check_examples(held)
    with pytest.raises(RuleError):
        check_examples(
            msgspec.structs.replace(rule, examples=(msgspec.structs.replace(example, matches=not decided),))
        )
