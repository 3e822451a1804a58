"""Quotas: one count for all replicas, in Redis; what was not accepted costs nothing; an outage ends no sender."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mutt import names
from mutt.grant import INGEST, Grant, digest_of
from mutt.quota import WINDOW, Ask, Window
from mutt.streams.connect import Client, connect
from mutt.streams.keys import KeysCopy
from mutt.streams.quota import Quotas
from mutt.web.post import Post
from tests.integration import test_spill
from tests.integration.test_ingest import GOOD, KEY, Ingest, is_problem
from tests.servers import Live
from tests.waiting import wait_until

QUOTA = 10
COUNTED = names.QUOTA + "few"


def publish(client: Client, quota: int = QUOTA) -> None:
    """Two keys: one with a quota, one without."""
    grants = [Grant("few", (INGEST,), quota=quota), Grant("many", (INGEST,))]
    KeysCopy(client).publish({digest_of(grant.name.encode()): grant for grant in grants})


@pytest.fixture
def client(redis_url: str) -> Client:
    return connect(redis_url)


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    publish(made.redis)
    return made


def counted(client: Client) -> int:
    return sum(map(int, client.hvals(COUNTED)))


def seconds(client: Client) -> float:
    second, micros = client.time()
    return float(second + micros / 1e6)


# ---- the count


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.integers(-2 * WINDOW, 0), st.integers(1, 60), max_size=8),
    st.lists(st.integers(1, 100), min_size=1, max_size=6),
)
def test_redis_counts_as_the_arithmetic_does(
    client: Client, stands: dict[int, int], asked: list[int]
) -> None:
    """What is granted, and for how long the others have to wait, with any past."""
    while True:
        client.delete(COUNTED)
        began = seconds(client)
        model = Window()
        for ago, n in sorted(stands.items()):
            client.hset(COUNTED, str(int(began) + ago), n)
            model.add(n, int(began) + ago)
        told = Quotas(client).take([Ask("few", 100, n) for n in asked])
        expected = [model.take(n, 100, began) for n in asked]
        # A wait is told in whole seconds, which may have turned between the two looks.
        if int(seconds(client)) == int(began):
            break
    for one, wait in zip(told, expected, strict=True):
        assert (one.wait == 0) == (wait == 0)
        assert wait - 1 <= one.wait <= wait
    standing = sum(n for ago, n in stands.items() if ago >= -WINDOW)
    taken = sum(n for n, one in zip(asked, told, strict=True) if not one.wait)
    if taken:
        assert counted(client) == standing + taken
        assert 0 < client.ttl(COUNTED) <= WINDOW + 1


def test_what_a_clock_that_ran_ahead_counted_holds_up_nobody(client: Client) -> None:
    client.hset(COUNTED, str(int(seconds(client)) + 3600), 100)
    assert [one.wait for one in Quotas(client).take([Ask("few", 100, 100)])] == [0]


def test_many_replicas_at_once_grant_the_quota_and_no_more(redis_url: str) -> None:
    """The count is one step: whoever asks, and however many at a time."""
    replicas = [Quotas(connect(redis_url)) for _ in range(4)]
    barrier = threading.Barrier(len(replicas))

    def ask(replica: Quotas) -> int:
        barrier.wait()
        return sum(
            one.wait == 0 for _ in range(20) for one in replica.take([Ask("few", 100, 3), Ask("few", 100, 1)])
        )

    with ThreadPoolExecutor(len(replicas)) as pool:
        list(pool.map(ask, replicas))
    assert counted(connect(redis_url)) == 100


def test_what_is_given_back_is_free_again(client: Client) -> None:
    """Once; and what has left the window by then stays gone."""
    quotas = Quotas(client)
    asks = [Ask("few", QUOTA, 6), Ask("few", QUOTA, 4)]
    told = quotas.take(asks)
    quotas.give_back([(asks[0], told[0])])
    assert counted(client) == 4
    assert [one.wait == 0 for one in quotas.take([Ask("few", QUOTA, 7), Ask("few", QUOTA, 6)])] == [
        False,
        True,
    ]
    client.delete(COUNTED)
    quotas.give_back([(asks[1], told[1])])
    assert not client.exists(COUNTED)


# ---- at the door


def test_a_key_over_its_quota_gets_a_429_and_goes_on_when_it_was_told_to(ingest: Ingest) -> None:
    """The problem names the quota; other keys are not touched; after Retry-After the request is taken."""
    assert ingest.post([GOOD] * QUOTA, key="few").status_code == 202
    refused = ingest.post(GOOD, key="few")
    told = is_problem(refused, 429)
    assert told["quota"] == QUOTA
    assert 1 <= int(refused.headers["Retry-After"]) <= WINDOW + 1
    assert ingest.post([GOOD] * 2 * QUOTA, key="many").status_code == 202
    # As if nearly a minute had passed.
    ingest.redis.delete(COUNTED)
    ingest.redis.hset(COUNTED, str(int(seconds(ingest.redis)) - WINDOW + 1), QUOTA)
    wait = int(ingest.post(GOOD, key="few").headers["Retry-After"])
    assert 1 <= wait <= 2
    time.sleep(wait)
    assert ingest.post(GOOD, key="few").status_code == 202
    assert ingest.accepted == QUOTA + 2 * QUOTA + 1


def test_a_request_larger_than_the_whole_quota_is_told_so(ingest: Ingest) -> None:
    """No wait would help: it has to come in parts. Nothing of it is counted."""
    told = is_problem(ingest.post([GOOD] * (QUOTA + 1), key="few"), 413)
    assert told["field"] == "quota"
    assert counted(ingest.redis) == 0
    assert ingest.post([GOOD] * QUOTA + [{}] * 5, key="few").status_code == 202, "what is bad does not count"


def test_a_quota_costs_one_command_for_posts_that_are_there_together(ingest: Ingest) -> None:
    """And none where no key has one."""

    def commands(*keys: str) -> int:
        posts = [(Post({"X-API-KEY": key}, "h"), orjson.dumps(GOOD)) for key in keys]
        lane = ingest.app.extensions["lane"]
        lane([posts[0]], time.monotonic())  # scripts are loaded, the copy is read
        publish(ingest.redis)
        ingest.redis.delete(COUNTED)
        ingest.redis.config_resetstat()
        answers = lane(posts, time.monotonic())
        assert {answer.status for answer in answers} <= {202, 429}
        return int(ingest.redis.info("commandstats")["cmdstat_evalsha"]["calls"])

    assert commands(*["many"] * 20) == 1
    assert commands(*["few", "many", "few"] * 8) == 2
    assert counted(ingest.redis) == QUOTA, "each by itself, the first first"


def test_what_was_refused_or_known_does_not_count(redis_url: str) -> None:
    """A full queue and a repeated Idempotency-Key add nothing, and cost no quota."""
    ingest = Ingest(redis_url, ingest_max_depth=5)
    publish(ingest.redis)
    for _ in range(3):
        assert ingest.post(GOOD, key="few", Idempotency_Key="once").status_code == 202
    assert counted(ingest.redis) == 1
    for _ in range(3):
        assert ingest.post([GOOD] * 6, key="few").status_code == 503
    assert counted(ingest.redis) == 1
    assert ingest.post([{}] * 3, key="few").status_code == 400
    assert counted(ingest.redis) == 1
    assert ingest.post([GOOD] * 4, key="few").status_code == 202
    assert counted(ingest.redis) == 5


# ---- while Redis is away


@pytest.fixture
def spilling(own_redis: Live, database_url: str) -> Iterator[test_spill.Ingest]:
    made = test_spill.Ingest(own_redis.url, database_url)
    publish(made.services.redis)
    yield made
    made.close()


def test_while_redis_is_away_the_process_counts(spilling: test_spill.Ingest, own_redis: Live) -> None:
    """Keys of the last good copy go into the spill, up to the quota, and no further: what was sent before counts."""

    def statuses(n: int, key: str = "few") -> list[int]:
        return [spilling.post(GOOD, key).status_code for _ in range(n)]

    assert statuses(4) == [202] * 4
    own_redis.kill()
    assert statuses(8) == [202] * 6 + [429] * 2
    refused = spilling.post(GOOD, "few")
    assert int(refused.headers["Retry-After"]) >= 1
    assert statuses(2, "many") == statuses(2, KEY) == [202, 202]
    own_redis.start()
    wait_until(lambda: "spilled" not in spilling.post(GOOD, "many").get_json(), 10, "Redis to be used again")


def test_while_redis_hangs_a_quota_makes_nobody_wait_for_it_twice(
    spilling: test_spill.Ingest, own_redis: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the keys can't be read the count is not asked for: what is left of the time is the spill's."""
    assert spilling.post(GOOD, "few").status_code == 202
    assert spilling.get("/readyz").status_code == 200  # as it is asked in operation: PostgreSQL is connected
    intake = spilling.app.extensions["ingest"]
    monkeypatch.setattr(intake.keys._known, "_read_at", float("-inf"))
    monkeypatch.setattr(intake._counting.quotas, "take", pytest.fail)
    with test_spill.stopped(own_redis):
        assert spilling.post(GOOD, "few").get_json()["spilled"]


def test_where_nothing_is_accepted_no_quota_is_used(own_redis: Live) -> None:
    """Without a spill an outage refuses everything, and what was refused is free when it is over."""
    ingest = Ingest(own_redis.url)
    publish(ingest.redis)
    assert ingest.post(GOOD, key="few").status_code == 202
    own_redis.kill()
    for _ in range(3 * QUOTA):
        assert ingest.post(GOOD, key="few").status_code == 503
    own_redis.start()

    def back() -> Any:
        return ingest.post([GOOD] * (QUOTA - 1), key="few").status_code == 202

    wait_until(back, 10, "Redis to be used again", every=0.2)
