"""Names, globs and networks of hosts."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules.hosts import HostPatterns, check_host_pattern

GLOBS = st.text(alphabet="abAB.*?-[]!^", max_size=8)


@pytest.mark.parametrize(
    ("pattern", "hostname", "expected"),
    [
        ("dev-router1", "DEV-Router1", True),  # case is ignored
        ("dev-router1", "dev-router10", False),  # a name is whole
        ("core-*", "core-rtr-01.lab", True),
        ("core-?", "core-12", False),
        ("sw[0-9]", "SW7", True),
        ("sw[!0-9]", "sw7", False),
        ("a.b*", "axb", False),  # a dot is a dot
        ("10.0.0.0/8", "10.9.8.7", True),
        ("10.0.0.1/8", "10.9.8.7", True),  # host bits are ignored
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "ten.lab", False),  # a name is in no network
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "2001:db8::1", False),  # nor is an address of the other kind
        ("2001:db8::/32", "2001:0DB8::1", True),
        ("2001:db8::1", "2001:db8:0:0::1", True),  # one address, two spellings
        ("10.9.8.7", "10.9.8.7", True),
        ("10.0.0.0/99", "10.0.0.0", False),  # a broken network matches nothing
        ("[z-a]", "b", False),  # nor a broken glob
        ("", "", True),
    ],
)
def test_a_pattern_matches(pattern: str, hostname: str, expected: bool) -> None:
    assert HostPatterns([pattern]).matching(hostname) == ([pattern] if expected else [])


def test_the_most_telling_pattern_comes_first() -> None:
    patterns = HostPatterns(["10.0.0.0/8", "10.1.0.0/16", "10.1.*", "10.*", "10.1.2.3"])
    assert patterns.matching("10.1.2.3") == ["10.1.*", "10.*", "10.1.2.3", "10.1.0.0/16", "10.0.0.0/8"]


@given(GLOBS, st.text(alphabet="abAB.-[]!^", max_size=8))
def test_a_glob_means_what_fnmatch_says(glob: str, hostname: str) -> None:
    expected = fnmatch.fnmatchcase(hostname.lower(), glob.lower())
    assert bool(HostPatterns([glob]).matching(hostname)) is expected


@given(st.lists(st.text(max_size=12), max_size=5), st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_name_is_an_answer(patterns: list[str], hostname: str) -> None:
    assert set(HostPatterns(patterns).matching(hostname)) <= set(patterns)


@pytest.mark.parametrize("pattern", ["10.0.0.0/99", "lab/32", "2001:db8::/200", "[z-a]"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(RuleError) as refused:
        check_host_pattern(pattern)
    assert refused.value.field == "hostname"
