"""Spans, as values, and how one says what it follows from: a ``traceparent`` of W3C's Trace Context.

Here it is a text of 55 characters, ``00-<trace id>-<span id>-01``, or empty: not traced. It travels with a request's
events in the queue and with their alerts. Which id a span has follows from what it is about: who passes its context
on and who records it need not know each other.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Version, trace id, span id, flags; a later version may say more.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)

#: A request's span in one trace, and what it follows from: none, and the trace begins here.
Begun = tuple[str, str]

UNTRACED: Begun = ("", "")


@dataclass(frozen=True, slots=True)
class Span:
    """A span that is over."""

    name: str
    own: str  #: its context
    parent: str  #: of the same trace; empty: it is the first
    began: float  #: seconds since the epoch
    seconds: float
    kind: str = "internal"  #: server, client or consumer
    about: Mapping[str, str | int | float] = field(default_factory=dict)
    links: Sequence[str] = ()
    failed: str = ""  #: why, if it did


def asked(header: str) -> str | None:
    """What a sender's ``traceparent`` asks for: the context to go on with, or '' for no trace.

    None: it is none, or can't be read, and asks for nothing.
    """
    found = _TRACEPARENT.fullmatch(header)
    if found is None or (found[1] == "00" and found[5]):
        return None
    return f"00-{found[2]}-{found[3]}-01" if int(found[4], 16) & 1 else ""


def fresh() -> str:
    """The first span of a new trace."""
    return f"00-{_some(16)}-{_some(8)}-01"


def under(parent: str, about: str) -> str:
    """The context of the span under ``parent`` that is about ``about``: the same for whoever asks."""
    digest = hashlib.blake2b(f"{parent} {about}".encode(), digest_size=8).hexdigest()
    return f"{parent[:35]}-{_not_zero(digest)}-01"


def ids(context: str) -> tuple[int, int]:
    """The trace id and the span id of a context."""
    return int(context[3:35], 16), int(context[36:52], 16)


def _some(size: int) -> str:
    return _not_zero(os.urandom(size).hex())


def _not_zero(digits: str) -> str:
    # W3C calls an id of zeros none.
    return digits if digits.strip("0") else digits[:-1] + "1"
