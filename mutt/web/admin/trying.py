"""A signature that is pasted: is it the one of this body?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from mutt.grant import Signing
from mutt.web.admin.keyforms import TryForm
from mutt.web.signatures import BadSignature, Fault, check

#: A time that a pasted signature may be off, so that the rest of it can be looked at.
_EVER = 10**12


class Tried(NamedTuple):
    """What came of a signature that was tried."""

    fault: Fault | None = None  #: None: it is good; stale: it is, but for its time
    why: str = ""


def tried_on(signing: Signing, secret: bytes, form: TryForm) -> Tried:
    """What came of it, whatever its time: a stale one is told apart."""
    headers = {
        signing.timestamp_header.upper(): (form.timestamp.data or "").strip(),
        signing.header.upper(): (form.signature.data or "").strip(),
    }
    now, tried = time.time(), Tried()
    for body in form.bodies():
        tried = _tried_now(msgspec.structs.replace(signing, tolerance=_EVER), secret, headers, body, now)
        if tried.fault is None:
            return _tried_now(signing, secret, headers, body, now)
    return tried


def _tried_now(signing: Signing, secret: bytes, headers: Mapping[str, str], body: bytes, now: float) -> Tried:
    try:
        check(signing, secret, headers, body, now)
    except BadSignature as error:
        return Tried(error.fault, str(error))
    return Tried()
