"""What the benchmark compares is alike: each subject makes the same rows of the same events, and all are counted."""

from __future__ import annotations

import subprocess
import sys
import time
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
from benchmarks.bodies import FORMS
from benchmarks.load import Loader, Order
from benchmarks.load import requests as requests_of
from benchmarks.runs import alive, order_of, stored
from benchmarks.site import API_KEY, Failed, Site, private_site
from benchmarks.steps.delays import KEPT, moog_delays, row_delays
from benchmarks.subjects import Subject, lists_and_rows, mutt_itself, plainly_celery
from benchmarks.usage import forget_peaks, peaks
from mutt import names
from mutt.rules.rule import UNHANDLED

#: Enough that some of them match a rule.
EVENTS = 120

#: All that a row says but for ids and times, which each subject gives itself.
CONTENT = "raw, occurred_at, hostname, severity, source, message, matched_rule_id, handling, team, item"

ROW_OF_A_SECOND_AGO = """
    INSERT INTO event_audit_log (event_id, received_at, occurred_at, hostname, source, message, ruleset_version,
        handling, batch_id, item, correlation_id, raw)
    VALUES (gen_random_uuid(), now() - interval '1 second', now(), 'core-1', 'bench', 'so', 1, 'Ignore', 'b', 0, 'c',
        '')
"""

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


def test_every_form_of_a_body_brings_the_same_events(site: Site, loader: Loader) -> None:
    sent = sorted(event.body.decode() for event in corpus.events(EVENTS))
    with alive(site, loader, mutt_itself(site, alerts=1)) as running:
        for form in FORMS:
            site.reset()
            order = order_of(running.subject, 40, EVENTS // 40, form=form)
            assert loader.send(msgspec.structs.replace(order, pool=EVENTS)).statuses == {"202": 3}, form
            stored(site, running.subject, EVENTS)
            assert sorted(raw for (raw,) in site.ask("SELECT raw FROM event_audit_log")) == sent, form


def test_the_way_to_moog_is_measured_to_the_request_that_tells_it_of_the_event(
    site: Site, loader: Loader
) -> None:
    subject = mutt_itself(site, alerts=1, moog=1)
    with alive(site, loader, subject) as running:
        running.end_to_end(1, 5 * EVENTS, rate=EVENTS)
        p50, p99 = moog_delays(site, subject.moogsim)
        first = site.ask("SELECT extract(epoch FROM min(received_at))::float8 FROM event_audit_log")[0][0]
        assert 0 < p50 <= p99 < (time.time() - first) * 1000


def test_a_rows_delay_ends_with_its_commit() -> None:
    with private_site(KEPT) as site:
        with psycopg2.connect(site.database_url) as connection, connection.cursor() as cursor:
            cursor.execute(ROW_OF_A_SECOND_AGO)
        connection.close()
        taken = (
            time.time()
            - site.ask("SELECT extract(epoch FROM received_at)::float8 FROM event_audit_log")[0][0]
        )
        p50, p99 = row_delays(site)
    assert 1000 <= p50 == p99 < taken * 1000


def test_the_memory_of_a_tree_is_its_peak_since_it_was_forgotten() -> None:
    holding = "import sys; b = bytearray(80 << 20); del b; print(); sys.stdin.read()"
    argv = [sys.executable, "-c", holding]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        roles = {"one": (process.pid,)}
        assert peaks(roles)["one"] > 80
        forget_peaks(roles)
        assert peaks(roles)["one"] < 80


def test_a_run_begins_with_empty_tables_and_queues(site: Site) -> None:
    with redis.Redis.from_url(site.redis_url) as client, psycopg2.connect(site.database_url) as connection:
        client.lpush(list_and_row.QUEUE, "left over")
        client.sadd("_kombu.binding.celery", "a queue's binding")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO audit_ledger (rows, alerts) VALUES (1, 0)")
        connection.commit()
        client.bgrewriteaof()  # as Redis begins by itself once its file has grown
        site.reset()
        assert client.keys() == [b"_kombu.binding.celery"]
    assert site.ask("SELECT count(*) FROM audit_ledger") == [(0,)]
