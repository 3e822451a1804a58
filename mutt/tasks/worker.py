"""What a worker process does around its tasks: logs, the tick, its own /metrics, a tidy end."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Container, Iterable
from typing import Any

import redis
from celery import bootsteps, signals
from celery.concurrency import prefork
from celery.worker import state
from kombu.exceptions import OperationalError

from mutt import names, told, traces
from mutt.celery import app, doorbells, ring, settings
from mutt.errors import SettingsError
from mutt.logs import configure
from mutt.meter import Meter
from mutt.pulse import collect, report
from mutt.streams.connect import check_server
from mutt.tasks import backtests, tick
from mutt.tasks.alerts import evaluate_queue
from mutt.tasks.base import OUTAGES, ROLE_OF, services
from mutt.tasks.housekeeping import record_queue
from mutt.tasks.moog import forward_queue

log = logging.getLogger("mutt.worker")

#: How each queue is worked without a doorbell.
WORK = {"ingest_queue": evaluate_queue, "alert_queue": forward_queue, "delivery_queue": record_queue}

_stopping = threading.Event()

#: What ends the reports of this process; a child has its own.
_ends: list[Callable[[], None]] = []


@signals.setup_logging.connect
def _logs(**_kwargs: Any) -> None:
    configure(settings(), settings().mutt_role or "worker")


@signals.worker_init.connect
def _check(sender: Any, **_kwargs: Any) -> None:
    """Refuse to start on what MUTT can't work with. Only SystemExit gets out of a signal's handler."""
    # Who only forwards needs no PostgreSQL.
    store = () if set(sender.app.amqp.queues.consume_from) == {"moog"} else ("database_url",)
    try:
        settings().need("stream_url", "broker_url", *store)
        traces.check(settings())
        others = tick.elsewhere(settings())
        for client in (tick.connection(settings()), *others.values()):
            which = "stream_urls" if client in others.values() else "stream_url"
            try:
                check_server(client, settings().variable(which))
            except redis.RedisError as error:
                log.warning("Redis can't be asked yet: %s", error)
    except SettingsError as error:
        raise SystemExit(f"mutt: {error}") from None


class Door(bootsteps.StartStopStep):
    """/metrics and /healthz, where a port is set: once the children are forked, who are not to have its socket, and
    before the broker is connected to. One that is away is waited for, and who waits is not to be taken for dead."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        _open(frozenset(worker.app.amqp.queues.consume_from))


app.steps["worker"].add(Door)


def _open(own: frozenset[str]) -> None:
    try:
        listening = told.listen(settings())
    except SettingsError as error:
        # It works all the same; and a worker's copy that was started beside it has the port.
        log.error("no metrics: %s", error)
        return
    if listening:
        # Children of a prefork pool count in the directory; without one, only this process' threads are counted.
        told.serve(listening, told.teller(services(), queues=queues_are_read_by(own)))


@signals.worker_ready.connect
def _ready(sender: Any, **_kwargs: Any) -> None:
    """The worker takes tasks: start its tick."""
    client = tick.connection(settings())
    known = names.queues(settings())
    own = frozenset(queue.name for queue in sender.task_consumer.queues)
    if own == {"backtests"}:
        os.nice(backtests.NICE)
    _stopping.clear()
    tick.start(
        tick.Tick(
            client,
            known,
            own_queues=own
            - {"backtests"},  # a long job is not stuck: its heart beats, or another takes it over
            progress=lambda: sum(state.total_count.values()),
            run_here=lambda name: sender.pool.apply_async(work_here, (name,)),
            doorbells=doorbells(settings()),
            elsewhere=tick.elsewhere(settings()),
            spill_every=tick.SPILL_EVERY if settings().ingest_spill else tick.SPILL_SELDOM,
        ),
        _stopping,
    )
    _report(own, slots=0 if _has_children(sender.pool) else sender.pool.num_processes)
    if queues_are_read_by(own):
        collect.start(services(), _stopping)
    for queue in known.values():
        if queue.celery_queue in own:
            # Whoever starts looks: it makes its connections now, and not when the first event waits for them.
            _look(queue.name)


def _look(name: str) -> None:
    try:
        ring(name, why="start")
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("the first doorbell of %s is not rung, the tick will: %s", name, error)


def _has_children(pool: Any) -> bool:
    """Do others do the work? Each of them says itself how it is."""
    return isinstance(pool, prefork.TaskPool)


def _report(queues: Iterable[str], *, slots: int, parent: int = 0) -> None:
    """Say now and then how this process is; ``parent``: as a part of that one."""
    meters: dict[str, Meter] = {role: services().meters[role] for role in map(ROLE_OF.get, queues) if role}
    name = report.name_of(parent or os.getpid(), os.getpid() if parent else 0)
    _ends[:] = [report.start(settings(), name, meters, slots=slots)]


def _end_report() -> None:
    while _ends:
        _ends.pop()()


@signals.worker_process_init.connect
def _child_ready(**_kwargs: Any) -> None:
    """What the child inherited is no garbage: it need not be looked through at every full collection."""
    gc.collect()
    gc.freeze()
    _report(sorted(app.amqp.queues.consume_from), slots=1, parent=os.getppid())


def work_here(name: str) -> None:
    """In a pool's child: drain a queue without a doorbell."""
    try:
        with services().meters[ROLE_OF[names.queues(settings())[name].celery_queue]].busy:
            result = WORK[name]()
    except OUTAGES as error:
        log.warning("%s: %s", name, error)
    else:
        log.info("worked without a doorbell", extra={"queue": name, "did": result})


def queues_are_read_by(own: Container[str]) -> bool:
    """May a worker of these Celery queues read what stands in Redis? Housekeeping may."""
    return "housekeeping" in own


@signals.worker_shutting_down.connect
def _stop(**_kwargs: Any) -> None:
    _stopping.set()


@signals.worker_shutdown.connect
def _gone(**_kwargs: Any) -> None:
    _end_report()
    services().end_traces()


@signals.worker_process_shutdown.connect
def _child_gone(**_kwargs: Any) -> None:
    _end_report()
    services().end_traces()
