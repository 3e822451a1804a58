"""evaluate: which rule decides, what it decides, and that no event is without a verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.event import Event, State
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.rule import Handling, MatchType, Rule

NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)


def event(message: str = "link-down", hostname: str = "core-1", **fields: Any) -> Event:
    return Event(
        event_id=UUID(int=7), received_at=NOW, occurred_at=NOW, hostname=hostname, message=message, **fields
    )


def rule(id: int = 1, match_string: str = "LINK-DOWN", **fields: Any) -> Rule:
    return Rule(id=id, name=f"R{id}", match_string=match_string, **fields)


def ruleset(*rules: Rule, development: tuple[str, ...] = (), teams: dict[str, str] | None = None) -> Ruleset:
    return Ruleset.compile(4, rules, development, teams or {})


@pytest.mark.parametrize(
    ("rules", "decides"),
    [
        ([rule(1, priority=6), rule(2, priority=5)], 2),  # the lowest priority number
        ([rule(2, priority=5), rule(1, priority=5)], 1),  # then the lowest id
        ([rule(1, "other", priority=1), rule(2)], 2),  # the first that matches
        ([rule(1, priority=1, is_active=False), rule(2)], 2),
        ([rule(1, priority=1, hostname="edge-*"), rule(2)], 2),  # the first whose scope admits it
        ([rule(1, "nothing")], None),
        ([], None),
    ],
)
def test_the_first_match_decides(rules: list[Rule], decides: int | None) -> None:
    assert evaluate(event(), ruleset(*rules)).rule_id == decides


@pytest.mark.parametrize(
    ("scope", "fields", "admitted"),
    [
        ({"syslog_severity": 4}, {"severity": 4}, True),
        ({"syslog_severity": 4}, {"severity": 0}, True),  # 4 matches 0 to 4
        ({"syslog_severity": 4}, {"severity": 5}, False),
        ({"syslog_severity": 0}, {"severity": 0}, True),
        ({"syslog_severity": 7}, {}, False),  # an event without severity is in no scope of severity
        ({"hostname": "CORE-*"}, {}, True),
        ({"hostname": "core"}, {}, False),
        ({"hostname": "10.0.0.0/8"}, {"hostname": "10.9.8.7"}, True),
        ({"hostname": "10.0.0.0/8"}, {}, False),
        ({"source": "Cisco-IOS"}, {"source": "cisco-ios"}, True),
        ({"source": "cisco"}, {"source": "cisco-ios"}, False),
        ({"program": "kernel"}, {"program": "Kernel"}, True),
        ({"program": "kernel"}, {}, False),
        ({"tags": {"site": "lon1"}}, {"tags": {"site": "lon1", "x": "y"}}, True),
        ({"tags": {"site": "lon1"}}, {"tags": {"site": "LON1"}}, False),  # a tag is equal or not
        ({"tags": {"site": "lon1", "rack": "2"}}, {"tags": {"site": "lon1"}}, False),  # every one
        ({"trap_oid": ".1.3.6"}, {"trap_oid": "1.3.6.1"}, True),  # a text rule for certain traps
        ({"trap_oid": "1.3.6"}, {"trap_oid": "1.3.61"}, False),
        ({"trap_oid": "1.3.6"}, {}, False),
    ],
)
def test_a_scope_admits(scope: dict[str, Any], fields: dict[str, Any], admitted: bool) -> None:
    assert (evaluate(event(**fields), ruleset(rule(**scope))).rule_id == 1) is admitted


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("hostname", {"hostname": "needle-1"}),
        ("program", {"program": "a needle"}),
        ("source", {"source": "needle"}),
        ("facility", {"facility": "needle"}),
        ("raw", {"raw": '{"x": "Needle"}'}),
        ("tags.site", {"tags": {"site": "needle"}}),
    ],
)
def test_a_rule_looks_into_its_own_field_only(field: str, fields: dict[str, Any]) -> None:
    rules = ruleset(rule(1, "needle", field=field))
    assert evaluate(event(**fields), rules).rule_id == 1
    assert evaluate(event("needle"), rules).rule_id is None


def test_an_oid_rule_applies_to_traps_and_a_text_rule_to_their_messages_too() -> None:
    oid_rule = rule(1, "", match_type=MatchType.OID_PREFIX, trap_oid="1.3.6.1.4.1.9", priority=1)
    rules = ruleset(oid_rule, rule(2))
    assert evaluate(event(trap_oid="1.3.6.1.4.1.9.9"), rules).rule_id == 1
    assert evaluate(event(trap_oid="1.3.6.1.6.3"), rules).rule_id == 2
    assert evaluate(event(), rules).rule_id == 2


@pytest.mark.parametrize("hostname", ["dev-router1", "DEV-ROUTER1", "lab-sw-3", "192.0.2.9"])
def test_a_development_host_has_the_development_handling(hostname: str) -> None:
    rules = ruleset(
        rule(prod_handling=Handling.PAGE_ONLY, dev_handling=Handling.TICKET_ONLY),
        development=("dev-router1", "lab-*", "192.0.2.0/24"),
    )
    found = evaluate(event(hostname=hostname), rules)
    assert (found.environment, found.handling, found.forward) == ("development", "Ticket_only", True)
    assert evaluate(event(), rules).handling == "Page_only"


@pytest.mark.parametrize(
    ("handling", "own", "severity", "expected"),
    [
        (Handling.TICKET_ONLY, 2, 0, 2),  # the rule's
        (Handling.TICKET_ONLY, 0, 0, 0),  # zero is one too
        (Handling.TICKET_ONLY, None, 0, 5),  # else the event's
        (Handling.TICKET_ONLY, None, 1, 5),
        (Handling.TICKET_ONLY, None, 2, 4),
        (Handling.TICKET_ONLY, None, 3, 3),
        (Handling.TICKET_ONLY, None, 4, 2),
        (Handling.TICKET_ONLY, None, 5, 2),
        (Handling.TICKET_ONLY, None, 6, 1),
        (Handling.TICKET_ONLY, None, 7, 1),
        (Handling.PAGE_AND_TICKET, None, None, 5),  # else by handling
        (Handling.PAGE_ONLY, None, None, 4),
        (Handling.TICKET_ONLY, None, None, 3),
        (Handling.PAGE_ONLY, None, 99, 4),  # a severity that is none
        (Handling.IGNORE, 5, 0, None),  # what is not forwarded has none
    ],
)
def test_moogs_severity(
    handling: Handling, own: int | None, severity: int | None, expected: int | None
) -> None:
    rules = ruleset(rule(prod_handling=handling, moog_severity=own))
    assert evaluate(event(severity=severity), rules).moog_severity == expected


@pytest.mark.parametrize("handling", Handling)
def test_all_but_ignore_are_forwarded(handling: Handling) -> None:
    assert evaluate(event(), ruleset(rule(prod_handling=handling))).forward is (handling != "Ignore")


@pytest.mark.parametrize(
    ("hostname", "team"),
    [
        ("Core-1", "Exact"),  # the name itself, ignoring case
        ("core-2", "Glob"),
        ("core-10-a", "Longer"),  # the longest glob
        ("10.1.1.1", "Net"),
        ("lb-07", "NETO"),  # nobody's
    ],
)
def test_an_unhandled_event_belongs_to_its_hosts_team(hostname: str, team: str) -> None:
    teams = {"core-*": "Glob", "core-10-*": "Longer", "core-1": "Exact", "10.0.0.0/8": "Net"}
    found = evaluate(event("port 12 flaps", hostname), ruleset(rule(), teams=teams))
    assert (found.rule_id, found.handling, found.forward) == (None, "Unhandled", False)
    assert (found.team, found.template) == (team, "port <*> flaps")


def test_mutts_own_event_asks_no_rule() -> None:
    own = event("link-down 100 times", template="link-down", team="NetOps")
    found = evaluate(own, ruleset(rule()))
    assert (found.rule_id, found.handling, found.forward, found.moog_severity) == (None, "Meta", True, 3)
    assert (found.team, found.template) == ("NetOps", "link-down")
    assert evaluate(event(template=""), ruleset()).team == "NETO"


@pytest.mark.parametrize(
    ("found_by", "fields", "why"),
    [
        (rule(3), {}, 'rule 3 R3 (priority 100) contains "LINK-DOWN"; production: Page_and_ticket'),
        (
            rule(3, "core", field="hostname", match_type=MatchType.PREFIX),
            {},
            'rule 3 R3 (priority 100) hostname prefix "core"; production: Page_and_ticket',
        ),
        (
            rule(3, "", match_type=MatchType.OID_PREFIX, trap_oid="1.3.6"),
            {"trap_oid": "1.3.6.1"},
            "rule 3 R3 (priority 100) trap under 1.3.6; production: Page_and_ticket",
        ),
        (rule(3, "nothing"), {}, "no rule matched"),
    ],
)
def test_a_verdict_says_why(found_by: Rule, fields: dict[str, Any], why: str) -> None:
    assert evaluate(event(**fields), ruleset(found_by)).why == why


def test_a_rule_that_cannot_be_compiled_does_not_stop_its_neighbours() -> None:
    broken = [
        rule(1, "(?=x)", match_type=MatchType.REGEX),
        rule(2, ""),
        rule(3, "", match_type=MatchType.OID_PREFIX),
        rule(4, hostname="10.0.0.0/99"),
        rule(5, field="nonsense"),
    ]
    rules = ruleset(*broken, rule(6), rule(7, "(", match_type=MatchType.REGEX, is_active=False))
    assert set(rules.refused) == {1, 2, 3, 4, 5}
    assert rules.refused[1].field == "match_string"
    assert evaluate(event(trap_oid="1.3"), rules).rule_id == 6


def test_a_ruleset_knows_its_version_and_the_names_of_its_rules() -> None:
    rules = ruleset(rule(1), rule(2, is_active=False))
    assert (rules.version, set(rules.rules)) == (4, {1, 2})
    assert [rules.rule_name(id) for id in (1, 2, 3, None)] == ["R1", "R2", "rule 3", "Unhandled"]


def test_what_is_remembered_of_hosts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutt.rules.evaluate.HOSTS_REMEMBERED", 1_000)
    rules = ruleset(development=("h7",))
    for number in range(1_002):
        rules.host(f"h{number}")
    assert len(rules._hosts) <= 1_000
    assert rules.host("h7").environment == "development"


ANY = st.text(st.characters(exclude_categories=()), max_size=40)
EVENTS = st.builds(
    Event,
    event_id=st.uuids(),
    received_at=st.just(NOW),
    occurred_at=st.just(NOW),
    hostname=ANY | st.ip_addresses().map(str),
    message=ANY | st.just("LINK-DOWN"),
    severity=st.none() | st.integers(),
    state=st.sampled_from(State),
    source=ANY,
    facility=st.none() | ANY,
    program=st.none() | ANY,
    trap_oid=st.none() | ANY | st.just("1.3.6.1"),
    tags=st.dictionaries(ANY, ANY, max_size=3),
    raw=ANY,
    template=st.none() | ANY,
    team=st.none() | ANY,
)

EVERY_KIND = ruleset(
    rule(1, r"\d+ .*x", match_type=MatchType.REGEX, field="raw"),
    rule(2, "site", field="tags.site"),
    rule(3, "k", field="program", hostname="[a-f]*", priority=2),
    rule(4, "", match_type=MatchType.OID_PREFIX, trap_oid="1.3.6", priority=3),
    rule(5, syslog_severity=3, source="x", program="y", tags={"": ""}, hostname="2001:db8::/32"),
    rule(6, priority=200),
    development=("10.0.0.0/8", "*x*"),
    teams={"?": "One"},
)


@given(EVENTS)
def test_every_event_has_a_verdict_and_always_the_same(any_event: Event) -> None:
    found = evaluate(any_event, EVERY_KIND)
    assert found == evaluate(any_event, EVERY_KIND)
    assert found.forward is (found.moog_severity is not None)
    assert found.why
    assert (found.template is None) is (found.rule_id is not None)


@pytest.mark.parametrize(
    ("environment", "hostname", "handling"),
    [
        (None, "core-1", "Page_and_ticket"),
        (None, "lab-1", "Ignore"),
        ("development", "core-1", "Ignore"),
        ("production", "lab-1", "Page_and_ticket"),
    ],
)
def test_what_its_key_says_of_the_environment_comes_before_its_host(
    environment: str | None, hostname: str, handling: str
) -> None:
    rules = ruleset(rule(), development=("lab-*",))
    verdict = evaluate(event(hostname=hostname, environment=environment), rules)
    assert verdict.handling == handling
    assert verdict.environment == (environment or ("development" if hostname == "lab-1" else "production"))


@pytest.mark.parametrize("template", [None, "meta"])
@pytest.mark.parametrize(
    ("hostname", "default_team", "team"),
    [("core-1", None, "Core"), ("core-1", "Web", "Core"), ("x", "Web", "Web"), ("x", None, "NETO")],
)
def test_a_team_comes_from_the_host_then_from_the_key_then_from_nowhere(
    template: str | None, hostname: str, default_team: str | None, team: str
) -> None:
    """Of what no rule handles, and of the alert that MUTT makes of many such."""
    rules = ruleset(teams={"core-*": "Core"})
    told = evaluate(event("x", hostname, default_team=default_team, template=template), rules)
    assert (told.rule_id, told.team) == (None, team)
    assert evaluate(event(hostname=hostname, default_team="Web"), ruleset(rule())).team == "NETO", "a rule's"
