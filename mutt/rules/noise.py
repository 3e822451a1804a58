"""Noise control as a model: what the settle decides of alerts (streams/noise.lua), in the order of their events. Pure.

``limits`` says what bounds an alert has, for both. ``Replay`` decides as the script does where one worker has the
events in order; it does not know which raises a clear cancels before they are sent, for that depends on speed.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from mutt.event import Event, State
from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import StormPolicy, Verdict

THRESHOLD, DEDUP, FLAPPING = "threshold", "dedup", "flapping"

_EPOCH, _MICRO = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_SECOND = 1_000_000


class Storm(msgspec.Struct, frozen=True):
    """A storm policy that admits an alert, and the alert's key under it."""

    policy: StormPolicy
    key: str

    @property
    def reason(self) -> str:
        return f"storm:{self.policy.id}"


class StormState(msgspec.Struct, frozen=True, kw_only=True):
    """A storm as it stands: the alerts of one key that were held for it."""

    key: str  #: POLICY:HASH
    policy: int
    name: str
    group_by: str
    value: str
    team: str  #: its first member's
    count: int  #: alerts held
    told: int  #: as many as Moog was told of; 0: of none
    begun: datetime  #: its first member's time: the storm's own name
    first: datetime
    last: datetime
    worst: int  #: Moog's severity, 0 to 5
    window_ms: int
    touched_ms: int  #: when the last one was held, by Redis' clock
    members: tuple[tuple[str, str, int], ...]  #: host, rule, how many; the most first


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may hold an alert back. Windows in microseconds; a pair is (count, window)."""

    dedup: int = 0
    threshold: tuple[int, int] | None = None
    flap: tuple[int, int] | None = None
    storms: tuple[Storm, ...] = ()

    @property
    def of_rule(self) -> bool:
        """Is there one of the rule's own?"""
        return bool(self.dedup or self.threshold or self.flap)


def micros(at: datetime) -> int:
    """A time as whole microseconds since 1970."""
    return (at - _EPOCH) // _MICRO


def at_micros(number: int) -> datetime:
    """The time of so many microseconds since 1970."""
    return _EPOCH + number * _MICRO


def limits(
    ruleset: Ruleset, rule_id: int | None, hostname: str, team: str, source: str, tags: Mapping[str, str]
) -> Limits | None:
    """What may hold back an alert of this rule; None for one without bounds, which is the usual case.

    What MUTT itself raises (without a rule) has none.
    """
    rule = None if rule_id is None else ruleset.rules.get(rule_id)
    if rule is None or not (ruleset.storms or rule.dedup_window or rule.threshold_count or rule.flap_count):
        return None
    storms: tuple[Storm, ...] = ()
    if ruleset.storms:
        scopes = ruleset.host(hostname).scopes
        values = {"host": hostname, "rule": str(rule_id), "team": team, "source": source}
        keyed = ((policy, _key(policy, values, tags)) for policy in ruleset.storms)
        storms = tuple(
            Storm(policy, key)
            for policy, key in keyed
            if key and (policy.hostname is None or policy.hostname in scopes)
        )
    found = Limits(
        (rule.dedup_window or 0) * _SECOND,
        _pair(rule.threshold_count, rule.threshold_window),
        _pair(rule.flap_count, rule.flap_window),
        storms,
    )
    return found if found.of_rule or storms else None


def _pair(count: int | None, window: int | None) -> tuple[int, int] | None:
    return (count, window * _SECOND) if count and window else None


def _key(policy: StormPolicy, values: Mapping[str, str], tags: Mapping[str, str]) -> str:
    """An alert's key under a policy; '' where it has none."""
    if policy.group_by.startswith("tags."):
        return tags.get(policy.group_by.removeprefix("tags."), "")
    return values.get(policy.group_by, "")


