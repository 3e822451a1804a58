"""What holds the pipeline up, by rules that know no server. Pure, total: any readings go in, and it never raises.

The order of TROUBLES is the order of the cure: PostgreSQL's writes before the workers that wait for them, Moog's limit
before the forwarders that it holds back. Each rule looks at the last minute, says with figures what it saw, and what
would not help. Limits are constants here, each with its reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from mutt.pulse.sample import GONE_AFTER, TROUBLES, Point, Queue, Sample, Trouble
from mutt.pulse.view import FOREVER, MOMENT, Flow, View, crew, lanes
from mutt.words import age, many

#: Ingest refuses from this share of maxmemory on (streams/bound.py); below the other one it is time to look.
FULL, FULL_SOON = 0.8, 0.7

#: Of a core. Redis has one for commands, a process of ingest has one for Python: what is above is waited for.
CORE, CORE_AGAIN = 0.85, 0.7

#: Seconds that events and alerts may wait before it is worth a word: drains and turns take about one.
LATE = 5.0

#: Seconds in which a backlog that shrinks is gone: it is being dealt with, and nobody has to do anything.
SOON_GONE = 600.0

#: Seconds after which somebody takes over what a dead worker held, and a little more: until then waiting is no news.
TAKEN_OVER = 75.0

#: Seconds that alerts wait although nothing keeps them: longer than retries after a failure here and there.
HELD_UP = 15.0

#: Of the workers' time. Below, more of them would find nothing to do.
BUSY, BUSY_AGAIN = 0.7, 0.5

#: Of a worker's busy time with PostgreSQL: above, more workers would wait there, too. A healthy one has about a third.
STORE, STORE_AGAIN = 0.6, 0.45

#: Milliseconds of a COMMIT: a disk that takes half a second for one write is at its end.
COMMIT_MS = 500.0

#: Milliseconds within which 99 % of the requests to ingest are to be answered (the SLO), and from which one with a
#: busy processor is worth a word.
INGEST_MS, INGEST_SLOW_MS = 500.0, 250.0

#: Of Moog's limit: what is left of the window between two grants makes it a little less than all.
LIMIT, LIMIT_AGAIN = 0.9, 0.7

#: Seconds that outcomes may wait to be written: nobody is held up by them.
RECORD_LATE = 30.0

#: Milliseconds of a page that people wait for.
PAGE_MS, PAGE_MS_AGAIN = 2000.0, 1000.0

#: Seconds that a pause has to go on for to be told: Moog's Retry-After of a moment is no outage.
PAUSED = 2.0

_WORKER = "celery -A mutt worker -Q "

#: What follows a server's name where it is not the first database.
_DATABASE = re.compile(r"/\d+$")


def judge(samples: Sequence[Sample], points: Sequence[Point]) -> list[Trouble]:
    """What is wrong, in the order of TROUBLES. ``samples`` are the last minute's, the oldest first; none: nothing."""
    if not samples:
        return []
    view = View(samples, points)
    found = (_RULES[name](view) for name in TROUBLES)
    return [trouble for trouble in found if trouble]


# ---- servers


def redis_away(view: View) -> Trouble | None:
    says = view.now.away.get("redis")
    if not says or not view.is_so(lambda one: "redis" in one.away):
        return None
    return Trouble(
        "redis-away",
        "Redis is away",
        f"{says}{_since(view, 'redis')}.",
        "Start it, or see why it does not answer. What was accepted is in its append-only file; until it is back ingest"
        " answers 503, or spills into PostgreSQL (INGEST_SPILL).",
        "mutt doctor",
    )


