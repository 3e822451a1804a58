"""Back-tests as jobs: done by one worker, cancelled at once, and never left hanging."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from mutt import names
from mutt.backtest import jobs
from mutt.backtest.draft import Draft
from mutt.backtest.run import Question
from mutt.errors import Refused
from mutt.store import backtests, past
from tests.bench import Bench, event
from tests.waiting import wait_until

#: A read in which PostgreSQL searches for a minute, and sends nothing.
SLOW = "COPY (SELECT pg_sleep(60) WHERE %s < %s) TO STDOUT (NULL '')"


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, database_url)
    yield made
    made.close()


def asked(bench: Bench, draft: Draft | None = None, **more: Any) -> UUID:
    now = datetime.now(UTC)
    question = Question(
        draft or Draft.of_rule({"match_string": "disk"}),
        now - timedelta(days=1),
        now + timedelta(hours=1),
        **more,
    )
    with bench.sql() as conn:
        job = jobs.ask(conn, "ann", question)
    jobs.announce(bench.services)
    return job


def job_of(bench: Bench, job: UUID) -> Any:
    with bench.sql() as conn:
        return backtests.get(conn, job)


def working(bench: Bench) -> threading.Thread:
    thread = threading.Thread(target=jobs.work, args=(bench.services,), daemon=True)
    thread.start()
    return thread


def test_a_job_is_done_and_says_what_came_of_it(bench: Bench) -> None:
    """The result stands in its row, and nobody is rung for it any more."""
    bench.append(event("disk failed"), event("all is well"))
    bench.run()
    job = asked(bench)
    assert bench.redis.exists(names.BACKTESTS)
    assert jobs.work(bench.services) == {"done": 1}
    row = job_of(bench, job)
    assert (row.status, row.who, row.name, row.error) == ("done", "ann", "disk", "")
    assert (row.result["events"], row.result["matched"]) == (2, 1)
    assert row.created_at <= row.started_at <= row.ended_at
    assert not bench.redis.exists(names.BACKTESTS)
    assert jobs.work(bench.services) == {}


def test_a_cancel_acts_at_the_next_word_of_the_worker_also_while_nothing_is_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which comes each second: within two."""
    assert jobs.EVERY <= 1.0
    monkeypatch.setattr(jobs, "EVERY", 0.1)
    monkeypatch.setattr(past, "_ROWS", SLOW)
    job = asked(bench)
    worker = working(bench)
    wait_until(lambda: _searches(bench), 10, "the search to begin")
    with bench.sql() as conn:
        assert backtests.cancel(conn, job)
    wait_until(lambda: job_of(bench, job).status == "cancelled", 10, "the end")
    worker.join(10)
    assert not worker.is_alive()
    wait_until(lambda: not _searches(bench), 5, "PostgreSQL to stop")


def test_a_job_that_waits_is_cancelled_at_once(bench: Bench) -> None:
    job = asked(bench)
    with bench.sql() as conn:
        assert backtests.cancel(conn, job)
        assert not backtests.cancel(conn, uuid4())
    assert job_of(bench, job).status == "cancelled"
    assert jobs.work(bench.services) == {}


def test_a_heart_beats_and_progress_is_told_while_it_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "_ROWS", SLOW)
    job = asked(bench)
    worker = working(bench)
    first = wait_until(lambda: job_of(bench, job).progress and job_of(bench, job), 10, "a word")
    assert (first.status, first.progress["events"], first.attempts) == ("running", 0, 1)
    wait_until(lambda: job_of(bench, job).heartbeat > first.heartbeat, 10, "another")
    with bench.sql() as conn:
        backtests.cancel(conn, job)
    worker.join(10)
    assert not worker.is_alive()


