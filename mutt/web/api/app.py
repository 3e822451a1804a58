"""The API on the admin's application: its routes, its description, and the page to try it."""

from __future__ import annotations

import orjson
from flask import Blueprint, Flask, Response, render_template
from flask_login import current_user

from mutt.services import Services
from mutt.web.api import keys, pulse, records, rules, ruleset, sources, state
from mutt.web.api.holders import Holders
from mutt.web.api.openapi import document
from mutt.web.api.routes import Route
from mutt.web.api.wire import VERSIONS, blueprint

#: Swagger UI draws small pictures from its style sheet; all the rest is as on every page.
DOCS_POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'"
)


def all_routes(services: Services) -> list[Route]:
    """Every operation there is."""
    # What is fixed comes before what is any name: /rules/lint before /rules/<id> would be the same to Flask.
    modules = (rules, ruleset, records, keys, sources, pulse, state)
    return [route for module in modules for route in module.routes(services)]


def add_api(app: Flask, services: Services) -> None:
    """Give ``app`` the API under every version, ``openapi.json`` and ``/api/docs``."""
    routes = all_routes(services)
    holders = app.extensions["holders"] = Holders(services)
    for version in VERSIONS:
        made = blueprint(version, holders, routes)
        app.extensions["csrf"].exempt(
            made
        )  # it asks for the token itself, where a session is shown and no key
        app.register_blueprint(made)
    docs = _docs(orjson.dumps(document(routes), option=orjson.OPT_INDENT_2))
    app.register_blueprint(docs)


def _docs(written: bytes) -> Blueprint:
    made = Blueprint("api_docs", __name__)

    @made.get("/api/openapi.json")
    @made.get("/api/v1/openapi.json")
    @made.get("/api/v2/openapi.json")
    def openapi() -> Response:
        return Response(written, mimetype="application/json")

    @made.get("/api/docs")
    def docs() -> Response:
        page = render_template("api_docs.html", session=current_user.is_authenticated)
        return Response(page, headers={"Content-Security-Policy": DOCS_POLICY})

    return made
