"""Route: one operation of the API: where it is, what it takes and gives, and what does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mutt.web.roles import USUAL, Needs

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer: a value for JSON, a status and, of what can be changed, the ``ETag`` of what stands."""

    value: Any
    status: int = 200
    etag: str = ""
    location: str = ""


@dataclasses.dataclass(frozen=True)
class Route:
    """One operation. ``path`` as Flask writes it, below ``/api/v2``."""

    method: str
    path: str
    do: Callable[..., Reply]
    summary: str
    tag: str
    answer: Json  #: the schema of what it gives
    status: int = 200
    query: Mapping[str, Json] = dataclasses.field(default_factory=dict)  #: schemas of parameters
    body: Json | None = None  #: the schema of what it takes
    kept: bool = False  #: does it heed If-Match?
    missing: bool = False  #: may what it asks for not be there?
    needs: Needs = USUAL  #: the least role, where a session asks and no key


INTEGER: Json = {"type": "integer"}
COUNT: Json = {"type": "integer", "minimum": 0}
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
TIME: Json = {"type": "string", "format": "date-time"}
ANYTHING: Json = {}


def or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def listing(name: str, schema: Json, **more: Json) -> Json:
    """An object that holds a list."""
    properties = {name: {"type": "array", "items": schema}, **more}
    return {"type": "object", "required": list(properties), "properties": properties}


def obj(required: str = "", **properties: Json) -> Json:
    found: Json = {"type": "object", "properties": properties}
    return found | ({"required": required.split()} if required else {})
