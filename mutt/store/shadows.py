"""Shadows in PostgreSQL: drafts that run beside the rules in force, what they said, and how they end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Unpack
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql

from mutt.errors import NoRuleset, Overtaken, Refused, RuleError
from mutt.rules.book import Book, planned
from mutt.rules.change import RULES, Change, fields_of
from mutt.rules.check import NAME_MAX, check_rule
from mutt.rules.rule import Verdict
from mutt.rules.shadow import Difference, Kind, Status, called, overtaken
from mutt.store import changes, history, plans, rulebook
from mutt.store.history import Said
from mutt.store.plans import Plan
from mutt.store.tables import (
    event_audit_log,
    shadow_counts,
    shadow_differences,
    shadows,
)

#: Days that a shadow may run.
DAYS, DAYS_MAX = 7, 14

#: So many differences of a kind are kept of a shadow; a few more where workers write at the same time.
SAMPLES = 200

#: Of a verdict, what is kept with a difference. Not the template: that is the sender's text, which the audit has.
_KEPT = ("rule_id", "handling", "team", "moog_severity", "held", "why")

_at = shadows.c


class Edit(NamedTuple):
    """What is wanted of one rule: ``rule_id`` None makes one, ``data`` None deletes it."""

    rule_id: int | None
    data: Mapping[str, Any] | None


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """A draft that runs, or ran."""

    id: int
    name: str
    who: str
    reason: str
    created_at: datetime
    base_version: int
    draft: list[Change]
    status: Status
    until: datetime
    ended_at: datetime | None
    error: str
    promoted_version: int | None

    @property
    def runs(self) -> bool:
        return self.status is Status.RUNNING

    @property
    def is_open(self) -> bool:
        """May it still be promoted or dropped?"""
        return self.status in (Status.RUNNING, Status.STOPPED)


class Hour(NamedTuple):
    """What was noted of the events of one hour."""

    hour: datetime
    counts: Mapping[Kind, int]


class Sample(NamedTuple):
    """One event on which the two did not agree. Of one whose month was retired there is no host and no message."""

    kind: Kind
    event_id: UUID
    received_at: datetime
    live: dict[str, Any]
    draft: dict[str, Any]
    hostname: str | None
    message: str | None


def start(
    conn: Connection,
    edits: Sequence[Edit] = (),
    wanted: Book | None = None,
    *,
    replace: bool = False,
    name: str = "",
    days: int = DAYS,
    **said: Unpack[Said],
) -> Shadow:
    """Begin a shadow: with ``edits`` of single rules, and with what makes the ruleset hold what ``wanted`` says.

    With ``replace`` nothing else stands in the draft, of what ``wanted`` speaks of. What would stand has been checked
    and compiled. Raises :class:`RuleError`; :class:`Refused` where another one runs; ``LookupError`` for a rule that
    is not there.
    """
    if not 1 <= days <= DAYS_MAX:
        raise RuleError("days", f"{days} is out of range; a shadow runs for 1 to {DAYS_MAX} days")
    _expire(conn)
    changes.hold(conn)
    if other := running(conn):
        raise Refused("shadow", f"“{get(conn, other).name}” runs already; promote or drop it first")
    book = plans.standing(conn)
    asked = planned(book, wanted, replace=replace) if wanted else []
    draft = _reserved(conn, [*asked, *_edited(book, edits)])
    try:
        rulebook.read_draft(conn, draft).compile("")
    except NoRuleset as error:
        raise RuleError("rules", f"do not fit into one ruleset ({error}); change less at once") from None
    values = {
        "name": (name.strip() or draft[0].name)[:NAME_MAX],
        "who": said["changed_by"],
        "reason": said.get("reason", ""),
        "base_version": rulebook.current_version(conn),
        "draft": msgspec.to_builtins(draft),
        "until": func.now() + timedelta(days=days),
    }
    shadow = get(conn, conn.execute(insert(shadows).values(values).returning(_at.id)).scalar_one())
    counts = dict(Counter(change.operation for change in draft))
    told = {"name": shadow.name, "until": shadow.until.isoformat(), "changes": counts}
    history.note(conn, operation="CREATE", table_name=shadows.name, record_id=shadow.id, after=told, **said)
    return shadow


def promote(conn: Connection, shadow_id: int, **said: Unpack[Said]) -> int:
    """Make the draft the rules in force. Answers with the version that it became.

    Raises :class:`Overtaken` where its rows were changed since it began, :class:`Refused` where it has ended,
    :class:`RuleError` where a rule can't be saved any more, ``LookupError`` if there is no such shadow.
    """
    shadow = _open(conn, shadow_id)
    changes.hold(conn)
    if in_the_way := changed_since(conn, shadow):
        raise Overtaken([called(change) for change in in_the_way])
    for change in shadow.draft:
        if change.after is not None:
            changes.KEPT[change.table].check(change.after)
    plans.write(conn, Plan(version=shadow.base_version, changes=shadow.draft), **said)
    version = rulebook.current_version(conn)
    _end(conn, shadow, Status.PROMOTED, said, promoted_version=version)
    return version


def drop(conn: Connection, shadow_id: int, **said: Unpack[Said]) -> Shadow:
    """End a shadow. Raises :class:`Refused` where it has ended, ``LookupError`` if there is no such shadow."""
    shadow = _open(conn, shadow_id)
    _end(conn, shadow, Status.DROPPED, said)
    return shadow


def stop(conn: Connection, shadow_id: int, error: str) -> None:
    """It can't go on. One that has ended otherwise stays as it is."""
    conn.execute(
        update(shadows)
        .where(_at.id == shadow_id, _at.status == Status.RUNNING)
        .values(status=Status.STOPPED, error=error, ended_at=func.now(), updated_at=func.now())
    )


