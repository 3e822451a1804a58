"""API keys in PostgreSQL: made, rotated, revoked and changed with a note of who did it.

A note tells of a key's rights and of its texts' times and last characters, never of a text or its digest. Whoever
changes something has :mod:`mutt.keyring` publish it after the commit: ingest reads the copy in Redis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Unpack

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Row,
    Text,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    update,
    values,
)
from sqlalchemy.dialects import postgresql

from mutt.errors import Refused
from mutt.grant import (
    HINT,
    Grant,
    Signing,
    check_fit,
    check_formats,
    check_name,
    check_note,
    check_quota,
    check_scopes,
    check_source,
    digest_of,
    new_key,
)
from mutt.source import UNKNOWN, Source
from mutt.store import history
from mutt.store.history import Said
from mutt.store.tables import api_key_secrets, api_keys

#: Texts of a key that may be good at once: the one in use and the one that follows it.
LIVE_MOST = 2

#: Whoever publishes holds this lock (of PostgreSQL) from before its look until Redis has what it saw.
_PUBLISHING = 0x6D757474_6B657973

_key, _secret = api_keys.c, api_key_secrets.c


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """One text of a key, known by its digest."""

    digest: str = dataclasses.field(repr=False)
    hint: str  #: its last characters
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A key, with all texts that it was ever given, the newest first."""

    id: int
    name: str
    scopes: tuple[str, ...]
    formats: tuple[str, ...]
    quota: int | None  #: events a minute
    signing: Signing | None = dataclasses.field(repr=False)
    source: Source  #: what is known of who sends with it
    note: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    signed_at: datetime | None  #: when a signature of its source was last good
    secrets: tuple[Secret, ...]

    def live(self, now: datetime) -> list[Secret]:
        """Its texts that are good, the newest first."""
        return [one for one in self.secrets if self.revoked_at is None and one.is_live(now)]

    @property
    def last_used_at(self) -> datetime | None:
        used = [self.signed_at, *(one.last_used_at for one in self.secrets)]
        return max((at for at in used if at), default=None)

    @property
    def lifetime(self) -> timedelta | None:
        """For how long its newest text was made to last; None: for ever."""
        newest = self.secrets[0]
        return newest.expires_at - newest.created_at if newest.expires_at else None


def listed(conn: Connection) -> list[Key]:
    """All of them by name, those that are revoked too."""
    return _found(conn, select(api_keys).order_by(_key.name))


class Sender(NamedTuple):
    """A key as far as it says who sends."""

    name: str
    scopes: tuple[str, ...]
    source: Source
    is_live: bool  #: is one of its texts good, or a signature enough?


def senders(conn: Connection, now: datetime) -> list[Sender]:
    """Likewise, in one statement and a third of the time: for who looks at them every few seconds."""
    good = exists().where(
        _secret.key_id == _key.id,
        _secret.revoked_at.is_(None),
        or_(_secret.expires_at.is_(None), _secret.expires_at > now),
    )
    asked = select(_key.name, _key.scopes, _key.source, _key.signing, _key.revoked_at.is_(None), good)
    return [
        Sender(name, tuple(scopes), _source_of(source), bool(stands and (signing or has_text)))
        for name, scopes, source, signing, stands, has_text in conn.execute(asked.order_by(_key.name))
    ]


def names(conn: Connection) -> list[str]:
    """What they are called, those that are revoked too: events may be stored under them."""
    return list(conn.execute(select(_key.name).order_by(_key.name)).scalars())


def find(conn: Connection, name: str, *, lock: bool = False) -> Key:
    """One key; ``lock`` keeps it as it is. Raises ``LookupError``."""
    query = select(api_keys).where(_key.name == name)
    found = _found(conn, query.with_for_update() if lock else query)
    if not found:
        raise LookupError(f"there is no key of the name {name[:64]!r}")
    return found[0]


def make(
    conn: Connection,
    name: str,
    scopes: Iterable[str],
    formats: Iterable[str] = (),
    quota: int | None = None,
    expires_at: datetime | None = None,
    note: str = "",
    **said: Unpack[Said],
) -> tuple[Key, str]:
    """A new key, and its text, which nobody can read again. Raises :class:`Refused` with the field at fault."""
    _check_future(conn, expires_at)
    row = {
        "name": check_name(name),
        "scopes": check_scopes(scopes),
        "formats": check_formats(formats),
        "quota": check_quota(quota),
        "note": check_note(note),
        "created_by": said["changed_by"],
    }
    made = postgresql.insert(api_keys).values(row).on_conflict_do_nothing().returning(_key.id)
    key_id = conn.execute(made).scalar_one_or_none()
    if key_id is None:
        raise Refused("name", f"{name} is taken, by a key that may be revoked: a name is given once")
    key = _give(conn, key_id, expires_at)
    after = find(conn, name)
    _note(conn, "CREATE", None, after, said)
    return after, key


