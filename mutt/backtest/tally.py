"""Tally: what a back-test counts, and what it tells in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from mutt.alert import signature
from mutt.backtest.compare import Judge, Judged, Kind
from mutt.event import Event, State
from mutt.rules.evaluate import Ruleset
from mutt.rules.noise import Replay
from mutt.rules.rule import Verdict
from mutt.store.past import Rows

#: Rows shown of each kind of change, kinds of change, hosts; characters of a message.
SAMPLES, KINDS, HOSTS, TEXT = 10, 200, 20, 300

_HOUR, _MINUTE = len("2026-11-28 22"), len("2026-11-28 22:05")


class Sample(msgspec.Struct, frozen=True):
    """One event that is decided otherwise."""

    event_id: str
    received_at: str
    hostname: str
    message: str


class Change(msgspec.Struct):
    """Events that one decision is taken from and another is given to."""

    old: Kind
    new: Kind
    events: int = 0
    samples: list[Sample] = []


class Hour(msgspec.Struct):
    """One hour (UTC)."""

    events: int = 0
    old_alerts: int = 0  #: raises that rules forward, before noise control
    new_alerts: int = 0
    changed: int = 0
    old_requests: int = 0  #: what Moog gets: raises that nothing holds, and the clears that end them
    new_requests: int = 0


class Affected(msgspec.Struct):
    """One host's changes."""

    hostname: str
    matched: int = 0  #: newly matched by the draft
    lost: int = 0  #: no longer matched
    other: int = 0

    @property
    def changes(self) -> int:
        return self.matched + self.lost + self.other


class Peak(msgspec.Struct, frozen=True):
    """The most requests within an hour, or a minute, and what the budget has for one."""

    at: str = ""
    requests: int = 0
    budget: float = 0.0

    @property
    def share(self) -> float:
        """Of the budget; above 1: alerts have to wait."""
        return self.requests / self.budget if self.budget else 0.0


class Result(msgspec.Struct, kw_only=True):
    """What a back-test tells."""

    events: int  #: looked at
    bare: int  #: of them, those with nothing but their columns: nothing else is told of them, or was not kept yet
    matched: int  #: by a rule of the draft, which decides
    matched_before: int
    newly: int  #: matched by a rule of the draft that none of them matched before
    no_longer: int
    changed: int  #: decided otherwise, in rule, handling, team or severity
    old_alerts: int
    new_alerts: int
    old_requests: int
    new_requests: int
    old_held: dict[str, int]  #: by what noise control gives as its reason
    new_held: dict[str, int]
    old_peak_hour: Peak
    new_peak_hour: Peak
    old_peak_minute: Peak
    new_peak_minute: Peak
    changes: list[Change]
    kinds: int  #: of changes there are, of which the most frequent are listed
    hours: dict[str, Hour]
    hosts: list[Affected]
    names: dict[int, str]  #: of the rules that the changes name
    base_version: int
    note: str = ""  #: what its reader has to know of where it read


class Side:
    """What would have gone to Moog under one ruleset. A clear follows its raise: of one that was held, it is, too."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._noise = Replay(ruleset)
        self._open: dict[
            tuple[str, str], tuple[str, bool]
        ] = {}  #: of hosts and keys: the raise, and was it sent?
        self.minutes: Counter[str] = Counter()
        self.held: Counter[str] = Counter()

    def take(self, minute: str, event: Event, verdict: Verdict) -> None:
        """One event, in the order of ``received_at``."""
        if event.state is State.CLEAR:
            self._clear(minute, event, verdict)
        elif verdict.forward:
            signature = signature_of(event, verdict)
            held = self._noise.decide(event, verdict, signature) or verdict.held
            if held:
                self.held[held.partition(":")[0]] += 1
            else:
                self.minutes[minute] += 1
            if event.clear_key:
                self._open[event.hostname, event.clear_key] = signature, not held

    def _clear(self, minute: str, event: Event, verdict: Verdict) -> None:
        signature, sent = self._open.pop((event.hostname, event.clear_key or ""), ("", False))
        if signature and not self._noise.decide(event, verdict, signature) and sent:
            self.minutes[minute] += 1

    def hours(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for minute, requests in self.minutes.items():
            found[minute[:_HOUR]] += requests
        return found


def signature_of(event: Event, verdict: Verdict) -> str:
    """The signature that the event's alert has (:func:`mutt.alert.from_verdict`)."""
    named = event.template if verdict.rule_id is None else f"rule-{verdict.rule_id}"
    return signature(event.hostname, named, event.instance)


