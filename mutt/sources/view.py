"""View: a source as people and programs are shown it: how it is, what is wrong with it first. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from mutt.sources import clock
from mutt.sources.clock import Clock
from mutt.sources.observed import Hour, Observed
from mutt.sources.silent import OFF, SET, Expected, Silence, Wanted
from mutt.words import age, span

#: 0 to 1: of the last hour's items, from which share on refusals are more than an accident.
REFUSED = 0.1

#: Minutes whose rate is that of now: this one, which may just have begun, and the one before.
NOW_MINUTES = 2


class Wrong(msgspec.Struct, frozen=True):
    """One thing that is wrong with a source."""

    kind: str  #: silent, refused, clock or fields
    says: str  #: a sentence


class Seen(msgspec.Struct, frozen=True):
    """One source at a moment."""

    name: str
    at: float  #: the moment, seconds since the epoch
    observed: Observed
    expected: Expected
    is_live: bool  #: is its key good?
    hour: Hour  #: its last one
    silent_since: float | None = None
    clock: Clock | None = None
    wrong: tuple[Wrong, ...] = ()

    @classmethod
    def of(
        cls, wanted: Wanted, observed: Observed, expected: Expected, silence: Silence | None, at: float
    ) -> Seen:
        found = clock.judged(observed.times)
        # Heard since, it is silent no more: that is told with the next look.
        since = silence.since if silence and not silence.is_broken(observed) else None
        hour = observed.hour(at)
        seen = cls(wanted.name, at, observed, expected, wanted.is_live, hour, since, found)
        return msgspec.structs.replace(seen, wrong=tuple(_wrong(seen)) if wanted.is_live else ())

    @property
    def quiet(self) -> float | None:
        """Seconds since its last event; None: it was never heard."""
        return max(0.0, self.at - self.observed.event_at) if self.observed.event_at else None

    @property
    def was_heard(self) -> bool:
        """Did anything ever come of it, whatever became of that?"""
        return self.observed.heard_at > 0

    @property
    def kinds(self) -> list[str]:
        """What is wrong, in a word each; the worst first."""
        return list(dict.fromkeys(one.kind for one in self.wrong))

    @property
    def refused(self) -> float:
        """0 to 1: of the last hour's items."""
        return self.hour.refused

    @property
    def formats(self) -> list[str]:
        """The formats that it sends, the one with the most events first."""
        found = self.observed.formats
        return sorted(found, key=lambda name: (-found[name].events, name))

    @property
    def rates(self) -> dict[str, float]:
        """Events a second now, over five minutes, over the hour."""
        spans = {"now": NOW_MINUTES, "5min": 5, "1h": 60}
        return {name: self.hour.rate(minutes) for name, minutes in spans.items()}

    @property
    def waits(self) -> str:
        """Within what time it is to be heard, and how that is known."""
        seconds, how = self.expected
        if seconds is None:
            return "not watched" if how == OFF else "learning"
        return f"{about(seconds)}, {how}"

    @property
    def told_clock(self) -> str:
        """Its clock in a few words; empty: too little is known."""
        if self.clock is None:
            return ""
        side = "behind" if self.clock.behind > 0 else "ahead"
        return f"{age(abs(self.clock.behind))} {side}"


def ordered(sources: list[Seen]) -> list[Seen]:
    """What is wrong first, then by name; those whose key is good no more come last."""
    order = ("silent", "refused", "clock", "fields")

    def rank(seen: Seen) -> tuple[bool, int, str]:
        worst = min((order.index(one.kind) for one in seen.wrong), default=len(order))
        return not seen.is_live, worst, seen.name

    return sorted(sources, key=rank)


def about(seconds: float) -> str:
    """A span that was chosen, or one that was learned, which is rounded."""
    return span(round(seconds)) if seconds == round(seconds) else age(seconds)


def rate(value: float) -> str:
    """Events a second."""
    if 0 < value < 0.005:
        return "< 0.01"
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _wrong(seen: Seen) -> list[Wrong]:
    found = []
    if seen.silent_since is not None:
        found.append(Wrong("silent", _silent(seen)))
    if seen.refused >= REFUSED:
        why = seen.observed.why[0] if seen.observed.why else None
        last = f"; the last one: {why.field}: {why.reason}" if why else ""
        found.append(Wrong("refused", f"{seen.refused:.0%} of its items of the last hour were refused{last}"))
    if seen.clock and seen.clock.is_wrong:
        found.append(Wrong("clock", _clock(seen.clock)))
    for format_, field in seen.observed.gone():
        share = seen.observed.formats[format_].share(field)
        found.append(
            Wrong(
                "fields", f"{field} vanished: {share:.0%} of its events in {format_} had it, and none has now"
            )
        )
    return found


def _silent(seen: Seen) -> str:
    seconds, how = seen.expected
    within = (
        f"; it is {'to be' if how == SET else 'usually'} heard within {about(seconds)}" if seconds else ""
    )
    heard = (
        f"no event of it was accepted for {age(seen.quiet)}"
        if seen.quiet is not None
        else "it was never heard"
    )
    return f"{heard}{within}"


def _clock(found: Clock) -> str:
    off = age(abs(found.behind))
    if found.is_zone:
        return f"its times are off by {off}, as much as a time zone: have it send its times with their zone, or in UTC"
    if found.behind < 0:
        return f"its clock is {off} ahead of ours: have it set its clock (NTP)"
    return f"its clock is {off} behind ours, or all that it sends comes so late: have it set its clock (NTP)"


# ---- for programs


def told(seen: Seen) -> dict[str, Any]:
    """One source as JSON: what the API and ``mutt sources --json`` give."""
    observed = seen.observed
    return {
        "name": seen.name,
        "live": seen.is_live,
        "first_seen": moment(observed.first_at),
        "last_seen": moment(observed.heard_at),
        "last_event": moment(observed.event_at),
        "silent_since": moment(seen.silent_since or 0.0),
        "expected": {"seconds": seen.expected.seconds, "how": seen.expected.how},
        "rate": seen.rates,
        "counts": {
            name: getattr(observed, name)
            for name in ("requests", "events", "refused", "failed", "over_quota", "bytes")
        },
        "refused_share": seen.refused,
        "clock": {"behind_s": seen.clock.behind, "late_s": seen.clock.late} if seen.clock else None,
        "formats": {name: _told_format(seen, name) for name in seen.formats},
        "refusals": [
            {"field": one.field, "reason": one.reason, "at": moment(one.at), "count": one.n}
            for one in observed.why
        ],
        "wrong": [msgspec.structs.asdict(one) for one in seen.wrong],
    }


def _told_format(seen: Seen, name: str) -> dict[str, Any]:
    found = seen.observed.formats[name]
    gone = found.gone()
    fields = {
        field: {"share": found.share(field), "last_seen": moment(one.at), "vanished": field in gone}
        for field, one in sorted(found.fields.items())
    }
    return {"events": found.events, "last_event": moment(found.at), "fields": fields}


def moment(at: float) -> str | None:
    """RFC 3339, in UTC; None: never."""
    return datetime.fromtimestamp(at, UTC).isoformat() if at else None
