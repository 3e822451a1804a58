"""MUTT with RabbitMQ as its broker: the doorbells go there, the data stays in Redis, and every promise is kept."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import requests

from tests.acceptance import bodies
from tests.brokers import PASSWORD, Rabbit, live_rabbitmq
from tests.servers import memory, scratch
from tests.stack import UNBOUND, Stack, running
from tests.waiting import wait_until

#: Seconds until an event is at Moog, on a busy machine, right after a start or an outage of the broker.
PATIENCE = 15.0


@pytest.fixture(scope="module")
def rabbit() -> Iterator[Rabbit]:
    with scratch(memory()) as directory, live_rabbitmq(directory) as server:
        yield server


@pytest.fixture(scope="module")
def stack(rabbit: Rabbit) -> Iterator[Stack]:
    with scratch(memory()) as directory:
        settings = {**UNBOUND, "BROKER_URL": rabbit.url}
        with running(directory / "home", settings) as started:
            yield started


def test_the_main_path_and_flower_shows_its_task(stack: Stack) -> None:
    bodies.main_path(stack, within=PATIENCE)
    up = stack.up
    login = (up["admin_user"], up["admin_password"])

    def shown() -> bool:
        tasks = requests.get(up["flower"] + "/api/tasks", auth=login, timeout=10).json().values()
        done = [one for one in tasks if one["name"] == "mutt.alerts.evaluate" and one["state"] == "SUCCESS"]
        return any("'audited': 1" in str(one["result"]) for one in done)

    wait_until(shown, 20, "the evaluation in Flower, with its counts", every=0.2)


def test_the_doctor_and_the_shell_know_the_broker(stack: Stack) -> None:
    told = stack.mutt("doctor").stdout
    [line] = [line for line in told.splitlines() if line.split()[1:2] == ["broker"]]
    assert "RabbitMQ 3." in line
    assert "doorbells  alerts 0" in stack.mutt("queues", check=True).stdout


def test_a_worker_that_is_killed_costs_nothing(stack: Stack) -> None:
    bodies.worker_kill(stack)


def test_remote_control_reaches_the_workers(stack: Stack) -> None:
    up = stack.up
    login = (up["admin_user"], up["admin_password"])
    workers = up["flower"] + "/api/workers?refresh=true"
    seen = wait_until(lambda: requests.get(workers, auth=login, timeout=10).json(), 10, "workers in Flower")
    assert any(name.startswith("moog1@") for name in seen)


def test_a_broker_that_is_killed_costs_neither_events_nor_a_word_to_the_sender(
    stack: Stack, rabbit: Rabbit
) -> None:
    """Ingest takes events meanwhile: it does not wait for the broker."""

    def harm() -> None:
        rabbit.kill()
        for _ in range(10):
            reply = stack.post({"hostname": f"away-{uuid.uuid4().hex[:8]}", "message": "link down"})
            assert reply.status_code == 202
            assert reply.elapsed.total_seconds() < 1
        rabbit.start()

    bodies.under_load(stack, harm)
    bodies.main_path(stack, within=PATIENCE)


def test_a_broker_that_takes_nothing_is_worked_without(stack: Stack, rabbit: Rabbit) -> None:
    """Short of memory RabbitMQ takes no doorbell; the workers start their drains themselves."""
    rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        bodies.main_path(stack, within=PATIENCE)
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "absolute", "4GB")
    stack.balanced()


def test_the_brokers_password_is_in_no_log_and_no_argument(stack: Stack) -> None:
    for log in (stack.home / "logs").iterdir():
        assert PASSWORD not in log.read_text(errors="replace"), log.name
        assert PASSWORD.partition("/")[2] not in log.read_text(errors="replace"), log.name
    assert not [line for line in stack.command_lines() if PASSWORD in line or "pass%2F" in line]
