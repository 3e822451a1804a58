"""Noise control as its users meet it: real workers, and what the simulator of Moog was told."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from tests.stack import Stack
from tests.waiting import wait_until

RULE = """
INSERT INTO alert_rules (name, match_string, match_type, priority, prod_handling, dev_handling, team_assignment,
                         moog_severity, dedup_window)
VALUES (:name, :name, 'contains', 1, 'Page_only', 'Ignore', 'NETO', :severity, :dedup)
"""
STORM = """
INSERT INTO storm_policies (name, group_by, alert_count, alert_window) VALUES ('Site', 'tags.run', 2, :window)
"""


def execute(stack: Stack, statement: str, **values: Any) -> None:
    url = str(stack.up["owner_url"]).replace("postgresql://", "postgresql+psycopg2://")
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as conn:
        conn.execute(sa.text(statement), values)


def told(stack: Stack, text: str) -> list[dict[str, Any]]:
    """What Moog was told that has this text, the first first."""
    received = [one["came"]["event"] for one in stack.moog("/received", limit=500)]
    return [one for one in received if text in str(one)]


def held(stack: Stack, host: str) -> list[str]:
    rows = stack.sql(
        "SELECT reason FROM alerts WHERE hostname LIKE :h AND status = 'cancelled'", h=host + "%"
    )
    return sorted(row.reason for row in rows)


def rule(stack: Stack, severity: int = 5, dedup: int | None = None) -> str:
    """A rule of this test's own, in force; the text that it looks for."""
    name = f"noise-{uuid.uuid4().hex[:8]}"
    execute(stack, RULE, name=name, severity=severity, dedup=dedup)

    def in_force() -> list[Any]:
        host = f"probe-{uuid.uuid4().hex[:8]}"
        stack.post({"hostname": host, "message": name})
        query = "SELECT matched_rule_id FROM event_audit_log WHERE hostname = :host"
        [row] = wait_until(lambda: stack.sql(query, host=host), 20, "the audit row")
        return row.matched_rule_id and stack.sql(
            "SELECT 1 FROM alert_rules WHERE id = :i AND name = :n", i=row.matched_rule_id, n=name
        )

    wait_until(in_force, 20, "the rule in force")
    return name


def test_a_repeat_is_sent_once_and_then_as_a_number(stack: Stack) -> None:
    """Of ten repeats Moog gets the first; the next alert after the window says how many there were."""
    text, host = rule(stack, dedup=3), f"repeat-{uuid.uuid4().hex[:8]}"
    stack.post([{"hostname": host, "message": f"{text} {n}"} for n in range(10)])
    wait_until(lambda: held(stack, host) == ["dedup"] * 9, 20, "nine to be held")
    wait_until(lambda: len(told(stack, host)) == 1, 10, "the first at Moog")

    def told_again() -> list[dict[str, Any]]:
        stack.post({"hostname": host, "message": f"{text} again"})
        return told(stack, host)[1:]

    [last] = wait_until(told_again, 20, "the next at Moog", every=0.5)
    assert last["custom_info"]["repeats"] >= 9
    assert " more since " in last["description"]
    assert len({one["signature"] for one in told(stack, host)}) == 1
    stack.balanced()


def test_a_storm_is_one_summary(stack: Stack) -> None:
    """Two of twenty alerts of a site go to Moog, and one of MUTT's own that tells of the others."""
    run = uuid.uuid4().hex[:8]
    execute(stack, STORM, window=4)
    text = rule(stack, severity=4)
    stack.post([{"hostname": f"storm-{run}-{n}", "message": text, "run": run} for n in range(20)])
    wait_until(
        lambda: held(stack, f"storm-{run}") and len(held(stack, f"storm-{run}")) == 18, 20, "18 to be held"
    )

    def over() -> list[dict[str, Any]]:
        return [one for one in told(stack, run) if one["description"].startswith("Storm is over")]

    [last] = wait_until(over, 40, "the storm to be over", every=0.2)
    summaries = [one for one in told(stack, run) if one["type"] == "storm"]
    assert {one["signature"] for one in summaries} == {last["signature"]}
    assert (last["severity"], last["source"]) == (4, f"tags.run:{run}")
    assert "18 alerts held" in last["description"]
    assert len(told(stack, f"'storm-{run}-")) == 2
    stack.balanced()
