"""The admin's WSGI application."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import redis
from flask import Flask, Response, render_template, request, url_for
from flask_admin import Admin, BaseView
from flask_login import current_user
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from sqlalchemy import Engine
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.wrappers import Response as AnyResponse

from mutt.errors import ArchiveUnreadable, NoRuleset, PoisonRow, SettingsError, StoreDown, Unavailable
from mutt.rules.change import falls_silent
from mutt.rules.hosts import kind_of
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.streams.letters import NoLetter
from mutt.streams.stream import Ring
from mutt.told import teller
from mutt.web import reading
from mutt.web.admin.backtests import Backtests
from mutt.web.admin.board import rate, share
from mutt.web.admin.devices import Hosts, Teams
from mutt.web.admin.keys import Keys
from mutt.web.admin.letters import DeadLetters
from mutt.web.admin.lint import Lint
from mutt.web.admin.maintenance import Maintenance
from mutt.web.admin.navigation import grouped
from mutt.web.admin.page import correlation_id, here, in_place
from mutt.web.admin.pipeline import Pipeline
from mutt.web.admin.profile import Profile
from mutt.web.admin.records import Alerts, Audit, History, apart, changed_fields
from mutt.web.admin.redactions import RedactionPages
from mutt.web.admin.rules import Rules
from mutt.web.admin.runbook import Runbook
from mutt.web.admin.shadow import Shadows
from mutt.web.admin.sources import Sources
from mutt.web.admin.storms import Storms
from mutt.web.admin.tester import Tester
from mutt.web.admin.users import Users
from mutt.web.admin.versions import Versions
from mutt.web.api.app import add_api
from mutt.web.api.wire import refusal
from mutt.web.auth import add_login
from mutt.web.headers import PAGES
from mutt.web.health import Need, health
from mutt.web.measured import measure
from mutt.web.proxies import Proxies, believing
from mutt.web.roles import may
from mutt.web.whole import take_whole_bodies
from mutt.words import age, many, printable, span

log = logging.getLogger("mutt.admin")

#: Bytes of a form: a copy of a dead letter may hold its text twice, and each of its bytes written as three.
FORM_MAX = 4 << 20

#: Whoever came by HTTPS once comes by nothing else, for a year: not even the first request of a day goes in the clear.
HSTS = "max-age=31536000"

_QUERY_CANCELED = "57014"


def _silent(_queue: str, **_labels: object) -> None:
    """Nobody is rung: the tick rings within a second or two."""


def make_admin(settings: Settings, engine: Engine | None = None, *, ring: Ring = _silent) -> Flask:
    """The admin over ``settings``; ``engine`` stands in for the one that they describe, ``ring`` publishes doorbells.

    More blueprints may be registered on it; one that has its own keys instead of sessions first goes through
    ``app.extensions["csrf"].exempt``.
    """
    services = Services(settings, ring, role="admin", web=True)
    if engine is not None:
        services.engine = engine
    app = Flask("mutt.web")
    # A token lives as long as its session: a rule may take longer than an hour to write.
    app.config.update(MAX_CONTENT_LENGTH=FORM_MAX, MAX_FORM_MEMORY_SIZE=FORM_MAX, WTF_CSRF_TIME_LIMIT=None)
    CSRFProtect(app)
    add_login(app, services)
    _add_pages(app, services)
    _add_errors(app)
    add_api(app, services)
    app.extensions["metrics"] = teller(services, queues=True)
    measure(app, services.meters)
    app.register_blueprint(health(services, {"postgresql": postgresql_need(services)}))
    app.after_request(_guard)
    app.after_request(reading.headed)
    take_whole_bodies(app)
    if proxies := Proxies(settings.trusted_proxies, settings.proxy_headers):
        app.wsgi_app = believing(app.wsgi_app, proxies)  # type: ignore[method-assign,assignment]
    app.add_template_filter(utc)
    app.add_template_filter(stamp)
    app.add_template_filter(age)
    app.add_template_filter(many)
    app.add_template_filter(printable)
    app.add_template_filter(span)
    app.add_template_filter(rate)
    app.add_template_filter(share)
    app.add_template_filter(kind_of)
    app.add_template_filter(changed_fields)
    app.add_template_filter(apart)
    app.add_template_global(here)
    app.add_template_global(may)
    app.add_template_global(reading.notes, "read_notes")
    app.add_url_rule("/favicon.ico", "favicon", lambda: app.send_static_file("favicon.svg"))
    return app


def postgresql_need(services: Services) -> Need:
    """PostgreSQL answers, and is migrated."""

    def ask() -> str:
        with transaction(services.engine) as conn:
            rulebook.current_version(conn)
        return "ok"

    return ask


def utc(time: datetime | None) -> str:
    """A time for people, in UTC."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def stamp(text: str) -> str:
    """The same of a time that was kept as text, RFC 3339 in UTC."""
    return utc(datetime.fromisoformat(text)) if text else ""


class Pages(Admin):
    """Flask-Admin, with its views in the order in which they were added."""

    @property
    def views(self) -> list[BaseView]:
        return list(self._views)