def redis_memory(view: View) -> Trouble | None:
    def share(sample: Sample) -> float | None:
        full = [one.memory / one.max_memory for one in sample.redis if one.max_memory]
        return max(full) if full else None

    if not view.lasts(share, FULL_SOON, FULL_SOON - 0.05):
        return None
    fullest = max(view.now.redis, key=lambda one: one.memory / max(1, one.max_memory), default=None)
    if fullest is None or not fullest.max_memory:
        return None
    refuses = fullest.memory >= FULL * fullest.max_memory
    used = f"{_size(fullest.memory)} of {_size(fullest.max_memory)} at {fullest.name}"
    backlog = many(view.now.events.get("queued", 0), "event")
    return Trouble(
        "redis-memory",
        "Redis is full: ingest refuses" if refuses else "Redis is filling up",
        f"{used}, {fullest.memory / fullest.max_memory:.0%}; ingest refuses from {FULL:.0%} on. {backlog} wait in it.",
        "Raise maxmemory if the machine has room, and see what holds up the queues: they drain all the same.",
        _set_maxmemory(fullest.name, fullest.memory),
        urgent=refuses,
    )


def postgres_away(view: View) -> Trouble | None:
    says = view.now.away.get("postgres")
    if not says or not view.is_so(lambda one: "postgres" in one.away):
        return None
    waits = many(view.now.events.get("queued", 0), "event")
    return Trouble(
        "postgres-away",
        "PostgreSQL is away",
        f"{says}{_since(view, 'postgres')}. {waits} wait in Redis until then; alerts that are queued still go to Moog.",
        "Start it, or see why it does not answer: its log, its disk, its connections. Ingest takes events meanwhile;"
        " more workers would not help.",
        "mutt doctor",
    )


# ---- nobody there


def ingest_away(view: View) -> Trouble | None:
    if _unknown(view) or view.events(MOMENT).into or not view.is_so(lambda one: not one.of_role("ingest")):
        return None
    return Trouble(
        "ingest-away",
        "No ingest runs",
        f"No process of ingest said anything for {GONE_AFTER:.0f} s, and no event came in.",
        "Start it: senders are turned away. Those that buffer send again.",
        "gunicorn -c python:mutt.web.gunicorn mutt.wsgi:ingest",
    )


def alerts_away(view: View) -> Trouble | None:
    queue = view.now.queue("ingest_queue")
    if view.events(MOMENT).out or not _abandoned(view, "alerts", [queue]):
        return None
    return Trouble(
        "alerts-away",
        "No alerts worker runs",
        f"{many(view.now.events.get('queued', 0), 'event')} wait, the oldest for {age(queue.oldest_s)}, and no worker"
        f" of -Q alerts said anything for {GONE_AFTER:.0f} s.",
        "Start one: it takes up the work within a second. If they should run, see why they ended in their log.",
        _WORKER + "alerts",
    )


def moog_away(view: View) -> Trouble | None:
    waiting = view.lanes()
    if view.alerts(MOMENT).out or not _abandoned(view, "moog", waiting):
        return None
    return Trouble(
        "moog-away",
        "No forwarder runs",
        f"{many(view.now.alerts.get('waiting', 0), 'alert')} wait, the oldest for {age(_oldest(waiting))}, and no"
        f" worker of -Q moog said anything for {GONE_AFTER:.0f} s.",
        "Start one: it takes up the work within a second. One is enough; a second one is for when the first dies.",
        _WORKER + "moog -P threads -c 32",
    )


def record_away(view: View) -> Trouble | None:
    queue = view.now.queue("delivery_queue")
    if not _abandoned(view, "housekeeping", [queue]):
        return None
    return Trouble(
        "record-away",
        "No housekeeping worker runs",
        f"{many(queue.entries, 'outcome')} wait to be written, the oldest for {age(queue.oldest_s)}, and no worker of"
        f" -Q housekeeping said anything for {GONE_AFTER:.0f} s.",
        "Start one. Alerts reach Moog without it; their status, the sweep and the audit's months need it.",
        _WORKER + "housekeeping,maintenance -P threads -c 2",
    )


# ---- Moog


