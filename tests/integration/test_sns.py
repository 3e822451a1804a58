"""Amazon SNS at the door: what it signed is taken, what it did not is not, and nowhere is gone to but to SNS."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mutt import names
from mutt.errors import Unavailable
from mutt.settings import Settings
from mutt.web import sns as proof
from mutt.web.fetch import DEADLINE, WAITING, Fetch
from mutt.web.lane import recognised
from mutt.web.signatures import BadSignature
from tests.fake_sns import TOKEN, TOPIC, FakeSns, body_of
from tests.integration.test_ingest import GOOD, KEY, Ingest, is_problem, is_refused
from tests.sampled import damaged
from tests.servers import scratch


@pytest.fixture(scope="module")
def sns() -> Iterator[FakeSns]:
    with scratch() as directory, FakeSns(directory) as made:
        yield made


@pytest.fixture
def ingest(redis_url: str, sns: FakeSns) -> Ingest:
    sns.asked.clear()
    sns.confirms = 200
    made = Ingest(redis_url, aws_sns_hosts=(sns.host,), aws_sns_ca=str(sns.ca))
    made.knows()
    return made


def post(ingest: Ingest, message: Any, path: str = "/ingest/sns", **headers: str) -> Any:
    body = message if isinstance(message, bytes) else body_of(message)
    kind = message.get("Type", "") if isinstance(message, dict) else "Notification"
    told = {"Content_Type": "text/plain; charset=UTF-8", "x_amz_sns_message_type": kind} | headers
    return ingest.post(body, path, **{name: value for name, value in told.items() if value})


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("path", ["/ingest", "/ingest/sns"])
def test_what_sns_signed_is_taken(ingest: Ingest, sns: FakeSns, version: str, path: str) -> None:
    for more in ({}, {"Subject": "A subject"}, {"Message": '{"hostname": "core-1", "message": "a"}'}):
        assert post(ingest, sns.signed(sns.message(**more), version), path).status_code == 202
    assert [event.hostname for event in ingest.events()] == ["MyTopic", "MyTopic", "core-1"]
    assert sns.asked == ["/good.pem"]  # once


def test_among_others_it_is_not_taken_for_its_signature_is_that_of_a_request(
    ingest: Ingest, sns: FakeSns
) -> None:
    """Else anybody with a key could say what SNS says."""
    other = {"hostname": "core-1", "message": "fan failed"}
    forged = sns.message("SubscriptionConfirmation")
    for body in ([other, forged], [forged, other]):
        response = post(ingest, json.dumps(body).encode(), "/ingest")
        assert response.status_code == 202
        assert [item["field"] for item in response.get_json()["rejected"]] == ["Type"]
    assert [event.hostname for event in ingest.events()] == ["core-1", "core-1"]
    assert ingest.redis.xlen(names.DLQ_INGEST) == 2
    assert all(TOKEN not in str(entry) for entry in ingest.redis.xrange(names.DLQ_INGEST))


def test_its_key_may_be_the_password_of_the_subscriptions_address(ingest: Ingest, sns: FakeSns) -> None:
    basic = base64.b64encode(f"sns:{KEY}".encode()).decode()
    message = sns.signed(sns.message())
    assert (
        ingest.post(
            body_of(message), key=None, Authorization=f"Basic {basic}", x_amz_sns_message_type="Notification"
        ).status_code
        == 202
    )
    assert ingest.post(body_of(message), key=None, x_amz_sns_message_type="Notification").status_code == 401


def test_a_subscription_is_confirmed_and_an_event_says_so(
    ingest: Ingest, sns: FakeSns, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert post(ingest, sns.signed(sns.message("SubscriptionConfirmation"))).status_code == 202
    assert [path for path in sns.asked if TOKEN in path] != []
    (event,) = ingest.events()
    assert event.message == f"MUTT is subscribed to {TOPIC} from now on"
    assert TOKEN not in event.raw
    assert f"subscribed to {TOPIC}" in caplog.text
    assert TOKEN not in caplog.text


def test_one_that_can_not_be_confirmed_is_asked_for_again_and_no_event_says_that_it_was(
    ingest: Ingest, sns: FakeSns, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sns.confirms = 500
    told = is_refused(post(ingest, sns.signed(sns.message("SubscriptionConfirmation", Timestamp="later"))))
    assert ingest.accepted == 0
    assert TOKEN not in caplog.text + str(told)


def test_who_is_unsubscribed_is_told_and_goes_nowhere(ingest: Ingest, sns: FakeSns) -> None:
    assert post(ingest, sns.signed(sns.message("UnsubscribeConfirmation"))).status_code == 202
    assert sns.asked == ["/good.pem"]
    assert ingest.events()[0].severity == 4


def spoilt(sns: FakeSns) -> dict[str, tuple[str, Any]]:
    """By what is wrong: the field that the answer names, and the message."""
    good, confirm = sns.signed(sns.message()), sns.signed(sns.message("SubscriptionConfirmation"))
    certificate = "SigningCertURL"
    return {
        "changed": ("Signature", good | {"Message": "Hello"}),
        "another's topic": ("Signature", good | {"TopicArn": TOPIC + "s"}),
        "a subject put in": ("Signature", good | {"Subject": "A"}),
        "signed by another": ("Signature", good | {certificate: f"https://{sns.host}/another.pem"}),
        "no signature": ("Signature", {k: v for k, v in good.items() if k != "Signature"}),
        "no base64": ("Signature", good | {"Signature": "\u00e4"}),
        "of another version": ("Signature", good | {"SignatureVersion": "2"}),
        "of no version": ("SignatureVersion", good | {"SignatureVersion": "3"}),
        "expired": (certificate, sns.signed(sns.message(), signer="expired")),
        "confirms elsewhere": ("Signature", confirm | {"SubscribeURL": f"https://{sns.host}/?Action=Other"}),
        "two in one body": ("Type", b"[%b,%b]" % (body_of(good), body_of(good))),
        "certificate by http": (certificate, good | {certificate: f"http://{sns.host}/good.pem"}),
        "certificate from elsewhere": (certificate, good | {certificate: "https://evil.example/good.pem"}),
        "certificate from here": (certificate, good | {certificate: "https://127.0.0.1/good.pem"}),
        "no certificate": (certificate, good | {certificate: None}),
    }


def test_what_it_did_not_sign_is_refused_by_name_and_nobody_else_is_gone_to(
    ingest: Ingest, sns: FakeSns
) -> None:
    for wrong, (field, message) in spoilt(sns).items():
        told = is_problem(post(ingest, message), 401)
        assert told["field"] == field, wrong
    assert is_problem(post(ingest, sns.signed(sns.message()), x_amz_sns_message_type=""), 401)["field"] == (
        "x-amz-sns-message-type"
    )
    assert ingest.accepted == 0
    assert set(sns.asked) == {"/good.pem", "/another.pem", "/expired.pem"}


def test_why_it_was_not_taken_stands_where_its_source_is_shown(ingest: Ingest, sns: FakeSns) -> None:
    good = sns.signed(sns.message())
    assert post(ingest, good | {"Message": "Hello"}).status_code == 401
    assert post(ingest, good | {"SigningCertURL": f"https://{sns.host}/none.pem"}).status_code == 503
    heard = ingest.app.extensions["heard"].take()["bootstrap"]
    assert (heard.failed, heard.turned_away) == (2, 0.0), "no outage of ours that would excuse its silence"
    assert [one.field for one in heard.why] == ["503", "Signature"]
    assert heard.why[0].reason.startswith(f"{sns.host} can't be asked")


def test_a_damaged_message_is_refused_or_the_damage_did_not_matter(ingest: Ingest, sns: FakeSns) -> None:
    """Whatever stands where: it is no fault of ours, and nobody else is gone to."""
    for type_ in ("Notification", "SubscriptionConfirmation"):
        for body in damaged(body_of(sns.signed(sns.message(type_)))):
            response = ingest.post(body, x_amz_sns_message_type=type_)
            assert response.status_code in (202, 400, 401), (body, response.get_data(as_text=True))
    assert all(path == "/good.pem" or TOKEN in path for path in sns.asked)


def test_items_of_a_message_that_is_not_its_own_are_not_kept_either(ingest: Ingest, sns: FakeSns) -> None:
    bad = sns.signed(sns.message(Message='{"hostname": "", "message": ""}'))
    assert post(ingest, bad | {"Subject": "changed"}).status_code == 401
    assert ingest.redis.xlen(names.DLQ_INGEST) == 0
    assert post(ingest, bad).status_code == 400
    assert ingest.redis.xlen(names.DLQ_INGEST) == 1


@pytest.mark.parametrize("name", ["elsewhere", "text", "large"])
def test_a_certificate_that_can_not_be_had_is_a_503(ingest: Ingest, sns: FakeSns, name: str) -> None:
    message = sns.signed(sns.message()) | {"SigningCertURL": f"https://{sns.host}/{name}.pem"}
    told = is_refused(post(ingest, message))
    assert f"{name}.pem" not in told["detail"]
    assert sns.asked == [f"/{name}.pem"]


def test_one_that_comes_too_slowly_is_waited_for_two_seconds_and_then_not_asked_again(
    ingest: Ingest, sns: FakeSns
) -> None:
    message = sns.signed(sns.message()) | {"SigningCertURL": f"https://{sns.host}/endless.pem"}
    for most in (DEADLINE + 1, DEADLINE):
        began = time.monotonic()
        assert is_refused(post(ingest, message))["detail"].startswith(f"{sns.host} can't be asked (too slow)")
        assert time.monotonic() - began < most
    assert sns.asked == ["/endless.pem"]  # once
    assert ingest.post(GOOD).status_code == 202


def test_only_few_wait_for_a_certificate_at_once(sns: FakeSns) -> None:
    fetch, more = Fetch(str(sns.ca), deadline=0.5), 3

    def ask(at: int) -> str:
        with pytest.raises(Unavailable) as refused:
            fetch.get(f"https://{sns.host}/endless.pem?{at}")
        return str(refused.value)

    with ThreadPoolExecutor(WAITING + more) as pool:
        said = list(pool.map(ask, range(WAITING + more)))
    assert sum("is being asked for others" in one for one in said) == more


def test_no_login_of_this_machine_goes_to_where_a_message_points(
    sns: FakeSns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert Fetch(str(sns.ca)).get(f"https://{sns.host}/good.pem")
    assert sns.logins == []


def test_it_goes_by_the_proxy_of_the_environment(sns: FakeSns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which NO_PROXY excepts hosts."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    fetch = Fetch(str(sns.ca))
    with pytest.raises(Unavailable, match="ProxyError"):
        fetch.get(f"https://{sns.host}/good.pem")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert fetch.get(f"https://{sns.host}/good.pem?again")


def test_a_server_that_no_ca_vouches_for_hears_nothing(redis_url: str, sns: FakeSns) -> None:
    sns.asked.clear()
    made = Ingest(redis_url, aws_sns_hosts=(sns.host,))
    made.knows()
    assert "SSLError" in is_refused(post(made, sns.signed(sns.message())))["detail"]
    assert sns.asked == []


def test_what_comes_by_raw_message_delivery_is_what_it_is(ingest: Ingest) -> None:
    raw = {"x_amz_sns_rawdelivery": "true", "x_amz_sns_message_type": "Notification"}
    assert ingest.post(GOOD, **raw).status_code == 202
    told = is_problem(ingest.post(GOOD, "/ingest/sns", **raw), 401)
    assert told["field"] == "Type"


def test_it_keeps_nobody_of_the_lane_waiting(sns: FakeSns) -> None:
    body = body_of(sns.message())
    head = b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    assert recognised(head + b"\r\n" + body, "")
    assert not recognised(head + b"x-amz-sns-message-type: Notification\r\n\r\n" + body, "")


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb72.pem", True),
        ("https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-3250158c.pem", True),
        ("https://sns.eusc-de-east-1.amazonaws.eu/SimpleNotificationService-3250158c.pem", True),
        ("https://sns.example:8443/a/b.pem", True),
        ("https://sns.example/a.pem", False),
        ("https://sns.us-west-2.amazonaws.com:8443/a.pem", False),
        ("https://sns.us-west-2.amazonaws.com.evil.example/a.pem", False),
        ("https://evil.example/sns.us-west-2.amazonaws.com/a.pem", False),
        ("https://sns.us-west-2.amazonaws.com@evil.example/a.pem", False),
        ("https://evil.example\\@sns.us-west-2.amazonaws.com/a.pem", False),
        ("https://sns.us-west-2.amazonaws.com\t.evil.example/a.pem", False),
        ("https://snsxus-west-2.amazonaws.com/a.pem", False),
        ("https://s3.us-west-2.amazonaws.com/a.pem", False),
        ("https://sns.s3-us-west-2.amazonaws.com/a.pem", False),
        ("https://sns.s3-accelerate.amazonaws.com/a.pem", False),
        ("https://sns.us-gov-west-1.amazonaws.com/a.pem", True),
        ("https://bucket.sns.us-west-2.amazonaws.com/a.pem", False),
        ("https://sns.us-west-2.amazonaws.com/a.pem?b", False),
        ("https://sns.us-west-2.amazonaws.com/a.pem#b", False),
        ("https://sns.us-west-2.amazonaws.com/a", False),
        ("https://sns.us-west-2.amazonaws.com", False),
        ("HTTPS://SNS.US-WEST-2.AMAZONAWS.COM/a.pem", False),
        ("http://sns.us-west-2.amazonaws.com/a.pem", False),
        ("https://169.254.169.254/a.pem", False),
        ("https://sns.us-west-2.amazonaws.com/a.pem\n", False),
        (7, False),
    ],
    ids=str,
)
def test_whose_certificates_are_asked_for(url: object, good: bool) -> None:
    """With ``sns.example:8443`` in AWS_SNS_HOSTS."""
    settings = Settings.from_env({}, aws_sns_hosts=("sns.example:8443",))
    found: object = None
    try:
        found = proof.address(
            {"SigningCertURL": url}, "SigningCertURL", proof.CERTIFICATE, settings.aws_sns_hosts
        )
    except BadSignature as refused:
        assert "AWS_SNS_HOSTS" in str(refused)
    assert found == (url if good else None)
