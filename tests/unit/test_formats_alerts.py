"""Alertmanager, Grafana, Zabbix, Icinga 2, LibreNMS and SolarWinds: what the samples don't reach, field by field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RejectedBody
from mutt.event import Event
from mutt.formats import registry, values
from mutt.formats.base import Context, Parsed, Rejected

NOW = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
CONTEXT = Context(NOW, "key-1", 65536, "192.0.2.1")


def parse(body: Any, name: str = "") -> Parsed:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = registry.get(name) or registry.sniff(data, "application/json")
    return registry.parse(found, data, CONTEXT)


def event(body: Any, name: str = "") -> Event:
    parsed = parse(body, name)
    assert parsed.rejected == []
    return parsed.events[0]


def refusal(body: Any, name: str) -> Rejected:
    parsed = parse([body], name)
    assert parsed.events == []
    return parsed.rejected[0]


# ---- the device


@pytest.mark.parametrize(
    ("said", "device"),
    [
        ("edge1:9342", "edge1"),
        ("edge1", "edge1"),
        ("192.0.2.1:161", "192.0.2.1"),
        ("[2001:db8::1]:9100", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("https://api.lab:8443/health", "api.lab"),
        ("https://[2001:db8::1]:8443/", "2001:db8::1"),
        ("http://user:secret@api.lab/x@y", "api.lab"),
        ("edge1:snmp", "edge1:snmp"),
        (":9090", ":9090"),
        (None, None),
        (7, 7),
    ],
)
def test_a_device_is_named_without_scheme_port_and_path(said: Any, device: Any) -> None:
    assert values.device(said) == device


@given(st.text("ab7:/[]@."))
def test_any_text_names_some_device_or_none(said: str) -> None:
    assert len(values.device(said)) <= len(said)


def alert(labels: Any, **more: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {},
        "startsAt": "2026-03-04T09:00:00Z",
        **more,
    }


@pytest.mark.parametrize(
    ("labels", "host"),
    [
        ({"instance": "10.0.0.1:9100", "hostname": "edge1"}, "edge1"),
        ({"instance": "gateway:9091", "exported_instance": "edge2", "job": "push"}, "edge2"),
        ({"job": "api", "service": "shop"}, "shop"),
        ({"job": "api"}, "api"),
        ({"instance": "", "job": "api"}, "api"),
        ({"instance": "https://", "job": "api"}, "api"),
        ({}, "alertmanager"),
    ],
)
def test_an_alert_stands_under_the_device_or_scope_that_its_labels_name(labels: Any, host: str) -> None:
    assert event(alert({"alertname": "A", **labels})).hostname == host


# ---- Alertmanager and Grafana


def test_alerts_of_one_host_stay_apart_and_each_ends_under_its_own_fingerprint() -> None:
    one, two = {"alertname": "A", "instance": "e:1"}, {"alertname": "A", "instance": "e:1", "peer": "x"}
    raised = parse(
        [alert(one), alert(two), alert(one, status="resolved", endsAt="2026-03-04T09:10:00Z")]
    ).events
    assert raised[0].clear_key == raised[0].instance == raised[2].instance != raised[1].instance
    assert [str(each.state) for each in raised] == ["raise", "raise", "clear"]


@pytest.mark.parametrize(
    ("times", "state", "at"),
    [
        ({"startsAt": "2026-03-04T09:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}, "raise", "09:00"),
        ({"startsAt": "2026-03-04T09:00:00Z", "endsAt": "2026-03-04T09:34:00Z"}, "raise", "09:00"),
        ({"startsAt": "2026-03-04T09:00:00Z", "endsAt": "2026-03-04T09:29:00Z"}, "clear", "09:29"),
        ({"endsAt": "2026-03-04T09:31:00Z"}, "clear", "09:31"),
        ({"startsAt": "2026-03-04T09:00:00Z"}, "raise", "09:00"),
        ({"startsAt": "2026-03-04T09:00:00Z", "endsAt": "soon"}, "raise", "09:00"),
        ({"generatorURL": "http://p"}, "raise", "09:30"),
        ({"startsAt": "0001-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}, "raise", "09:30"),
    ],
)
def test_an_alert_without_status_is_over_once_its_end_has_passed(times: Any, state: str, at: str) -> None:
    found = event({"labels": {"alertname": "A", "instance": "e"}, **times})
    assert (found.state, f"{found.occurred_at:%H:%M}", found.source) == (state, at, "alertmanager")
    assert found.occurred_text is None


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", 1),
        ("Page", 1),
        ("P2", 2),
        ("error", 2),
        ("warning", 4),
        ("info", 6),
        ("none", 6),
        ("3", None),
    ],
)
def test_the_severity_is_the_label_s_word(word: str, severity: int | None) -> None:
    assert event(alert({"alertname": "A", "severity": word})).severity == severity


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"summary": "it fails", "description": "long"}, "A: it fails"),
        ({"description": "A fails"}, "A fails"),
        ({"summary": ""}, "A"),
        ({"summary": 7}, "A"),
        ("none", "A"),
    ],
)
def test_the_message_is_the_alert_s_name_and_its_first_text(notes: Any, message: str) -> None:
    assert event(alert({"alertname": "A"}, annotations=notes)).message == message


def test_an_annotation_never_hides_a_label() -> None:
    found = event(alert({"alertname": "A", "site": "dc2"}, annotations={"site": "elsewhere"}))
    assert (found.tags["site"], found.tags["alert.site"]) == ("dc2", "elsewhere")


@pytest.mark.parametrize("labels", [None, [], "x", 7])
def test_an_alert_without_labels_is_refused_and_its_neighbours_are_taken(labels: Any) -> None:
    parsed = parse({"receiver": "m", "alerts": [{"labels": labels}, alert({"alertname": "A"})]})
    assert [one.message for one in parsed.events] == ["A"]
    assert (parsed.rejected[0].index, parsed.rejected[0].field) == (0, "labels")


@pytest.mark.parametrize("more", [{"silenceURL": "https://g"}, {"valueString": ""}, {"orgId": 1}])
def test_an_alert_with_what_only_grafana_writes_is_grafana_s(more: Any) -> None:
    assert event(alert({"alertname": "A"}, **more)).source == "grafana"


def test_rules_of_two_grafanas_of_old_are_not_one() -> None:
    keys = {
        event(
            {"ruleId": 1, "ruleUrl": f"{root}/d/{board}", "orgId": 1, "state": "ok", "title": "T"}
        ).clear_key
        for root in ("http://g1:3000", "http://g1:3001", "https://g.lab/a")
        for board in ("x?tab=alert", "x?tab=alert&panelId=2")
    }
    assert len(keys) == 3


@pytest.mark.parametrize("item", [{"labels": {"a": "b"}}, {"alerts": []}, {"alerts": 3, "receiver": "x"}])
def test_an_object_that_only_looks_a_little_like_alerts_is_nobody_s(item: Any) -> None:
    assert registry.route({"hostname": "h", "message": "m", **item}).name == "native"


# ---- Zabbix


def problem(**more: Any) -> Event:
    return event({"event_id": "1", "event_value": "1", "event_name": "Link down", "host_host": "h", **more})


@pytest.mark.parametrize(("number", "severity"), list(enumerate((6, 6, 4, 3, 2, 1))))
def test_zabbix_severities(number: int, severity: int) -> None:
    assert (
        problem(event_nseverity=str(number)).severity == problem(event_nseverity=number).severity == severity
    )


@pytest.mark.parametrize("number", ["6", "-1", "²", "x", True, {}, None])
def test_a_severity_that_zabbix_does_not_have_is_none_and_its_word_counts(number: Any) -> None:
    assert problem(event_nseverity=number).severity is None
    assert problem(event_nseverity=number, event_severity="High").severity == 2


@pytest.mark.parametrize("tags", ["", "{EVENT.TAGSJSON}", "[", "[7]", '[{"tag":3}]', 7, None, [None]])
def test_tags_of_an_event_that_can_t_be_read_cost_nothing_else(tags: Any) -> None:
    assert not any(name.startswith("tag.") for name in problem(event_tags=tags).tags)


def test_a_problem_its_update_and_its_recovery_are_three_events_of_one_alert() -> None:
    told: list[dict[str, str]] = [
        {},
        {"event_update_status": "1", "event_update_time": "10:00:00"},
        {"event_value": "0"},
    ]
    three = [problem(trigger_id="7", **each) for each in told]
    again = [problem(trigger_id="7", **each) for each in told]
    assert len({one.event_id for one in three}) == 3
    assert [one.event_id for one in again] == [one.event_id for one in three]
    assert {(one.clear_key, one.instance) for one in three} == {("zabbix:1", "zabbix:7")}
    assert [str(one.state) for one in three] == ["raise", "raise", "clear"]


def test_problems_of_a_trigger_that_has_several_at_once_are_told_apart_where_no_trigger_is_named() -> None:
    first, second = (problem(event_id=id_) for id_ in ("1", "2"))
    over = problem(event_id="1", event_value="0")
    assert first.instance == over.instance != second.instance
    assert first.clear_key == over.clear_key != second.clear_key


def test_the_events_of_two_zabbixes_with_one_key_are_not_one_event() -> None:
    here, there = (problem(host_host=host) for host in ("core-1", "core-2"))
    assert here.event_id != there.event_id


def test_an_event_of_zabbix_without_its_id_is_refused_with_what_to_do() -> None:
    assert refusal({"event_value": "1", "event_name": "x", "host_host": "h"}, "zabbix").field == "event_id"


# ---- Icinga 2


@pytest.mark.parametrize(
    ("item", "message", "severity", "state", "key"),
    [
        (
            {"notification_type": "PROBLEM", "host": "h", "service": "http", "state": "Warning", "message": "slow"},
            "http is WARNING: slow", 4, "raise", "icinga2:http",
        ),
        (
            {"notification_type": "PROBLEM", "hostname": "h", "host_state": "DOWN", "output": "lost"},
            "Host is DOWN: lost", 1, "raise", "icinga2",
        ),
        (
            {"type": "Notification", "timestamp": 1772615702.5, "host": "h", "service": "http", "users": ["u"],
             "text": "mine", "notification_type": "ACKNOWLEDGEMENT", "author": "bob",
             "check_result": {"state": 2.0, "output": "out"}},
            "ACKNOWLEDGEMENT by bob (mine); http is CRITICAL: out", 1, "raise", "icinga2:http",
        ),
        ({"host": "h", "check_result": {"state": 1.0}}, "Host is UP", 6, "clear", "icinga2"),
        ({"host": "h", "check_result": {"state": 2.0}}, "Host is DOWN", 1, "raise", "icinga2"),
        ({"host": "h", "state": 1, "check_result": {"state": 2}}, "Host is DOWN", 1, "raise", "icinga2"),
        (
            {"host": {"name": "h"}, "service": {"name": "s"}, "check_result": {"state": "OK", "output": "fine"}},
            "s is OK: fine", 6, "clear", "icinga2:s",
        ),
        (
            {"notification_type": "FLAPPINGSTART", "host": "h", "service": "s", "state": "OK"},
            "FLAPPINGSTART; s is OK", 6, "raise", "icinga2 flapping:s",
        ),
        (
            {"notification_type": "FLAPPINGEND", "host": "h", "service": "s", "state": "CRITICAL"},
            "FLAPPINGEND; s is CRITICAL", 1, "clear", "icinga2 flapping:s",
        ),
        (
            {"notification_type": "DOWNTIMESTART", "host": "h", "service": "s", "state": "UNKNOWN"},
            "DOWNTIMESTART; s is UNKNOWN", 3, "raise", "icinga2:s",
        ),
        (
            {"notification_type": "CUSTOM", "host": "h", "state": True},
            "CUSTOM; Host is UNKNOWN", 3, "raise", "icinga2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_icinga_s_shapes(item: Any, message: str, severity: int, state: str, key: str) -> None:
    found = event(item)
    assert (found.hostname, found.source, found.instance) == ("h", "icinga2", found.clear_key)
    assert (found.message, found.severity, found.state, found.clear_key) == (message, severity, state, key)


def test_a_service_may_be_called_anything_and_stays_another_than_its_host() -> None:
    told = {"notification_type": "PROBLEM", "host": "h", "state": "DOWN", "output": "x"}
    flapping = told | {"notification_type": "FLAPPINGSTART"}
    services = ("host", "flapping", "s:flapping", "s")
    found = [event(one | {"service": service}) for one in (told, flapping) for service in services]
    assert len({one.clear_key for one in (event(told), event(flapping), *found)}) == 10


# ---- LibreNMS


@pytest.mark.parametrize(("faults", "told"), [
    (None, "T"),
    ({"1": {"string": "a = 1; "}}, "T: a = 1"),
    ([{"string": str(n)} for n in range(5)], "T: 0 | 1 | 2 … and 2 more"),
    ([7, {"string": 7}, {}], "T"),
])  # fmt: skip
def test_an_alert_of_librenms_says_its_first_faults(faults: Any, told: str) -> None:
    item = {"device_id": 1, "rule_id": 2, "hostname": "h", "title": "T", "state": 1, "faults": faults}
    assert event(item).message == told


# ---- SolarWinds

ORION = b"""{
  "EventType": "RESET",
  "AlertName": "Interface "x" down",
  "AlertObjectID": "58213",
  "NodeName": "br-rtr-31",
  "Acknowledged": false,
  "AlertMessage": "Interface "Gi0/1", path C:\\Temp\\new,
second line, is "Down""
}"""


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_what_orion_did_not_escape_is_read_at_its_own_address(end: bytes) -> None:
    body = ORION.replace(b"\n", end)
    found = event(body, "solarwinds")
    line = end.decode()
    assert (
        found.message
        == f'Interface "x" down: Interface "Gi0/1", path C:\\Temp\\new,{line}second line, is "Down"'
    )
    assert (found.hostname, found.state, found.clear_key) == ("br-rtr-31", "clear", "solarwinds:58213")
    assert found.raw == body.decode()


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("3/4/2026 9:15:02 AM", NOW),
        ("2026-03-04T09:15:02", datetime(2026, 3, 4, 9, 15, 2, tzinfo=UTC)),
    ],
)
def test_a_time_of_orion_has_no_zone(written: str, time: datetime) -> None:
    """It is arrival's, or taken for UTC: as its page says."""
    said = {"AlertName": "x", "NodeName": "h", "AlertObjectID": "1", "TimeOfAlert": written}
    assert event(said).occurred_at == time


