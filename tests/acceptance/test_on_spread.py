"""The ingest queue on three Redis servers: everything that holds on one holds there, and one of them may be killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import redis

from tests.acceptance.bodies import main_path, under_load, worker_kill
from tests.servers import Live, live_redis, scratch
from tests.stack import UNBOUND, Stack, running


class Spread(NamedTuple):
    stack: Stack
    home: Live
    others: list[Live]


@pytest.fixture(scope="module")
def spread() -> Iterator[Spread]:
    with (
        scratch() as directory,
        live_redis(directory / "home") as home,
        live_redis(directory / "b", password="of-b") as b,
        live_redis(directory / "c", password="of-c") as c,
    ):
        urls = ", ".join(one.url for one in (home, b, c))
        with running(directory / "home", {**UNBOUND, "REDIS_URL": home.url, "STREAM_URLS": urls}) as stack:
            yield Spread(stack, home, [b, c])


def accepted(server: Live) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.hget("mutt:ledger", "events.accepted") or 0)


def test_events_go_all_the_way_wherever_they_stand(spread: Spread) -> None:
    for _ in range(3):
        main_path(spread.stack)
    assert [accepted(one) > 0 for one in (spread.home, *spread.others)] == [True] * 3
    shown = json.loads(spread.stack.mutt("streams", "list", "--json").stdout)
    assert [one["entries"] for one in shown] == [0, 0, 0]
    assert "of-b" not in spread.stack.mutt("doctor").stdout + spread.stack.mutt("queues").stdout


def test_a_worker_that_is_killed_loses_nothing(spread: Spread) -> None:
    before = [accepted(one) for one in spread.others]
    worker_kill(spread.stack)
    assert all(accepted(one) > was + 1000 for one, was in zip(spread.others, before, strict=True))


def test_a_server_that_is_killed_under_load_loses_nothing_and_the_others_go_on(spread: Spread) -> None:
    """And so does home, where all alerts stand."""

    def harm() -> None:
        spread.others[0].restart()
        spread.home.restart()

    under_load(spread.stack, harm, count=4000, rate=1000)
