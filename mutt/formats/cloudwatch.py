"""``cloudwatch``: CloudWatch's alarms, as SNS is given them (in ``sns``, or raw) and as EventBridge delivers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mutt.errors import RejectedItem
from mutt.event import State
from mutt.formats import values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat

#: Dimensions that name what the alarm is about, the first that does; without any it is the first dimension.
_DEVICES = (
    "InstanceId", "host", "DBInstanceIdentifier", "DBClusterIdentifier", "CacheClusterId", "LoadBalancer",
    "LoadBalancerName", "NatGatewayId", "TransitGateway", "VpnId", "ConnectionId", "VirtualInterfaceId", "ClusterName",
    "AutoScalingGroupName", "FunctionName", "QueueName", "TableName", "BucketName",
)  # fmt: skip

#: What EventBridge calls it: of an alarm, and of one of the series of an alarm that watches several.
_CHANGES = ("CloudWatch Alarm State Change", "CloudWatch Alarm Contributor State Change")

#: Where SNS writes the id of its message, also where it delivers that raw: the same when it comes again.
_ID = "X-AMZ-SNS-MESSAGE-ID"

#: An alarm has no severity; not to know is a warning.
_SEVERITIES = {"INSUFFICIENT_DATA": 4}


class CloudWatch(JsonFormat):
    name = "cloudwatch"
    answers = Answers(over_quota=503)  # as SNS, which may have brought it raw
    marks = frozenset({"AlarmName", "detail-type"})

    def claims(self, item: JsonObject) -> bool:
        return ("AlarmName" in item and "NewStateValue" in item) or item.get("detail-type") in _CHANGES

    def read(self, item: JsonObject, context: Context) -> Fields:
        if "detail-type" in item:
            return self._event(item)
        trigger = values.inner(item, "Trigger")
        fields = self._alarm(
            item.get("AlarmName"),
            item.get("NewStateValue"),
            item.pop("NewStateReason", None),
            values.inner(item, "AlarmContributorAttributes") or dict(_dimensions(trigger)),
        )
        key = item.get("AlarmArn") or ":".join(
            values.text(item.get(name)) for name in ("AWSAccountId", "Region", "AlarmName")
        )
        fields["own_id"] = context.headers.get(_ID, "")
        fields["time"] = item.pop("StateChangeTime", None)
        return _identified(fields, key, item.get("AlarmContributorId"), item)

    def _event(self, item: JsonObject) -> Fields:
        """As EventBridge has it: the alarm stands in ``detail``."""
        detail, resources = values.inner(item, "detail"), item.get("resources")
        state, series = values.inner(detail, "state"), values.inner(detail, "alarmContributor")
        fields = self._alarm(
            detail.get("alarmName"),
            state.get("value"),
            state.pop("reason", None),
            values.inner(series, "attributes") or dict(_dimensions(values.inner(detail, "configuration"))),
        )
        fields["own_id"] = item.pop("id", None)
        fields["time"] = state.get("timestamp") or item.get("time")
        arn = resources[0] if isinstance(resources, list) and resources else None
        return _identified(fields, arn or detail.get("alarmName"), series.get("id"), item)

    def _alarm(self, alarm: Any, value: Any, reason: Any, dimensions: JsonObject) -> Fields:
        if not alarm or not isinstance(alarm, str) or not isinstance(value, str):
            raise RejectedItem("AlarmName", "or the alarm's state is missing, or no text: send both")
        return {
            "hostname": values.first(dimensions, (*_DEVICES, *dimensions)) or alarm,
            "message": f"{alarm} is {value}" + (f": {reason}" if reason and isinstance(reason, str) else ""),
            "severity": _SEVERITIES.get(value),
            "state": State.CLEAR if value == "OK" else State.RAISE,
            "source": self.name,
            "tags": values.tags(dimensions),
        }


def _dimensions(told: JsonObject) -> Iterator[tuple[str, Any]]:
    """Those of the metric, or of all metrics of an expression. SNS has a list of them, EventBridge an object."""
    metrics = told.get("Metrics") or told.get("metrics")
    for metric in (told, *_stats(metrics if isinstance(metrics, list) else ())):
        found = metric.get("Dimensions") or metric.get("dimensions")
        if isinstance(found, dict):
            yield from found.items()
        for one in found if isinstance(found, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield one["name"], one.get("value")


def _stats(metrics: Any) -> Iterator[JsonObject]:
    for metric in metrics:
        if isinstance(metric, dict):
            stat = values.inner(metric, "MetricStat") or values.inner(metric, "metricStat")
            yield values.inner(stat, "Metric") or values.inner(stat, "metric")


def _identified(fields: Fields, alarm: Any, series: Any, item: JsonObject) -> Fields:
    """With what the alarm's end has in common with it, and all else as tags. Each of its ``series`` ends by itself."""
    key = values.text(alarm) if series is None else f"{values.text(alarm)} {values.text(series)}"
    fields["clear_key"] = fields["instance"] = key
    fields["tags"] = values.leaves(item) | fields["tags"]
    return fields


FORMAT = CloudWatch()
