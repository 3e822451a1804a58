"""Records that have a name and a form: how a page reads, saves and changes one, and answers what can't be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from flask import abort, flash, redirect, url_for
from sqlalchemy import Connection
from wtforms import HiddenField, StringField

from mutt.errors import Overwrites, Refused
from mutt.store import lookup
from mutt.store.engine import transaction
from mutt.web.admin.forms import Refusable
from mutt.web.admin.page import CONFLICT, REFUSED, Page


class Named(Protocol):
    """Anything that is known to people by its name."""

    @property
    def name(self) -> str: ...


_Found = TypeVar("_Found")


class NamedForm(Refusable):
    """A record's fields, why it is changed, and which state of it the writer has ``seen``."""

    why = StringField(
        "Why", description="Kept in the history with this change.", render_kw={"maxlength": 500}
    )
    seen = HiddenField()

    status = REFUSED  #: what a refusal is answered with


class NamedPage(Page):
    def read(self, get: Callable[[Connection], _Found]) -> _Found:
        """What ``get`` finds; 404 where it raises LookupError."""
        with lookup.reading(self.engine) as conn:
            try:
                return get(conn)
            except LookupError as error:
                abort(404, f"{error}.")

    def save(self, form: NamedForm, save: Callable[[Connection], Named]) -> bool:
        """Is it saved? Where ``save`` raises Refused, the form says why it is not."""
        try:
            with transaction(self.engine) as conn:
                record = save(conn)
        except LookupError as error:
            abort(404, f"{error}.")
        except Refused as error:
            form.refuse(error)
            form.status = CONFLICT if isinstance(error, Overwrites) else REFUSED
            return False
        flash(f"“{record.name}” is saved. Workers follow it within 5 seconds.")
        return True

    def change(self, change: Callable[[Connection], Named], done: str) -> Any:
        """The list again, with a word of what was ``done``; 404 or 409 where ``change`` raises LookupError, Refused."""
        try:
            with transaction(self.engine) as conn:
                record = change(conn)
        except LookupError as error:
            abort(404, f"{error}.")
        except Refused as error:
            abort(CONFLICT, f"{error.field} {error.reason}".strip())
        flash(f"“{record.name}” {done}.")
        return redirect(url_for(f"{self.endpoint}.index"))
