"""How the pipeline is at this moment: the newest reading, what is wrong, and the last hour."""

from __future__ import annotations

from mutt.pulse.collect import reading
from mutt.pulse.sample import TROUBLES, Point
from mutt.pulse.told import told
from mutt.services import Services
from mutt.web.api.routes import COUNT, FLAG, TEXT, Json, Reply, Route, obj, or_null

_NUMBER: Json = {"type": "number"}
_COUNTS: Json = {"type": "object", "additionalProperties": COUNT}


def _all(**properties: Json) -> Json:
    return obj(" ".join(properties), **properties)


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


_QUEUE = _all(name=TEXT, entries=COUNT, oldest_s=_NUMBER, held=COUNT, behind=COUNT)
_PROCESS = _all(
    name=TEXT,
    role=TEXT,
    at=_NUMBER,
    cpu=_NUMBER,
    rss=COUNT,
    busy=_NUMBER,
    slots=COUNT,
    events=_NUMBER,
    p50_ms=or_null(_NUMBER),
    p99_ms=or_null(_NUMBER),
    store_share=_NUMBER,
    commit_ms=or_null(_NUMBER),
    starved=_NUMBER,
    refused=_NUMBER,
    queued=COUNT,
)
_REDIS = _all(name=TEXT, memory=COUNT, max_memory=COUNT, cpu=_NUMBER, commands=_NUMBER)
_POSTGRES = _all(
    answer_ms=_NUMBER, rows=_NUMBER, commit_ms=or_null(_NUMBER), connections=COUNT, max_connections=COUNT
)
_MOOG = _all(
    breaker={"enum": ["closed", "open", "half open"]},
    reason=TEXT,
    until=_NUMBER,
    paused_until=_NUMBER,
    limit=COUNT,
    period=_NUMBER,
    used=COUNT,
    latency_ms=or_null(_NUMBER),
    slots=COUNT,
)
_SAMPLE = _all(
    at=_NUMBER,
    queues=_list(_QUEUE),
    events=_COUNTS,
    alerts=_COUNTS,
    processes=_list(_PROCESS),
    redis=_list(_REDIS),
    postgres=or_null(_POSTGRES),
    moog=_MOOG,
    away={"type": "object", "additionalProperties": TEXT},
    silent={"type": "object", "additionalProperties": _NUMBER},
)
_TROUBLE = _all(
    name={"enum": list(TROUBLES)}, title=TEXT, why=TEXT, do=TEXT, command=TEXT, urgent=FLAG, entry=TEXT
)
_HOUR = _all(**{name: _list(_NUMBER) for name in Point.__struct_fields__})


def routes(services: Services) -> list[Route]:
    def pulse() -> Reply:
        return Reply(told(reading(services)))

    says = "The pipeline now: queues, processes, servers and Moog; what holds it up; the last hour, a list a column"
    return [
        Route(
            "GET", "/pulse", pulse, says, "pulse", _all(sample=_SAMPLE, troubles=_list(_TROUBLE), hour=_HOUR)
        )
    ]