def moog_outage(view: View) -> Trouble | None:
    if _unknown(view):
        return None
    moog, waiting = view.now.moog, view.now.alerts.get("waiting", 0)
    waits = f"{many(waiting, 'alert')} wait, the oldest for {age(_oldest(view.lanes()))}"
    more = "More forwarders will not help; nothing is lost, and it goes on by itself."
    if moog.breaker != "closed":
        title, do = _REFUSALS.get(moog.reason, ("Moog is away", "See whether Moog is up and can be reached."))
        again = f"; it is asked again in {age(moog.until - view.now.at)}" if moog.until > view.now.at else ""
        why = f"The breaker is {moog.breaker} ({moog.reason or 'failures'}){again}. {waits}."
        return Trouble("moog-outage", title, why, f"{do} {more}", "mutt doctor", urgent=waiting > 0)
    if view.is_so(lambda one: one.moog.paused_until - one.at > PAUSED):
        why = (
            f"It answered 429: everyone pauses for {age(max(0.0, moog.paused_until - view.now.at))}. {waits}."
        )
        do = f"Ask who runs Moog what limit it has, and set MOOG_RATE_LIMIT to it. {more}"
        return Trouble(
            "moog-outage", "Moog asked to be left alone", why, do, "mutt queues", urgent=waiting > 0
        )
    if waiting and not view.alerts(MOMENT).out and view.is_so(_all_slots_busy):
        why = f"All {view.crew('moog').slots} requests that can be open wait for an answer, and none comes. {waits}."
        do = f"See whether Moog is up and can be reached. {more}"
        return Trouble("moog-outage", "Moog does not answer", why, do, "mutt doctor")
    return None


_REFUSALS: Mapping[str, tuple[str, str]] = {
    "auth": (
        "Moog refuses our key",
        "MOOG_API_KEY (and MOOG_USER) are not what Moog knows: set those that it knows, and restart the forwarders.",
    ),
    "config": (
        "Moog's address is wrong",
        "MOOG_URL and MOOG_DIALECT do not fit this Moog: set them right, and restart the forwarders.",
    ),
    "redirect": ("Moog's address is wrong", "Moog answers with a redirect: set MOOG_URL to where it leads."),
    "certificate": (
        "Moog's certificate is not trusted",
        "Have Moog's certificate renewed, or name the CA that signed it in MOOG_CA.",
    ),
}


def _all_slots_busy(sample: Sample) -> bool:
    ours = crew(sample.of_role("moog"))
    return ours.slots > 0 and ours.busy >= LIMIT


# ---- who is too slow


def postgres_writes(view: View) -> Trouble | None:
    if view.lately_away("postgres"):
        return None
    store, ours = view.now.postgres, view.crew("alerts")
    slow = view.lasts(_store_share, STORE, STORE_AGAIN)
    commit = store.commit_ms if store else None
    took = f" A COMMIT takes {commit:.0f} ms." if commit is not None else " None of them came to its COMMIT."
    if slow and ours.busy >= BUSY_AGAIN and _is_behind(view):
        flow = view.events()
        stalled = not view.events(MOMENT).out
        return Trouble(
            "postgres-writes",
            "PostgreSQL takes no writes" if stalled else "PostgreSQL's writes are too slow",
            f"The alerts workers spend {ours.store_share:.0%} of their time waiting for PostgreSQL.{took}"
            f" {_backlog(view, flow)}.",
            "See what holds its writes up: locks (pg_stat_activity, wait_event_type), its disk, a long transaction, a"
            " full WAL. More workers would only wait there, too.",
            "mutt doctor",
        )
    if commit is not None and view.lasts(_commit_ms, COMMIT_MS, COMMIT_MS / 2):
        why = f"A COMMIT takes {commit:.0f} ms; work keeps up so far."
        do = "See PostgreSQL's disk: it is what bounds the whole."
        return Trouble(
            "postgres-writes", "PostgreSQL's writes are slow", why, do, "mutt doctor", urgent=False
        )
    return None


def _commit_ms(sample: Sample) -> float | None:
    return sample.postgres.commit_ms if sample.postgres else None


def _store_share(sample: Sample) -> float | None:
    ours = crew(sample.of_role("alerts"))
    return ours.store_share if ours.busy >= BUSY_AGAIN else 0.0


