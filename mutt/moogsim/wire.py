"""Wire: what a request to Moog holds, and what Moog says to it, in both dialects."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from mutt.moogsim.script import MARKER, Behaviour, Step

CLOUD_PATH = "/v1/integrations/events"
ENTERPRISE_PATH = "/events/"

SEVERITIES = ("clear", "unknown", "warning", "minor", "major", "critical")
REQUIRED = {
    "enterprise": ("signature", "severity"),
    "cloud": ("source", "check", "severity", "description"),
}


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one request, the same for both dialects."""

    signature: str
    event_id: str  #: MUTT's, else the sender's own id
    severity: int  #: 0 clear … 5 critical
    source: str
    description: str
    event: dict[str, Any]  #: as it came


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What Moog says, and whether it took the events."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = {}
    taken: bool = False


class BadBody(Exception):
    """Not what Moog's documentation describes; the text says which field."""


def dialect_of(path: str) -> str | None:
    """Which dialect is spoken at ``path``; None: not one of Moog's."""
    path = path.partition("?")[0]
    if path == CLOUD_PATH:
        return "cloud"
    return "enterprise" if path.startswith(ENTERPRISE_PATH) else None


def read(dialect: str, body: bytes) -> list[Came]:
    """The events of a request. Raises :class:`BadBody`."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(f"no JSON: {error}") from None
    if isinstance(given, dict):
        given = given["events"] if dialect == "enterprise" and "events" in given else [given]
    if not isinstance(given, list):
        raise BadBody("expected events")
    return [_event(dialect, event) for event in given]


def _event(dialect: str, event: Any) -> Came:
    if not isinstance(event, dict):
        raise BadBody("an event must be an object")
    missing = [name for name in REQUIRED[dialect] if event.get(name) in (None, "")]
    if missing:
        raise BadBody(f"missing: {', '.join(missing)}")
    extras = event.get("custom_info" if dialect == "enterprise" else "tags")
    own = extras.get("event_id") if isinstance(extras, dict) else None
    key = event.get("signature") or event.get("deduplication_key")
    return Came(
        signature=str(key or f"{event['source']}::{event['check']}"),
        event_id=str(own or event.get("external_id") or ""),
        severity=_severity(event["severity"]),
        source=str(event.get("source", "")),
        description=str(event.get("description", "")),
        event=event,
    )


def _severity(given: Any) -> int:
    word = str(given).lower()
    if word in SEVERITIES:
        return SEVERITIES.index(word)
    if word in {"0", "1", "2", "3", "4", "5"}:
        return int(word)
    raise BadBody(f"severity: {word[:20]}")


def authorised(headers: Mapping[str, str], key: str) -> bool:
    """Does the request carry ``key``, as ``apiKey``, Bearer, or the password of Basic?"""
    lower = {name.lower(): value for name, value in headers.items()}
    scheme, _, given = lower.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode(errors="replace").partition(":")[2]
        except binascii.Error:
            given = ""
    given = lower.get("apikey", "") or given
    return hmac.compare_digest(given.encode(errors="replace"), key.encode())


def failure(status: int, message: str) -> Reply:
    """An answer that takes nothing."""
    return Reply(status=status, body={"status": "error", "success": False, "message": message})


def reply(step: Step, dialect: str, events: list[Came]) -> Reply:
    """What Moog says to ``events`` under ``step``."""
    marked = any(MARKER in event.description for event in events)
    match step.behaviour:
        case Behaviour.SUCCESS_FALSE:
            return failure(200, "the events could not be processed")
        case Behaviour.BAD_MARKED if marked:
            return failure(400, f"an event holds {MARKER}")
        case Behaviour.FAIL_MARKED if marked:
            return failure(500, f"an event holds {MARKER}")
        case Behaviour.FORBID_MARKED if marked:
            return failure(403, "forbidden")
        case Behaviour.FALSE_MARKED if marked:
            return failure(200, f"an event holds {MARKER}")
        case Behaviour.TOO_LARGE if len(events) > step.max_events:
            return failure(413, f"more than {step.max_events} events")
        case Behaviour.REDIRECT:
            return Reply(status=302, body={}, headers={"Location": "/redirected"})
        case Behaviour.UNAUTHORIZED:
            return failure(401, "API Key required")
        case Behaviour.FORBIDDEN:
            return failure(403, "forbidden")
        case Behaviour.NOT_FOUND:
            return failure(404, "not found")
        case Behaviour.THROTTLED | Behaviour.ERROR | Behaviour.UNAVAILABLE:
            return _later(step)
    status = 202 if step.behaviour is Behaviour.ACCEPTED else 200
    happened = {"success": True} if dialect == "enterprise" else {"status": "success"}
    said = happened | {"message": f"Processed {len(events)} events"}
    return Reply(status=status, body=said, taken=True)


def _later(step: Step) -> Reply:
    headers = {} if step.retry_after is None else {"Retry-After": _number(step.retry_after)}
    return msgspec.structs.replace(failure(int(step.behaviour), "later"), headers=headers)


def _number(given: float | str) -> str:
    return given if isinstance(given, str) else f"{given:g}"
