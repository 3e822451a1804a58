"""Jobs: back-tests that somebody asked for on a page, done one after another by a worker.

A thread beside the run says each second that its worker lives and how far it is, and asks in the same statement
whether to go on: so a cancel acts within two seconds, also while PostgreSQL searches and sends nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import redis
from sqlalchemy import Connection

from mutt import names
from mutt.backtest.draft import Draft
from mutt.backtest.run import Question, Stopped, Watch, run
from mutt.errors import MuttError, NoRuleset, SettingsError, StoreDown
from mutt.services import Services
from mutt.store import backtests
from mutt.store.engine import transaction
from mutt.store.tables import Backtesting

log = logging.getLogger("mutt.backtest")

#: Seconds between two words of a worker.
EVERY = 1.0

_CANCELED = "57014"

Stopping = Callable[[], bool]


def ask(conn: Connection, who: str, question: Question) -> UUID:
    """Ask for a back-test; its id. Tell the workers once it is committed: :func:`announce`. Raises :class:`Refused`."""
    question.check()
    return backtests.create(
        conn,
        who=who,
        name=question.draft.name,
        draft=msgspec.to_builtins(question.draft),
        since=question.since,
        until=question.until,
        host=question.host,
        baseline=question.baseline,
    )


def announce(services: Services) -> None:
    """A job waits: the tick rings within a second. Where Redis can't be told, it rings within a minute."""
    with contextlib.suppress(redis.RedisError, SettingsError):
        services.redis.set(names.BACKTESTS, "1")


def work(services: Services, stopping: Stopping = lambda: False) -> dict[str, Any]:
    """Do the jobs that wait; how many ended how. Raises :class:`StoreDown`, ``redis.RedisError``."""
    done: Counter[str] = Counter()
    worker = str(uuid4())
    while not stopping():
        with transaction(services.engine) as conn:
            job = backtests.take(conn, worker)
        if job is None:
            break
        announce(services)  # should this worker die of it, the tick rings for the next one
        done[_work(services, job, worker, stopping)] += 1
    # Before looking: who asks meanwhile writes it anew.
    services.redis.delete(names.BACKTESTS)
    with transaction(services.engine) as conn:
        if backtests.any_open(conn):
            announce(services)
    return dict(done)


def _work(services: Services, job: Any, worker: str, stopping: Stopping) -> str:
    """One job; how it ended."""
    engine, result, error = services.engine, None, ""
    try:
        with _beating(services, job.id, worker, stopping) as watch:
            found = run(question_of(job), services.settings, engine, services.read_engine, watch)
        status = Backtesting.DONE
        result = msgspec.to_builtins(found, str_keys=True)
    except Stopped:
        with transaction(engine) as conn:
            backtests.hand_back(conn, job.id, worker)
        return "stopped"
    except (StoreDown, NoRuleset) as away:
        if isinstance(away, StoreDown) and _is_outage(away):
            raise  # who is silent is taken over
        status, error = Backtesting.FAILED, str(away)
    except MuttError as refused:
        status, error = Backtesting.FAILED, str(refused)
    except Exception as bug:  # whatever it is, it is this job's: it says so, and the worker goes on
        log.exception("back-test %s", job.id)
        status, error = Backtesting.FAILED, f"{type(bug).__name__}: {bug}"[:500]
    with transaction(engine) as conn:
        backtests.end(conn, job.id, worker, status, result=result, error=error)
    return status.value


def _is_outage(error: StoreDown) -> bool:
    """Is the server away, and not only unwilling to answer this question?"""
    return error.sqlstate[:2] in ("", "08", "53", "57") and error.sqlstate != _CANCELED


@contextlib.contextmanager
def _beating(services: Services, job: UUID, worker: str, stopping: Stopping) -> Iterator[Watch]:
    """A watch whose heart beats beside the run, and which stops it where nobody wants it any more."""
    watch, over = Watch(), threading.Event()

    def beat() -> None:
        silent = 0.0
        while not over.wait(EVERY):
            try:
                with transaction(services.engine) as conn:
                    wanted = backtests.heard(conn, job, worker, watch.progress._asdict())
                silent = 0.0
            except StoreDown as error:
                silent += EVERY
                log.warning("back-test %s: %s", job, error)
                wanted = silent < backtests.SILENCE  # then another may have it
            if not wanted or stopping():
                watch.stop()

    thread = threading.Thread(target=beat, name="backtest", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def question_of(job: Any) -> Question:
    """What a row of ``backtests`` asks."""
    return Question(msgspec.convert(job.draft, Draft), job.since, job.until, job.host, job.baseline)
