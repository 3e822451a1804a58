"""Ingest: events come in. A 2xx means that they stand in Redis' append-only file, or in PostgreSQL's spill (P1)."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed, NotFound

from mutt.services import Services
from mutt.told import teller
from mutt.web.addressed import key_in_address, take_keys
from mutt.web.handshake import agreed
from mutt.web.headers import DATA
from mutt.web.health import Now, ingest_needs
from mutt.web.intake import Intake
from mutt.web.keys import Keys
from mutt.web.openapi import openapi
from mutt.web.post import Post
from mutt.web.problem import problem
from mutt.web.replies import flask_response
from mutt.web.splunk import collector
from mutt.web.whole import take_whole_bodies, whole_body

blueprint = Blueprint("ingest", __name__)

PATHS = ("/ingest", "/api/v1/ingest", "/api/v2/ingest")

ALLOW = {"Allow": "GET, HEAD, OPTIONS, POST"}

#: What to do about errors that HTTP itself has words for.
_REMEDIES: dict[type[HTTPException], str] = {
    NotFound: "there is no such address: events are posted to /ingest",
    MethodNotAllowed: "this address does not know this method: post events to /ingest",
    ClientDisconnected: "the body ended before its Content-Length: send it whole",
}


def make_ingest(services: Services) -> Flask:
    """The WSGI application of ingest."""
    app = Flask("mutt.ingest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.settings.ingest_max_body
    intake = app.extensions["ingest"] = Intake(services)
    app.extensions["lane"] = intake.answer_all
    app.extensions["heard"] = intake.heard
    app.extensions["metrics"] = teller(services, queues=False)
    app.extensions["meters"] = "ingest", services.meters
    app.extensions["traces"] = services.traces
    app.extensions["refused"] = lambda status: _count(services, status)
    app.register_blueprint(blueprint)
    ready = Now(ingest_needs(services, intake.keys.need))
    app.register_blueprint(collector(intake, ready.met, partial(_count, services)))
    app.register_blueprint(openapi(services.settings))
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(_guard)
    take_whole_bodies(app)
    take_keys(app)
    return app


def keys_of(app: Flask) -> Keys:
    """The API keys, as this application of ingest knows them."""
    found: Intake = app.extensions["ingest"]
    return found.keys


def _http_error(error: HTTPException) -> Response:
    answer = problem(error.code or 500, _REMEDIES.get(type(error)) or error.description or error.name)
    response = flask_response(answer)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    _count(_intake().services, answer.status)
    return response


def _guard(response: Response) -> Response:
    response.headers.update(DATA)
    return response


def _count(services: Services, status: int) -> None:
    """A request that no view saw."""
    services.metrics.requests.labels(str(status), "unknown").inc()
    services.metrics.refused.labels("http").inc()


def _intake() -> Intake:
    found: Intake = current_app.extensions["ingest"]
    return found


@blueprint.route(PATHS[0], methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route(PATHS[1], methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route(PATHS[2], methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route("/ingest/<_format>", methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route("/signed/<_source>", methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False)
@blueprint.route(
    "/signed/<_source>/<_format>", methods=["GET", "HEAD", "OPTIONS"], provide_automatic_options=False
)
def alive(_source: str = "", _format: str = "") -> Response:
    """Senders' health checks, and CloudEvents' question whether we want their events."""
    response = Response(b'{"status":"ok"}', mimetype="application/json", headers=ALLOW)
    if request.method == "OPTIONS":
        response.headers.update(agreed(request.headers))
    return response


@blueprint.post(PATHS[0])
@blueprint.post(PATHS[1])
@blueprint.post(PATHS[2])
@blueprint.post("/ingest/<format_>")
@blueprint.post("/signed/<source>")
@blueprint.post("/signed/<source>/<format_>")
def ingest(source: str = "", format_: str = "") -> Response:
    """Events in any known format, one or many."""
    key = key_in_address(request.environ)
    post = Post(request.headers, request.remote_addr or "unknown", format_, source=source, key=key)
    return flask_response(_intake().answer(post, whole_body))


@blueprint.post("/ingest/alertmanager/api/v2/alerts")
def alerts() -> Response:
    """What Prometheus and others send to an Alertmanager: they add the path to the address that they are given."""
    return ingest(format_="alertmanager")
