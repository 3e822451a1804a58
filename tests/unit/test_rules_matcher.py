"""The matcher: what each match type means, held against a naive reading of the same words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import NoRuleset, RuleError
from mutt.rules.matcher import Matcher, check_expression, expression
from mutt.rules.oid import OidPrefixes, under
from mutt.rules.rule import MatchType

CONTAINS, EQUALS, PREFIX, REGEX = MatchType.CONTAINS, MatchType.EQUALS, MatchType.PREFIX, MatchType.REGEX

# Letters whose folding Python's lower() and Unicode's simple folding agree on; the others have rows of their own.
LETTERS = st.text(alphabet="aAbBkKsSzZ09 .*+?\\[](){}|^$-%\n\téÉñÑ日本🔥\x00", max_size=12)


def matching(*patterns: tuple[MatchType, str]) -> Matcher:
    return Matcher((index, expression(kind, text)) for index, (kind, text) in enumerate(patterns))


@pytest.mark.parametrize(
    ("kind", "pattern", "text", "expected"),
    [
        (CONTAINS, "LINK-DOWN", "x link-down y", True),  # case is ignored
        (CONTAINS, "a.b", "axb", False),  # a literal's dot is a dot
        (CONTAINS, "a\nb", "xa\nby", True),  # over lines
        (CONTAINS, "é", "CAFÉ", True),  # beyond ASCII too
        (CONTAINS, "k", "\u212a", True),  # the Kelvin sign folds to k
        (CONTAINS, "s", "\u017f", True),  # the long s folds to s
        (CONTAINS, "ß", "ẞ", True),  # a sharp s has a capital
        (CONTAINS, "STRASSE", "straße", False),  # but is one letter: no full case folding
        (CONTAINS, "i", "İ", False),  # the Turkish dotted capital is its own letter
        (CONTAINS, "σ", "ς", True),  # the three sigmas are one
        (EQUALS, "down", "DOWN", True),
        (EQUALS, "down", "down\n", False),  # the whole text, its last line break included
        (EQUALS, "down", "x down", False),
        (PREFIX, "%LINK", "%link-3-UPDOWN", True),
        (PREFIX, "LINK", "%LINK", False),
        (PREFIX, "b", "a\nb", False),  # the text's beginning, no line's
        (REGEX, "LINK-(UP|DOWN)", "link-up", True),
        (REGEX, "a.*b", "a\n\nb", True),  # the dot takes line breaks
        (REGEX, "^b", "a\nb", False),  # ^ is the text's beginning …
        (REGEX, "(?m)^b", "a\nb", True),  # … unless the pattern says otherwise
        (REGEX, r"\bdown\b", "is down.", True),
        (REGEX, r"\d{3}", "12 345", True),
        (REGEX, "(?-i)DOWN", "down", False),  # a pattern may insist on its case
    ],
)
def test_a_match_type_means(kind: MatchType, pattern: str, text: str, expected: bool) -> None:
    assert bool(matching((kind, pattern)).match(text)) is expected


@given(st.lists(st.tuples(st.sampled_from([CONTAINS, EQUALS, PREFIX]), LETTERS), max_size=8), LETTERS)
def test_a_set_of_patterns_finds_what_each_alone_would(
    patterns: list[tuple[MatchType, str]], text: str
) -> None:
    low = text.lower()
    naive = {CONTAINS: low.__contains__, EQUALS: low.__eq__, PREFIX: low.startswith}
    expected = [n for n, (kind, pattern) in enumerate(patterns) if naive[kind](pattern.lower())]
    assert sorted(matching(*patterns).match(text)) == expected


@given(LETTERS.filter(bool), LETTERS, LETTERS)
def test_a_literal_is_found_wherever_it_stands(pattern: str, before: str, after: str) -> None:
    assert matching((CONTAINS, pattern)).match(before + pattern.swapcase() + after) == [0]


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_an_answer(text: str) -> None:
    assert 0 in matching((REGEX, r"\A")).match(text)


def test_rules_with_the_same_text_are_all_named() -> None:
    assert sorted(matching((CONTAINS, "x"), (PREFIX, "y"), (CONTAINS, "x")).match("ax")) == [0, 2]


def test_nothing_to_look_for_is_never_found() -> None:
    assert matching().match("anything") == []


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("a(?=b)", "look-ahead (?="),
        ("a(?!b)", "negative look-ahead (?!"),
        ("(?<=a)b", "look-behind (?<="),
        ("(?<!a)b", "negative look-behind (?<!"),
        (r"(a)\1", r"back-reference \1"),
        ("(?P<x>a)(?P=x)", "back-reference (?P="),
        (r"(?P<x>a)\k<x>", r"back-reference \k"),
        ("a++", "possessive ++"),
        ("(?>a)", "atomic group (?>"),
        ("(a)?(?(1)b|c)", "condition (?("),
        ("(?#hm)a", "comments (?#"),
        (r"a\Z", r"\Z is not understood"),
        ("[a", "missing ]"),  # no special case: re2's own words
        ("a)", "unexpected )"),
        ("*a", "no argument for repetition operator: *"),
        ("(?:(?:a{100}){100}){100}", "invalid repetition size"),
        (r"\pL{900}\pL{900}\pL{900}", "too large a pattern"),
    ],
)
def test_what_re2_cannot_compile_is_refused_naming_the_part_at_fault(pattern: str, named: str) -> None:
    with pytest.raises(RuleError) as refused:
        check_expression(pattern)
    assert refused.value.field == "match_string"
    assert named in refused.value.reason


@pytest.mark.parametrize(
    "pattern", [r"\(?=", "[(?=]", "a(?i:b)c", r"\x{41}", "(?P<n>a)", r"\pN", r"\Qa(?=\E"]
)
def test_what_only_looks_like_a_look_around_is_taken(pattern: str) -> None:
    check_expression(pattern)
    assert matching((REGEX, pattern)).match("") is not None


def test_a_hostile_pattern_does_not_stall() -> None:
    assert matching((REGEX, "(a+)+$")).match("a" * 50_000 + "!") == []


def test_a_set_that_does_not_fit_its_memory_is_noticed() -> None:
    with pytest.raises(NoRuleset, match="1001 patterns"):
        Matcher(((n, f"word{n}.*other{n}") for n in range(1000)), memory=1 << 16)


@pytest.mark.parametrize("kib", [24, 64, 256])
def test_a_set_answers_in_full_however_little_memory_its_states_have(kib: int) -> None:
    patterns = [(n, f"a.*{chr(98 + n)}.*{n}") for n in range(10)]
    text = "".join(f"a{chr(98 + n)}{n}" for n in range(10)) * 20
    assert sorted(Matcher(patterns, memory=kib << 10).match(text)) == list(range(10))


def test_a_text_that_holds_the_canary_names_no_rule() -> None:
    assert matching((CONTAINS, "x")).match("\0canary\0") == []


@pytest.mark.parametrize(
    ("prefix", "oid", "expected"),
    [
        ("1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9.1", True),  # itself
        ("1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9.1.5", True),
        ("1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9.12345", False),  # a component is not split
        ("1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9", False),  # a prefix longer than the OID
        (".1.3.6", "1.3.6.1", True),  # leading dots on either side
        ("1.3.6", ".1.3.6.1", True),
        ("1.3.6.", "1.3.6.1", True),
        ("1.3.6", "", False),
    ],
)
def test_an_oid_prefix_ends_at_a_component(prefix: str, oid: str, expected: bool) -> None:
    assert OidPrefixes([(7, prefix)]).match(oid) == ([7] if expected else [])


OIDS = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@given(st.lists(OIDS, max_size=10), OIDS)
def test_oid_prefixes_compare_lists_of_numbers(prefixes: list[list[int]], oid: list[int]) -> None:
    def dotted(numbers: list[int]) -> str:
        return ".".join(map(str, numbers))

    expected = [n for n, prefix in enumerate(prefixes) if oid[: len(prefix)] == prefix]
    assert sorted(OidPrefixes(enumerate(map(dotted, prefixes))).match(dotted(oid))) == expected
    assert [n for n, prefix in enumerate(prefixes) if under(f".{dotted(oid)}", dotted(prefix))] == expected
