"""Ingest: events come in. A 2xx means that they stand in Redis' append-only file, or in PostgreSQL's spill (P1)."""

from __future__ import annotations

import logging
import re
import time
from datetime import UTC, datetime

import orjson
import redis
from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import (
    ClientDisconnected,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from mutt.errors import RejectedBody, StreamAway, Unavailable
from mutt.event import uuid7
from mutt.formats import body as bodies
from mutt.formats import registry
from mutt.formats.base import Context, Parsed
from mutt.metrics import Metrics
from mutt.pipeline.accept import AWAY, Contribution, Reply, Request, idempotency, listed, size_of
from mutt.services import Services
from mutt.web.keys import Keys, presented
from mutt.web.openapi import openapi
from mutt.web.problem import problem
from mutt.web.whole import take_whole_bodies

log = logging.getLogger("mutt.ingest")

blueprint = Blueprint("ingest", __name__)

PATHS = ("/ingest", "/api/v1/ingest", "/api/v2/ingest")

#: What a correlation id may be made of: it goes to logs and headers.
CORRELATION = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")


_NO_KEY = (
    "the API key is missing or not known: send the one that you were given in the header X-API-KEY,"
    " or as Authorization: Bearer, or as the password of Basic"
)

#: What to do about errors that HTTP itself has words for.
_REMEDIES: dict[type[HTTPException], str] = {
    NotFound: "there is no such address: events are posted to /ingest",
    MethodNotAllowed: "this address does not know this method: post events to /ingest",
    ClientDisconnected: "the body ended before its Content-Length: send it whole",
}


class Ingest:
    """What the views need: services, keys and their own settings."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.settings
        self.keys = Keys(services.redis, self.settings.ingest_api_key)
        self._rounds = services.rounds  # made now, not by two threads at once
        self._away_until = float("-inf")

    def accept(self, parsed: Parsed, about: Request, since: float) -> Reply:
        """Join a round. ``since`` is when the request began to wait (monotonic). Raises Unavailable."""
        try:
            reply = self._rounds.submit(Contribution(about, parsed), size_of(parsed), since=since)
        except StreamAway:
            self._note_outage()
            raise
        if reply.body["batch_id"] != about.batch_id:
            return reply  # a known Idempotency-Key: nothing was added
        self.services.metrics.accepted.inc(len(parsed.events))
        self.count_rejected(parsed)
        if reply.body.get("spilled"):
            self.services.metrics.spilled.inc(len(parsed.events))
            self._note_outage()
        if parsed.rejected:
            self.keep_rejected(parsed, about.key_id)
        return reply

    def count_rejected(self, parsed: Parsed) -> None:
        """They are in no book: this is where a broken sender shows."""
        self.services.metrics.rejected.inc(len(parsed.rejected))

    def keep_rejected(self, parsed: Parsed, key_id: str) -> None:
        """The sender was told which items are bad; keeping them is for convenience only, and waits for no outage."""
        if time.monotonic() < self._away_until:
            return
        try:
            self.services.letters.keep_rejected(
                key_id, parsed.rejected, most_bytes=self.settings.ingest_dlq_bytes
            )
        except redis.RedisError as error:
            self._note_outage()
            log.warning("rejected items not kept: %s", error)

    def _note_outage(self) -> None:
        self._away_until = time.monotonic() + AWAY


def make_ingest(services: Services) -> Flask:
    """The WSGI application of ingest."""
    app = Flask("mutt.ingest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.settings.ingest_max_body
    app.extensions["ingest"] = Ingest(services)
    app.extensions["refused"] = lambda status: _count(services.metrics, status, "unknown")
    app.register_blueprint(blueprint)
    app.register_blueprint(openapi(services.settings))
    app.register_error_handler(HTTPException, _http_error)
    take_whole_bodies(app)
    return app


def keys_of(app: Flask) -> Keys:
    """The API keys, as this application of ingest knows them."""
    found: Ingest = app.extensions["ingest"]
    return found.keys


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, RequestEntityTooLarge):
        return _counted(_too_large(), "unknown")
    response = problem(error.code or 500, _REMEDIES.get(type(error)) or error.description or error.name)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return _counted(response, "unknown")


def _ingest() -> Ingest:
    found: Ingest = current_app.extensions["ingest"]
    return found


@blueprint.route(PATHS[0], methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route(PATHS[1], methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route(PATHS[2], methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route("/ingest/<_format>", methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
def alive(_format: str = "") -> Response:
    """Senders' health checks."""
    return Response(
        b'{"status":"ok"}', mimetype="application/json", headers={"Allow": "GET, HEAD, OPTIONS, POST"}
    )


@blueprint.post(PATHS[0])
@blueprint.post(PATHS[1])
@blueprint.post(PATHS[2])
@blueprint.post("/ingest/<format_>")
def ingest(format_: str = "") -> Response:
    """Events in any known format, one or many."""
    started = time.monotonic()
    correlation_id = _correlation_id()
    response = _counted(_answer(format_, correlation_id, started), format_ or "sniffed")
    response.headers["X-Correlation-ID"] = correlation_id
    _ingest().services.metrics.seconds.labels("ingest").observe(time.monotonic() - started)
    return response


def _counted(response: Response, format_: str) -> Response:
    known = format_ if format_ in ("sniffed", *registry.FORMATS) else "unknown"
    _count(_ingest().services.metrics, response.status_code, known)
    return response


def _count(metrics: Metrics, status: int, format_: str) -> None:
    metrics.requests.labels(str(status), format_).inc()


def _answer(format_: str, correlation_id: str, since: float) -> Response:
    key = presented(request.headers)
    try:
        key_id = _ingest().keys.identify(key) if key is not None else None
    except Unavailable as error:
        return problem(503, error.reason, correlation_id=correlation_id, retry_after=error.retry_after)
    if key_id is None:
        return problem(401, _NO_KEY, correlation_id=correlation_id)
    if format_ and registry.get(format_) is None:
        known = ", ".join(sorted(registry.FORMATS))
        return problem(
            404,
            f"no format is called so; post to /ingest, or name one of: {known}",
            correlation_id=correlation_id,
        )
    before_body = time.monotonic()
    try:
        body = _body()
        parsed = _parsed(format_, body, key_id)
        # What the upload and its reading took is not Redis' time: a slow sender has its second all the same.
        since += time.monotonic() - before_body
        about = Request(str(uuid7()), correlation_id, key_id, _idempotency(key_id, body))
        if not parsed.events:
            return _all_rejected(parsed, about)
        reply = _ingest().accept(parsed, about, since)
    except RejectedBody as error:
        return _rejected(error, correlation_id)
    except Unavailable as error:
        why = f"{error.reason}; send it again in {error.retry_after} s"
        return problem(503, why, correlation_id=correlation_id, retry_after=error.retry_after)
    return Response(orjson.dumps(reply.body), 202, mimetype="application/json")


def _correlation_id() -> str:
    given = request.headers.get("X-Correlation-ID", "")
    return given if CORRELATION.fullmatch(given) else str(uuid7())


def _body() -> bytes:
    most = _ingest().settings.ingest_max_body
    return bodies.decompress(request.get_data(cache=False), request.headers.get("Content-Encoding", ""), most)


def _parsed(format_: str, body: bytes, key_id: str) -> Parsed:
    context = Context(
        received_at=datetime.now(UTC),
        key_id=key_id,
        max_event=_ingest().settings.ingest_max_event,
        default_host=request.remote_addr or "unknown",
    )
    found = registry.get(format_) or registry.sniff(body, request.content_type or "")
    return registry.parse(found, body, context)


def _idempotency(key_id: str, body: bytes) -> str:
    given = request.headers.get("Idempotency-Key", "")
    return idempotency(key_id, given, body) if given else ""


def _all_rejected(parsed: Parsed, about: Request) -> Response:
    ingest = _ingest()
    ingest.count_rejected(parsed)
    told = listed(parsed)
    first = told["rejected"][0]
    why = f"no item can be taken; item {first['index']}: {first['field']}: {first['reason']}"
    response = problem(400, why, correlation_id=about.correlation_id, **first, **told)
    # Behind the answer: its sender does not wait for what we keep.
    response.call_on_close(lambda: ingest.keep_rejected(parsed, about.key_id))
    return response


def _rejected(error: RejectedBody, correlation_id: str) -> Response:
    return problem(
        error.status, str(error), correlation_id=correlation_id, field=error.field, reason=error.reason
    )


def _too_large() -> Response:
    most = _ingest().settings.ingest_max_body
    return problem(413, f"body: is larger than {most} bytes: send it in parts", field="body")
