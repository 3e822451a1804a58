"""The durable stream on a real Redis: what each of the four moves promises."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import redis

from mutt import codec, names
from mutt.entry import Entry, Move, Part
from mutt.event import Envelope, Event, Segment
from mutt.settings import Settings
from mutt.streams import books
from mutt.streams.connect import connect
from mutt.streams.stream import MissingReplicas, Stream
from tests.servers import live_redis
from tests.waiting import wait_until

NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)


class Bell:
    """Notes the doorbells that a stream publishes."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def __call__(self, queue: str, **labels) -> None:
        self.rung.append(queue)


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def bell():
    return Bell()


def stream_of(client, bell, claim: float) -> Stream:
    return Stream(client, names.queues(Settings.from_env({}, evaluate_claim=claim))["ingest_queue"], bell)


@pytest.fixture
def stream(client, bell):
    """It takes nobody for dead, however busy the machine is."""
    return stream_of(client, bell, 60.0)


@pytest.fixture
def hasty(client, bell):
    """It takes over soon what somebody else has."""
    return stream_of(client, bell, 0.2)


def event(n: int = 0) -> Event:
    return Event(event_id=uuid4(), received_at=NOW, occurred_at=NOW, hostname="h", message=f"m {n}", item=n)


def part(n: int = 1, key: str | None = None, reply: str = "") -> Part:
    fields, size = codec.encode(Envelope([Segment("b", "c", [event(i) for i in range(n)])]), n=n)
    return Part([(n, fields, size)], key, reply)


def append(stream: Stream, *parts: Part, round_id: str | None = None, **limits: int):
    limits = {"max_events": 10_000, "max_bytes": 1 << 20} | limits
    return stream.append(round_id or str(uuid4()), parts, **limits)


def settle(stream: Stream, entries: list[Entry]) -> list[bool]:
    return stream.settle(
        Move(e, {"events.queued": -e.n, "events.settled": e.n, "ingest.bytes": -e.size}) for e in entries
    )


def test_an_appended_event_is_taken_once_and_settled_once(stream, client):
    append(stream, part(3))
    taken = stream.take("a", 500)
    assert [entry.n for entry in taken.entries] == [3]
    assert taken.entries[0].attempts == 1
    assert len(taken.entries[0].decode(Envelope)) == 3
    assert stream.take("b", 500).entries == []
    assert settle(stream, taken.entries) == [True]
    assert settle(stream, taken.entries) == [False], "a second settle finds nothing to finish"
    ledger = books.read(client)
    assert ledger.events["accepted"] == ledger.events["settled"] == 3
    assert ledger.off_events == 0
    assert client.xlen(names.INGEST_STREAM) == 0


def test_a_repeated_round_adds_nothing_and_rings_once(stream, client, bell):
    append(stream, part(2), round_id="r1")
    append(stream, part(2), round_id="r1")
    assert books.read(client).events["accepted"] == 2
    assert bell.rung == ["ingest_queue"]


def test_a_repeated_round_waits_for_its_replicas_as_the_first_one_did(own_redis, server_directory):
    """The answer was lost on its way; what the replica has not got is not accepted when it is asked again."""
    port = own_redis.url.rsplit(":", 1)[1].split("/")[0]
    lines = {"replicaof": f"127.0.0.1 {port}"}
    with connect(own_redis.url) as client:
        client.config_set("repl-diskless-sync-delay", 0)
    with connect(own_redis.url) as client, live_redis(server_directory / "replica", extra=lines) as replica:
        queue = names.queues(Settings.from_env({}))["ingest_queue"]
        one = Stream(client, queue, lambda *_, **__: None, replicas=1)

        def accepted(round_id: str) -> bool:
            # As ingest, which asks again: a replica that only begins, or has no processor, is too late at first.
            with contextlib.suppress(MissingReplicas):
                append(one, part(1), round_id=round_id)
                return True
            return False

        wait_until(lambda: accepted("r1"), 20, "the replica to follow")
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                with connect(own_redis.url) as other, pytest.raises(redis.ConnectionError):
                    append(Stream(other, queue, lambda *_, **__: None, replicas=1), part(1), round_id="r2")
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        wait_until(lambda: accepted("r2"), 20, "the replica to follow again")
        assert books.read(client).events["accepted"] == 2


