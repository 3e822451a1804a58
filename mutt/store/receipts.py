"""Receipts of maintenance: what each occurrence of a window held, what still burned at its end, and its release.

A receipt is opened when its occurrence is first seen to be on, so that it ends whatever becomes of the window: also of
one that is changed, switched off or deleted in the middle. All steps may be repeated, and broken off anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Connection,
    DateTime,
    Engine,
    Integer,
    Row,
    Uuid,
    and_,
    cast,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as into

from mutt.alert import Alert, Status
from mutt.event import State
from mutt.rules.hosts import HostPatterns
from mutt.rules.windows import HELD, Occurrence, Window, Windows
from mutt.store import alerts, windows
from mutt.store.engine import transaction
from mutt.store.tables import alerts as alert_rows
from mutt.store.tables import maintenance_burning, maintenance_receipts, maintenance_windows, rule_revisions

#: So long after its end a receipt is still looked at: events that were late are held and released too.
LATE = timedelta(days=7)

#: So long after its end it is counted at each look: that an alert is held is written seconds after.
SETTLING = timedelta(minutes=2)

#: Hosts and rules that a receipt names.
NAMED = 10

#: Alerts that are released in one transaction.
BATCH = 500

_receipt, _alert, _burning = maintenance_receipts.c, alert_rows.c, maintenance_burning.c
_revision = rule_revisions.c

Place = Callable[[Sequence[Alert]], int]


def work(engine: Engine, place: Place, now: datetime) -> dict[str, int]:
    """Open, end and count receipts, and release what still burns, to be placed by ``place``. How many of each."""
    with transaction(engine) as conn:
        standing = windows.windows(conn)
        opened = _open(conn, standing, now)
        ended = _end(conn, standing, now)
        strays = _open_for_strays(conn, now)
        due = _due(conn, now)
    for receipt_id in due:
        with transaction(engine) as conn:
            _count(conn, receipt_id)
    did = {"opened": opened, "ended": ended, "strays": strays, "counted": len(due), "released": 0}
    still = _Still(standing, now)
    with transaction(engine) as conn:
        waiting = _with_something_to_release(conn)
    for receipt_id in waiting:
        did["released"] += _release(engine, receipt_id, still, place)
    return {name: n for name, n in did.items() if n}


def _open(conn: Connection, standing: Iterable[Window], now: datetime) -> int:
    """Receipts of all occurrences that are on, or were under the definition that stands."""
    table = maintenance_windows.c
    changed_at = {row.id: row.updated_at for row in conn.execute(select(table.id, table.updated_at))}
    rows = [
        {
            "window_id": window.id,
            "starts_at": one.start,
            "ends_at": one.end,
            "name": window.name,
            "owner": window.owner,
            "release": window.release,
        }
        for window in standing
        if window.id in changed_at
        for one in _recent(window, max(now - LATE, changed_at[window.id]), now)
    ]
    rows = _news(conn, rows)
    if not rows:
        return 0
    statement = into(maintenance_receipts).values(rows)
    new = statement.excluded
    changes = {name: new[name] for name in ("ends_at", "name", "owner", "release")}
    statement = statement.on_conflict_do_update(
        index_elements=["window_id", "starts_at"],
        set_=changes,
        where=and_(
            _receipt.ended_at.is_(None),
            or_(*(_receipt[name].is_distinct_from(value) for name, value in changes.items())),
        ),
    )
    # xmax is 0 in a row that is new.
    made = conn.execute(statement.returning(literal_column("xmax::text = '0'", Boolean)))
    return sum(made.scalars())


def _news(conn: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that no receipt says. To insert the others in vain, again and again, would use up the receipts' ids."""
    if not rows:
        return []
    query = select(maintenance_receipts).where(_receipt.starts_at >= min(row["starts_at"] for row in rows))
    stand = {(one.window_id, one.starts_at): one._mapping for one in conn.execute(query)}

    def is_news(row: Mapping[str, Any]) -> bool:
        found = stand.get((row["window_id"], row["starts_at"]))
        return found is None or (found["ended_at"] is None and any(found[name] != row[name] for name in row))

    return [row for row in rows if is_news(row)]


