"""``solarwinds``: what SolarWinds' action "Send a GET or POST request" posts, in the bodies that people paste there."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from mutt.errors import RejectedBody
from mutt.event import State
from mutt.formats import values
from mutt.formats.base import Answers, Context, Fields, JsonObject, Parsed, fit
from mutt.formats.collector import Collector
from mutt.formats.native import is_native
from mutt.formats.objects import JsonFormat

# Names without their case and underscores: AlertName and alert_name are one.
_HOSTS = ("nodename", "nodecaption", "node", "hostname", "host", "caption", "ipaddress", "ip")
_MESSAGES = ("alertmessage", "message", "alertdescription", "description")
_SEVERITIES = ("alertseverity", "severity")
_STATES = ("eventtype", "alertstatus", "alertstate", "state", "status")
_TIMES = ("alerttriggertime", "timeofalert", "timestamp", "time")
_OBJECTS = ("alertobjectid", "objectid")
_PARTS = ("alertdefid", "alertid", "object", "entitycaption")
_ORIONS = frozenset({"alertobjectid", "alertactiveid", "alertdetailsurl", "alertdefid"})

#: What parts a body whose texts nobody escaped. A text holds all up to the next name.
_NAME = re.compile(r'(?:^\s*\{|,)\s*"(\w+)"\s*:\s*', re.ASCII)


class SolarWinds(JsonFormat):
    name = "solarwinds"
    answers = Answers(none_taken=202)  # it sends nothing again, whatever it is told: so all of it is kept
    marks = frozenset({"AlertName", "alert_name", "alertName"})

    def fits(self, keys: Collection[str]) -> bool:
        """An alert's name, and something else that only Orion has; not a native event."""
        return not _ORIONS.isdisjoint(map(_plain, keys)) and not is_native(keys)

    def parse(self, body: bytes, context: Context) -> Parsed:
        """Orion escapes nothing, and sends nothing again: what a quote in a message broke is read all the same."""
        refusal: RejectedBody | None = None
        try:
            parsed = super().parse(body, context)
        except RejectedBody as error:
            parsed, refusal = Parsed([], [], []), error
        if parsed.events or len(body) > context.max_event or not (item := _mended(fit(body))):
            if refusal is not None:
                raise refusal
            return parsed
        collector = Collector(context)
        collector.attempt(lambda: self.read(item, context), fit(body))
        return collector.parsed

    def read(self, item: JsonObject, _context: Context) -> Fields:
        said = {_plain(key): value for key, value in item.items() if _says(value)}
        key = f"{self.name}:{_known_by(said)}"
        over = values.state(said.get("reset")) is State.CLEAR or said.get("reset") in (True, "true", "True")
        state = State.CLEAR if over else values.state(values.first(said, _STATES)) or State.RAISE
        return {
            "hostname": values.first(said, _HOSTS),
            "message": _message(said),
            "time": values.first(said, _TIMES),
            "severity": values.urgency(values.first(said, _SEVERITIES)),
            "state": state,
            "source": self.name,
            "clear_key": key,
            "instance": key,
            "tags": values.tags({name: value for name, value in item.items() if _says(value)}),
        }


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _says(value: Any) -> bool:
    """A variable that Orion does not know stays as it was written."""
    return value is not None and value != "" and not (isinstance(value, str) and value.startswith("${"))


def _known_by(said: JsonObject) -> str:
    """What trigger and reset of one alert on one object have in common."""
    whole = values.first(said, _OBJECTS)
    parts = [whole] if whole is not None else [said[name] for name in ("alertname", *_PARTS) if name in said]
    return ":".join(map(values.text, parts))


def _message(said: JsonObject) -> Any:
    alert, told = said.get("alertname"), values.first(said, _MESSAGES)
    if not (isinstance(alert, str) and isinstance(told, str)):
        return told or alert
    return told if alert in told else f"{alert}: {told}"


def _mended(text: str) -> JsonObject:
    """The texts of a body by their names; of one that is no object with names, none."""
    if not _NAME.match(text):
        return {}
    _, *found = _NAME.split(text.strip().removesuffix("}"))
    return {name: _unquoted(value.strip()) for name, value in zip(found[::2], found[1::2], strict=True)}


def _unquoted(value: str) -> str:
    return value[1:].removesuffix('"').replace('\\"', '"') if value.startswith('"') else value


FORMAT = SolarWinds()
