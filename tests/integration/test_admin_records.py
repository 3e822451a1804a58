"""What the admin shows of events, alerts and changes: as asked for, and never as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert

from mutt.event import uuid7
from mutt.store import audit, devices, rulebook
from mutt.store.engine import transaction
from mutt.store.tables import alerts
from tests.admin_client import (
    operator_of,
)

HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}\u202e'


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def audited(hostname: str, message: str, at: datetime, rule_id: int | None = None) -> audit.AuditRow:
    return audit.AuditRow(
        event_id=uuid7(),
        received_at=at,
        occurred_at=at,
        hostname=hostname,
        severity=2,
        source="native",
        message=message,
        matched_rule_id=rule_id,
        ruleset_version=1,
        handling="Ignore",
        team="NETO",
        batch_id="b",
        item=0,
        correlation_id="c",
        raw=message,
    )


def test_the_audit_is_searched_by_host_rule_and_time(operator: FlaskClient, engine: Engine) -> None:
    """Newest first; with nothing to narrow the search, the last 15 minutes."""
    now = datetime.now(UTC)
    with transaction(engine) as conn:
        rows = [
            audited("r1", "first-r1", now - timedelta(minutes=2), 1),
            audited("r1", "older-r1", now - timedelta(hours=5)),
            audited("r2", "only-r2", now - timedelta(minutes=1)),
        ]
        audit.copy_rows(conn, rows)

    def found(query: str) -> list[str]:
        return re.findall(r"(?:first|older|only)-r\d", operator.get(f"/audit/?{query}").text)

    assert found("") == ["only-r2", "first-r1"]
    assert found("hostname=r1") == ["first-r1", "older-r1"]
    assert found("rule_id=1") == ["first-r1"]
    since = f"{now - timedelta(hours=6):%Y-%m-%dT%H:%M}"
    assert found(f"since={since}") == ["only-r2", "first-r1", "older-r1"]
    assert found(f"since={since}&until={now - timedelta(hours=4):%Y-%m-%dT%H:%M}") == ["older-r1"]
    wrong = operator.get("/audit/?rule_id=x&since=yesterday&limit=9999999")
    assert wrong.status_code == 422 and wrong.text.count('class="error"') == 3


@pytest.mark.parametrize("time", ["0001-01-01T00:00", "0001-01-01T00:15", "9999-12-31T23:59:59"])
@pytest.mark.parametrize("asked", ["until={}", "since={}", "since={}&until={}", "hostname=r1&until={}"])
def test_the_first_and_the_last_moment_may_be_asked_for(operator: FlaskClient, asked: str, time: str) -> None:
    assert operator.get("/audit/?" + asked.replace("{}", time)).status_code == 200


def test_a_hostile_event_is_text_on_every_page(operator: FlaskClient, engine: Engine) -> None:
    """What a sender or an administrator wrote is shown as it is, and is no markup."""
    now = datetime.now(UTC)
    with transaction(engine) as conn:
        audit.copy_rows(conn, [audited(HOSTILE, HOSTILE, now)])
        conn.execute(insert(alerts), [alert_row(HOSTILE, now)])
        values = {"name": HOSTILE, "match_string": HOSTILE, "team_assignment": HOSTILE, "program": HOSTILE}
        rule = rulebook.save_rule(conn, {**values, "tags": {HOSTILE: HOSTILE}}, changed_by=HOSTILE)
        devices.put_team(conn, "core1", HOSTILE, changed_by="x")
    pages = [
        "/audit/",
        "/alerts/",
        "/history/",
        "/rules/",
        f"/rules/{rule.id}",
        "/teams/",
        "/teams/edit?host=core1",
    ]
    for page in [*pages, "/rules/?q=" + HOSTILE, "/audit/?hostname=" + HOSTILE]:
        shown = operator.get(page).text
        assert "&lt;script&gt;alert(" in shown, page
        assert "<script>" not in shown and "49" not in re.findall(r"&lt;/script&gt;(\S{2})", shown), page


def alert_row(wanted: str, now: datetime) -> dict[str, Any]:
    texts = (
        "hostname",
        "team",
        "signature",
        "description",
        "correlation_id",
        "type",
        "raw",
        "reason",
        "source",
    )
    row = dict.fromkeys(texts, wanted) | {"alert_id": uuid7(), "event_id": uuid7(), "state": "raise"}
    row |= {"received_at": now, "occurred_at": now, "lane": "critical", "severity": 5, "status": "parked"}
    return row | {"handling": "Page_only", "environment": "production"}


def test_alerts_show_their_delivery(operator: FlaskClient, engine: Engine) -> None:
    now = datetime.now(UTC)
    with transaction(engine) as conn:
        conn.execute(insert(alerts), [alert_row("r1", now)])
        conn.execute(insert(alerts), [alert_row("r2", now) | {"status": "delivered", "moog_status": 202}])
    shown = operator.get("/alerts/?status=delivered").text
    assert '">r2<' in shown and '">r1<' not in shown and "202" in shown
    assert '">r1<' in operator.get("/alerts/?hostname=r1").text
