"""The login: a name and a password, looked at no faster than the throttle allows."""

from __future__ import annotations

import contextlib
import logging

from flask import Blueprint, Flask, Response, current_app, flash, redirect, render_template, request, url_for
from flask import session as cookie
from flask_login import current_user
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response as AnyResponse
from wtforms import PasswordField, StringField

from mutt import passwords
from mutt.errors import StoreDown, Unavailable
from mutt.services import Services
from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.users import User
from mutt.web import session
from mutt.web.back import safe_next
from mutt.web.oidc import add_oidc, sign_on
from mutt.web.people import People, Person
from mutt.web.throttle import Throttle, whole_seconds
from mutt.words import many

log = logging.getLogger("mutt.admin")

blueprint = Blueprint("auth", __name__)

#: Characters of a name that is tried: longer ones are nobody's.
NAME_MOST = 200


class LoginForm(FlaskForm):
    name = StringField("Name", render_kw={"autocomplete": "username", "autofocus": True})
    password = PasswordField("Password", render_kw={"autocomplete": "current-password"})


class TooSoon(Exception):
    """Who tries so often has to wait so many seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Login:
    """Names and passwords, compared with those of the known people."""

    def __init__(self, services: Services, people: People) -> None:
        self._services, self.people = services, people
        self._throttle = Throttle(services)

    @property
    def locked(self) -> bool:
        """Can nobody log in, as it is set up? Without either, a key to sign sessions with could be guessed."""
        settings = self._services.settings
        return not (settings.admin_password or settings.secret_key)

    def who(self, name: str, password: str, address: str) -> Person | None:
        """Whose name and password these are; ``address`` is where they come from.

        Raises :class:`TooSoon`; StoreDown and Unavailable where nobody can tell.
        """
        # Cut first: what is counted under one name is the same name to everybody who asks for it.
        name = name[:NAME_MOST].strip().lower()
        wait = self._throttle.tried(name, address)
        if wait:
            log.warning("login refused, from %s: too soon", address)
            raise TooSoon(whole_seconds(wait))
        try:
            who = self._who(name, password)
        except Unavailable:
            self._throttle.give_back(name, address)
            raise
        except StoreDown:
            # The administrator's password was compared all the same: that was a try.
            if not self.people.is_administrator(name):
                self._throttle.give_back(name, address)
            raise
        if who is None:
            log.warning("login refused, from %s", address)
            return None
        self._throttle.passed(name, address)
        return who

    def _who(self, name: str, password: str) -> Person | None:
        # The same is done for every name, so that neither the time nor an outage tells which of them there are.
        user, outage = None, None
        try:
            user = self.people.user(name)
        except StoreDown as error:
            outage = error
        same = passwords.verify(user.password_hash if user else None, password)
        if self.locked:
            return None
        if self.people.is_administrator(name) and self.people.administrator.accepts(password):
            return self.people.administrator.person
        if outage:
            raise outage
        return self._noted(user, password) if user and same else None

    def _noted(self, user: User, password: str) -> Person:
        newer = ""
        # Both are for later: nobody is kept out because they can't be done now.
        with contextlib.suppress(Unavailable):
            if user.password_hash and passwords.is_dated(user.password_hash):
                newer = passwords.hashed(password)
        with contextlib.suppress(StoreDown), transaction(self._services.engine) as conn:
            users.note_login(conn, user.id)
            if newer:
                users.rehash(conn, user, newer)
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
    try:
        who = desk.who(form.name.data or "", form.password.data or "", request.remote_addr or "")
    except TooSoon as error:
        form.form_errors.append(f"Too many tries. Wait {many(error.seconds, 'second')}, then try again.")
        answer = _login_page(form, desk, 429)
        answer.headers["Retry-After"] = str(error.seconds)
        return answer
    if who is None:
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
