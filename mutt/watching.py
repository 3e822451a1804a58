"""Watching: what ingest heard is read from Redis into PostgreSQL, and who fell silent is told of, once a minute.

The books hold: what MUTT says itself is an event like any other, appended as a round. It is written down before that,
with what it tells of, and told until it surely stands: a round that is known adds nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import redis
from sqlalchemy import Connection

from mutt import codec
from mutt.entry import Part
from mutt.errors import SettingsError, Unavailable
from mutt.event import Envelope, Event, Segment, State
from mutt.grant import BOOTSTRAP, INGEST
from mutt.services import Services
from mutt.sources import silent
from mutt.sources.heard import Counted, Heard, Looked, Report
from mutt.sources.observed import Gathered, Listening, Observed, folded
from mutt.sources.silent import Wanted
from mutt.sources.view import Seen, ordered
from mutt.store import keys
from mutt.store import sources as rows
from mutt.store.engine import transaction
from mutt.store.keys import Sender
from mutt.store.sources import Place, Stored
from mutt.streams.sources import Came, Now, Packed, Reports, briefly, of_some, wholly

log = logging.getLogger("mutt.sources")

#: Seconds that Redis has for one append.
PATIENCE = 5.0

#: Redis remembers a round for ten minutes. An event that is told again after so many seconds is another item of its
#: request, and so a duplicate where it went in before, as what flows back from the spill is.
REMEMBERED = 300

#: What is known of one that nobody spoke of yet.
FRESH = Stored(Observed())


class Shown(NamedTuple):
    """All sources, what is wrong first."""

    sources: list[Seen]
    outage: str = ""  #: why it may not be up to date; empty: it is


def work(services: Services, at: float | None = None) -> dict[str, int]:
    """Read what was heard, judge who is silent, and tell of it. Safe to repeat, and to break off.

    ``at`` is now, in seconds since the epoch; None: by Redis' clock. Raises StoreDown; ``redis.RedisError`` passes.
    """
    reports, learns = Reports(services.redis), services.settings.silence_learned
    at = reports.clock() if at is None else at
    with transaction(services.engine) as conn:
        place, found = rows.hold(conn), rows.stored(conn)
        came = reports.since(place.last)
        changed, place = read_on(found, place, came)
        wanted = _wanted(conn, {**found, **changed})
        changed |= judged({**found, **changed}, wanted, place.listening, at, learns=learns)
        rows.keep(conn, changed)
        rows.note(conn, place)
    if came:
        reports.forget(came[-1].id)
    found |= changed
    reports.stand({name: _now_of(found.get(name, FRESH)) for name, one in wanted.items() if one.is_live})
    told = _tell_all(services, {name: one.owed for name, one in found.items() if one.owed}, at)
    return {"read": len(came), "silent": sum(1 for one in found.values() if one.silence), "told": told}


def look(conn: Connection, services: Services, name: str | None = None, *, fields: bool = True) -> Shown:
    """Every source as it is by now: what was read, and what was heard since; or the one of this ``name``.

    Without ``fields`` all of it but how often each field was seen in the last minute: that takes longer than the rest.
    Raises StoreDown.
    """
    place, found = rows.place(conn), rows.stored(conn, name)
    at, outage = time.time(), ""
    try:
        reports = Reports(services.redis)
        found |= _since(found, place, reports.packed(place.last), name, fields=fields)
        at = reports.clock()
    except (redis.RedisError, SettingsError):
        outage = "Redis does not answer: this is what was read before."
    learns = services.settings.silence_learned
    wanted = [one for one in _wanted(conn, found).values() if name in (None, one.name)]
    shown = [_seen(one, found.get(one.name, FRESH), at, learns=learns) for one in wanted]
    return Shown(ordered(shown), outage)


def _since(
    known: Mapping[str, Stored], place: Place, told: Sequence[Packed], name: str | None, *, fields: bool
) -> dict[str, Stored]:
    before = {one: stored.observed for one, stored in known.items()}
    if name is not None:
        found = _folded(before, place, of_some(told, {name}))[0]
    elif fields:
        found = _folded(before, place, wholly(told))[0]
    else:
        found, more = _folded(before, place, briefly(told))
        unsure = {
            one: before[one]
            for one, events in more.items()
            if one in before and before[one].may_lose(events, told[-1].at)
        }
        if unsure:
            found |= _folded(unsure, place, of_some(told, unsure))[0]
    return {one: known.get(one, FRESH)._replace(observed=observed) for one, observed in found.items()}


def _folded(
    before: Mapping[str, Observed],
    place: Place,
    reports: Iterable[tuple[float, Report[Heard[Looked]] | Report[Heard[Counted]]]],
) -> tuple[dict[str, Observed], dict[str, int]]:
    """Those of whom something was heard since, as they are then; and how many events each brought."""
    gathered = Gathered()
    for at, report in reports:
        gathered.add(at, report)
    return folded(before, place.listening, gathered.reports())[0], gathered.events()


def read_on(
    known: Mapping[str, Stored], place: Place, came: Sequence[Came]
) -> tuple[dict[str, Stored], Place]:
    """The sources of which these reports tell, as they are then; and how far it is read."""
    if not came:
        return {}, place
    before = {name: one.observed for name, one in known.items()}
    found, listening = folded(before, place.listening, [(one.at, one.report) for one in came])
    changed = {name: known.get(name, FRESH)._replace(observed=one) for name, one in found.items()}
    return changed, Place(came[-1].id, listening)


def judged(
    found: Mapping[str, Stored],
    wanted: Mapping[str, Wanted],
    listening: Listening,
    at: float,
    *,
    learns: bool,
) -> dict[str, Stored]:
    """Those about whom there is something to tell, or who are waited for from now on."""
    changed = {}
    for name, one in wanted.items():
        before = found.get(name, FRESH)
        after = _judged(before, one, listening, at, learns=learns)
        if after != before:
            changed[name] = after
    return changed


def _judged(one: Stored, wanted: Wanted, listening: Listening, at: float, *, learns: bool) -> Stored:
    if one.owed:
        return one  # first what was seen before is told
    now, observed = datetime.fromtimestamp(at, UTC), one.observed
    if silent.begins(wanted, observed, learns=learns):
        return one._replace(observed=msgspec.structs.replace(observed, waited_from=at))
    if one.silence:
        if silent.is_over(one.silence, wanted, observed, at, learns=learns):
            return Stored(observed, None, silent.cleared(one.silence, wanted, observed, now))
    elif silent.has_fallen_silent(wanted, observed, listening, at, learns=learns):
        return Stored(observed, *silent.raised(wanted, observed, listening, now, learns=learns))
    return one


def _tell_all(services: Services, owed: Mapping[str, Event], at: float) -> int:
    """How many were told. Where one can't be now, the others are not tried: each would wait as long for nothing."""
    told = 0
    for name, event in owed.items():
        if not _tell(services, name, event, at):
            if more := len(owed) - told - 1:
                log.warning("what is to be told of %d other sources is told later, too", more)
            break
        told += 1
    return told


