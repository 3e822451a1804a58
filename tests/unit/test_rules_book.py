"""A file of rules says what it says, whoever reads it; and a plan makes of what stands what the file wants."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules import book
from mutt.rules.book import Book, NotRules, between, planned
from mutt.rules.change import falls_silent, fields_of
from mutt.rules.check import check_rule, check_storm
from mutt.rules.rule import Rule, StormPolicy
from tests.unit.rules_at_random import rules

ODD = [
    "no",
    "on",
    "off",
    "y",
    "1:30",
    "010",
    "0x1f",
    "1e3",
    "1.10",
    "null",
    "~",
    "2026-11-28",
    "=",
    "<<",
    "*a",
    "&a",
]
ODD += [
    "!x",
    "# no comment",
    "a: b",
    "- a",
    " led",
    "two\nlines\n",
    "tab\there",
    "\x07bell",
    "é λ 日 🔥",
    "a\u2028b",
]
ODD += ["'", '"', "%", "@", "`", "a\x85b", "\ufeffa", "a" * 200 + " b"]

STORM = StormPolicy(
    id=0, name="wild", group_by="tags.site", alert_count=5, alert_window=60, hostname="core-*"
)


def read(text: str) -> Book:
    found, faults = book.check(book.read("f", text.encode()))
    assert not faults
    return found


def without_ids(rules: Any) -> list[dict[str, Any]]:
    return [fields_of(rule) for rule in rules]


@pytest.mark.parametrize("text", ODD)
def test_a_text_is_the_same_text_after_writing_and_reading(text: str) -> None:
    """No word, number or time of YAML's becomes something else: neither here nor in another reader of YAML 1.1."""
    rule = check_rule(
        {
            "match_string": text,
            "name": "n",
            "tags": {"a": text},
            "examples": [{"message": text, "tags": {"a": text}}],
        }
    )
    written = book.write(Book(rules=[rule]))
    assert without_ids(read(written).rules) == [fields_of(rule)]
    assert yaml.safe_load(written)["rules"][0]["match_string"] == text


def test_an_unquoted_value_is_the_text_that_stands_there() -> None:
    """What people type without quotes is not made into a number or a flag."""
    found = read(
        "rules:\n- {match_string: 010, team_assignment: no, program: 1:30, source: 1.10, hostname: ~}\n"
    )
    (rule,) = found.rules or ()
    assert (rule.match_string, rule.team_assignment, rule.program, rule.source) == (
        "010",
        "no",
        "1:30",
        "1.10",
    )
    assert rule.hostname is None


def test_what_has_its_default_is_left_out() -> None:
    """A file shows what was meant, in the order of the fields."""
    rule = check_rule({"match_string": "fan", "examples": ["fan", {"message": "x", "matches": False}]})
    text = book.write(
        Book(rules=[rule], hosts=["lab-*"], teams={"core1": "Core"}, storms=[STORM]), "version 7"
    )
    assert text == (
        "# version 7\nrules:\n- name: fan\n  match_string: fan\n  examples:\n  - fan\n  - message: x\n"
        "    matches: false\ndevelopment_hosts:\n- lab-*\ndevice_teams:\n  core1: Core\nstorm_policies:\n"
        "- name: wild\n  group_by: tags.site\n  alert_count: 5\n  alert_window: 60\n  hostname: core-*\n"
    )


