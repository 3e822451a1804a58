"""The pages of one event and one alert: the answer first, whatever state it is in, and never markup of a sender's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from mutt.budget.arithmetic import Budget
from mutt.moogsim.server import Simulator
from tests.admin_client import operator_of
from tests.bench import Bench, benches, clear, event
from tests.forwarding import Works, turns_until
from tests.integration.test_explain import judged

HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}\u202e'


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as made:
        yield made[0]


@pytest.fixture
def operator(bench: Bench, redis_url: str, database_url: str) -> FlaskClient:
    return operator_of(bench.services.engine, database_url, redis_url=redis_url)


def words(page: str) -> str:
    """A page's text."""
    body = page.partition("<main")[2]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def first_sentence(page: str) -> str:
    return unescape(
        re.sub(
            r"<[^>]+>",
            "",
            re.findall(r'<p class="(?:note|warning)" role="status">(.*?)</p>', page, re.DOTALL)[0],
        )
    ).strip()


def test_the_lists_lead_to_the_pages_and_the_pages_to_each_other(bench: Bench, operator: FlaskClient) -> None:
    told = event("CRITICAL x")
    judged(bench, told)
    audit_list, alerts_list = operator.get("/audit/?hostname=core-1").text, operator.get("/alerts/").text
    (to_event,) = re.findall(r'href="(/audit/[0-9a-f-]{36}[^"]*)"', audit_list)
    (to_alert,) = re.findall(r'href="(/alerts/[0-9a-f-]{36})"', alerts_list)
    page = operator.get(unescape(to_event)).text
    assert to_alert in page
    assert f"/audit/{told.event_id}" in operator.get(to_alert).text


def test_the_first_sentence_says_why_it_did_not_alert(bench: Bench, operator: FlaskClient) -> None:
    ignored, unhandled, waits = event("ERROR x", "dev-router1"), event("nothing known"), event("CRITICAL x")
    judged(bench, ignored, unhandled, waits)
    said = [
        first_sentence(operator.get(f"/audit/{one.event_id}").text) for one in (ignored, unhandled, waits)
    ]
    assert said[0].startswith("It did not alert because rule 2 ERROR has it ignored")
    assert said[1].startswith("It did not alert because no rule matched; of its kind 1 of the 100")
    assert said[2].startswith("It has not reached Moog yet. The alert waits.")


def test_each_rule_is_told_with_the_condition_that_failed_and_the_match_is_marked(
    bench: Bench, operator: FlaskClient
) -> None:
    told = event("a CRITICAL ERROR")
    judged(bench, told)
    page = operator.get(f"/audit/{told.event_id}").text
    assert "<mark>CRITICAL</mark>" in page
    assert "It matches too, but rule 1 CRITICAL comes before it" in words(page)


def test_each_attempt_at_moog_stands_on_both_pages(bench: Bench, operator: FlaskClient) -> None:
    told, up = event("LINK-DOWN x", clear_key="k"), clear("up", clear_key="k")
    judged(bench, told, up)
    works = Works(bench.redis, Budget(limit=100, period=0.1, threshold=1000), claim=0.1, patience=2.0)
    works.lift_fence()
    with Simulator() as moog:
        moog.behave("503")
        forwarder = works.forwarder(moog.enterprise_url, dice=lambda: 0.0)
        turns_until(forwarder, lambda: len(moog.starts) == 2)
        moog.behave("ok")
        turns_until(forwarder, lambda: len(works.outcomes()) == 2)
    bench.record()
    page = operator.get(f"/audit/{told.event_id}").text
    (to_alert,) = set(re.findall(r'href="(/alerts/[0-9a-f-]{36})"><?[^c]', page)) - set(
        re.findall(r'href="(/alerts/[0-9a-f-]{36})">a clear', page)
    )
    for one in (page, operator.get(to_alert).text):
        assert one.count('<td class="number" data-label="#">') == 3
        assert "http_5xx" in one and "delivered" in one
        assert f"/audit/{up.event_id}" in one, "the clear that ended it"


def test_what_senders_wrote_is_text(bench: Bench, operator: FlaskClient) -> None:
    told = event(f"CRITICAL {HOSTILE}", program=HOSTILE, tags={HOSTILE: HOSTILE}, occurred_text=HOSTILE)
    judged(bench, told)
    page = operator.get(f"/audit/{told.event_id}").text
    assert "<script>alert" not in page and "{{ 7 * 7 }}" in unescape(page) and "49" not in words(page)[:200]
    (to_alert,) = set(re.findall(r'href="(/alerts/[0-9a-f-]{36})"', page))
    assert "<script>alert" not in operator.get(to_alert).text


def test_an_event_that_is_not_audited_has_a_page_too(bench: Bench, operator: FlaskClient) -> None:
    told = event("CRITICAL x")
    bench.append(told)
    page = operator.get(f"/audit/{told.event_id}")
    assert page.status_code == 200 and "not evaluated" in first_sentence(page.text)
    unknown = operator.get(f"/audit/{uuid4()}")
    assert unknown.status_code == 404 and "no such event" in first_sentence(unknown.text)
    assert operator.get(f"/alerts/{uuid4()}").status_code == 404
    assert operator.get("/audit/find?id=<b>").status_code == 404
    assert operator.get(f"/audit/find?id={told.event_id}").status_code == 200


def test_without_redis_the_page_says_what_it_can_not_tell(bench: Bench, database_url: str) -> None:
    told = event("CRITICAL x")
    judged(bench, told)
    page = operator_of(bench.services.engine, database_url).get(f"/audit/{told.event_id}")
    assert page.status_code == 200 and "REDIS_URL is not set" in page.text
