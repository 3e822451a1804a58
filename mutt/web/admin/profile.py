"""Profile: what somebody may know of themselves, another password, and an end to sessions elsewhere."""

from __future__ import annotations

from typing import Any

from flask import current_app, flash, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user
from wtforms import PasswordField

from mutt import passwords
from mutt.errors import Refused
from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.users import User
from mutt.web import session
from mutt.web.admin.forms import Refusable
from mutt.web.admin.page import REFUSED, Page, said
from mutt.web.auth import Login, TooSoon
from mutt.web.roles import ONES_OWN
from mutt.words import many


class OwnPasswordForm(Refusable):
    current = PasswordField("Password now", render_kw={"autocomplete": "current-password"})
    password = PasswordField(
        "New password",
        description=f"At least {passwords.SHORTEST} characters: a few words make a good one.",
        render_kw={"autocomplete": "new-password"},
    )
    again = PasswordField("New password again", render_kw={"autocomplete": "new-password"})


class Profile(Page):
    needs = ONES_OWN

    @expose("/")
    def index(self) -> str:
        return self._page(OwnPasswordForm(formdata=None))

    @expose("/password", methods=("POST",))
    def password(self) -> Any:
        form, user = OwnPasswordForm(), current_user.user
        try:
            if user is None or user.password_hash is None:
                raise Refused("password", "is kept elsewhere; change it there")
            self._check(form, user)
            hashed = passwords.hashed(form.password.data or "")
            with transaction(self.engine) as conn:
                changed = users.change(conn, user.name, password_hash=hashed, **said("their own"))
        except Refused as error:
            form.refuse(error)
            return self._page(form), REFUSED
        except TooSoon as error:
            form.form_errors.append(f"Too many tries. Wait {many(error.seconds, 'second')}, then try again.")
            return self._page(form), 429, {"Retry-After": str(error.seconds)}
        self._begin_anew(changed)
        flash("Your password is changed; your other sessions have ended.")
        return redirect(url_for("profile.index"))

    @expose("/end", methods=("POST",))
    def end(self) -> Any:
        """End all other sessions of who asks."""
        user = current_user.user
        if user is None:
            session.end_others(current_user._get_current_object())
        else:
            with transaction(self.engine) as conn:
                self._begin_anew(users.end_sessions(conn, user.name, **said("their own")))
        flash("Your other sessions have ended.")
        return redirect(url_for("profile.index"))

    def _check(self, form: OwnPasswordForm, user: User) -> None:
        """Raises Refused, TooSoon."""
        if form.password.data != form.again.data:
            raise Refused("again", "differs from the one above; type it twice")
        passwords.check(form.password.data or "", user.name)
        login: Login = current_app.extensions["login"]
        if login.who(user.name, form.current.data or "", request.remote_addr or "") is None:
            raise Refused("current", "is wrong")

    def _begin_anew(self, user: User) -> None:
        session.people().forget()
        session.begin(user)

    def _page(self, form: OwnPasswordForm) -> str:
        return self.render("profile.html", form=form, user=current_user.user)