def redis_core(view: View) -> Trouble | None:
    if not view.lasts(lambda one: max((r.cpu for r in one.redis), default=None), CORE, CORE_AGAIN):
        return None
    busiest = max(view.now.redis, key=lambda one: one.cpu, default=None)
    if busiest is None:
        return None
    return Trouble(
        "redis-core",
        "Redis' one core is busy",
        f"{busiest.name} uses {busiest.cpu:.0%} of the core that it has for commands, at {busiest.commands:,.0f} of"
        " them a second.",
        "Send more events a request, put the broker on another Redis (BROKER_URL), or spread the streams over several"
        " (STREAM_URLS). More workers would make it busier.",
        "mutt queues",
    )


def alerts_behind(view: View) -> Trouble | None:
    ours, flow = view.crew("alerts"), view.events()
    if not ours.size or view.lately_away("postgres") or not _is_behind(view):
        return None
    if ours.busy >= BUSY and ours.store_share >= STORE:
        return None  # PostgreSQL's
    if ours.busy < BUSY_AGAIN and not view.events(MOMENT).out:
        return Trouble(
            "alerts-behind",
            "The alerts workers take no work",
            f"{many(ours.size, 'worker')} of -Q alerts run and are busy {ours.busy:.0%} of their time."
            f" {_backlog(view, flow)}.",
            "Their log has the outage that they met: rules that can't be read, a row that PostgreSQL refuses, a broker"
            " that is away. More workers would not help.",
            "mutt doctor",
        )
    wanted = max(ours.size + 1, math.ceil(ours.size * flow.into / max(flow.out, 1.0) * 1.2))
    where = " Not on this machine: its cores are taken." if ours.starved >= 0.5 else ""
    return Trouble(
        "alerts-behind",
        "Too few alerts workers",
        f"{many(ours.size, 'worker')} of -Q alerts are busy {ours.busy:.0%} of their time, and wait for PostgreSQL in"
        f" {ours.store_share:.0%} of that. {_backlog(view, flow)}.",
        f"Start more: about {min(wanted, 4 * ours.size)} in all would keep up with {flow.into:,.0f} events a"
        f" second.{where}",
        _WORKER + "alerts",
    )


def ingest_cpu(view: View) -> Trouble | None:
    def wants(sample: Sample) -> float | None:
        ours = sample.of_role("ingest")
        return crew(ours).wants if ours else None

    ours = view.crew("ingest")
    slow = (ours.p99_ms or 0.0) >= INGEST_SLOW_MS or ours.refused > 0 or ours.queued > 0
    if not view.lasts(wants, CORE, CORE_AGAIN) or not (ours.cpu >= CORE_AGAIN or slow):
        return None
    starved = f", and would use {ours.wants:.0%} if others left it to them" if ours.starved >= 0.2 else ""
    return Trouble(
        "ingest-cpu",
        "Ingest has no processor left",
        f"{many(ours.size, 'process', 'processes')} of ingest use {ours.cpu:.0%} of a core each{starved}."
        f" {_requests(view)}",
        "Start more of them, on a machine with free cores; or have senders put more events into a request.",
        "gunicorn -c python:mutt.web.gunicorn -w 2 mutt.wsgi:ingest",
        urgent=(ours.p99_ms or 0.0) >= INGEST_MS or ours.refused > 0,
    )


def ingest_latency(view: View) -> Trouble | None:
    ours = view.crew("ingest")
    slow = view.lasts(lambda one: crew(one.of_role("ingest")).p99_ms, INGEST_MS, INGEST_SLOW_MS)
    refuses = view.is_so(lambda one: crew(one.of_role("ingest")).refused > 0)
    if not ours.size or not (refuses or (slow and ours.p99_ms is not None)):
        return None
    return Trouble(
        "ingest-latency",
        "Ingest refuses requests" if refuses else "Ingest answers slowly",
        f"{_requests(view)} Its processes use {ours.cpu:.0%} of a core each, so it is not the processor alone.",
        "An answer waits for Redis to have the events in its file: see how long a write takes there (round trip), and"
        " how deep the queue is (INGEST_MAX_DEPTH). More processes of ingest would not help.",
        "mutt doctor",
    )


