"""``grafana``: the webhook of Grafana's alerting; and the one it had before version 9, a rule at a time."""

from __future__ import annotations

from collections.abc import Collection

from mutt.event import State
from mutt.formats import values
from mutt.formats.alertmanager import GRAFANAS, Alertmanager, device, grouped
from mutt.formats.base import Context, Fields, JsonObject

#: What the webhook of old knew of a rule; nobody else has both.
_RULE = frozenset({"ruleId", "ruleUrl"})


class Grafana(Alertmanager):
    name = "grafana"
    marks = Alertmanager.marks | _RULE

    def fits(self, keys: Collection[str]) -> bool:
        return _RULE.issubset(keys) or (grouped(keys) and not GRAFANAS.isdisjoint(keys))

    def claims(self, item: JsonObject) -> bool:
        return _RULE.issubset(item) or super().claims(item)

    def read(self, item: JsonObject, context: Context) -> Fields:
        if "ruleId" in item and "labels" not in item:
            return _of_rule(item)
        measured = {"values": values.inner(item, "values")}
        if measured["values"]:
            del item["values"]
        fields = super().read(item, context)
        fields["tags"].update(values.flat(measured))
        return fields


def _of_rule(item: JsonObject) -> Fields:
    """One rule's change of state. Its end names no series, so the host is never looked for in those of its begin."""
    tags = values.inner(item, "tags")
    which = values.text(item.get("ruleUrl")).partition("/d/")[0]  # of several Grafanas
    key = f"{which} {values.text(item.get('orgId', 1))}:{values.text(item['ruleId'])}"
    rule, said = item.get("ruleName"), item.get("message")
    return {
        "hostname": device(tags) or Grafana.name,
        "message": f"{rule}: {said}" if rule and said else rule or said or item.get("title"),
        "severity": values.urgency(tags.get("severity")),
        "state": values.state(item.get("state")) or State.RAISE,
        "source": Grafana.name,
        "clear_key": key,
        "instance": key,
        "tags": values.tags(dict(values.flat({key: item[key] for key in item if key != "message"}))),
    }


FORMAT = Grafana()
