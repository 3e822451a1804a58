"""What ingest answers to, as OpenAPI 3.1: served at ``/openapi.json``, and held to the code by the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Blueprint, Response

from mutt import __version__
from mutt.formats import registry
from mutt.formats.base import HOSTNAME_MAX
from mutt.formats.body import MOST_CODINGS, codings
from mutt.settings import Settings
from mutt.web import openapi_splunk
from mutt.web.refused import LINE_MAX

Json = dict[str, Any]

_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_PROBLEM_TYPE = "application/problem+json"


def openapi(settings: Settings) -> Blueprint:
    """``/openapi.json``."""
    blueprint = Blueprint("openapi", __name__)
    written = orjson.dumps(document(settings), option=orjson.OPT_INDENT_2)

    @blueprint.get("/openapi.json")
    def page() -> Response:
        return Response(written, mimetype="application/json")

    return blueprint


def document(settings: Settings) -> Json:
    """The whole document; limits are those of ``settings``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MUTT ingest",
            "version": __version__,
            "description": (
                "Events come in: syslog lines, SNMP traps and JSON. A 2xx means that they are kept. One bad item costs"
                " none of its neighbours: it is named in the reply. Each refusal is a problem document (RFC 9457)."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(settings),
        "components": {
            "schemas": {**_SCHEMAS, **openapi_splunk.SCHEMAS},
            "responses": _responses(settings),
            "securitySchemes": _SECURITY,
        },
    }


def _paths(settings: Settings) -> Json:
    sniffed = "The body is looked at; its Content-Type is a hint."
    paths = {path: _ingest(settings, sniffed) for path in ("/ingest", "/api/v1/ingest", "/api/v2/ingest")}
    named = _ingest(settings, "The body is read as this format, whatever it looks like.")
    named["post"]["responses"]["404"] = _ref("responses", "UnknownFormat")
    chosen = {"type": "string", "enum": sorted(registry.FORMATS)}
    named["parameters"] = [{"name": "format", "in": "path", "required": True, "schema": chosen}]
    added = "For Prometheus and others that add this path to an Alertmanager's address: the format is alertmanager."
    return paths | {
        "/ingest/{format}": named,
        "/ingest/alertmanager/api/v2/alerts": {"post": _ingest(settings, added)["post"]},
        **_signed(settings, sniffed, named),
        **openapi_splunk.paths([{name: []} for name in _SECURITY], _HEADERS),
        "/healthz": {"get": _page("The process lives.", _ref("schemas", "Health"))},
        "/readyz": {
            "get": _page("It has what it needs.", _ref("schemas", "Ready"))
            | {"responses": {
                "200": _json("It has what it needs.", _ref("schemas", "Ready")),
                "503": _json("Something that it needs is away or full: which, and why.", _ref("schemas", "Ready")),
            }}
        },
        "/openapi.json": {"get": _page("This document.", {"type": "object"})},
    }  # fmt: skip


def _signed(settings: Settings, sniffed: str, named: Json) -> Json:
    """Where a signature stands for a key. What it has to be is each source's own."""
    source = {"name": "source", "in": "path", "required": True, "schema": _TEXT}
    found = _ingest(settings, sniffed) | {"parameters": [source]}
    as_format = {**named, "post": named["post"].copy(), "parameters": [source, *named["parameters"]]}
    for path in (found, as_format):
        path["post"] |= {
            "summary": "Take events of a source that signs them",
            "description": "The source is the name of a key; its signature of the body as it is sent is the proof.",
            "security": [],
        }
    return {"/signed/{source}": found, "/signed/{source}/{format}": as_format}


def _ingest(settings: Settings, how: str) -> Json:
    alive = {"200": _json("Senders' health check.", _ref("schemas", "Alive"))}
    agreed = {
        "200": alive["200"]
        | {
            "headers": {
                f"WebHook-Allowed-{what}": {
                    "schema": _TEXT,
                    "description": "Where WebHook-Request-Origin asks (CloudEvents)",
                }
                for what in ("Origin", "Rate")
            }
        }
    }
    return {
        "get": {"summary": "Is anybody there?", "responses": alive},
        "head": {"summary": "Is anybody there?", "responses": {"200": {"description": "Yes."}}},
        "options": {"summary": "Is anybody there?", "responses": agreed},
        "post": {
            "summary": "Take events, one or many",
            "description": how,
            "security": [{name: []} for name in _SECURITY],
            "parameters": _HEADERS,
            "requestBody": _body(settings),
            "responses": {"202": _ref("responses", "Taken")} | {
                status: _ref("responses", name) for status, name in _REFUSALS.items()
            },
        },
    }  # fmt: skip


