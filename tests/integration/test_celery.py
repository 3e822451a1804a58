"""The worker's own part of Celery."""

from __future__ import annotations

import socket

import pytest
from celery import Celery, signals
from celery.concurrency.solo import TaskPool
from celery.worker import WorkController
from kombu import Consumer, Producer, Queue

from mutt.celery import Consumer as WorkersConsumer
from tests.servers import Live


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
    with pytest.raises(socket.timeout):
        while True:  # until each channel waits for its next doorbell, as in the worker's loop
            connection.drain_events(timeout=0.2)
    assert len(held) == 2
    own_redis.kill()
    worker.on_connection_error_after_connected(ConnectionError("as the loop said"))
    assert worker.connection is None
