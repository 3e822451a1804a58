"""``azure-monitor``: Azure Monitor's alerts in the common alert schema, as an action group's webhook posts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mutt.errors import RejectedItem
from mutt.event import State
from mutt.formats import values
from mutt.formats.alertmanager import fingerprint
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat

_SCHEMA = "azureMonitorCommonAlertSchema"

#: Critical, Error, Warning, Informational, Verbose, as Azure explains them; and as other alerting systems mean those.
_SEVERITIES = {"Sev0": 1, "Sev1": 2, "Sev2": 4, "Sev3": 6, "Sev4": 7}

#: Service Health tells of an incident in several alerts, all of them ``Fired``; this is the stage of one that is over.
#: RCA explains one that was.
_OVER = frozenset({"resolved", "complete", "canceled", "rca"})

#: Where, by the kind of alert, what happened is said.
_TITLES = ("title", "defaultLanguageTitle", "description", "message")
_CONTEXTS = ("DetectionSummary", "operationName", "SearchQuery", "expression", "AlertCategory")


class AzureMonitor(JsonFormat):
    name = "azure-monitor"
    marks = frozenset({"schemaId"})

    def claims(self, item: JsonObject) -> bool:
        return item.get("schemaId") == _SCHEMA

    def read(self, item: JsonObject, _context: Context) -> Fields:
        data = values.inner(item, "data")
        essentials, about = values.inner(data, "essentials"), values.inner(data, "alertContext")
        if item.get("schemaId") != _SCHEMA or not essentials:
            why = f"is not {_SCHEMA}, or data.essentials is missing"
            raise RejectedItem(
                "schemaId", f"{why}: send it so: turn on the common alert schema in the action group"
            )
        state, key = _state(essentials, about)
        more = {name: value for name, value in data.items() if name != "essentials"}
        return {
            "hostname": _device(essentials) or self.name,
            "message": _message(essentials, about, state),
            "time": _time(essentials, about, state),
            "severity": _SEVERITIES.get(values.text(essentials.get("severity"))),
            "state": state,
            "source": self.name,
            "clear_key": key,
            "instance": _instance(essentials, about),
            "tags": values.leaves(essentials) | values.leaves(more),
        }


def _device(essentials: JsonObject) -> Any:
    """The first of the resources that the alert is about, by the last part of its id; else the rule's name."""
    for name in ("configurationItems", "alertTargetIDs"):
        found = essentials.get(name)
        if isinstance(found, list) and found and isinstance(found[0], str) and found[0].strip("/"):
            return found[0].rstrip("/").rpartition("/")[2]
    return essentials.get("alertRule")


def _target(essentials: JsonObject, about: JsonObject) -> str:
    """The resource, or the budget, by all of its id: others of its name are in other groups. Azure writes it in
    different cases."""
    found = essentials.get("alertTargetIDs")
    if not isinstance(found, list) or not found:
        found = [values.inner(about, "AlertData").get("BudgetId") or _device(essentials)]
    return values.text(found[0]).lower()


def _state(essentials: JsonObject, about: JsonObject) -> tuple[State, str | None]:
    """Does it stand or is it over; and what all that is told of it has in common."""
    properties = values.inner(about, "properties")
    condition, key = (
        essentials.get("monitorCondition"),
        values.first(essentials, ("alertId", "originAlertId")),
    )
    over = condition == "Resolved"
    if tracked := properties.get("trackingId"):
        key, over = tracked, over or values.text(properties.get("stage")).lower() in _OVER
    elif "currentHealthStatus" in properties:
        key, over = f"health:{_target(essentials, about)}", over or about.get("status") == "Resolved"
    return State.CLEAR if over else State.RAISE, None if key is None else values.text(key)


def _time(essentials: JsonObject, about: JsonObject, state: State) -> Any:
    if state is State.RAISE:
        return essentials.get("firedDateTime")
    return essentials.get("resolvedDateTime") or about.get("eventTimestamp")


def _message(essentials: JsonObject, about: JsonObject, state: State) -> str:
    """The rule's name, which of the two it is, what it is about, and what was measured."""
    rule = values.first(essentials, ("alertRule", "monitoringService"))
    title = values.first(values.inner(about, "properties"), _TITLES) or values.first(about, _CONTEXTS)
    said = (essentials.get("description"), "; ".join(_measured(about)) or title)
    head = f"{values.text(rule or 'alert')} is {'fired' if state is State.RAISE else 'resolved'}"
    return ": ".join((head, *(values.text(one) for one in said if one)))


def _measured(about: JsonObject) -> Iterator[str]:
    """What the conditions of a metric or a log alert found: ``Percentage CPU 31.1 (GreaterThan 25)``."""
    for one in _conditions(about):
        if what := values.first(one, ("metricName", "metricMeasureColumn", "searchQuery")):
            limit = f"({values.text(one.get('operator'))} {values.text(one.get('threshold'))})"
            yield f"{values.text(what)} {values.text(one.get('metricValue'))} {limit}"


def _conditions(about: JsonObject) -> Iterator[JsonObject]:
    found = values.inner(about, "condition").get("allOf")
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield one


def _instance(essentials: JsonObject, about: JsonObject) -> str:
    """The rule, and which of its series and resources, or which incident: the next alert of it folds into the same one
    at Moog."""
    parts = [values.text(essentials.get("alertRule"))]
    for condition in _conditions(about):
        found = condition.get("dimensions")
        for one in found if isinstance(found, list) else ():
            if isinstance(one, dict):
                parts.append(f"{values.text(one.get('name'))}={values.text(one.get('value'))}")
    if labels := values.inner(about, "labels"):  # of managed Prometheus: too many to be written out
        parts.append(fingerprint(labels))
    tracked = values.inner(about, "properties").get("trackingId")
    return " ".join((*parts, values.text(tracked) if tracked else _target(essentials, about)))


FORMAT = AzureMonitor()
