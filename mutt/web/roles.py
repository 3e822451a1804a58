"""Roles: what a page or a route of the API needs, said where it is written and checked in one place each.

Reading needs a viewer, changing an admin, unless a page says otherwise (its ``needs``), or a view of it does::

    class DeadLetters(Page):
        needs = BY_OPERATORS

        @expose("/<queue>/<id_>/edit", methods=("GET", "POST"))
        @requires(Role.OPERATOR)
        def edit(self, ...): ...

So what says nothing is open to nobody but an admin. ``Page`` checks it for pages, ``wire`` for the API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from flask import current_app
from flask_login import current_user
from werkzeug.exceptions import Forbidden

from mutt.store.users import Role

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_View = TypeVar("_View", bound=Callable[..., Any])


class Needs(NamedTuple):
    """The least role for looking at something, and for changing it."""

    reading: Role = Role.VIEWER
    changing: Role = Role.ADMIN

    def of(self, method: str) -> Role:
        return self.reading if method in SAFE else self.changing


USUAL = Needs()
BY_OPERATORS = Needs(changing=Role.OPERATOR)
ADMINS_ONLY = Needs(Role.ADMIN, Role.ADMIN)
#: What is everybody's own.
ONES_OWN = Needs(Role.VIEWER, Role.VIEWER)


def requires(role: Role, changing: Role | None = None) -> Callable[[_View], _View]:
    """This view needs ``role``, to be looked at too; to change something ``changing``, if that is another one."""

    def mark(view: _View) -> _View:
        view.needs = Needs(role, changing or role)  # type: ignore[attr-defined]
        return view

    return mark


def needed(page: Needs, view: Callable[..., Any], method: str) -> Role:
    """What a view of a page that ``page`` says it of needs."""
    of_view: Needs = getattr(view, "needs", page)
    return of_view.of(method)


def of_endpoint(endpoint: str, method: str = "POST") -> Role | None:
    """What an address of this application needs; None: it is open to everybody."""
    view = current_app.view_functions[endpoint]
    of_page: Needs | None = getattr(getattr(view, "__self__", None), "needs", None)
    of_view: Needs | None = getattr(view, "needs", of_page)
    return None if of_view is None else of_view.of(method)


def may(endpoint: str, method: str = "POST") -> bool:
    """May who is logged in do this? Templates ask it, so that nobody is shown what they would be refused."""
    role = of_endpoint(endpoint, method)
    return role is None or current_user.may(role)


class NotAllowed(Forbidden):
    """Who asks has no such role; the answer is 403 and names the one that it takes."""

    def __init__(self, role: Role) -> None:
        super().__init__(
            f"This needs the role {role}; {current_user.name} is {current_user.role}. Nothing was changed."
        )
        self.role = role


def check(role: Role) -> None:
    """Refuse who has not this role. Raises :class:`NotAllowed`."""
    if not current_user.may(role):
        raise NotAllowed(role)
