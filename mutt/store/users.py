"""People in PostgreSQL: who may log in, and as what; changed with a note of who did it. A hash is in no note."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from mutt.errors import Refused
from mutt.store import history
from mutt.store.history import Said
from mutt.store.tables import Role as Role
from mutt.store.tables import users

#: A name stands in the history and in logs: an e-mail address is one.
NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")

#: Under these names MUTT itself and its key stand in the history.
RESERVED = frozenset({"api", "mutt"})

_row = users.c


@dataclasses.dataclass(frozen=True)
class User:
    """One row of ``users``; times are aware."""

    id: int
    name: str
    role: Role
    password_hash: str | None = dataclasses.field(repr=False)
    issuer: str | None
    subject: str | None
    is_active: bool
    epoch: int  #: a session of another one has ended
    created_at: datetime
    password_changed_at: datetime | None
    last_login_at: datetime | None


def check_name(name: str) -> str:
    """The name as it is kept. Raises :class:`Refused`."""
    found = name.strip().lower()
    if not NAME.fullmatch(found):
        raise Refused(
            "name",
            "is no name: write up to 128 of a-z, 0-9 and . _ @ + -, beginning with a letter or a digit",
        )
    if found in RESERVED:
        raise Refused("name", f"{found} stands for MUTT itself in the history; choose another")
    return found


def check_role(role: str) -> Role:
    """The role of this name. Raises :class:`Refused`."""
    try:
        return Role(role.strip().lower())
    except ValueError:
        raise Refused("role", f"{role[:40]!r} is none of {', '.join(Role)}") from None


def listed(conn: Connection) -> list[User]:
    """All of them, by name."""
    return [_user(row) for row in conn.execute(select(users).order_by(_row.name))]


def by_name(conn: Connection, name: str) -> User | None:
    return _one(conn, _row.name == name)


def by_id(conn: Connection, user_id: int) -> User | None:
    return _one(conn, _row.id == user_id)


def by_subject(conn: Connection, issuer: str, subject: str) -> User | None:
    """Whom an OIDC provider calls ``subject``."""
    return _one(conn, (_row.issuer == issuer) & (_row.subject == subject))


def make(
    conn: Connection,
    name: str,
    role: Role | str,
    *,
    password_hash: str | None = None,
    issuer: str | None = None,
    subject: str | None = None,
    administrator: str = "",
    **said: Unpack[Said],
) -> User:
    """Make a user: with the hash of a password, or one whom a provider knows as ``subject``.

    ``administrator`` is ADMIN_USER: nobody else can have that name. Raises :class:`Refused` with the field at fault.
    """
    found = check_name(name)
    if found == administrator.strip().lower():
        raise Refused("name", f"{found} is the administrator that ADMIN_USER names; choose another")
    values = {
        "name": found,
        "role": check_role(role),
        "password_hash": password_hash,
        "issuer": issuer,
        "subject": subject,
        "password_changed_at": None if password_hash is None else func.now(),
    }
    made = conn.execute(insert(users).values(values).on_conflict_do_nothing().returning(users)).first()
    if made is None:
        raise _taken(conn, found)
    user = _user(made)
    _note(conn, "CREATE", found, said, after=_told(user))
    return user


def change(
    conn: Connection,
    name: str,
    *,
    role: Role | str | None = None,
    is_active: bool | None = None,
    password_hash: str | None = None,
    **said: Unpack[Said],
) -> User:
    """Change what is given. Whatever really changes ends all of their sessions. Raises ``LookupError``, Refused."""
    before = _locked(conn, name)
    wanted: dict[str, Any] = {}
    if role is not None and check_role(role) is not before.role:
        wanted["role"] = check_role(role)
    if is_active is not None and is_active != before.is_active:
        wanted["is_active"] = is_active
    if password_hash is not None:
        wanted |= {"password_hash": password_hash, "password_changed_at": func.now()}
    if not wanted:
        return before
    after = _update(conn, before, wanted | {"epoch": _row.epoch + 1})
    _note(conn, "UPDATE", name, said, before=_told(before), after=_told(after))
    return after


def end_sessions(conn: Connection, name: str, **said: Unpack[Said]) -> User:
    """End all of their sessions. Raises ``LookupError``."""
    before = _locked(conn, name)
    after = _update(conn, before, {"epoch": _row.epoch + 1})
    _note(conn, "UPDATE", name, said, before=_told(before), after=_told(after))
    return after


def rehash(conn: Connection, user: User, password_hash: str) -> None:
    """Keep the same password under a newer hash, unless it was changed meanwhile. No change that people make."""
    same = (_row.id == user.id) & (_row.password_hash == user.password_hash)
    conn.execute(update(users).where(same).values(password_hash=password_hash))


def note_login(conn: Connection, user_id: int) -> None:
    """They logged in just now."""
    conn.execute(update(users).where(_row.id == user_id).values(last_login_at=func.now()))


def _one(conn: Connection, which: ColumnElement[bool]) -> User | None:
    row = conn.execute(select(users).where(which)).first()
    return None if row is None else _user(row)


def _locked(conn: Connection, name: str) -> User:
    row = conn.execute(select(users).where(_row.name == name).with_for_update()).first()
    if row is None:
        raise LookupError(f"there is no user {name}")
    return _user(row)


def _update(conn: Connection, user: User, values: dict[str, Any]) -> User:
    changed = update(users).where(_row.id == user.id).values(values).returning(users)
    return _user(conn.execute(changed).one())


def _user(row: Any) -> User:
    values = row._asdict()
    return User(**values | {"role": Role(values["role"])})


def _taken(conn: Connection, name: str) -> Refused:
    if by_name(conn, name) is not None:
        return Refused("name", f"there is a user {name} already")
    return Refused("subject", "the provider's user has a name here already")


def _told(user: User) -> dict[str, Any]:
    """What the history says of a user."""
    changed = user.password_changed_at
    return {
        "name": user.name,
        "role": user.role.value,
        "issuer": user.issuer,
        "subject": user.subject,
        "is_active": user.is_active,
        "epoch": user.epoch,
        "password_changed_at": changed and changed.isoformat(),
    }


def _note(conn: Connection, operation: str, name: str, said: Said, **what: Any) -> None:
    history.note(conn, operation=operation, table_name=users.name, record_id=name, **what, **said)
