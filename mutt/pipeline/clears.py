"""Clears: raises and clears of one take find each other, and those that other takes wrote."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from mutt.alert import Alert, clearing, from_verdict
from mutt.event import Event, State
from mutt.pipeline.ports import Key, Transaction
from mutt.pipeline.work import Item
from mutt.rules.evaluate import Ruleset
from mutt.rules.noise import Limits, limits

#: A host and what a clear there has in common with its raise.
Pair = tuple[str, str]


class Clears:
    """Raises and clears of one take find each other, and those that other takes wrote. In the order of their events."""

    def __init__(self, tx: Transaction, ruleset: Ruleset, keyed: Iterable[Item]) -> None:
        self._tx, self._ruleset = tx, ruleset
        self._newest: dict[Pair, Alert | None] = {}
        self._raises_at: dict[Pair, list[datetime]] = defaultdict(list)
        for item in keyed:
            if is_raise(item):
                self._raises_at[pair_of(item.event)].append(item.event.received_at)
        self.cleared: list[tuple[UUID, UUID]] = []  #: (raised, its clear)

    def alerts(self, item: Item) -> list[Alert]:
        if item.event.state is State.CLEAR:
            return self._clear(item)
        if not is_raise(item):
            return []
        alert = alert_of(item, self._ruleset)
        return [alert, *self._late(alert)] if alert.clear_key else [alert]

    def _clear(self, item: Item) -> list[Alert]:
        event = item.event
        if not event.clear_key:
            return []
        pair = pair_of(event)
        raised = (
            self._newest[pair] if pair in self._newest else self._tx.newest_open(*pair, event.received_at)
        )
        self._newest[pair] = None
        # Also where it ended one: an older raise may be in a dead worker's hands, and is evaluated after it.
        self._tx.keep_clear(event, item.correlation_id)
        if raised is None:
            return []
        return [
            self._end(raised, clearing(event, raised, correlation_id=item.correlation_id, trace=item.trace))
        ]

    def _late(self, raised: Alert) -> list[Alert]:
        """The clear that was evaluated before this raise, though it came after it, if there is one."""
        pair = raised.hostname, raised.clear_key or ""
        self._newest[pair] = raised
        late = self._tx.clear_after(*pair, raised.received_at)
        if late is None:
            return []
        if any(raised.received_at < at <= late[0].received_at for at in self._raises_at[pair]):
            return []  # it ends a later raise of this take, and this one with it
        self._newest[pair] = None
        return [self._end(raised, clearing(late[0], raised, correlation_id=late[1], late=True))]

    def _end(self, raised: Alert, cleared: Alert) -> Alert:
        self.cleared.append((raised.alert_id, cleared.alert_id))
        return cleared


def leads_of(tx: Transaction, alerts: Iterable[Alert]) -> Mapping[UUID, Sequence[Alert]]:
    """What has to stand before each of these clears: raises that were committed, here or elsewhere, and perhaps not
    settled yet. What stands already is not appended twice."""
    clears = [alert.alert_id for alert in alerts if alert.state is State.CLEAR]
    return tx.ended_by(clears) if clears else {}


def those_waiting(theirs: Mapping[Key, Sequence[tuple[Alert, bool]]]) -> list[Alert]:
    """Of the alerts that rows brought, those that still wait."""
    return [alert for ours in theirs.values() for alert, waits in ours if waits]


def pair_of(event: Event) -> Pair:
    return event.hostname, event.clear_key or ""


def is_raise(item: Item) -> bool:
    """Does it report a fault that Moog is to hear of?"""
    return item.verdict.forward and item.event.state is State.RAISE


def limits_of(
    ruleset: Ruleset, alerts: Iterable[tuple[Item, Alert]], leads: Mapping[UUID, Sequence[Alert]]
) -> dict[UUID, Limits]:
    """What may hold these alerts back, and those that have to stand before them; most have nothing."""
    found: dict[UUID, Limits] = {}
    # Of a lead the event's tags are not at hand, unless it is of this take.
    named = itertools.chain(
        ((alert, item.event.tags) for item, alert in alerts),
        ((lead, _NO_TAGS) for ours in leads.values() for lead in ours),
    )
    for alert, tags in named:
        if alert.alert_id not in found:
            bounds = limits(ruleset, alert.rule_id, alert.hostname, alert.team, alert.source, tags)
            if bounds is not None:
                found[alert.alert_id] = bounds
    return found


_NO_TAGS: Mapping[str, str] = {}


def alert_of(item: Item, ruleset: Ruleset) -> Alert:
    """The alert of an event that is one."""
    rule_id = item.verdict.rule_id
    name = item.event.program or "unhandled" if rule_id is None else ruleset.rule_name(rule_id)
    return from_verdict(
        item.event, item.verdict, correlation_id=item.correlation_id, rule_name=name, trace=item.trace
    )
