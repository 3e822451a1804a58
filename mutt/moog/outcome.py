"""Outcome: what Moog's answer means for the alerts that were sent; pure.

The answer says what to do, the caller says when. Reasons are a closed set: they label a metric.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec
import orjson

#: Characters of Moog's words that are kept with an alert.
TEXT_MAX = 500
#: No ``Retry-After`` stops the forwarding for longer than this, in seconds.
RETRY_AFTER_MAX = 3600.0


class Kind(enum.StrEnum):
    """What must happen next."""

    DELIVERED = "delivered"  #: done
    RETRY = "retry"  #: the same again, later
    AUTH = "auth"  #: the key is wrong: the breaker opens, the alerts wait
    CONFIG = "config"  #: the address is wrong: likewise
    TOO_LARGE = "too_large"  #: split the batch
    REFUSED = "refused"  #: bisect the batch, park the one bad alert
    THROTTLED = "throttled"  #: everyone pauses, then the same again
    UNSENT = "unsent"  #: the permit ran out: nothing was sent
    BROKEN = "broken"  #: MUTT itself failed on it: others first, and parked if it is this alert alone


class Reason(enum.StrEnum):
    """Why; the label of ``mutt_moog_requests_total``."""

    OK = "ok"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    CERTIFICATE = "certificate"
    HTTP_408 = "http_408"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    UNEXPECTED = "unexpected"
    AUTH = "auth"
    CONFIG = "config"
    REDIRECT = "redirect"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    SUCCESS_FALSE = "success_false"
    EXPIRED = "expired"
    BROKEN = "forwarding failed"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request."""

    kind: Kind
    reason: Reason
    moog_status: int | None = None  #: HTTP status; None: no answer came
    text: str = ""  #: Moog's words or the error's, cut; never holds the key
    retry_after: float | None = None  #: seconds that Moog asks for
    started_at: float | None = None  #: monotonic time of the first byte; None: nothing was sent


#: Statuses that mean something of their own; a fault of the address or of the way there is never an alert's.
BY_STATUS = {
    401: (Kind.AUTH, Reason.AUTH),
    403: (Kind.AUTH, Reason.AUTH),
    404: (Kind.CONFIG, Reason.CONFIG),
    405: (Kind.CONFIG, Reason.CONFIG),
    407: (Kind.CONFIG, Reason.CONFIG),
    408: (Kind.RETRY, Reason.HTTP_408),
    410: (Kind.CONFIG, Reason.CONFIG),
    413: (Kind.TOO_LARGE, Reason.TOO_LARGE),
    429: (Kind.THROTTLED, Reason.HTTP_429),
}
BY_CLASS = {
    2: (Kind.DELIVERED, Reason.OK),
    3: (Kind.CONFIG, Reason.REDIRECT),
    4: (Kind.REFUSED, Reason.REFUSED),
    5: (Kind.RETRY, Reason.HTTP_5XX),
}
BY_ERROR = {
    Reason.TIMEOUT: Kind.RETRY,
    Reason.CONNECTION: Kind.RETRY,
    Reason.CERTIFICATE: Kind.CONFIG,
    Reason.CONFIG: Kind.CONFIG,
    Reason.EXPIRED: Kind.UNSENT,
}


def judge(
    status: int | None,
    body: bytes,
    headers: Mapping[str, str],
    error: Reason | None = None,
    *,
    now: float,
    text: str = "",
    started_at: float | None = None,
) -> Answer:
    """Say what an exchange means.

    ``status`` is None where no status line came; ``error`` says what cut the exchange short, and ``text`` says it
    for people. ``now`` is the time of day in epoch seconds, for a ``Retry-After`` that names a date.
    A status that is not 2xx says enough by itself; a 2xx counts only if its whole answer came.
    """
    kind, reason = _decide(status, body, error)
    return Answer(
        kind=kind,
        reason=reason,
        moog_status=status,
        text=(text or body.decode(errors="replace"))[:TEXT_MAX],
        retry_after=None if kind is Kind.UNSENT else retry_after(headers, now),
        started_at=started_at,
    )


def _decide(status: int | None, body: bytes, error: Reason | None) -> tuple[Kind, Reason]:
    accepted = status is not None and 200 <= status < 300
    if error is not None and (status is None or accepted):
        return BY_ERROR[error], error
    if accepted and says_failure(body):
        return Kind.REFUSED, Reason.SUCCESS_FALSE
    if status in BY_STATUS:
        return BY_STATUS[status]
    return BY_CLASS.get((status or 0) // 100, (Kind.RETRY, Reason.UNEXPECTED))


def says_failure(body: bytes) -> bool:
    """Does the answer hold ``success: false``? An answer that is no JSON object says nothing."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    success = said.get("success", True) if isinstance(said, dict) else True
    return success is False or str(success).lower() == "false"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for, from a number or a date; None where it says nothing readable."""
    given = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(given)
    except ValueError:
        seconds = _until(given, now)
    return None if math.isnan(seconds) else min(max(seconds, 0.0), RETRY_AFTER_MAX)


def _until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return math.nan
