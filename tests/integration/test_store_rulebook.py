"""The ruleset in force is the one that was committed, whoever wrote it; and every change leaves a note."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text

from mutt.errors import NoRuleset, PoisonRow, RuleError, StoreDown
from mutt.rules import matcher
from mutt.rules.rule import Handling
from mutt.rules.starting import STARTING_RULES
from mutt.store import devices, history, rulebook
from mutt.store.engine import transaction
from mutt.store.rulebook import Rulebook
from mutt.store.tables import config_audit_log
from tests.bench import event
from tests.waiting import wait_until


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with transaction(engine) as opened:
        yield opened


def notes(conn: Connection) -> list[Any]:
    """What the history says since the installation."""
    found = conn.execute(select(config_audit_log).order_by("id"))
    return [note for note in found if note.changed_by != "mutt"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alert_rules SET priority = 1 WHERE name = 'ERROR'",
        "DELETE FROM alert_rules WHERE name = 'ERROR'",
        "INSERT INTO alert_rules (name, match_type, match_string, prod_handling, dev_handling, team_assignment)"
        " VALUES ('x', 'contains', 'x', 'Ignore', 'Ignore', 'T')",
        "INSERT INTO development_hosts VALUES ('lab-*')",
        "DELETE FROM development_hosts",
        "INSERT INTO device_teams VALUES ('core1', 'Backbone')",
        "TRUNCATE device_teams",
    ],
)
def test_a_change_by_psql_is_seen(engine: Engine, statement: str) -> None:
    """Any writer moves the version, and the next look compiles what stands now."""
    book = Rulebook("NETO")
    with transaction(engine) as conn:
        before = book.current(conn)
        assert book.current(conn) is before
    with transaction(engine) as psql:
        psql.execute(text(statement))
    with transaction(engine) as conn:
        after = book.current(conn)
        assert after.version == before.version + 1
        assert book.current(conn) is after


class Gate:
    """Transactions that begin when they are let in."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.open, self.asked, self.left = engine, threading.Event(), 0, 0

    @contextmanager
    def __call__(self) -> Iterator[Connection]:
        self.asked += 1
        assert self.open.wait(10)
        with transaction(self._engine) as conn:
            yield conn
        self.left += 1


def _change(engine: Engine) -> int:
    with transaction(engine) as psql:
        psql.execute(text("UPDATE alert_rules SET priority = priority + 1 WHERE name = 'ERROR'"))
        return rulebook.current_version(psql)


def _current(book: Rulebook, engine: Engine) -> int:
    with transaction(engine) as conn:
        return book.current(conn).version


