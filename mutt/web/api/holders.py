"""Who asks the management API: the holder of a key, as PostgreSQL knows it, or of MANAGEMENT_API_KEY."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from flask import request

from mutt.errors import SettingsError, StoreDown, Unavailable
from mutt.grant import MANAGEMENT, Grant, digest_of
from mutt.sealing import Sealer
from mutt.services import Services
from mutt.store import keys, lookup
from mutt.store.engine import transaction
from mutt.web.api.wrong import Wrong
from mutt.web.signatures import BadSignature, check

log = logging.getLogger("mutt.api")

#: The name under which MANAGEMENT_API_KEY's changes stand in the history; those of a key stand under ``api:NAME``.
KEY_NAME = "api"

#: Seconds that a process uses its copy of the keys before it asks PostgreSQL again: a revoked key is good no longer.
FRESH = 2.0

#: Likewise for a key that is not known: it may have been made just now.
MISSED = 0.5

#: Seconds between two notes of a key's use.
NOTED = 60.0

_UNREAD = "the API keys can't be read: PostgreSQL does not answer"


class Holders:
    """The keys that may manage. While PostgreSQL is away the last good copy holds: nobody can change it then."""

    def __init__(self, services: Services) -> None:
        self._services, self._settings = services, services.settings
        self._sealer = Sealer(lambda: self._settings.current("sealing_key"))
        self._copy: Mapping[str, Grant] | None = None
        self._read_at = float("-inf")
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def of(self, key: bytes) -> str:
        """Whose changes they are that come with ``key``, as the history names them. Raises :class:`Wrong`.

        How long that takes tells nothing of the keys there are (docs/decisions/0033).
        """
        digest, management = digest_of(key), self._settings.current("management_api_key")
        ours, theirs = _is(digest, management), _is(digest, self._settings.current("ingest_api_key"))
        if ours:
            return KEY_NAME
        if theirs:
            raise Wrong(403, "this key may send events, and not manage: use one of the scope management")
        copy = self._current()
        if digest not in copy:
            copy = self._current(MISSED)
        grant = copy.get(digest)
        if grant is None or grant.expired(time.time()):
            if not management and not any(one.allows(MANAGEMENT) for one in copy.values()):
                told = "no key may manage: set MANAGEMENT_API_KEY, or make a key of the scope management"
                raise Wrong(HTTPStatus.SERVICE_UNAVAILABLE, told, retry_after=60)
            raise Wrong(401, "the key is not known, has expired, or is revoked")
        if not grant.allows(MANAGEMENT):
            raise Wrong(403, f"the key {grant.name} may send events, and not manage")
        self._check_signature(grant)
        self._note_use(digest)
        return f"{KEY_NAME}:{grant.name}"

    def _current(self, fresh: float = FRESH) -> Mapping[str, Grant]:
        with self._lock:
            stale = time.monotonic() - self._read_at >= fresh
            if stale:
                self._read_at = time.monotonic()  # others go on with the last copy meanwhile
        if stale or self._copy is None:
            try:
                with lookup.reading(self._services.engine) as conn:
                    self._copy = keys.copy(conn)
            except StoreDown as error:
                log.warning("the API keys can't be read: %s", error)
        if self._copy is None:
            raise Unavailable(_UNREAD, round(FRESH))
        return self._copy

    def _check_signature(self, grant: Grant) -> None:
        """A key whose source signs is no good without the signature, here too."""
        if grant.signing is None:
            return
        try:
            secret = self._sealer.open(grant.signing.secret)
            check(grant.signing, secret, request.headers, request.get_data(), time.time())
        except SettingsError as error:
            log.error("the signing secret of %s can't be opened: %s", grant.name, error)
            raise Wrong(503, "the secret of this key's signature can't be opened", retry_after=60) from None
        except BadSignature as error:
            raise Wrong(401, str(error), field=error.field, reason=error.reason) from None

    def _note_use(self, digest: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._noted.get(digest, float("-inf")) < NOTED:
                return
            self._noted[digest] = now
        try:
            with transaction(self._services.engine) as conn:
                keys.note_use(conn, {digest: datetime.now(UTC)})
        except StoreDown:
            log.debug("the use of a key is not noted: PostgreSQL does not answer")


def _is(digest: str, known: str) -> bool:
    return hmac.compare_digest(digest, digest_of(known.encode())) and bool(known)
