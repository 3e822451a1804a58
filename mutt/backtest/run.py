"""A run: rules read, then the past, a slice of time after another, until its end or until somebody stops it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Engine

from mutt.backtest.compare import Filter, Judge
from mutt.backtest.delta import Delta, looks_at_raw
from mutt.backtest.draft import Draft
from mutt.backtest.tally import Result, Slice, Tally
from mutt.errors import ArchiveUnreadable, MuttError, Refused, StoreDown
from mutt.rules.hosts import check_host_pattern
from mutt.settings import Settings
from mutt.store import past, rulebook
from mutt.store.archives import reading
from mutt.store.archives.duck import Duck
from mutt.store.engine import transaction
from mutt.store.past import Rows
from mutt.store.replica import Source, source_of

log = logging.getLogger("mutt.backtest")

#: What a slice is to take: short enough to hold nothing up, long enough that the next one's search costs little.
SLICE_SECONDS = 4.0

#: The first slice, and the bounds of the others.
FIRST, SHORTEST, LONGEST = timedelta(minutes=15), timedelta(minutes=1), timedelta(days=7)

#: A slice that PostgreSQL broke off is read again; a replica does so where its server cleans up.
TRIES = 4

_AGAIN = "40001"  # what PostgreSQL says of what would go well if it were asked again

NOW, THEN = "now", "then"

#: Events are from the first of these years on, and before the last: what else is asked for is a slip of the pen.
_YEARS = 2000, 2200


class Stopped(MuttError):
    """Somebody stopped it."""


class Question(NamedTuple):
    """What is asked: a draft over the events of a time, in UTC."""

    draft: Draft
    since: datetime
    until: datetime
    host: str = ""  #: a name, a glob or a network
    baseline: str = NOW  #: compared with the rules as they are now, or with what was decided then

    def check(self) -> None:
        """Raise :class:`Refused` where it can't be asked."""
        for name, at in (("since", self.since), ("until", self.until)):
            if not _YEARS[0] <= at.year < _YEARS[1]:
                raise Refused(name, f"lies in the year {at.year}; no event is of then")
        if self.since >= self.until:
            raise Refused("since", "is not before the end; give an earlier time")
        if self.baseline not in (NOW, THEN):
            raise Refused("baseline", f"{self.baseline!r} is none of {NOW}, {THEN}")
        if self.host:
            check_host_pattern(self.host, "host")


class Progress(NamedTuple):
    """How far it is."""

    events: int  #: looked at
    estimate: int  #: of all
    share: float  #: of the time
    rate: float  #: events a second


class Watch:
    """Between a run and who waits for it. ``stop`` may be called from another thread: it breaks off what is read."""

    def __init__(self) -> None:
        self.progress = Progress(0, 0, 0.0, 0.0)
        self.stopped = False
        self._connection: Any = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def reading(self, connection: Any) -> Iterator[None]:
        """While ``connection`` reads for the run; afterwards it is others'."""
        self._set(connection)
        try:
            if self.stopped:
                raise Stopped
            yield
        finally:
            self._set(None)

    def _set(self, connection: Any) -> None:
        with self._lock:
            self._connection = connection

    def stop(self) -> None:
        self.stopped = True
        with self._lock:
            if self._connection is not None and not self._connection.closed:
                self._connection.cancel()


def run(
    question: Question,
    settings: Settings,
    engine: Engine,
    read_engine: Engine,
    watch: Watch,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> Result:
    """Judge the past by the draft. :class:`Stopped`, :class:`Refused`, :class:`StoreDown`, …"""
    question.check()
    team = settings.unhandled_default_team
    with transaction(engine) as conn:
        last = rulebook.last_id(conn)
        base, draft, drafted = rulebook.load_drafted(
            conn, team, lambda rules: question.draft.among(rules, last)
        )
        judges = past.judges(conn, question.since)
    for error in draft.refused.values():
        raise Refused(error.field, error.reason)
    duck = Duck.of(settings)
    estimate = _estimate(read_engine, duck, question)
    judge = Judge(base, draft, then=question.baseline == THEN)
    delta = Delta(base, draft, judges)
    tally = Tally(judge, drafted.ids)
    wanted = Filter(question.host) if question.host else None
    raw, seen, began = looks_at_raw(base, draft), 0, monotonic()

    def note(share: float) -> None:
        taken = max(monotonic() - began, 1e-3)
        watch.progress = Progress(seen, max(estimate, seen), share, seen / taken)

    start, length, source = question.since, FIRST, Source()
    whole = question.until - question.since
    while start < question.until:
        end, slice_began = min(start + length, question.until), monotonic()
        if end == question.until:
            source = _source(read_engine)
        for tries in range(1, TRIES + 1):
            part, before = tally.slice(delta.kept), seen

            def each(rows: Rows, part: Slice = part) -> None:
                nonlocal seen
                if watch.stopped:
                    return  # what reads is broken off in a moment
                seen += len(rows.message)
                note(watch.progress.share)
                chosen = wanted(rows) if wanted else rows
                if chosen is not None:
                    part.add(chosen, delta.touched(chosen))

            try:
                _read(read_engine, duck, start, end, each, raw=raw, watch=watch)
            except (StoreDown, ArchiveUnreadable) as error:
                if watch.stopped:
                    raise Stopped from error
                if tries == TRIES or isinstance(error, ArchiveUnreadable):
                    raise
                log.warning("a slice is read again: %s", error)
                seen, length = before, max(length / 2, SHORTEST)
            else:
                break
        if watch.stopped:
            raise Stopped
        tally.add(part)
        start = end
        note((start - question.since) / whole)
        length = _next(length, monotonic() - slice_began)
    lacks = not (source.until and question.until < source.until)
    return tally.result(settings.moog_rate_limit / settings.moog_rate_period, source.says if lacks else "")


def _source(read_engine: Engine) -> Source:
    """How far that is which is read from: asked before the newest slice, which may have more by then."""
    with transaction(read_engine) as conn:
        return source_of(conn)


def _estimate(engine: Engine, duck: Duck, question: Question) -> int:
    """About how many events that is, in the table and in archives."""
    with transaction(engine) as conn:
        stored = past.estimate(conn, question.since, question.until)
        archived = reading.source(conn, duck.directory, question.since, question.until)
    return stored + archived.estimate(question.since, question.until)


def _read(
    engine: Engine,
    duck: Duck,
    start: datetime,
    end: datetime,
    each: Callable[[Rows], None],
    *,
    raw: bool,
    watch: Watch,
) -> None:
    """A slice, from the table and from archives. StoreDown: it has to be read again."""
    files = _files(engine, duck, start, end)
    past.read(engine, start, end, each, raw=raw, reading=watch.reading)
    if files != _files(engine, duck, start, end):
        raise StoreDown("a month was archived or put back meanwhile", _AGAIN)
    reading.read(duck, files, start, end, each, raw=raw, reading=watch.reading)


def _files(engine: Engine, duck: Duck, start: datetime, end: datetime) -> list[str]:
    """The archives of a slice, as they are now: a month may go while the past is read."""
    with transaction(engine) as conn:
        return reading.source(conn, duck.directory, start, end).names


def _next(length: timedelta, took: float) -> timedelta:
    """The next slice's length, so that it takes what a slice is to take; never more than four times the last one's."""
    return min(max(length * min(4.0, SLICE_SECONDS / max(took, 1e-3)), SHORTEST), LONGEST)
