"""What Splunk's senders find here, as OpenAPI 3.1: a part of the document that ``mutt.web.openapi`` makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mutt.web.splunk import ACK, EVENTS, HEALTH, RAW

Json = dict[str, Any]

_TEXT = {"type": "string"}
_REPLY = {"$ref": "#/components/schemas/HecReply"}

#: What is refused before a request gets here: as everywhere.
_BEFORE = {"408": "Slow", "414": "LineTooLong", "417": "UnknownExpectation", "431": "HeadTooLarge"}

_TOLD = {
    "200": "Code 0: the events are kept. Items that were not taken are listed.",
    "400": "5, 6, 12, 13: nothing can be taken; the first bad item has a number. 16: no token may stand in the query.",
    "401": "2: there is no token. 3: it can't be read, or a signature is missing or wrong.",
    "403": "1: the key may not send, or not in this format. 4: it is not known.",
    "413": "27: too many bytes, lines or events: send them in parts.",
    "415": "6: the Content-Encoding is not known.",
    "503": "9: the queue is full, Redis is away, or the key has sent its quota: send it again later.",
}

_CHANNEL = {
    "name": "X-Splunk-Request-Channel",
    "in": "header",
    "schema": _TEXT,
    "description": "Who names a channel gets an ackId, and may ask for it; `channel` in the query will do, too.",
}
_ORIGIN = [
    {"name": name, "in": "query", "schema": _TEXT, "description": "Of all lines."}
    for name in ("host", "source", "sourcetype", "index", "time")
]

SCHEMAS: Mapping[str, Json] = {
    "HecReply": {
        "type": "object",
        "required": ["text", "code"],
        "properties": {
            "text": _TEXT,
            "code": {"type": "integer", "minimum": 0, "description": "Splunk's number for it"},
            "ackId": {"type": "integer", "minimum": 0, "description": "Only where a channel is named"},
            "detail": _TEXT | {"description": "What is wrong, and what to do"},
            "invalid-event-number": {"type": "integer", "minimum": 0, "description": "The first bad item's place"},
            "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejected"}},
        },
    },
    "HecEvent": {
        "type": "object",
        "required": ["event"],
        "properties": {
            "event": {"description": "Text, such as a line of syslog, or an object"},
            "time": {"type": ["number", "string", "null"], "description": "Seconds since 1970"},
            "host": {"type": ["string", "null"]},
            "source": {"type": ["string", "null"]},
            "sourcetype": {"type": ["string", "null"]},
            "index": {"type": ["string", "null"]},
            "fields": {"type": ["object", "null"]},
        },
    },
    "HecAcks": {
        "type": "object",
        "required": ["acks"],
        "properties": {"acks": {"type": "object", "additionalProperties": {"type": "boolean"}}},
    },
}  # fmt: skip


def paths(security: Sequence[Json], headers: Sequence[Json]) -> Json:
    """``security`` and ``headers`` are those of ingest."""
    alive = {
        method: {"summary": "Is anybody there?", "responses": {"200": _answer("Code 17: HEC is healthy.")}}
        for method in ("get", "options")
    } | {"head": {"summary": "Is anybody there?", "responses": {"200": {"description": "Yes."}}}}
    common = {"security": [*security, {}], "responses": _responses(_TOLD)}
    events = {
        "summary": "Take events of senders to Splunk",
        "parameters": [*headers, _CHANNEL],
        "requestBody": _json_body("Objects back to back, one a line, or an array of them.", "HecEvent"),
    }
    raw = {
        "summary": "Take lines of senders to Splunk",
        "parameters": [*headers, _CHANNEL, *_ORIGIN],
        "requestBody": {"required": True, "content": {"text/plain": {"schema": _TEXT}}},
    }
    return (
        {path: alive | {"post": events | common} for path in EVENTS}
        | {path: alive | {"post": raw | common} for path in RAW}
        | {ACK: alive | {"post": _ack() | {"security": common["security"]}}}
        | {path: {"get": _health()} for path in HEALTH}
    )


def _ack() -> Json:
    told = {key: text for key, text in _TOLD.items() if key not in ("200", "400", "415")}
    told["400"] = "10: no channel is named. 6: the question can't be read."
    numbers = {"type": "array", "items": {"type": "integer"}}
    question = {"type": "object", "required": ["acks"], "properties": {"acks": numbers}}
    found = (
        "For each number: was it given here? Then what it stands for is kept, as the answer to its post said."
    )
    kept = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/HecAcks"}}}}
    return {
        "summary": "Ask what became of posts",
        "parameters": [_CHANNEL],
        "requestBody": {"required": True, "content": {"application/json": {"schema": question}}},
        "responses": _responses(told) | {"200": {"description": found} | kept},
    }


def _health() -> Json:
    told = {
        "200": "17: HEC is healthy.",
        "400": "21: the token that was shown may not send.",
        "503": "18: nothing can be taken now.",
    }
    return {"summary": "May events come?", "responses": {key: _answer(text) for key, text in told.items()}}


def _responses(told: Mapping[str, str]) -> Json:
    before = {key: {"$ref": f"#/components/responses/{name}"} for key, name in _BEFORE.items()}
    found = {key: _answer(text) for key, text in told.items()} | before
    found["503"] = found["503"] | {
        "headers": {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
    }
    return found


def _answer(description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _REPLY}}}


def _json_body(description: str, schema: str) -> Json:
    event = {"$ref": f"#/components/schemas/{schema}"}
    return {
        "required": True,
        "description": description,
        "content": {
            "application/json": {"schema": event, "example": {"event": "fan failed", "host": "core-1"}}
        },
    }
