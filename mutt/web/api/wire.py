"""What all of the API shares: who asks, what they send, how they are answered, also when it is refused."""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson
import redis
from flask import Blueprint, Response, g, request
from flask_login import current_user
from flask_wtf.csrf import CSRFError, validate_csrf
from werkzeug.exceptions import HTTPException
from wtforms.validators import ValidationError

from mutt.errors import (
    ArchiveUnreadable,
    ManyRefused,
    NoRuleset,
    Overwrites,
    PoisonRow,
    Refused,
    SettingsError,
    StoreDown,
    Unavailable,
)
from mutt.store.history import Said
from mutt.web import roles
from mutt.web.admin.page import correlation_id
from mutt.web.answer import Answer
from mutt.web.api.holders import Holders
from mutt.web.api.routes import Reply, Route
from mutt.web.api.wrong import Wrong as Wrong
from mutt.web.keys import presented
from mutt.web.problem import problem

log = logging.getLogger("mutt.api")

VERSIONS = ("v1", "v2")
CURRENT = VERSIONS[-1]

#: Characters of a reason.
REASON_MAX = 500

#: PostgreSQL's integer.
INTEGER_MAX = 2**31 - 1

#: Requests that a process works at once, and seconds that another waits for its turn before it is refused.
AT_ONCE, TURN_WAIT = 4, 2.0

_turns = threading.BoundedSemaphore(AT_ONCE)

_SAFE = ("GET", "HEAD", "OPTIONS")


class Stale(Wrong):
    """The writer's ``If-Match`` is not what stands."""

    def __init__(self, stands: Any, etag: str) -> None:
        detail = "it was changed since you read it: read it again, and send your change with the new ETag"
        super().__init__(HTTPStatus.PRECONDITION_FAILED, detail, stands=stands)
        self.etag = etag


#: What ends a request with a problem document.
_TOLD: tuple[type[Exception], ...] = (Wrong, HTTPException, CSRFError, Refused, ManyRefused, LookupError)
_TOLD += (PoisonRow, StoreDown, ArchiveUnreadable, Unavailable, SettingsError, NoRuleset, redis.RedisError)


def blueprint(version: str, holders: Holders, routes: Collection[Route]) -> Blueprint:
    """The API as one version shows it; all of them do the same."""
    made = Blueprint(f"api_{version}", __name__, url_prefix=f"/api/{version}")
    made.before_request(_who(holders))
    for number, route in enumerate(routes):
        made.add_url_rule(route.path, f"{route.tag}_{number}", _answering(route), methods=[route.method])
    made.after_request(_headed)
    for kind in _TOLD:
        made.register_error_handler(kind, refusal)
    return made


def _who(holders: Holders) -> Callable[[], None]:
    def check() -> None:
        # A proxy in front may want a login of its own, by Basic: that is no key of ours, where somebody is logged in.
        basic = request.authorization is not None and request.authorization.type == "basic"
        proxied = basic and "X-API-KEY" not in request.headers and current_user.is_authenticated
        key = None if proxied else presented(request.headers)
        g.by_session = key is None
        if key is not None:
            g.who = holders.of(key)
        elif current_user.is_authenticated:
            # A browser sends the cookie by itself: so a change needs the token, which only our pages know.
            if request.method not in _SAFE:
                try:
                    validate_csrf(request.headers.get("X-CSRFToken", ""))
                except ValidationError as error:
                    raise Wrong(400, f"{error} Send it as X-CSRFToken, or use a key.") from None
            g.who = current_user.name
        else:
            raise Wrong(401, "no key: send it as X-API-KEY, or as a Bearer token")

    return check


def _answering(route: Route) -> Callable[..., Response]:
    def answer(**named: Any) -> Response:
        if g.by_session:
            roles.check(route.needs.of(route.method))
        _check_query(route)
        reply = _in_turn(route, named)
        response = json(reply.value, reply.status)
        if reply.etag:
            response.headers["ETag"] = f'"{reply.etag}"'
        if reply.location:
            response.headers["Location"] = (
                request.script_root + request.path.rstrip("/") + "/" + reply.location
            )
        return response

    answer.needs = route.needs  # type: ignore[attr-defined]
    return answer


def _in_turn(route: Route, named: Mapping[str, Any]) -> Reply:
    # Scripts get a few threads of a process, so that the pages keep theirs.
    if not _turns.acquire(timeout=TURN_WAIT):
        raise Wrong(429, "too many requests are worked at once: send fewer side by side", retry_after=1)
    try:
        return route.do(**named)
    finally:
        _turns.release()


def json(value: Any, status: int = 200) -> Response:
    body = b"" if status == HTTPStatus.NO_CONTENT else orjson.dumps(value, default=str)
    return Response(body, status, mimetype="application/json")


def _headed(response: Response) -> Response:
    version = request.path.split("/")[2]
    response.headers["X-API-Version"] = version if version in VERSIONS else CURRENT
    response.headers["X-API-Supported-Versions"] = ", ".join(VERSIONS)
    response.headers["X-Correlation-ID"] = correlation_id()
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def answered(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), content_type=answer.type)


