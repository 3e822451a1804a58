"""What the admin writes down for people can be read back as it was."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules.hosts import kind_of
from mutt.rules.rule import Example
from mutt.web.admin import csvfile
from mutt.web.admin.examples import read_examples, write_examples
from mutt.web.admin.records import apart

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
cells = st.one_of(words, words.map("=".__add__), words.map("'-".__add__), words.map("\r".__add__))


@given(rows=st.lists(st.tuples(cells, cells), max_size=5))
def test_a_file_is_read_as_it_was_written(rows: list[tuple[str, str]]) -> None:
    """Whatever a cell holds; no cell of the file is a formula."""
    columns = ("a", "b")
    written = csvfile.write(columns, [dict(zip(columns, row, strict=True)) for row in rows])
    for row in csv.reader(io.StringIO(written, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
    read = csvfile.read(written.encode(), columns, columns)
    assert [tuple(line.cells.values()) for line in read] == [row for row in rows if any(row)]


texts = st.one_of(words, st.sampled_from(["+ x", "- x", "{}", " x ", "a\nb", "a\rb", '{"message": 1}']))
events = st.builds(
    Example,
    message=texts,
    hostname=st.sampled_from(["example", "core-1"]),
    severity=st.sampled_from([None, 2]),
    trap_oid=st.just("1.3"),
    matches=st.booleans(),
)
messages = st.builds(Example, message=texts.filter(bool), matches=st.booleans())


@given(examples=st.lists(st.one_of(events, messages), max_size=6))
def test_examples_are_read_as_they_were_written(examples: list[Example]) -> None:
    """Blanks, line ends, signs and braces of a message included."""
    text = write_examples(examples)
    assert msgspec.convert(read_examples(text), list[Example]) == examples
    # As a browser sends it.
    assert read_examples(text.replace("\n", "\r\n").replace("\r\n", "\n")) == read_examples(text)


@pytest.mark.parametrize("line", ["fan failed", "{", "[1]", "{x}", " + x"])
def test_a_line_that_is_no_example_is_named(line: str) -> None:
    with pytest.raises(RuleError) as refused:
        read_examples(f"+ good\n{line}")
    assert refused.value.field == "examples" and "line 2" in refused.value.reason


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        ("CRITICAL", "CRITICAL fan", ("CRITICAL", "", " fan", "")),
        ("core-1.lon", "core-2.lon", ("core-", "1", "2", ".lon")),
        ("10", "12", ("", "10", "12", "")),
        (None, "x", ("", "", "x", "")),
        ("aaaa", "aaaaaa", ("aaaa", "", "aa", "")),
    ],
)
def test_two_values_are_told_apart_where_they_differ(
    before: str | None, after: str, parts: tuple[str, ...]
) -> None:
    assert apart(before, after) == parts


@given(before=words, after=words)
def test_what_is_told_apart_is_all_of_both(before: str, after: str) -> None:
    begin, old, new, end = apart(before, after)
    assert (begin + old + end, begin + new + end) == (before, after)


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [("core-1", "name"), ("core-*", "glob"), ("10.0.0.0/8", "network"), ("::1", "network")],
)
def test_a_pattern_is_of_one_kind(pattern: str, kind: str) -> None:
    assert kind_of(pattern) == kind