def rotate(
    conn: Connection,
    name: str,
    overlap: timedelta,
    expires_at: datetime | None = None,
    **said: Unpack[Said],
) -> str:
    """A new text for a key; the one in use is good for ``overlap`` longer (none at all: it ends now).

    The new one ends at ``expires_at`` (None: never; :attr:`Key.lifetime` tells what the one before was given).
    Raises :class:`Refused`, ``LookupError``.
    """
    before = _standing(conn, name)
    now = _now(conn)
    _check_future(conn, expires_at)
    if overlap < timedelta():
        raise Refused("overlap", "is less than nothing: write a span such as 24h, or 0")
    live = before.live(now)
    if overlap and len(live) >= LIVE_MOST:
        hints = " and ".join(f"…{one.hint}" for one in live)
        raise Refused("name", f"{name} has two live keys, {hints}: revoke one, or wait until one has expired")
    mine = (_secret.key_id == before.id) & _secret.revoked_at.is_(None)
    if overlap:
        ends = func.least(func.coalesce(_secret.expires_at, now + overlap), now + overlap)
        conn.execute(update(api_key_secrets).where(mine).values(expires_at=ends))
    else:
        conn.execute(update(api_key_secrets).where(mine).values(revoked_at=now))
    key = _give(conn, before.id, expires_at)
    _note(conn, "UPDATE", before, find(conn, name), said)
    return key


def revoke(conn: Connection, name: str, **said: Unpack[Said]) -> None:
    """End a key for good, whatever texts it has. Once more does nothing. Raises ``LookupError``."""
    before = find(conn, name, lock=True)
    if before.revoked_at is None:
        conn.execute(update(api_keys).where(_key.id == before.id).values(revoked_at=func.now()))
        _note(conn, "UPDATE", before, find(conn, name), said)


def revoke_secret(conn: Connection, name: str, digest: str, **said: Unpack[Said]) -> None:
    """End one text of a key; another one stays good. Once more does nothing. Raises ``LookupError``."""
    before = find(conn, name, lock=True)
    secret = next((one for one in before.secrets if one.digest == digest), None)
    if secret is None:
        raise LookupError(f"{name} has no such key")
    if secret.revoked_at is None:
        conn.execute(update(api_key_secrets).where(_secret.digest == digest).values(revoked_at=func.now()))
        _note(conn, "UPDATE", before, find(conn, name), said)


def change(
    conn: Connection,
    name: str,
    *,
    scopes: Iterable[str],
    formats: Iterable[str],
    quota: int | None,
    note: str,
    **said: Unpack[Said],
) -> Key:
    """Give a key other rights. Raises :class:`Refused` with the field at fault, ``LookupError``."""
    allowed = check_formats(formats)
    changed = {
        "scopes": check_scopes(scopes),
        "formats": allowed,
        "quota": check_quota(quota),
        "note": check_note(note),
    }
    check_fit(_standing(conn, name).source, allowed)
    return _change(conn, name, changed, said)


def sign_with(conn: Connection, name: str, signing: Signing | None, **said: Unpack[Said]) -> Key:
    """Say how a key's source signs its requests; None: it does not. Raises :class:`Refused`, ``LookupError``."""
    return _change(conn, name, {"signing": signing}, said)


def describe(conn: Connection, name: str, source: Source, **said: Unpack[Said]) -> Key:
    """Say what is known of a key's source. Raises :class:`Refused` with the field at fault, ``LookupError``."""
    checked = check_source(source, _standing(conn, name).formats)
    return _change(conn, name, {"source": checked}, said)


def copy(conn: Connection) -> dict[str, Grant]:
    """What ingest has to know: what each live text allows, by its digest."""
    now = _now(conn)
    return {secret.digest: _grant(key, secret.expires_at) for key in listed(conn) for secret in key.live(now)}


def signed(conn: Connection) -> dict[str, Grant]:
    """The keys whose source signs, by name. They hold until they are revoked, or their signing is taken away."""
    return {key.name: _grant(key, None) for key in listed(conn) if key.signing and key.revoked_at is None}


def hold_publication(conn: Connection) -> int:
    """Wait until nobody else publishes, and keep others from it until this transaction ends; now, in microseconds.

    Else an older look could overwrite a newer one in Redis, and bring back a key that was revoked between the two.
    """
    conn.execute(select(func.pg_advisory_xact_lock(_PUBLISHING)))
    now: datetime = conn.execute(select(func.clock_timestamp())).scalar_one()
    return round(now.timestamp() * 1_000_000)


