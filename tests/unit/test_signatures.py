"""Signatures of webhooks: what a sender of the documented kind signs passes, and nothing else does."""

from __future__ import annotations

import base64
import dataclasses
import hmac
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.grant import Signing
from mutt.web.signatures import (
    ALGORITHMS,
    ENCODINGS,
    PRESETS,
    BadSignature,
    Fault,
    check,
    checked,
    checked_secret,
)

NOW = 1_800_000_000
SECRET = b"It's a Secret to Everybody"

#: Schemes of every shape.
timed = st.sampled_from(
    ["{timestamp}.{body}", "v0:{timestamp}:{body}", "{body}|{timestamp}", "{timestamp}\n{body}"]
)
plain = st.sampled_from(["{body}", "body={body}", "{body}!"])
prefixes = st.sampled_from(["", "sha256=", "v1="])


@st.composite
def signings(draw: st.DrawFn, only_timed: bool = False) -> Signing:
    how = {
        "header": "X-Signature",
        "secret": "",
        "algorithm": draw(st.sampled_from(ALGORITHMS)),
        "encoding": draw(st.sampled_from(ENCODINGS)),
        "prefix": draw(prefixes),
    }
    if not only_timed and draw(st.booleans()):
        return Signing(**how, template=draw(plain))
    place = draw(st.sampled_from(["X-Time", "X-Signature"])) if how["prefix"] else "X-Time"
    return Signing(**how, timestamp_header=place, template=draw(timed), tolerance=draw(st.integers(1, 86400)))


@dataclasses.dataclass(frozen=True)
class Sender:
    """An independent one: it signs as the scheme says."""

    signing: Signing
    secret: bytes = SECRET

    def signature(self, body: bytes, time: int) -> str:
        before, _, behind = self.signing.template.partition("{body}")
        stamp = str(time)
        signed = (
            before.replace("{timestamp}", stamp).encode()
            + body
            + behind.replace("{timestamp}", stamp).encode()
        )
        made = hmac.digest(self.secret, signed, self.signing.algorithm)
        text = base64.b64encode(made).decode() if self.signing.encoding == "base64" else made.hex()
        return self.signing.prefix + text

    def headers(self, body: bytes, time: int, *more: str) -> dict[str, str]:
        """``more`` stands beside the signature."""
        parts = [*more, self.signature(body, time)]
        name = self.signing.timestamp_header
        if name == self.signing.header:
            return {"X-SIGNATURE": ",".join([f"t={time}", *parts])}
        return {"X-SIGNATURE": ", ".join(parts), **({name.upper(): str(time)} if name else {})}


def fault(signing: Signing, headers: Mapping[str, str], body: bytes, now: float = NOW) -> Fault | None:
    try:
        check(signing, SECRET, headers, body, now)
    except BadSignature as error:
        return error.fault
    return None


@given(signings(), st.binary(max_size=200))
@example(Signing("X-Signature", ""), b"")
def test_what_was_signed_passes(signing: Signing, body: bytes) -> None:
    assert checked(signing) == signing
    assert fault(signing, Sender(signing).headers(body, NOW), body) is None


@given(signings(), st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 2**32))
def test_another_body_another_secret_or_another_time_never_passes(
    signing: Signing, body: bytes, other: bytes, shift: int
) -> None:
    headers = Sender(signing).headers(body, NOW)
    if other != body:
        assert fault(signing, headers, other) is Fault.WRONG
    assert fault(signing, Sender(signing, SECRET + b"!").headers(body, NOW), body) is Fault.WRONG
    if signing.timestamp_header and shift % signing.tolerance:
        claimed = str(NOW - shift % signing.tolerance)
        moved = {name: value.replace(str(NOW), claimed) for name, value in headers.items()}
        assert fault(signing, moved, body) is Fault.WRONG