@pytest.mark.parametrize("body", [b"{", b'{"AlertName": "x', b"[1", b'"a": 1,', b'{"AlertName": "x" "y"}'])
def test_what_can_t_be_mended_is_refused(body: bytes) -> None:
    try:
        assert parse(body, "solarwinds").events == []
    except RejectedBody as error:
        assert error.status == 400


@given(st.text('a7 é"\\{}[]:,\n', max_size=60))
def test_any_text_that_orion_puts_in_costs_at_most_its_own_words(text: str) -> None:
    body = ORION.replace(b'Interface "Gi0/1", path C:\\Temp\\new,\nsecond line, is "Down"', text.encode())
    assert [one.hostname for one in parse(body, "solarwinds").events] == ["br-rtr-31"]


@pytest.mark.parametrize(("word", "state"), [
    ({"EventType": "TRIGGER"}, "raise"),
    ({"AlertStatus": "cleared"}, "clear"),
    ({"reset": "true"}, "clear"),
    ({}, "raise"),
    ({"AlertStatus": "${N=Alerting;M=Status}"}, "raise"),
])  # fmt: skip
def test_trigger_and_reset(word: Any, state: str) -> None:
    assert event({"AlertName": "A", "AlertObjectID": 7, "NodeName": "h", **word}).state == state
