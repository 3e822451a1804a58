"""``mutt rules check`` needs no server and names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mutt.cli.rules import rules
from mutt.rules import matcher
from mutt.rules.book import NotRules, check_items, items_of

GOOD = {"match_string": "disk full", "team_assignment": "Storage"}
BAD = {"name": "look", "match_type": "regex", "match_string": "a(?=b)"}


def run(tmp_path: Path, content: object, *more: str) -> Result:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(content))
    return CliRunner().invoke(rules, ["check", str(file), *more])


def test_good_rules_exit_0(tmp_path):
    result = run(tmp_path, [GOOD])
    assert result.exit_code == 0
    assert "1 rule, good" in result.output


def test_a_bad_rule_exits_1_and_is_named_with_field_and_remedy(tmp_path):
    result = run(tmp_path, [GOOD, BAD])
    assert result.exit_code == 1
    assert "look" in result.output and "match_string" in result.output


def test_rules_that_do_not_fit_together_exit_1(tmp_path, monkeypatch):
    monkeypatch.setattr(matcher, "_memory", lambda _patterns: 64 << 10)
    result = run(tmp_path, [GOOD, {**GOOD, "match_type": "regex", "match_string": r"\pL+ \pL+ \pL+ x"}])
    assert result.exit_code == 1
    assert "can't hold 3 patterns" in str(result.exception)


def test_a_rule_without_a_name_is_named_by_its_place():
    good, faults = check_items([GOOD, {**GOOD, "priority": "first"}])
    assert len(good) == 1
    assert [(fault.rule, fault.field) for fault in faults] == [("#2", "priority")]


def test_an_event_shows_the_verdict_that_it_would_get(tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"hostname": "h", "message": "disk full on /var", "severity": 3}))
    result = run(tmp_path, [GOOD], "--event", str(event))
    assert result.exit_code == 0
    assert "Page_and_ticket" in result.output


@pytest.mark.parametrize("data", [b"{", b"3", b'["a"]'])
def test_a_file_that_holds_no_rules_is_refused(data):
    with pytest.raises(NotRules):
        items_of("f", data)


@pytest.mark.parametrize("wrapped", [[GOOD], GOOD, {"rules": [GOOD]}])
def test_rules_may_be_a_list_one_object_or_under_rules(wrapped):
    assert items_of("f", json.dumps(wrapped).encode()) == [GOOD]


def test_yaml_is_checked_with_its_examples(tmp_path):
    """A file in YAML needs no server either; an example that does not hold is named by its place."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n- {match_string: fan, examples: [fan failed]}\n")
    assert CliRunner().invoke(rules, ["check", str(file)]).exit_code == 0
    file.write_text("rules:\n- {name: fans, match_string: fan, is_active: no, examples: [pump]}\n")
    result = CliRunner().invoke(rules, ["check", str(file)])
    assert result.exit_code == 1
    assert "fans" in result.output and "examples[0]" in result.output
