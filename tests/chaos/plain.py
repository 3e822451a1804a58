"""The baseline: plain Celery with every setting that is recommended against loss; the message is the data.

``celery -A tests.chaos.plain worker`` works. One task, one INSERT and COMMIT an event, acknowledged late.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.servers import live_postgres, live_redis
from tests.waiting import wait_until

#: Seconds after which Redis' messages without an acknowledgement are given out again.
VISIBLE = 5

RATE = 250.0

app = Celery("plain", broker=os.environ.get("REDIS_URL", "redis://"))
app.conf.update(
    task_acks_late=True,
    task_acks_on_failure_or_timeout=False,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": VISIBLE},
)


@functools.cache
def _connection(_pid: int) -> Any:
    return psycopg2.connect(os.environ["DATABASE_URL"])


@app.task(name="chaos.store")
def store(mark: int) -> None:
    """One event."""
    connection = _connection(os.getpid())
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO plain VALUES (%s)", (mark,))


class Worker:
    """A worker that is started again as soon as it is gone."""

    def __init__(self, name: str, directory: Path, environ: dict[str, str]) -> None:
        self._argv = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.chaos.plain",
            "worker",
            "-c",
            "2",
            "-n",
            name,
            "-l",
            "INFO",
        ]
        self._log, self._environ = directory / f"{name}.log", environ
        self.start()

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, env=self._environ, stdout=log, stderr=log, start_new_session=True
            )

    def ready(self) -> bool:
        return b" ready." in self._log.read_bytes()

    def kill(self) -> None:
        """SIGKILL the parent; its children with it, as a container's end does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_child(self) -> None:
        psutil.Process(self._process.pid).children()[0].kill()


class Published:
    """Publishes marks at a steady rate; counts those that the broker took."""

    def __init__(self, url: str) -> None:
        self._app = Celery("publisher", broker=url)
        self._ended = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(1 / RATE):
            try:
                self._app.send_task("chaos.store", (self.count,), retry=False)
            except OperationalError:
                continue
            self.count += 1

    def stop(self) -> int:
        self._ended.set()
        self._thread.join(10)
        return self.count


def lost_under_kills(directory: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill workers, and their children, at random moments under load: how many messages were never done."""
    dice = random.Random(seed)
    with live_redis(directory) as server, live_postgres(directory, durable=True) as postgres:
        _execute(postgres.url, "CREATE TABLE plain (mark integer)")
        environ = {**os.environ, "REDIS_URL": server.url, "DATABASE_URL": postgres.url}
        with _workers(directory, environ) as workers:
            published = Published(server.url)
            for n in range(kills):
                worker = workers[n % len(workers)]
                wait_until(worker.ready, 60, "a worker to be ready")
                time.sleep(dice.uniform(0.1, 0.8))
                if n % 4 == 3:
                    worker.kill_child()
                else:
                    worker.kill()
                    worker.start()
            count = published.stop()
            with redis.Redis.from_url(server.url) as client:
                _wait_for_rest(client, lambda: _done(postgres.url)[0])
            done, twice = _done(postgres.url)
            return {"kills": kills, "published": count, "done": done, "lost": count - done, "twice": twice}


@contextmanager
def _workers(directory: Path, environ: dict[str, str]) -> Iterator[list[Worker]]:
    workers = [Worker(f"plain{n}", directory, environ) for n in (1, 2)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def _wait_for_rest(client: redis.Redis, done: Callable[[], int]) -> None:
    """Wait until nothing stands anywhere, and nothing was done for longer than what may still come needs."""
    since, seen = time.monotonic(), -1

    def still() -> bool:
        nonlocal since, seen
        now = done()
        if now != seen or client.llen("celery") or client.hlen("unacked"):
            since, seen = time.monotonic(), now
        return time.monotonic() - since > VISIBLE

    wait_until(still, 120, "plain Celery to come to rest", every=0.2)


def _done(url: str) -> tuple[int, int]:
    """How many were done, and how many of these more than once."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(DISTINCT mark), count(*) FROM plain")
            distinct, rows = cursor.fetchone()
            return distinct, rows - distinct
    finally:
        connection.close()


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
