"""The worker's own part of Celery."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import amqp
import pytest
import redis
from celery import Celery, signals
from celery.concurrency.solo import TaskPool
from celery.worker import WorkController
from kombu import Consumer, Message, Producer, Queue
from kombu.asynchronous import Hub
from kombu.exceptions import OperationalError

from mutt.celery import BackgroundRing, BrokerConnection, app, publish
from mutt.celery import Consumer as WorkersConsumer
from mutt.settings import Settings
from mutt.streams.connect import broker, login, redis_of
from tests.servers import Live, live_redis, scratch
from tests.waiting import wait_until


def test_what_a_worker_tells_of_its_broker_is_json_without_our_login(redis_url: str) -> None:
    """Flower asks each worker for it; a worker that can't answer is shown without its figures."""
    own = Settings.from_env({}, redis_url=redis_url.replace("redis://", "redis://:a-secret@"))
    connection = BrokerConnection(broker(own).url, credential_provider=login(own, "broker_url"))
    told = {name: value for name, value in connection.info().items() if name != "password"}
    assert "a-secret" not in json.dumps(told)


@pytest.mark.parametrize("word", ["ack", "reject", "requeue"])
def test_a_doorbell_whose_acknowledgement_failed_keeps_no_other_from_the_worker(
    own_redis: Live, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(signals.worker_init, "receivers", [])
    app = Celery("test", broker=own_redis.url, set_as_current=False)
    pool, controller, hub = TaskPool(1, app=app), WorkController(app=app), Hub()
    worker = WorkersConsumer(print, app=app, pool=pool, controller=controller, hub=hub)
    connection = worker.connect()
    channel, bell = connection.default_channel, Queue("alerts", routing_key="alerts")
    channel.basic_qos(0, 1, False)
    held: list[Message] = []
    Consumer(channel, [bell], on_message=held.append).consume()
    channel.qos._on_collect.cancel()  # at the end of the tests nothing is given back
    for n in range(2):
        Producer(connection.channel()).publish({"n": n}, routing_key="alerts", declare=[bell])
    connection.drain_events(timeout=5)
    assert [message.payload for message in held] == [{"n": 0}], "one at a time"

    with redis.Redis.from_url(own_redis.url) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-zrem")
        with pytest.raises(redis.RedisError):
            held[0].requeue() if word == "requeue" else getattr(held[0], word)()
        admin.execute_command("ACL", "SETUSER", "default", "+zrem")
    connection.drain_events(timeout=5)
    assert [message.payload for message in held] == [{"n": 0}, {"n": 1}]


def test_a_broker_that_dies_while_doorbells_are_held_does_not_end_the_worker(
    own_redis: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test may have brought in what MUTT does at a worker's start, which is not for this one.
    monkeypatch.setattr(signals.worker_init, "receivers", [])
    app = Celery("test", broker=own_redis.url, set_as_current=False)
    app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
    worker = WorkersConsumer(print, app=app, pool=TaskPool(1, app=app), controller=WorkController(app=app))
    worker.connection = connection = app.connection_for_read()
    held: list[object] = []
    for name, channel in (("alerts", connection.default_channel), ("moog", connection.channel())):
        bell = Queue(name, routing_key=name)
        Producer(channel).publish({}, routing_key=name, declare=[bell])
        Consumer(channel, [bell], on_message=held.append).consume()
        channel.qos._on_collect.cancel()  # at the end of the tests nothing is given back

    def all_wait() -> bool:
        """Has each channel its doorbell, and waits for its next one, as in the worker's loop?"""
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.2)
            return False
        return len(held) == 2

    wait_until(all_wait, 10, "both doorbells")
    own_redis.kill()
    worker.on_connection_error_after_connected(ConnectionError("as the loop said"))
    assert worker.connection is None


def test_data_and_doorbells_go_over_a_unix_socket() -> None:
    """With a password, and in another database than the first."""
    with scratch() as directory:
        socket_file = str(directory / "redis.sock")
        with live_redis(directory, password="pass", extra={"unixsocket": socket_file}):
            settings = Settings.from_env({"REDIS_URL": f"unix://:pass@{socket_file}?db=3"})
            told = broker(settings)
            with BrokerConnection(told.url, credential_provider=login(settings, "broker_url")) as connection:
                connection.default_channel.client.set("doorbell", "1")
            with redis_of(settings) as client:
                assert client.get("doorbell") == b"1"


def test_the_thread_that_rings_outlives_an_error_that_nobody_thought_of() -> None:
    rung: list[str] = []

    def ring(queue: str, **_labels: str) -> None:
        if not rung:
            rung.append("failed")
            raise LookupError(queue)
        rung.append(queue)

    background = BackgroundRing(ring)
    background("ingest_queue")
    wait_until(lambda: rung, 5, "the first ring")
    background("ingest_queue")
    wait_until(lambda: rung == ["failed", "ingest_queue"], 5, "the second one")


def test_what_rabbitmq_refuses_for_good_is_told_as_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise amqp.AccessRefused("write access was refused")

    monkeypatch.setattr(app, "send_task", refused)
    with pytest.raises(OperationalError, match="write access was refused"):
        publish("mutt.maintenance.sweep", "maintenance")
