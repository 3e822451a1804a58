"""Messages of Amazon SNS: did SNS sign them? And the way to the address that confirms a subscription.

An envelope names the certificate that shows it. So the address of that has to be SNS' own, and nothing is done for an
envelope, and nowhere is gone to, before its signature holds.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mutt.errors import Unavailable
from mutt.formats.base import Headers
from mutt.formats.sns import NOTIFICATION, SUBSCRIBED, TYPES, UNSUBSCRIBED
from mutt.settings import Settings
from mutt.web.fetch import Fetch
from mutt.web.signatures import BadSignature, Fault

log = logging.getLogger("mutt.ingest")

#: Of each type what is signed, in this order; one that a message does not have is left out.
_CHANGES = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIBED: _CHANGES,
    UNSUBSCRIBED: _CHANGES,
}

#: Of each SignatureVersion. SHA-1 is what topics have that nobody set otherwise.
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303  # SNS chooses

#: SNS in one of Amazon's regions; ``sns.s3-us-west-2`` is somebody's bucket.
_HOST = re.compile(r"sns\.[a-z]{2,8}(?:-[a-z]{2,16}){1,3}-\d{1,2}\.amazonaws\.(?:com|com\.cn|eu)")

#: An address in which nothing can be understood in two ways.
_ADDRESS = re.compile(r"https://([a-z0-9.:-]+)/([\x21-\x5b\x5d-\x7e]*)")

#: What stands behind the host: of a certificate's address, and of one that confirms a subscription.
CERTIFICATE = re.compile(r"[\w./-]*\.pem", re.ASCII)
CONFIRMATION = re.compile(r"\?Action=ConfirmSubscription&.*")

_HEADER = "x-amz-sns-message-type"

#: Certificates that are kept; a region has one at a time.
_KEPT = 32

Message = dict[str, Any]


class SnsProof:
    """Sees that a message is SNS'. ``now`` gives an aware time."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._hosts, self._now = settings.aws_sns_hosts, now
        self._fetch = Fetch(settings.aws_sns_ca)
        self._certificates: dict[str, x509.Certificate] = {}
        self._lock = threading.Lock()

    def __call__(self, headers: Headers, body: bytes) -> None:
        """See that ``body`` is one message that SNS signed; confirm the subscription that it asks to confirm.

        Raises :class:`BadSignature`; Unavailable where SNS can't be asked: it sends the message again.
        """
        message = read(headers, body)
        certificate = self._certificate(address(message, "SigningCertURL", CERTIFICATE, self._hosts))
        verify(message, certificate, self._now())
        if message["Type"] == SUBSCRIBED:
            self._confirm(message)

    def _certificate(self, url: str) -> x509.Certificate:
        with self._lock:
            if known := self._certificates.get(url):
                return known
        data = self._fetch.get(url)
        try:
            found = x509.load_pem_x509_certificate(data)
        except ValueError:
            raise Unavailable("what stands at SigningCertURL is no certificate", 10) from None
        with self._lock:
            if len(self._certificates) >= _KEPT:
                self._certificates.clear()
            self._certificates[url] = found
        return found

    def _confirm(self, message: Message) -> None:
        self._fetch.get(address(message, "SubscribeURL", CONFIRMATION, self._hosts))
        log.info("subscribed to %s", message["TopicArn"])


def read(headers: Headers, body: bytes) -> Message:
    """The one message that ``body`` is. Raises :class:`BadSignature`."""
    try:
        found = msgspec.json.decode(body, type=Message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        found = {}
    if found.get("Type") not in TYPES:
        why = "is not that of one message of SNS: send each alone, as it does, and raw messages to /ingest"
        raise BadSignature("Type", why, Fault.UNREADABLE)
    if headers.get(_HEADER.upper(), "") != found["Type"]:
        # Without it the message may have come by the lane, where nobody may be kept waiting.
        why = "is missing, or not the message's Type: only SNS itself posts its messages here"
        raise BadSignature(_HEADER, why, Fault.MISSING)
    return found


def address(message: Message, field: str, path: re.Pattern[str], hosts: Sequence[str] = ()) -> str:
    """The address in ``field``, if it is one of SNS' own, or of one of ``hosts``. Raises :class:`BadSignature`."""
    found = message.get(field)
    parts = _ADDRESS.fullmatch(found) if isinstance(found, str) else None
    if parts is None or not (_HOST.fullmatch(parts[1]) or parts[1] in hosts) or not path.fullmatch(parts[2]):
        why = "is no address of SNS in one of Amazon's regions (AWS_SNS_HOSTS names those of a private cloud)"
        raise BadSignature(field, why, Fault.UNREADABLE)
    return parts[0]


def verify(message: Message, certificate: x509.Certificate, now: datetime) -> None:
    """Is the message signed with this certificate's key, and is that good now? Raises :class:`BadSignature`."""
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        why = f"names a certificate that is good until {certificate.not_valid_after_utc:%Y-%m-%d} only"
        raise BadSignature("SigningCertURL", f"{why}, and not now", Fault.STALE)
    key, chosen = certificate.public_key(), _HASHES.get(str(message.get("SignatureVersion")))
    if chosen is None or not isinstance(key, rsa.RSAPublicKey):
        raise BadSignature("SignatureVersion", "is none of 1 and 2, with an RSA key", Fault.UNREADABLE)
    try:
        signature = base64.b64decode(str(message.get("Signature")), validate=True)
        key.verify(signature, signed(message), padding.PKCS1v15(), chosen)
    except (binascii.Error, ValueError, InvalidSignature):
        why = "is not that of this message: it was changed on its way, or did not come from SNS"
        raise BadSignature("Signature", why, Fault.WRONG) from None


def signed(message: Message) -> bytes:
    """What SNS signs of a message: names and values, a line each."""
    names = (name for name in _SIGNED[message["Type"]] if message.get(name) is not None)
    return "".join(f"{name}\n{message[name]}\n" for name in names).encode("utf-8", "surrogatepass")
