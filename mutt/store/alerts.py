"""The alerts: what Moog is to be told, what became of it, and which clear ended which fault."""

from __future__ import annotations

import hashlib
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    DateTime,
    Row,
    Text,
    Uuid,
    and_,
    case,
    cast,
    delete,
    false,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as into

from mutt.alert import RELEASED, Alert, Hold, Outcome, Status
from mutt.event import Event, State
from mutt.store import attempts
from mutt.store.audit import Key, key_table
from mutt.store.copying import Copy
from mutt.store.tables import alerts, recent_clears

#: What an alert is made of; its trace only travels.
FIELDS = tuple(name for name in Alert.__struct_fields__ if name != "trace")
_values = operator.attrgetter(*FIELDS)
_columns = [alerts.c[name] for name in FIELDS]
_row = alerts.c

_ALERTS = Copy(alerts, FIELDS)


def insert(conn: Connection, new: Sequence[Alert]) -> None:
    """Write new alerts, in the transaction of their audit rows. They wait."""
    if new:
        _ALERTS.write(conn, list(zip(*map(_values, new), strict=True)))


def by_events(conn: Connection, keys: Sequence[Key]) -> dict[Key, list[tuple[Alert, Status]]]:
    """The alerts that these events brought: their own, and the clear that a late raise found waiting for it."""
    if not keys:
        return {}
    wanted = key_table(keys)
    own = and_(
        _row.event_id == wanted.c.event_id, _row.received_at == wanted.c.received_at, _row.cause.is_(None)
    )
    found: dict[Key, list[tuple[Alert, Status]]] = defaultdict(list)
    # Two statements: each walks its own index, an OR would walk neither.
    for brought in (own, _row.cause == wanted.c.event_id):
        query = select(wanted.c.event_id, wanted.c.received_at, _row.status, *_columns).join(wanted, brought)
        for event_id, at, status, *values in conn.execute(query):
            found[event_id, at].append((_alert(values), Status(status)))
    return dict(found)