def _recent(window: Window, since: datetime, now: datetime) -> list[Occurrence]:
    return window.occurrences(since, now) if window.is_active and since < now else []


def _end(conn: Connection, standing: Iterable[Window], now: datetime) -> int:
    """End the receipts whose occurrence is over, or is not there any more."""
    by_id = {window.id: window for window in standing}
    open_ones = conn.execute(
        select(_receipt.id, _receipt.window_id, _receipt.starts_at, _receipt.ends_at)
        .where(_receipt.ended_at.is_(None))
        .with_for_update()
    ).all()
    ended = 0
    for row in open_ones:
        window = by_id.get(row.window_id)
        one = _that_began(window, row.starts_at) if window else None
        end = one.end if one else min(row.ends_at, now)
        if end > now:
            continue
        ended += 1
        values = {"ends_at": end, "ended_at": now}
        conn.execute(update(maintenance_receipts).where(_receipt.id == row.id).values(values))
    return ended


def _that_began(window: Window, start: datetime) -> Occurrence | None:
    if not window.is_active:
        return None
    found = window.occurrences(start, start + timedelta(microseconds=1))
    return next((one for one in found if one.start == start), None)


def _open_for_strays(conn: Connection, now: datetime) -> int:
    """Receipts, ended, of what was held and is on none: one a window.

    A worker follows a change within seconds: it held what came after the end. And a window that came and went between
    two looks was never seen to be on.
    """
    data, since, until = _revision.data, func.min(_alert.received_at), func.max(_alert.received_at)
    last = (
        select(cast(_revision.record_id, Integer).label("window_id"), data)
        .ext(distinct_on(_revision.record_id))
        .where(_revision.table_name == maintenance_windows.name)
        .order_by(_revision.record_id, _revision.since_version.desc(), _revision.id.desc())
        .subquery()
    )
    known = exists().where(
        _receipt.window_id == last.c.window_id,
        _receipt.starts_at <= _alert.received_at,
        _receipt.ends_at > _alert.received_at,
    )
    told = last.c.data
    strays = (
        select(
            last.c.window_id,
            since,
            until + timedelta(microseconds=1),
            cast(now, DateTime(timezone=True)),
            told["name"].astext,
            told["owner"].astext,
            cast(told["release"].astext, Boolean),
        )
        .where(
            _alert.status == Status.CANCELLED.value,
            _alert.reason == func.concat(HELD, last.c.window_id),
            _alert.state == State.RAISE.value,
            _alert.cleared_by.is_(None),
            _alert.received_at > now - LATE,
            _alert.received_at < now - SETTLING,
            ~known,
        )
        .group_by(last.c.window_id, told)
    )
    names = ["window_id", "starts_at", "ends_at", "ended_at", "name", "owner", "release"]
    statement = into(maintenance_receipts).from_select(names, strays)
    ends = {name: statement.excluded[name] for name in ("ends_at", "ended_at")}
    statement = statement.on_conflict_do_update(index_elements=["window_id", "starts_at"], set_=ends)
    return conn.execute(statement).rowcount


def _due(conn: Connection, now: datetime) -> list[int]:
    """Receipts that are to be counted: those that ended just now, and those for which something came late."""
    late = exists().where(*_held_by_it(), ~_stands_there())
    query = (
        select(_receipt.id)
        .where(
            _receipt.ended_at.is_not(None),
            _receipt.ends_at > now - LATE,
            or_(_receipt.counted_at.is_(None), _receipt.ended_at > now - SETTLING, late),
        )
        .order_by(_receipt.id)
    )
    return list(conn.execute(query).scalars())


