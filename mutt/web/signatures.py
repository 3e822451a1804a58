"""Signatures of webhooks: these bytes come, now, from somebody who knows the source's secret.

Pure. What is signed is the body as it came, byte for byte, before it is decompressed. A header may hold several
signatures, as it does while its sender changes secrets: one that is right is enough.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from enum import StrEnum
from types import MappingProxyType

from mutt.errors import Refused, RuleError
from mutt.formats.base import Headers
from mutt.grant import Signing

#: Seconds that a signed timestamp may be off, if nobody says otherwise: as Slack and Stripe have it.
TOLERANCE = 300

#: Characters of a secret: fewer can be guessed.
SECRET_MIN, SECRET_MAX = 16, 512

ALGORITHMS = ("sha256", "sha512", "sha1")
ENCODINGS = ("hex", "base64")

#: How known senders sign; their secrets are each one's own.
PRESETS = MappingProxyType(
    {
        "generic": Signing("X-Signature", ""),
        "timestamped": Signing(
            "X-Signature", "", timestamp_header="X-Timestamp", template="{timestamp}.{body}"
        ),
        "github": Signing("X-Hub-Signature-256", "", prefix="sha256="),
        "grafana": Signing("X-Grafana-Alerting-Signature", ""),
        # Grafana signs a time where its contact point names a header for it; this is the name of its own examples.
        "grafana-timestamp": Signing(
            "X-Grafana-Alerting-Signature",
            "",
            timestamp_header="X-Grafana-Alerting-Signature-Timestamp",
            template="{timestamp}:{body}",
        ),
        "pagerduty": Signing("X-PagerDuty-Signature", "", prefix="v1="),
        "slack": Signing(
            "X-Slack-Signature",
            "",
            prefix="v0=",
            timestamp_header="X-Slack-Request-Timestamp",
            template="v0:{timestamp}:{body}",
        ),
        "stripe": Signing(
            "Stripe-Signature",
            "",
            prefix="v1=",
            timestamp_header="Stripe-Signature",
            template="{timestamp}.{body}",
        ),
    }
)

#: Of a header that holds the time beside the signatures.
_TIME_PREFIX = "t="

_BETWEEN = re.compile(r"[\s,;]+")
_SECONDS = re.compile(r"[0-9]{1,12}")
_TOKEN = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]{1,64}")
_PREFIX = re.compile(r"[\x21-\x2b\x2d-\x3a\x3c-\x7e]{0,32}")
_PLACES = re.compile(r"\{(\w*)\}")


class Fault(StrEnum):
    """What is wrong with a signature."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    STALE = "stale"
    WRONG = "wrong"


class BadSignature(Refused):
    """A post does not show that it is its source's. ``field`` is the header at fault."""

    def __init__(self, field: str, reason: str, fault: Fault) -> None:
        super().__init__(field, reason)
        self.fault = fault


def check(signing: Signing, secret: bytes, headers: Headers, body: bytes, now: float) -> None:
    """Is one of the signatures in ``headers`` that of ``body``, and of about ``now`` (epoch seconds)?

    Takes the same time for every signature. Raises :class:`BadSignature`.
    """
    given = _elements(headers.get(signing.header.upper(), ""))
    if not given:
        raise BadSignature(signing.header, "is missing: send the signature of the body in it", Fault.MISSING)
    found = _signatures(signing, given)
    if not found:
        behind = f" behind {signing.prefix}" if signing.prefix else ""
        what = f"holds no {signing.algorithm.upper()} in {signing.encoding}{behind}"
        raise BadSignature(signing.header, f"{what}: send the signature so", Fault.UNREADABLE)
    expected = _digest(signing, secret, _time(signing, headers, given, now), body)
    same = False
    for signature in found:
        same |= hmac.compare_digest(signature, expected)
    if not same:
        wanted = f"is not that of {signing.template} with the secret of this source"
        why = f"{wanted}: sign the body's bytes as they are sent, and look at the secret"
        raise BadSignature(signing.header, why, Fault.WRONG)


def _elements(value: str) -> list[str]:
    return [element for element in _BETWEEN.split(value) if element]


