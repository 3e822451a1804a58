"""Orders that workers carry out: a page gives one, the maintenance task works it in steps, the page shows how far.

One a queue at a time. It stands in Redis (``mutt:dlq:orders``) and outlives every process; the tick asks for its next
step once a second while there is one.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import msgspec
import redis
from redis.exceptions import LockError

from mutt import names
from mutt.errors import Refused, StoreDown
from mutt.letters.desk import Desk, Order
from mutt.streams.connect import Client

#: Seconds that one task works at most: less than from one tick to the next.
SLICE = 0.8

#: Seconds after which a worker that died holds nobody up.
LOCK_FOR = 30

_STOP = "stop:"

#: A look and a step at once: an order may end in between, and a stop that is left would end the next one.
STOP = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], '1')
return 1
"""
GIVE = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[3]) == 0 then return 0 end
redis.call('HDEL', KEYS[1], ARGV[2])
return 1
"""

_encode, _decode = msgspec.json.encode, msgspec.json.Decoder(Order).decode


class Orders:
    """What is under way. ``redis.RedisError`` passes through."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def give(self, order: Order) -> None:
        """Let workers carry it out. Raises Refused where another one is under way."""
        if order.done:
            raise Refused("", "There is no such letter any more: nothing to do.")
        told = order.queue, _STOP + order.queue, _encode(order)
        if not self._client.eval(GIVE, 1, names.LETTER_ORDERS, *told):
            raise Refused("", "Another order is under way for these letters: let it end, or stop it.")
        self._client.hdel(names.LETTER_ORDERS_ENDED, order.queue)

    def under_way(self, queue: str) -> Order | None:
        """What is being done with a queue's letters, if anything is."""
        return self._read(names.LETTER_ORDERS, queue)

    def ended(self, queue: str) -> Order | None:
        """The last one that ended."""
        return self._read(names.LETTER_ORDERS_ENDED, queue)

    def stop(self, queue: str) -> bool:
        """End what is under way after its present step. False: nothing was."""
        return bool(self._client.eval(STOP, 1, names.LETTER_ORDERS, queue, _STOP + queue))

    def work(self, desk: Desk, *, within: float = SLICE) -> dict[str, int]:
        """Carry all orders on for a while. How many letters moved, a queue."""
        moved = {}
        for queue in names.DLQS:
            lock = self._client.lock(names.LETTER_LOCK + queue, timeout=LOCK_FOR, blocking=False)
            if not self._client.hexists(names.LETTER_ORDERS, queue) or not lock.acquire():
                continue
            try:
                moved[queue] = self._work(desk, queue, within)
            finally:
                with contextlib.suppress(
                    LockError
                ):  # it ran out meanwhile: another worker may hold it by now
                    lock.release()
        return moved

    def _work(self, desk: Desk, queue: str, within: float) -> int:
        order = self.under_way(queue)
        if order is None:
            return 0
        before = order.letters
        if self._stopped(queue):
            self._end(order)
            return 0
        try:
            for step in desk.run(order, within=within):
                if step.done or self._stopped(queue):
                    self._end(step)
                    break
                self._client.hset(names.LETTER_ORDERS, queue, _encode(step))
        except (StoreDown, redis.RedisError) as error:
            if isinstance(error, StoreDown):
                order.waits = "PostgreSQL does not answer"
            # With its note in the history: the next step goes on with that one.
            with contextlib.suppress(redis.RedisError):
                self._client.hset(names.LETTER_ORDERS, queue, _encode(order))
            raise
        return order.letters - before

    def _stopped(self, queue: str) -> bool:
        return bool(self._client.hexists(names.LETTER_ORDERS, _STOP + queue))

    def _end(self, order: Order) -> None:
        order.ended = datetime.now(UTC).isoformat(timespec="seconds")
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(names.LETTER_ORDERS_ENDED, order.queue, _encode(order))
            pipe.hdel(names.LETTER_ORDERS, order.queue, _STOP + order.queue)
            pipe.execute()

    def _read(self, key: str, queue: str) -> Order | None:
        found = self._client.hget(key, queue)
        return _decode(found) if found else None