def _held_by_it(*, burning: bool = True) -> tuple[Any, ...]:
    """Alerts that the receipt's occurrence holds; with ``burning`` those that nothing has cleared."""
    held = (
        # Spelled as the index ix_alerts_held spells it.
        _alert.status == Status.CANCELLED.value,
        _alert.reason == func.concat(HELD, _receipt.window_id),
        _alert.received_at >= _receipt.starts_at,
        _alert.received_at < _receipt.ends_at,
        _alert.state == State.RAISE.value,
    )
    return (*held, _alert.cleared_by.is_(None)) if burning else held


def _stands_there() -> Any:
    return exists().where(_burning.alert_id == _alert.alert_id)


def _count(conn: Connection, receipt_id: int) -> None:
    """Note what burns now, and count what was held."""
    this = _receipt.id == receipt_id
    conn.execute(select(_receipt.id).where(this).with_for_update())
    found = select(_alert.alert_id, _receipt.id).select_from(alert_rows, maintenance_receipts)
    found = found.where(this, *_held_by_it(), ~_stands_there())
    conn.execute(
        into(maintenance_burning).from_select(["alert_id", "receipt_id"], found).on_conflict_do_nothing()
    )
    held = select(_alert.hostname, _alert.type, _alert.rule_id).where(this, *_held_by_it(burning=False))
    released = select(_alert.hostname, _alert.type, _alert.rule_id).where(
        _burning.receipt_id == receipt_id, _burning.released, _alert.alert_id == _burning.alert_id
    )
    both = held.union_all(released).subquery()
    total = conn.execute(select(func.count()).select_from(both)).scalar_one()
    burning = conn.execute(
        select(func.count()).select_from(maintenance_burning).where(_burning.receipt_id == receipt_id)
    ).scalar_one()
    values = {
        "held": total,
        "burning": burning,
        "cleared": total - burning,
        "hosts": _most(conn, both, both.c.hostname),
        "rules": _most(conn, both, both.c.type),
        "counted_at": func.now(),
    }
    conn.execute(update(maintenance_receipts).where(this).values(values))


def _most(conn: Connection, held: Any, by: Any) -> list[list[Any]]:
    query = select(by, func.count()).select_from(held).group_by(by)
    query = query.order_by(func.count().desc(), by).limit(NAMED)
    return [[name, n] for name, n in conn.execute(query)]


class _Still:
    """What is in maintenance now: it is not released, though another window's time is over."""

    def __init__(self, standing: Iterable[Window], now: datetime) -> None:
        self._windows, self._now = Windows(standing), now
        self._hosts = HostPatterns(window.hostname for window in self._windows if window.hostname)

    def holds(self, hostname: str, team: str, rule_id: int | None) -> bool:
        scopes = self._hosts.matching(hostname)
        return self._windows.holding(self._now, scopes, team, rule_id) is not None


def _with_something_to_release(conn: Connection) -> list[int]:
    query = (
        select(_receipt.id)
        .where(
            _receipt.release,
            exists().where(_burning.receipt_id == _receipt.id, _burning.done_at.is_(None)),
        )
        .order_by(_receipt.id)
    )
    return list(conn.execute(query).scalars())


def _release(engine: Engine, receipt_id: int, still: _Still, place: Place) -> int:
    """Have what burns wait again, a batch at a time. What a dying worker does not place, the sweep brings in."""
    released, after = 0, UUID(int=0)
    while True:
        with transaction(engine) as conn:
            found, free = _next_to_release(conn, receipt_id, still, after)
            alerts_ = _released(conn, receipt_id, free) if free else []
        if alerts_:
            place(alerts_)
        released += len(alerts_)
        if len(found) < BATCH:
            return released
        after = found[-1].alert_id