def _requests(view: View) -> str:
    ours = view.crew("ingest")
    parts = [f"99 % of requests are answered within {ours.p99_ms:.0f} ms"] if ours.p99_ms is not None else []
    if ours.refused >= 0.05:
        parts.append(f"{ours.refused:.1f} a second are refused")
    if ours.queued:
        parts.append(f"{ours.queued} wait for a thread")
    return ", ".join(parts) + "." if parts else "No request was answered."


def moog_limit(view: View) -> Trouble | None:
    moog, flow, rate = view.now.moog, view.alerts(), _limit(view.now)
    late = flow.depth >= LATE * rate or _oldest(view.lanes()) >= LATE
    if not moog.limit or not flow.depth or not late or moog.breaker != "closed":
        return None
    if not view.lasts(_limit_used, LIMIT, LIMIT_AGAIN):
        return None
    critical = view.now.queue("alert_queue:critical").oldest_s >= LATE
    return Trouble(
        "moog-limit",
        "Moog's limit holds alerts back",
        f"{moog.used} of {moog.limit} requests in {moog.period:g} s are used; {many(flow.depth, 'alert')} wait, the"
        f" oldest for {age(_oldest(view.lanes()))}. {_drain(flow)}.",
        "More forwarders will not help: all of them share the limit. Ask who runs Moog for a higher one"
        " (MOOG_RATE_LIMIT), send several alerts a request (MOOG_BATCH_SIZE), or hold noise back by rules and storms.",
        "mutt queues --watch",
        urgent=critical or flow.drained_in > SOON_GONE,
    )


def forwarders_behind(view: View) -> Trouble | None:
    moog, flow, ours = view.now.moog, view.alerts(), view.crew("moog")
    oldest, waited = _oldest(view.lanes()), _waited(view, flow)
    quiet = moog.breaker != "closed" or moog.paused_until > view.now.at
    if not moog.limit or not ours.size or not flow.depth or waited < LATE or quiet:
        return None
    if view.lasts(_limit_used, LIMIT, LIMIT_AGAIN):
        return None  # Moog's limit
    waits = f"{many(flow.depth, 'alert')} wait, the oldest for {age(oldest)}"
    used = f"{moog.used} of {moog.limit} requests in {moog.period:g} s are used"
    if view.is_so(_all_slots_busy) and view.alerts(MOMENT).out:
        took = (moog.latency_ms or 0.0) / 1000
        wanted = max(ours.slots + 1, math.ceil(2 * _limit(view.now) * took))
        return Trouble(
            "forwarders-behind",
            "Too few forwarder threads",
            f"All {ours.slots} requests that can be open are, each for {took * 1000:.0f} ms; {used}. {waits}.",
            f"Start more: about {wanted} threads in all send what the limit allows. Moog is slow: ask there, too.",
            _WORKER + f"moog -P threads -c {wanted - ours.slots}",
        )
    if waited < TAKEN_OVER and not view.is_so(lambda one: _oldest(lanes(one)) >= HELD_UP):
        return None
    if oldest >= TAKEN_OVER and not view.alerts(MOMENT).out:
        why = f"{many(ours.size, 'worker')} of -Q moog run and send nothing; {used}. {waits}."
        do = "Their log says what they met. Restart them if it says nothing; the broker may be away."
        return Trouble("forwarders-behind", "The forwarders send nothing", why, do, "mutt doctor")
    if flow.out and (flow.drained_in > SOON_GONE or _is_stuck(view, flow)):
        return _held_up(view, f"{used}, {flow.out:.1f} a second go. {waits}. {_drain(flow)}.")
    return None


def _is_stuck(view: View, flow: Flow) -> bool:
    """Do many alerts wait for long beside a budget that would let them go? Then it matters not that they get fewer."""
    unused = view.is_so(lambda one: one.moog.breaker == "closed" and (_limit_used(one) or 0.0) < LIMIT)
    return unused and _waited(view, flow) >= TAKEN_OVER and flow.depth >= LATE * max(flow.out, 1.0)


