"""What a sender is told of an append that failed: the cause, and the fix where there is one."""

from __future__ import annotations

import pytest
import redis

from mutt.streams.bound import away
from mutt.streams.stream import MissingReplicas


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MissingReplicas(0, 1), "0 of 1 replicas have it: bring them back, or lower INGEST_WAIT_REPLICAS"),
        (redis.AuthenticationError("invalid username-password pair"), "refuses our login or a command: see REDIS_URL"),
        (redis.exceptions.NoPermissionError("this user has no permissions"), "see REDIS_URL"),
        (redis.ReadOnlyError("You can't write against a read only replica."), "writes: You can't write against a read"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "refuses writes: MISCONF Redis is"),
        (redis.ConnectionError("Connection refused"), "can't be reached"),
        (redis.TimeoutError("Timeout reading from socket"), "can't be reached"),
    ],
)  # fmt: skip
def test_the_cause_is_named(error: redis.RedisError, said: str) -> None:
    assert said in away(error).reason
    assert away(error, sent=True).sent