@given(signings(), st.binary(max_size=50), st.text(max_size=100), st.text(max_size=20))
@example(PRESETS["stripe"], b"{}", "t=1800000000,v1=", "")
@example(PRESETS["github"], b"{}", "sha256=" + "0" * 64, "")
def test_no_header_passes_that_does_not_hold_the_signature(
    signing: Signing, body: bytes, value: str, time: str
) -> None:
    """Whatever is sent: a fault is told, and nothing else is raised."""
    assume(Sender(signing).signature(body, NOW) not in value)
    headers = {signing.header.upper(): value, signing.timestamp_header.upper(): time or str(NOW)}
    if signing.timestamp_header == signing.header or not signing.timestamp_header:
        headers = {signing.header.upper(): value}
    assert fault(signing, headers, body) is not None


@given(
    signings(),
    st.binary(max_size=50),
    st.lists(st.sampled_from(["v0=00", "sha256=" + "0" * 64, "v1=", "junk", "=" * 8]), max_size=4),
    st.randoms(),
)
def test_one_good_signature_among_others_is_enough_wherever_it_stands(
    signing: Signing, body: bytes, others: list[str], dice: object
) -> None:
    headers = Sender(signing).headers(body, NOW, *others)
    parts = [part.strip() for part in headers["X-SIGNATURE"].split(",")]
    dice.shuffle(parts)  # type: ignore[attr-defined]
    for between in (",", ", ", " ", ";"):
        assert fault(signing, headers | {"X-SIGNATURE": between.join(parts)}, body) is None


@given(signings(only_timed=True), st.integers(-(10**6), 10**6))
def test_a_time_beyond_the_tolerance_is_refused_though_it_is_signed(signing: Signing, off: int) -> None:
    headers = Sender(signing).headers(b"body", NOW + off)
    expected = None if abs(off) <= signing.tolerance else Fault.STALE
    assert fault(signing, headers, b"body") is expected


@given(signings(only_timed=True), st.binary(max_size=20).map(lambda rest: b"7" + rest))
def test_no_byte_wanders_between_the_body_and_the_time(signing: Signing, body: bytes) -> None:
    headers = Sender(signing).headers(body, NOW)
    stamp = str(NOW)
    for claimed, rest in ((stamp + chr(body[0]), body[1:]), (stamp[:-1], stamp[-1:].encode() + body)):
        moved = {name: value.replace(stamp, claimed) for name, value in headers.items()}
        assert fault(signing, moved, rest, now=int(claimed)) is not None


def test_what_is_wrong_is_told_with_the_header_at_fault() -> None:
    slack = PRESETS["slack"]
    good = {"X-SLACK-SIGNATURE": "v0=" + "0" * 64, "X-SLACK-REQUEST-TIMESTAMP": str(NOW)}
    cases = [
        ({"X-SLACK-SIGNATURE": ""}, slack.header, Fault.MISSING),
        ({"X-SLACK-SIGNATURE": "v1=" + "0" * 64}, slack.header, Fault.UNREADABLE),
        ({"X-SLACK-SIGNATURE": "v0=" + "0" * 40}, slack.header, Fault.UNREADABLE),
        ({"X-SLACK-SIGNATURE": "v0=" + "é" * 64}, slack.header, Fault.UNREADABLE),
        ({"X-SLACK-REQUEST-TIMESTAMP": ""}, slack.timestamp_header, Fault.MISSING),
        ({"X-SLACK-REQUEST-TIMESTAMP": "soon"}, slack.timestamp_header, Fault.UNREADABLE),
        ({"X-SLACK-REQUEST-TIMESTAMP": f"{NOW} {NOW}"}, slack.timestamp_header, Fault.UNREADABLE),
        ({"X-SLACK-REQUEST-TIMESTAMP": "٣" * 10}, slack.timestamp_header, Fault.UNREADABLE),
        ({"X-SLACK-REQUEST-TIMESTAMP": str(NOW - 301)}, slack.timestamp_header, Fault.STALE),
        ({}, slack.header, Fault.WRONG),
    ]
    for change, field, expected in cases:
        with pytest.raises(BadSignature) as caught:
            check(slack, SECRET, good | change, b"{}", NOW)
        assert (caught.value.field, caught.value.fault) == (field, expected)
        assert SECRET.decode() not in str(caught.value)


def test_the_example_that_github_publishes_passes() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert fault(PRESETS["github"], {"X-HUB-SIGNATURE-256": signature}, b"Hello, World!") is None


