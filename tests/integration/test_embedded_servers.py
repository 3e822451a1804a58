"""A private Redis and a private PostgreSQL keep what they accepted, on this machine's servers or the wheels'."""

from __future__ import annotations

import psycopg2
import redis

from tests.servers import Live


def test_redis_keeps_what_it_accepted_over_a_kill(own_redis: Live) -> None:
    client = redis.Redis.from_url(own_redis.url)
    for number in range(100):
        client.rpush("kept", number)
    own_redis.restart()
    assert client.llen("kept") == 100


def test_postgres_keeps_what_it_committed_over_a_kill(own_postgres: Live) -> None:
    with psycopg2.connect(own_postgres.url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT generate_series(1, 100) AS number")
    own_postgres.restart()
    with psycopg2.connect(own_postgres.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept")
        assert cursor.fetchone() == (100,)


def test_each_test_has_an_empty_database_of_its_own(empty_database_url: str, postgres_url: str) -> None:
    assert empty_database_url != postgres_url
    with psycopg2.connect(empty_database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchone() == (0,)


def test_redis_is_empty_for_each_test(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    assert client.dbsize() == 0
    assert client.config_get("appendfsync") == {"appendfsync": "always"}
    client.set("left", "behind")


test_redis_is_empty_for_the_next_test = test_redis_is_empty_for_each_test