def note_use(conn: Connection, used: Mapping[str, datetime]) -> int:
    """When texts were used, by digest; an older time changes nothing. How many rows changed."""
    if not used:
        return 0
    given = values(Column("digest", Text), Column("at", DateTime(timezone=True)), name="given").data(
        [*used.items()]
    )
    later = or_(_secret.last_used_at.is_(None), _secret.last_used_at < given.c.at)
    noted = update(api_key_secrets).where(_secret.digest == given.c.digest, later)
    return conn.execute(noted.values(last_used_at=given.c.at)).rowcount


def note_signed(conn: Connection, used: Mapping[str, datetime]) -> int:
    """Likewise when sources were last heard of at ``/signed``, by name."""
    if not used:
        return 0
    given = values(Column("name", Text), Column("at", DateTime(timezone=True)), name="given").data(
        [*used.items()]
    )
    later = or_(_key.signed_at.is_(None), _key.signed_at < given.c.at)
    noted = update(api_keys).where(_key.name == given.c.name, later)
    return conn.execute(noted.values(signed_at=given.c.at)).rowcount


def _change(conn: Connection, name: str, changed: Mapping[str, Any], said: Said) -> Key:
    before = _standing(conn, name)
    after = dataclasses.replace(before, **changed)
    if after != before:
        row = dict(changed)
        if "signing" in row:
            row["signing"] = msgspec.to_builtins(after.signing) if after.signing else null()
        if "source" in row:
            row["source"] = msgspec.to_builtins(after.source) or null()
        conn.execute(update(api_keys).where(_key.id == before.id).values(row))
        _note(conn, "UPDATE", before, after, said)
    return after


def _standing(conn: Connection, name: str) -> Key:
    found = find(conn, name, lock=True)
    if found.revoked_at is not None:
        raise Refused("name", f"{name} is revoked, for good: make a key of another name")
    return found


def _give(conn: Connection, key_id: int, expires_at: datetime | None) -> str:
    key = new_key()
    row = {
        "digest": digest_of(key.encode()),
        "key_id": key_id,
        "hint": key[-HINT:],
        "expires_at": expires_at,
        # Not when the transaction began: of two in one transaction the second is the newer.
        "created_at": func.clock_timestamp(),
    }
    conn.execute(insert(api_key_secrets).values(row))
    return key


def _found(conn: Connection, query: Any) -> list[Key]:
    rows = conn.execute(query).all()
    if not rows:
        return []
    theirs: dict[int, list[Secret]] = {row.id: [] for row in rows}
    asked = select(api_key_secrets).where(_secret.key_id.in_(theirs)).order_by(_secret.created_at.desc())
    for row in conn.execute(asked):
        theirs[row.key_id].append(_secret_of(row))
    return [_key_of(row, theirs[row.id]) for row in rows]


def _secret_of(row: Row[Any]) -> Secret:
    return Secret(**{field.name: getattr(row, field.name) for field in dataclasses.fields(Secret)})


def _key_of(row: Row[Any], secrets: Sequence[Secret]) -> Key:
    return Key(
        **{
            **row._asdict(),
            "scopes": tuple(row.scopes),
            "formats": tuple(row.formats),
            "signing": msgspec.convert(row.signing, Signing) if row.signing else None,
            "source": _source_of(row.source),
            "secrets": tuple(secrets),
        }
    )


def _source_of(found: Any) -> Source:
    return msgspec.convert(found, Source) if found else UNKNOWN


def _grant(key: Key, expires_at: datetime | None) -> Grant:
    expires = expires_at.timestamp() if expires_at else None
    return Grant(key.name, key.scopes, key.formats, key.quota, expires, key.signing, key.source)


def _now(conn: Connection) -> datetime:
    found: datetime = conn.execute(select(func.now())).scalar_one()
    return found


def _check_future(conn: Connection, expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= _now(conn):
        raise Refused(
            "expires_at", f"{expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC is over: name a later time"
        )


def _note(conn: Connection, operation: str, before: Key | None, after: Key, said: Said) -> None:
    history.note(
        conn,
        operation=operation,
        table_name=api_keys.name,
        record_id=after.name,
        before=_told(before) if before else None,
        after=_told(after),
        **said,
    )


def _told(key: Key) -> dict[str, Any]:
    """What the history says of a key: nothing that opens, and nothing by which it could be known."""
    told: dict[str, Any] = msgspec.to_builtins(dataclasses.asdict(key))
    del told["id"], told["name"], told["signed_at"]
    told["secrets"] = [
        {name: value for name, value in one.items() if name not in ("digest", "last_used_at")}
        for one in told["secrets"]
    ]
    if told["signing"]:
        del told["signing"]["secret"]
    return told
