"""``cloudevents``: CloudEvents 1.0 over HTTP, structured, in batches, and binary, where the headers are the envelope.

The data is read by the format that knows it, else by the tables here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mutt.errors import RejectedBody, RejectedItem
from mutt.formats import values, within
from mutt.formats.base import Context, Fields, JsonObject, Parsed
from mutt.formats.cloudevents_binary import JSON, structured

#: What no CloudEvent is without.
_REQUIRED = ("specversion", "id", "source", "type")

#: Of the envelope, what is no tag: it is read.
_READ = frozenset({"specversion", "id", "time", "data", "data_base64", "datacontenttype", "dataschema"})

#: In the data, the first of these that says something.
_HOSTS = ("hostname", "host", "device", "node")
_MESSAGES = ("message", "msg", "description", "summary", "text", "title", "output")
_SEVERITIES = ("severity", "syslog_severity", "level", "priority")
_STATES = ("state", "status")
_CLEAR_KEYS = ("clear_key", "fingerprint", "dedup_key", "incident_id", "problem_id", "alert_id")

#: A subject's first segment is a host unless it is a number or a UUID: those are somebody's running numbers.
_SUBJECT = re.compile(
    r"(?!\d+(?:/|$)|[\da-fA-F]{8}-(?:[\da-fA-F]{4}-){3})"
    r"(?P<host>[\w.-]{1,255}|[\da-fA-F:.]{2,45})(?::\d{1,5})?(?:/(?P<rest>.+))?",
    re.S,
)

_MEDIA = re.compile(r"application/cloudevents(?:-batch)?\+json\s*(?:;.*)?", re.I | re.S)


class CloudEvents(within.Envelope):
    name = "cloudevents"
    header = "CE-SPECVERSION"
    media = "application/cloudevents"
    marks = frozenset({"specversion"})
    holds = ("data", "data_base64")

    def fits(self, keys: Collection[str]) -> bool:
        return all(key in keys for key in _REQUIRED)

    def parse(self, body: bytes, context: Context) -> Parsed:
        """Raises :class:`RejectedBody`, of status 415 for a serialization that is not JSON."""
        content_type = context.headers.get("CONTENT-TYPE", "")
        if content_type[: len(self.media)].lower() == self.media:
            if not _MEDIA.fullmatch(content_type):
                raise RejectedBody("Content-Type", f"is {content_type[:80]}: {_UNDERSTOOD}", 415)
        elif context.headers.get(self.header, ""):
            body = structured(body, content_type, context.headers)
        return super().parse(body, context)

    def held(self, item: JsonObject) -> Any:
        _check(item)
        return _data(item)

    def complete(self, item: JsonObject, fields: Fields, nth: int | None) -> None:
        """Whose event it is (source and id), and what the data leaves open."""
        subject = _SUBJECT.fullmatch(item["subject"]) if isinstance(item.get("subject"), str) else None
        if fields.get("hostname") in (None, ""):
            fields["hostname"] = subject["host"] if subject else _of_source(item["source"])
        if fields.get("time") in (None, ""):
            fields["time"] = item.get("time")
        fields["own_id"] = f"{item['source']} {item['id']}" + ("" if nth is None else f" {nth}")
        if nth is None:  # the tags of one envelope are not for thousands of events
            _add_rest(item, fields, subject)

    def read(self, item: JsonObject, _context: Context) -> Fields:
        data = _data(item)
        fields = _of_object(dict(data)) if isinstance(data, dict) else {"message": data, "tags": {}}
        if not isinstance(fields.get("message"), str) or not fields["message"].strip():
            fields["message"] = _described(item, data)
        fields["source"] = self.name
        self.complete(item, fields, None)
        return fields


_UNDERSTOOD = "send application/cloudevents+json or application/cloudevents-batch+json, or the binary mode"


def _check(item: JsonObject) -> None:
    """Raises :class:`RejectedItem` where it is no CloudEvent."""
    for name in _REQUIRED:
        value = item.get(name)
        if not isinstance(value, str) or not value.strip():
            raise RejectedItem(name, "is missing: send it, as text that is not empty")
    if item["specversion"].partition(".")[0] != "1":
        raise RejectedItem("specversion", f"is {item['specversion'][:20]}: send CloudEvents 1.0")


# ---- the data


def _data(item: JsonObject) -> Any:
    """An object, text, or other JSON; bytes where they are no text. None: there is none."""
    packed = item.get("data_base64")
    if packed is None:
        return item.get("data")
    try:
        data = base64.b64decode(packed, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RejectedItem("data_base64", "is no Base64: write the data's bytes so") from None
    return _opened(data, _content_type(item))


def _content_type(item: JsonObject) -> str:
    found = item.get("datacontenttype")
    return found if isinstance(found, str) else ""


def _opened(data: bytes, content_type: str) -> Any:
    try:
        return values.clean(msgspec.json.decode(data) if JSON.fullmatch(content_type) else data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data


def _described(item: JsonObject, data: Any) -> str:
    """A sentence for data without one of its own: what kind of event, then the data."""
    about = f"{item['type']} {item['subject']}" if isinstance(item.get("subject"), str) else item["type"]
    if isinstance(data, bytes):
        return f"{about}: {len(data)} bytes of {_content_type(item) or 'data'}"
    return about if data in (None, "", {}, []) else f"{about}: {values.text(data)}"


def _of_object(data: JsonObject) -> Fields:
    fields: Fields = {
        "hostname": values.pop_read(data, _HOSTS, _host),
        "message": values.pop_first(data, _MESSAGES),
        "severity": values.pop_read(data, _SEVERITIES, values.severity),
        "clear_key": _text(values.pop_first(data, _CLEAR_KEYS)),
    }
    if state := values.pop_read(data, _STATES, values.state):
        fields["state"] = state
    fields["tags"] = dict(values.flat({key: value for key, value in data.items() if value is not None}))
    return fields


def _host(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _text(value: Any) -> str | None:
    return None if value is None else values.text(value)


# ---- the envelope


def _add_rest(item: JsonObject, fields: Fields, subject: re.Match[str] | None) -> None:
    if fields.get("severity") is None:
        fields["severity"] = _severity(item)
    if subject and subject["rest"]:
        fields["instance"] = fields.get("instance") or subject["rest"]
        fields["clear_key"] = fields.get("clear_key") or subject[0]
    kept = {f"ce.{key}": value for key, value in item.items() if key not in _READ}
    fields["tags"] = fields.get("tags", {}) | values.tags(kept)


def _of_source(source: str) -> str:
    """The host of a URI, else the source as it is written."""
    try:
        return urlsplit(source).hostname or source
    except ValueError:
        return source


def _severity(item: JsonObject) -> int | None:
    """Of the extension severity: its text, else its number."""
    found = values.severity(item.get("severitytext"))
    return values.telemetry(item.get("severitynumber")) if found is None else found


FORMAT = CloudEvents()