def refusal(error: Exception) -> Response:
    status, detail, retry_after, more = _said(error)
    made = problem(status, detail, correlation_id=correlation_id(), retry_after=retry_after, **more)
    response = answered(made)
    if isinstance(error, Stale):
        response.headers["ETag"] = f'"{error.etag}"'
    if isinstance(error, HTTPException) and error.code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(getattr(error, "valid_methods", None) or ())
    return _headed(response)


def _said(error: Exception) -> tuple[int, str, int | None, dict[str, Any]]:
    more: dict[str, Any]
    match error:
        case Wrong():
            return error.status, error.detail, error.retry_after, error.more
        case Overwrites():
            return 412, f"{error.reason} Read it again.", None, {}
        case Refused():
            more = {"field": error.field, "reason": error.reason} if error.field else {"reason": error.reason}
            return 422 if error.field else 409, str(error).strip(), None, more
        case ManyRefused():
            more = {
                "errors": [
                    {"index": index, "field": one.field, "reason": one.reason}
                    for index, one in error.reasons.items()
                ]
            }
            return 422, "some of them can't be saved, so none was", None, more
        case HTTPException():
            return error.code or 500, error.description or error.name, None, {}
        case KeyError() | IndexError():
            raise error  # a fault of ours, and nothing that is missing
        case LookupError():
            return 404, str(error.args[0] if error.args else "there is no such thing"), None, {}
        case PoisonRow():
            return 422, "it holds what PostgreSQL can't keep", None, {}
        case StoreDown():
            log.warning("%s %s: %s", request.method, request.path, error)
            if error.sqlstate == "57014":
                return 503, "that took too long: ask for a shorter time, or for one host", 5, {}
            return 503, "PostgreSQL does not answer; nothing was changed", 2, {}
        case ArchiveUnreadable():
            return 503, f"{error}: `mutt audit verify` says which are damaged", None, {}
        case Unavailable():
            return 503, error.reason, round(error.retry_after) or 1, {}
        case SettingsError():
            return 503, f"{error.name} is not what this needs: expected {error.expected}", 60, {}
        case NoRuleset():
            return 503, f"there are no rules to ask: {error}", 5, {}
    log.warning("%s %s: %s", request.method, request.path, type(error).__name__)
    return 503, "Redis does not answer", 2, {}


def said() -> Said:
    """Who makes a change, why (``X-Change-Reason``), and in which request."""
    reason = request.headers.get("X-Change-Reason", "").encode("latin-1", "replace").decode(errors="replace")
    return {"changed_by": g.who, "reason": reason[:REASON_MAX], "correlation_id": correlation_id()}


def body() -> dict[str, Any]:
    """The JSON object that was sent. Raises :class:`Wrong`."""
    found = value()
    if not isinstance(found, dict):
        raise Wrong(400, "the body is no JSON object")
    return found


def value() -> Any:
    """The JSON that was sent. Raises :class:`Wrong`."""
    if request.mimetype != "application/json":
        raise Wrong(415, "send JSON, with Content-Type: application/json")
    try:
        return orjson.loads(request.get_data())
    except orjson.JSONDecodeError as error:
        raise Wrong(400, f"the body is no JSON: {error}") from None


def known(given: Mapping[str, Any], fields: Collection[str]) -> None:
    """Refuse what is no field. Raises :class:`Refused`."""
    for name in given:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise Refused(name or "a name", f"is no field here; {hint}")  # without one it would be a conflict


def match() -> frozenset[str] | None:
    """The ETags of ``If-Match``: the writer has seen one of them. None: they overwrite whatever stands."""
    given = request.headers.get("If-Match", "").strip()
    if given in ("", "*"):
        return None
    # A proxy that compresses answers makes an ETag weak.
    return frozenset(one.strip().removeprefix("W/").strip('"') for one in given.split(","))


def _check_query(route: Route) -> None:
    known(request.args, route.query.keys())


def number(name: str, default: int | None = None, *, low: int = 0, high: int = INTEGER_MAX) -> int | None:
    """A whole number of the query. Raises :class:`Refused`."""
    given = request.args.get(name, "").strip()
    if not given:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 11 and low <= int(given) <= high):
        raise Refused(name, f"{given[:60]!r} is no whole number from {low} to {high}")
    return int(given)


def time(name: str) -> datetime | None:
    """A time of the query (RFC 3339, or a day); without a zone it is UTC. Raises :class:`Refused`."""
    given = request.args.get(name, "").strip()
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given.replace(" ", "+") if "T" in given else given)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Refused(name, f"{given[:60]!r} is no time; write one such as 2026-03-04T09:15:00Z") from None


def text(name: str, most: int = 255) -> str:
    """A text of the query. Raises :class:`Refused`."""
    given = request.args.get(name, "").strip()
    if len(given) > most or "\0" in given:
        raise Refused(name, f"is longer than {most} characters, or holds NUL")
    return given


def page_of(limit: int = 100, most: int = 1000) -> tuple[int, int]:
    """``page`` (from 1) and ``limit`` of the query. Raises :class:`Refused`."""
    return number("page", 1, low=1, high=1_000_000) or 1, number("limit", limit, low=1, high=most) or limit


def paged(total: int, page: int, limit: int) -> dict[str, int]:
    """What a page says of its list."""
    return {"page": page, "limit": limit, "total": total, "pages": -(-total // limit)}
