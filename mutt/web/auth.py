"""The login: a name and a password, looked at no faster than the throttle allows."""

from __future__ import annotations

import logging

from flask import Blueprint, Flask, Response, current_app, flash, redirect, render_template, request, url_for
from flask import session as cookie
from flask_login import current_user
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response as AnyResponse
from wtforms import PasswordField, StringField

from mutt import passwords
from mutt.errors import StoreDown
from mutt.services import Services
from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.users import User
from mutt.web import session
from mutt.web.back import safe_next
from mutt.web.oidc import add_oidc, sign_on
from mutt.web.people import People, Person

log = logging.getLogger("mutt.admin")

blueprint = Blueprint("auth", __name__)


class LoginForm(FlaskForm):
    name = StringField("Name", render_kw={"autocomplete": "username", "autofocus": True})
    password = PasswordField("Password", render_kw={"autocomplete": "current-password"})


class Login:
    """Names and passwords, compared with those of the known people."""

    def __init__(self, services: Services, people: People) -> None:
        self._services, self.people = services, people

    @property
    def locked(self) -> bool:
        """Can nobody log in, as it is set up? Without either, a key to sign sessions with could be guessed."""
        settings = self._services.settings
        return not (settings.admin_password or settings.secret_key)

    def who(self, name: str, password: str) -> Person | None:
        """Whose name and password these are. Takes as long whatever is wrong. Raises StoreDown, Unavailable."""
        name = name.strip().lower()
        is_administrator = self.people.is_administrator(name)
        unknown = is_administrator or self._services.settings.oidc_only or not users.NAME.fullmatch(name)
        user = None if unknown else self.people.user(name)
        # A hash is worked for everybody: how long it takes tells nobody whether there is such a name.
        same = passwords.verify(user.password_hash if user else None, password)
        if self.locked:
            return None
        if is_administrator:
            return self.people.administrator.person if self.people.administrator.accepts(password) else None
        return self._noted(user, password) if user and same else None

    def _noted(self, user: User, password: str) -> Person:
        try:
            with transaction(self._services.engine) as conn:
                users.note_login(conn, user.id)
                if user.password_hash and passwords.is_dated(user.password_hash):
                    users.rehash(conn, user, passwords.hashed(password))
        except StoreDown:
            pass  # it is for the record only
        return Person.of(user)


def add_login(app: Flask, services: Services) -> None:
    """Give ``app`` its sessions, ``/login`` and ``/logout``."""
    app.extensions["login"] = Login(services, session.add_sessions(app, services))
    app.register_blueprint(blueprint)
    add_oidc(app, services)


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> AnyResponse:
    desk: Login = current_app.extensions["login"]
    target = safe_next(request.args.get("next", ""))
    if current_user.is_authenticated:
        return redirect(target)
    form = LoginForm()
    if not form.validate_on_submit():
        return _login_page(form, desk)
    who = desk.who(form.name.data or "", form.password.data or "")
    if who is None:
        log.warning("login refused, from %s", request.remote_addr)
        form.form_errors.append("Name or password is wrong.")
        return _login_page(form, desk, 403)
    session.begin(who)
    log.info("login of %s, from %s", who.name, request.remote_addr)
    return redirect(target)


def _login_page(form: LoginForm, desk: Login, status: int = 200) -> Response:
    shown = render_template(
        "login.html",
        form=form,
        locked=desk.locked,
        sign_on=sign_on(),
        target=safe_next(request.args.get("next", "")),
        still_there=cookie.get("left_by") == "oidc",
    )
    return Response(shown, status)


@blueprint.post("/logout")
def logout() -> AnyResponse:
    by = cookie.get("by")
    session.end()
    if by:
        cookie["left_by"] = by
    flash("You are logged out.")
    return redirect(url_for("auth.login"))