class Signature:
    """What is remembered of one signature. Times in microseconds."""

    __slots__ = ("changed", "changes", "cleared", "flapping", "last", "log", "since")

    def __init__(self) -> None:
        self.log: list[int] = []  #: raises towards the threshold
        self.since: int | None = None  #: the raise that was let through, and opened the window of repeats
        self.cleared = 0
        self.last = ""  #: raise or clear
        self.changes: list[int] = []
        self.changed = 0
        self.flapping = False

    def reaches(self, at: int, count: int, window: int) -> bool:
        """Is this raise the one that makes the threshold's alert?"""
        insort(self.log, at)
        self.log = [one for one in self.log[-count:] if one > self.log[-1] - window]
        if len(self.log) < count:
            return False
        self.log = []
        return True

    def flaps(self, state: str, at: int, count: int, window: int) -> bool:
        """Does it change too often to be told?"""
        if self.flapping and at - self.changed >= window:
            self.flapping, self.changes = False, []
        if self.last and self.last != state:
            insort(self.changes, at)
            self.changed = self.changes[-1]
            self.changes = [one for one in self.changes[-count - 1 :] if one > self.changed - window]
            self.flapping = self.flapping or len(self.changes) > count
        self.last = state
        return self.flapping

    def clear(self, at: int) -> None:
        """A clear ends the window of repeats that began before it."""
        if self.since is not None and at >= self.since:
            self.since = None
        self.cleared = max(self.cleared, at)

    def let_through(self, at: int) -> None:
        """A raise goes to Moog: its repeats don't."""
        if at >= self.cleared:
            self.since = at


class Replay:
    """Noise control over the past, under one ruleset: ask for each alert in the order of received_at."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset
        self._limits: dict[str, Limits] = {}  #: of signatures that have any
        self._signatures: dict[str, Signature] = {}
        self._storms: dict[tuple[int, str], deque[int]] = {}

    def decide(self, event: Event, verdict: Verdict, signature: str) -> str:
        """Why the alert of this event is held; '' if it goes to Moog.

        A clear is asked for under the signature of the raise that it ends.
        """
        at = micros(event.received_at)
        if event.state is State.CLEAR:
            known = self._limits.get(signature)
            return self._clear(self._of(signature), at, known) if known and known.of_rule else ""
        if not verdict.forward or event.internal:
            return verdict.held
        found = limits(
            self._ruleset, verdict.rule_id, event.hostname, verdict.team or "", event.source, event.tags
        )
        if found is not None:
            self._limits[signature] = found
        if verdict.held or found is None:
            return verdict.held
        return self._raise(signature, at, found)

    def _of(self, signature: str) -> Signature:
        found = self._signatures.get(signature)
        if found is None:
            found = self._signatures[signature] = Signature()
        return found

    def _raise(self, signature: str, at: int, limits: Limits) -> str:
        known = self._of(signature) if limits.of_rule else None
        if known is not None:
            if limits.threshold and not known.reaches(at, *limits.threshold):
                return THRESHOLD
            if limits.dedup and known.since is not None and at < known.since + limits.dedup:
                return DEDUP
            if limits.flap and known.flaps(State.RAISE.value, at, *limits.flap):
                return FLAPPING
        reasons = [storm.reason for storm in limits.storms if self._is_storm(storm, at)]
        if reasons:
            return reasons[0]
        if known is not None and limits.dedup:
            known.let_through(at)
        return ""

    def _clear(self, known: Signature, at: int, limits: Limits) -> str:
        known.clear(at)
        if limits.flap and known.flaps(State.CLEAR.value, at, *limits.flap):
            return FLAPPING
        return ""

    def _is_storm(self, storm: Storm, at: int) -> bool:
        policy = storm.policy
        key = policy.id, storm.key
        log = self._storms.get(key)
        if log is None:
            log = self._storms[key] = deque(maxlen=policy.alert_count)
        oldest = log[0] if len(log) == policy.alert_count else None
        log.append(at)
        return oldest is not None and oldest > at - policy.alert_window * _SECOND