class Slice:
    """What one slice of time counts: it is added to the rest once the slice is read to its end."""

    def __init__(self, judge: Judge, drafted: frozenset[int], kept: frozenset[str]) -> None:
        self._judge, self._drafted, self._kept = judge, drafted, kept
        self.events = self.bare = self.matched = self.matched_before = self.newly = self.no_longer = 0
        self.changed = 0
        self.hours: Counter[str] = Counter()
        self.of_hour: dict[str, Hour] = {}
        self.changes: dict[tuple[Kind, Kind], Change] = {}
        self.hosts: dict[str, Affected] = {}
        self.alerting: list[tuple[str, str, Judged]] = []  #: for noise control, which needs their order

    def add(self, rows: Rows, touched: set[int]) -> None:
        """Count rows, of which those that are ``touched`` have to be judged anew."""
        self.events += len(rows.message)
        self.bare += rows.context.count("")
        self.hours.update([at[:_HOUR] for at in rows.received_at])
        if self._kept:
            kept = self._kept
            untouched = sum(rule in kept for rule in rows.rule_id)
            untouched -= sum(rows.rule_id[index] in kept for index in touched)
            self.matched += untouched
            self.matched_before += untouched
        for one in self._judge.judged(rows, touched):
            self._judged(rows, one, one.row in touched)

    def _judged(self, rows: Rows, one: Judged, touched: bool) -> None:
        index, event, old, new = one
        at = rows.received_at[index]
        if event.state is State.CLEAR or old.forward or new.forward:
            self.alerting.append((at, rows.event_id[index], one))
            if event.state is State.RAISE:
                hour = self.of_hour.setdefault(at[:_HOUR], Hour())
                hour.old_alerts += old.forward
                hour.new_alerts += new.forward
        if not touched:
            return
        before, after = old.rule_id in self._drafted, new.rule_id in self._drafted
        self.matched_before += before
        self.matched += after
        newly, lost = after and not before, before and not after
        self.newly += newly
        self.no_longer += lost
        kinds = self._judge.kind(old), self._judge.kind(new)
        if kinds[0] == kinds[1]:
            return
        self.changed += 1
        self.of_hour.setdefault(at[:_HOUR], Hour()).changed += 1
        host = self.hosts.setdefault(event.hostname, Affected(event.hostname))
        host.matched += newly
        host.lost += lost
        host.other += not (newly or lost)
        change = self.changes.setdefault(kinds, Change(*kinds))
        change.events += 1
        if len(change.samples) < SAMPLES:
            change.samples.append(Sample(rows.event_id[index], at, event.hostname, event.message[:TEXT]))


class Tally:
    """Everything that is counted so far."""

    def __init__(self, judge: Judge, drafted: frozenset[int]) -> None:
        self._judge, self._drafted = judge, drafted
        self._sides = Side(judge.base), Side(judge.draft)
        self._sums: Counter[str] = Counter()
        self._hours: dict[str, Hour] = {}
        self._changes: dict[tuple[Kind, Kind], Change] = {}
        self._hosts: dict[str, Affected] = {}

    @property
    def events(self) -> int:
        return self._sums["events"]

    def slice(self, kept: Iterable[int]) -> Slice:
        """An empty one; ``kept`` are the rules that decide the same in both."""
        return Slice(self._judge, self._drafted, frozenset(str(one) for one in kept if one in self._drafted))

    def add(self, part: Slice) -> None:
        """Slices come in the order of time."""
        for name in ("events", "bare", "matched", "matched_before", "newly", "no_longer", "changed"):
            self._sums[name] += getattr(part, name)
        for at, events in part.hours.items():
            self._hours.setdefault(at, Hour()).events += events
        for at, counted in part.of_hour.items():
            hour = self._hours.setdefault(at, Hour())
            hour.old_alerts += counted.old_alerts
            hour.new_alerts += counted.new_alerts
            hour.changed += counted.changed
        for kinds, change in part.changes.items():
            mine = self._changes.setdefault(kinds, Change(*kinds))
            mine.events += change.events
            mine.samples = (mine.samples + change.samples)[:SAMPLES]
        for name, host in part.hosts.items():
            ours = self._hosts.setdefault(name, Affected(name))
            ours.matched += host.matched
            ours.lost += host.lost
            ours.other += host.other
        part.alerting.sort(key=lambda one: one[:2])
        for at, _, (_, event, old, new) in part.alerting:
            for side, verdict in zip(self._sides, (old, new), strict=True):
                side.take(at[:_MINUTE], event, verdict)

    def result(self, budget_a_second: float, note: str = "") -> Result:
        """What is told in the end. ``budget_a_second``: requests that Moog's budget has for a second."""
        names = ("events", "bare", "matched", "matched_before", "newly", "no_longer", "changed")
        sums: dict[str, Any] = {name: self._sums[name] for name in names}
        old, new = self._sides
        for side, name in ((old, "old_requests"), (new, "new_requests")):
            for at, requests in side.hours().items():
                setattr(self._hours.setdefault(at, Hour()), name, requests)
        changes = sorted(
            self._changes.values(), key=lambda change: (-change.events, str(change.old), str(change.new))
        )
        hosts = sorted(self._hosts.values(), key=lambda host: (-host.changes, host.hostname))
        hours = dict(sorted(self._hours.items()))
        an_hour, a_minute = budget_a_second * 3600, budget_a_second * 60
        return Result(
            **sums,
            old_alerts=sum(hour.old_alerts for hour in hours.values()),
            new_alerts=sum(hour.new_alerts for hour in hours.values()),
            old_requests=old.minutes.total(),
            new_requests=new.minutes.total(),
            old_held=dict(old.held),
            new_held=dict(new.held),
            old_peak_hour=_peak(old.hours(), an_hour),
            new_peak_hour=_peak(new.hours(), an_hour),
            old_peak_minute=_peak(old.minutes, a_minute),
            new_peak_minute=_peak(new.minutes, a_minute),
            changes=changes[:KINDS],
            kinds=len(changes),
            hours=hours,
            hosts=hosts[:HOSTS],
            names=self._names(changes[:KINDS]),
            base_version=self._judge.base.version,
            note=note,
        )

    def _names(self, changes: Iterable[Change]) -> dict[int, str]:
        found: dict[int, str] = {}
        for change in changes:
            for kind, ruleset in ((change.old, self._judge.base), (change.new, self._judge.draft)):
                if kind.rule_id is not None:
                    found.setdefault(kind.rule_id, ruleset.rule_name(kind.rule_id))
        return found


def _peak(counted: Counter[str], budget: float) -> Peak:
    at, requests = max(counted.items(), key=lambda one: (one[1], one[0]), default=("", 0))
    return Peak(at, requests, budget)