def test_a_known_idempotency_key_answers_the_first_reply_and_adds_nothing(stream, client):
    first = append(stream, part(2, key="mutt:idem:x", reply="first"))
    again = append(stream, part(2, key="mutt:idem:x", reply="second"), part(1))
    assert first.replies == [""]
    assert again.replies == ["first", ""]
    assert books.read(client).events["accepted"] == 3


def test_a_round_over_the_limit_is_refused_whole(stream, client):
    append(stream, part(4))
    refused = append(stream, part(1), part(6), max_events=10)
    assert (refused.refused, refused.depth) == ("depth", 4)
    assert append(stream, part(1), max_bytes=1).refused == "bytes"
    assert books.read(client).events["accepted"] == 4


def test_the_bell_rings_once_until_somebody_silences_it(stream, bell):
    append(stream, part())
    append(stream, part())
    assert bell.rung == ["ingest_queue"]
    stream.quiet_bell()
    append(stream, part())
    assert bell.rung == ["ingest_queue"] * 2


def test_a_take_aims_at_a_number_of_events_and_says_what_is_left(stream):
    append(stream, part(300), part(300), part(300))
    taken = stream.take("a", 500)
    assert [entry.n for entry in taken.entries] == [300, 300]
    assert taken.left == 1


def test_the_share_of_a_silent_holder_is_taken_over_and_it_is_settled_once(stream, hasty, client):
    append(stream, part(2))
    robbed = stream.take("dead", 500).entries
    again = wait_until(lambda: hasty.take("alive", 500).entries)
    assert [entry.attempts for entry in again] == [2]
    assert settle(stream, again) == [True]
    assert settle(stream, robbed) == [False], "the robbed holder's settle counts nothing"
    assert books.read(client).events["settled"] == 2


def test_a_released_entry_comes_back_after_its_delay_and_counts_no_attempt(hasty):
    append(hasty, part())
    taken = hasty.take("a", 500).entries
    released = time.monotonic()
    hasty.release("a", taken, 0.1)
    back = wait_until(lambda: hasty.take("b", 500).entries, every=0.002)
    assert time.monotonic() - released > 0.095, "Redis counts in whole milliseconds"
    assert back[0].attempts == 1


def test_an_entry_that_was_taken_over_can_not_be_released_by_its_old_holder(stream, hasty):
    append(stream, part())
    old = stream.take("old", 500).entries
    wait_until(lambda: hasty.take("new", 500).entries)
    stream.release("old", old, 0.0)
    assert stream.take("third", 500).entries == []


def test_a_lost_group_is_made_anew_and_nothing_unfinished_is_lost(stream, client):
    append(stream, part(1), part(1))
    held = stream.take("a", 1).entries
    client.xgroup_destroy(names.INGEST_STREAM, names.GROUP)
    again = stream.take("b", 500).entries
    assert len(again) == 2
    assert settle(stream, again) == [True, True]
    assert settle(stream, held) == [False]


def test_a_lost_script_cache_is_no_error(stream, client):
    append(stream, part())
    client.script_flush()
    assert len(stream.take("a", 500).entries) == 1


def test_a_consumer_with_something_pending_is_never_forgotten(stream, client, monkeypatch):
    monkeypatch.setattr("mutt.streams.stream.TIDY_MS", -1)
    append(stream, part(), part())
    stream.take("holds", 1)
    settle(stream, stream.take("idle", 1).entries)
    stream.take("tidy", 1, tidy=True)
    names_left = {c["name"] for c in client.xinfo_consumers(names.INGEST_STREAM, names.GROUP)}
    assert names_left == {b"holds", b"tidy"} or names_left == {b"holds"}
