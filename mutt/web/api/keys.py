"""The API keys: made, rotated, revoked. A key's text is in the answer that makes it, and never again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import msgspec
from sqlalchemy import Connection

from mutt.errors import Refused
from mutt.formats.mapping import TEXT_MAX
from mutt.formats.registry import FORMATS
from mutt.grant import EVERY_LEAST, EVERY_MOST, NOTE_MOST, QUOTA_MOST, SCOPES, TEAM_MOST, check_name
from mutt.services import Services
from mutt.source import ENVIRONMENTS, UNKNOWN, Source
from mutt.store import keys, lookup
from mutt.store.engine import transaction
from mutt.store.keys import Key
from mutt.web.api.routes import FLAG, TEXT, TIME, Json, Reply, Route, listing, obj, or_null
from mutt.web.api.wire import Stale, body, known, match, said
from mutt.web.published import published
from mutt.web.roles import ADMINS_ONLY

#: Seconds that the text before a rotation stays good, if nobody says otherwise; and at most.
OVERLAP, OVERLAP_MOST = 86400, 366 * 86400

_QUOTA = or_null({"type": "integer", "minimum": 1, "maximum": QUOTA_MOST})
_SPAN: Json = {"type": "integer", "minimum": 0, "maximum": OVERLAP_MOST, "default": OVERLAP}
_RIGHTS: dict[str, Json] = {
    "scopes": {"type": "array", "items": {"enum": list(SCOPES)}},
    "formats": {"type": "array", "items": {"enum": sorted(FORMATS)}},
    "quota": _QUOTA,
    "note": TEXT | {"maxLength": NOTE_MOST},
}
_SOURCE: dict[str, Json] = {
    "format": {"enum": ["", *sorted(FORMATS)]},
    "mapping": TEXT | {"maxLength": TEXT_MAX},
    "team": TEXT | {"maxLength": TEAM_MOST},
    "environment": {"enum": ["", *ENVIRONMENTS]},
    "severity": or_null({"type": "integer", "minimum": 0, "maximum": 7}),
    "every": or_null(
        {"anyOf": [{"const": 0}, {"type": "number", "minimum": EVERY_LEAST, "maximum": EVERY_MOST}]}
    ),
    "in_address": FLAG,
}
_SECRET = obj(
    "hint created_at expires_at revoked_at last_used_at",
    hint=TEXT,
    created_at=TIME,
    expires_at=or_null(TIME),
    revoked_at=or_null(TIME),
    last_used_at=or_null(TIME),
)
_STORED: dict[str, Json] = {
    "name": TEXT,
    **_RIGHTS,
    "signing": or_null({"type": "object"}),
    "source": obj(" ".join(_SOURCE), **_SOURCE),
    "created_at": TIME,
    "created_by": TEXT,
    "revoked_at": or_null(TIME),
    "last_used_at": or_null(TIME),
    "secrets": {"type": "array", "items": _SECRET},
}
_KEY = obj(" ".join(_STORED), **_STORED)
_MADE = obj(" ".join(["key", "published", *_STORED]), key=TEXT, published=FLAG, **_STORED)
_CHANGED = obj(" ".join(["published", *_STORED]), published=FLAG, **_STORED)


def routes(services: Services) -> list[Route]:
    return _Keys(services).routes()


class _Keys:
    """``/keys``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        one, tag = "/keys/<name>", "keys"
        found = [
            Route("GET", "/keys", self.index, "The API keys by name, those that are revoked too", tag,
                  listing("keys", _KEY)),
            Route("POST", "/keys", self.make, "Make a key; its text is in this answer, and never again", tag, _MADE,
                  status=201, body=obj("name scopes", name=TEXT, **_RIGHTS, expires_at=or_null(TIME))),
            Route("GET", one, self.get, "One key", tag, _KEY, missing=True),
            Route("PATCH", one, self.change, "Give a key other rights", tag, _CHANGED,
                  body=obj("", **_RIGHTS), kept=True, missing=True),
            Route("PUT", f"{one}/source", self.describe,
                  "Say what is known of a key's sender; what is left out is not known any more", tag, _CHANGED,
                  body=obj("", **_SOURCE), kept=True, missing=True),
            Route("POST", f"{one}/rotate", self.rotate,
                  "A new text for a key; the one in use is good for `overlap` seconds longer", tag, _MADE,
                  body=obj(overlap=_SPAN, expires_at=or_null(TIME)), missing=True),
            Route("POST", f"{one}/revoke", self.revoke,
                  "End a key for good, or, with `hint`, only the text that ends so", tag, _CHANGED,
                  body=obj(hint=TEXT), missing=True),
        ]  # fmt: skip
        return [dataclasses.replace(route, needs=ADMINS_ONLY) for route in found]

    def index(self) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            found = keys.listed(conn)
        return Reply({"keys": [stored_key(one) for one in found]})

    def get(self, name: str) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            key = _find(conn, name)
        return Reply(stored_key(key), etag=_etag(key))

    def make(self) -> Reply:
        given = body()
        known(given, ("name", *_RIGHTS, "expires_at"))
        name = given.get("name")
        if not isinstance(name, str):
            raise Refused("name", "is missing; write the name by which the key is known")
        with transaction(self._services.engine) as conn:
            rights = {"scopes": (), **_rights(given)}
            key, text = keys.make(conn, name, expires_at=_time(given, "expires_at"), **rights, **said())
        told = {**stored_key(key), "key": text, "published": published(self._services)}
        return Reply(told, 201, _etag(key), key.name)

    def change(self, name: str) -> Reply:
        given = body()
        known(given, tuple(_RIGHTS))
        with transaction(self._services.engine) as conn:
            key = _seen(conn, name)
            standing = {field: getattr(key, field) for field in _RIGHTS}
            changed = keys.change(conn, name, **{**standing, **_rights(given)}, **said())
        return self._changed(changed)

    def describe(self, name: str) -> Reply:
        given = body()
        known(given, tuple(_SOURCE))
        with transaction(self._services.engine) as conn:
            _seen(conn, name)
            changed = keys.describe(conn, name, _source(given), **said())
        return self._changed(changed)

    def rotate(self, name: str) -> Reply:
        given = body()
        known(given, ("overlap", "expires_at"))
        overlap = given.get("overlap", OVERLAP)
        if isinstance(overlap, bool) or not isinstance(overlap, int) or not 0 <= overlap <= OVERLAP_MOST:
            raise Refused("overlap", f"is no whole number of seconds from 0 to {OVERLAP_MOST}")
        with transaction(self._services.engine) as conn:
            key = _find(conn, name, lock=True)
            expires_at = _time(given, "expires_at")
            if expires_at is None and key.lifetime:
                expires_at = datetime.now(UTC) + key.lifetime
            text = keys.rotate(conn, name, timedelta(seconds=overlap), expires_at, **said())
            rotated = keys.find(conn, name)
        told = {**stored_key(rotated), "key": text, "published": published(self._services)}
        return Reply(told, etag=_etag(rotated))

    def revoke(self, name: str) -> Reply:
        given = body()
        known(given, ("hint",))
        hint = given.get("hint")
        with transaction(self._services.engine) as conn:
            key = _find(conn, name, lock=True)
            if hint is None:
                keys.revoke(conn, name, **said())
            else:
                keys.revoke_secret(conn, name, _ending(key, hint), **said())
            revoked = keys.find(conn, name)
        return self._changed(revoked)

    def _changed(self, key: Key) -> Reply:
        return Reply({**stored_key(key), "published": published(self._services)}, etag=_etag(key))


