"""``splunk``: what Splunk's HTTP Event Collector takes: objects back to back, each an ``event`` and where it is from.

The addresses that its senders post to, and what they are answered, are in :mod:`mutt.web.splunk`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, ClassVar

from mutt.errors import Kind, RejectedBody, RejectedItem
from mutt.formats import syslog, values, within
from mutt.formats.base import Answers, Context, Fields, JsonObject, Parsed
from mutt.formats.objects import JsonFormat
from mutt.formats.shipped import Shipped

#: All that an envelope may hold.
_ENVELOPE = frozenset({"time", "host", "source", "sourcetype", "index", "event", "fields"})

#: Of it, what is read; the rest says where an event is from: tags.
_READ = frozenset({"time", "host", "event", "fields"})

#: Source types whose events are lines of syslog, also where they begin with neither a priority nor a month.
_SYSLOG = re.compile(
    r"(?:.*[:_-])?syslog|linux_(?:secure|messages_syslog)|(?:cisco|juniper|arista|pan):.+|pan_log"
)

#: How such a line begins, whatever its source type: a priority, or RFC 3164's time; or it is Cisco's mnemonic.
_LINE = re.compile(
    r"<\d{1,3}>|(?:\d+: )?(?:[\w.-]+: )?[*.]?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|%[A-Z][\w-]*-[0-7]-\w+:"
)

#: Not ``status``: what a program logs has one of its own (ok, closed), also of what went wrong, and a clear that names
#: nothing to end would keep it from ever being an alert.
_STATE = "state"
_SEVERITIES = (
    "severity",
    "level",
    "severity_text",
    "otel.log.severity.text",
    "log.level",
    "priority",
    "loglevel",
)

#: What OpenTelemetry's Collector writes beside its text, or where that is missing.
_NUMBER = "otel.log.severity.number"


class _Record(Shipped):
    """An event that is an object, of a sender that is not known otherwise."""

    name = "splunk"
    messages: ClassVar[tuple[str, ...]] = (
        "message",
        "msg",
        "log",
        "line",
        "_raw",
        "body",
        "text",
        "description",
    )
    times: ClassVar[tuple[str, ...]] = ("time", "timestamp", "@timestamp")
    severities: ClassVar[tuple[str, ...]] = _SEVERITIES
    programs: ClassVar[tuple[str, ...]] = ("program", "programname", "appname", "ident")


_RECORD = _Record()


class Splunk(within.Envelope):
    name = "splunk"
    marks = frozenset({"event"})
    holds = ("event",)
    answers = Answers(over_quota=503, too_large=202)

    def fits(self, keys: Collection[str]) -> bool:
        """An event, and nothing that stands in no envelope of theirs."""
        return _ENVELOPE.issuperset(keys)

    def parse(self, body: bytes, context: Context) -> Parsed:
        if not body.strip():
            raise RejectedBody("body", "holds no event: send at least one", kind=Kind.NOTHING)
        return super().parse(body, context)

    def held(self, item: JsonObject) -> Any:
        """What happened. Raises :class:`RejectedItem` as Splunk refuses it."""
        event = item.get("event")
        if event is None:
            raise RejectedItem("event", 'is missing: write {"event": "what happened"}', kind=Kind.MISSING)
        if event == {} or (isinstance(event, str) and not event.strip()):
            raise RejectedItem("event", "is blank: say what happened", kind=Kind.BLANK)
        return event

    def opens(self, found: JsonFormat, value: JsonObject) -> bool:
        """Shippers' records, too, if they say anything."""
        return not isinstance(found, Shipped) or any(
            isinstance(value.get(key), str) for key in found.messages
        )

    def complete(self, item: JsonObject, fields: Fields, nth: int | None) -> None:
        if fields.get("hostname") in (None, "") and (host := _host(item)):
            fields["hostname"] = host
        if fields.get("time") in (None, ""):
            fields["time"] = item.get("time")
        if nth is None:  # the tags of one envelope are not for thousands of events
            _add_tags(fields, item)

    def read(self, item: JsonObject, context: Context) -> Fields:
        event, inside = self.held(item), within.nameless(context)
        if isinstance(event, dict):
            fields = _of_object(event, inside)
        else:
            fields = _of_text(values.text(event), item.get("sourcetype"), inside)
        fields["hostname"] = _host(item) or fields.get("hostname") or context.default_host
        if item.get("time") not in (None, ""):
            fields["time"] = item["time"]
        fields["source"] = self.name
        _add_tags(fields, item)
        return fields


def _of_text(text: str, sourcetype: Any, context: Context) -> Fields:
    known = isinstance(sourcetype, str) and _SYSLOG.fullmatch(sourcetype.lower())
    if known or _LINE.match(text):
        return syslog.read(text, context.default_host)
    return {"message": text, "tags": {}}


def _of_object(event: JsonObject, context: Context) -> Fields:
    fields = _RECORD.read(dict(event), context)
    if not isinstance(fields["message"], str) or not fields["message"].strip():
        fields["message"] = values.text(event)
    if state := values.state(event.get(_STATE)):
        fields["state"] = state
    return fields


def _host(item: JsonObject) -> Any:
    host = item.get("host")
    return None if isinstance(host, str) and not host.strip() else host


def _add_tags(fields: Fields, item: JsonObject) -> None:
    """What else the envelope says. What the event itself calls so keeps its name."""
    named = values.inner(item, "fields")
    if fields.get("severity") is None:
        found = values.pop_read(dict(named), _SEVERITIES, values.severity)
        fields["severity"] = values.telemetry(named.get(_NUMBER)) if found is None else found
    kept = {key: value for key, value in item.items() if key not in _READ}
    if not named:
        kept["fields"] = item.get("fields") or None
    fields["tags"] = values.tags(kept) | dict(values.flat(named)) | fields.get("tags", {})


FORMAT = Splunk()
