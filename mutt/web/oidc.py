"""Login by an OpenID provider: the way there, the way back, and who somebody is here that came back.

Whoever the provider calls by one subject is one user here, with the name that they had when they first came, and at
each login the highest role that the provider's groups give them. A user who has a password is never taken for them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, current_app, redirect, render_template, request, url_for
from flask import session as cookie
from flask_login import current_user
from sqlalchemy import Connection
from werkzeug.wrappers import Response as AnyResponse

from mutt.errors import LoginFailed, Refused, SettingsError
from mutt.services import Services
from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.users import Role, User
from mutt.web import session
from mutt.web.admin.page import correlation_id
from mutt.web.back import safe_next
from mutt.web.provider import Provider, said, values_of
from mutt.words import printable

log = logging.getLogger("mutt.admin")

blueprint = Blueprint("oidc", __name__)

#: Seconds that somebody may take at the provider.
PATIENCE = 600

#: Characters of an address to come back to: it waits in the cookie.
_BACK_MOST = 1000

#: Claims that may give somebody their name here, the best first.
_NAMES = ("preferred_username", "email")


@dataclasses.dataclass(frozen=True)
class _Page:
    """What is said to whom we don't let in."""

    status: int
    title: str
    sentence: str


_AGAIN = "Begin again; if it stays so, an administrator finds the reason in the admin's log."

_PAGES = {
    "away": _Page(503, "{name} does not answer", "Try again in a moment. Users with a password can log in."),
    "setup": _Page(
        503, "{name} is not set up", "An administrator has to look at the OIDC settings: the log says why."
    ),
    "denied": _Page(403, "{name} did not let you in", _AGAIN),
    "code": _Page(502, "{name} took back its word", _AGAIN),
    "token": _Page(403, "What {name} says of you can't be trusted", _AGAIN),
    "state": _Page(
        400,
        "This login was not begun here",
        "It was begun in another browser, or more than ten minutes ago, or overtaken by another one. Begin again.",
    ),
    "role": _Page(
        403,
        "You have no role here",
        "{name} knows you, but has you in no group that may use MUTT. Ask for one.",
    ),
    "name": _Page(
        409,
        "Your name is another one's here",
        "There is a user of your name who logs in otherwise, and you are not taken for them. Ask an administrator.",
    ),
    "disabled": _Page(403, "You can't log in", "An administrator keeps you out. Ask them."),
}


class SingleSignOn:
    """Logins by one provider."""

    def __init__(self, services: Services) -> None:
        """Raises :class:`SettingsError`."""
        settings = services.settings
        if not (settings.secret_key or settings.admin_password):
            raise SettingsError("SECRET_KEY", "", "a value: OIDC_ISSUER is set, and its sessions are signed")
        self.provider = Provider(settings)
        self.name, self.only = settings.oidc_name, settings.oidc_only
        self._services = services
        self._roles = dict(settings.oidc_roles)
        # Never of what a request says of its host: the provider sends codes there.
        self.back = settings.admin_url + "/login/oidc/callback"
        self.after_logout = settings.admin_url + "/login"
        self.start = settings.admin_url + "/login/oidc"

    def user_of(self, claims: Mapping[str, Any]) -> User:
        """The user whom the claims are about, made or given another role where need be. Raises LoginFailed."""
        issuer, subject = self.provider.issuer, str(claims["sub"])
        values = values_of(claims, self._services.settings.oidc_role_claim) or []
        role = self.role_of(values)
        by_us: Said = {
            "changed_by": "mutt", "reason": f"login with {self.name}", "correlation_id": correlation_id(),
        }  # fmt: skip
        with transaction(self._services.engine) as conn:
            user = users.by_subject(conn, issuer, subject)
            if user is None and role is not None:
                user = self._made(conn, claims, role, by_us)
            if user is not None and role is None:
                users.end_sessions(conn, user.name, **by_us)
            elif user is not None and user.is_active:
                user = users.change(conn, user.name, role=role, **by_us)
                users.note_login(conn, user.id)
        if user is None or role is None:
            raise LoginFailed("role", f"{name_of(claims)} has none by {_listed(values)}")
        if not user.is_active:
            raise LoginFailed("disabled", user.name)
        if session.people().is_administrator(user.name):
            raise LoginFailed("name", f"{user.name} is ADMIN_USER now")
        return user

    def role_of(self, groups: list[str]) -> Role | None:
        """The highest role that one of these groups gives, or everybody's (``*``)."""
        found = [Role(self._roles[group]) for group in (*groups, "*") if group in self._roles]
        return max(found, default=None)

    def _made(self, conn: Connection, claims: Mapping[str, Any], role: Role, by_us: Said) -> User:
        issuer, subject = self.provider.issuer, str(claims["sub"])
        administrator = self._services.settings.admin_user
        name = name_of(claims)
        try:
            return users.make(
                conn, name, role, issuer=issuer, subject=subject, administrator=administrator, **by_us
            )
        except Refused as refused:
            # Two first logins at once: the other one was quicker.
            if found := users.by_subject(conn, issuer, subject):
                return found
            raise LoginFailed("name", str(refused)) from None


