"""Balance: do the books balance (P6), and does PostgreSQL say the same?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from mutt import names
from mutt.errors import StoreDown
from mutt.services import Services
from mutt.store.engine import transaction
from mutt.store.spill import standing
from mutt.store.sums import Counted, Sums, count, sums
from mutt.streams import books
from mutt.streams.books import Books, Walked
from mutt.streams.connect import Client


class Recount(msgspec.Struct, frozen=True):
    """The books counted one by one."""

    walked: Walked
    dropped: int  #: events and alerts that the drop records speak of
    outside: bool  #: alerts wait outside of full lanes, whose marks are no exact count
    counted: Counted | None  #: None: PostgreSQL can't be asked


class Report(msgspec.Struct, frozen=True):
    """The books of one moment, and the verdict."""

    events: dict[str, int]
    alerts: dict[str, int]
    off_events: int
    off_alerts: int
    postgres: dict[str, Any] | None
    lost: int | None  #: settled events without an audit row; None: in flight, or nobody can tell
    double: int | None
    at_rest: bool
    balanced: bool
    state: str  #: balanced, in flight, lost, double, outcomes or off
    disagree: dict[str, int]  #: what PostgreSQL or the recount says more (or less) than the ledger, at rest
    spilled: int | None = None  #: events in PostgreSQL's spill, not in the books yet; None: nobody can tell
    outcomes_parked: int = 0  #: alerts at their end, of which PostgreSQL can't take the note: their rows lag
    walked: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


def observe(services: Services, *, deep: bool) -> tuple[Report, str]:
    """The books now, and why PostgreSQL could not be asked ('' if it was). ``redis.RedisError`` passes through."""
    # What moves in between changes the ledger or stands in the delivery queue: looked at before and after.
    everywhere = (services.redis, *services.elsewhere)
    before, idle = books.read(*everywhere), services.delivery_stream.size() == 0
    parked = books.outcomes_parked(services.redis)
    spilled: int | None = None
    summed, counted, why = None, None, ""
    try:
        with transaction(services.engine) as conn:
            # First: what flows back meanwhile moves the ledger.
            spilled = standing(conn).events
            summed, counted = sums(conn), count(conn) if deep else None
    except StoreDown as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
    recount = _recount(everywhere, counted) if deep else None
    idle = idle and services.delivery_stream.size() == 0
    after = books.read(*everywhere)
    at_rest = idle and before == after and after.events["queued"] == 0 and not spilled
    return weigh(after, summed, recount, spilled, parked, at_rest=at_rest), why


def _recount(everywhere: Sequence[Client], counted: Counted | None) -> Recount:
    client = everywhere[0]
    # What ingest rejected never was in the books.
    records = (
        orjson.loads(record)
        for id_, record in client.hscan_iter(names.DROPS)
        if not id_.startswith(b"ingest:")
    )
    dropped = sum(int(record.get("n", 1)) for record in records)
    return Recount(books.walk(*everywhere), dropped, bool(client.hlen(names.OUTSIDE)), counted)


def weigh(
    now: Books,
    summed: Sums | None,
    recount: Recount | None = None,
    spilled: int | None = None,
    outcomes_parked: int = 0,
    *,
    at_rest: bool,
) -> Report:
    """Hold the ledger against itself and, ``at_rest``, against PostgreSQL and the recount. Pure."""
    disagree = _differences(now, summed, recount) if at_rest else {}
    lost = double = None
    if at_rest and summed is not None:
        lost = max(0, now.events["settled"] - summed.audit_rows)
        double = max(0, summed.audit_rows - now.events["settled"])
    balanced = not (now.off_events or now.off_alerts or disagree or outcomes_parked)
    return Report(
        events=now.events,
        alerts=now.alerts,
        off_events=now.off_events,
        off_alerts=now.off_alerts,
        postgres=summed._asdict() if summed else None,
        lost=lost,
        double=double,
        at_rest=at_rest,
        balanced=balanced,
        state=_state(balanced, at_rest, lost, double, outcomes_parked),
        disagree=disagree,
        spilled=spilled,
        outcomes_parked=outcomes_parked,
        walked=_walked(recount) if recount else msgspec.UNSET,
    )


def _state(balanced: bool, at_rest: bool, lost: int | None, double: int | None, outcomes: int) -> str:
    if lost:
        return "lost"
    if double:
        return "double"
    if outcomes:
        return "outcomes"
    if not balanced:
        return "off"
    return "balanced" if at_rest else "in flight"


def _differences(now: Books, summed: Sums | None, recount: Recount | None) -> dict[str, int]:
    found: dict[str, int] = {}
    if summed is not None:
        found["audit_rows"] = summed.audit_rows - now.events["settled"]
        found |= {f"alerts.{status}": n - now.alerts[status] for status, n in summed.alerts.items()}
    if recount is not None:
        found |= _recounted(now, recount)
        if summed is not None and recount.counted is not None:
            found |= _counted(summed, recount.counted)
    return {name: n for name, n in found.items() if n}


def _recounted(now: Books, recount: Recount) -> dict[str, int]:
    walked = recount.walked
    found = {
        "walked.queued": walked.queued - now.events["queued"],
        "walked.parked": walked.parked - now.events["parked"],
        "walked.alerts_parked": walked.alerts_parked - now.alerts["parked"],
        "walked.dropped": recount.dropped - now.events["dropped"] - now.alerts["dropped"],
    }
    return found if recount.outside else found | {"walked.waiting": walked.waiting - now.alerts["waiting"]}


def _counted(summed: Sums, counted: Counted) -> dict[str, int]:
    missing = 0 if counted.months_retired else counted.audit_rows - summed.audit_rows
    return {
        "counted.audit_rows": missing,
        "counted.audit_keys": counted.audit_keys - counted.audit_rows,
        "counted.doubled_items": counted.doubled_items,
        "counted.alert_ids": counted.alert_ids - counted.alert_rows,
    }


def _walked(recount: Recount) -> dict[str, int]:
    rows = recount.counted._asdict() if recount.counted else {}
    return {**msgspec.structs.asdict(recount.walked), "dropped": recount.dropped, **rows}
