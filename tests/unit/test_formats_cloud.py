"""The clouds' alerts: what their published samples don't show."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mutt.event import Event, State
from mutt.formats import registry
from mutt.formats.base import Context, Parsed
from mutt.source import Source

SAMPLES = Path(__file__).parents[1] / "samples"
CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")
TOPIC = "arn:aws:sns:us-west-2:123456789012:MyTopic"
NATIVE = {"hostname": "core-1", "message": "fan failed"}
ALERTS = {"receiver": "mutt", "groupKey": "{}", "alerts": [
    {"status": "firing", "labels": {"alertname": "Down", "instance": name}} for name in ("edge-1", "edge-2")
]}  # fmt: skip


def sample(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / name).read_text())
    return found


def parse(body: object, name: str = "", context: Context = CONTEXT) -> Parsed:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = registry.get(name) or registry.sniff(data, "text/plain; charset=UTF-8")
    return registry.parse(found, data, context)


def one(body: object, name: str = "") -> Event:
    parsed = parse(body, name)
    assert not parsed.rejected
    (event,) = parsed.events
    return event


def notification(message: object, **more: object) -> dict[str, object]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"Type": "Notification", "MessageId": "m-1", "TopicArn": TOPIC, "Message": text, **more}


# ---- SNS


@pytest.mark.parametrize(
    ("message", "source", "host", "says"),
    [
        (NATIVE, "sns", "core-1", "fan failed"),
        (sample("cloudwatch/single-metric.json"), "sns", "TestInstance", "EXAMPLE is ALARM"),
        (sample("cloudwatch/eventbridge.json"), "sns", "i-12345678901234567", "ServerCpuTooHigh is ALARM"),
        ("a text", "sns", "MyTopic", "a text"),
        ('{"made": "of what nobody knows"}', "sns", "MyTopic", '{"made": "of what nobody knows"}'),
        ('{"not quite": json', "sns", "MyTopic", '{"not quite": json'),
        ("[1, 2]", "sns", "MyTopic", "[1, 2]"),
        ('{"a":' * 5000, "sns", "MyTopic", '{"a":'),
    ],
    ids=["a native event", "an alarm", "EventBridge", "text", "unknown JSON", "broken JSON", "array", "too deep"],
)  # fmt: skip
def test_a_notification_is_what_it_carries(message: object, source: str, host: str, says: str) -> None:
    event = one(notification(message))
    assert (event.source, event.hostname) == (source, host)
    assert event.message.startswith(says)
    assert event.tags["TopicArn"] == TOPIC


def test_several_events_in_a_message_are_several() -> None:
    alerts = [
        {"status": "firing", "labels": {"alertname": "Down", "instance": name}}
        for name in ("edge-1", "edge-2")
    ]
    parsed = parse(notification({"receiver": "mutt", "groupKey": "{}", "alerts": alerts}))
    assert [event.hostname for event in parsed.events] == ["edge-1", "edge-2"]
    assert len({event.event_id for event in parsed.events}) == 2


def test_json_that_nobody_knows_is_read_by_the_mapping_of_its_key() -> None:
    mapping = "hostname: device\nmessage: text\nseverity: level"
    context = msgspec.structs.replace(CONTEXT, source=Source(mapping=mapping))
    told = {"device": "core-1", "text": "fan failed", "level": "err"}
    (event,) = parse(notification(told), context=context).events
    assert (event.hostname, event.message, event.severity) == ("core-1", "fan failed", 3)
    assert (event.source, event.tags["TopicArn"]) == ("sns", TOPIC)
    for names_no_host in (mapping, "message: text"):
        context = msgspec.structs.replace(CONTEXT, source=Source(mapping=names_no_host))
        (event,) = parse(notification({"text": "fan failed"}), context=context).events
        assert event.hostname == "MyTopic"


def test_a_bad_message_costs_its_item_and_no_secret_is_kept_of_it() -> None:
    secret = sample("sns/notification.json")["UnsubscribeURL"]
    parsed = parse(notification({"hostname": "", "message": " "}, UnsubscribeURL=secret))
    assert [item.field for item in parsed.rejected] == ["message"]
    assert "Unsubscribe" not in parsed.rejected[0].raw


@pytest.mark.parametrize("name", ["notification", "subscription", "unsubscribed", "alarm-ok"])
def test_what_could_end_or_renew_the_subscription_is_kept_nowhere(name: str) -> None:
    whole = sample(f"sns/{name}.json")
    kept = msgspec.json.encode(one(whole)).decode()
    for field in ("Token", "SubscribeURL", "UnsubscribeURL", "Signature", "SigningCertURL"):
        assert field not in whole or whole[field] not in kept, field
    assert whole["TopicArn"] in kept


def test_a_message_that_comes_again_is_the_same_event() -> None:
    assert one(sample("sns/alarm-ok.json")).event_id == one(sample("sns/alarm-ok.json")).event_id


def test_what_is_not_sns_is_refused_there_with_where_it_belongs() -> None:
    for body in (NATIVE, sample("cloudwatch/ok.json"), notification("a", TopicArn=7)):
        (item,) = parse(body, "sns").rejected
        assert item.field == "Type"
        assert "raw message delivery" in item.reason


# ---- what ends what


def test_an_alarm_and_its_end_have_their_key_in_common_by_whichever_way_they_come() -> None:
    alarm = sample("cloudwatch/single-metric.json")
    arn = alarm["AlarmArn"] = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:ServerCpuTooHigh"
    raised, ended = one(sample("cloudwatch/eventbridge.json")), one(alarm | {"NewStateValue": "OK"})
    assert (raised.state, ended.state) == (State.RAISE, State.CLEAR)
    assert raised.clear_key == ended.clear_key == raised.instance == arn


def test_a_series_of_an_alarm_ends_itself_and_no_other_by_whichever_way_it_comes() -> None:
    event, alarm = sample("cloudwatch/contributor.json"), sample("cloudwatch/single-metric.json")
    alarm["AlarmArn"] = event["resources"][0]
    whole = one(alarm | {"AlarmContributorId": None})
    ok = alarm | {"NewStateValue": "OK"}
    other, ended = (
        one(ok | {"AlarmContributorId": id_, "AlarmContributorAttributes": {"TableName": name}})
        for id_, name in (("1" * 16, "another"), ("6d442278dba546f6", "example-dynamodb-table-name"))
    )
    raised = one(event)
    assert (raised.hostname, raised.clear_key) == (ended.hostname, ended.clear_key)
    assert len({whole.clear_key, other.clear_key, ended.clear_key}) == 3
    assert other.hostname == "another"


def test_an_alarm_without_an_arn_is_known_by_account_region_and_name() -> None:
    alarm = sample("cloudwatch/single-metric.json")
    del alarm["AlarmArn"]
    assert one(alarm).clear_key == "123456789012:EXAMPLE:EXAMPLE"


@pytest.mark.parametrize(
    ("dimensions", "host"),
    [
        ([], "EXAMPLE"),
        ([{"name": "Stage", "value": "prod"}, {"name": "ApiName", "value": "shop"}], "prod"),
        ([{"name": "host", "value": "ip-10-0-0-1"}, {"name": "InstanceId", "value": "i-1"}], "i-1"),
        ([{"name": ["InstanceId"], "value": "i-1"}, 7, None], "EXAMPLE"),
    ],
    ids=["none", "others", "instance before host", "no dimensions at all"],
)
def test_the_host_of_an_alarm(dimensions: list[Any], host: str) -> None:
    alarm = sample("cloudwatch/single-metric.json")
    alarm["Trigger"]["Dimensions"] = dimensions
    assert one(alarm).hostname == host


def test_not_to_know_is_a_warning_and_stands() -> None:
    event = one(sample("cloudwatch/single-metric.json") | {"NewStateValue": "INSUFFICIENT_DATA"})
    assert (event.severity, event.state) == (4, State.RAISE)


def azure(name: str, essentials: dict[str, Any], **about: Any) -> Event:
    whole = sample(f"azure-monitor/{name}.json")
    whole["data"]["essentials"].update(essentials)
    whole["data"]["alertContext"].update(about)
    return one(whole)


def test_azures_alert_keeps_its_id_from_fired_to_resolved() -> None:
    fired = azure("metric-fired", {})
    ended = azure(
        "metric-fired", {"monitorCondition": "Resolved", "resolvedDateTime": "2025-04-15T18:30:00Z"}
    )
    assert (fired.state, ended.state) == (State.RAISE, State.CLEAR)
    assert fired.clear_key == ended.clear_key
    assert fired.instance == ended.instance
    assert ended.occurred_at == datetime(2025, 4, 15, 18, 30, tzinfo=UTC)


def test_an_incident_of_service_health_is_one_over_all_its_alerts() -> None:
    begun = sample("azure-monitor/service-health-resolved.json")
    begun["data"]["essentials"]["alertId"] = "another"
    begun["data"]["alertContext"]["properties"]["stage"] = "Active"
    ended = azure("service-health-resolved", {})
    assert one(begun).state is State.RAISE
    assert ended.state is State.CLEAR
    assert one(begun).clear_key == ended.clear_key == "TEST-TTT"
    begun["data"]["alertContext"]["properties"]["stage"] = "RCA"
    assert one(begun).state is State.CLEAR


def test_two_incidents_of_service_health_are_two_alerts() -> None:
    here, there = (
        azure("service-health-resolved", {}, properties={"trackingId": id_, "stage": "Active"})
        for id_ in ("1", "2")
    )
    assert here.clear_key != there.clear_key
    assert here.instance != there.instance


def test_a_resource_is_healthy_again() -> None:
    ended = azure("resource-health", {"alertId": "another"}, status="Resolved")
    assert ended.state is State.CLEAR
    assert ended.clear_key == azure("resource-health", {}).clear_key


def test_a_resource_of_the_same_name_in_another_group_is_another() -> None:
    for name in ("resource-health", "metric-fired"):
        here, there, shouted = (
            azure(name, {"alertTargetIDs": [f"/subscriptions/1/resourceGroups/{group}/vm/vm-1"], "alertId": group})
            for group in ("here", "there", "HERE")
        )  # fmt: skip
        assert here.instance == shouted.instance != there.instance
        assert here.clear_key != there.clear_key


@pytest.mark.parametrize(
    ("word", "severity"), [("Sev0", 1), ("Sev1", 2), ("Sev2", 4), ("Sev3", 6), (None, None), ("5", None)]
)
def test_azures_severities(word: str | None, severity: int | None) -> None:
    assert azure("metric-fired", {"severity": word}).severity == severity


def test_a_budget_that_names_nobody_is_taken_too() -> None:
    nobody = dict.fromkeys(("alertRule", "severity", "signalType", "alertTargetIDs", "originAlertId"))
    event = azure(
        "metric-fired", nobody | {"monitoringService": "CostAlerts", "configurationItems": ["budgets"]}
    )
    assert event.hostname == "budgets"
    assert event.message.startswith("CostAlerts is fired: ")


@pytest.mark.parametrize(
    "told",
    [
        [{"labels": {"alertname": "KubePodCrashLooping", "pod": pod}, "expression": "up"} for pod in ("a", "b")],
        [{"AlertCategory": "budgets", "AlertData": {"BudgetId": f"/budgets/{name}"}} for name in ("a", "b")],
    ],
    ids=["series of Prometheus", "budgets"],
)  # fmt: skip
def test_what_azure_tells_apart_by_its_context_alone_stays_apart(told: list[dict[str, Any]]) -> None:
    whole = sample("azure-monitor/metric-fired.json")
    whole["data"]["essentials"] |= {"alertTargetIDs": None, "configurationItems": ["aks-prod"]}
    here, there = (one({**whole, "data": {**whole["data"], "alertContext": about}}) for about in told)
    assert here.hostname == there.hostname
    assert here.instance != there.instance


def test_without_the_common_schema_the_refusal_says_what_to_turn_on() -> None:
    (item,) = parse({"schemaId": "AzureMonitorMetricAlert", "data": {}}, "azure-monitor").rejected
    assert "turn on the common alert schema" in item.reason


@pytest.mark.parametrize("state", ["closed", "CLOSED"])
def test_googles_incident_keeps_its_id(state: str) -> None:
    whole = sample("google-cloud-monitoring/open.json")
    raised = one(whole)
    whole["incident"].update(state=state, ended_at=1746178999)
    ended = one(whole)
    assert (raised.state, ended.state) == (State.RAISE, State.CLEAR)
    assert (raised.clear_key, raised.instance) == (ended.clear_key, ended.instance)
    assert ended.occurred_at == datetime.fromtimestamp(1746178999, UTC)


def test_googles_incidents_of_resources_or_conditions_of_one_name_are_two_alerts() -> None:
    here, there = sample("google-cloud-monitoring/open.json"), sample("google-cloud-monitoring/open.json")
    there["incident"]["resource"]["labels"]["zone"] = "elsewhere"
    other = here["incident"] | {"policy_name": "another, with a condition of the same name"}
    assert one(here).hostname == one(there).hostname == one({"incident": other}).hostname
    assert len({one(each).instance for each in (here, there, {"incident": other})}) == 3


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("google-cloud-monitoring/open.json", "X-GOOG-PUBSUB-MESSAGE-ID"),
        ("cloudwatch/single-metric.json", "X-AMZ-SNS-MESSAGE-ID"),
    ],
    ids=["Pub/Sub", "SNS, raw"],
)
def test_a_message_without_an_envelope_that_comes_again_is_the_same_event(name: str, header: str) -> None:
    first, again, other = (
        parse(sample(name), context=msgspec.structs.replace(CONTEXT, headers={header: id_}))
        for id_ in ("14150481888479752", "14150481888479752", "14150481888479753")
    )
    assert first.identified == [0]
    assert first.events[0].event_id == again.events[0].event_id != other.events[0].event_id
    assert not parse(sample(name)).identified


def test_googles_older_incidents_name_the_device_in_labels() -> None:
    whole = sample("google-cloud-monitoring/open.json")
    del whole["incident"]["resource_display_name"]
    assert one(whole).hostname == "1943820386402233898"
    del whole["incident"]["resource"]
    assert one(whole).hostname == "gke-hub-cluster-private-pool-containe-de26c8a2-0se1"


def test_critical_means_the_same_whichever_alerting_system_says_it() -> None:
    incident = sample("google-cloud-monitoring/open.json")
    incident["incident"]["severity"] = "Critical"
    alert = {"labels": {"alertname": "a", "severity": "critical"}, "startsAt": "2026-03-04T09:00:00Z"}
    azure = sample("azure-monitor/metric-fired.json")
    azure["data"]["essentials"]["severity"] = "Sev0"
    assert {one(told).severity for told in (incident, alert, azure)} == {1}