def running(conn: Connection) -> int | None:
    """The id of the shadow that runs."""
    query = select(_at.id).where(_at.status == Status.RUNNING, _at.until > func.now())
    return conn.execute(query).scalar_one_or_none()


def get(conn: Connection, shadow_id: int, *, lock: bool = False) -> Shadow:
    """Raises ``LookupError`` if there is no such shadow."""
    query = select(*_shown()).where(_at.id == shadow_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise LookupError(f"there is no shadow {shadow_id}")
    return _shadow(row)


def newest(conn: Connection, limit: int = 20) -> list[Shadow]:
    """The newest first."""
    query = select(*_shown()).order_by(_at.id.desc()).limit(limit)
    return [_shadow(row) for row in conn.execute(query)]


def hours(conn: Connection, shadow_id: int) -> list[Hour]:
    """What was noted, by the hour in which the events were received, the newest first."""
    at = shadow_counts.c
    query = (
        select(at.hour, at.kind, func.sum(at.n))
        .where(at.shadow_id == shadow_id)
        .group_by(at.hour, at.kind)
        .order_by(at.hour.desc())
    )
    found: defaultdict[datetime, dict[Kind, int]] = defaultdict(dict)
    for hour, kind, n in conn.execute(query):
        found[hour.astimezone(UTC)][Kind(kind)] = int(n)
    return [Hour(hour, counts) for hour, counts in found.items()]


def totals(found: Iterable[Hour]) -> dict[Kind, int]:
    """The sums of all hours; every kind is there."""
    sums = Counter[Kind]()
    for hour in found:
        sums.update(hour.counts)
    return {kind: sums[kind] for kind in Kind}


def samples(conn: Connection, shadow_id: int, kind: Kind, limit: int = 50) -> list[Sample]:
    """Events on which the two did not agree in this way, the newest first."""
    at, log = shadow_differences.c, event_audit_log.c
    kept = (
        select(shadow_differences)
        .where(at.shadow_id == shadow_id, at.kind == kind)
        .order_by(at.received_at.desc())
        .limit(limit)
        .cte("kept")
    )
    query = (
        select(kept, log.hostname, func.left(log.message, 1000).label("message"))
        .outerjoin(
            event_audit_log,
            (log.event_id == kept.c.event_id) & (log.received_at == kept.c.received_at),
        )
        .order_by(kept.c.received_at.desc())
    )
    return [
        Sample(kind, row.event_id, row.received_at, row.live, row.draft, row.hostname, row.message)
        for row in conn.execute(query)
    ]


def changed_since(conn: Connection, shadow: Shadow) -> list[Change]:
    """The changes that stand in the way of a promotion now."""
    return overtaken(plans.standing(conn), shadow.draft)


def count(conn: Connection, shadow_id: int, worker: str, counts: Mapping[tuple[datetime, Kind], int]) -> None:
    """Add to what ``worker``, and nobody else, has counted."""
    rows = [
        {"shadow_id": shadow_id, "hour": hour, "kind": kind, "worker": worker, "n": n}
        for (hour, kind), n in counts.items()
    ]
    adding = postgresql.insert(shadow_counts).values(rows)
    more = {"n": shadow_counts.c.n + adding.excluded.n}
    conn.execute(adding.on_conflict_do_update(index_elements=list(shadow_counts.primary_key), set_=more))


def keep(conn: Connection, shadow_id: int, found: Sequence[Difference]) -> set[Kind]:
    """Keep these as samples, where there is room. The kinds that have enough of them."""
    at = shadow_differences.c
    query = select(at.kind, func.count()).where(at.shadow_id == shadow_id).group_by(at.kind)
    kept = Counter({Kind(kind): n for kind, n in conn.execute(query)})
    rows = []
    for kind, event, live, draft in found:
        if kept[kind] >= SAMPLES:
            continue
        kept[kind] += 1
        rows.append(
            {
                "shadow_id": shadow_id,
                "kind": kind,
                "event_id": event.event_id,
                "received_at": event.received_at,
                "live": _told(live),
                "draft": _told(draft),
            }
        )
    if rows:
        conn.execute(postgresql.insert(shadow_differences).on_conflict_do_nothing(), rows)
    return {kind for kind, n in kept.items() if n >= SAMPLES}


def expire(conn: Connection, before: datetime) -> int:
    """Stop the one whose time is up; forget those that ended before this time. How many were forgotten."""
    _expire(conn)
    gone = conn.execute(
        delete(shadows).where(_at.status != Status.RUNNING, _at.ended_at < before).returning(_at.id)
    )
    ids = list(gone.scalars())
    for table in (shadow_counts, shadow_differences):
        conn.execute(delete(table).where(table.c.shadow_id.in_(ids)))
    return len(ids)


def _expire(conn: Connection) -> None:
    conn.execute(
        update(shadows)
        .where(_at.status == Status.RUNNING, _at.until <= func.now())
        .values(status=Status.STOPPED, ended_at=_at.until, updated_at=func.now())
    )


def _shown() -> list[ColumnElement[Any]]:
    # One whose time is up has stopped, whether or not somebody has written it down.
    over = (_at.status == Status.RUNNING) & (_at.until <= func.now())
    status = case((over, Status.STOPPED.value), else_=_at.status).label("status")
    ended = case((over, _at.until), else_=_at.ended_at).label("ended_at")
    special = {"status": status, "ended_at": ended}
    return [special.get(name, _at[name]) for name in Shadow.__struct_fields__]


def _shadow(row: Row[Any]) -> Shadow:
    return msgspec.convert(dict(zip(Shadow.__struct_fields__, row, strict=True)), Shadow)


def _open(conn: Connection, shadow_id: int) -> Shadow:
    shadow = get(conn, shadow_id, lock=True)
    if not shadow.is_open:
        raise Refused("shadow", f"“{shadow.name}” is already {shadow.status}")
    return shadow


def _end(conn: Connection, shadow: Shadow, status: Status, said: Said, **more: Any) -> None:
    values = {"status": status, "ended_at": shadow.ended_at or func.now(), "updated_at": func.now(), **more}
    conn.execute(update(shadows).where(_at.id == shadow.id).values(values))
    history.note(
        conn,
        operation="UPDATE",
        table_name=shadows.name,
        record_id=shadow.id,
        before={"name": shadow.name, "status": shadow.status},
        after={"name": shadow.name, "status": status},
        **said,
    )


def _edited(book: Book, edits: Sequence[Edit]) -> Iterator[Change]:
    standing = {rule.id: rule for rule in book.rules or ()}
    for rule_id, data in edits:
        if rule_id is None:
            yield Change(table=RULES, after=fields_of(check_rule(data or {})))
            continue
        if rule_id not in standing:
            raise LookupError(f"there is no rule {rule_id}")
        before = fields_of(standing[rule_id])
        after = None if data is None else fields_of(check_rule({**before, **data}, rule_id=rule_id))
        yield Change(table=RULES, record_id=str(rule_id), before=before, after=after)


def _reserved(conn: Connection, wanted: Iterable[Change]) -> list[Change]:
    draft = [change for change in wanted if change.before != change.after]
    if not draft:
        raise RuleError("rules", "would be what they are; there is nothing to watch")
    draft = changes.with_ids(conn, draft)
    for (_, record), n in Counter((change.table, change.record_id) for change in draft).items():
        if n > 1:
            raise RuleError("rules", f"change {record} twice; say once what it is to be")
    return draft


def _told(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in _KEPT}
