"""The login: one administrator, named by ADMIN_USER and ADMIN_PASSWORD, and a signed session cookie."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import logging
from datetime import timedelta
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response as AnyResponse
from wtforms import PasswordField, StringField

from mutt.settings import Settings

log = logging.getLogger("mutt.admin")

blueprint = Blueprint("auth", __name__)

#: A session ends this long after its last request.
IDLE = timedelta(hours=12)


@dataclasses.dataclass(frozen=True)
class Administrator(UserMixin):
    """The one who may log in."""

    name: str
    password: str = dataclasses.field(repr=False)

    def accepts(self, name: str, password: str) -> bool:
        """Is it them? Takes the same time whatever is wrong. Without a password of ours, it is nobody."""
        same_name = hmac.compare_digest(_digest(name), _digest(self.name))
        same_password = hmac.compare_digest(_digest(password), _digest(self.password))
        return same_name & same_password & bool(self.password)

    def get_id(self) -> str:
        """What the session keeps. It changes with the password, so that a new password ends old sessions."""
        key = current_app.secret_key
        return hmac.new(
            _bytes(key or b""), self.name.encode() + b"\0" + _digest(self.password), "sha256"
        ).hexdigest()


class LoginForm(FlaskForm):
    name = StringField("Name", render_kw={"autocomplete": "username", "autofocus": True})
    password = PasswordField("Password", render_kw={"autocomplete": "current-password"})


def add_login(app: Flask, settings: Settings) -> None:
    """Give ``app`` its session key, ``/login`` and ``/logout``."""
    administrator = Administrator(settings.admin_user, settings.admin_password)
    app.secret_key = session_key(settings)
    app.config.update(
        SESSION_COOKIE_NAME="mutt_admin",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=IDLE,
    )
    app.extensions["administrator"] = administrator
    manager = LoginManager(app)
    manager.login_view = "auth.login"
    manager.login_message = ""

    @manager.user_loader
    def load(session_id: str) -> Administrator | None:
        known = bool(administrator.password) and hmac.compare_digest(session_id, administrator.get_id())
        return administrator if known else None

    @manager.unauthorized_handler
    def to_login() -> AnyResponse:
        if "HX-Request" in request.headers:
            # Part of a page was asked for: the whole page goes to the login, and comes back.
            came_from = urlsplit(request.headers.get("HX-Current-URL", ""))
            back = f"{came_from.path}?{came_from.query}".rstrip("?")
            return Response(status=401, headers={"HX-Redirect": url_for("auth.login", next=back or None)})
        # Only what can be asked for again is worth coming back to.
        back = request.full_path.rstrip("?") if request.method == "GET" else ""
        return redirect(url_for("auth.login", next=back if back not in ("", "/") else None))

    app.register_blueprint(blueprint)


def session_key(settings: Settings) -> bytes:
    """What signs the sessions: SECRET_KEY, else a key that every process of this installation derives alike.

    Anybody can fetch a signed cookie and try passwords against its signature: so it is slow to derive, and the
    database's address (which holds another secret) goes in.
    """
    if settings.secret_key:
        return settings.secret_key.encode()
    salt = hashlib.sha256(b"mutt admin session\0" + settings.database_url.encode()).digest()
    return hashlib.scrypt(settings.admin_password.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=32)


def safe_next(target: str) -> str:
    """``target`` if it is a path of this site, else the first page."""
    # Browsers read a backslash as a slash and skip control characters: either could hide a host name.
    hidden = "\\" in target or any(ord(character) < 0x21 or character == "\x7f" for character in target)
    if hidden or not target.startswith("/") or target.startswith("//"):
        return "/"
    parts = urlsplit(target)
    return "/" if parts.scheme or parts.netloc else target


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> AnyResponse:
    administrator: Administrator = current_app.extensions["administrator"]
    target = safe_next(request.args.get("next", ""))
    if current_user.is_authenticated:
        return redirect(target)
    form = LoginForm()
    if not form.validate_on_submit():
        return _login_page(form, administrator)
    if not administrator.accepts(form.name.data or "", form.password.data or ""):
        log.warning("login refused, from %s", request.remote_addr)
        form.form_errors.append("Name or password is wrong.")
        return _login_page(form, administrator, 403)
    session.clear()
    session.permanent = True
    login_user(administrator)
    log.info("login of %s, from %s", administrator.name, request.remote_addr)
    return redirect(target)


def _login_page(form: LoginForm, administrator: Administrator, status: int = 200) -> Response:
    return Response(render_template("login.html", form=form, locked=not administrator.password), status)


@blueprint.post("/logout")
def logout() -> AnyResponse:
    logout_user()
    session.clear()
    flash("You are logged out.")
    return redirect(url_for("auth.login"))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