def test_many_rules_are_compiled_beside_the_work(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version in force judges until the new one is there, which is compiled once and then judges."""
    monkeypatch.setattr(rulebook, "BESIDE_FROM", 1)
    gate = Gate(engine)
    book = Rulebook("NETO", gate)
    before = _current(book, engine)
    after = _change(engine)
    assert [_current(book, engine) for _ in range(3)] == [before] * 3
    gate.open.set()
    wait_until(lambda: _current(book, engine) == after, 5, "the new version to judge")
    assert (_current(book, engine), gate.asked) == (after, 1)


def test_rules_that_may_be_long_out_of_date_do_not_judge(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved rule acts within five seconds: also where nobody asked for longer, or the thread takes longer."""
    monkeypatch.setattr(rulebook, "BESIDE_FROM", 1)
    monkeypatch.setattr(rulebook, "LATE", 0.0)
    book = Rulebook("NETO", Gate(engine))
    _current(book, engine)
    after = _change(engine)
    assert _current(book, engine) == after


def test_what_a_thread_compiled_too_early_does_not_judge(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules change once more while they are compiled: what judges then is what stands."""
    monkeypatch.setattr(rulebook, "BESIDE_FROM", 1)
    gate = Gate(engine)
    book = Rulebook("NETO", gate)
    before, _ = _current(book, engine), _change(engine)
    assert _current(book, engine) == before
    gate.open.set()
    wait_until(lambda: gate.left, 5, "the second version to be read")
    last = _change(engine)
    wait_until(lambda: _current(book, engine) == last, 5, "the third version to judge")


@pytest.mark.parametrize(
    "error",
    [StoreDown("away"), PoisonRow("22P02", "22P02"), NoRuleset("too large"), ValueError("odd")],
    ids=repr,
)
def test_a_thread_that_fails_leaves_it_to_the_work(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever it died of: the work reads what stands by itself, and what stands acts."""
    monkeypatch.setattr(rulebook, "BESIDE_FROM", 1)

    @contextmanager
    def failing() -> Iterator[Connection]:
        raise error
        yield

    book = Rulebook("NETO", failing)
    _current(book, engine)
    after = _change(engine)
    wait_until(lambda: _current(book, engine) == after, 5, "the new version to judge")


def test_what_was_written_is_what_is_compiled(conn: Connection) -> None:
    """Rules, development hosts and teams all reach the ruleset."""
    devices.put_team(conn, "core*", "Backbone", changed_by="eve")
    ruleset = rulebook.load(conn, "NETO")
    assert {rule.name for rule in ruleset.rules.values()} == {rule.name for rule in STARTING_RULES}
    assert ruleset.host("dev-router1").environment == "development"
    assert (ruleset.host("core7").team, ruleset.host("edge1").team) == ("Backbone", "NETO")


def test_a_version_becomes_visible_with_its_rules(engine: Engine) -> None:
    """Until a writer commits, readers have the old version; writers queue, so that versions come in order."""
    with transaction(engine) as writer:
        before = rulebook.current_version(writer)
        writer.execute(text("UPDATE alert_rules SET priority = 1"))
        with transaction(engine) as reader:
            assert rulebook.current_version(reader) == before
        with pytest.raises(StoreDown), transaction(engine) as second:
            second.execute(text("SET LOCAL lock_timeout = '50ms'"))
            second.execute(text("INSERT INTO development_hosts VALUES ('x')"))


def test_rules_that_change_while_they_are_read_are_read_again(engine: Engine) -> None:
    """A ruleset never mixes two versions: its rules are those of its version, also under a busy writer."""
    stop = threading.Event()

    def write_once() -> None:
        # After this statement the version and every priority agree.
        agree = "UPDATE alert_rules SET priority = (SELECT version + 1 FROM ruleset_version)"
        with transaction(engine) as conn:
            conn.execute(text(agree))

    def write() -> None:
        while not stop.is_set():
            write_once()
            stop.wait(0.01)

    write_once()
    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = [_try_to_load(engine) for _ in range(50)]
    finally:
        stop.set()
        thread.join(timeout=10)
    read = [ruleset for ruleset in seen if ruleset is not None]
    assert read
    for ruleset in read:
        assert {rule.priority for rule in ruleset.rules.values()} == {ruleset.version}


def _try_to_load(engine: Engine) -> Any:
    try:
        with transaction(engine) as conn:
            return rulebook.load(conn, "NETO")
    except NoRuleset:
        return None  # it kept changing: that is said, not glossed over


def test_no_rules_at_all_is_a_ruleset(conn: Connection) -> None:
    """An administrator may delete every rule; that is a decision, with a version."""
    conn.execute(text("DELETE FROM alert_rules"))
    ruleset = Rulebook("NETO").current(conn)
    assert ruleset.rules == {}
    assert ruleset.version > 0


def test_without_a_version_there_is_no_ruleset(engine: Engine) -> None:
    """Then nothing is evaluated; an outage of the table is an outage. Neither is an empty ruleset."""
    with transaction(engine) as conn:
        conn.execute(text("DELETE FROM ruleset_version"))
        with pytest.raises(NoRuleset):
            Rulebook("NETO").current(conn)
    with transaction(engine) as conn:
        conn.execute(text("DROP TABLE ruleset_version CASCADE"))
    with pytest.raises(StoreDown), transaction(engine) as conn:
        Rulebook("NETO").current(conn)


def test_a_rule_that_psql_broke_does_not_take_its_neighbours_along(conn: Connection) -> None:
    conn.execute(
        text("UPDATE alert_rules SET match_type = 'regex', match_string = '(?=x)' WHERE name = 'ERROR'")
    )
    ruleset = Rulebook("NETO").current(conn)
    assert len(ruleset.refused) == 1
    assert len(ruleset.rules) == len(STARTING_RULES)


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        ('{"site": 1}', {"site": "1"}),  # as a sender's number becomes a text
        ('{"site": "lon1", "up": true}', {"site": "lon1", "up": "true"}),
        ('{"site": null}', {"site": "null"}),
        ('{"site": ["a"]}', {"site": '["a"]'}),
        ('{"n": 1e5000}', {"n": "1" + "0" * 5000}),  # more digits than Python reads as a number
        ("{}", {}),
    ],
)
def test_tags_that_psql_wrote_are_texts(conn: Connection, tags: str, read: dict[str, str]) -> None:
    """The rule is evaluated, shown and changed like any other, and so are its neighbours."""
    conn.execute(text("UPDATE alert_rules SET tags = CAST(:tags AS jsonb) WHERE id = 2"), {"tags": tags})
    ruleset = Rulebook("NETO").current(conn)
    assert ruleset.refused == {} and len(ruleset.rules) == len(STARTING_RULES)
    rule = rulebook.get_rule(conn, 2)
    assert rule is not None and rule.tags == read == ruleset.rules[2].tags
    assert rule in rulebook.list_rules(conn)


