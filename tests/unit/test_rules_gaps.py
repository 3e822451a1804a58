"""Counted gaps: what would make every event dear is refused when it is saved; what only looks like it is taken."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules.check import check_rule
from mutt.rules.gaps import check_gaps
from mutt.rules.matcher import Matcher, check_expression
from mutt.rules.rule import MatchType


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{1,3}",
        r"[0-9a-f]{32}",  # entered at every character: only its length counts
        r"x{2,200}",
        r"(?:ab){2,100}",  # one text, again and again
        r"error.*code",
        r"error.*.{64}code",  # once entered, .* is never left, nor is what follows it
        r".{0,64}error",
        r"\w{1,64}@",
        r"error.{0,16}code",
        r"(?:error|fail).{16}code",
        r"id=[0-9a-f]{64}",  # no = is a digit, so none can begin inside
        r"user \S{1,200} from",
        r"(?:^| )\S{1,100}",
        r"\b[0-9a-f]{64}\b",  # no word begins inside a word
        r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
        r"(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
        r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}",
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        r"%[A-Z0-9_]+-[0-7]-[A-Z0-9_]{1,40}:",
        r"^.{0,200}code",  # begins once
        r"^(?:[^,]*,){70}critical",
        r"(?:\S+\s+){30}x",
        r"^\S+ \S+ \S+ \[[^]]*\] .*denied",
        r"\Qa.{50}\E",  # no count at all
        r"a\.{50}",
        r"[a.{50}]",
        r"a{,50}.",
    ],
)
def test_a_count_may_stay(pattern: str) -> None:
    check_expression(pattern)
    check_gaps(pattern)


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        (r"(?:error|fail).{0,500}code 1", "write .* in place of .{0,500}"),
        (r"error.{17}code", "write .+ in place of .{17}"),
        (r"error.{30,}code", "write .+ in place of .{30,}"),
        (r"error.{0,9}?code.{0,10}x", "write .* in place of .{0,10}"),  # together; the larger is named
        (r"error[^:]{0,99}:", "write [^:]* in place of [^:]{0,99}"),
        (r"error[[:alpha:]]{99}", "write [[:alpha:]]+ in place of [[:alpha:]]{99}"),
        (r"error[]a-z]{99}", "write []a-z]+ in place of []a-z]{99}"),
        (r"error\pL{20}", r"write \pL+ in place of \pL{20}"),
        (r"a[0-9a-f]{31}", "write [0-9a-f]+ in place of [0-9a-f]{31}"),
        (r"a(?:.{5}){5}", "write (?:.{5})+ in place of (?:.{5}){5}"),  # counts in counts multiply
        (r"(?:x.{5}){5}", "write .+ in place of .{5}"),
        (r"x(?:[^,]*,){9}", "write (?:[^,]*,)+ in place of (?:[^,]*,){9}"),
        (r"z(?:z?y){64}", "write (?:z?y)+ in place of (?:z?y){64}"),  # letters alone can be a gap
        (r"a(a|b){50}c", "write (a|b)+ in place of (a|b){50}"),
        (r"(?:.{20}:)+", "write .+ in place of .{20}"),  # its own end lets it in anew
        (r"\b.{99}x", "write .+ in place of .{99}"),
        (r"(?m)^.{0,99}code", "write .* in place of .{0,99}"),
        (r"(?i:error)(.{99})", "write .+ in place of .{99}"),
        (r"(?P<e>error)(?P<gap>.{99})", "write .+ in place of .{99}"),
        ("error" + "." * 17, "write .* in place of ."),  # written out it is the same
        (r".{0,68}error", "write .* in place of .{0,68}"),  # never anew, but dear in itself
        (r"(?:\S+\s+){34}x", r"write (?:\S+\s+)+ in place of (?:\S+\s+){34}"),
        (r"x{900}", "write x+ in place of x{900}"),  # never anew, but too long
        (r"x{200}y{200}", "write y+ in place of y{200}"),
        ("(" * 60 + "x" + ")" * 60, "write it flatter"),
    ],
)
def test_a_count_that_makes_every_event_dear_is_refused(pattern: str, remedy: str) -> None:
    check_expression(pattern)
    with pytest.raises(RuleError) as refused:
        check_gaps(pattern)
    assert refused.value.field == "match_string"
    assert remedy in refused.value.reason


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, True),
        ({"match_type": "contains"}, False),  # then it is no count
        ({"is_active": False}, False),  # it asks nothing of anybody
    ],
)
def test_it_is_asked_of_active_rules_with_an_expression(change: dict[str, object], refused: bool) -> None:
    data = {"match_type": MatchType.REGEX, "match_string": "error.{500}x", **change}
    if refused:
        with pytest.raises(RuleError, match=r"in place of \.\{500\}"):
            check_rule(data)
    else:
        check_rule(data)


PIECES = [
    *"ab.^$|*+?()[]{},-:\\=",
    "\\d",
    "\\b",
    "\\Q",
    "\\E",
    "\\pL",
    "\\x{e9}",
    "é",
    "{2}",
    "{1,30}",
    "(?:",
    "(?i)",
]


@given(st.lists(st.sampled_from([*PIECES, "[^", "[[:alpha:]]", "(?P<n>", "\\012"]), max_size=14).map("".join))
def test_whatever_re2_takes_is_read(pattern: str) -> None:
    """It is let pass or refused with a reason; nothing else."""
    try:
        check_expression(pattern)
        check_gaps(pattern)
    except RuleError as refused:
        assert refused.reason


def test_a_hundred_rules_at_the_bound_do_not_stall() -> None:
    """A storm of the words that they look for, ever new, costs milliseconds an event (refused counts: seconds)."""
    patterns = [f"(?:error|fail{number}).{{0,16}}code {number}" for number in range(100)]
    for pattern in patterns:
        check_gaps(pattern)
    matcher, dice = Matcher(enumerate(patterns)), random.Random(1)
    events = ["".join(dice.choices(["error ", "e", "r", "fail", "o ", " "], k=700)) for _ in range(10)]
    began = time.process_time()
    for event in events:
        matcher.match(event)
    assert (time.process_time() - began) / len(events) < 0.1
