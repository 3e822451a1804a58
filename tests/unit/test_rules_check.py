"""check_rule: what people write becomes a rule, or an error that names the field and the remedy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import Handling, MatchType, Rule
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS, STARTING_RULES


def test_a_rule_as_a_form_gives_it_is_a_rule() -> None:
    given_by_form = {
        "id": "99",
        "name": "",
        "match_type": " regex ",
        "match_string": "LINK-(UP|DOWN)",
        "field": "tags.site",
        "trap_oid": " .1.3.6.1.4.1.9. ",
        "syslog_severity": "Critical",
        "hostname": " 10.0.0.0/8 ",
        "source": "",
        "program": None,
        "tags": {"site": "lon1", "rack": 7},
        "priority": "6",
        "prod_handling": "Page_only",
        "dev_handling": "Ignore",
        "team_assignment": " NetOps ",
        "moog_severity": "4",
        "is_active": "off",
    }
    assert check_rule(given_by_form, rule_id=3) == Rule(
        id=3,
        name="LINK-(UP|DOWN)",
        match_type=MatchType.REGEX,
        match_string="LINK-(UP|DOWN)",
        field="tags.site",
        trap_oid="1.3.6.1.4.1.9",
        syslog_severity=2,
        hostname="10.0.0.0/8",
        tags={"site": "lon1", "rack": "7"},
        priority=6,
        prod_handling=Handling.PAGE_ONLY,
        dev_handling=Handling.IGNORE,
        team_assignment="NetOps",
        moog_severity=4,
        is_active=False,
    )


def test_what_is_absent_has_its_default() -> None:
    assert check_rule({"match_string": "down"}) == Rule(id=0, name="down", match_string="down")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"match_string": " down "}, {"match_string": " down "}),  # blanks may be what tells words apart
        ({"match_type": "oid_prefix", "trap_oid": ".1.3.6"}, {"name": "1.3.6", "trap_oid": "1.3.6"}),
        # an OID in the other field is what was meant
        ({"match_type": "oid_prefix", "match_string": ".1.3.6"}, {"match_string": "", "trap_oid": "1.3.6"}),
        ({"match_type": "oid_prefix", "match_string": "1.3", "trap_oid": ".1.3"}, {"match_string": ""}),
        ({"match_type": "oid_prefix", "trap_oid": "1.3", "field": "raw"}, {"field": "message"}),
        ({"match_string": "x", "syslog_severity": 0}, {"syslog_severity": 0}),  # zero is a severity
        ({"match_string": "x", "moog_severity": 0}, {"moog_severity": 0}),
        ({"match_string": "x", "syslog_severity": ""}, {"syslog_severity": None}),
        ({"match_string": "x", "is_active": False}, {"is_active": False}),
        ({"match_string": "x", "priority": -1}, {"priority": -1}),
        ({"match_string": 404}, {"match_string": "404"}),  # YAML's numbers
    ],
)
def test_values_are_read_as_meant(data: dict[str, Any], expected: dict[str, Any]) -> None:
    rule = msgspec.structs.asdict(check_rule(data))
    assert {name: rule[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"match_type": "contain"}, "match_type", "contains, equals, prefix, regex, oid_prefix"),
        ({"match_type": None}, "match_type", "none of"),
        (
            {"prod_handling": "Page_and_tickt"},
            "prod_handling",
            "Page_and_ticket, Page_only, Ticket_only, Ignore",
        ),
        ({"dev_handling": ""}, "dev_handling", "Page_and_ticket, Page_only, Ticket_only, Ignore"),
        ({"match_string": ""}, "match_string", "empty"),
        ({"match_string": " \t"}, "match_string", "empty"),
        ({"match_string": ["x"]}, "match_string", "write text"),
        ({"match_string": "a\0b"}, "match_string", "NUL"),
        ({"match_string": "\ud800"}, "match_string", "surrogate"),
        ({"match_string": "x" * 5000}, "match_string", "at most 4096"),
        ({"match_type": "regex", "match_string": "a(?=b)"}, "match_string", "look-ahead"),
        ({"match_type": "oid_prefix", "match_string": ""}, "trap_oid", "is empty"),
        ({"match_type": "oid_prefix", "match_string": "", "trap_oid": "..."}, "trap_oid", "is empty"),
        ({"match_type": "oid_prefix", "match_string": "linkDown"}, "match_string", "no OID"),
        ({"match_type": "oid_prefix", "trap_oid": "1.3"}, "match_string", "has no meaning beside oid_prefix"),
        ({"trap_oid": "1..3"}, "trap_oid", "numbers and dots"),
        ({"trap_oid": "IF-MIB::linkDown"}, "trap_oid", "numbers and dots"),
        ({"trap_oid": "١.٣"}, "trap_oid", "numbers and dots"),  # other scripts' digits
        ({"syslog_severity": 8}, "syslog_severity", "from 0 to 7"),
        ({"syslog_severity": "bad"}, "syslog_severity", "or a name"),
        ({"syslog_severity": True}, "syslog_severity", "from 0 to 7"),
        ({"syslog_severity": 2.5}, "syslog_severity", "from 0 to 7"),
        ({"moog_severity": 6}, "moog_severity", "from 0 to 5"),
        ({"moog_severity": "critical"}, "moog_severity", "from 0 to 5"),
        ({"priority": "high"}, "priority", "whole number"),
        ({"priority": None}, "priority", "whole number"),
        ({"priority": 2**31}, "priority", "whole number"),  # beyond the table's column
        ({"hostname": "10.0.0.0/99"}, "hostname", "no network"),
        ({"hostname": "[z-a]"}, "hostname", "range: z-a"),
        ({"field": "hostnam"}, "field", "message, hostname, program"),
        ({"field": "tags."}, "field", "tags.NAME"),
        ({"tags": "site=lon1"}, "tags", "no mapping"),
        ({"tags": {"": "x"}}, "tags", "without a name"),
        ({"team_assignment": "  "}, "team_assignment", "name a team"),
        ({"is_active": "maybe"}, "is_active", "neither true nor false"),
        ({"prod_handeling": "Ignore"}, "prod_handeling", "did you mean prod_handling?"),
        ({"xyz": 1}, "xyz", "there are name, match_type"),
    ],
)
def test_what_cannot_stay_is_refused_by_name(change: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(RuleError) as refused:
        check_rule({"match_string": "x", **change})
    assert refused.value.field == field
    assert reason in refused.value.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(Rule.__struct_fields__) | st.text(max_size=5), JSON))
def test_whatever_is_given_is_a_rule_that_compiles_or_a_refusal(data: dict[str, Any]) -> None:
    try:
        rule = check_rule({"match_string": "x", **data}, rule_id=1)
    except RuleError as refused:
        field = refused.field.partition("[")[0]  # examples[0].message
        assert refused.field in data or field in {
            "examples",
            "match_string",
            "trap_oid",
            "threshold_count",
            "threshold_window",
            "flap_count",
            "flap_window",
        }
        return
    assert Ruleset.compile(1, [rule], (), {}).refused == {}
    assert check_rule(msgspec.to_builtins(rule), rule_id=1) == rule  # what is stored may be saved again


def test_the_starting_rules_are_rules() -> None:
    assert [check_rule(msgspec.to_builtins(rule), rule_id=rule.id) for rule in STARTING_RULES] == list(
        STARTING_RULES
    )
    assert Ruleset.compile(1, STARTING_RULES, STARTING_DEVELOPMENT_HOSTS, {}).refused == {}
