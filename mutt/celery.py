"""The Celery application: ``celery -A mutt worker -Q alerts``.

A message is a doorbell. Its kwargs are labels for people (what rang, how much); the task works whatever stands in
the stream. A lost, doubled or late doorbell harms nothing: the tick (``tasks/tick``) rings again within a second.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from celery import Celery
from celery.app.amqp import AMQP
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as redis_transport

from mutt import flower, names
from mutt.doorbells import Doorbells, InRedis
from mutt.errors import SettingsError
from mutt.rabbit import TAKEN, InRabbit, as_away
from mutt.settings import RABBITMQ, Settings
from mutt.streams.connect import MasterConnection, TlsConnection, TlsMasterConnection, broker, login, redis_of

log = logging.getLogger(__name__)


#: What kombu and Celery raise over a message that is none.
_NO_DOORBELL = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


class Bells:
    """Throws away what is no doorbell: Celery lets it end the worker, and whoever may ring could do so for ever."""

    qos: Any
    client: Any

    def _brpop_read(self, **options: Any) -> Any:
        held = set(self.qos._delivered)
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except _NO_DOORBELL as error:
            if self.client.connection is None:
                raise  # nothing came: the broker is lost
            # Its words are whoever's who sent it.
            log.warning("thrown away, for it is no doorbell: %s", type(error).__name__)
            for tag in set(self.qos._delivered) - held:
                self.qos.reject(tag)
            return True


class Secure(Bells, redis_transport.Channel):
    """Speaks TLS as our other connections to Redis do."""

    connection_class_ssl = TlsConnection


class Transport(redis_transport.Transport):
    Channel = Secure


class SecureSentinel(Bells, redis_transport.SentinelChannel):
    """The same through Sentinel."""

    connection_class: Any = MasterConnection
    connection_class_ssl: Any = TlsMasterConnection


class SentinelTransport(redis_transport.SentinelTransport):
    Channel = SecureSentinel


# kombu makes the connections of a pool by itself: by these names it finds our transports for them, too.
TRANSPORT_ALIASES.update(
    {
        "redis": f"{__name__}:Transport",
        "rediss": f"{__name__}:Transport",
        "sentinel": f"{__name__}:SentinelTransport",
        "amqp": "mutt.rabbit:Transport",
        "amqps": "mutt.rabbit:SecureTransport",
    }
)


class BrokerConnection(Connection):
    """A connection to the broker that asks for its login whenever it connects: the password may have changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("credential_provider") is None:
            kwargs["credential_provider"] = login(settings(), "broker_url")
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

    def info(self) -> dict[str, Any]:
        """What a worker tells whoever asks it by remote control (Flower does). What asks for our login is no part."""
        told: dict[str, Any] = super().info()  # type: ignore[no-untyped-call]
        told.pop("credential_provider", None)
        return told


class Amqp(AMQP):
    Connection = BrokerConnection


app = Celery("mutt", amqp=Amqp)
app.config_from_object("celeryconfig")


class Places(redis_transport.QoS):
    """How many doorbells a worker holds. One whose acknowledgement failed takes no place any more.

    kombu 5.7 keeps its place until the connection is made anew, and Celery logs the failure and goes on: a worker that
    takes one doorbell at a time then takes none. Redis gives that doorbell out again, which harms nothing.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        finally:
            self._leave(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        finally:
            self._leave(delivery_tag)

    def _leave(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]


class Consumer(CeleryConsumer):
    """Celery's consumer without gossip and mingle, also for a worker that somebody starts by hand.

    Gossip sends every heartbeat to every worker, and mingle makes each start wait a second; neither serves us.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = {
            **(kwargs.pop("worker_options", None) or {}),
            "without_gossip": True,
            "without_mingle": True,
        }
        super().__init__(*args, worker_options=options, **kwargs)

    def connection_for_read(self, heartbeat: int | None = None) -> Connection:
        """The connection that doorbells come on."""
        connection = super().connection_for_read(heartbeat)
        if connection.transport.driver_type == "redis":
            connection.default_channel.QoS = Places
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The broker is lost: closing what is left of the connection must not end the worker.

        Celery 5.7 first collects the connection, which takes the address from its transport, and then closes it. Where
        a doorbell is not acknowledged yet, closing wants to give it back, finds no address, and fails with an
        AttributeError that nobody catches. Its doorbell the tick rings again.
        """
        connection = self.connection
        connection.close = _tolerant(connection.close)
        super().on_connection_error_after_connected(exc)


def _tolerant(close: Callable[[], None]) -> Callable[[], None]:
    def closed() -> None:
        with contextlib.suppress(AttributeError):
            close()

    return closed


@functools.cache
def settings() -> Settings:
    """This process' settings, read once."""
    return Settings.from_env()


if flower.is_flower(sys.argv):
    # Here, since Flower looks for its options before it looks at Celery's.
    try:
        flower.behind_login(sys.argv, settings())
    except SettingsError as error:
        raise SystemExit(f"mutt: {error}") from None


def ring(queue: str, **labels: Any) -> None:
    """Publish a queue's doorbell. kombu's and Redis' errors pass through."""
    known = names.queues(settings())[queue]
    publish(known.task, known.celery_queue, stream=f"mutt:{queue}", **labels)


def publish(task: str, queue: str, **labels: Any) -> None:
    """Publish a task's doorbell in a Celery queue. kombu's OperationalError and Redis' errors pass through.

    RabbitMQ says that it took it; over a connection that broke since the last one, it is published once more.
    """
    confirmed = in_rabbitmq(settings())
    with as_away():
        app.send_task(
            task,
            kwargs=labels,
            queue=queue,
            retry=confirmed,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
            confirm_timeout=TAKEN if confirmed else None,
        )


def in_rabbitmq(told: Settings) -> bool:
    """Do doorbells go to a RabbitMQ?"""
    return told.broker_url.partition("://")[0] in RABBITMQ


def doorbells(told: Settings) -> Doorbells:
    """The broker's queues, over a connection of their own. Raises SettingsError."""
    if in_rabbitmq(told):
        at = broker(told)
        return InRabbit(partial(app.connection_for_read, at.url, ssl=at.ssl))
    return InRedis(redis_of(told, "broker_url", timeout=2.0, max_connections=4))


class BackgroundRing:
    """Rings from a thread of its own, so that no request waits for the broker.

    Rings of one queue that come while it is busy are one ring. What can't be rung is left to the tick: the events
    are safe in the stream.
    """

    def __init__(self, ring: Callable[..., None] = ring) -> None:
        self._ring = ring
        self._wanted: dict[str, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __call__(self, queue: str, **labels: Any) -> None:
        with self._changed:
            self._wanted[queue] = labels
            if self._thread is None:
                # Not before the first ring: the process may still fork.
                self._thread = threading.Thread(target=self._run, name="ring", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
                wanted, self._wanted = self._wanted, {}
            for queue, labels in wanted.items():
                try:
                    self._ring(queue, **labels)
                except (OperationalError, redis.RedisError, OSError) as error:
                    log.warning("doorbell of %s not rung, the tick will: %s", queue, error)
                except Exception:
                    # Nobody starts this thread again: it must outlive what nobody thought of.
                    log.exception("doorbell of %s not rung, the tick will", queue)