def test_a_rule_whose_tags_psql_wrote_can_be_saved(conn: Connection) -> None:
    conn.execute(text("""UPDATE alert_rules SET tags = '{"site": 1}' WHERE id = 2"""))
    assert rulebook.save_rule(conn, {"priority": 3}, rule_id=2, changed_by="eve").tags == {"site": "1"}
    assert conn.execute(text("SELECT tags->'site' FROM alert_rules WHERE id = 2")).scalar() == "1"


def test_a_saved_rule_comes_back_and_is_noted(conn: Connection) -> None:
    """Creating, changing and deleting each leave who, why, before and after."""
    made = rulebook.save_rule(
        conn,
        {"match_string": "BGP", "tags": {"site": "lon1"}, "syslog_severity": "error"},
        changed_by="eve",
        reason="INC-1",
        correlation_id="c-1",
    )
    assert rulebook.get_rule(conn, made.id) == made
    changed = rulebook.save_rule(conn, {"prod_handling": "Ignore"}, rule_id=made.id, changed_by="eve")
    assert (changed.prod_handling, changed.tags, changed.match_string) == (
        Handling.IGNORE,
        {"site": "lon1"},
        "BGP",
    )
    assert rulebook.delete_rule(conn, made.id, changed_by="bob") == changed
    assert rulebook.get_rule(conn, made.id) is None

    create, update, delete = notes(conn)
    assert (create.operation, create.table_name, create.record_id) == ("CREATE", "alert_rules", str(made.id))
    assert (create.changed_by, create.reason, create.correlation_id, create.before) == (
        "eve",
        "INC-1",
        "c-1",
        None,
    )
    assert update.before["prod_handling"] == "Page_and_ticket"
    assert update.after["prod_handling"] == "Ignore"
    assert (delete.operation, delete.changed_by, delete.before, delete.after) == (
        "DELETE",
        "bob",
        update.after,
        None,
    )


def test_saving_what_stands_changes_nothing(conn: Connection) -> None:
    """Neither the version nor the history moves."""
    rule = rulebook.list_rules(conn)[0]
    version = rulebook.current_version(conn)
    assert rulebook.save_rule(conn, {"name": rule.name}, rule_id=rule.id, changed_by="eve") == rule
    assert rulebook.current_version(conn) == version
    assert notes(conn) == []


