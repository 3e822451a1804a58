"""The pages of back-tests: asked for from the rule's form or with a file, watched, cancelled, and looked at."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt import names
from mutt.backtest import jobs
from mutt.backtest.tally import Hour
from mutt.store import backtests, rulebook
from mutt.store.engine import transaction
from mutt.web.admin.backtests import HEIGHT, chart_of
from tests.admin_client import filled_in, operator_of, send, token
from tests.bench import Bench, event

RULE = {
    "name": "fans <b>",
    "match_type": "contains",
    "match_string": "fan failed",
    "field": "message",
    "priority": "3",
    "prod_handling": "Page_only",
    "dev_handling": "Ignore",
    "team_assignment": "Power",
    "tags": "site=lon1",
    "is_active": "y",
}


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, database_url)
    yield made
    made.close()


@pytest.fixture
def operator(engine: Engine, database_url: str, redis_url: str) -> FlaskClient:
    return operator_of(engine, database_url, redis_url=redis_url)


def ask(client: FlaskClient, **fields: Any) -> str:
    """Press Back-test; the address of its page."""
    answer = client.post(
        "/backtests/new", data={"csrf_token": token(client, "/backtests/"), **RULE, **fields}
    )
    assert answer.status_code == 302, answer.text
    return str(answer.headers["Location"])


def job_at(engine: Engine, page: str) -> Any:
    with transaction(engine) as conn:
        return backtests.get(conn, UUID(page.rpartition("/")[2]))


def test_the_rule_form_asks_and_its_page_says_what_came_of_it(
    operator: FlaskClient, engine: Engine, bench: Bench
) -> None:
    """A week is looked at; numbers, a chart, a sample with its host, as text; the workers are told."""
    bench.append(event("fan failed <i>", "core-1", tags={"site": "lon1"}), event("fan failed"), event("well"))
    bench.run()
    page = ask(operator)
    assert bench.redis.exists(names.BACKTESTS)
    waiting = operator.get(page).text
    assert 'hx-get="' + page + '/state"' in waiting and "Look again" in waiting
    job = job_at(engine, page)
    assert (job.until - job.since).days == 7 and job.who == "admin"
    assert jobs.work(bench.services) == {"done": 1}
    shown = operator.get(page).text
    assert "hx-get" not in shown
    assert "fans &lt;b&gt;" in shown and "fan failed &lt;i&gt;" in shown and "core-1" in shown
    assert "<svg" in shown and "1 with the draft, 0 without" in shown
    assert not re.search(r"<style|style=|<script(?! src)|onclick", shown)
    assert "fans &lt;b&gt;" in operator.get("/backtests/").text


def test_the_form_is_begun_with_the_values_of_a_draft(operator: FlaskClient, engine: Engine) -> None:
    """From the page of a back-test back to the form, of a new rule or of the one that was tried; nothing is saved."""
    page = ask(operator)
    job = page.rpartition("/")[2]
    assert f"/rules/new?backtest={job}" in operator.get(page).text
    values = filled_in(operator.get(f"/rules/new?backtest={job}").text)
    assert {name: values[name] for name in ("name", "match_string", "priority", "prod_handling", "tags")} == {
        "name": "fans <b>",
        "match_string": "fan failed",
        "priority": "3",
        "prod_handling": "Page_only",
        "tags": "site=lon1",
    }
    with transaction(engine) as conn:
        rule = rulebook.list_rules(conn)[0]
    page = ask(operator, rule_id=str(rule.id))
    job = page.rpartition("/")[2]
    assert f"/rules/{rule.id}?backtest={job}" in operator.get(page).text
    assert send(operator, f"/rules/{rule.id}?backtest={job}", **RULE).status_code == 302
    with transaction(engine) as conn:
        saved = rulebook.get_rule(conn, rule.id)
    assert saved and saved.name == "fans <b>"
    for missing in (uuid4(), "nonsense"):
        assert operator.get(f"/rules/new?backtest={missing}").status_code == 404


def test_a_file_of_rules_is_tried_as_a_whole(operator: FlaskClient, engine: Engine, bench: Bench) -> None:
    bench.append(event("fan failed"), event("CRITICAL disk"))
    bench.run()
    data = {
        "csrf_token": token(operator, "/backtests/"),
        "file": (io.BytesIO(json.dumps([{"match_string": "fan"}]).encode()), "rules.json"),
        "replace": "y",
        "span": "24h",
    }
    answer = operator.post("/backtests/new", data=data, content_type="multipart/form-data")
    page = answer.headers["Location"]
    jobs.work(bench.services)
    told = job_at(engine, page).result
    assert (told["matched"], told["changed"]) == (1, 2)
    assert operator.get(page).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"match_string": " "},
        {"match_type": "regex", "match_string": "(?=x)"},
        {"since": "2026-03-04T10:00", "until": "2026-03-04T09:00"},
        {"since": "yesterday"},
        {"host": "10.0.0.0/99"},
        {"baseline": "tomorrow"},
        {"tags": "site"},
    ],
)
def test_what_can_not_be_asked_is_refused_with_the_reason(
    operator: FlaskClient, engine: Engine, wrong: dict[str, str]
) -> None:
    data = {"csrf_token": token(operator, "/backtests/"), **RULE, **wrong}
    answer = operator.post("/backtests/new", data=data)
    assert answer.status_code == 422
    assert 'class="error"' in answer.text
    with transaction(engine) as conn:
        assert backtests.newest(conn) == []


def test_a_file_that_holds_no_rules_is_refused(operator: FlaskClient) -> None:
    for content in (b"", b"{", b"[]", b'[{"match_string": ""}]'):
        data = {"csrf_token": token(operator, "/backtests/"), "file": (io.BytesIO(content), "rules.json")}
        answer = operator.post("/backtests/new", data=data, content_type="multipart/form-data")
        assert answer.status_code == 422, content


def test_it_is_cancelled_by_its_button(operator: FlaskClient, engine: Engine) -> None:
    """Its page says so, and what polls it is told to load the page anew."""
    page = ask(operator)
    assert "HX-Refresh" not in operator.get(page + "/state").headers
    assert send(operator, page, cancel="").status_code == 405
    answer = operator.post(page + "/cancel", data={"csrf_token": token(operator, page)})
    assert answer.status_code == 302
    assert job_at(engine, page).status == "cancelled"
    assert operator.get(page + "/state").headers["HX-Refresh"] == "true"
    assert "It was cancelled" in operator.get(page).text


def test_it_can_be_asked_again_over_other_events(operator: FlaskClient, engine: Engine) -> None:
    page = ask(operator)
    given = {"csrf_token": token(operator, page), "since": "2026-03-04T09:00", "until": "2026-03-04T10:00"}
    answer = operator.post(page + "/again", data={**given, "host": "core-*", "baseline": "then"})
    job = job_at(engine, answer.headers["Location"])
    assert (job.host, job.baseline, f"{job.since:%H:%M}", f"{job.until:%H:%M}") == (
        "core-*",
        "then",
        "09:00",
        "10:00",
    )
    assert job.draft == job_at(engine, page).draft
    refused = operator.post(page + "/again", data={**given, "host": "10.0.0.0/99"})
    assert refused.status_code == 422 and "10.0.0.0/99" in refused.text


def test_it_is_asked_for_also_where_redis_is_away(engine: Engine, database_url: str) -> None:
    """The tick looks once a minute for those that nobody told of."""
    client = operator_of(engine, database_url, redis_url="redis://127.0.0.1:1/0")
    assert job_at(engine, ask(client)).status == "queued"


def test_what_is_not_there_is_not_found(operator: FlaskClient) -> None:
    for page in (f"/backtests/{uuid4()}", f"/backtests/{uuid4()}/state", "/backtests/1"):
        assert operator.get(page).status_code == 404


def test_the_chart_has_a_bar_for_each_hour_or_for_some_together() -> None:
    """Never more than fit; the budget's line where it lies within."""
    hours = {"2026-03-04 09": Hour(old_requests=5, new_requests=10), "2026-03-04 11": Hour(new_requests=1)}
    chart = chart_of(hours, 5)
    assert chart and [bar.kind for bar in chart.bars] == ["soft", "first", "first"]
    assert (chart.most, chart.hours, chart.first, chart.last) == (
        10,
        1,
        "2026-03-04 09:00",
        "2026-03-04 11:00",
    )
    assert chart.limit is not None and 0 < chart.limit < HEIGHT
    year = {f"2026-{month:02d}-01 00": Hour(new_requests=1) for month in range(1, 13)}
    long = chart_of(year, 180_000)
    assert long and long.hours > 1 and len(long.bars) == 12 and long.limit is None
    assert all(bar.x >= 0 and bar.x + bar.width <= 1000 for bar in long.bars)
    assert chart_of({}, 1) is None
