"""The vectors: events as senders write them, and what the rules make of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mutt.event import SEVERITY_NAMES, Event
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate

NOW = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "events.json").read_text())
EVENTS = {vector["id"]: vector["event"] for vector in VECTORS["vectors"]}
RULES = [check_rule(data, rule_id=number) for number, data in enumerate(VECTORS["rules"], start=1)]
RULESET = Ruleset.compile(1, RULES, VECTORS["development_hosts"], {})


def as_event(sent: dict[str, Any]) -> Event:
    """What the rules can see of a native event."""
    severity = sent.get("syslog_severity")
    return Event(
        event_id=UUID(int=1),
        received_at=NOW,
        occurred_at=NOW,
        hostname=sent["hostname"],
        message=sent["message"],
        severity=SEVERITY_NAMES[severity.lower()] if isinstance(severity, str) else severity,
        source=sent.get("source_type", "native"),
        program=sent.get("program"),
        trap_oid=sent.get("trap_oid"),
        tags={name: str(value) for name, value in sent.items() if name.startswith("_")},
    )


@pytest.mark.parametrize(
    ("id", "rule", "environment", "handling", "forward", "team", "severity"),
    [
        ("T01", "LINK-DOWN", "production", "Page_and_ticket", True, "NetOps", 3),
        ("T02", "LINK-DOWN", "development", "Ticket_only", True, "NetOps", 3),
        ("T03", "R7", "production", "Page_and_ticket", True, "SysAdmin", 4),
        ("T04", "R7", "production", "Page_and_ticket", True, "SysAdmin", 4),
        ("T05", "ERROR", "development", "Ignore", False, "NETO", None),
        ("T07", "cisco-syslog-trap", "production", "Page_and_ticket", True, "NetOps", 5),
        ("T08", "cisco-syslog-trap", "production", "Page_and_ticket", True, "NetOps", 5),
        ("T10", "ERROR", "production", "Ticket_only", True, "NETO", 3),
        ("T11", "Unhandled", "production", "Unhandled", False, "NETO", None),
        ("T14", "Unhandled", "production", "Unhandled", False, "NETO", None),
        ("T17", "CRITICAL", "production", "Page_and_ticket", True, "NETO", 5),
    ],
)
def test_a_vector_has_its_verdict(
    id: str, rule: str, environment: str, handling: str, forward: bool, team: str, severity: int | None
) -> None:
    found = evaluate(as_event(EVENTS[id]), RULESET)
    assert RULESET.rule_name(found.rule_id) == rule
    assert (found.environment, found.handling, found.forward) == (environment, handling, forward)
    assert (found.team, found.moog_severity) == (team, severity)


def test_of_two_events_in_one_array_each_has_its_own_verdict() -> None:
    first, second = (evaluate(as_event(sent), RULESET) for sent in EVENTS["T20"])
    assert (RULESET.rule_name(first.rule_id), first.forward) == ("CRITICAL", True)
    assert (second.rule_id, second.forward) == (None, False)


def test_repeats_of_an_unhandled_event_share_a_template() -> None:
    sent = EVENTS["T11"]
    templates = {
        evaluate(as_event({**sent, "message": sent["message"].replace("1912", str(pid))}), RULESET).template
        for pid in (1912, 7, 65536)
    }
    assert templates == {"haproxy[<*>]: backend api has no server available!"}
