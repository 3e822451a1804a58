"""What goes over the wire in each dialect."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import orjson
import pytest

from mutt.alert import Alert
from mutt.errors import SettingsError
from mutt.event import State
from mutt.moog.dialects import CLOUD, CLOUD_TEXT, DIALECTS, ENTERPRISE, ENTERPRISE_TEXT

ALERT = Alert(
    alert_id=UUID(int=1),
    event_id=UUID(int=2),
    received_at=datetime(2026, 11, 23, 10, 45, tzinfo=UTC),
    occurred_at=datetime(2026, 11, 23, 10, 40, 0, 250_000, tzinfo=UTC),
    hostname="core-sw-07",
    rule_id=118,
    handling="Page_and_ticket",
    environment="production",
    team="NetOps",
    lane="major",
    severity=4,
    signature="core-sw-07::rule-118::12",
    description="Te1/0/12 down",
    state=State.RAISE,
    source="syslog",
    correlation_id="c-1",
    type="LINK-DOWN",
    raw="<187>Te1/0/12 down",
)


def alert(**changes):
    return msgspec.structs.replace(ALERT, **changes)


def test_enterprise_writes_an_object_of_events():
    assert orjson.loads(ENTERPRISE.body([ALERT])) == {
        "events": [
            {
                "signature": "core-sw-07::rule-118::12",
                "source_id": "core-sw-07",
                "external_id": "c-1",
                "manager": "MUTT",
                "source": "core-sw-07",
                "class": "NetOps",
                "agent": "syslog",
                "agent_location": "production",
                "type": "LINK-DOWN",
                "severity": 4,
                "description": "Te1/0/12 down",
                "agent_time": 1_795_430_400,  # when it happened, not when it was sent
                "custom_info": {
                    "event_id": str(UUID(int=2)),
                    "rule_id": 118,
                    "handling": "Page_and_ticket",
                    "environment": "production",
                    "raw": "<187>Te1/0/12 down",
                },
            }
        ]
    }


def test_cloud_writes_an_array_with_flat_tags():
    assert orjson.loads(CLOUD.body([ALERT])) == [
        {
            "source": "core-sw-07",
            "check": "LINK-DOWN",
            "severity": "major",
            "description": "Te1/0/12 down",
            "deduplication_key": "core-sw-07::rule-118::12",
            "time": 1_795_430_400_250,
            "manager": "MUTT",
            "class": "NetOps",
            "type": "LINK-DOWN",
            "tags": {
                "event_id": str(UUID(int=2)),
                "rule_id": "118",
                "handling": "Page_and_ticket",
                "environment": "production",
                "correlation_id": "c-1",
                "raw": "<187>Te1/0/12 down",
            },
        }
    ]


@pytest.mark.parametrize(
    ("number", "word"),
    [(0, "clear"), (1, "unknown"), (2, "warning"), (3, "minor"), (4, "major"), (5, "critical")],
)
def test_each_severity_has_its_number_and_its_word(number, word):
    one = [alert(severity=number)]
    assert orjson.loads(ENTERPRISE.body(one))["events"][0]["severity"] == number
    assert orjson.loads(CLOUD.body(one))[0]["severity"] == word


def test_a_tag_without_a_value_is_left_out():
    tags = orjson.loads(CLOUD.body([alert(rule_id=None, raw="", correlation_id="")]))[0]["tags"]
    assert not {"rule_id", "raw", "correlation_id"} & tags.keys()


def test_a_batch_keeps_its_order():
    batch = [alert(signature=str(n)) for n in range(3)]
    assert [e["signature"] for e in orjson.loads(ENTERPRISE.body(batch))["events"]] == ["0", "1", "2"]
    assert [e["deduplication_key"] for e in orjson.loads(CLOUD.body(batch))] == ["0", "1", "2"]


def test_long_texts_are_cut_to_what_moog_documents():
    long = alert(hostname="h" * 40_000, description="ä" * 70_000, raw="r" * 300_000)
    enterprise = orjson.loads(ENTERPRISE.body([long]))["events"][0]
    assert ENTERPRISE_TEXT - 1 <= len(enterprise["description"].encode()) <= ENTERPRISE_TEXT
    assert enterprise["description"].endswith("of 70000 characters]")
    cloud = orjson.loads(CLOUD.body([long]))[0]
    assert cloud["description"].endswith("of 70000 characters]")
    assert len(cloud["source"]) == len(cloud["description"]) == CLOUD_TEXT
    assert CLOUD_TEXT - 1 <= len(cloud["tags"]["raw"]) <= CLOUD_TEXT


def test_the_longest_event_fits_moogs_bus():
    long = alert(description="d" * 256_000, raw="r" * 256_000, signature="s" * 767, hostname="h" * 255)
    assert len(ENTERPRISE.body([long])) < 128 * 1024


def test_the_key_goes_into_the_header_of_its_dialect():
    basic = "Basic " + base64.b64encode("graze:schlüssel".encode()).decode()
    assert ENTERPRISE.headers("k3y")["Authorization"] == "Bearer k3y"
    assert ENTERPRISE.headers("schlüssel", "graze")["Authorization"] == basic
    assert CLOUD.headers("k3y", "graze")["apiKey"] == "k3y"


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_without_a_key_no_header_authorises(dialect):
    assert dialect.headers("").keys() == {"Content-Type", "Accept"}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", " k3y", "null\0"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(dialect, key):
    with pytest.raises(SettingsError) as caught:
        dialect.headers(key)
    assert key not in str(caught.value)