@given(st.lists(rules(), max_size=5))
def test_what_was_written_is_read(found: list[Rule]) -> None:
    """Any rules that can be saved come back equal, from YAML as from JSON."""
    text = book.write(Book(rules=found))
    again = read(text)
    assert without_ids(again.rules) == without_ids(found)
    assert without_ids(read(orjson.dumps(without_ids(found)).decode()).rules) == without_ids(found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"3",
        b"[3]",
        b"rules: {}",
        b"rules: []\nhosts: []",
        b"development_hosts: {a: b}",
        b"device_teams: [a]",
        b"storm_policies: [a]",
        b"rules: [*a]",
        b"rules: [&a {name: x}, *a]",
        b"rules:\n- name: a\n  name: b",
        b"rules: [!!python/object/apply:os.system [ls]]",
        b"- name: !!int x",
        b"- name: !!bool maybe",
        b"- name: !!timestamp now",
        b"- name: !!binary aGk=",
        b"- !!merge <<: {name: x}",
        b"? [a]\n: b",
        b"? {a: b}\n: c",
        b"a: 1\n---\nb: 2",
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_a_file_that_can_not_be_meant_is_refused(data: bytes) -> None:
    """Nothing is guessed: a name given twice, an alias, an unknown section, a tag, a name that is no text."""
    with pytest.raises(NotRules):
        book.read("f", data)


def test_every_fault_of_a_file_is_named() -> None:
    """In whatever section it stands: what it is about, and the field."""
    text = """
rules: [{name: a, priority: x}, {name: b, match_string: b, examples: [c]}]
development_hosts: [10.0.0.0/99, lab-*]
device_teams: {core1: ''}
storm_policies: [{name: s, group_by: moon, alert_count: 5, alert_window: 9}]
"""
    found, faults = book.check(book.read("f", text.encode()))
    assert [(fault.rule, fault.field) for fault in faults] == [
        ("a", "priority"),
        ("b", "examples[0]"),
        ("development_hosts 10.0.0.0/99", "hostname"),
        ("device_teams core1", "team_assignment"),
        ("storm_policies s", "group_by"),
    ]
    assert found.hosts == ["lab-*"]


@pytest.mark.parametrize(
    "given", [{}, {"name": "s"}, {"group_by": "tags."}, {"alert_count": 1}, {"hostname": "[z-a]"}]
)
def test_a_storm_policy_is_checked(given: dict[str, Any]) -> None:
    """What the table would refuse, or nothing could count by, is named."""
    fields = {"name": "s", "group_by": "host", "alert_count": 5, "alert_window": 60}
    with pytest.raises(RuleError):
        check_storm({**fields, **given} if given.keys() - {"name"} else given)


def standing(found: list[Rule]) -> Book:
    return Book(
        rules=found, hosts=["dev1"], teams={"core1": "Core"}, storms=[msgspec.structs.replace(STORM, id=3)]
    )


def applied(start: Book, changes: Any) -> dict[str, dict[str, Any]]:
    """What stands after these changes."""
    stands = {table: dict(rows) for table, rows in start.rows().items()}
    for number, change in enumerate(changes):
        if change.after is None:
            assert stands[change.table].pop(change.record_id) == change.before
        else:
            assert stands[change.table].get(change.record_id) == change.before
            stands[change.table][change.record_id or f"new{number}"] = change.after
    return stands


@given(st.lists(rules(), max_size=6), st.lists(rules(), max_size=6), st.booleans())
def test_a_plan_makes_what_the_file_says(have: list[Rule], want: list[Rule], replace: bool) -> None:
    """Once it is carried out there is nothing left to do; with replace nothing else stands."""
    start = standing([msgspec.structs.replace(rule, id=number) for number, rule in enumerate(have, 1)])
    wanted = Book(rules=want, hosts=["lab-*"])
    stands = applied(start, planned(start, wanted, replace=replace))
    rows = list(stands["alert_rules"].values())
    for rule in want:
        assert fields_of(rule) in rows
    if replace:
        assert len(rows) == len(want)
        assert list(stands["development_hosts"].values()) == [{"hostname": "lab-*"}]
    assert stands["device_teams"] == dict(start.rows()["device_teams"])


@given(st.lists(rules(), max_size=6), st.lists(rules(), max_size=6))
def test_between_two_books(before: list[Rule], after: list[Rule]) -> None:
    """The changes between two books make the one of the other."""
    first = standing([msgspec.structs.replace(rule, id=number) for number, rule in enumerate(before, 1)])
    second = standing([msgspec.structs.replace(rule, id=number) for number, rule in enumerate(after, 3)])
    stands = applied(first, between(first, second))
    assert stands == {table: dict(rows) for table, rows in second.rows().items()}
    assert between(second, second) == []


def test_a_rule_that_falls_silent() -> None:
    """Said of a rule that sent alerts and will not: it is deleted, switched off, or only kept in the audit."""
    loud, deaf = fields_of(check_rule({"match_string": "a"})), {"is_active": False}
    wants = Book(rules=[check_rule({"match_string": "a", **deaf})])
    (change,) = planned(Book(rules=[check_rule({"match_string": "a"}, rule_id=4)]), wants)
    assert falls_silent(change) and change.before == loud
    assert [field.name for field in change.fields] == ["is_active"]
    (back,) = planned(wants, Book(rules=[check_rule({"match_string": "a"})]))
    assert not falls_silent(back)