def _tell(services: Services, name: str, event: Event, at: float) -> bool:
    """Append MUTT's own event, once; False: not yet."""
    try:
        appended = services.inlet.append(str(event.event_id), [_part(event, at)], time.monotonic() + PATIENCE)
    except Unavailable as error:
        log.warning("what is to be told of source %s is told later: %s", name, error.reason)
        return False
    if appended.refused:
        log.warning("what is to be told of source %s is told later: the ingest queue is full", name)
        return False
    with transaction(services.engine) as conn:
        rows.appended(conn, name, event)
    log.info(
        "source", extra={"source": name, "did": "silent" if event.state is State.RAISE else "silent no more"}
    )
    return True


def _part(event: Event, at: float) -> Part:
    about = str(event.event_id)
    late = max(0, int(at - event.received_at.timestamp()) // REMEMBERED)
    event = msgspec.structs.replace(event, item=-late)
    fields, size = codec.encode(Envelope([Segment(about, about, [event])]), about=about)
    return Part([(1, fields, size)], batch_id=about)


def _wanted(conn: Connection, found: Mapping[str, Stored]) -> dict[str, Wanted]:
    """Every source by name: each key that may send, and whoever was heard."""
    now = datetime.now(UTC)
    known = {
        key.name: _of(key) for key in keys.senders(conn, now) if INGEST in key.scopes or key.name in found
    }
    rest = {name: Wanted(name, is_live=name == BOOTSTRAP.name) for name in found if name not in known}
    return {**rest, **known}


def _of(key: Sender) -> Wanted:
    is_live = key.is_live and INGEST in key.scopes
    return Wanted(key.name, key.source.every, is_live=is_live, team=key.source.team)


def _now_of(one: Stored) -> Now:
    return Now(one.observed.event_at, one.silence.since if one.silence else 0.0)


def _seen(wanted: Wanted, one: Stored, at: float, *, learns: bool) -> Seen:
    expected = silent.expected(wanted, one.observed, learns=learns)
    return Seen.of(wanted, one.observed, expected, one.silence, at)
