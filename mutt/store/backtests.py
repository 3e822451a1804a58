"""Back-tests as jobs: asked for by somebody, done by one worker at a time, taken over where that one is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, and_, case, delete, func, insert, or_, select, text, update

from mutt.errors import Refused
from mutt.store.tables import Backtesting, backtests

#: Seconds without a word after which whoever had a job is taken for dead.
SILENCE = 15.0

#: A job that so many workers died of is not tried again.
ATTEMPTS = 3

#: Jobs that wait, or run; whoever wants more has to cancel one.
OPEN_MOST = 20

#: How long those that ended are kept, and how many at most.
KEPT, KEPT_MOST = timedelta(days=30), 200

_OPEN = (Backtesting.QUEUED, Backtesting.RUNNING)
_at = backtests.c


def create(
    conn: Connection,
    *,
    who: str,
    name: str,
    draft: Mapping[str, Any],
    since: datetime,
    until: datetime,
    host: str,
    baseline: str,
) -> UUID:
    """Ask for one; its id. Raises :class:`Refused` where too many wait."""
    waiting = conn.execute(select(func.count()).where(_at.status.in_(_OPEN))).scalar_one()
    if waiting >= OPEN_MOST:
        raise Refused("", f"{waiting} back-tests wait already: cancel one, or wait for one to end")
    job = uuid4()
    conn.execute(
        insert(backtests).values(
            id=job, who=who, name=name, draft=draft, since=since, until=until, host=host, baseline=baseline
        )
    )
    return job


def take(conn: Connection, worker: str) -> Row[Any] | None:
    """The job that has waited longest, for ``worker`` (a name that nobody else has); None: nothing is to be done.

    One whose worker was silent for :data:`SILENCE` seconds waits, too; one that was tried often enough has failed.
    """
    silent = and_(_at.status == Backtesting.RUNNING, _at.heartbeat < _ago(SILENCE))
    conn.execute(
        update(backtests)
        .where(silent, _at.attempts >= ATTEMPTS)
        .values(
            status=Backtesting.FAILED,
            ended_at=func.now(),
            error=f"{ATTEMPTS} workers ended while they were at it; ask for a shorter time",
        )
    )
    wanted = (
        select(_at.id)
        .where(or_(_at.status == Backtesting.QUEUED, silent))
        .order_by(_at.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = (
        update(backtests)
        .where(_at.id == wanted)
        .values(
            status=Backtesting.RUNNING,
            worker=worker,
            attempts=_at.attempts + 1,
            heartbeat=func.now(),
            started_at=func.coalesce(_at.started_at, func.now()),
            progress=None,
        )
    )
    return conn.execute(taken.returning(backtests)).first()


def heard(conn: Connection, job: UUID, worker: str, progress: Mapping[str, Any]) -> bool:
    """Say that ``worker`` lives, and how far it is. Is it to go on? Not where it was cancelled, or others have it."""
    said = (
        update(backtests)
        .where(_at.id == job, _at.worker == worker, _at.status == Backtesting.RUNNING)
        .values(heartbeat=func.now(), progress=progress)
    )
    cancel = conn.execute(said.returning(_at.cancel)).scalar_one_or_none()
    return cancel is False


def end(
    conn: Connection,
    job: UUID,
    worker: str,
    status: Backtesting,
    *,
    result: Mapping[str, Any] | None = None,
    error: str = "",
) -> bool:
    """Note how it ended. Was it this worker's?"""
    values = {"status": status, "ended_at": func.now(), "result": result, "error": error}
    mine = and_(_at.id == job, _at.worker == worker, _at.status == Backtesting.RUNNING)
    return conn.execute(update(backtests).where(mine).values(values)).rowcount == 1


def hand_back(conn: Connection, job: UUID, worker: str) -> None:
    """The worker ends, or can't read now: the next one begins anew, and nobody pays. What was cancelled is ended."""
    mine = and_(_at.id == job, _at.worker == worker, _at.status == Backtesting.RUNNING)
    conn.execute(
        update(backtests)
        .where(mine)
        .values(
            status=case((_at.cancel, Backtesting.CANCELLED.value), else_=Backtesting.QUEUED.value),
            ended_at=case((_at.cancel, func.now())),
            worker="",
            attempts=_at.attempts - 1,
        )
    )


def cancel(conn: Connection, job: UUID) -> bool:
    """Ask for its end: at once where nobody is at it. Was it open?"""
    open_ = and_(_at.id == job, _at.status.in_(_OPEN))
    idle = or_(_at.status == Backtesting.QUEUED, _at.heartbeat < _ago(SILENCE))
    asked = conn.execute(
        update(backtests)
        .where(open_)
        .values(
            cancel=True,
            status=case((idle, Backtesting.CANCELLED.value), else_=_at.status),
            ended_at=case((idle, func.now())),
        )
    )
    return asked.rowcount == 1


def get(conn: Connection, job: UUID) -> Row[Any] | None:
    return conn.execute(select(backtests).where(_at.id == job)).first()


def newest(conn: Connection, limit: int = 100) -> Sequence[Row[Any]]:
    """Jobs without drafts and results, the newest first."""
    columns = [column for column in _at if column.name not in ("draft", "result")]
    return conn.execute(select(*columns).order_by(_at.created_at.desc()).limit(limit)).all()


def any_open(conn: Connection) -> bool:
    """Does one wait, or run?"""
    return conn.execute(select(_at.id).where(_at.status.in_(_OPEN)).limit(1)).first() is not None


def prune(conn: Connection, now: datetime) -> int:
    """Forget those that ended long ago, and those beyond the newest. How many went."""
    kept = select(_at.id).order_by(_at.created_at.desc()).limit(KEPT_MOST)
    old = or_(_at.created_at < now - KEPT, _at.id.not_in(kept))
    return conn.execute(delete(backtests).where(old, _at.status.not_in(_OPEN))).rowcount


def _ago(seconds: float) -> Any:
    return func.now() - text(f"interval '{seconds:g} seconds'")