def name_of(claims: Mapping[str, Any]) -> str:
    """A name for somebody new: what the provider calls them, if it can be one, else one of their subject."""
    for claim in _NAMES:
        told = claims.get(claim)
        if isinstance(told, str) and users.NAME.fullmatch(told.strip().lower()):
            return told.strip().lower()
    return "oidc-" + hashlib.sha256(str(claims["sub"]).encode()).hexdigest()[:12]


def add_oidc(app: Flask, services: Services) -> None:
    """Give ``app`` logins by the provider, if there is one. It is not asked for anything now."""
    if services.settings.oidc_issuer:
        app.extensions["oidc"] = SingleSignOn(services)
        app.register_blueprint(blueprint)


def sign_on() -> SingleSignOn | None:
    """What this application has of it."""
    found: SingleSignOn | None = current_app.extensions.get("oidc")
    return found


def _desk() -> SingleSignOn:
    found: SingleSignOn = current_app.extensions["oidc"]
    return found


@blueprint.get("/login/oidc")
def begin() -> AnyResponse:
    target = safe_next(request.args.get("next", ""))
    if current_user.is_authenticated:
        return redirect(target)
    begun = _desk().provider.begin(_desk().back)
    kept = {name: begun[name] for name in ("state", "nonce", "code_verifier")}
    cookie["oidc"] = {**kept, "next": target if len(target) <= _BACK_MOST else "/", "at": int(time.time())}
    return redirect(begun["url"])


@blueprint.get("/login/oidc/callback")
def callback() -> AnyResponse:
    if current_user.is_authenticated:
        return redirect("/")  # a page that was loaded again
    desk, kept = _desk(), cookie.get("oidc")
    if not kept or not hmac.compare_digest(kept["state"].encode(), request.args.get("state", "").encode()):
        raise LoginFailed("state", "its state is not that of a login of this browser")
    del cookie["oidc"]  # it is good once
    if time.time() > kept["at"] + PATIENCE:
        raise LoginFailed("state", f"it was begun more than {PATIENCE} s ago")
    if request.args.get("iss", desk.provider.issuer) != desk.provider.issuer:
        raise LoginFailed("token", "another provider answers")
    if error := request.args.get("error"):
        raise LoginFailed("denied", said(error, request.args.get("error_description")))
    code = request.args.get("code", "")
    claims = desk.provider.finish(desk.back, code, kept["nonce"], kept["code_verifier"])
    user = desk.user_of(claims)
    session.people().forget()
    session.begin(user)
    cookie["by"] = "oidc"
    log.info("login of %s with %s, from %s", user.name, desk.name, request.remote_addr)
    return redirect(kept["next"])


@blueprint.get("/logout/oidc")
def leave() -> AnyResponse:
    """End the provider's own session, too. Not from our form: a policy for forms would have to name its address."""
    return redirect(_desk().provider.logout_url(_desk().after_logout) or url_for("auth.login"))


@blueprint.errorhandler(LoginFailed)
def failed(error: LoginFailed) -> Response:
    log.warning("login with %s failed: %s, from %s", _desk().name, error, request.remote_addr)
    page, name = _PAGES[error.kind], _desk().name
    shown = render_template(
        "error.html",
        status=page.status,
        title=page.title.format(name=name),
        sentence=page.sentence.format(name=name),
        back=url_for("auth.login"),
    )
    return Response(shown, page.status)


def _listed(values: list[str]) -> str:
    return printable(", ".join(values)[:300]) or "no group"
