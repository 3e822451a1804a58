"""Every version of the ruleset can be read again as it judged."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, select, text, update

from mutt.errors import RuleError
from mutt.rules import matcher
from mutt.rules.book import Book, read, write
from mutt.rules.book import check as checked
from mutt.rules.change import fields_of
from mutt.rules.rule import Rule, StormPolicy
from mutt.store import devices, plans, rulebook, versions, windows
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.tables import config_audit_log, rule_revisions, ruleset_versions, storm_policies
from tests.bench import event
from tests.unit.rules_at_random import rules

SAID: Said = {"changed_by": "ann", "reason": "because"}


def changed(engine: Engine, *statements: str) -> int:
    """Run these in one transaction; the version that then stands."""
    with transaction(engine) as conn:
        for statement in statements:
            conn.execute(text(statement))
        return rulebook.current_version(conn)


def test_a_version_can_be_read_again(engine: Engine) -> None:
    """Rules, hosts, teams and storm policies of a version are those that stood in it, whatever came after."""
    with transaction(engine) as conn:
        rulebook.seed(conn)
        devices.put_team(conn, "core-*", "Backbone", **SAID)
        conn.execute(insert(storm_policies).values(name="s", group_by="host", alert_count=5, alert_window=60))
    with transaction(engine) as conn:
        version = rulebook.current_version(conn)
        stood = rulebook.load(conn, "NETO")
        rules, hosts, teams = rulebook.list_rules(conn), devices.hosts(conn), devices.teams(conn)
    changed(
        engine,
        "UPDATE alert_rules SET priority = 1, tags = '{\"site\": 7}' WHERE name = 'ERROR'",
        "DELETE FROM alert_rules WHERE name = 'CRITICAL'",
        "TRUNCATE device_teams",
        "INSERT INTO development_hosts VALUES ('lab-*')",
        "UPDATE storm_policies SET is_active = false",
    )
    with transaction(engine) as conn:
        assert versions.rules_of(conn, version) == rules
        assert versions.hosts_of(conn, version) == hosts
        assert versions.teams_of(conn, version) == teams
        again = versions.load(conn, version, "NETO")
        assert (again.version, again.rules, again.storms) == (version, stood.rules, stood.storms)
        assert versions.rules_of(conn, version + 1) == rulebook.list_rules(conn)
        assert again.deciding(event(message="CRITICAL"), again.host("r1")) is not None


def test_a_version_that_is_not_there_is_named(engine: Engine) -> None:
    """A version that never was, and one that is not kept, are a LookupError."""
    changed(engine, "INSERT INTO development_hosts VALUES ('lab-*')")
    last = changed(engine, "DELETE FROM development_hosts")
    with transaction(engine) as conn:
        conn.execute(delete(ruleset_versions).where(ruleset_versions.c.version < last))
        conn.execute(delete(rule_revisions).where(rule_revisions.c.until_version <= last))
        for version in (-1, 0, last - 1, last + 1):
            with pytest.raises(LookupError):
                versions.load(conn, version, "NETO")
        assert versions.hosts_of(conn, last) == []


def test_the_history_says_how_a_version_came_to_be(engine: Engine) -> None:
    """Who, why and how many changes; what psql made stands there without them, and pages follow each other."""
    with transaction(engine) as conn:
        rulebook.import_rules(conn, [{"match_string": "fan"}, {"match_string": "pump"}], **SAID)
        devices.add_host(conn, "lab-*", changed_by="bob")
    psql = changed(engine, "UPDATE alert_rules SET priority = 1 WHERE name = 'fan'")
    with transaction(engine) as conn:
        newest, made, *_ = versions.latest(conn)
        assert (newest.version, newest.who, newest.counts) == (psql, [], {})
        assert (made.version, made.who, made.why) == (psql - 1, ["ann", "bob"], ["because"])
        assert made.counts == {("CREATE", "alert_rules"): 2, ("CREATE", "development_hosts"): 1}
        assert versions.latest(conn, before=psql, limit=1) == [made]
        assert versions.latest(conn, before=0) == []


def test_two_versions_compared(engine: Engine) -> None:
    """Each row that is new, gone or different, with its fields."""
    with transaction(engine) as conn:
        rulebook.import_rules(conn, [{"match_string": "fan"}, {"match_string": "pump"}], **SAID)
        before = rulebook.current_version(conn)
    after = changed(
        engine,
        "UPDATE alert_rules SET priority = 1 WHERE name = 'fan'",
        "DELETE FROM alert_rules WHERE name = 'pump'",
        "INSERT INTO device_teams VALUES ('core1', 'Core')",
    )
    with transaction(engine) as conn:
        found = versions.compare(conn, before, after)
        back = versions.compare(conn, after, before)
    assert [(change.operation, change.name) for change in found] == [
        ("UPDATE", "fan"),
        ("DELETE", "pump"),
        ("CREATE", "core1"),
    ]
    assert found[0].fields == [("priority", 100, 1)]
    assert {change.operation for change in back} == {"UPDATE", "CREATE", "DELETE"}


def test_maintenance_windows_are_compared_and_not_restored(engine: Engine) -> None:
    """They make versions, and belong to their time."""
    times = {"starts_at": "2026-11-28T22:00:00Z", "ends_at": "2026-11-28T23:00:00Z"}
    with transaction(engine) as conn:
        before = rulebook.current_version(conn)
    with transaction(engine) as conn:
        windows.save(conn, {"name": "w", "owner": "ann", "hostname": "lab-*", **times}, **SAID)
        after = rulebook.current_version(conn)
    with transaction(engine) as conn:
        assert versions.latest(conn, limit=1)[0].counts == {("CREATE", "maintenance_windows"): 1}
        assert [change.name for change in versions.compare(conn, before, after)] == ["w"]
        assert versions.compare(conn, before, after, windows=False) == []
        assert not versions.restore(conn, before, SAID).changes
        assert len(windows.windows(conn)) == 1


def _book(found: list[Rule], hosts: set[str], teams: dict[str, str], storms: list[StormPolicy]) -> Book:
    return Book(rules=found, hosts=sorted(hosts), teams=dict(sorted(teams.items())), storms=storms)


_hosts = st.sampled_from(["lab-*", "dev1", "10.9.0.0/16", "no"])
_storm = st.builds(
    StormPolicy,
    id=st.just(0),
    name=st.sampled_from(["a", "b"]),
    group_by=st.sampled_from(["host", "tags.site"]),
    alert_count=st.integers(2, 9),
    alert_window=st.integers(1, 99),
    hostname=st.none() | _hosts,
    is_active=st.booleans(),
)
_books = st.builds(
    _book,
    st.lists(rules(), max_size=5),
    st.sets(_hosts),
    st.dictionaries(_hosts, st.sampled_from(["Core", "on"])),
    st.lists(_storm, max_size=2),
)
_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def _apply(engine: Engine, book: Book) -> int:
    with transaction(engine) as conn:
        plans.apply(conn, book, replace=True, **SAID)
        return rulebook.current_version(conn)


@_fixture
@given(st.lists(_books, min_size=2, max_size=4), st.data())
def test_an_earlier_version_stands_again(engine: Engine, books: list[Book], data: st.DataObject) -> None:
    """Whatever came between: restored, all stands as it did, ids too, as a version of its own, each change noted."""
    made = [_apply(engine, book) for book in books]
    version = data.draw(st.sampled_from(made))
    with transaction(engine) as conn:
        plan = versions.restore(conn, version, {"changed_by": "bob"})
        now = rulebook.current_version(conn)
        wanted = versions.book_of(conn, version)
        assert plans.standing(conn) == wanted
        assert versions.book_of(conn, now) == wanted
        assert versions.compare(conn, version, now) == []
        assert now == made[-1] + bool(plan.changes)
        notes = conn.execute(
            select(config_audit_log).where(config_audit_log.c.changed_by == "bob").order_by("id")
        ).all()
        ours = [note for note in notes if note.ruleset_version == now] if plan.changes else []
        assert [(note.operation, note.record_id) for note in ours] == [
            (change.operation, change.record_id) for change in plan.changes
        ]


@_fixture
@given(_books, _books)
def test_what_is_exported_makes_the_same_ruleset_elsewhere(engine: Engine, book: Book, other: Book) -> None:
    """Export, then apply where other rules stand: the same rulesets but for ids, and a second plan is empty."""
    _apply(engine, book)
    with transaction(engine) as conn:
        stands = plans.standing(conn)
        text = write(stands).encode()
    _apply(engine, other)  # as good as another database
    again, faults = checked(read("f", text))
    assert not faults
    _apply(engine, again)
    with transaction(engine) as conn:
        found = plans.standing(conn)
        assert not plans.plan(conn, again, replace=True).changes
    assert _without_ids(found) == _without_ids(stands)


def _without_ids(book: Book) -> Any:
    values = [sorted(map(str, map(fields_of, rows or ()))) for rows in (book.rules, book.storms)]
    return values, book.hosts, book.teams


def test_a_version_that_does_not_fit_is_not_restored(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands stands, if the earlier rules can't be compiled any more."""
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"match_type": "regex", "match_string": r"\pL+ \pL+ \pL+ x"}, **SAID)
        version = rulebook.current_version(conn)
    changed(engine, "DELETE FROM alert_rules")
    monkeypatch.setattr(matcher, "_memory", lambda _patterns: 64 << 10)
    with pytest.raises(RuleError), transaction(engine) as conn:
        versions.restore(conn, version, SAID)
    with transaction(engine) as conn:
        assert rulebook.list_rules(conn) == []