def _next_to_release(
    conn: Connection, receipt_id: int, still: _Still, after: UUID
) -> tuple[list[Any], list[UUID]]:
    conn.execute(select(_receipt.id).where(_receipt.id == receipt_id).with_for_update())
    query = (
        select(_burning.alert_id, _alert.hostname, _alert.team, _alert.rule_id)
        .join(alert_rows, _alert.alert_id == _burning.alert_id)
        .where(_burning.receipt_id == receipt_id, _burning.done_at.is_(None), _burning.alert_id > after)
        .order_by(_burning.alert_id)
        .limit(BATCH)
    )
    found = list(conn.execute(query))
    free = [row.alert_id for row in found if not still.holds(row.hostname, row.team, row.rule_id)]
    return found, free


def _released(conn: Connection, receipt_id: int, alert_ids: Sequence[UUID]) -> list[Alert]:
    window_id = conn.execute(select(_receipt.window_id).where(_receipt.id == receipt_id)).scalar_one()
    released = alerts.release(conn, f"{HELD}{window_id}", alert_ids=alert_ids, limit=len(alert_ids))
    ids = [alert.alert_id for alert in released]
    # What is not released was cleared since, or dealt with by hand.
    changed = update(maintenance_burning).where(_burning.alert_id == func.any_(_uuids(alert_ids)))
    conn.execute(changed.values(done_at=func.now(), released=_burning.alert_id == func.any_(_uuids(ids))))
    conn.execute(
        update(maintenance_receipts)
        .where(_receipt.id == receipt_id)
        .values(released=_receipt.released + len(ids))
    )
    return released


def _uuids(ids: Sequence[UUID]) -> Any:
    return cast(list(ids), ARRAY(Uuid))


# ---- for people


def receipts(conn: Connection, *, window_id: int | None = None, limit: int = 100) -> Sequence[Row[Any]]:
    """Receipts, the newest first, also of occurrences that are on."""
    query = select(maintenance_receipts).order_by(_receipt.starts_at.desc(), _receipt.id.desc()).limit(limit)
    if window_id is not None:
        query = query.where(_receipt.window_id == window_id)
    return conn.execute(query).all()


def receipt(conn: Connection, receipt_id: int) -> Row[Any]:
    """One receipt. Raises ``LookupError``."""
    found = conn.execute(select(maintenance_receipts).where(_receipt.id == receipt_id)).first()
    if found is None:
        raise LookupError(f"there is no receipt {receipt_id}: what ended long ago is forgotten")
    return found


def burning(conn: Connection, receipt_id: int, limit: int = 200) -> list[Any]:
    """Alerts that still burned at the end, and what became of them; the oldest first."""
    columns = (_alert.hostname, _alert.type, _alert.description, _alert.received_at, _alert.status)
    query = (
        select(_burning.alert_id, _burning.done_at, _burning.released, *columns, _alert.cleared_by)
        .join(alert_rows, _alert.alert_id == _burning.alert_id)
        .where(_burning.receipt_id == receipt_id)
        .order_by(_alert.received_at, _burning.alert_id)
        .limit(limit)
    )
    return list(conn.execute(query))


def held_so_far(conn: Connection, on: Mapping[int, Occurrence]) -> dict[int, int]:
    """By window id: how many alerts the occurrences that are on have held."""
    found: dict[int, int] = {}
    for window_id, one in on.items():
        query = select(func.count()).where(
            _alert.status == Status.CANCELLED.value,
            _alert.reason == f"{HELD}{window_id}",
            _alert.received_at >= one.start,
            _alert.received_at < one.end,
        )
        found[window_id] = conn.execute(query).scalar_one()
    return found


def expire(conn: Connection, before: datetime) -> int:
    """Forget receipts of occurrences that ended before this time. How many went."""
    gone = conn.execute(
        delete(maintenance_receipts).where(_receipt.ends_at < before).returning(_receipt.id)
    ).scalars()
    ids = list(gone)
    if ids:
        conn.execute(delete(maintenance_burning).where(_burning.receipt_id.in_(ids)))
    return len(ids)
