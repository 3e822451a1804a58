"""What is known of a key's sender acts: on how its posts are read, and on all that becomes of its events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from mutt import keyring
from mutt.errors import Refused
from mutt.grant import INGEST
from mutt.letters.desk import Desk
from mutt.source import Source
from mutt.store import devices, keys, rulebook
from mutt.store.tables import config_audit_log
from tests.bench import Bench, benches
from tests.integration.test_ingest import Ingest

SAID = {"changed_by": "test"}

MAPPING = """
each: checks
hostname: host
message: title
severity: priority
state: type
clear_key: id
words:
  severity: {P1: 2}
  state: {RECOVERY: clear}
"""


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, unhandled_threshold=1) as (made,):
        yield made


class Sender:
    """Who posts with one key; ``known`` is what the admin says of it."""

    def __init__(self, bench: Bench, redis_url: str, **known: Any) -> None:
        self.bench = bench
        with bench.sql() as conn:
            self.key = keys.make(conn, "billing", [INGEST], **SAID)[1]
        self.redis_url = redis_url
        self.describe(**known)

    def describe(self, **known: Any) -> None:
        with self.bench.sql() as conn:
            keys.describe(conn, "billing", Source(**known), **SAID)
        keyring.publish(self.bench.services)
        self.ingest = Ingest(self.redis_url)  # one that runs hears of it within 5 s: test_keys.py

    def post(self, body: Any, path: str = "/ingest") -> Any:
        answer = self.ingest.post(body, path, key=self.key)
        self.bench.run()
        return answer


def test_what_no_event_says_is_taken_from_its_source_down_to_the_alert(bench: Bench, redis_url: str) -> None:
    """Severity, environment and team: in the audit, in the alert, and in what MUTT says of unhandled events."""
    with bench.sql() as conn:
        devices.put_team(conn, "core-*", "Core", **SAID)
        rulebook.save_rule(
            conn, {"name": "disk", "match_string": "disk", "dev_handling": "Page_only"}, rule_id=None, **SAID
        )
    sender = Sender(bench, redis_url, severity=1, team="Payments", environment="development")
    sender.post(
        [
            {"hostname": "web-1", "message": "disk full"},
            {"hostname": "web-1", "message": "disk slow", "severity": 4},
            {"hostname": "web-2", "message": "nobody knows"},
            {"hostname": "core-1", "message": "nobody knows"},
        ]
    )
    found = {alert.description: alert for alert in bench.alerts()}
    full, slow = found["disk full"], found["disk slow"]
    assert (full.environment, full.handling, full.severity) == ("development", "Page_only", 5)
    assert (slow.handling, slow.severity) == ("Page_only", 2)
    metas = {alert.hostname: alert for alert in bench.alerts() if alert.handling == "Meta"}
    assert {host: alert.team for host, alert in metas.items()} == {"web-2": "Payments", "core-1": "Core"}
    assert {alert.environment for alert in metas.values()} == {"development"}
    rows = {(row.hostname, row.message): row for row in bench.rows() if row.source == "native"}
    assert rows["web-2", "nobody knows"].team == "Payments"
    assert rows["web-1", "disk full"].severity == 1
    bench.check()


def test_json_of_its_own_becomes_events_and_a_clear_ends_its_raise(bench: Bench, redis_url: str) -> None:
    sender = Sender(bench, redis_url)
    problem = {"host": "web-1", "title": "CRITICAL http", "priority": "P1", "type": "PROBLEM", "id": "7"}
    refused = sender.post({"checks": [problem]})
    assert (refused.status_code, refused.get_json()["field"]) == (400, "hostname")
    sender.describe(mapping=MAPPING)
    assert sender.post({"checks": [problem, {"host": "web-2"}]}).status_code == 202
    sender.post({"checks": [problem | {"type": "recovery", "title": "CRITICAL http ok"}]})
    raised, cleared = bench.alerts()
    assert (raised.hostname, raised.description, raised.severity) == ("web-1", "CRITICAL http", 4)
    assert (cleared.severity, cleared.signature) == (0, raised.signature)
    assert orjson.loads(bench.rows()[0].raw) == problem
    reasons = [letter.reason.partition(",")[0] for letter in bench.services.letters.listed("ingest")]
    assert [reason.split(":")[0] for reason in reasons] == ["hostname", "message"]


def test_its_posts_are_not_looked_at_where_its_format_is_known_and_a_path_wins(
    bench: Bench, redis_url: str
) -> None:
    sender = Sender(bench, redis_url, format="syslog")
    line = '{"hostname": "a", "message": "b"}'
    sender.post(line.encode())
    sender.post(line.encode(), "/ingest/native")
    rows = [(row.source, row.message) for row in bench.rows() if row.source != "mutt"]
    assert rows == [("syslog", line), ("native", "b")]


def test_a_refused_item_is_tried_and_mended_by_what_is_known_of_its_sender_now(
    bench: Bench, redis_url: str
) -> None:
    sender = Sender(bench, redis_url)
    sender.post({"host": "web-1", "title": "CRITICAL late"})
    desk = Desk(bench.services)
    (letter,) = desk.refused_of("billing", 5)
    assert desk.refused_of("other", 5) == []
    text = letter.payload["raw"]
    sender.describe(mapping="{hostname: host, message: title}", environment="development")
    desk.edit_rejected(letter.id, text, who="test")
    bench.run()
    (row,) = bench.rows()
    assert (row.hostname, row.message, row.source) == ("web-1", "CRITICAL late", "mapped")
    assert '"environment":"development"' in row.context


def test_a_change_is_noted_and_one_that_rights_forbid_is_refused(bench: Bench, redis_url: str) -> None:
    Sender(bench, redis_url, team="Payments")
    with bench.sql() as conn:
        query = select(config_audit_log).where(config_audit_log.c.table_name == "api_keys").order_by("id")
        note = list(conn.execute(query))[-1]
        assert (note.before["source"], note.after["source"]) == ({}, {"team": "Payments"})
        for given in ({"format": "pigeon"}, {"severity": 9}, {"mapping": "message: a b"}):
            with pytest.raises(Refused):
                keys.describe(conn, "billing", Source(**given), **SAID)
        keys.describe(conn, "billing", Source(format="syslog"), **SAID)
        with pytest.raises(Refused, match="format"):
            keys.change(conn, "billing", scopes=[INGEST], formats=["native"], quota=None, note="", **SAID)
        assert keys.find(conn, "billing").formats == ()