def _waited(view: View, flow: Flow) -> float:
    """Seconds that an alert waits: as long as the oldest in a lane has, or as what goes takes for what stands there.

    Those that stand behind others of their signature are in no lane, and may be most of them.
    """
    return max(_oldest(view.lanes()), flow.depth / flow.out if flow.out else 0.0)


def _held_up(view: View, why: str) -> Trouble:
    """They have work, room in the budget and threads, and get on slowly all the same."""
    starved = view.crew("moog").starved
    if starved >= 0.5:
        why += f" They would use {starved:.1f} cores more than others leave them."
        do = "A permit is good for some milliseconds, and runs out before they are let in: give them a free core."
    else:
        do = "Permits run out before they can be used, or Moog fails now and then: see how long Redis takes to write."
    title = "The forwarders are held up"
    return Trouble("forwarders-behind", title, why, f"{do} More threads would not help.", "mutt doctor")


def record_behind(view: View) -> Trouble | None:
    queue, ours = view.now.queue("delivery_queue"), view.crew("housekeeping")
    if not ours.size or "postgres" in view.now.away:
        return None
    if not view.lasts(
        lambda one: one.queue("delivery_queue").oldest_s if one.queues else None, RECORD_LATE, LATE
    ):
        return None
    return Trouble(
        "record-behind",
        "What became of alerts is written late",
        f"{many(queue.entries, 'outcome')} wait, the oldest for {age(queue.oldest_s)};"
        f" {many(ours.size, 'worker')} of -Q housekeeping are busy {ours.busy:.0%} of their time.",
        "Alerts reach Moog all the same; pages show an old status. Start one more, and see PostgreSQL.",
        _WORKER + "housekeeping,maintenance -P threads -c 2",
        urgent=False,
    )


def slow_pages(view: View) -> Trouble | None:
    ours = view.crew("admin")
    if not view.lasts(lambda one: crew(one.of_role("admin")).p99_ms, PAGE_MS, PAGE_MS_AGAIN):
        return None
    took = f"take up to {ours.p99_ms / 1000:.1f} s" if ours.p99_ms is not None else "took long just now"
    queued = f", {ours.queued} wait for a thread" if ours.queued else ""
    return Trouble(
        "slow-pages",
        "The pages are slow",
        f"Pages and the API {took}{queued}; PostgreSQL kept them waiting in {ours.store_share:.0%} of that.",
        "Ask for shorter times and for one host. If that does not do, give pages a replica (DATABASE_READ_URL), or"
        " start one more admin.",
        "gunicorn -c python:mutt.web.gunicorn --threads 8 mutt.wsgi:admin",
        urgent=False,
    )


def dead_letters(view: View) -> Trouble | None:
    dead = [one for one in view.now.queues if one.name.startswith("dlq:") and one.entries]
    if not dead:
        return None
    told = ", ".join(f"{one.entries:,} in {one.name.removeprefix('dlq:')}" for one in dead)
    return Trouble(
        "dead-letters",
        "Dead letters wait for a person",
        f"{told}; the oldest for {age(max(one.oldest_s for one in dead))}.",
        "See why they were parked: a fault of format, or a failure that lasts. Then replay or drop them.",
        f"mutt dlq list {dead[0].name.removeprefix('dlq:')}",
        urgent=False,
    )


def source_silent(view: View) -> Trouble | None:
    silent = view.now.silent
    if not silent:
        return None
    first = min(silent, key=lambda name: (silent[name], name))
    others = f", and {many(len(silent) - 1, 'other source')}" if len(silent) > 1 else ""
    quiet = age(max(0.0, view.now.at - silent[first]))
    return Trouble(
        "source-silent",
        "A source is silent" if len(silent) == 1 else "Sources are silent",
        f"No event of {first} was accepted for {quiet}{others}.",
        "See whether it runs and reaches ingest, and what it was refused: the page Sources has both. If it may rest for"
        " so long, say so on the page of its key.",
        f"mutt sources {first}",
        urgent=False,
    )


