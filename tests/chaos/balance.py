"""The balance of one scenario: the senders' own list held against PostgreSQL, the dead letters and Moog."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable

import redis

from mutt import codec, names
from mutt.cli.ledger import observe
from mutt.errors import MuttError
from mutt.event import Envelope
from mutt.moogsim.book import most_in_window
from mutt.streams.books import entries
from tests.chaos.load import Sent
from tests.chaos.site import LIMIT, Site

#: Seconds in which everything must have come to rest.
PATIENCE = 180.0

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
    at_moog_again: int = 0  #: alerts that Moog took once more, under the same signature
    refused: int = 0  #: requests without a 2xx
    recovered_s: float = 0.0
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


def judge(
    site: Site, scenario: int, fault: str, sent: Sent, span: tuple[float, float], *, way: bool
) -> Found:
    """Hold what the senders know against what stands. ``span``: the scenario on the monotonic clock."""
    hosts = f"chaos-{scenario}-%"
    rows = Counter(_marks(row[0] for row in _rows(site, hosts)))
    parked = Counter(_marks(_parked(site)))
    found = Found(fault, accepted=len(sent.accepted), refused=sent.refused)
    found.audited = sum(rows[mark] > 0 for mark in sent.accepted)
    found.lost = sum(not rows[mark] and not parked[mark] for mark in sent.accepted)
    found.double = sum(n - 1 for n in rows.values() if n > 1)
    strangers = set(rows) - sent.accepted - sent.perhaps
    if strangers:
        found.why = f"{len(strangers)} rows of events that nobody sent, {min(strangers)} among them"
    _alerts(site, hosts, found)
    found.parked += sum(parked[mark] for mark in sent.accepted)
    found.over, by = over_budget(site, span, way=way)
    found.why = ". ".join(filter(None, (found.why, by)))
    return found


def _marks(texts: Iterable[str]) -> Iterable[str]:
    return itertools.chain.from_iterable(_MARK.findall(text)[-1:] for text in texts)


def _rows(site: Site, hosts: str) -> list[tuple[str]]:
    return site.ask("SELECT message FROM event_audit_log WHERE hostname LIKE %s AND source <> 'mutt'", hosts)


def _parked(site: Site) -> Iterable[str]:
    for _, fields in entries(site.redis, names.DLQ_ALERTS):
        for segment in codec.decode(Envelope, fields).segments:
            yield from (event.message for event in segment.events)


def _alerts(site: Site, hosts: str, found: Found) -> None:
    """Each event that a rule forwards has one alert, and each delivered alert is at Moog."""
    alerts = site.ask("SELECT event_id::text, status FROM alerts WHERE hostname LIKE %s", hosts)
    found.alerts = len(alerts)
    found.double += len(alerts) - len({event_id for event_id, _ in alerts})
    silent = site.ask(
        "SELECT count(*) FROM event_audit_log e WHERE hostname LIKE %s AND matched_rule_id IS NOT NULL"
        " AND handling <> 'Ignore' AND NOT EXISTS (SELECT 1 FROM alerts a WHERE a.event_id = e.event_id)",
        hosts,
    )
    found.lost += silent[0][0]
    taken = Counter(
        one["came"]["event_id"]
        for one in site.moog_says("/received", limit=20_000)
        if one["taken"] and one["came"]["source"].startswith(hosts.rstrip("%"))
    )
    found.at_moog_again = sum(n - 1 for n in taken.values())
    found.parked += sum(status == "parked" for _, status in alerts)
    missing = [event_id for event_id, status in alerts if status == "delivered" and not taken[event_id]]
    other = [status for _, status in alerts if status not in ("delivered", "parked")]
    found.lost += len(missing) + len(other)


def over_budget(site: Site, span: tuple[float, float], *, way: bool) -> tuple[int, str]:
    """Requests beyond the limit, and by which clock: by the forwarders' first bytes over the period; by the simulator's
    first reads over the period less 10 ms, unless the way there was made slow."""

    def most(times: Iterable[float], window: float) -> int:
        return most_in_window(sorted(at for at in times if span[0] <= at <= span[1]), window)

    by = {"the forwarders' first bytes": most(site.first_bytes(), 1.0)}
    if not way:
        reads = {one["request"]: one["at"] for one in site.moog_says("/received", limit=20_000)}
        by["the simulator's first reads"] = most(reads.values(), 0.990)
    over = {clock: n - LIMIT for clock, n in by.items() if n > LIMIT}
    return max(over.values(), default=0), ", ".join(f"{n} over by {clock}" for clock, n in over.items())
