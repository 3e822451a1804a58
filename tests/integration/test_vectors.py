"""The vectors from end to end: through ingest's HTTP and the evaluator to rows and alerts, on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Row

from mutt.services import Services
from mutt.store import devices, rulebook
from mutt.web.ingest import make_ingest
from tests.bench import Bench

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "events.json").read_text())
EVENTS = {vector["id"]: vector["event"] for vector in VECTORS["vectors"]}
KEY = "the-key-of-the-tests"


class Line:
    """Ingest and one evaluator."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        web = Services(bench.settings, lambda *_a, **_k: None, role="ingest", web=True)
        self.client: FlaskClient = make_ingest(web).test_client()
        self.names: dict[int, str] = {}

    def post(self, body: Any) -> Any:
        return self.client.post("/ingest", json=body, headers={"X-API-KEY": KEY})

    def send(self, body: Any) -> list[Row[Any]]:
        """Post, evaluate, and give the rows it became."""
        before = {row.event_id for row in self.bench.rows()}
        response = self.post(body)
        assert response.status_code == 202, response.get_data()
        self.bench.run()
        self.bench.check()
        return [row for row in self.bench.rows() if row.event_id not in before]

    def rule(self, row: Row[Any]) -> str | None:
        return self.names.get(row.matched_rule_id)


@pytest.fixture
def line(redis_url: str, database_url: str) -> Iterator[Line]:
    bench = Bench(redis_url, database_url, ingest_api_key=KEY)
    made = Line(bench)
    with bench.sql() as conn:
        rules = rulebook.import_rules(conn, VECTORS["rules"], replace=True, changed_by="test")
        devices.set_hosts(conn, VECTORS["development_hosts"], changed_by="test")
    made.names = {rule.id: rule.name for rule in rules}
    yield made
    bench.close()


@pytest.mark.parametrize(
    ("id", "rule", "handling", "team", "alert"),
    [
        ("T01", "LINK-DOWN", "Page_and_ticket", "NetOps", ("production", 3, "minor")),
        ("T02", "LINK-DOWN", "Ticket_only", "NetOps", ("development", 3, "minor")),
        ("T03", "R7", "Page_and_ticket", "SysAdmin", ("production", 4, "major")),
        ("T04", "R7", "Page_and_ticket", "SysAdmin", ("production", 4, "major")),
        ("T05", "ERROR", "Ignore", "NETO", None),
        ("T07", "cisco-syslog-trap", "Page_and_ticket", "NetOps", ("production", 5, "critical")),
        ("T08", "cisco-syslog-trap", "Page_and_ticket", "NetOps", ("production", 5, "critical")),
        ("T10", "ERROR", "Ticket_only", "NETO", ("production", 3, "minor")),
        ("T14", None, "Unhandled", "NETO", None),
        ("T17", "CRITICAL", "Page_and_ticket", "NETO", ("production", 5, "critical")),
    ],
)
def test_a_vector_becomes_its_row_and_its_alert(
    line: Line, id: str, rule: str | None, handling: str, team: str, alert: tuple[str, int, str] | None
) -> None:
    (row,) = line.send(EVENTS[id])
    assert (line.rule(row), row.handling, row.team) == (rule, handling, team)
    assert json.loads(row.raw) == EVENTS[id]
    found = [(one.environment, one.severity, one.lane) for one in line.bench.alerts()]
    assert found == ([alert] if alert else [])
    assert [len(line.bench.lane(one[2])) for one in found] == [1] * len(found)


def test_t02_a_time_with_an_offset_is_kept_as_utc(line: Line) -> None:
    (row,) = line.send(EVENTS["T02"])
    assert row.occurred_at == datetime(2026, 3, 4, 8, 15, 3, tzinfo=UTC)


def test_t11_the_hundredth_raises_one_meta_alert_and_the_next_two_hundred_none(line: Line) -> None:
    for batch in (99, 1, 100, 100):
        line.send([EVENTS["T11"]] * batch)
        assert len(line.bench.alerts()) == (0 if batch == 99 else 1)
    (alert,) = line.bench.alerts()
    assert (alert.team, alert.hostname, alert.handling) == ("NETO", "lb-07", "Meta")
    assert len(line.bench.rows()) == 301


def test_t11_the_meta_alert_goes_to_the_mapped_team(line: Line) -> None:
    with line.bench.sql() as conn:
        devices.put_team(conn, "lb-07", "LoadBalancing", changed_by="test")
    line.send([EVENTS["T11"]] * 100)
    assert [alert.team for alert in line.bench.alerts()] == ["LoadBalancing"]


def test_t13_an_empty_message_alone_is_a_400_that_names_the_field(line: Line) -> None:
    response = line.post(EVENTS["T13"])
    assert response.status_code == 400
    assert response.get_json()["field"] == "message"
    line.bench.run()
    assert line.bench.rows() == []


def test_t14_without_a_time_it_happened_when_it_came(line: Line) -> None:
    (row,) = line.send(EVENTS["T14"])
    assert row.occurred_at == row.received_at


def test_t17_fields_with_an_underscore_control_nothing(line: Line) -> None:
    (row,) = line.send(EVENTS["T17"])
    (alert,) = line.bench.alerts()
    assert row.correlation_id == alert.correlation_id != "spoof"
    assert alert.attempts == 0


def test_t20_each_item_of_an_array_has_its_own_verdict(line: Line) -> None:
    first, second = line.send(EVENTS["T20"])
    assert (line.rule(first), first.item, second.handling, second.item) == ("CRITICAL", 0, "Unhandled", 1)
    assert first.batch_id == second.batch_id
    assert [alert.event_id for alert in line.bench.alerts()] == [first.event_id]


# ---- repeats, over the whole way


def test_a_request_sent_again_with_its_own_ids_is_one_row_each(line: Line) -> None:
    body = [
        EVENTS["T01"] | {"event_id": "trap-1"},
        EVENTS["T03"] | {"event_id": "0190a1b2-0000-7000-8000-000000000001"},
    ]
    assert len(line.send(body)) == 2
    line.post(body)
    assert line.send([*body, *body]) == []
    assert len(line.bench.alerts()) == 2
    assert line.bench.events == {"accepted": 8, "settled": 2, "duplicate": 6}


def test_the_same_id_with_other_content_is_another_row(line: Line) -> None:
    line.send(EVENTS["T01"] | {"event_id": "x"})
    line.send(EVENTS["T03"] | {"event_id": "x"})
    rows = line.bench.rows()
    assert len(rows) == len(line.bench.alerts()) == 2
    assert rows[0].event_id == rows[1].event_id


def test_a_request_sent_again_with_an_idempotency_key_is_never_appended_again(line: Line) -> None:
    for _ in range(3):
        told = {"X-API-KEY": KEY, "Idempotency-Key": "k"}
        assert line.client.post("/ingest", json=EVENTS["T20"], headers=told).status_code == 202
    line.bench.run()
    assert line.bench.events == {"accepted": 2, "settled": 2}
    line.bench.check()


def test_the_same_event_without_an_id_is_a_new_event_each_time(line: Line) -> None:
    for _ in range(3):
        line.send(EVENTS["T01"])
    assert len(line.bench.rows()) == 3
    assert len({alert.signature for alert in line.bench.alerts()}) == 1
    assert len(line.bench.lane("minor")) == 1
