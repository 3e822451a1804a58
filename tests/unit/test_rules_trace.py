"""trace: it agrees with evaluate on every event, and says which condition of which rule failed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import re2
from hypothesis import assume, given
from hypothesis import strategies as st

from mutt.event import Event
from mutt.rules.evaluate import Ruleset, evaluate, fault
from mutt.rules.matcher import expression
from mutt.rules.preview import pieces, preview
from mutt.rules.rule import Handling, MatchType, Rule
from mutt.rules.trace import Trace, trace
from mutt.rules.windows import Window
from tests.unit.test_rules_evaluate import ANY, EVENTS, EVERY_KIND, NOW, event, rule, ruleset

WORDS = st.sampled_from(["link", "down", "LINK-DOWN", "k", "ſ", "é", "core-1", "1.3.6", "x.", "10.0.0.1"])
TEXT = st.lists(WORDS, max_size=4).map(" ".join)
LIKELY = st.builds(
    event,
    TEXT.map(lambda text: text or "link"),
    st.sampled_from(["core-1", "CORE-2", "10.0.0.1", "edge"]),
    severity=st.none() | st.integers(0, 7),
    source=st.sampled_from(["native", "Syslog"]),
    program=st.none() | st.sampled_from(["kernel", "K"]),
    trap_oid=st.none() | st.sampled_from(["1.3.6.1", "1.3.6.1.4.1.9", ".1.3.61"]),
    tags=st.dictionaries(st.sampled_from(["site", "rack"]), st.sampled_from(["lon1", "2"])),
    raw=TEXT,
    template=st.none() | st.none() | st.none() | TEXT,
    default_team=st.sampled_from([None, "Web"]),
    environment=st.sampled_from([None, None, "development", "production"]),
)
RULES = st.builds(
    Rule,
    id=st.integers(1, 9),
    name=WORDS,
    match_type=st.sampled_from(MatchType),
    match_string=WORDS | st.text(max_size=40) | st.sampled_from([r"\w+", "(?=x)", "down$", "x*"]),
    field=st.sampled_from(["message", "message", "raw", "program", "tags.site", "nonsense"]),
    trap_oid=st.none() | st.sampled_from(["1.3.6", "1.3.6.1.4.1", ""]),
    syslog_severity=st.none() | st.none() | st.integers(0, 7),
    hostname=st.none() | st.none() | st.sampled_from(["core-*", "10.0.0.0/8", "10.0.0.0/99", "edge"]),
    source=st.none() | st.none() | st.sampled_from(["syslog", "native"]),
    program=st.none() | st.none() | st.sampled_from(["KERNEL", "k"]),
    tags=st.just({}) | st.just({"site": "lon1"}),
    priority=st.integers(1, 3),
    prod_handling=st.sampled_from(Handling),
    is_active=st.sampled_from([True, True, True, False]),
)
RULESETS = st.lists(RULES, max_size=8, unique_by=lambda one: one.id)


#: Maintenance of a host's pattern, of a team, of a rule: a draft is held as it would be once saved.
WINDOWS = [
    Window(
        id=n,
        name="w",
        owner="o",
        starts_at=NOW - timedelta(hours=1),
        ends_at=NOW + timedelta(hours=1),
        **scope,
    )
    for n, scope in enumerate(
        ({"hostname": "edge"}, {"rule_id": 3}, {"team": "core", "hostname": "core-*"}), 1
    )
]


def told(any_event: Event, rules: Ruleset, **more: Any) -> Trace:
    """A trace that tells every rule."""
    return trace(any_event, rules, most=10_000, near=10_000, only=list(rules.rules), **more)


def check_agrees(any_event: Event, rules: list[Rule]) -> None:
    compiled = Ruleset.compile(4, rules, ("10.*",), {"core-*": "Core"})
    found = told(any_event, compiled)
    verdict = evaluate(any_event, compiled)
    assert (found.verdict, found.rule_id) == (verdict, verdict.rule_id)
    assert [one.rule_id for one in found.tried if one.decides] == [verdict.rule_id] * (
        verdict.rule_id is not None
    )
    assert len(found.tried) == found.rules == len(rules)
    for one in found.tried:
        alone = compiled.rules[one.rule_id]
        decides = evaluate(any_event, Ruleset.compile(4, [alone], (), {})).rule_id
        assert one.matches is (decides == one.rule_id), one
        assert one.why
    first = next((one.rule_id for one in found.tried if one.matches), None)
    assert first == verdict.rule_id
    assert found.asked == sum(one.asked for one in found.tried)


@given(LIKELY, RULESETS)
def test_a_trace_agrees_with_evaluate_about_the_verdict_and_about_each_rule_alone(
    any_event: Event, rules: list[Rule]
) -> None:
    check_agrees(any_event, rules)


@given(EVENTS)
def test_it_agrees_on_whatever_senders_send(any_event: Event) -> None:
    check_agrees(any_event, list(EVERY_KIND.rules.values()))


@given(LIKELY, RULESETS, RULES)
def test_a_draft_decides_as_if_it_were_saved(any_event: Event, rules: list[Rule], draft: Rule) -> None:
    how: Any = {"development_hosts": ("10.*",), "device_teams": {"core-*": "Core"}, "windows": WINDOWS}
    base = Ruleset.compile(4, rules, **how)
    saved = [one for one in rules if one.id != draft.id] + [draft]
    expected = evaluate(any_event, Ruleset.compile(4, saved, **how))
    assert trace(any_event, base, draft=draft).verdict == expected


@given(LIKELY, RULESETS, RULES)
def test_a_new_draft_comes_behind_its_equals(any_event: Event, rules: list[Rule], draft: Rule) -> None:
    base = Ruleset.compile(4, rules, (), {})
    new = Rule(**{name: getattr(draft, name) for name in Rule.__struct_fields__} | {"id": 0})
    last = Rule(**{name: getattr(draft, name) for name in Rule.__struct_fields__} | {"id": 99})
    expected = evaluate(any_event, Ruleset.compile(4, [*rules, last], (), {}))
    found = trace(any_event, base, draft=new)
    assert (99 if found.rule_id == 0 else found.rule_id) == expected.rule_id
    assert (found.verdict.handling, found.verdict.team) == (expected.handling, expected.team)


@given(LIKELY, RULES)
def test_each_span_is_a_match_and_no_character_between_them_begins_one(any_event: Event, one: Rule) -> None:
    assume(one.match_type is not MatchType.OID_PREFIX and fault(one) is None)
    (tried,) = told(any_event, ruleset(one)).tried
    options = re2.Options()
    options.case_sensitive, options.dot_nl = False, True
    pattern = re2.compile(expression(one.match_type, one.match_string), options)
    name = one.field.removeprefix("tags.")
    text = any_event.tags.get(name) if one.field != name else getattr(any_event, name)
    spans = [] if text is None else [found.span() for found in pattern.finditer(text)]
    assert list(tried.spans) == [span for span in spans if span[1] > span[0]]


def test_the_condition_that_failed_is_named_with_what_the_event_has() -> None:
    (tried,) = told(event(severity=6), ruleset(rule(syslog_severity=3, program="kernel"))).tried
    assert [(one.what, one.wanted, one.found) for one in tried.failed] == [
        ("severity", "0 to 3 (err)", "6 (info)"),
        ("program", "kernel", None),
    ]
    assert "severity wants '0 to 3 (err)', the event has '6 (info)'" in tried.why
    assert "the event has none" in tried.why


def test_the_matched_text_is_found_by_character_also_behind_others_of_many_bytes() -> None:
    found = trace(event("é…  link-down, LINK-DOWN"), ruleset(rule(1)))
    (tried,) = found.tried
    assert tried.spans == ((4, 13), (15, 24))


def test_a_rule_behind_the_one_that_decides_says_which_came_before_it() -> None:
    _, later = trace(event(), ruleset(rule(1, priority=5), rule(2))).tried
    assert (later.matches, later.decides, later.asked) == (True, False, False)
    assert "rule 1 R1 comes before it" in later.why


def test_a_rule_that_is_off_or_broken_says_so() -> None:
    rules = ruleset(rule(1, is_active=False), rule(2, "(", match_type=MatchType.REGEX))
    off, broken = told(event(), rules).tried
    assert (off.failed[0].what, broken.failed[0].what) == ("active", "compiled")
    assert (off.asked, broken.asked) == (False, False)


def test_the_host_says_why_it_is_development_and_whose_it_is() -> None:
    rules = ruleset(development=("core-*",), teams={"core-1": "Core"})
    found = trace(event(), rules)
    assert "'core-*'" in found.environment_why
    assert "Core by 'core-1'" in found.team_why


def test_what_an_api_key_says_of_its_events_is_told_as_the_reason() -> None:
    rules = ruleset(development=("core-*",))
    found = trace(event(environment="production", default_team="Web"), rules)
    assert found.environment == "production"
    assert found.environment_why == "its API key says production, whatever core-1 is"
    assert "of its API key go to Web" in found.team_why


def test_of_ten_thousand_rules_the_matching_and_the_nearest_are_told_and_the_others_counted() -> None:
    rules = [rule(n, f"word-{n} of rule", priority=n) for n in range(1, 10_001)]
    compiled = ruleset(*rules, rule(10_001, "LINK-UP", priority=1), rule(10_002))
    began = time.process_time()
    found = trace(event(), compiled)
    assert time.process_time() - began < 1
    assert [one.rule_id for one in found.tried][-1] == found.rule_id == 10_002
    assert 10_001 in {one.rule_id for one in found.tried}
    assert found.untold + len(found.tried) == found.rules == 10_002
    assert len(found.tried) <= 60


def test_a_draft_beside_ten_thousand_rules_is_previewed_on_fifty_events_in_time() -> None:
    rules = [rule(n, f"word-{n} of rule", priority=n, hostname="core-*") for n in range(1, 10_001)]
    compiled = ruleset(*rules)
    found = preview([event(f"word-{n} of rule") for n in range(50)], compiled, rule(0, "word-7", priority=1))
    assert len(found) == 50
    assert [one.after.rule_id for one in found][7] == 0
    assert found[8].changes == [] and found[7].changes[0] == ("rule", "7 R7", "this one")


@given(ANY, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4))
def test_the_pieces_of_a_text_are_the_text(text: str, given_spans: list[tuple[int, int]]) -> None:
    at, spans = 0, []
    for skip, length in given_spans:
        if at + skip + length <= len(text):
            spans.append((at + skip, at + skip + length))
            at += skip + length
    found = pieces(text, spans)
    assert "".join(piece.text for piece in found) == text
    assert "".join(piece.text for piece in found if piece.marked) == "".join(text[a:b] for a, b in spans)


def test_of_a_long_text_what_is_around_the_match_is_shown() -> None:
    found = pieces("x" * 5000 + "needle" + "y" * 5000, [(5000, 5006)])
    assert [piece.text for piece in found if piece.marked] == ["needle"]
    assert found[0].text == "…" and sum(len(piece.text) for piece in found) < 700
