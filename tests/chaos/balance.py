"""The balance of one scenario: the senders' own list held against PostgreSQL, the dead letters and Moog."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from mutt.cli.ledger import observe
from mutt.errors import MuttError
from mutt.moogsim.book import most_in_window
from tests.chaos.load import Sent
from tests.chaos.site import LIMIT, Site

#: Seconds in which everything must have come to rest.
PATIENCE = 180.0

#: Events of one host and text that no rule handles, of which so many in a day are an alert (the default).
UNHANDLED = 100

#: What a sender may get from ingest, whatever is broken; 0: no answer. No key has a quota here, so no 429.
ANSWERS = frozenset({0, 202, 503})

#: Seconds in which a 503 must have come: one that MUTT promises, and what the way and a machine under load take.
SOON = 1.5

_MARK = re.compile(r"\[(c\d+\.\d+)\]")


@dataclasses.dataclass
class Found:
    """What became of one scenario's events and alerts."""

    fault: str
    accepted: int = 0
    audited: int = 0
    parked: int = 0  #: events and alerts in a dead-letter queue
    lost: int = 0
    double: int = 0
    over: int = 0  #: requests beyond the budget in the fullest window
    alerts: int = 0
    at_moog_again: int = 0  #: alerts that Moog took once more, under the signature that PostgreSQL has
    refused: int = 0  #: requests without a 2xx
    rest_s: float = 0.0  #: from the mend, or the load's end where that was later, until nothing was under way
    why: str = ""  #: what was not as it must be, in words

    @property
    def good(self) -> bool:
        return not (self.lost or self.double or self.over or self.why)


class NotAtRest(Exception):
    """The books did not come to rest; says how they stand."""


def rest(site: Site, since: float) -> float:
    """Wait until nothing is under way and the books balance; seconds from ``since``. Raises :class:`NotAtRest`."""
    deadline, said = since + PATIENCE, "nothing could be asked"
    while time.monotonic() < deadline:
        try:
            report, why = observe(site.services, deep=False)
            said = why or f"{report.state}: {report.events} {report.alerts} {report.disagree}"
            if report.at_rest and report.balanced and report.postgres and not report.alerts["waiting"]:
                return time.monotonic() - since
        except (redis.RedisError, MuttError) as error:
            said = f"{type(error).__name__}: {error}"
        time.sleep(0.1)
    raise NotAtRest(f"not at rest after {PATIENCE:g} s: {said}")


@dataclasses.dataclass(frozen=True)
class Raised:
    """An alert as PostgreSQL has it."""

    alert_id: str
    event_id: str
    status: str
    signature: str
    mark: str = ""  #: of its event; MUTT's own have none
    hostname: str = ""
    state: str = "raise"
    reason: str = ""
    cleared_by: str | None = None
    written: str = ""  #: its event's request and the transaction: what of these is the same goes in its order
    item: int = 0  #: its event's place in the request


@dataclasses.dataclass(frozen=True)
class Taken:
    """An event that Moog took."""

    event_id: str
    signature: str
    at: float


@dataclasses.dataclass
class Standing:
    """What stands where, of one scenario."""

    rows: list[str] = dataclasses.field(default_factory=list)  #: marks of audit rows
    letters: list[tuple[str, str]] = dataclasses.field(default_factory=list)  #: dead letters: (mark, reason)
    alerts: list[Raised] = dataclasses.field(default_factory=list)
    taken: list[Taken] = dataclasses.field(default_factory=list)  #: in the order in which Moog took them
    silent: list[str] = dataclasses.field(
        default_factory=list
    )  #: marks of rows that a rule forwards, without an alert


def judge(
    site: Site,
    scenario: int,
    fault: str,
    sent: Sent,
    span: tuple[float, float],
    *,
    way: bool = False,
    slow: bool = False,
) -> Found:
    """Hold what the senders know against what stands. ``span``: the scenario on the monotonic clock; ``way``: the way
    to Moog was slowed, ``slow``: answers of ingest may have come late."""
    received = site.moog_says("/received", limit=20_000)
    found = weigh(fault, sent, standing(site, f"chaos-{scenario}-", received))
    found.over, by = over_budget(site, span, received, way=way)
    found.why = ". ".join(filter(None, (found.why, *answers(sent, slow=slow), by)))
    return found


def answers(sent: Sent, *, slow: bool = False) -> list[str]:
    """What was not as it must be in ingest's answers, in words."""
    wrong = [
        f"ingest answered {status} to {n} requests"
        for status, n in sorted(sent.statuses.items())
        if status not in ANSWERS
    ]
    if sent.bare:
        wrong.append(f"{sent.bare} 503s without a Retry-After")
    if sent.slowest > SOON and not slow:
        wrong.append(f"a 503 took {sent.slowest:.1f} s")
    return wrong


