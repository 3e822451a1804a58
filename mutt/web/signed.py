"""Signed sources: who needs no key at ``/signed/NAME``, since a signature shows whose a post is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mutt.errors import SettingsError, Unavailable
from mutt.formats.base import Headers
from mutt.grant import Grant
from mutt.sealing import Sealer
from mutt.streams.connect import Client
from mutt.streams.keys import KeysCopy
from mutt.web import signatures
from mutt.web.copied import Copied

log = logging.getLogger("mutt.keys")

#: Seconds until a post is worth sending again whose secret can't be opened here: somebody has to set SEALING_KEY.
RETRY = 60


class Signed:
    """The sources that sign, by name; and the check of what they send."""

    def __init__(
        self, client: Client, sealing_key: Callable[[], str], clock: Callable[[], float] = time.time
    ) -> None:
        copy = KeysCopy(client)
        self._known, self._clock = Copied(copy.read_signed, copy.stamp_signed), clock
        self._sealer = Sealer(sealing_key)
        self._closed: set[str] = set()  # of whom it was logged that their secret can't be opened

    def source(self, name: str) -> Grant | None:
        """What the source of this name may do; None: none is called so. Raises Unavailable as the keys do."""
        found = self._known.get(name)
        if found is None:
            self._known.need()
            return None
        return found if found.signing else None  # a name alone opens nothing

    def check(self, grant: Grant, headers: Headers, body: bytes) -> None:
        """See that a post of ``grant`` is signed, if it has to be. ``body`` is what was sent, compressed or not.

        Raises :class:`BadSignature`; Unavailable where the secret can't be opened.
        """
        if grant.signing is None:
            return
        try:
            secret = self._sealer.open(grant.signing.secret)
        except SettingsError as error:
            if grant.signing.secret not in self._closed:
                self._closed.add(grant.signing.secret)
                log.error("posts of %s can't be checked: %s", grant.name, error)
            why = f"the secret that {grant.name} signs with can't be opened here: SEALING_KEY has to be set"
            raise Unavailable(why, RETRY) from None
        signatures.check(grant.signing, secret, headers, body, self._clock())