def test_a_rule_that_can_not_be_is_refused_and_named(conn: Connection) -> None:
    version = rulebook.current_version(conn)
    with pytest.raises(RuleError) as caught:
        rulebook.save_rule(conn, {"match_string": "x", "prod_handling": "Page"}, changed_by="eve")
    assert caught.value.field == "prod_handling"
    with pytest.raises(LookupError):
        rulebook.save_rule(conn, {"match_string": "x"}, rule_id=999, changed_by="eve")
    with pytest.raises(LookupError):
        rulebook.delete_rule(conn, 999, changed_by="eve")
    assert rulebook.current_version(conn) == version


@pytest.mark.parametrize(
    "change",
    [
        "match_type = 'glob'",
        "prod_handling = 'Page'",
        "syslog_severity = 8",
        "moog_severity = -1",
        "tags = '[]'",
    ],
)
def test_psql_too_is_held_to_the_closed_sets(engine: Engine, change: str) -> None:
    with pytest.raises(PoisonRow), transaction(engine) as conn:
        conn.execute(text(f"UPDATE alert_rules SET {change}"))


def test_what_is_exported_can_be_imported(conn: Connection) -> None:
    """Into the same database it changes nothing; after the rules are gone it brings all of them back."""
    exported, version = rulebook.export(conn), rulebook.current_version(conn)
    rulebook.import_rules(conn, exported, changed_by="eve", replace=True)
    assert rulebook.current_version(conn) == version
    conn.execute(text("DELETE FROM alert_rules"))
    rulebook.import_rules(conn, exported, changed_by="eve")
    assert rulebook.export(conn) == exported


def test_an_import_goes_by_name_and_keeps_ids(conn: Connection) -> None:
    """A rule that is changed keeps the number that the audit knows it by; only replace deletes what is not named."""
    error = next(rule for rule in rulebook.list_rules(conn) if rule.name == "ERROR")
    items = [{"name": "ERROR", "match_string": "ERR"}, {"name": "new", "match_string": "new"}]
    changed, created = rulebook.import_rules(conn, items, changed_by="eve")
    assert (changed.id, changed.match_string) == (error.id, "ERR")
    assert len(rulebook.list_rules(conn)) == len(STARTING_RULES) + 1
    rulebook.import_rules(conn, items, changed_by="eve", replace=True)
    assert {rule.id for rule in rulebook.list_rules(conn)} == {changed.id, created.id}


def test_one_bad_item_keeps_the_whole_import_out(conn: Connection) -> None:
    before = rulebook.export(conn)
    with pytest.raises(RuleError):
        rulebook.import_rules(
            conn, [{"match_string": "x"}, {"match_type": "regex", "match_string": "(?=x)"}], changed_by="e"
        )
    assert rulebook.export(conn) == before