def weigh(fault: str, sent: Sent, there: Standing) -> Found:
    """The verdict on what stands: nothing lost, twice, parked (for no poison was sent) or out of order."""
    rows, parked = Counter(there.rows), Counter(mark for mark, _ in there.letters)
    found = Found(fault, accepted=len(sent.accepted), refused=sent.refused, parked=len(there.letters))
    found.audited = sum(rows[mark] > 0 for mark in sent.accepted)
    found.lost = sum(not rows[mark] and not parked[mark] for mark in sent.accepted)
    found.double = sum(n - 1 for n in (rows + parked).values() if n > 1)
    why = []
    strangers = set(rows) - sent.accepted - sent.perhaps
    if strangers:
        why.append(f"{len(strangers)} rows of events that nobody sent, {min(strangers)} among them")
    _weigh_alerts(there, found)
    why += _fates(sent, there, rows, found)
    if found.parked:
        reasons = Counter(reason for _, reason in there.letters)
        reasons.update(alert.reason for alert in there.alerts if alert.status == "parked")
        told = ", ".join(f"{reason or 'no reason'} ({n})" for reason, n in reasons.most_common())
        why.append(f"{found.parked} parked, and no poison was sent: {told}")
    if late := _out_of_order(there):
        why.append(
            f"{len(late)} alerts came to Moog before one of their signature that they follow: {late[0]}"
        )
    found.why = ". ".join(why)
    return found


def _weigh_alerts(there: Standing, found: Found) -> None:
    """Each event that a rule forwards has one alert, and each alert is at Moog, under its signature alone; or it came
    and went before Moog had it."""
    found.alerts = len(there.alerts)
    found.double += found.alerts - len({alert.mark or alert.event_id for alert in there.alerts})
    taken = Counter((one.event_id, one.signature) for one in there.taken)
    stored = {(alert.event_id, alert.signature) for alert in there.alerts}
    found.at_moog_again = sum(taken[key] - 1 for key in stored if taken[key])
    found.double += sum(n for key, n in taken.items() if key not in stored)  # does not fold
    found.parked += sum(alert.status == "parked" for alert in there.alerts)
    needless = _needless(there, taken)
    for alert in there.alerts:
        at_moog = taken[alert.event_id, alert.signature] > 0
        there_or_not = alert.status == "parked" or alert.alert_id in needless
        found.lost += not (at_moog if alert.status == "delivered" else there_or_not)


def _needless(there: Standing, taken: Counter[tuple[str, str]]) -> set[str]:
    """Clears, and the raises that they end, of which Moog got none: they were cancelled together."""
    cancelled = {
        alert.alert_id
        for alert in there.alerts
        if (alert.status, alert.reason) == ("cancelled", "cleared")
        and not taken[alert.event_id, alert.signature]
    }
    ended: dict[str, set[str]] = {}
    for alert in there.alerts:
        if alert.cleared_by:
            ended.setdefault(alert.cleared_by, {alert.cleared_by}).add(alert.alert_id)
    return {one for ids in ended.values() if ids <= cancelled for one in ids}


def _fates(sent: Sent, there: Standing, rows: Counter[str], found: Found) -> list[str]:
    """Each audited event has the alert that its sender knows of, or none; what is not so, in words."""
    by_mark: dict[str, list[Raised]] = {}
    for alert in there.alerts:
        if alert.mark:
            by_mark.setdefault(alert.mark, []).append(alert)
    why = []
    audited = {mark for mark in sent.accepted if rows[mark]}
    missing = sorted(mark for mark in audited & {*sent.raises, *sent.ends} if mark not in by_mark)
    missing += sorted(mark for mark in there.silent if mark not in sent.accepted)
    found.lost += len(missing)
    if missing:
        why.append(f"{len(missing)} alerts missing, {missing[0]}'s among them")
    needless = sorted(set(by_mark) - sent.raises - set(sent.ends))
    found.double += len(needless)
    if needless:
        why.append(f"{len(needless)} alerts of events that make none, {needless[0]}'s among them")
    wrong = [mark for mark, raised in sent.ends.items() if not _ends(by_mark.get(mark), by_mark.get(raised))]
    if wrong:
        why.append(f"{len(wrong)} clears that do not end their raise, {wrong[0]} among them")
    return why + _metas(sent, there, audited, found)


def _ends(clears: list[Raised] | None, raises: list[Raised] | None) -> bool:
    """Does the clear, if it has an alert, end its raise, under the raise's signature?"""
    if not clears:
        return True
    ends = clears[0].state, clears[0].signature, clears[0].alert_id
    return bool(raises) and ends == ("clear", raises[0].signature, raises[0].cleared_by)


def _metas(sent: Sent, there: Standing, audited: set[str], found: Found) -> list[str]:
    """The alerts for many events that no rule handles: one for each host and text of which enough came."""
    surely = Counter(what for mark, what in sent.unhandled.items() if mark in audited)
    perhaps = surely + Counter(what for mark, what in sent.unhandled.items() if mark in sent.perhaps)
    least = Counter(host for (host, _), n in surely.items() if n >= UNHANDLED)
    most = Counter(host for (host, _), n in perhaps.items() if n >= UNHANDLED)
    there_are = Counter(alert.hostname for alert in there.alerts if not alert.mark)
    lost, double = (least - there_are).total(), (there_are - most).total()
    found.lost, found.double = found.lost + lost, found.double + double
    told = (lost, "missing"), (double, "too many")
    return [f"{n} alerts of events that no rule handles {what}" for n, what in told if n]