def test_a_worker_that_is_asked_to_end_hands_its_job_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits again, has lost no attempt, and the next worker is rung for."""
    stopping = threading.Event()
    with monkeypatch.context() as slowly:
        slowly.setattr(past, "_ROWS", SLOW)
        job = asked(bench)
        worker = threading.Thread(target=jobs.work, args=(bench.services, stopping.is_set), daemon=True)
        worker.start()
        wait_until(lambda: _searches(bench), 10, "the search to begin")
        stopping.set()
        worker.join(10)
    row = job_of(bench, job)
    assert (row.status, row.attempts) == ("queued", 0)
    assert bench.redis.exists(names.BACKTESTS)
    assert jobs.work(bench.services) == {"done": 1}


KILLED = """
import sys
from mutt.backtest import jobs
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import past
past._ROWS, jobs.EVERY = sys.argv[1], 0.2
jobs.work(Services(Settings.from_env(), lambda *_a, **_k: None, role="doomed"))
"""


def test_the_job_of_a_killed_worker_is_taken_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been silent for long enough, and not before; its own late word counts for nothing."""
    monkeypatch.setattr(backtests, "SILENCE", 2.0)
    job = asked(bench)
    environ = {
        **os.environ,
        "REDIS_URL": bench.settings.redis_url,
        "DATABASE_URL": bench.settings.database_url,
    }
    with subprocess.Popen([sys.executable, "-c", KILLED, SLOW], env=environ) as doomed:
        held = wait_until(lambda: job_of(bench, job).progress and job_of(bench, job), 30, "it to be at work")
        assert jobs.work(bench.services) == {}  # it lives
        doomed.send_signal(signal.SIGKILL)
    assert bench.redis.exists(names.BACKTESTS)  # the tick goes on ringing
    wait_until(lambda: jobs.work(bench.services) == {"done": 1}, 15, "another to take it over", every=0.2)
    with bench.sql() as conn:
        assert not backtests.heard(conn, job, held.worker, {})
        assert not backtests.end(conn, job, held.worker, backtests.Backtesting.FAILED)
    assert (job_of(bench, job).status, job_of(bench, job).attempts) == ("done", 2)


def test_a_job_that_kills_its_workers_fails(bench: Bench) -> None:
    """It is not tried for ever."""
    job = asked(bench)
    for _ in range(backtests.ATTEMPTS):
        with bench.sql() as conn:
            assert backtests.take(conn, str(uuid4()))
            conn.execute(text("UPDATE backtests SET heartbeat = now() - interval '1 minute'"))
    assert jobs.work(bench.services) == {}
    row = job_of(bench, job)
    assert row.status == "failed" and row.error and row.ended_at


def test_what_can_not_be_done_fails_with_the_reason_and_the_next_is_done(bench: Bench) -> None:
    """The rule that the draft stands for was deleted meanwhile."""
    gone, other = asked(bench, Draft.of_rule({"match_string": "disk"}, 4711)), asked(bench)
    assert jobs.work(bench.services) == {"failed": 1, "done": 1}
    assert job_of(bench, gone).status == "failed" and "4711" in job_of(bench, gone).error
    assert job_of(bench, other).status == "done"


def test_two_workers_never_have_the_same_job(bench: Bench) -> None:
    first, second = asked(bench), asked(bench)
    with bench.sql() as one, bench.sql() as two:
        assert [backtests.take(one, "a").id, backtests.take(two, "b").id] == [first, second]
        assert backtests.take(one, "a") is None


def test_only_so_many_wait(bench: Bench) -> None:
    for _ in range(backtests.OPEN_MOST):
        asked(bench)
    with pytest.raises(Refused):
        asked(bench)


def test_old_ones_are_forgotten_and_open_ones_are_not(bench: Bench) -> None:
    old, waits, new = asked(bench), asked(bench), asked(bench)
    with bench.sql() as conn:
        conn.execute(
            text("UPDATE backtests SET created_at = '2020-01-01' WHERE id IN (:old, :waits)"),
            {"old": old, "waits": waits},
        )
        conn.execute(
            text("UPDATE backtests SET status = 'done' WHERE id IN (:old, :new)"), {"old": old, "new": new}
        )
        assert backtests.prune(conn, datetime.now(UTC)) == 1
        assert [row.id for row in backtests.newest(conn)] == [new, waits]


def _searches(bench: Bench) -> bool:
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE query LIKE 'COPY (SELECT pg_sleep%' AND state = 'active' AND datname = current_database()
    """
    with bench.sql() as conn:
        return bool(conn.execute(text(query)).scalar_one())
