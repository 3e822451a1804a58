"""The data on one Redis, the doorbells on another: everything that holds on one server holds there too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import redis

from tests.acceptance.bodies import main_path, under_load, worker_kill
from tests.servers import Live, live_redis, scratch
from tests.stack import UNBOUND, Stack, running


class Split(NamedTuple):
    stack: Stack
    data: Live
    broker: Live


@pytest.fixture(scope="module")
def split() -> Iterator[Split]:
    with (
        scratch() as directory,
        live_redis(directory / "data") as data,
        live_redis(directory / "broker", password="the-brokers") as broker,
    ):
        settings = {**UNBOUND, "STREAM_URL": data.url, "BROKER_URL": broker.url}
        with running(directory / "home", settings) as stack:
            yield Split(stack, data, broker)


def test_an_event_goes_all_the_way_and_each_server_holds_its_own(split: Split) -> None:
    main_path(split.stack)
    assert "redis" not in split.stack.pids, "both are given: no other is started"
    with redis.Redis.from_url(split.data.url) as data, redis.Redis.from_url(split.broker.url) as broker:
        assert {key for key in data.scan_iter() if not key.startswith(b"mutt:")} == set()
        assert {key for key in broker.scan_iter() if key.startswith(b"mutt:")} == set()
    doctor = " ".join(split.stack.mutt("doctor").stdout.split())
    assert "ok broker Redis " in doctor
    assert split.stack.mutt("queues").returncode == 0


def test_a_worker_that_is_killed_loses_nothing(split: Split) -> None:
    worker_kill(split.stack)


def test_events_are_taken_while_the_broker_restarts(split: Split) -> None:
    under_load(split.stack, split.broker.restart, count=3000)
