"""Signatures of the real SNS: messages that it signed in March 2026, as Amazon's own SDK for Java is tested with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from mutt.web import sns
from mutt.web.signatures import BadSignature, Fault

HERE = Path(__file__).parents[1]
NAMES = ("notification", "no-subject", "version-2", "subscription", "unsubscribed")
(PEM,) = (HERE / "vectors" / "sns").iterdir()
CERTIFICATE = x509.load_pem_x509_certificate(PEM.read_bytes())
THEN = datetime(2026, 3, 6, 20, tzinfo=UTC)


def body(name: str) -> bytes:
    return (HERE / "samples" / "sns" / f"{name}.json").read_bytes()


def read(data: bytes) -> sns.Message:
    return sns.read({"X-AMZ-SNS-MESSAGE-TYPE": json.loads(data)["Type"]}, data)


@pytest.mark.parametrize("name", NAMES)
def test_what_amazon_signed_holds_and_what_was_changed_does_not(name: str) -> None:
    message = read(body(name))
    where = sns.address(message, "SigningCertURL", sns.CERTIFICATE)
    assert where.endswith(PEM.name)
    sns.verify(message, CERTIFICATE, THEN)
    for field in ("Message", "MessageId", "Timestamp", "TopicArn", "SubscribeURL", "Token"):
        if field in message:
            with pytest.raises(BadSignature) as refused:
                sns.verify(message | {field: message[field] + " "}, CERTIFICATE, THEN)
            assert refused.value.fault is Fault.WRONG


def test_its_certificate_is_good_for_its_time_only() -> None:
    message = read(body("notification"))
    for then in (datetime(2025, 11, 9, tzinfo=UTC), datetime(2026, 10, 16, tzinfo=UTC)):
        with pytest.raises(BadSignature) as refused:
            sns.verify(message, CERTIFICATE, then)
        assert refused.value.fault is Fault.STALE


def test_where_a_subscription_is_confirmed() -> None:
    message = read(body("subscription"))
    assert sns.address(message, "SubscribeURL", sns.CONFIRMATION) == message["SubscribeURL"]
