"""What the clocks, the queues, the books and the breaker mean. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mutt.balance import Report
from mutt.doctor.finding import Finding, bad, ok, warn
from mutt.grant import Grant
from mutt.store.spill import Standing
from mutt.streams.books import Depth
from mutt.words import age, many

#: Seconds that two clocks may differ.
SKEW = 1.0

#: Seconds that a queue's oldest entry may wait: longer, and nobody works it, or too few do.
OLD = 60.0

#: So many doorbells of one queue wait only where no worker takes them: one rings for all that waits.
DOORBELLS = 100

#: From this share of INGEST_SPILL_BYTES on somebody has to act.
SPILL_FULL_SOON = 0.8

#: Seconds before a key has no good text any more from which on somebody has to act.
EXPIRES_SOON = 7 * 86400.0

_WORKERS = {
    "ingest_queue": "alerts",
    "delivery_queue": "housekeeping",
    "alert_queue": "moog",
}


def clocks(skews: Mapping[str, float]) -> Iterator[Finding]:
    """Each server's clock against this host's: seconds it is ahead."""
    for server, skew in skews.items():
        what = f"clock of {server}"
        if abs(skew) > SKEW:
            says = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this host's"
            yield warn(what, says, "run chrony or ntpd on both")
        else:
            yield ok(what, f"within {SKEW:g} s of this host's")


def round_trip(seconds: float, slack: float, most: float) -> Finding:
    """How long Redis takes to write and answer, against how long a permit lives, and may at most (all in seconds)."""
    what, took = "Redis round trip", f"{seconds * 1000:.1f} ms with a write"
    if seconds >= most:
        says = f"{took}: permits to send run out before they can be used, so Moog is told nothing"
        return bad(what, says, "bring Redis nearer, or give its append-only file a quicker disk")
    if seconds >= slack:
        says = f"{took}: permits have to live longer, and less of Moog's limit is used"
        return warn(what, says, "bring Redis nearer, or give its append-only file a quicker disk")
    return ok(what, took)


def unhandled(kinds: int, most: int) -> Finding:
    """Kinds of events that no rule handles, seen within the window."""
    what = "unhandled events"
    if kinds > most:
        says = f"{kinds:,} kinds within the window; the first {most:,} are counted towards their alert"
        return warn(what, says, "see in the audit which host makes up words, and write a rule for it")
    return ok(what, many(kinds, "kind") + " within the window")


def queues(depths: Sequence[Depth]) -> Iterator[Finding]:
    """Whether what waits is worked, and whether something died."""
    for depth in depths:
        dead, what = depth.queue.startswith("dlq:"), f"queue {depth.queue}"
        if not depth.entries:
            yield ok(what, "empty")
        elif dead:
            yield warn(
                what,
                many(depth.entries, "dead letter"),
                f"see `mutt dlq show {depth.queue.removeprefix('dlq:')}`",
            )
        elif depth.oldest_s > OLD:
            yield warn(
                what, f"{_entries(depth)}, the oldest waits {depth.oldest_s:.0f} s", _more(depth.queue)
            )
        else:
            yield ok(what, f"{_entries(depth)}, the oldest waits {depth.oldest_s:.1f} s")


def _entries(depth: Depth) -> str:
    behind = f" and {many(depth.behind, 'alert')} behind them" if depth.behind else ""
    return many(depth.entries, "entry", "entries") + behind


def _more(queue: str) -> str:
    worker = f"`celery -A mutt worker -Q {_WORKERS[queue.partition(':')[0]]}`"
    if queue.startswith("alert_queue"):
        return f"see the breaker and the budget (`mutt queues`); if they are well, start {worker}"
    return f"start one more {worker}; see the log of those that run"


def doorbells(broker: str, waiting: Mapping[str, int]) -> Finding:
    """The broker that answers, and the doorbells that wait in its queues: few, where workers take them."""
    what = "broker"
    many_of = [queue for queue, count in waiting.items() if count >= DOORBELLS]
    if many_of:
        says = f"{broker}; doorbells of {', '.join(many_of)} pile up: nobody takes them"
        return warn(
            what, says, f"start `celery -A mutt worker -Q {many_of[0]}`; see the log of those that run"
        )
    return ok(what, f"{broker}, {many(sum(waiting.values()), 'doorbell')} waiting")


def spill(stands: Standing, *, on: bool, most: int) -> Finding:
    """What came in while Redis was away; ``most`` bytes may stand there."""
    what = "spill"
    if stands.set_aside:
        says = f"{many(stands.set_aside, 'round')} can't flow back: {stands.reason}"
        return bad(what, says, "mend that; they are tried again each minute")
    if stands.bytes >= most * SPILL_FULL_SOON:
        says = f"{_spilled(stands)}, {stands.bytes / most:.0%} of INGEST_SPILL_BYTES; at 100% ingest refuses"
        return bad(what, says, "bring Redis back, or raise INGEST_SPILL_BYTES")
    if stands.rounds:
        fix = "see Redis, INGEST_WAIT_REPLICAS, and that a worker serves -Q maintenance"
        return warn(what, _spilled(stands), fix)
    return ok(what, "empty" if on else "off: while Redis is away ingest refuses")


def _spilled(stands: Standing) -> str:
    rounds = many(stands.rounds, "row")
    return (
        f"{many(stands.events, 'event')} in {rounds} of ingest_spill, the oldest {age(stands.oldest_s)} old"
    )


def keys(good: Mapping[str, Grant], copied: Mapping[str, Grant] | None, now: float) -> Finding:
    """The API keys that are good, as PostgreSQL says, and as ingest reads them in Redis (None: there is no copy)."""
    what, remedy = "API keys", "see that a worker serves -Q maintenance: it copies them each minute"
    if copied is None:
        says = "Redis has no copy of them: whom it does not know, an ingest that begins now answers 503"
        return warn(what, says, remedy)
    if differ := sum(good.get(one) != copied.get(one) for one in {*good, *copied}):
        return warn(what, f"of {many(differ, 'key')} Redis does not say what PostgreSQL says", remedy)
    # A source that signs needs none.
    lasting = {one.name for one in good.values() if one.signing or not one.expired(now + EXPIRES_SOON)}
    if soon := sorted({grant.name for grant in good.values()} - lasting):
        named = ", ".join(soon[:5]) + (" and others" if len(soon) > 5 else "")
        return warn(what, f"within a week there is no good text of {named}", "`mutt keys rotate` it")
    return ok(what, f"{many(len(lasting), 'key')} beside INGEST_API_KEY; Redis has them")


def ledger(found: Report) -> Finding:
    """Whether the books balance, as `mutt ledger` says it."""
    if found.off_events or found.off_alerts:
        says = f"events are off by {found.off_events}, alerts by {found.off_alerts}"
        return bad("books", says, "see `mutt ledger --deep`; was Redis flushed, or restored from a copy?")
    if found.outcomes_parked:
        says = f"{many(found.outcomes_parked, 'note')} of what became of alerts could not be recorded"
        return bad("books", says, "mend what PostgreSQL refuses, then `mutt dlq replay moog`")
    if not found.balanced:
        differ = ", ".join(f"{name} {n:+d}" for name, n in found.disagree.items())
        return bad("books", f"PostgreSQL says otherwise than Redis: {differ}", "see `mutt ledger --deep`")
    if found.at_rest and found.postgres:
        return ok("books", "they balance, in Redis and in PostgreSQL")
    return ok("books", "the equations hold; PostgreSQL is compared when nothing moves")


def breaker(state: str, reason: str) -> Finding:
    """Moog's breaker: ``state`` as in Redis, '' where nothing was ever sent."""
    if state == "open":
        return bad(
            "Moog, breaker",
            f"open: {reason or 'too many failures'}",
            _REMEDY.get(reason, "see that Moog is up"),
        )
    if state == "half_open":
        return warn("Moog, breaker", "half open: the next request is a probe", "wait for its answer")
    return ok("Moog, breaker", "closed")


_REMEDY = {
    "auth": "MOOG_API_KEY (and MOOG_USER) are not what Moog knows",
    "config": "MOOG_URL and MOOG_DIALECT do not fit this Moog",
}