def _out_of_order(there: Standing) -> list[str]:
    """Alerts that Moog took first before one that they follow: a clear its raise, and an event of the same request.

    Long requests may be in two entries, which two workers evaluate: what one transaction wrote is compared.
    """
    first: dict[tuple[str, str], float] = {}
    for one in there.taken:
        first.setdefault((one.event_id, one.signature), one.at)
    at = {alert.alert_id: first.get((alert.event_id, alert.signature)) for alert in there.alerts}
    follows = [(alert.alert_id, alert.cleared_by) for alert in there.alerts if alert.cleared_by]
    requests: dict[tuple[str, str], list[Raised]] = {}
    for alert in there.alerts:
        if alert.written:
            requests.setdefault((alert.written, alert.signature), []).append(alert)
    for alerts in requests.values():
        ids = [alert.alert_id for alert in sorted(alerts, key=lambda alert: alert.item)]
        follows += itertools.pairwise(ids)
    return [f"{b} before {a}" for a, b in follows if (x := at.get(a)) and (y := at.get(b)) and y < x]


def standing(site: Site, hosts: str, received: Sequence[dict[str, Any]] | None = None) -> Standing:
    """What stands of the hosts whose names begin like this. ``received``: what came to Moog, if known."""
    there, like = Standing(), hosts + "%"
    wanted = hosts.replace("chaos-", "c").replace("-", ".")
    query = "SELECT message FROM event_audit_log WHERE hostname LIKE %s AND source <> 'mutt'"
    there.rows = [mark for (text,) in site.ask(query, like) for mark in _MARK.findall(text)[-1:]]
    there.letters = [(mark, why) for mark, why in _letters(site) if not mark or mark.startswith(wanted)]
    there.alerts = [
        Raised(*row[:4], *_MARK.findall(row[4])[-1:] or [""], *row[5:]) for row in site.ask(_ALERTS, like)
    ]
    there.silent = [mark for (text,) in site.ask(_SILENT, like) for mark in _MARK.findall(text)[-1:]]
    there.taken = sorted(
        (
            Taken(one["came"]["event_id"], one["came"]["signature"], one["at"])
            for one in (site.moog_says("/received") if received is None else received)
            if one["taken"] and one["came"]["source"].startswith(hosts)
        ),
        key=lambda one: one.at,
    )
    return there


_ALERTS = (
    "SELECT a.alert_id::text, a.event_id::text, a.status, a.signature, a.description, a.hostname, a.state,"
    " a.reason, a.cleared_by::text, coalesce(e.batch_id || ' ' || a.created_at, ''), coalesce(e.item, 0) FROM alerts a"
    " LEFT JOIN event_audit_log e ON e.event_id = a.event_id AND e.received_at = a.received_at"
    " WHERE a.hostname LIKE %s"
)
_SILENT = (
    "SELECT message FROM event_audit_log e WHERE hostname LIKE %s AND matched_rule_id IS NOT NULL"
    " AND handling <> 'Ignore'"
    " AND NOT EXISTS (SELECT 1 FROM alerts a WHERE a.event_id = e.event_id)"
)


def _letters(site: Site) -> Iterable[tuple[str, str]]:
    """Every dead letter's marks, each with its reason. Letters whose alert says itself that it is parked are none."""
    for queue in ("alerts", "moog"):
        for letter in site.services.letters.listed(queue, payload=True):
            if queue == "moog" and not letter.is_outcome and isinstance(letter.payload, dict):
                continue
            for mark in sorted(set(_MARK.findall(str(letter.payload)))) or [""]:
                yield mark, letter.reason


def over_budget(
    site: Site, span: tuple[float, float], received: Sequence[dict[str, Any]], *, way: bool
) -> tuple[int, str]:
    """Requests beyond the limit, and by which clock: by the forwarders' first bytes over the period; by the simulator's
    first reads over the period less 10 ms, unless the way there was made slow. Then the first bytes are all that there
    is to go by: each request that came must be among them."""

    def within(times: Iterable[float]) -> list[float]:
        return sorted(at for at in times if span[0] <= at <= span[1])

    reads = within({one["request"]: one["at"] for one in received}.values())
    first = within(site.first_bytes())
    if way:
        deadline = time.monotonic() + 5
        while len(first) < len(reads) and time.monotonic() < deadline:  # a turn is logged when it has ended
            time.sleep(0.1)
            first = within(site.first_bytes())
    by = {"the forwarders' first bytes": most_in_window(first, 1.0)}
    if not way:
        by["the simulator's first reads"] = most_in_window(reads, 0.990)
    over = {clock: n - LIMIT for clock, n in by.items() if n > LIMIT}
    told = [f"{n} over by {clock}" for clock, n in over.items()]
    if way and len(first) < len(reads):
        told.append(
            f"the forwarders told of {len(first)} first bytes, and {len(reads)} requests came to Moog"
        )
    return max(over.values(), default=0), ", ".join(told)
