"""Page: what every page of the admin shares: the login, the store, and the status of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from flask import Response, current_app, flash, g, redirect, render_template, request, url_for
from flask_admin import BaseView
from flask_login import current_user
from sqlalchemy import Engine
from werkzeug.wrappers import Response as AnyResponse

from mutt.event import uuid7
from mutt.services import Services
from mutt.store.history import Said
from mutt.web import roles
from mutt.web.post import CORRELATION
from mutt.web.roles import USUAL

#: Rows of a list that a page shows; a search finds the others.
SHOWN = 500

#: Rows of a list that is looked at page by page.
A_PAGE = 100

#: What was sent can't be saved; the page says why.
REFUSED = 422

#: It would write over a change that the writer has not seen.
CONFLICT = 409

_Row = TypeVar("_Row")


class Page(BaseView):
    """One entry of the menu, for who is logged in and has the role that it ``needs``."""

    needs = USUAL

    def __init__(self, services: Services, name: str, endpoint: str, url: str | None = None) -> None:
        super().__init__(name=name, endpoint=endpoint, url=url)
        self.services = services

    @property
    def engine(self) -> Engine:
        return self.services.engine

    def is_accessible(self) -> bool:
        return bool(current_user.is_authenticated)

    def is_visible(self) -> bool:
        return current_user.may(self.needs.reading)

    def inaccessible_callback(self, _view: str, **_arguments: Any) -> Any:
        return current_app.login_manager.unauthorized()  # type: ignore[attr-defined]

    def _run_view(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        roles.check(roles.needed(self.needs, fn, request.method))
        # Flask-Admin's own calls a view a second time when it raises TypeError, and so hides where.
        return fn(self, *args, **kwargs)


def said(reason: str | None = "") -> Said:
    """Who makes a change, why, and in which request."""
    return {"changed_by": current_user.name, "reason": reason or "", "correlation_id": correlation_id()}


def correlation_id() -> str:
    """The id of this request: its sender's X-Correlation-ID, else one of our own."""
    if "correlation_id" not in g:
        given = request.headers.get("X-Correlation-ID", "")
        g.correlation_id = given if CORRELATION.fullmatch(given) else str(uuid7())
    return str(g.correlation_id)


def in_place() -> bool:
    """Is only a part of a page asked for, by htmx? Else whole pages are gone to, as by plain forms."""
    return "HX-Request" in request.headers


def done(sentence: str, endpoint: str, row: str = "", **shown: Any) -> AnyResponse:
    """A change is made: the list's page again, or in place the template ``row`` and the sentence."""
    if in_place():
        return Response(render_template("changed.html", row=row, sentence=sentence, **shown))
    flash(sentence)
    return redirect(list_of(endpoint))


def list_of(endpoint: str) -> str:
    """The address of a list: as it was filtered when the reader left it, where that can be told."""
    page = url_for(endpoint)
    came_from = urlsplit(request.referrer or "")
    same = came_from.netloc == request.host and came_from.path == page and came_from.query
    return f"{page}?{came_from.query}" if same else page


def here(**changes: Any) -> str:
    """This page with other parameters; None or nothing takes one away."""
    asked = {**request.args.to_dict(), **changes}
    return "?" + urlencode({name: value for name, value in asked.items() if value not in (None, "")})


def wanted_page(found: int, size: int = A_PAGE) -> tuple[int, int]:
    """Which page of a list is asked for by ``?page=``, from 1, and how many there are."""
    pages = max(1, -(-found // size))
    asked = request.args.get("page", "1")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1
    return min(max(number, 1), pages), pages


def search(rows: Iterable[_Row], wanted: str, text_of: Callable[[_Row], str]) -> list[_Row]:
    """The rows whose text holds ``wanted``, ignoring case."""
    needle = wanted.strip().casefold()
    return [row for row in rows if needle in text_of(row).casefold()]
