"""Sessions: who is logged in, for how long, and how a session ends before its time.

A session is a signed cookie: it needs no server while it lives. It ends SESSION_IDLE after it was last used and
SESSION_MAX after the login; when its user's epoch is raised (another password or role, disabled); and when somebody
logs out, which is remembered in Redis for as long as the cookie could be used again.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, NamedTuple

import redis
from flask import Flask, Response, current_app, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_login import AnonymousUserMixin, LoginManager, login_user, logout_user
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response as AnyResponse

from mutt import names
from mutt.errors import SettingsError, StoreDown
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import lookup
from mutt.store.users import Role, User
from mutt.web.back import path_of
from mutt.web.people import Administrator, People, Person

log = logging.getLogger("mutt.admin")

#: Seconds between two notes in the cookie that its session is in use.
NOTED = 60.0

#: Seconds for which a Redis that did not answer is not asked again.
AWAY = 1.0


class Nobody(AnonymousUserMixin):
    """Who has not logged in: ``current_user`` then."""

    name = ""
    role = None

    def may(self, _needed: Role | str) -> bool:
        return False


class Ended:
    """What was ended before its time: sessions by their id, all sessions of a person by its key.

    In Redis, for all processes; while that is away, in this process, which tells Redis as soon as it is back.
    """

    def __init__(self, services: Services) -> None:
        self._services, self._keep = services, services.settings.session_max
        self._own: dict[str, float] = {}
        self._untold: set[str] = set()
        self._away_until = 0.0
        self._lock = threading.Lock()

    def add(self, name: str, until: float) -> None:
        """What began under this name until then has ended. Seconds since the epoch."""
        with self._lock:
            oldest = time.time() - self._keep
            self._own = {key: at for key, at in self._own.items() if at > oldest} | {name: until}
            self._untold.add(name)
        self._ask([])

    def until(self, wanted: Collection[str]) -> dict[str, float]:
        """What began under these names until then has ended. Seconds since the epoch; 0: nothing."""
        asked = self._ask(list(wanted))
        return {name: max(self._own.get(name, 0.0), asked.get(name, 0.0)) for name in wanted}

    def _ask(self, wanted: list[str]) -> dict[str, float]:
        if time.monotonic() < self._away_until:
            return {}
        try:
            with self._lock:
                untold = {name: self._own[name] for name in self._untold if name in self._own}
            pipe = self._services.redis.pipeline(transaction=False)
            for name, at in untold.items():
                pipe.set(names.SESSIONS_ENDED + name, at, px=round(self._keep * 1000))
            if wanted:
                pipe.mget([names.SESSIONS_ENDED + name for name in wanted])
            answers = pipe.execute()
            with self._lock:
                self._untold -= untold.keys()
            found = zip(wanted, answers[-1] if wanted else [], strict=True)
            return {name: float(at) for name, at in found if at}
        except SettingsError:
            return {}  # there is no Redis: this process is the only one
        except redis.RedisError as error:
            log.warning("sessions that ended are not known to Redis: %s", type(error).__name__)
            self._away_until = time.monotonic() + AWAY
            return {}


class Ticket(NamedTuple):
    """What a session's cookie says of it."""

    key: str  #: whose it is
    id: str
    epoch: str
    begun: float
    seen: int