def test_the_example_that_slack_publishes_passes_at_its_time() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
        b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    secret, time = b"8f742231b10e8888abcd99yyyzzz85a5", 1531420618
    headers = {
        "X-SLACK-SIGNATURE": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "X-SLACK-REQUEST-TIMESTAMP": str(time),
    }
    check(PRESETS["slack"], secret, headers, body, time + 1)
    with pytest.raises(BadSignature) as caught:
        check(PRESETS["slack"], secret, headers, body, NOW)
    assert caught.value.fault is Fault.STALE


def test_stripes_header_holds_time_and_signatures_of_several_secrets_and_schemes() -> None:
    body = b'{"id": "evt_1"}'
    good = hmac.digest(SECRET, b"1800000000." + body, "sha256").hex()
    other = hmac.digest(b"the secret before", b"1800000000." + body, "sha256").hex()
    stripe = PRESETS["stripe"]
    for value, expected in (
        (f"t=1800000000,v1={other},v1={good},v0={other}", None),
        (f"t=1800000000,v0={good}", Fault.UNREADABLE),
        (f"t=1800000000,v1={other},v0={good}", Fault.WRONG),
        (f"v1={good}", Fault.MISSING),
        (f"t=1800000000,t=1800000001,v1={good}", Fault.UNREADABLE),
    ):
        assert fault(stripe, {"STRIPE-SIGNATURE": value}, body) is expected


def test_grafana_signs_a_colon_between_its_time_and_the_body() -> None:
    good = hmac.digest(SECRET, b"1800000000:{}", "sha256").hex()
    headers = {
        "X-GRAFANA-ALERTING-SIGNATURE": good,
        "X-GRAFANA-ALERTING-SIGNATURE-TIMESTAMP": "1800000000",
    }
    assert fault(PRESETS["grafana-timestamp"], headers, b"{}") is None
    assert fault(PRESETS["grafana"], headers, b"{}") is Fault.WRONG
    plain = {"X-GRAFANA-ALERTING-SIGNATURE": hmac.digest(SECRET, b"{}", "sha256").hex()}
    assert fault(PRESETS["grafana"], plain, b"{}") is None


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_in_order_and_holds_no_secret(name: str) -> None:
    assert checked(PRESETS[name]).secret == ""


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("header", {"header": ""}),
        ("header", {"header": "X_Signature"}),
        ("header", {"header": "X-Signature:"}),
        ("algorithm", {"algorithm": "md5"}),
        ("encoding", {"encoding": "base32"}),
        ("prefix", {"prefix": "a b"}),
        ("prefix", {"prefix": "a,"}),
        ("template", {"template": ""}),
        ("template", {"template": "{body}{body}"}),
        ("template", {"template": "{id}.{body}"}),
        ("template", {"template": "{timestamp}.{body}"}),
        ("template", {"timestamp_header": "X-Time"}),
        ("template", {"timestamp_header": "X-Time", "template": "{timestamp}{body}"}),
        ("template", {"timestamp_header": "X-Time", "template": "{body}{timestamp}"}),
        ("template", {"timestamp_header": "X-Time", "template": "{timestamp}0{body}"}),
        ("template", {"timestamp_header": "X-Time", "template": "{timestamp}.{timestamp}.{body}"}),
        ("timestamp_header", {"timestamp_header": "X Time", "template": "{timestamp}.{body}"}),
        ("tolerance", {"timestamp_header": "X-Time", "template": "{timestamp}.{body}", "tolerance": 0}),
        ("prefix", {"timestamp_header": "x-signature", "template": "{timestamp}.{body}"}),
    ],
)
def test_a_scheme_by_which_nothing_can_be_checked_is_refused_at_its_field(
    field: str, change: dict[str, object]
) -> None:
    with pytest.raises(RuleError) as caught:
        checked(msgspec.structs.replace(Signing("X-Signature", ""), **change))
    assert caught.value.field == field


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    assert checked_secret(" sixteen letters!\n") == "sixteen letters!"
    for secret in ("", " " * 20, "fifteen letters", "x" * 513, "sixteen\0letters!"):
        with pytest.raises(RuleError) as caught:
            checked_secret(secret)
        assert caught.value.field == "secret"
