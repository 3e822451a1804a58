"""Users: who may log in, and as what: listed, made, given another role or password, let in and kept out."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user
from sqlalchemy import Connection
from wtforms import PasswordField, SelectField, StringField

from mutt import passwords
from mutt.errors import Refused
from mutt.store import lookup, users
from mutt.store.engine import transaction
from mutt.store.users import Role, User
from mutt.web import session
from mutt.web.admin.forms import Refusable
from mutt.web.admin.page import CONFLICT, REFUSED, Page, said
from mutt.web.roles import ADMINS_ONLY

#: Bytes of a password that is made here: nobody guesses them.
MADE_OF = 15

_NEW = {"autocomplete": "new-password"}
_WHY = {"maxlength": 500}


def _roles() -> SelectField:
    # Not checked here: the store says what is wrong with it.
    return SelectField("Role", choices=[role.value for role in Role], validate_choice=False)


def _password() -> PasswordField:
    return PasswordField(
        "Password",
        description=f"At least {passwords.SHORTEST} characters. Left empty: one is made, and shown once.",
        render_kw=_NEW,
    )


class UserForm(Refusable):
    """A new user."""

    name = StringField("Name", description="Or an e-mail address.", render_kw={"autocomplete": "off"})
    role = _roles()
    password = _password()
    reason = StringField("Why", description="Kept in the history.", render_kw=_WHY)


class RoleForm(Refusable):
    role = _roles()
    reason = StringField("Why", description="Kept in the history.", render_kw=_WHY)


class PasswordForm(Refusable):
    password = _password()
    reason = StringField("Why", description="Kept in the history.", render_kw=_WHY)


class Users(Page):
    needs = ADMINS_ONLY

    @expose("/")
    def index(self) -> str:
        with lookup.reading(self.engine) as conn:
            found = users.listed(conn)
        return self.render(
            "users.html", users=found, administrator=session.people().administrator, shadowed=self._shadowed
        )

    def _shadowed(self, user: User) -> bool:
        """Has ADMIN_USER the same name? Then it is the one who logs in."""
        return session.people().is_administrator(user.name)

    @expose("/new", methods=("GET", "POST"))
    def new(self) -> Any:
        form = UserForm()
        if form.validate_on_submit():
            name, administrator = form.name.data or "", session.people().administrator.name
            try:
                password, hashed = _chosen(form, name)
                with transaction(self.engine) as conn:
                    user = users.make(
                        conn,
                        name,
                        form.role.data or "",
                        password_hash=hashed,
                        administrator=administrator,
                        **said(form.reason.data),
                    )
            except Refused as error:
                form.refuse(error)
            else:
                return self._done(user, f"{user.name} can log in, as {user.role}.", password)
        page = self.render("user_new.html", form=form)
        return page, REFUSED if request.method == "POST" else 200

    @expose("/<int:user_id>")
    def one(self, user_id: int) -> Any:
        return self._page(self._read(user_id))

    @expose("/<int:user_id>/role", methods=("POST",))
    def role(self, user_id: int) -> Any:
        form, user = RoleForm(), self._other(user_id)
        try:
            user = self._change(user, role=form.role.data or "", **said(form.reason.data))
        except Refused as error:
            form.refuse(error)
            return self._page(user, role=form), REFUSED
        return self._done(user, f"{user.name} is {user.role} now; their sessions have ended.")

    @expose("/<int:user_id>/password", methods=("POST",))
    def password(self, user_id: int) -> Any:
        form, user = PasswordForm(), self._other(user_id)
        try:
            password, hashed = _chosen(form, user.name)
            user = self._change(user, password_hash=hashed, **said(form.reason.data))
        except Refused as error:
            form.refuse(error)
            return self._page(user, password=form), REFUSED
        return self._done(user, f"{user.name} has another password; their sessions have ended.", password)

    @expose("/<int:user_id>/active", methods=("POST",))
    def active(self, user_id: int) -> Any:
        """Keep a user out, or let them in again, as the button said."""
        user, on = self._other(user_id), request.form.get("active") == "on"
        user = self._change(user, is_active=on, **said(request.form.get("reason")))
        now = "can log in" if on else "is kept out; their sessions have ended"
        return self._done(user, f"{user.name} {now}.")

    @expose("/<int:user_id>/end", methods=("POST",))
    def end(self, user_id: int) -> Any:
        user = self._other(user_id)
        user = self._with(
            lambda conn: users.end_sessions(conn, user.name, **said(request.form.get("reason")))
        )
        return self._done(user, f"The sessions of {user.name} have ended.")

    def _change(self, user: User, **what: Any) -> User:
        return self._with(lambda conn: users.change(conn, user.name, **what))

    def _with(self, change: Callable[[Connection], User]) -> User:
        try:
            with transaction(self.engine) as conn:
                return change(conn)
        except LookupError as error:
            abort(404, f"{error}: they may have been renamed.")

    def _read(self, user_id: int) -> User:
        with lookup.reading(self.engine) as conn:
            found = users.by_id(conn, user_id) if user_id < 2**31 else None
        if found is None:
            abort(404, f"There is no user {user_id}.")
        return found

    def _other(self, user_id: int) -> User:
        """A user who is not the one that asks: nobody is to lock themselves out."""
        found = self._read(user_id)
        if found.name == current_user.name:
            abort(
                CONFLICT, "This is you: another administrator can do that; your password is on your profile."
            )
        return found

    def _done(self, user: User, sentence: str, password: str = "") -> Any:
        session.people().forget()
        if password:
            # Shown in this answer and kept nowhere: so it is no redirect.
            return self.render("user_made.html", user=user, sentence=sentence, password=password)
        flash(sentence)
        return redirect(url_for("users.one", user_id=user.id))

    def _page(self, user: User, *, role: RoleForm | None = None, password: PasswordForm | None = None) -> str:
        return self.render(
            "user.html",
            user=user,
            role=role or RoleForm(formdata=None, data={"role": user.role.value}),
            password=password or PasswordForm(formdata=None),
            is_oneself=user.name == current_user.name,
            shadowed=self._shadowed(user),
        )


def _chosen(form: UserForm | PasswordForm, name: str) -> tuple[str, str]:
    """The password to show, if it was made here, and its hash. Raises :class:`Refused`."""
    given = form.password.data or ""
    if given:
        passwords.check(given, name)
        return "", passwords.hashed(given)
    made = secrets.token_urlsafe(MADE_OF)
    return made, passwords.hashed(made)
