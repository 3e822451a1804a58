"""``google-cloud-monitoring``: Google Cloud Monitoring's incidents, as its webhooks and Pub/Sub topics deliver them."""

from __future__ import annotations

from typing import Any

from mutt.errors import RejectedItem
from mutt.event import State
from mutt.formats import values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat

#: Labels that name the device, of the resource first and then of the metric, where the incident itself does not.
_DEVICES = (
    "instance_name", "node_name", "pod_name", "host", "instance_id", "database_id", "service_name", "function_name",
    "job_name", "cluster_name", "bucket_name", "subscription_id", "topic_id", "queue_id", "url_map_name",
)  # fmt: skip


#: Where Pub/Sub writes the id of its message, which is the same when it delivers that again.
_ID = "X-GOOG-PUBSUB-MESSAGE-ID"


class GoogleCloudMonitoring(JsonFormat):
    name = "google-cloud-monitoring"
    answers = Answers(over_quota=503, none_taken=202)  # Pub/Sub repeats whatever is refused, for a month
    marks = frozenset({"incident"})

    def claims(self, item: JsonObject) -> bool:
        incident = values.inner(item, "incident")
        return "incident_id" in incident and "policy_name" in incident

    def read(self, item: JsonObject, context: Context) -> Fields:
        incident = values.inner(item, "incident")
        key = incident.get("incident_id")
        if not key or not isinstance(key, str):
            raise RejectedItem("incident.incident_id", "is missing, or no text: send what the channel sends")
        state = values.state(incident.get("state")) or State.RAISE
        return {
            "hostname": _device(incident) or self.name,
            "message": _message(incident),
            # A test of the channel has 0 for either.
            "time": incident.get("started_at" if state is State.RAISE else "ended_at") or None,
            "own_id": context.headers.get(_ID, ""),
            "severity": values.urgency(incident.get("severity")),
            "state": state,
            "source": self.name,
            "clear_key": key,
            "instance": _instance(incident),
            "tags": values.leaves(incident | {"summary": None, "state": None}),
        }


def _device(incident: JsonObject) -> Any:
    resource, metric = values.inner(incident, "resource"), values.inner(incident, "metric")
    return (
        incident.get("resource_display_name")
        or values.first(values.inner(resource, "labels"), _DEVICES)
        or values.first(values.inner(metric, "labels"), _DEVICES)
        or values.first(incident, ("resource_name", "policy_name"))
    )


def _message(incident: JsonObject) -> Any:
    """The policy's name, which rules are written for, and what it says."""
    policy, said = incident.get("policy_name"), values.first(incident, ("summary", "condition_name"))
    if not policy or not isinstance(policy, str) or not isinstance(said, str):
        return said or policy
    return said if policy in said else f"{policy}: {said}"


def _instance(incident: JsonObject) -> str:
    """Policy and condition, and of which of its series this is: the next incident of it folds into the same alert at
    Moog."""
    labels = (values.inner(values.inner(incident, name), "labels") for name in ("metric", "resource"))
    series = (f"{name}={values.text(value)}" for each in labels for name, value in sorted(each.items()))
    named = (values.text(incident.get(name)) for name in ("policy_name", "condition_name"))
    return " ".join((*named, *series))


FORMAT = GoogleCloudMonitoring()
