"""Ingest over several real Redis servers: a repeat is known, and while one of them is away the others take events."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
import redis

from mutt import names
from mutt.errors import Unavailable
from mutt.pipeline import accept
from mutt.pipeline.spill import flow_back
from mutt.streams import books, bound
from mutt.streams.keys import KeysCopy
from mutt.streams.servers import place_of
from tests.bench import Bench, benches
from tests.integration.test_spill import Ingest, one
from tests.servers import Live
from tests.waiting import wait_until


class House:
    """A web process and a worker on three servers, of which the last may be killed."""

    def __init__(self, ingest: Ingest, bench: Bench, own: Live) -> None:
        self.ingest, self.bench, self.own = ingest, bench, own
        self.names = list(bench.services.ingest_servers)

    @property
    def last(self) -> str:
        return self.names[-1]

    def key_of(self, server: str) -> str:
        """An Idempotency-Key that belongs to this server, for the body ``one()``."""
        body = orjson.dumps(one())
        return next(
            key
            for key in (uuid4().hex for _ in range(1000))
            if place_of(accept.idempotency("bootstrap", key, body), self.names) == server
        )

    def counts(self) -> list[int]:
        """Entries that were appended to each server and not settled yet."""
        return [stream.size() for stream in self.bench.services.ingest_servers.values()]

    def back(self) -> None:
        self.own.start()
        wait_until(lambda: not self.ingest.services.lookout.any, 10, "ingest to find it again")


@pytest.fixture
def house(
    redis_urls: list[str], own_redis: Live, database_url: str, request: pytest.FixtureRequest
) -> Iterator[House]:
    settings = {"ingest_spill": False, **getattr(request, "param", {})}
    spread = {"stream_urls": " ".join([*redis_urls[:2], own_redis.url])}
    ingest = Ingest(redis_urls[0], database_url, **spread, **settings)
    with benches(redis_urls[0], database_url, **spread, **settings) as (bench,):
        KeysCopy(bench.redis).publish({})
        yield House(ingest, bench, own_redis)
        ingest.close()
        bench.services.spill_rows._guard.dispose()


def test_requests_go_round_and_the_depth_is_that_of_all(house: House) -> None:
    depths = [house.ingest.post(one()).get_json()["queue_depth"] for _ in range(9)]
    assert house.counts() == [3, 3, 3]
    assert depths == list(range(1, 10))
    house.bench.run()
    assert house.bench.events == {"accepted": 9, "settled": 9}
    house.bench.check()


def test_a_repeat_of_a_request_with_a_key_is_known_wherever_it_is_kept(house: House) -> None:
    for server in house.names:
        key = house.key_of(server)
        replies = [house.ingest.post(one(), Idempotency_Key=key).get_json() for _ in range(3)]
        assert len({reply["batch_id"] for reply in replies}) == 1
    assert house.counts() == [1, 1, 1], "each key has its server"


def test_a_repeat_of_an_event_with_an_id_is_known_whichever_server_it_comes_to(house: House) -> None:
    ids = [str(uuid4()) for _ in range(6)]
    for _ in range(4):
        for id_ in ids:
            assert house.ingest.takes(one(event_id=id_)) == "queued"
    house.bench.run()
    assert house.bench.events == {"accepted": 24, "settled": 6, "duplicate": 18}
    house.bench.check()


def test_while_one_is_away_the_others_take_what_has_no_key(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.own.kill()
    # The round that finds out may be in; whoever sent it is told.
    told = [house.ingest.post(one()).status_code for _ in range(3)]
    assert told.count(503) <= 1
    for _ in range(30):
        assert house.ingest.takes(one()) == "queued"
    with monkeypatch.context() as patched:
        asked_by = noted(patched, house.ingest.services.ingest_servers[house.last].client)
        refused = house.ingest.post(one(), Idempotency_Key=house.key_of(house.last))
    assert refused.status_code == 503
    assert set(asked_by) <= {"lookout"}, "it is known to be away: no request waits for it"
    assert house.ingest.takes(one(), Idempotency_Key=house.key_of(house.names[0])) == "queued"
    assert house.ingest.get("/readyz").status_code == 200
    house.back()
    wait_until(lambda: house.ingest.takes(one()) and house.counts()[2], 10, "it to take its part again")
    house.bench.run()
    assert house.bench.events["settled"] == house.bench.events["accepted"] >= 34
    house.bench.check()


def noted(patched: pytest.MonkeyPatch, client: Any) -> list[str]:
    """The names of the threads that want a connection to this server from now on."""
    pool, names_ = client.connection_pool, list[str]()
    get = pool.get_connection

    def get_connection(*arguments: Any, **options: Any) -> Any:
        names_.append(threading.current_thread().name)
        return get(*arguments, **options)

    patched.setattr(pool, "get_connection", get_connection)
    return names_


def test_a_server_that_hangs_costs_one_round_and_then_nothing(house: House) -> None:
    os.kill(house.own.pid, signal.SIGSTOP)
    try:
        told = [house.ingest.post(one()).status_code for _ in range(12)]
        assert told.count(503) <= 1
    finally:
        os.kill(house.own.pid, signal.SIGCONT)
    wait_until(lambda: not house.ingest.services.lookout.any, 10, "ingest to find it again")
    house.bench.run()
    house.bench.check()


def test_while_home_is_away_events_are_taken_and_when_all_are_nothing_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.ingest.takes(one()) == "queued"
    for name in house.names[:2]:
        client = house.ingest.services.ingest_servers[name].client
        monkeypatch.setattr(client.connection_pool, "get_connection", _gone)
    told = [house.ingest.post(one()).status_code for _ in range(8)]
    assert told.count(503) <= 2
    assert told[-4:] == [202] * 4
    house.own.kill()
    assert house.ingest.post(one()).status_code == 503
    assert "can't be reached" in house.ingest.refuses(one())["detail"]
    assert house.ingest.get("/readyz").status_code == 503


def _gone(*_: Any, **__: Any) -> None:
    raise redis.ConnectionError("gone")


def test_an_event_whose_repeats_a_server_knows_that_is_away_waits_for_it_alone(house: House) -> None:
    """Taken without asking, its repeat would be a second row."""
    house.ingest.takes(one())
    house.own.kill()
    house.ingest.services.lookout.lost(house.last)
    told: dict[str, int] = {}
    # Where an id belongs is chance, and of a dozen the server that is away may know none.
    while len(told) < 12 or set(told.values()) != {202, 503}:
        assert len(told) < 100, told
        id_ = str(uuid4())
        told[id_] = house.ingest.post(one(event_id=id_)).status_code
    assert house.ingest.takes(one()) == "queued"
    house.back()
    for id_ in told:
        assert house.ingest.takes(one(event_id=id_)) == "queued"
    house.bench.run()
    assert house.bench.events["settled"] == len(told) + 2
    house.bench.check()


@pytest.mark.parametrize("house", [{"ingest_max_depth": 6}], indirect=True, ids=["six events"])
def test_each_server_has_its_share_of_the_limit_and_a_full_one_is_passed_by(house: House) -> None:
    for _ in range(6):
        assert house.ingest.takes(one()) == "queued"
    assert house.counts() == [2, 2, 2]
    assert "full" in house.ingest.refuses(one())["detail"]
    entries = house.bench.held.take(1).entries
    house.bench.held.settle(house.bench.evaluate(entries))
    assert house.ingest.takes(one()) == "queued", "there is room on one of them, and it is found"
    assert house.ingest.post(one()).status_code == 503


def test_a_server_without_memory_is_passed_by(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "MEMORY_EVERY", 0.0)
    client = house.bench.services.ingest_servers[house.last].client
    client.config_set("maxmemory", client.info("memory")["used_memory"] + (1 << 10))
    for _ in range(9):
        assert house.ingest.takes(one()) == "queued"
    assert house.counts()[2] == 0


@pytest.mark.parametrize("house", [{"ingest_spill": True}], indirect=True, ids=["spill"])
def test_what_can_go_to_no_other_is_spilled_and_flows_back_to_its_server(house: House) -> None:
    known = house.key_of(house.last)
    house.own.kill()
    assert house.ingest.takes(one(), Idempotency_Key=known) == "spilled"
    for _ in range(4):
        assert house.ingest.takes(one()) == "queued"
    house.back()
    s = house.bench.services
    flow = flow_of(s)
    wait_until(lambda: flow().ended == "empty", 10, "the spill to be empty")
    wait_until(
        lambda: house.ingest.takes(one(), Idempotency_Key=known) == "queued", 10, "ingest to find it again"
    )
    wait_until(lambda: flow().ended == "empty", 10, "the spill to be empty again")
    assert books.read(s.ingest_servers[house.last].client).events["accepted"] >= 1
    house.bench.run()
    assert house.bench.events == {"accepted": 5, "settled": 5}, "its repeat was known"
    house.bench.check()


@pytest.mark.parametrize("house", [{"ingest_spill": True}], indirect=True, ids=["spill"])
def test_what_a_server_may_have_taken_before_it_failed_is_asked_of_that_one(house: House) -> None:
    """Its answer was lost and it was spilled: it goes back where its round is remembered, and is in once."""
    stream = house.ingest.services.ingest_servers[house.last]
    did = stream.append

    def lost(*arguments: Any, **options: Any) -> None:
        did(*arguments, **options)
        raise redis.TimeoutError("no answer")

    stream.append = lost  # type: ignore[method-assign, assignment]
    told = [house.ingest.takes(one()) for _ in range(3)]
    assert sorted(told) == ["queued", "queued", "spilled"]
    flow = flow_of(house.bench.services)
    wait_until(lambda: flow().ended == "empty", 10, "the spill to be empty")
    house.bench.run()
    assert house.bench.events == {"accepted": 3, "settled": 3}
    house.bench.check()


@pytest.mark.parametrize("house", [{"ingest_spill": True}], indirect=True, ids=["spill"])
def test_the_flow_back_waits_once_for_a_server_that_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a black hole each question costs seconds, and the rounds of the others wait for as long."""
    services = house.bench.services
    asked: list[str] = []

    def hangs(*_: Any, **__: Any) -> None:
        asked.append("a question")
        raise redis.TimeoutError("no answer")

    monkeypatch.setattr(services.lookout, "_every", 60.0)
    client = services.ingest_servers[house.last].client
    monkeypatch.setattr(client, "hmget", hangs)
    assert not any(services.bed.is_deep(1) for _ in range(5))
    assert len(asked) == 1
    inlet, knows = services.bed.of(house.last)
    assert knows
    monkeypatch.setattr(client.connection_pool, "get_connection", hangs)
    for ask in (
        lambda: inlet.append("r", [], time.monotonic() + 5),
        lambda: inlet.first_stamps([(_seen_at(house), datetime.now(UTC))]),
    ):
        with pytest.raises(Unavailable):
            ask()
    assert len(asked) == 1
    monkeypatch.undo()
    services.lookout._lost.clear()