class _Cookies(SecureCookieSessionInterface):
    """Flask's signed cookie, kept to HTTPS where it came by HTTPS, signed with the key as it is now.

    A new SECRET_KEY ends all sessions: who changes it may have to.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def get_signing_serializer(self, app: Flask) -> Any:
        app.secret_key = self._key()  # the tokens of forms are signed with it, too
        return super().get_signing_serializer(app)

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


class Sessions:
    """The sessions of one application."""

    def __init__(self, services: Services, people: People) -> None:
        settings = services.settings
        self.services, self.people, self._ended = services, people, Ended(services)
        self._idle, self._longest = settings.session_idle, settings.session_max

    def begin(self, who: Person, after: float = 0.0) -> None:
        """A new session, whatever there was before: nothing that somebody planted goes on in it."""
        session.clear()
        session.permanent = True
        now = time.time()
        begun = max(now, after + 0.001)
        session.update(id=secrets.token_urlsafe(16), epoch=who.epoch, begun=begun, seen=int(now))
        login_user(who)

    def end(self) -> None:
        """End the session that asks, for whoever has a copy of its cookie."""
        if session.get("id"):
            self._ended.add(session["id"], session["begun"])
        logout_user()
        session.clear()

    def end_others(self, who: Person) -> None:
        """End all sessions but this one of a person that has no row whose epoch could be raised."""
        # Another process' clock, by which this one began, may be ahead.
        until = max(time.time(), session["begun"])
        self._ended.add(who.key, until)
        self.begin(who, after=until)

    def load(self, key: str) -> Person | None:
        """Who the session is of, if it has not ended."""
        ticket, now = _ticket(key), time.time()
        if ticket is None or self._is_old(ticket, now):
            return None
        try:
            who = self._person(ticket) or self._person(ticket, anew=True)
        except StoreDown:
            g.people_unknown = True
            return None
        if who is None or self._left([ticket]):
            return None
        if _is_use() and now - ticket.seen > min(NOTED, self._idle / 10):
            session["seen"] = int(now)
        return who

    def ticket(self) -> Ticket:
        """Of the session that asks, to look later whether it has ended."""
        found = _ticket(session["_user_id"])
        assert found  # it was let in
        return found

    def ended(self, tickets: Collection[Ticket]) -> set[Ticket]:
        """Those of them whose session has ended. However many they are: one question to each server."""
        now = time.time()
        out = {ticket for ticket in tickets if self._is_old(ticket, now) or not self._is_known(ticket)}
        return out | self._left([ticket for ticket in tickets if ticket not in out])

    def _is_old(self, ticket: Ticket, now: float) -> bool:
        return now >= ticket.begun + self._longest or now >= ticket.seen + self._idle

    def _is_known(self, ticket: Ticket) -> bool:
        try:
            return self._person(ticket) is not None
        except StoreDown:
            return False

    def _left(self, tickets: Collection[Ticket]) -> set[Ticket]:
        """Those that somebody ended before their time."""
        names_of = {name for ticket in tickets for name in (ticket.id, ticket.key)}
        until = self._ended.until(names_of) if names_of else {}
        return {one for one in tickets if one.begun <= max(until[one.id], until[one.key])}

    def _person(self, ticket: Ticket, anew: bool = False) -> Person | None:
        """Who it is, in the epoch in which the session began. That may be one that the copy does not know yet."""
        if anew:
            self.people.forget()
        who = self.people.of(ticket.key)
        return who if who and hmac.compare_digest(who.epoch, ticket.epoch) else None


def _ticket(key: str) -> Ticket | None:
    """What the cookie of this request says; None: it is none of ours."""
    begun, seen = session.get("begun"), session.get("seen")
    if not isinstance(begun, float) or not isinstance(seen, int):
        return None
    return Ticket(key, str(session.get("id")), str(session.get("epoch")), begun, seen)


def session_key(settings: Settings) -> Callable[[], bytes]:
    """What signs the sessions: SECRET_KEY, else a key that every process of this installation derives alike.

    Anybody can fetch a signed cookie and try passwords against its signature: so it is slow to derive, and the
    database's address (which holds another secret) goes in. Without ADMIN_PASSWORD there is nothing to derive it of.
    """
    if settings.secret_key:
        return lambda: str(settings.current("secret_key")).encode()
    if settings.admin_password:
        salt = hashlib.sha256(b"mutt admin session\0" + settings.database_url.encode()).digest()
        key = hashlib.scrypt(settings.admin_password.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=32)
    else:
        key = secrets.token_bytes(32)
    return lambda: key


def add_sessions(app: Flask, services: Services) -> People:
    """Give ``app`` its sessions, and a way to the login for who has none; who they may be of."""
    settings = services.settings
    key = session_key(settings)
    people = People(
        Administrator(settings, key), lambda: lookup.reading(services.engine), oidc_only=settings.oidc_only
    )
    app.session_interface = _Cookies(key)
    app.config.update(
        SESSION_COOKIE_NAME="mutt_admin",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=min(settings.session_idle, settings.session_max)),
    )
    app.extensions["sessions"] = sessions = Sessions(services, people)
    manager = LoginManager(app)
    manager.anonymous_user = Nobody
    manager.user_loader(sessions.load)
    manager.unauthorized_handler(_to_login)
    return people


def begin(user: User | Person) -> None:
    """Begin a session of ``user``, who has just shown that it is them."""
    _sessions().begin(user if isinstance(user, Person) else Person.of(user))


def end() -> None:
    """End the session that asks."""
    _sessions().end()


def end_others(who: Person) -> None:
    """End all sessions of the settings' administrator but the one that asks."""
    _sessions().end_others(who)


def people() -> People:
    """The people of this application."""
    return _sessions().people


def ticket() -> Ticket:
    """What tells later whether the session that asks has ended."""
    return _sessions().ticket()


def _sessions() -> Sessions:
    found: Sessions = current_app.extensions["sessions"]
    return found


def _is_use() -> bool:
    """Does a person ask? What a page of ours asks for by itself keeps no session alive."""
    return request.method != "GET" or not ("HX-Request" in request.headers or is_stream())


def is_stream() -> bool:
    """Does a page ask for what goes on?"""
    return request.headers.get("Accept") == "text/event-stream"


def _to_login() -> AnyResponse:
    if g.get("people_unknown"):
        raise ServiceUnavailable("PostgreSQL, which knows the users, does not answer. Try again in a moment.")
    if is_stream():
        return Response(status=401)  # a login would be no answer to it
    if "HX-Request" in request.headers:
        # Part of a page was asked for: the whole page goes to the login, and comes back.
        back = path_of(request.headers.get("HX-Current-URL", ""))
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login", next=back or None)})
    # Only what can be asked for again is worth coming back to.
    back = request.full_path.rstrip("?") if request.method == "GET" else ""
    return redirect(url_for("auth.login", next=back if back not in ("", "/") else None))
