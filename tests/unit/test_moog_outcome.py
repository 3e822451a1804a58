"""What Moog's answer means: one row an answer."""

from __future__ import annotations

import pytest

from mutt.moog.outcome import RETRY_AFTER_MAX, TEXT_MAX, Kind, Reason, judge, retry_after, says_failure

NOW = 1_795_430_400.0  # Mon, 23 Nov 2026 10:40:00 GMT

ANSWERS = [
    (200, b'{"success": true}', None, Kind.DELIVERED, Reason.OK),
    (200, b"", None, Kind.DELIVERED, Reason.OK),
    (200, b"OK", None, Kind.DELIVERED, Reason.OK),  # no JSON says nothing
    (200, b"[]", None, Kind.DELIVERED, Reason.OK),
    (201, b"{}", None, Kind.DELIVERED, Reason.OK),
    (202, b'{"status": "queued"}', None, Kind.DELIVERED, Reason.OK),
    (204, b"", None, Kind.DELIVERED, Reason.OK),
    (200, b'{"success": false}', None, Kind.REFUSED, Reason.SUCCESS_FALSE),
    (202, b'{"success": "false"}', None, Kind.REFUSED, Reason.SUCCESS_FALSE),
    (301, b"", None, Kind.CONFIG, Reason.REDIRECT),
    (302, b"", None, Kind.CONFIG, Reason.REDIRECT),
    (308, b"", None, Kind.CONFIG, Reason.REDIRECT),
    (400, b"", None, Kind.REFUSED, Reason.REFUSED),
    (401, b"", None, Kind.AUTH, Reason.AUTH),
    (403, b"", None, Kind.AUTH, Reason.AUTH),
    (404, b"", None, Kind.CONFIG, Reason.CONFIG),
    (405, b"", None, Kind.CONFIG, Reason.CONFIG),  # the address' fault, never an alert's
    (407, b"", None, Kind.CONFIG, Reason.CONFIG),  # the proxy's
    (408, b"", None, Kind.RETRY, Reason.HTTP_408),
    (410, b"", None, Kind.CONFIG, Reason.CONFIG),
    (413, b"", None, Kind.TOO_LARGE, Reason.TOO_LARGE),
    (422, b"", None, Kind.REFUSED, Reason.REFUSED),
    (429, b"", None, Kind.THROTTLED, Reason.HTTP_429),
    (500, b'{"success": false}', None, Kind.RETRY, Reason.HTTP_5XX),  # the status speaks louder
    (503, b"", None, Kind.RETRY, Reason.HTTP_5XX),
    (599, b"", None, Kind.RETRY, Reason.HTTP_5XX),
    (101, b"", None, Kind.RETRY, Reason.UNEXPECTED),
    (999, b"", None, Kind.RETRY, Reason.UNEXPECTED),
    (None, b"", Reason.TIMEOUT, Kind.RETRY, Reason.TIMEOUT),
    (None, b"", Reason.CONNECTION, Kind.RETRY, Reason.CONNECTION),
    (None, b"", Reason.CERTIFICATE, Kind.CONFIG, Reason.CERTIFICATE),
    (None, b"", Reason.EXPIRED, Kind.UNSENT, Reason.EXPIRED),
    (200, b"", Reason.TIMEOUT, Kind.RETRY, Reason.TIMEOUT),  # the body that would say so never came
    (200, b"", Reason.CONNECTION, Kind.RETRY, Reason.CONNECTION),
    (401, b"", Reason.TIMEOUT, Kind.AUTH, Reason.AUTH),  # the status line is enough
    (500, b"", Reason.CONNECTION, Kind.RETRY, Reason.HTTP_5XX),
]


@pytest.mark.parametrize(("status", "body", "error", "kind", "reason"), ANSWERS)
def test_each_answer_has_one_meaning(status, body, error, kind, reason):
    answer = judge(status, body, {}, error, now=NOW)
    assert (answer.kind, answer.reason, answer.moog_status) == (kind, reason, status)


def test_each_kind_has_a_row():
    # What MUTT itself fails on is no answer: the client says so.
    assert {row[3] for row in ANSWERS} == set(Kind) - {Kind.BROKEN}
    assert {row[4] for row in ANSWERS} == set(Reason) - {Reason.BROKEN}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("-3", 0.0),
        ("Mon, 23 Nov 2026 10:40:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 10:39:00 GMT", 0.0),  # over already
        ("99999999", RETRY_AFTER_MAX),
        ("inf", RETRY_AFTER_MAX),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(given, seconds):
    assert retry_after({"RETRY-after": given}, NOW) == seconds


def test_a_server_that_is_away_may_say_for_how_long():
    assert judge(503, b"", {"Retry-After": "9"}, now=NOW).retry_after == 9.0
    assert judge(503, b"", {}, now=NOW).retry_after is None


def test_moogs_words_are_kept_and_cut():
    assert judge(400, b"severity is missing", {}, now=NOW).text == "severity is missing"
    assert len(judge(400, b"\xff" * 10_000, {}, now=NOW).text) == TEXT_MAX


@pytest.mark.parametrize(
    "body", [b'{"success": true}', b'{"success": 1}', b'"false"', b'{"ok": false}', b"{"]
)
def test_only_success_false_says_failure(body):
    assert not says_failure(body)
