"""What is asked of a broker, held to each that there is: how many doorbells wait, whatever became of the connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import redis
from kombu.exceptions import OperationalError

from mutt import rabbit as rabbits
from mutt.celery import app, doorbells
from mutt.doorbells import Doorbells
from mutt.rabbit import as_away
from mutt.settings import Settings
from tests.brokers import USER, Rabbit, live_rabbitmq
from tests.private_ca import Papers, Registry
from tests.servers import Live, memory, scratch

AWAY = (redis.RedisError, OperationalError)


class Broker(NamedTuple):
    server: Live
    doorbells: Doorbells
    ring: Callable[[str], Any]


@pytest.fixture(scope="module")
def papers() -> Iterator[Registry]:
    with scratch() as directory:
        yield Registry(directory)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, own_redis: Live, papers: Registry) -> Iterator[Broker]:
    if request.param == "redis":
        found = doorbells(told(own_redis.url))
        yield Broker(own_redis, found, lambda queue: _push(own_redis.url, queue))
        found.close()
        return
    with scratch(memory()) as directory, live_rabbitmq(directory, papers.right) as rabbit:
        found = doorbells(told(rabbit.secure_url, broker_ca=str(papers.ca.pem)))
        yield Broker(rabbit, found, lambda queue: _publish(rabbit.url, queue))
        found.close()


def told(address: str, **more: str) -> Settings:
    return Settings.from_env({}, redis_url="redis://127.0.0.1:1/0", broker_url=address, **more)


def _push(url: str, queue: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.lpush(queue, "doorbell")


def _publish(url: str, queue: str) -> None:
    with app.connection_for_write(url) as connection:
        app.send_task("mutt.maintenance.sweep", queue=queue, connection=connection)


def test_it_counts_what_waits_and_survives_a_restart_of_the_broker(broker: Broker) -> None:
    assert broker.doorbells.waiting("alerts") == 0, "nobody rang"
    for _ in range(3):
        broker.ring("maintenance")
    assert broker.doorbells.waiting("maintenance") == 3
    assert broker.doorbells.waiting("alerts") == 0
    assert broker.doorbells.version().split()[0] in ("Redis", "RabbitMQ")
    broker.server.kill()
    with pytest.raises(AWAY):
        broker.doorbells.waiting("maintenance")
    broker.server.start()
    assert broker.doorbells.waiting("alerts") == 0
    broker.ring("maintenance")
    assert broker.doorbells.waiting("maintenance") in range(1, 5), (
        "what a broker keeps over a restart is its own affair"
    )


@pytest.fixture
def rabbit() -> Iterator[Rabbit]:
    with scratch(memory()) as directory, live_rabbitmq(directory) as server:
        yield server


def test_whatever_rabbitmq_refuses_it_is_away_for_as_long_and_nobody_is_kept_waiting(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its errors would end the threads that tick and ring."""
    with (
        contextlib.closing(doorbells(told(rabbit.url))) as asked,
        app.connection_for_write(rabbit.url) as connection,
    ):
        left = connection.channel()
        # This process knows that it takes no messages: what is asked it answers all the same.
        monkeypatch.setattr(rabbits, "_refusal", rabbits._Refusal())
        rabbits._refusal.note("it is short of memory")
        assert [asked.waiting("alerts") for _ in range(3)] == [0, 0, 0]
        left.close()
        assert connection.channel().queue_declare("alerts").message_count == 0, "a number of its own"
        monkeypatch.setattr(rabbits, "_refusal", rabbits._Refusal())
        # Rights that were taken away: those to write, then all.
        rabbit.ctl("set_permissions", "-p", USER, USER, ".*", "^$", "^$")
        with pytest.raises(AWAY), as_away():
            app.send_task("mutt.x", queue="alerts", connection=connection, confirm_timeout=1.0)
        rabbit.ctl("clear_permissions", "-p", USER, USER)
        asked.close()
        for question in (asked.version, lambda: asked.waiting("alerts")):
            with pytest.raises(AWAY):
                question()
        rabbit.kill()
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(AWAY):
                asked.waiting("alerts")
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("what", ["of another CA", "of another host", "expired"])
def test_a_rabbitmq_with_the_wrong_papers_hears_nothing(papers: Registry, what: str) -> None:
    """Neither a login nor the first word of the protocol."""
    with _overhearing(papers.wrong[what]) as (port, heard):
        asked = doorbells(told(f"amqps://mutt:secret@localhost:{port}/mutt", broker_ca=str(papers.ca.pem)))
        with pytest.raises(AWAY, match="certificate verify failed"):
            asked.waiting("alerts")
    assert not any(heard)


@contextlib.contextmanager
def _overhearing(shows: Papers) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server that shows these papers, and what it was told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*shows)
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                sock.settimeout(2)
                with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as secure:
                    heard.append(secure.recv(100))

    threading.Thread(target=listen, daemon=True).start()
    with listener:
        yield listener.getsockname()[1], heard
