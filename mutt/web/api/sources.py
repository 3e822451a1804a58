"""Sources: what is seen of each who sends, by the name of its key."""

from __future__ import annotations

from mutt import watching
from mutt.services import Services
from mutt.sources.silent import LEARNED, LEARNING, OFF, SET
from mutt.sources.view import told
from mutt.store import lookup
from mutt.watching import Shown
from mutt.web import reading
from mutt.web.api.routes import COUNT, FLAG, TEXT, TIME, Json, Reply, Route, listing, obj, or_null

_NUMBER: Json = {"type": "number"}


def _all(**properties: Json) -> Json:
    return obj(" ".join(properties), **properties)


def _each(schema: Json) -> Json:
    return {"type": "object", "additionalProperties": schema}


_FORMAT = _all(
    events=COUNT,
    last_event=or_null(TIME),
    fields=_each(_all(share=_NUMBER, last_seen=or_null(TIME), vanished=FLAG)),
)
_SOURCE = _all(
    name=TEXT,
    live=FLAG,
    first_seen=or_null(TIME),
    last_seen=or_null(TIME),
    last_event=or_null(TIME),
    silent_since=or_null(TIME),
    expected=_all(seconds=or_null(_NUMBER), how={"enum": [SET, LEARNED, LEARNING, OFF]}),
    rate=_each(_NUMBER),
    counts=_each(COUNT),
    refused_share=_NUMBER,
    clock=or_null(_all(behind_s=_NUMBER, late_s=_NUMBER)),
    formats=_each(_FORMAT),
    refusals={"type": "array", "items": _all(field=TEXT, reason=TEXT, at=or_null(TIME), count=COUNT)},
    wrong={
        "type": "array",
        "items": _all(kind={"enum": ["silent", "refused", "clock", "fields"]}, says=TEXT),
    },
)


def routes(services: Services) -> list[Route]:
    def index() -> Reply:
        return Reply({"sources": [told(seen) for seen in _look(services).sources]})

    def get(name: str) -> Reply:
        found = next(iter(_look(services, name).sources), None)
        if found is None:
            raise LookupError(f"there is no source of the name {name[:64]!r}")
        return Reply(told(found))

    says = "Who sends, by the name of its key: when and how much, what was refused, its clock, and what is wrong first"
    return [
        Route("GET", "/sources", index, says, "sources", listing("sources", _SOURCE)),
        Route("GET", "/sources/<name>", get, "One of them", "sources", _SOURCE, missing=True),
    ]


def _look(services: Services, name: str | None = None) -> Shown:
    with lookup.reading(services.engine) as conn:
        shown = watching.look(conn, services, name)
    reading.note(shown.outage)
    return shown
