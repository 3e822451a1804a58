"""The attempts at Moog: one row for each request that an alert was in, also those that failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Row, Uuid, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from mutt.alert import Outcome
from mutt.store.tables import alert_attempts

#: Characters of Moog's answer that are kept.
ANSWER_MAX = 500

_at = alert_attempts.c


def note(conn: Connection, outcomes: Sequence[Outcome]) -> None:
    """Write the attempts that these outcomes tell of, each once however often it is told.

    A replayed alert counts its requests from one again: they go on behind those that stand. Call it with the alerts'
    rows locked: two writers of one alert would choose the same number.
    """
    told = sorted((one for one in outcomes if one.kind), key=lambda one: (one.alert.alert_id, one.at))
    if not told:
        return
    times: dict[UUID, set[datetime]] = defaultdict(set)
    last: dict[UUID, int] = defaultdict(int)
    for alert_id, attempt, at in conn.execute(_standing({one.alert.alert_id for one in told})):
        times[alert_id].add(at)
        last[alert_id] = max(last[alert_id], attempt)
    rows = []
    for one in told:
        alert_id = one.alert.alert_id
        if one.at not in times[alert_id]:
            times[alert_id].add(one.at)
            last[alert_id] = max(last[alert_id] + 1, one.attempts)
            rows.append(_row_of(one, last[alert_id]))
    if rows:
        conn.execute(insert(alert_attempts).on_conflict_do_nothing(), rows)


def of(conn: Connection, alert_ids: Sequence[UUID], limit: int = 500) -> dict[UUID, list[Row[Any]]]:
    """The attempts of these alerts, the first first; at most the last ``limit`` of them together."""
    query = select(alert_attempts).where(_at.alert_id == func.any_(cast(list(alert_ids), ARRAY(Uuid))))
    found: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in reversed(conn.execute(query.order_by(_at.at.desc(), _at.attempt.desc()).limit(limit)).all()):
        found[row.alert_id].append(row)
    return dict(found)


def prune(conn: Connection, before: datetime) -> int:
    """Forget attempts made before this time. How many went."""
    return conn.execute(delete(alert_attempts).where(_at.at < before)).rowcount


def _standing(alert_ids: set[UUID]) -> Any:
    wanted = func.any_(cast(sorted(alert_ids), ARRAY(Uuid)))
    return select(_at.alert_id, _at.attempt, _at.at).where(_at.alert_id == wanted)


def _row_of(outcome: Outcome, attempt: int) -> dict[str, Any]:
    # Another system's bytes: what PostgreSQL can't hold is no reason to lose the rest.
    answer = outcome.moog_answer[:ANSWER_MAX].replace("\0", "\ufffd").encode(errors="replace").decode()
    return {
        "alert_id": outcome.alert.alert_id,
        "attempt": attempt,
        "at": outcome.at,
        "kind": outcome.kind,
        "reason": outcome.reason,
        "moog_status": outcome.moog_status,
        "answer": answer,
    }