def _signatures(signing: Signing, elements: list[str]) -> list[bytes]:
    """Those of ``elements`` that may be a signature."""
    texts = [one.removeprefix(signing.prefix) for one in elements if one.startswith(signing.prefix)]
    found = [_decoded(text, signing.encoding) for text in texts]
    size = hashlib.new(signing.algorithm).digest_size
    return [one for one in found if len(one) == size]


def _decoded(text: str, encoding: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if encoding == "base64" else binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        return b""


def _time(signing: Signing, headers: Headers, given: list[str], now: float) -> str:
    """The time that is signed, as it was sent; nothing where none is. Raises :class:`BadSignature`."""
    name = signing.timestamp_header
    if not name:
        return ""
    if name.lower() == signing.header.lower():
        times = [one.removeprefix(_TIME_PREFIX) for one in given if one.startswith(_TIME_PREFIX)]
    else:
        times = _elements(headers.get(name.upper(), ""))
    if not times:
        raise BadSignature(name, "does not say when this was signed: send the time in it", Fault.MISSING)
    if len(times) > 1 or not _SECONDS.fullmatch(times[0]):
        raise BadSignature(name, "is no time: send one, in seconds since 1970", Fault.UNREADABLE)
    off = now - int(times[0])
    if abs(off) > signing.tolerance:
        where = f"{abs(off):.0f} s {'ago' if off > 0 else 'ahead'}"
        why = f"is {where}, and may be {signing.tolerance} s: sign it anew, and set the clocks"
        raise BadSignature(name, why, Fault.STALE)
    return times[0]


def _digest(signing: Signing, secret: bytes, time: str, body: bytes) -> bytes:
    before, _, behind = signing.template.replace("{timestamp}", time).partition("{body}")
    made = hmac.new(secret, before.encode(), signing.algorithm)
    made.update(body)
    made.update(behind.encode())
    return made.digest()


def checked(signing: Signing) -> Signing:
    """``signing``, if signatures can be checked as it says. Raises :class:`RuleError` with the field at fault."""
    if not _TOKEN.fullmatch(signing.header):
        raise RuleError("header", "is no name of a header: letters, digits and -, such as X-Signature")
    if signing.algorithm not in ALGORITHMS:
        raise RuleError("algorithm", f"is none of {', '.join(ALGORITHMS)}")
    if signing.encoding not in ENCODINGS:
        raise RuleError("encoding", f"is none of {', '.join(ENCODINGS)}")
    if not _PREFIX.fullmatch(signing.prefix):
        raise RuleError(
            "prefix", "has a blank, a comma or a semicolon, or over 32 characters: such as sha256="
        )
    _check_time(signing)
    return signing


def _check_time(signing: Signing) -> None:
    places, time = _PLACES.findall(signing.template), signing.timestamp_header
    if len(signing.template) > 200 or places.count("body") != 1 or set(places) - {"body", "timestamp"}:
        raise RuleError("template", "must hold {body} once, and beside text nothing but {timestamp}")
    if bool(time) != (places.count("timestamp") == 1):
        raise RuleError("template", "must hold {timestamp} once where a header has it, and only there")
    if not time:
        return
    if not _TOKEN.fullmatch(time):
        raise RuleError("timestamp_header", "is no name of a header: letters, digits and -")
    if time.lower() == signing.header.lower() and not signing.prefix:
        raise RuleError("prefix", "is needed where one header holds both: t=…,v1=… has v1=")
    # Else a digit could wander from the body into the time, under the same signature.
    if re.search(r"\{timestamp\}(\d|\{)|[\d}]\{timestamp\}", signing.template):
        raise RuleError("template", "must part {timestamp} from digits and from {body}: {timestamp}.{body}")
    if not 1 <= signing.tolerance <= 86400:
        raise RuleError("tolerance", "is not from 1 to 86400 seconds")


def checked_secret(secret: str) -> str:
    """``secret`` without blanks around it. Raises :class:`RuleError`."""
    secret = secret.strip()
    if not SECRET_MIN <= len(secret) <= SECRET_MAX or "\0" in secret:
        raise RuleError("secret", f"has not {SECRET_MIN} to {SECRET_MAX} characters: make a longer one")
    return secret