def lock_clear_keys(conn: Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Until the transaction ends, be the only one who raises or clears these (hostname, clear key) pairs."""
    numbers = sorted({_number(hostname, clear_key) for hostname, clear_key in pairs})
    if numbers:
        # In one order everywhere, so that two drains can't wait for each other.
        wanted = (
            func.unnest(cast(numbers, ARRAY(BigInteger)))
            .table_valued("number", name="wanted")
            .render_derived()
        )
        conn.execute(select(func.pg_advisory_xact_lock(wanted.c.number)))


def _number(hostname: str, clear_key: str) -> int:
    told_apart = f"{len(hostname)}:{hostname}{clear_key}".encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(told_apart, digest_size=8).digest(), "big", signed=True)


def newest_open(conn: Connection, hostname: str, clear_key: str, before: datetime) -> Alert | None:
    """The newest raise of this pair, received at ``before`` at the latest, that nothing has cleared."""
    query = (
        select(*_columns)
        .where(*_open(hostname, clear_key), _row.received_at <= before)
        .order_by(_row.received_at.desc(), _row.alert_id.desc())
        .limit(1)
    )
    found = conn.execute(query).first()
    return None if found is None else _alert(found)


def mark_cleared(conn: Connection, alert_id: UUID, by: UUID) -> list[tuple[Alert, Status, str]]:
    """Alert ``by`` ends ``alert_id``, and all older open ones of the same pair: these, the oldest first.

    Each with its status, and the reason of that.
    """
    ended = (
        select(_row.hostname, _row.clear_key, _row.received_at).where(_row.alert_id == alert_id).subquery()
    )
    older = _row.received_at <= ended.c.received_at
    same = _open(ended.c.hostname, ended.c.clear_key)
    marked = update(alerts).where(*same, older).values(cleared_by=by)
    marked = marked.returning(_row.status, _row.reason, *_columns)
    found = [(_alert(values), Status(status), reason) for status, reason, *values in conn.execute(marked)]
    return sorted(found, key=lambda one: (one[0].received_at, one[0].alert_id))


def _open(hostname: Any, clear_key: Any) -> tuple[Any, ...]:
    # Spelled as the index ix_alerts_open spells it.
    pair = _row.hostname == hostname, _row.clear_key == clear_key
    return *pair, _row.clear_key.is_not(None), _row.state == State.RAISE.value, _row.cleared_by.is_(None)


def ended_by(conn: Connection, clears: Sequence[UUID]) -> dict[UUID, list[Alert]]:
    """The raises that wait and that these clears (alert ids) ended, the oldest first: they go to Moog before them."""
    found: dict[UUID, list[Alert]] = defaultdict(list)
    query = (
        select(_row.cleared_by, *_columns)
        .where(
            _row.cleared_by == func.any_(cast(list(clears), ARRAY(Uuid))),
            # Spelled as the index ix_alerts_ended spells it.
            _row.cleared_by.is_not(None),
            _row.status == Status.WAITING.value,
        )
        .order_by(_row.received_at, _row.alert_id)
    )
    for by, *values in conn.execute(query):
        found[by].append(_alert(values))
    return dict(found)


def keep_clear(conn: Connection, event: Event, correlation_id: str) -> None:
    """Keep a clear for a while: an older raise may still be on the way, whether or not this one ended another."""
    values = {
        "event_id": event.event_id,
        "received_at": event.received_at,
        "hostname": event.hostname,
        "clear_key": event.clear_key,
        "correlation_id": correlation_id,
        "event": msgspec.msgpack.encode(event),
    }
    conn.execute(into(recent_clears).values(values).on_conflict_do_nothing())


def clear_after(conn: Connection, hostname: str, clear_key: str, after: datetime) -> tuple[Event, str] | None:
    """The first clear of this pair received at ``after`` or later: the event and its correlation id."""
    kept = recent_clears.c
    query = (
        select(kept.event, kept.correlation_id)
        .where(kept.hostname == hostname, kept.clear_key == clear_key, kept.received_at >= after)
        .order_by(kept.received_at, kept.event_id)
        .limit(1)
    )
    found = conn.execute(query).first()
    return None if found is None else (msgspec.msgpack.decode(found.event, type=Event), found.correlation_id)


def prune_clears(conn: Connection, before: datetime) -> int:
    """Forget clears received before this time. How many went."""
    return conn.execute(delete(recent_clears).where(recent_clears.c.received_at < before)).rowcount


def record(conn: Connection, outcomes: Sequence[Outcome]) -> None:
    """Write what became of alerts, whole rows, so that it does not matter whether the row is there.

    Delivered is final, and so is dropped but for that: a letter of it was given up, and a word that it was parked is
    older. Any end outweighs a late word that the alert waits.
    """
    if not outcomes:
        return
    statement = into(alerts)
    new, old = statement.excluded, _row
    delivered, dropped = Status.DELIVERED.value, Status.DROPPED.value
    stands = or_(old.status == delivered, old.status == dropped)
    counts = or_(new.status == delivered, and_(~stands, _no_relapse(new)))
    statement = statement.on_conflict_do_update(
        index_elements=["alert_id"],
        set_={
            **{
                name: new[name]
                for name in ("status", "attempts", "updated_at", "moog_status", "moog_answer", "reason")
            },
            "delivered_at": func.coalesce(old.delivered_at, new.delivered_at),
        },
        where=counts,
    )
    # In the order in which the sweep locks rows, so that the two can't wait for each other.
    ordered = sorted(
        _last_words(outcomes), key=lambda outcome: (outcome.alert.received_at, outcome.alert.alert_id)
    )
    conn.execute(statement, [_outcome_row(outcome) for outcome in ordered])
    attempts.note(conn, outcomes)


def record_held(conn: Connection, holds: Sequence[Hold]) -> None:
    """Write which alerts were kept from Moog, and why: of those that still wait, and were not released since."""
    reasons = {hold.alert_id: hold for hold in holds}
    waiting = (
        select(_row.alert_id)
        .where(
            _row.alert_id == func.any_(cast(list(reasons), ARRAY(Uuid))),
            _row.status == Status.WAITING.value,
            _row.held != RELEASED,
        )
        .order_by(_row.received_at, _row.alert_id)  # as the sweep locks them
        .with_for_update()
    )
    found = [reasons[alert_id] for (alert_id,) in conn.execute(waiting)]
    if not found:
        return
    told = (
        func.unnest(
            cast([hold.alert_id for hold in found], ARRAY(Uuid)),
            cast([hold.reason for hold in found], ARRAY(Text)),
            cast([hold.at for hold in found], ARRAY(DateTime(timezone=True))),
        )
        .table_valued("alert_id", "reason", "at", name="told")
        .render_derived()
    )
    values = {"status": Status.CANCELLED.value, "reason": told.c.reason, "updated_at": told.c.at}
    conn.execute(update(alerts).where(_row.alert_id == told.c.alert_id).values(values))


def release(
    conn: Connection, reason: str, *, alert_ids: Sequence[UUID] | None = None, limit: int = 500
) -> list[Alert]:
    """Have alerts that were held for ``reason`` wait again, the oldest first, if nothing has cleared them since.

    Of all, or of ``alert_ids``; ``limit`` at a time. Commit, then give them to ``Lanes.release_held``: should that not
    happen, the sweep brings them in. An alert whose note of having been held is not written yet (seconds) is not
    found: ask until none is left, and once more later.
    """
    chosen = (
        select(_row.alert_id)
        .where(
            # Spelled as the index ix_alerts_held spells it.
            _row.status == Status.CANCELLED.value,
            _row.reason == reason,
            _row.cleared_by.is_(None),
        )
        .order_by(_row.received_at, _row.alert_id)
        .limit(limit)
        .with_for_update()
    )
    if alert_ids is not None:
        chosen = chosen.where(_row.alert_id == func.any_(cast(list(alert_ids), ARRAY(Uuid))))
    ids = list(conn.execute(chosen).scalars())
    values = {"status": Status.WAITING.value, "held": RELEASED, "reason": "", "updated_at": func.now()}
    changed = update(alerts).where(_row.alert_id == func.any_(cast(ids, ARRAY(Uuid)))).values(values)
    released = [_alert(found) for found in conn.execute(changed.returning(*_columns))]
    return sorted(released, key=lambda alert: (alert.received_at, alert.alert_id))


def release_one(conn: Connection, reason: str, alert_id: UUID) -> tuple[bool, Alert | None]:
    """Have one alert that was held for ``reason`` wait again: is its row so far, and what is to be placed, if it is.

    Of one that was released and not placed, or that nobody needs any more, the row is so far, too.
    """
    found = release(conn, reason, alert_ids=[alert_id])
    if found:
        return True, found[0]
    row = conn.execute(select(_row.status, *_columns).where(_row.alert_id == alert_id)).first()
    if row is None:
        return True, None
    status, *values = row
    alert = _alert(values)
    if status != Status.WAITING.value:
        return True, None
    return (True, alert) if alert.held == RELEASED else (False, None)


def _no_relapse(new: Any) -> Any:
    waits = Status.WAITING.value
    return or_(new.status != waits, and_(_row.status == waits, new.attempts >= _row.attempts))


def _last_words(outcomes: Iterable[Outcome]) -> Iterable[Outcome]:
    """One outcome an alert: delivered before dropped before all others, then more attempts, then the later."""
    last: dict[UUID, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda one: (_weight(one.status), one.attempts, one.at)):
        last[outcome.alert.alert_id] = outcome
    return last.values()


def _weight(status: Status) -> int:
    return {Status.DELIVERED: 2, Status.DROPPED: 1}.get(status, 0)


def _outcome_row(outcome: Outcome) -> dict[str, Any]:
    return {
        **{name: getattr(outcome.alert, name) for name in FIELDS},
        "status": outcome.status.value,
        "attempts": outcome.attempts,
        "updated_at": outcome.at,
        "delivered_at": outcome.at if outcome.status is Status.DELIVERED else None,
        "moog_status": outcome.moog_status,
        # Another system's bytes: what PostgreSQL can't hold is no reason to lose the outcome.
        "moog_answer": outcome.moog_answer.replace("\0", "\ufffd").encode(errors="replace").decode(),
        "reason": outcome.reason,
    }


def lock_waiting(
    conn: Connection,
    lanes: Mapping[str, datetime | None],
    limit: int,
    after: tuple[datetime, UUID] | None = None,
) -> list[Alert]:
    """Alerts of these lanes that wait, the oldest first, locked until the transaction ends.

    A lane's time: only those that have not changed since it; None: all. ``after`` (received_at, alert_id) goes on
    behind an earlier answer's last.
    """
    # Plain FOR UPDATE: where `record` is writing an outcome at this moment, we wait and see what it committed.
    # Skipping the row would call the lane emptied while a rolled back outcome leaves it waiting; reading without a
    # lock would append an alert again that has just been delivered and forgotten in Redis.
    asked = [
        and_(_row.lane == lane, *([] if before is None else [_row.updated_at < before]))
        for lane, before in lanes.items()
    ]
    query = (
        select(*_columns)
        .where(_row.status == Status.WAITING.value, or_(false(), *asked))
        .order_by(_row.received_at, _row.alert_id)
        .limit(limit)
        .with_for_update()
    )
    if after is not None:
        query = query.where(tuple_(_row.received_at, _row.alert_id) > after)
    return [_alert(found) for found in conn.execute(query)]


def by_ids(conn: Connection, alert_ids: Sequence[UUID]) -> dict[UUID, Alert]:
    """These alerts, those that have a row."""
    query = select(*_columns).where(_row.alert_id.in_(alert_ids))
    return {alert.alert_id: alert for alert in map(_alert, conn.execute(query))}


def counts(conn: Connection) -> dict[Status, int]:
    """How many alerts stand at each status; all statuses are named."""
    query = select(_row.status, func.count()).group_by(_row.status)
    return dict.fromkeys(Status, 0) | {Status(status): n for status, n in conn.execute(query)}


def set_status(conn: Connection, alert_ids: Sequence[UUID], status: Status, reason: str) -> int:
    """Replay, cancel or drop alerts by hand; what is delivered stays so. How many changed."""
    # Replayed, an alert begins anew: outcomes count from its first attempt again.
    attempts = (
        case((_row.status == status.value, _row.attempts), else_=0)
        if status is Status.WAITING
        else _row.attempts
    )
    changed = conn.execute(
        update(alerts)
        .where(_row.alert_id.in_(alert_ids), _row.status != Status.DELIVERED.value)
        .values(status=status.value, attempts=attempts, reason=reason, updated_at=func.now())
    )
    return changed.rowcount


def _alert(values: Row[Any] | Sequence[Any]) -> Alert:
    known = dict(zip(FIELDS, values, strict=True))
    known["state"] = State(known["state"])
    return Alert(**known)
