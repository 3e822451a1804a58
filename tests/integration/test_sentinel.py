"""A client by way of Sentinel leaves an old primary when that refuses, and not when it is demoted."""

from __future__ import annotations

import contextlib

import redis

from mutt.streams.connect import Client, connect
from tests.sentinels import PAUSE, watched_redis
from tests.servers import memory, scratch
from tests.waiting import wait_until


def test_a_primary_that_is_being_replaced_is_left_while_it_still_thinks_that_it_is_one() -> None:
    """It refuses writes, for its replicas are gone; Sentinel makes a replica of it only when its pause is over."""
    with scratch(memory()) as directory, watched_redis(directory) as watched:
        client = connect(watched.url, timeout=0.45)
        assert takes(client)
        _, new = watched.fail_over()
        wait_until(lambda: takes(client), PAUSE / 1000 * 2 / 3, "a primary that takes writes")
        assert client.info("server")["tcp_port"] == new


def takes(client: Client) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.set("mutt:probe", "1"))
    return False


def test_a_connection_by_way_of_sentinel_is_kept() -> None:
    """Redis 7.0 does not know all of redis-py's greeting: that is no reason to greet it anew for each command."""
    with scratch(memory()) as directory, watched_redis(directory) as watched:
        client = connect(watched.url)
        for _ in range(5):
            assert takes(client)
        stats = client.info("stats")["total_connections_received"]
        for _ in range(50):
            assert takes(client)
        assert client.info("stats")["total_connections_received"] - stats < 10, "Sentinels' and replicas' own"