def _seen_at(house: House) -> str:
    """The name of an event whose first stamp the last server knows."""
    made = (f"mutt:seen:{n}" for n in range(1000))
    return next(name for name in made if place_of(name, house.names) == house.last)


def test_a_round_of_a_server_that_has_left_may_be_in_though_nobody_remembers_it(
    redis_url: str, database_url: str
) -> None:
    """Home alone is left: what was spilled for another one is no round of home's."""
    with benches(redis_url, database_url) as (bench,):
        bed = bench.services.bed
        home = bench.services.servers[0].name
        assert [bed.of(server)[1] for server in ("", home, "gone:6379")] == [True, True, False]


def test_what_is_refused_is_not_said_to_be_accepted(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.own.kill()
    caplog.set_level("INFO", "mutt.ingest")
    assert house.ingest.post(one(), Idempotency_Key=house.key_of(house.last)).status_code == 503
    assert house.ingest.post(one(), Idempotency_Key=house.key_of(house.names[0])).status_code == 202
    [said] = [record for record in caplog.records if record.message == "accepted"]
    assert said.__dict__["requests"] == 1


def flow_of(services: Any) -> Any:
    """A flow back, as housekeeping does it."""

    return lambda: flow_back(
        services.spill_rows, services.bed, monotonic=time.monotonic, sleep=time.sleep, slice_=0.3
    )


def test_a_server_that_drains_takes_nothing_new_and_is_worked(
    redis_urls: list[str], database_url: str
) -> None:
    full = Ingest(
        redis_urls[0], database_url, stream_urls=f"{redis_urls[0]} {redis_urls[1]}", ingest_spill=False
    )
    draining = {"stream_urls": f"{redis_urls[0]} {redis_urls[1]}?drain=on"}
    less = Ingest(redis_urls[0], database_url, ingest_spill=False, **draining)
    with benches(redis_urls[0], database_url, **draining) as (bench,):
        KeysCopy(bench.redis).publish({})
        for _ in range(4):
            assert full.takes(one()) == "queued"
            assert less.takes(one()) == "queued"
        assert [
            stream.client.xlen(names.INGEST_STREAM) for stream in bench.services.ingest_servers.values()
        ] == [6, 2]
        bench.run()
        assert bench.events == {"accepted": 8, "settled": 8}
        bench.check()
    full.close()
    less.close()
