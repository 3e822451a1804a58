"""Page: what every page of the admin shares: the login, the store, and the status of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flask import current_app
from flask_admin import BaseView
from flask_login import current_user
from sqlalchemy import Engine

from mutt.services import Services
from mutt.store.history import Said

#: Rows of a list that a page shows; a search finds the others.
SHOWN = 500

#: What was sent can't be saved; the page says why.
REFUSED = 422

_Row = TypeVar("_Row")


class Page(BaseView):
    """One entry of the menu, for who is logged in."""

    def __init__(self, services: Services, name: str, endpoint: str, url: str | None = None) -> None:
        super().__init__(name=name, endpoint=endpoint, url=url)
        self.services = services

    @property
    def engine(self) -> Engine:
        return self.services.engine

    def is_accessible(self) -> bool:
        return bool(current_user.is_authenticated)

    def inaccessible_callback(self, _view: str, **_arguments: Any) -> Any:
        return current_app.login_manager.unauthorized()  # type: ignore[attr-defined]

    def _run_view(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Flask-Admin's own calls a view a second time when it raises TypeError, and so hides where.
        return fn(self, *args, **kwargs)


def said(reason: str | None = "") -> Said:
    """Who makes a change, and why."""
    return {"changed_by": current_user.name, "reason": reason or ""}


def search(rows: Iterable[_Row], wanted: str, text_of: Callable[[_Row], str]) -> list[_Row]:
    """The rows whose text holds ``wanted``, ignoring case."""
    needle = wanted.strip().casefold()
    return [row for row in rows if needle in text_of(row).casefold()]