def _ages(engine: Engine, version: int, days: int) -> datetime:
    with transaction(engine) as conn:
        at = ruleset_versions.c
        now = datetime.now().astimezone()
        conn.execute(
            update(ruleset_versions).where(at.version <= version).values(at=now - timedelta(days=days))
        )
        return now - timedelta(days=30)


def test_old_versions_are_forgotten(engine: Engine) -> None:
    """But not the one that stood at the limit, nor what of it stands yet."""
    _apply(
        engine, Book(rules=[Rule(id=0, name="a", match_string="a"), Rule(id=0, name="b", match_string="b")])
    )
    second = _apply(engine, Book(rules=[Rule(id=0, name="a", match_string="a")]))
    limit = _ages(engine, second, 40)
    third = _apply(engine, Book(rules=[Rule(id=0, name="c", match_string="c")]))
    with transaction(engine) as conn:
        stood = versions.book_of(conn, second)
        assert versions.prune(conn, limit)
        assert [made.version for made in versions.latest(conn)] == [third, second]
        assert versions.book_of(conn, second) == stood
        assert versions.prune(conn, limit) == 0
        left = conn.execute(
            select(rule_revisions.c.until_version).where(rule_revisions.c.until_version <= second)
        )
        assert not left.all()


def test_a_version_that_may_have_judged_is_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the version of that time could not be compiled, workers went on with the one before: its rows are there."""
    good = _apply(engine, Book(rules=[Rule(id=0, name="a", match_string="a")]))
    values = "VALUES ('large', 'regex', '\\pL+ \\pL+ \\pL+ x', 'Ignore', 'Ignore', 'T')"
    bad = changed(
        engine,
        "INSERT INTO alert_rules (name, match_type, match_string, prod_handling, dev_handling, team_assignment) "
        + values,
    )
    limit = _ages(engine, bad, 40)
    monkeypatch.setattr(matcher, "_memory", lambda _patterns: 64 << 10)
    with transaction(engine) as conn:
        versions.prune(conn, limit)
        assert min(made.version for made in versions.latest(conn)) == good
