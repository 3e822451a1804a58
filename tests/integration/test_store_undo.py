"""A change of the configuration can be taken back, unless what it changed was changed again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert, select

from mutt.errors import Refused
from mutt.rules.rule import Rule
from mutt.store import devices, history, rulebook, versions, windows
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.tables import config_audit_log, storm_policies
from mutt.store.undo import can_be_undone, undo

ANN: Said = {"changed_by": "ann", "reason": "because"}
BOB: Said = {"changed_by": "bob"}


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with transaction(engine) as opened:
        yield opened


def last(conn: Connection) -> Any:
    return conn.execute(select(config_audit_log).order_by(config_audit_log.c.id.desc()).limit(1)).one()


def saved(conn: Connection, rule_id: int | None = None, **fields: Any) -> Rule:
    return rulebook.save_rule(conn, fields, rule_id=rule_id, **ANN)


def test_fields_get_their_former_values(conn: Connection) -> None:
    """An update is taken back, its note says what it undoes, and that can be undone in turn."""
    rule = saved(
        conn, match_string="fan", tags={"site": "lon1"}, examples=[{"message": "fan 1", "matches": False}]
    )
    after = saved(conn, rule.id, priority=7, tags={}, syslog_severity=3)
    changed = last(conn)
    made = undo(conn, changed.id, BOB)
    assert (made.operation, made.record_id) == ("UPDATE", str(rule.id))
    assert rulebook.get_rule(conn, rule.id) == rule
    note = last(conn)
    assert (note.undoes, note.changed_by, note.operation) == (changed.id, "bob", "UPDATE")
    assert note.ruleset_version == rulebook.current_version(conn)
    undo(conn, note.id, BOB)
    assert rulebook.get_rule(conn, rule.id) == after


def test_a_deleted_rule_stands_again_under_its_id(conn: Connection) -> None:
    """A deletion is taken back with the rule's old id; taking that back deletes it again."""
    rule = saved(conn, match_string="fan", threshold_count=3, threshold_window=60)
    rulebook.delete_rule(conn, rule.id, **ANN)
    undo(conn, last(conn).id, BOB)
    assert rulebook.get_rule(conn, rule.id) == rule
    undo(conn, last(conn).id, BOB)
    assert rulebook.get_rule(conn, rule.id) is None


def test_what_was_made_is_deleted(conn: Connection) -> None:
    """A creation is taken back."""
    rule = saved(conn, match_string="fan")
    undo(conn, last(conn).id, BOB)
    assert rulebook.get_rule(conn, rule.id) is None


def test_other_fields_may_have_changed_since(conn: Connection) -> None:
    """A later change of other fields stays; one of the same fields keeps the undo away."""
    rule = saved(conn, match_string="fan")
    saved(conn, rule.id, priority=7)
    first = last(conn).id
    saved(conn, rule.id, team_assignment="Power")
    undo(conn, first, BOB)
    found = rulebook.get_rule(conn, rule.id)
    assert found is not None
    assert (found.priority, found.team_assignment) == (100, "Power")
    with pytest.raises(Refused):
        undo(conn, first, BOB)


@pytest.mark.parametrize("since", ["deleted", "changed", "made again"])
def test_a_row_that_changed_since_is_left_alone(conn: Connection, since: str) -> None:
    """Nothing is overwritten that the change did not leave behind."""
    rule = saved(conn, match_string="fan")
    if since == "made again":
        rulebook.delete_rule(conn, rule.id, **ANN)
    note = last(conn).id
    if since == "deleted":
        rulebook.delete_rule(conn, rule.id, **ANN)
    elif since == "changed":
        saved(conn, rule.id, is_active=False)
    else:
        undo(conn, note, ANN)
    stands = rulebook.list_rules(conn)
    with pytest.raises(Refused):
        undo(conn, note, BOB)
    assert rulebook.list_rules(conn) == stands


def test_hosts_teams_and_storm_policies(conn: Connection) -> None:
    """Every table of the ruleset can be given back."""
    devices.add_host(conn, "lab-*", **ANN)
    undo(conn, last(conn).id, BOB)
    assert "lab-*" not in devices.hosts(conn)
    devices.put_team(conn, "core1", "Backbone", **ANN)
    devices.put_team(conn, "core1", "Core", **ANN)
    undo(conn, last(conn).id, BOB)
    assert devices.teams(conn) == {"core1": "Backbone"}
    devices.remove_team(conn, "core1", **ANN)
    undo(conn, last(conn).id, BOB)
    assert devices.teams(conn) == {"core1": "Backbone"}
    fields = {"name": "s", "group_by": "host", "alert_count": 5, "alert_window": 60, "is_active": True}
    made = conn.execute(insert(storm_policies).values(fields).returning(storm_policies.c.id)).scalar_one()
    note = history.note(conn, "ann", "CREATE", "storm_policies", made, after={**fields, "hostname": None})
    undo(conn, note, BOB)
    assert versions.storms_of(conn, rulebook.current_version(conn)) == []


def test_maintenance_windows(conn: Connection) -> None:
    """A window is given back with its times, as it was before the change and after it was deleted."""
    times = {"starts_at": "2026-11-28T22:00:00Z", "ends_at": "2026-11-28T23:00:00Z"}
    window = windows.save(conn, {"name": "w", "owner": "ann", "hostname": "lab-*", **times}, **ANN)
    windows.save(conn, {"ends_at": "2026-11-29T01:00:00Z"}, window_id=window.id, **ANN)
    undo(conn, last(conn).id, BOB)
    assert windows.get(conn, window.id)[0] == window
    windows.remove(conn, window.id, **ANN)
    undo(conn, last(conn).id, BOB)
    assert windows.get(conn, window.id)[0] == window


def test_what_can_not_be_undone(conn: Connection) -> None:
    """A dead letter's replay is none of these changes, and a note that is gone is not found."""
    note = history.note(conn, "ann", "REPLAY", "letters", "x", after={"count": 3})
    assert not can_be_undone(last(conn))
    with pytest.raises(Refused):
        undo(conn, note, BOB)
    with pytest.raises(LookupError):
        undo(conn, note + 1, BOB)


_FIELDS = {
    "priority": st.integers(1, 5),
    "match_string": st.sampled_from(["fan", "Fan", "power"]),
    "tags": st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "yes"])),
    "hostname": st.sampled_from([None, "core-*", "10.0.0.0/8"]),
    "moog_severity": st.sampled_from([None, 0, 5]),
    "is_active": st.booleans(),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(edits=st.lists(st.fixed_dictionaries({}, optional=_FIELDS), min_size=1, max_size=5))
def test_undone_one_by_one_all_is_as_it_was(conn: Connection, edits: list[dict[str, Any]]) -> None:
    """Changes taken back from the last to the first lead through every former state."""
    rule = saved(conn, match_string="fan")
    states, made = [], []
    for edit in edits:
        stands = rulebook.get_rule(conn, rule.id)
        if saved(conn, rule.id, **edit) != stands:
            states.append(stands)
            made.append(last(conn).id)
    for state, note in zip(reversed(states), reversed(made), strict=True):
        undo(conn, note, BOB)
        assert rulebook.get_rule(conn, rule.id) == state
