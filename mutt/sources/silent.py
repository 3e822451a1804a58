"""Silent: does a source that should speak do so, and what MUTT says where it does not. Pure.

Silence is that no event of it is accepted: one whose posts are all refused is as little use as one that sends none.
What can't be heard is no silence: it counts from when somebody listens, and from when MUTT last turned it away.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from mutt.event import SOURCE_SILENT, Event, State, uuid7
from mutt.sources import learn
from mutt.sources.observed import Listening, Observed
from mutt.words import age, span

#: Seconds until what a process heard is known: it says so every five.
GRACE = 15.0

#: How it is known when a source should be heard: somebody said it, or it was learned; or it is not known, or not asked.
SET, LEARNED, LEARNING, OFF = "set", "learned", "learning", "off"


class Wanted(NamedTuple):
    """What is known beforehand of a source."""

    name: str
    every: float | None = None  #: seconds; 0: it may be silent; None: as it was learned
    is_live: bool = True  #: is its key good?
    team: str = ""  #: whom its silence concerns; empty: whoever the host of this name belongs to


class Silence(NamedTuple):
    """A silence that was told of."""

    since: float  #: of the last event, or since when one was waited for
    key: UUID  #: what its raise and its clear have in common; nobody else knows it

    def is_broken(self, observed: Observed) -> bool:
        """Was the source heard since? PostgreSQL keeps microseconds: a moment later is the same event."""
        return observed.event_at - self.since > 0.001


class Expected(NamedTuple):
    """Within how many seconds a source should be heard, and how that is known."""

    seconds: float | None
    how: str


def expected(wanted: Wanted, observed: Observed, *, learns: bool) -> Expected:
    """``learns``: is a source watched of which nobody said how often it speaks?"""
    if wanted.every is not None:
        return Expected(wanted.every, SET) if wanted.every > 0 else Expected(None, OFF)
    if not learns:
        return Expected(None, OFF)
    found = learn.expected(observed.pauses)
    return Expected(found, LEARNED if found else LEARNING)


def quiet_since(observed: Observed, listening: Listening) -> float:
    """From when it could have been heard, and was not."""
    return max(observed.event_at or observed.waited_from, observed.turned_away, listening.since)


def has_fallen_silent(
    wanted: Wanted, observed: Observed, listening: Listening, now: float, *, learns: bool
) -> bool:
    """Is it silent, for longer than it should be?"""
    seconds = expected(wanted, observed, learns=learns).seconds
    if seconds is None or not wanted.is_live or not listening.holds(now):
        return False
    # Until the last word of a process: what came since then is not told yet.
    return min(now, listening.until) - quiet_since(observed, listening) > seconds + GRACE


def begins(wanted: Wanted, observed: Observed, *, learns: bool) -> bool:
    """Is one that was never heard waited for from now on?"""
    unheard = not observed.event_at and not observed.waited_from
    return unheard and expected(wanted, observed, learns=learns).seconds is not None


def is_over(silence: Silence, wanted: Wanted, observed: Observed, now: float, *, learns: bool) -> bool:
    """Was it heard since, or is it not waited for any more, or for longer than it was?"""
    seconds = expected(wanted, observed, learns=learns).seconds
    if silence.is_broken(observed) or seconds is None or not wanted.is_live:
        return True
    return 0 <= now - silence.since <= seconds


def raised(
    wanted: Wanted, observed: Observed, listening: Listening, now: datetime, *, learns: bool
) -> tuple[Silence, Event]:
    """MUTT's own event about a source that has fallen silent."""
    at = now.timestamp()
    since = observed.event_at or observed.waited_from
    quiet = at - quiet_since(observed, listening)
    seconds, how = expected(wanted, observed, learns=learns)
    said = "it is set to be heard" if how == SET else "it was always heard"
    message = (
        f"Source {wanted.name} is silent: no event of it was accepted for {age(quiet)}, and {said} within"
        f" {span(round(seconds or 0))}; {_last(observed)}{_still(observed)}"
    )
    silence = Silence(since, uuid7(at))
    return silence, _event(wanted, silence, message, now, State.RAISE)


def cleared(silence: Silence, wanted: Wanted, observed: Observed, now: datetime) -> Event:
    """MUTT's own event that ends the one about it."""
    if silence.is_broken(observed):
        lasted = age(max(0.0, observed.event_at - silence.since))
        message = f"Source {wanted.name} is heard again, after {lasted}"
    elif wanted.is_live and wanted.every:
        message = (
            f"Source {wanted.name} has longer now: it is set to be heard within {span(round(wanted.every))}"
        )
    else:
        message = f"Source {wanted.name} is not waited for any more"
    return _event(wanted, silence, message, now, State.CLEAR)


def _last(observed: Observed) -> str:
    if not observed.event_at:
        return "it was never heard"
    return f"the last came {datetime.fromtimestamp(observed.event_at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _still(observed: Observed) -> str:
    """It may send, and nothing of that be any good."""
    if observed.heard_at <= observed.event_at or not observed.why:
        return ""
    why = observed.why[0]
    return f". It does send, and that is refused: {why.field}: {why.reason}"


def _event(wanted: Wanted, silence: Silence, message: str, now: datetime, state: State) -> Event:
    return Event(
        event_id=uuid7(now.timestamp()),
        received_at=now,
        occurred_at=now,
        hostname=wanted.name,
        message=message,
        state=state,
        source="mutt",
        program="source",
        clear_key=str(silence.key),
        template=SOURCE_SILENT,
        team=wanted.team or None,
    )