_RULES: Mapping[str, Callable[[View], Trouble | None]] = {
    "redis-away": redis_away,
    "redis-memory": redis_memory,
    "postgres-away": postgres_away,
    "ingest-away": ingest_away,
    "alerts-away": alerts_away,
    "moog-away": moog_away,
    "record-away": record_away,
    "moog-outage": moog_outage,
    "postgres-writes": postgres_writes,
    "redis-core": redis_core,
    "alerts-behind": alerts_behind,
    "ingest-cpu": ingest_cpu,
    "ingest-latency": ingest_latency,
    "moog-limit": moog_limit,
    "forwarders-behind": forwarders_behind,
    "record-behind": record_behind,
    "slow-pages": slow_pages,
    "dead-letters": dead_letters,
    "source-silent": source_silent,
}


# ---- what several rules ask


def _since(view: View, server: str) -> str:
    """For how long nobody could ask it, as far as the last minute tells."""
    answered = [one.at for one in view.samples if server not in one.away]
    seconds = view.now.at - (answered[-1] if answered else view.samples[0].at)
    return f", for {'' if answered else 'at least '}{age(seconds)}" if seconds else ", in this 1 reading"


def _unknown(view: View) -> bool:
    """Could nobody ask Redis? Then it says nothing about who is there."""
    return "redis" in view.now.away


def _abandoned(view: View, role: str, queues: Sequence[Queue]) -> bool:
    """Does something wait, and is nobody there who would work it?"""
    late = any(one.entries and one.oldest_s >= LATE for one in queues)
    return late and not _unknown(view) and not view.now.of_role(role)


def _is_behind(view: View) -> bool:
    """Do events wait longer than they should, more of them than a few, and without the end in sight?"""
    flow, queue = view.events(), view.now.queue("ingest_queue")
    moment = view.events(MOMENT)
    waits_long = view.is_so(lambda one: one.queue("ingest_queue").oldest_s >= LATE)
    if queue.oldest_s < LATE or not flow.depth or not waits_long:
        return False
    if not (flow.into or flow.out):
        return queue.oldest_s >= TAKEN_OVER
    many_wait = flow.depth >= LATE * max(moment.into, moment.out, 1.0)
    return many_wait and min(flow.drained_in, moment.drained_in) > SOON_GONE


def _oldest(queues: Sequence[Queue]) -> float:
    return max((one.oldest_s for one in queues if one.entries), default=0.0)


def _limit(sample: Sample) -> float:
    """Requests a second that Moog's limit allows."""
    return sample.moog.limit / sample.moog.period if sample.moog.period > 0 else 0.0


def _limit_used(sample: Sample) -> float | None:
    """Of Moog's limit, how much is used; None: there is no limit."""
    return sample.moog.used / sample.moog.limit if sample.moog.limit else None


def _backlog(view: View, flow: Flow) -> str:
    oldest = age(view.now.queue("ingest_queue").oldest_s)
    return (
        f"{many(flow.depth, 'event')} wait, the oldest for {oldest}; {flow.into:,.0f} a second come in, {flow.out:,.0f}"
        f" are done. {_drain(flow)}"
    )


def _drain(flow: Flow) -> str:
    if flow.drained_in == FOREVER:
        return "The backlog grows" if flow.into > flow.out else "The backlog stays"
    return f"At this rate it is drained in {age(flow.drained_in)}"


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


def _set_maxmemory(name: str, used: int) -> str:
    """Redis' own command, with twice what is used."""
    return f"redis-cli {_reached(name)}CONFIG SET maxmemory {max(1, math.ceil(2 * used / (1 << 20)))}mb"


def _reached(name: str) -> str:
    """The options of redis-cli for a server by its name (``streams.servers.name_of``); memory is all databases'."""
    if name.startswith("/"):
        return f"-s {name.rpartition('/')[0] if _DATABASE.search(name) else name} "
    if "@" in name:
        return "-h PRIMARY "  # Sentinel knows which that is now
    host, _, port = name.partition("/")[0].rpartition(":")
    return f"-h {host} -p {port} " if host and port.isdigit() else ""
