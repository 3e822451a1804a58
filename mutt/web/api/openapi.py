"""The API as OpenAPI 3.1, made of its routes: what is not described is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mutt import __version__
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule, StormPolicy
from mutt.rules.windows import Window
from mutt.store.users import Role
from mutt.web.api.routes import TEXT, TIME, Json, Route, ref
from mutt.web.api.wire import CURRENT
from mutt.web.problem import TYPE

_IN_PATH = re.compile(r"<(?:(\w+):)?(\w+)>")
_OF_KIND: dict[str, Json] = {
    "int": {"type": "integer", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}

_HEADERS: list[Json] = [
    {
        "name": "X-Change-Reason",
        "in": "header",
        "schema": {"type": "string", "maxLength": 500},
        "description": "Why; kept in the history with the change.",
    },
]
_IF_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "schema": TEXT,
    "description": "The ETag that you have read: if something else stands now, the answer is 412 and nothing is"
    " changed. Without it whatever stands is overwritten.",
}

_REFUSALS = {
    "400": "It can't be read.",
    "401": "The key is missing or not known.",
    "403": "The key may not manage; or a session is used, and its user has too little of a role.",
    "404": "There is no such thing.",
    "405": "The address does not know this method.",
    "409": "It can't be done as things stand.",
    "412": "It was changed since you read it; `stands` is what stands now.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "422": "A field can't stay: which, and what to write there.",
    "429": "Too many requests are worked at once.",
    "503": "A server is away, or that took too long: ask again.",
}


def document(routes: Iterable[Route]) -> Json:
    """The whole document."""
    paths: dict[str, Json] = {}
    for route in routes:
        path = _IN_PATH.sub(r"{\2}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MUTT management",
            "version": __version__,
            "description": (
                "What the admin's pages do, for programs. Each change is one transaction with its row in the history."
                " Each refusal is a problem document (RFC 9457) that names the field."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"/api/{CURRENT}"}],
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {name: _problem(text) for name, text in _REFUSALS.items()},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: Route) -> Json:
    changes = route.method != "GET"
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _OF_KIND.get(kind, TEXT)}
        for kind, name in _IN_PATH.findall(route.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()]
    if changes:
        parameters += _HEADERS + ([_IF_MATCH] if route.kept else [])
    told: Json = {
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": parameters,
        "responses": {str(route.status): _answer(route)}
        | {status: {"$ref": f"#/components/responses/{status}"} for status in _refusals(route)},
    }
    if (role := route.needs.of(route.method)) is not Role.VIEWER:
        told["description"] = f"Where a session asks and no key, its user needs the role {role}."
    if route.body is not None:
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body}}}
    return told


def _answer(route: Route) -> Json:
    headers = {"X-API-Version": {"schema": TEXT}, "X-API-Supported-Versions": {"schema": TEXT}}
    return {
        "description": route.summary,
        "headers": headers,
        "content": {"application/json": {"schema": route.answer}},
    }


def _refusals(route: Route) -> Sequence[str]:
    found = ["400", "401", "403", "404", "422", "429", "503"]
    if route.method != "GET":
        found += ["409", "413"]
    if route.body is not None:
        found.append("415")
    if route.kept:
        found.append("412")
    return sorted(found)


def _problem(text: str) -> Json:
    return {"description": text, "content": {TYPE: {"schema": ref("Problem")}}}


def _schemas() -> dict[str, Json]:
    _, found = msgspec.json.schema_components(
        [Rule, Window, StormPolicy, Redaction], ref_template="#/components/schemas/{name}"
    )
    schemas: dict[str, Json] = dict(found)
    for kind in (Rule, Window, StormPolicy, Redaction):
        schemas[f"{kind.__name__}Change"] = _change_of(schemas[kind.__name__])
    stored = schemas["Rule"]
    schemas["StoredRule"] = stored | {"properties": {**stored["properties"], "updated_at": TIME}}
    return schemas | {"Problem": _PROBLEM}


def _change_of(schema: Json) -> Json:
    """What may be sent of a row: any of its fields but the id. Numbers may be text, severities names."""
    properties: dict[str, Any] = {name: value for name, value in schema["properties"].items() if name != "id"}
    return {
        "type": "object",
        "properties": properties,
        "description": "Fields that are not given are left out.",
    }


_PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "field": TEXT,
        "reason": TEXT,
        "correlation_id": TEXT,
        "stands": {},
        "errors": {"type": "array"},
    },
}
