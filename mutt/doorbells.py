"""What is asked of the broker, whichever it is: how many doorbells wait in a queue."""

from __future__ import annotations

from typing import Protocol

from mutt.streams.connect import Client


class Doorbells(Protocol):
    """A broker's queues. ``redis.RedisError`` or kombu's OperationalError: it can't be asked."""

    def waiting(self, queue: str) -> int:
        """Doorbells that wait, without those that a worker has; 0 where there is no such queue."""
        ...

    def version(self) -> str:
        """Which broker answers: "Redis 7.0.15", "RabbitMQ 3.10.8"."""
        ...

    def close(self) -> None: ...


class InRedis:
    """Celery's queues in Redis: a list each."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def waiting(self, queue: str) -> int:
        return int(self._client.llen(queue))

    def version(self) -> str:
        return f"Redis {self._client.info('server').get('redis_version', '')}".strip()

    def close(self) -> None:
        self._client.close()
