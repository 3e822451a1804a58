"""People: whom the admin knows: the administrator of the settings, and the users in PostgreSQL."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask_login import UserMixin
from sqlalchemy import Connection

from mutt.errors import StoreDown
from mutt.settings import Settings
from mutt.store import users
from mutt.store.users import Role, User

#: Seconds that the process' copy is used before PostgreSQL is asked again.
FRESH = 2.0

#: What a session of the administrator names.
ADMINISTRATOR = "administrator"


@dataclasses.dataclass(frozen=True)
class Person(UserMixin):
    """Somebody who may log in: what ``current_user`` is, once they did."""

    key: str  #: what a session names
    name: str
    role: Role
    epoch: str  #: a session of another one has ended
    user: User | None = None  #: their row; None: the administrator of the settings

    @classmethod
    def of(cls, user: User) -> Person:
        return cls(str(user.id), user.name, user.role, str(user.epoch), user)

    def may(self, needed: Role | str) -> bool:
        return self.role >= needed

    def get_id(self) -> str:
        return self.key


class Administrator:
    """Whom ADMIN_USER and ADMIN_PASSWORD name: works while PostgreSQL is away, and in an empty database.

    ``key`` gives what signs the sessions.
    """

    def __init__(self, settings: Settings, key: Callable[[], bytes]) -> None:
        self.name, self._settings, self._key = settings.admin_user, settings, key

    @property
    def can_log_in(self) -> bool:
        return bool(self._settings.current("admin_password"))

    @property
    def person(self) -> Person:
        # A new password, or a new name, ends old sessions.
        told = self.name.encode() + b"\0" + self._password()
        return Person(ADMINISTRATOR, self.name, Role.ADMIN, hmac.new(self._key(), told, "sha256").hexdigest())

    def accepts(self, password: str) -> bool:
        """Is it theirs? Takes the same time whatever is wrong."""
        return hmac.compare_digest(_digest(password), self._password()) & self.can_log_in

    def _password(self) -> bytes:
        return _digest(self._settings.current("admin_password"))


Opens = Callable[[], AbstractContextManager[Connection]]


class People:
    """The known people; the last good copy of the users stays in the process, for the time PostgreSQL is away."""

    def __init__(self, administrator: Administrator, opens: Opens, *, oidc_only: bool = False) -> None:
        """``oidc_only``: users with a password of ours stay out, and their sessions end."""
        self.administrator, self._opens, self._oidc_only = administrator, opens, oidc_only
        self._known: dict[str, User] | None = None
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def of(self, key: str) -> Person | None:
        """Who a session names, if they may still log in. Raises StoreDown: the users were never read."""
        if key == ADMINISTRATOR:
            return self.administrator.person if self.administrator.can_log_in else None
        user = self._current().get(key)
        return None if user is None or self._is_out(user) else Person.of(user)

    def user(self, name: str) -> User | None:
        """The user of this name, asked for anew where PostgreSQL answers. Raises StoreDown, as :meth:`of` does."""
        self.forget()
        user = next((user for user in self._current().values() if user.name == name), None)
        return None if user is None or self._is_out(user) else user

    def is_administrator(self, name: str) -> bool:
        return name.strip().lower() == self.administrator.name.strip().lower()

    def forget(self) -> None:
        """Ask anew next time: something was changed."""
        self._read_at = float("-inf")

    def _is_out(self, user: User) -> bool:
        # One who was there before ADMIN_USER took their name is not to pass for the administrator.
        barred = not user.is_active or (self._oidc_only and user.issuer is None)
        return barred or self.is_administrator(user.name)

    def _current(self) -> dict[str, User]:
        with self._lock:
            if self._known is not None and time.monotonic() - self._read_at < FRESH:
                return self._known
            self._read_at = time.monotonic()  # who comes meanwhile has the copy there is
            known = self._known
        try:
            with self._opens() as conn:
                self._known = {str(user.id): user for user in users.listed(conn)}
        except StoreDown:
            if known is None:
                raise
        return self._known or {}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