#: A good rule, that takes more memory than ``little_memory`` leaves.
LARGE = {"name": "large", "match_type": "regex", "match_string": r"\pL+ \pL+ \pL+ x"}


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The starting rules fit into a ruleset, ``LARGE`` does not: a few thousand rules in short."""
    monkeypatch.setattr(matcher, "_memory", lambda _patterns: 64 << 10)


@pytest.mark.parametrize("change", ["a new rule", "a new text", "switched on", "imported", "imported anew"])
def test_a_change_that_leaves_no_ruleset_is_refused(engine: Engine, change: str, little_memory: None) -> None:
    """A worker that starts afterwards must find one that compiles; what stood stands."""
    with transaction(engine) as conn:
        off = rulebook.save_rule(conn, {**LARGE, "is_active": False}, changed_by="eve").id
        before = rulebook.export(conn)
    by = {"changed_by": "eve"}
    with pytest.raises(RuleError) as refused, transaction(engine) as conn:
        if change == "a new rule":
            rulebook.save_rule(conn, LARGE, **by)
        elif change == "a new text":
            rulebook.save_rule(conn, {**LARGE, "name": "ERROR"}, rule_id=2, **by)
        elif change == "switched on":
            rulebook.save_rule(conn, {"is_active": True}, rule_id=off, **by)
        else:
            rulebook.import_rules(conn, [LARGE], replace=change == "imported anew", **by)
    assert refused.value.field == "match_string"
    assert "does not fit beside the other active rules" in refused.value.reason
    assert "write .* in place of" in refused.value.reason
    with transaction(engine) as conn:
        assert rulebook.export(conn) == before
        Rulebook("NETO").current(conn)


@pytest.mark.parametrize("way_out", ["delete", "switch off", "import"])
def test_rules_that_do_not_fit_can_always_be_taken_away(
    conn: Connection, way_out: str, little_memory: None
) -> None:
    """psql is not asked; then a rule that changes nothing of the matter, or takes away, is still saved."""
    add = "INSERT INTO alert_rules (name, match_type, match_string, prod_handling, dev_handling, team_assignment)"
    values = " VALUES ('large', 'regex', :text, 'Ignore', 'Ignore', 'T') RETURNING id"
    large = conn.execute(text(add + values), {"text": LARGE["match_string"]}).scalar_one()
    with pytest.raises(NoRuleset):
        Rulebook("NETO").current(conn)
    rulebook.save_rule(conn, {"priority": 9}, rule_id=2, changed_by="eve")
    if way_out == "delete":
        rulebook.delete_rule(conn, large, changed_by="eve")
    elif way_out == "switch off":
        rulebook.save_rule(conn, {"is_active": "off"}, rule_id=large, changed_by="eve")
    else:
        rulebook.import_rules(conn, [{"match_string": "x"}], replace=True, changed_by="eve")
    assert Rulebook("NETO").current(conn).refused == {}


def test_an_import_compiles_once(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(rulebook, "load", lambda *_: compiled.append(1))
    rulebook.import_rules(conn, [{"match_string": f"word{n}"} for n in range(20)], changed_by="eve")
    assert len(compiled) == 1
    rulebook.import_rules(conn, rulebook.export(conn), changed_by="eve")  # changes nothing
    rulebook.save_rule(conn, {"team_assignment": "T"}, rule_id=1, changed_by="eve")
    assert len(compiled) == 1


@pytest.mark.parametrize(
    "stands",
    [
        "error.{500}x",  # saved before counted gaps were refused
        "(?=x)",  # written by psql: no ruleset holds it
    ],
)
def test_a_rule_that_would_be_refused_today_can_be_switched_off_and_deleted(
    conn: Connection, stands: str
) -> None:
    conn.execute(
        text("UPDATE alert_rules SET match_type = 'regex', match_string = :t WHERE id = 2"), {"t": stands}
    )
    with pytest.raises(RuleError):
        rulebook.save_rule(conn, {"priority": 3}, rule_id=2, changed_by="eve")
    off = rulebook.save_rule(conn, {"is_active": "off"}, rule_id=2, changed_by="eve")
    assert (off.is_active, off.match_string) == (False, stands)
    with pytest.raises(RuleError):
        rulebook.save_rule(conn, {"is_active": "on"}, rule_id=2, changed_by="eve")
    assert rulebook.delete_rule(conn, 2, changed_by="eve") == off


def test_a_counted_gap_that_stands_from_earlier_is_still_evaluated(conn: Connection) -> None:
    """It did compile: only saving it anew is refused."""
    conn.execute(
        text("UPDATE alert_rules SET match_type = 'regex', match_string = 'error.{500}x' WHERE id = 2")
    )
    ruleset = Rulebook("NETO").current(conn)
    assert ruleset.refused == {}
    assert len(ruleset.candidates(event(message="error" + "-" * 500 + "x"))) == 1


def test_hosts_and_teams_are_set_whole_or_one_by_one_and_noted(conn: Connection) -> None:
    """Only what changes is written and noted."""
    devices.set_hosts(
        conn, ["dev-router1", " lab-* ", "10.9.0.0/16", "lab-*"], changed_by="eve", reason="lab"
    )
    assert devices.hosts(conn) == ["10.9.0.0/16", "dev-router1", "lab-*"]
    assert devices.remove_host(conn, "lab-*", changed_by="eve")
    assert not devices.remove_host(conn, "lab-*", changed_by="eve")
    devices.set_teams(conn, {"core1": "Backbone", "edge1": "Edge"}, changed_by="eve")
    devices.set_teams(conn, {"core1": "Backbone", "edge1": "Access"}, changed_by="eve")
    assert devices.teams(conn) == {"core1": "Backbone", "edge1": "Access"}
    assert devices.remove_team(conn, "edge1", changed_by="eve")
    assert not devices.remove_team(conn, "edge1", changed_by="eve")

    said = [(note.operation, note.record_id) for note in notes(conn)]
    assert said == [
        ("DELETE", "qa-firewall1"),
        ("DELETE", "test-switch1"),
        ("CREATE", "lab-*"),
        ("CREATE", "10.9.0.0/16"),
        ("DELETE", "lab-*"),
        ("CREATE", "core1"),
        ("CREATE", "edge1"),
        ("UPDATE", "edge1"),
        ("DELETE", "edge1"),
    ]


@pytest.mark.parametrize("hostname", ["", "  ", "h" * 256, "10.0.0.0/99", "nul\0"])
def test_a_host_that_can_not_be_is_refused(conn: Connection, hostname: str) -> None:
    with pytest.raises(RuleError):
        devices.add_host(conn, hostname, changed_by="eve")
    with pytest.raises(RuleError):
        devices.put_team(conn, hostname, "T", changed_by="eve")


def test_a_team_needs_a_name(conn: Connection) -> None:
    with pytest.raises(RuleError):
        devices.put_team(conn, "core1", " ", changed_by="eve")


def test_history_is_forgotten_by_age(conn: Connection) -> None:
    history.note(
        conn, "eve", "UPDATE", "config", "moog_rate_limit", before={"value": 50}, after={"value": 60}
    )
    assert history.prune(conn, datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert history.prune(conn, datetime(2100, 1, 1, tzinfo=UTC)) >= 1
    assert notes(conn) == []


def test_every_version_can_be_read_again(engine: Engine) -> None:
    """A transaction makes one version, and rows keep their revisions, whoever writes them."""
    with transaction(engine) as conn:
        first = rulebook.current_version(conn)
        rule = rulebook.save_rule(conn, {"match_string": "one"}, changed_by="t")
        rulebook.save_rule(conn, {"priority": 7}, rule_id=rule.id, changed_by="t")
        assert rulebook.current_version(conn) == first + 1
    with transaction(engine) as psql:
        psql.execute(text("UPDATE alert_rules SET match_string = 'two' WHERE id = :id"), {"id": rule.id})
    with transaction(engine) as psql:
        psql.execute(text("TRUNCATE alert_rules"))
    with transaction(engine) as conn:
        query = "SELECT since_version, until_version, data ->> 'match_string', data -> 'priority' FROM rule_revisions"
        kept = conn.execute(
            text(f"{query} WHERE record_id = :id ORDER BY since_version"), {"id": str(rule.id)}
        ).all()
        assert list(map(tuple, kept)) == [
            (first + 1, first + 2, "one", 7),
            (first + 2, first + 3, "two", 7),
        ]
        noted = conn.execute(
            text("SELECT DISTINCT ruleset_version FROM config_audit_log WHERE record_id = :id"),
            {"id": str(rule.id)},
        ).scalars()
        assert list(noted) == [first + 1]