def _add_pages(app: Flask, services: Services) -> None:
    pipeline = Pipeline(services, "Pipeline", "pipeline", "/")
    app.extensions["live"] = pipeline.live(app)
    pages = Pages(app, name="MUTT", url="/", index_view=pipeline)
    pages.add_views(
        Rules(services, "Rules", "rules"),
        Maintenance(services, "Maintenance", "maintenance"),
        Storms(services, "Storms", "storms"),
        RedactionPages(services, "Redactions", "redactions"),
        Tester(services, "Test a rule", "tester", "/rules/test"),
        Backtests(services, "Back-tests", "backtests"),
        Shadows(services, "Shadow", "shadow"),
        Lint(services, "Linter", "lint", "/rules/lint"),
        Versions(services, "Versions", "versions"),
        Hosts(services, "Development hosts", "hosts"),
        Teams(services, "Device teams", "teams"),
        Audit(services, "Audit", "audit"),
        Alerts(services, "Alerts", "alerts"),
        Sources(services, "Sources", "sources"),
        DeadLetters(services, "Dead letters", "letters"),
        Runbook(services, "Runbook", "runbook"),
        Keys(services, "Keys", "keys"),
        History(services, "History", "history"),
        Users(services, "Users", "users"),
        Profile(services, "Profile", "profile"),
    )
    app.context_processor(lambda: {"menu_of": lambda: grouped(pages.views)})
    # A page may point to another where there is one.
    app.add_template_test(app.view_functions.__contains__, "there")
    app.add_template_test(falls_silent, "silencing")


def _add_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        if request.path.startswith("/api/"):
            return refusal(error)  # of an address that no route of the API has
        return _sorry(error.code or 500, error.name, error.description or "")

    @app.errorhandler(BadHost)
    def no_host(_error: BadHost) -> Response:
        # A page would have links, which Flask can't make then.
        return Response("Host: is no name of a host\n", 400, mimetype="text/plain")

    @app.errorhandler(CSRFError)
    def forged(error: CSRFError) -> AnyResponse:
        if not current_user.is_authenticated and request.endpoint != "auth.login":
            if in_place():
                return app.login_manager.unauthorized()  # type: ignore[attr-defined]
            again = "Log in, load the page again, and send the form once more."
            why = f"Your session has ended; nothing was changed. {again}"
            return _sorry(400, "You are not logged in", why, back=url_for("auth.login"))
        remedy = "Nothing was changed. Go back, load the page again, and send the form once more."
        return _sorry(400, "This form can't be trusted", f"{error.description} {remedy}")

    @app.errorhandler(StoreDown)
    def store_down(error: StoreDown) -> Response:
        log.warning("%s %s: %s", request.method, request.endpoint, error)
        if str(error).startswith(_QUERY_CANCELED):
            return _sorry(
                503, "That took too long", "PostgreSQL was stopped: ask for a shorter time, or for one host."
            )
        return _sorry(503, "PostgreSQL does not answer", "Nothing was changed. Try again in a moment.")

    @app.errorhandler(ArchiveUnreadable)
    def archive_unreadable(error: ArchiveUnreadable) -> Response:
        log.warning("%s %s: %s", request.method, request.endpoint, error)
        return _sorry(
            503, "An archive can't be read", f"{error}. `mutt audit verify` says which are damaged."
        )

    @app.errorhandler(redis.RedisError)
    def redis_down(error: redis.RedisError) -> Response:
        log.warning("%s %s: %s", request.method, request.endpoint, error)
        return _sorry(
            503, "Redis does not answer", "What was asked may or may not be done. Look again in a moment."
        )

    @app.errorhandler(SettingsError)
    def unset(error: SettingsError) -> Response:
        return _sorry(
            503, "Not set up", f"{error.name} is not what this page needs: expected {error.expected}."
        )

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> Response:
        return _sorry(503, "Not now", f"Nothing was changed: {error.reason}. Try again in a moment.")

    @app.errorhandler(NoLetter)
    def gone(error: NoLetter) -> Response:
        return _sorry(404, "No such letter", f"{error}. Nothing was changed.")

    @app.errorhandler(NoRuleset)
    def no_rules(error: NoRuleset) -> Response:
        return _sorry(503, "There are no rules to ask", f"{error}. Nothing was changed.")

    @app.errorhandler(PoisonRow)
    def poison(error: PoisonRow) -> Response:
        log.warning("%s %s: %s", request.method, request.endpoint, error)
        return _sorry(
            400, "That can't be stored", "Nothing was changed: the text holds what PostgreSQL refuses."
        )


def _sorry(status: int, title: str, sentence: str, *, back: str = "") -> Response:
    shown = render_template("error.html", status=status, title=title, sentence=sentence, back=back)
    return Response(shown, status)


def _guard(response: Response) -> Response:
    for name, value in PAGES.items():
        response.headers.setdefault(name, value)
    # Flask writes it in small letters; host_url is for people, where the name is not ASCII.
    root = f"{request.scheme}://{request.host}/".lower()
    if response.location and response.location.lower().startswith(root):
        # As a path: a Host that somebody made up leads nowhere, and one that a proxy changed is not needed.
        response.location = "/" + response.location[len(root) :]
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    if request.method == "POST":
        response.headers.setdefault("X-Correlation-ID", correlation_id())
    if request.endpoint not in ("static", "favicon") or response.status_code >= 400:
        response.headers.setdefault("Cache-Control", "no-store")
    return response
