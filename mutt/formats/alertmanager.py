"""``alertmanager``: the webhook of Prometheus' Alertmanager, and the alerts that Prometheus and others post to one."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import Any

import msgspec

from mutt.errors import RejectedItem
from mutt.event import State
from mutt.formats import times, values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.collector import Collector
from mutt.formats.objects import JsonFormat

#: Labels that name the device, the first that does. ``exported_instance`` is the device's own where ``instance`` is
#: a gateway's.
_DEVICES = ("hostname", "host", "nodename", "sysName", "exported_instance", "instance", "node", "target")

#: Those of an alert about no single device, whose host they are then. Without them it is the format's name, and never
#: the sender's address: another replica of the sender may send the end, which would not find what it ends.
_SCOPES = ("cluster", "service", "job")

_SEVERITIES = ("level", "priority")
_TEXTS = ("summary", "description", "message", "title")

_GROUPED = frozenset({"receiver", "groupKey", "groupLabels", "commonLabels"})
_ALERT = frozenset({"startsAt", "endsAt", "generatorURL"})

#: What only Grafana writes into a group, or into an alert.
GRAFANAS = frozenset({"orgId", "silenceURL", "dashboardURL", "panelURL", "valueString"})

_STATES = {"firing": State.RAISE, "resolved": State.CLEAR}

#: How Go writes the time of what has none.
_NEVER = "0001-"


class Alertmanager(JsonFormat):
    name = "alertmanager"
    answers = Answers(over_quota=503)
    marks = frozenset({"alerts", "labels"})
    inside = "alerts"

    def fits(self, keys: Collection[str]) -> bool:
        return grouped(keys) and GRAFANAS.isdisjoint(keys)

    def claims(self, item: JsonObject) -> bool:
        """Nothing of the same names is none: alerts are an array, labels an object."""
        return isinstance(item["alerts"], list) if "alerts" in item else isinstance(item["labels"], dict)

    def read(self, item: JsonObject, context: Context) -> Fields:
        take = item.pop
        labels, notes, key = take("labels", None), take("annotations", None), take("fingerprint", None)
        if type(labels) is not dict:
            raise RejectedItem("labels", "is missing, or no object: send the alert's labels")
        if type(notes) is not dict:
            notes = {}
        if type(key) is not str or not key:
            key = fingerprint(labels)
        state = _state(item, context)
        fields: Fields = {
            "hostname": device(labels) or self.name,
            "message": _message(labels, notes),
            "time": _time(take("startsAt" if state is State.RAISE else "endsAt", None)),
            "severity": values.urgency(labels.get("severity") or values.first(labels, _SEVERITIES)),
            "state": state,
            "source": self.name,
            "clear_key": key,
            "instance": key,
        }
        fields["tags"] = tags = values.tags(labels)
        for said in (notes, item):
            for name, value in said.items():
                if value is not None and value != "":
                    told = value if type(value) is str else values.text(value)
                    tags[f"alert.{name}" if name in tags else name] = told
        return fields

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        super().take(item, text, collector, context)
        left_out = item.get("truncatedAlerts")
        if type(left_out) is int and left_out > 0:
            # What never came can't be taken: say so where it is looked for.
            told = {key: item[key] for key in ("receiver", "groupKey", "truncatedAlerts") if key in item}
            why = f"is {left_out}: so many alerts of this group were left out; set the receiver's max_alerts to 0"
            collector.reject(msgspec.json.encode(told), RejectedItem("truncatedAlerts", why))


def grouped(keys: Collection[str]) -> bool:
    """Are these a group's, or those of an alert as it stands in a group?"""
    if "alerts" in keys:
        return not _GROUPED.isdisjoint(keys)
    return "labels" in keys and not _ALERT.isdisjoint(keys) and "hostname" not in keys


def device(labels: JsonObject) -> Any:
    """Whom the alert is about; None: it names nobody."""
    for key in _DEVICES:
        if key in labels and (named := values.device(labels[key])):
            return named
    return values.first(labels, _SCOPES)


def fingerprint(labels: JsonObject) -> str:
    """For an alert that came without: its labels are what it is known by."""
    return blake2b(msgspec.json.encode(sorted(labels.items())), digest_size=8).hexdigest()


def _message(labels: JsonObject, notes: JsonObject) -> Any:
    """The alert's name, which rules are written for, and what it says."""
    alert = labels.get("alertname")
    for key in _TEXTS:
        said = notes.get(key)
        if said and isinstance(said, str):
            del notes[key]
            return said if not alert or not isinstance(alert, str) or alert in said else f"{alert}: {said}"
    return alert


def _time(said: Any) -> Any:
    return None if type(said) is str and said[:5] == _NEVER else said


def _state(item: JsonObject, context: Context) -> State:
    """Does it stand or is it over? What Prometheus itself posts has no status: it is over from ``endsAt`` on, which
    lies ahead of an alert that stands."""
    said = item.pop("status", None)
    ends = item["endsAt"] = _time(item.get("endsAt"))
    if type(said) is str and (state := _STATES.get(said)):
        return state
    if ends is None:
        return State.RAISE
    at = times.read(ends, context.received_at)
    over = "startsAt" not in item or (at is not None and at <= context.received_at)
    return State.CLEAR if over else State.RAISE


FORMAT = Alertmanager()