def stored_key(key: Key) -> dict[str, Any]:
    """A key as the API gives it: nothing that opens, and nothing by which that could be known."""
    signing = msgspec.to_builtins(key.signing)
    if signing:
        del signing["secret"]
    return {
        "name": key.name,
        "scopes": key.scopes,
        "formats": key.formats,
        "quota": key.quota,
        "note": key.note,
        "signing": signing,
        "source": {name: getattr(key.source, name) for name in _SOURCE},
        "created_at": key.created_at,
        "created_by": key.created_by,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "secrets": [{name: getattr(one, name) for name in _SECRET["properties"]} for one in key.secrets],
    }


def _find(conn: Connection, name: str, *, lock: bool = False) -> Key:
    try:
        check_name(name)
    except Refused:
        raise LookupError("there is no key of this name") from None
    return keys.find(conn, name, lock=lock)


def _seen(conn: Connection, name: str) -> Key:
    """The key, held, where it is what the writer has seen. Raises ``LookupError``, :class:`Stale`."""
    seen, key = match(), _find(conn, name, lock=True)
    if seen is not None and _etag(key) not in seen:
        raise Stale(stored_key(key), _etag(key))
    return key


def _etag(key: Key) -> str:
    """Of what people say of a key: that it was used since changes nothing."""
    told = stored_key(key)
    secrets = [{**one, "last_used_at": None} for one in told["secrets"]]
    return hashlib.sha256(msgspec.json.encode({**told, "last_used_at": None, "secrets": secrets})).hexdigest()


def _ending(key: Key, hint: Any) -> str:
    """The digest of the text that ends so. Raises :class:`Refused`."""
    ending = [one.digest for one in key.secrets if one.hint == hint]
    if len(ending) != 1:
        raise Refused("hint", f"is the end of {len(ending)} of its texts; name one of {_hints(key)}")
    return ending[0]


def _hints(key: Key) -> str:
    return ", ".join(one.hint for one in key.secrets)


def _rights(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the rights that are given, of the right types. Raises :class:`Refused`."""
    rights: dict[str, Any] = {}
    for name in ("scopes", "formats"):
        if name in given:
            rights[name] = _texts(given, name)
    if "quota" in given:
        quota = given["quota"]
        if isinstance(quota, bool) or not isinstance(quota, int | None):
            raise Refused("quota", f"is neither null nor a whole number from 1 to {QUOTA_MOST}")
        rights["quota"] = quota
    if "note" in given:
        if not isinstance(given["note"], str):
            raise Refused("note", "is no text")
        rights["note"] = given["note"]
    return rights


_FIELDS: dict[str, Any] = get_type_hints(Source)

#: What a field of a source is, for who wrote something else.
_KINDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int | None: "null or a whole number",
    float | None: "null or a number",
}


def _source(given: Mapping[str, Any]) -> Source:
    """Raises :class:`Refused`."""
    read: dict[str, Any] = {}
    for name, value in given.items():
        try:
            read[name] = msgspec.convert(value, _FIELDS[name])
        except msgspec.ValidationError:
            raise Refused(name, f"is not {_KINDS[_FIELDS[name]]}") from None
    return msgspec.structs.replace(UNKNOWN, **read)


def _texts(given: Mapping[str, Any], name: str) -> list[str]:
    value = given[name]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Refused(name, "is no list of texts")
    return value


def _time(given: Mapping[str, Any], name: str) -> datetime | None:
    value = given.get(name)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise Refused(name, "is no time; write one such as 2027-03-04T09:15:00Z") from None
