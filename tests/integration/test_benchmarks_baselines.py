"""What the benchmark compares is alike: each subject makes the same rows of the same events, and all are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import psycopg2
import pytest
import redis

from benchmarks import corpus, list_and_row
from benchmarks.baseline import ALERTS
from benchmarks.load import Loader, Order
from benchmarks.load import requests as requests_of
from benchmarks.runs import alive, order_of, stored
from benchmarks.site import API_KEY, Failed, Site
from benchmarks.subjects import Subject, lists_and_rows, mutt_itself, plainly_celery
from mutt import names
from mutt.rules.rule import UNHANDLED

#: Enough that some of them match a rule.
EVENTS = 120

#: All that a row says but for ids and times, which each subject gives itself.
CONTENT = "raw, occurred_at, hostname, severity, source, message, matched_rule_id, handling, team, item"

SUBJECTS: dict[str, Callable[[Site], Subject]] = {
    "mutt": lambda site: mutt_itself(site, alerts=1),
    "list-and-row": lambda site: lists_and_rows(site, 2),
    "plain Celery": plainly_celery,
}


@pytest.fixture
def site(own_directory: Path, redis_url: str, database_url: str) -> Site:
    """The session's servers, with the benchmark's rules."""
    site = Site(own_directory, redis_url, database_url)
    site.prepare()
    return site


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    with Loader() as loader:
        yield loader


def _expected(site: Site) -> list[tuple[Any, ...]]:
    """The rows that the corpus and its rules ask for, by the text that was sent."""
    ids = {name: rule_id for rule_id, name in site.ask("SELECT id, name FROM alert_rules")}
    rules = corpus.rules()
    rows = []
    for body, number in corpus.events(EVENTS):
        event = orjson.loads(body)
        said = datetime.fromisoformat(event["timestamp"]), event["hostname"], event["syslog_severity"]
        rule = {"prod_handling": UNHANDLED, "team_assignment": "NETO"} if number is None else rules[number]
        judged = ids.get(f"bench-{number}"), rule["prod_handling"], rule["team_assignment"]
        rows.append((body.decode(), *said, event["source"], event["message"], *judged, 0))
    return sorted(rows)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_subject_makes_the_same_row_of_an_event_and_queues_its_alert(
    name: str, site: Site, loader: Loader
) -> None:
    with alive(site, loader, SUBJECTS[name](site)) as running:
        site.reset()
        order = order_of(running.subject, 1, EVENTS)
        assert loader.send(msgspec.structs.replace(order, pool=EVENTS)).statuses == {"202": EVENTS}
        stored(site, running.subject, EVENTS)
    assert sorted(site.ask(f"SELECT {CONTENT} FROM event_audit_log")) == _expected(site)
    forwarded = sum(number is not None for _, number in corpus.events(EVENTS))
    with redis.Redis.from_url(site.redis_url) as client:
        queued = client.hlen(names.STANDING) if name == "mutt" else client.llen(ALERTS)
    assert queued == forwarded > 0


def test_a_run_that_lost_a_row_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.runs.LOST_AFTER", 0.2)
    nothing_to_do = Subject("a subject", (), "http://127.0.0.1:9/ingest", lambda: True)
    with pytest.raises(Failed, match="0 rows of 1 events"):
        stored(site, nothing_to_do, 1)


def test_a_consumer_that_dies_leaves_its_run_unfinished(
    site: Site, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.runs.AT_MOST", 0.5)
    with alive(site, loader, lists_and_rows(site, 0)) as running:
        with pytest.raises(Failed, match="0 rows of 5 events"):
            running.end_to_end(1, 5)
    with redis.Redis.from_url(site.redis_url) as client:
        assert client.llen(list_and_row.QUEUE) == 5


def test_a_refused_request_fails_the_run(site: Site, loader: Loader) -> None:
    with alive(site, loader, lists_and_rows(site, 0)) as running:
        sent = loader.send(Order(running.subject.url, "wrong", 3, connections=1, pool=3))
        assert sent.statuses == {"401": 3}


def test_a_batch_is_a_json_array_of_its_events() -> None:
    order = Order("http://127.0.0.1:9/ingest", API_KEY, 1, size=3, pool=6)
    made = requests_of(order)
    heads = [request.partition(b"\r\n\r\n") for request in made]
    bodies = [one.body for one in corpus.events(6)]
    assert [body for _, _, body in heads] == [b"[" + b",".join(bodies[i : i + 3]) + b"]" for i in (0, 3)]
    assert all(f"Content-Length: {len(body)}".encode() in head for head, _, body in heads)


def test_a_run_begins_with_empty_tables_and_queues(site: Site) -> None:
    with redis.Redis.from_url(site.redis_url) as client, psycopg2.connect(site.database_url) as connection:
        client.lpush(list_and_row.QUEUE, "left over")
        client.sadd("_kombu.binding.celery", "a queue's binding")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO audit_ledger (rows, alerts) VALUES (1, 0)")
        connection.commit()
        site.reset()
        assert client.keys() == [b"_kombu.binding.celery"]
    assert site.ask("SELECT count(*) FROM audit_ledger") == [(0,)]