def _body(settings: Settings) -> Json:
    events = {
        "oneOf": [
            _ref("schemas", "Event"),
            {"type": "array", "minItems": 1, "items": _ref("schemas", "Event")},
        ]
    }
    example = {"hostname": "core-rtr-01", "message": "LINK-DOWN Te0/0/1", "syslog_severity": 3}
    line = "<187>Mar  4 09:15:02 core-rtr-01 %LINK-3-UPDOWN: Interface Te0/0/1, changed state to down"
    return {
        "required": True,
        "description": (
            f"At most {settings.ingest_max_body} bytes, before and after decompression; an event at most"
            f" {settings.ingest_max_event}. JSON: an object, an array, one object a line, or objects back to back."
            " Text: one syslog message a line. Others' formats: docs/formats.md, CloudEvents' binary mode among them."
        ),
        "content": {
            "application/json": {"schema": events, "example": example},
            "application/x-ndjson": {"schema": _TEXT},
            "text/plain": {"schema": _TEXT, "example": line},
        },
    }


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _json(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _page(summary: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"summary": summary, "responses": {"200": _json(summary, schema, media_type)}}


def _object(required: str, **properties: Json) -> Json:
    return {"type": "object", "required": required.split(), "properties": properties}


_SECURITY = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Splunk` instead of `Bearer` will do, too.",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The password is the key; the user may be anything.",
    },
    "address": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "For senders that can set no header: only of a key that is allowed to stand in the address.",
    },
}

_HEADERS = [
    {
        "name": "Content-Encoding",
        "in": "header",
        "schema": {"type": "string", "enum": sorted(codings())},
        "description": f"Up to {MOST_CODINGS}, one on top of another, are separated by commas.",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": _TEXT,
        "description": "The same key with the same body, within 24 hours, gets the first reply and adds nothing.",
    },
    {
        "name": "X-Correlation-ID",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:@/+-]{1,128}$"},
        "description": "Comes back in the reply and stands in the rows; another one is replaced.",
    },
    {
        "name": "traceparent",
        "in": "header",
        "schema": _TEXT,
        "description": "W3C Trace Context: the request goes on with this trace, where traces are on and it is sampled.",
    },
]

_REFUSALS = {
    "400": "Bad",
    "401": "NoKey",
    "403": "NotAllowed",
    "408": "Slow",
    "413": "TooLarge",
    "414": "LineTooLong",
    "415": "UnknownCoding",
    "417": "UnknownExpectation",
    "429": "OverQuota",
    "431": "HeadTooLarge",
    "503": "Later",
}

_REJECTED = _object("index field reason", index=_COUNT, field=_TEXT, reason=_TEXT)
_NAMED = {"type": "array", "items": _ref("schemas", "Rejected")}

_SCHEMAS: Mapping[str, Json] = {
    "Event": _object(
        "hostname message",
        hostname={"type": "string", "maxLength": HOSTNAME_MAX, "pattern": "\\S"},
        message={"type": "string", "pattern": "\\S"},
        timestamp={
            "type": ["string", "number", "null"],
            "description": "RFC 3339, RFC 3164, or seconds since 1970",
        },
        event_id={"type": ["string", "integer", "null"]},
        syslog_severity={"type": ["integer", "string", "null"], "description": "0 to 7, or a name"},
        facility={"type": ["integer", "string", "null"]},
        program={"type": ["string", "null"]},
        state={"type": ["string", "null"], "description": "raise, firing, down … or clear, resolved, ok …"},
        trap_oid={"type": ["string", "null"]},
        tags={"type": ["object", "null"]},
    )
    | {"description": "A native event; any other key is kept as a tag."},
    "Reply": _object(
        "status accepted duplicates rejected batch_id correlation_id queue_depth",
        status={
            "enum": ["queued", "rejected"],
            "description": "rejected: nothing was taken; for a format whose senders repeat for ever what gets a 400",
        },
        accepted=_COUNT,
        duplicates=_COUNT | {"description": "Of those: events whose id was known"},
        rejected=_NAMED,
        rejected_total=_COUNT | {"description": "Only where not all of them are listed"},
        batch_id=_TEXT,
        correlation_id=_TEXT,
        queue_depth={"type": ["integer", "null"], "minimum": 0, "description": "null: Redis can't be asked"},
        spilled={"const": True, "description": "Only where Redis is away: they wait in PostgreSQL for it"},
    ),
    "Rejected": _REJECTED | {"description": "An item that was not taken: its place in the request, and why"},
    "Problem": _object(
        "type title status detail",
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT | {"description": "What is wrong, and what to do"},
        correlation_id=_TEXT,
        index=_COUNT,
        field=_TEXT,
        reason=_TEXT,
        quota=_COUNT | {"description": "Events a minute that the key may send"},
        rejected=_NAMED,
        rejected_total=_COUNT,
    ),
    "Alive": _object("status", status={"const": "ok"}),
    "Health": _object("status version role", status={"const": "ok"}, version=_TEXT, role=_TEXT),
    "Ready": _object("status needs", status={"enum": ["ok", "not ready"]}, needs={"type": "object"}),
}


def _responses(settings: Settings) -> Json:
    problem = _ref("schemas", "Problem")
    told = {
        "Bad": "No item can be taken, or the body can't be read: index, field and reason. Or it is no HTTP/1.1.",
        "NoKey": (
            "The key is missing, not known, revoked or expired, or may not stand in the address; or the signature is"
            " missing, too old or wrong."
        ),
        "NotAllowed": "The key may not send events, or not in this format: nothing was taken.",
        "UnknownFormat": "No format is called so; those that are are named.",
        "Slow": f"Headers within {settings.request_timeout:g} s, and a body with 1 KiB/s or more.",
        "TooLarge": (
            f"The body has more than {settings.ingest_max_body} bytes, more than 200,000 items, or more events than the"
            " key may send in a minute."
        ),
        "LineTooLong": f"The request line has more than {LINE_MAX} bytes.",
        "UnknownExpectation": "An Expect other than 100-continue.",
        "UnknownCoding": (
            "The Content-Encoding is not known, too long, or missing though the body is compressed; or it holds"
            " CloudEvents that are no JSON."
        ),
        "HeadTooLarge": "Too many headers, or too large ones.",
    }
    later = {"headers": {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}}
    full = "The queue is full, or Redis is away: nothing was taken."
    over = "The key has sent as many events as it may in a minute: nothing was taken."
    return {
        "Taken": _json("What was taken, and which items were not.", _ref("schemas", "Reply")),
        "Later": _json(full, problem, _PROBLEM_TYPE) | later,
        "OverQuota": _json(over, problem, _PROBLEM_TYPE) | later,
    } | {name: _json(text, problem, _PROBLEM_TYPE) for name, text in told.items()}
