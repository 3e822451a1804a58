"""``mutt queues``: what waits where, since when, and whether Moog may be asked."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click
import msgspec
import orjson
import redis

from mutt import names
from mutt.budget.arithmetic import window
from mutt.celery import doorbells
from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.doorbells import Doorbells
from mutt.errors import SettingsError, Unavailable
from mutt.services import Services
from mutt.streams import books
from mutt.words import age, many

#: The Celery queues; each holds doorbells, not data.
CELERY_QUEUES = ("alerts", "moog", "housekeeping", "maintenance", "backtests")

#: Seconds between two looks of ``--watch``.
EVERY = 1.0

#: Seconds that PostgreSQL has to say what stands in the spill.
PATIENCE = 2.0


class Breaker(msgspec.Struct, frozen=True):
    """Moog's breaker as it stands."""

    state: str  #: closed, half_open or open
    reason: str
    failures: int  #: in a row
    asks_again_s: float  #: seconds until the next probe
    paused_s: float  #: seconds for which Moog asked to be left alone

    @property
    def quiet(self) -> bool:
        """Is there nothing to say of it?"""
        return self.state == "closed" and not self.paused_s


class Spent(msgspec.Struct, frozen=True):
    """How much of Moog's budget the present window has used."""

    used: int
    limit: int
    window_s: float


class Spilled(msgspec.Struct, frozen=True):
    """What came in while Redis was away and stands in PostgreSQL."""

    rounds: int
    events: int
    bytes: int
    oldest_s: float
    set_aside: int  #: rounds that can't flow back


class OpenStorm(msgspec.Struct, frozen=True):
    """A storm that goes on."""

    name: str
    key: str
    held: int  #: alerts
    since_s: float


class Share(msgspec.Struct, frozen=True):
    """What one server holds of the ingest queue, where that is spread over several."""

    server: str  #: host:port
    entries: int | None  #: None: it can't be asked
    held: int = 0
    oldest_s: float = 0.0
    drains: bool = False  #: nothing new goes in there


class Seen(msgspec.Struct, frozen=True):
    """One look at everything that waits."""

    queues: list[books.Depth]
    doorbells: dict[str, int]
    breaker: Breaker
    budget: Spent
    spill: Spilled | None  #: None: PostgreSQL can't be asked
    storms: list[OpenStorm]  #: of which alerts are held now
    servers: list[Share] = []  #: of the ingest queue, where there are several


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --watch one a line.")
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@spoken()
def queues(as_json: bool, watch: bool) -> None:
    """Show every queue: entries, who holds them, the oldest's age; doorbells, storms; breaker and budget.

    Behind: alerts that wait for one of the same signature, beside the entries.
    """
    s = services()
    s.settings.need("stream_url", "broker_url")
    with contextlib.closing(doorbells(s.settings)) as broker, contextlib.suppress(KeyboardInterrupt):
        while True:
            seen = look(s, broker)
            if watch and not as_json:
                console.clear()
            _show(seen, as_json=as_json, indent=not watch)
            if not watch:
                return
            time.sleep(EVERY)


def look(services: Services, broker: Doorbells) -> Seen:
    """Everything that waits, now. ``redis.RedisError`` and kombu's OperationalError pass through."""
    client = services.redis
    now = books.clock(client)
    span = window(services.settings.moog_rate_period)
    used = int(client.zcount(names.BUDGET, round((now - span) * 1e6), "+inf"))
    return Seen(
        queues=books.depths(client, services.queues, now, services.elsewhere),
        doorbells={queue: broker.waiting(queue) for queue in CELERY_QUEUES},
        breaker=breaker_of(services),
        budget=Spent(used, services.settings.moog_rate_limit, span),
        spill=spilled(services),
        storms=[
            OpenStorm(
                storm.name,
                f"{storm.group_by} {storm.value}",
                storm.count,
                max(0.0, now - storm.begun.timestamp()),
            )
            for storm in services.due.storms()
        ],
        servers=shares(services, now) if services.is_spread else [],
    )


def shares(services: Services, now: float) -> list[Share]:
    """What each server holds of the ingest queue."""
    found = []
    for server, stream in zip(services.servers, services.ingest_servers.values(), strict=True):
        try:
            one = books.depth_of(stream.client, stream.queue, now)
        except redis.RedisError:
            found.append(Share(server.name, None, drains=server.drains))
        else:
            found.append(Share(server.name, one.entries, one.held, one.oldest_s, server.drains))
    return found


def spilled(services: Services) -> Spilled | None:
    """The spill, now. None: PostgreSQL can't be asked, or nobody said where it is."""
    try:
        stands = services.spill.standing(PATIENCE)
    except (Unavailable, SettingsError):
        return None
    return Spilled(stands.rounds, stands.events, stands.bytes, stands.oldest_s, stands.set_aside)


def breaker_of(services: Services) -> Breaker:
    """The breaker, now. ``redis.RedisError`` passes through."""
    found = services.redis.hgetall(names.BREAKER).items()
    return breaker({name.decode(): value.decode() for name, value in found}, books.clock(services.redis))


def breaker(found: dict[str, str], now: float) -> Breaker:
    """The breaker of its hash in Redis; ``now`` in seconds of Redis' clock. Pure."""

    def ahead(name: str) -> float:
        return max(0.0, int(found.get(name) or 0) / 1e6 - now)

    state = found.get("state") or "closed"
    return Breaker(
        state=state,
        reason=found.get("reason", ""),
        failures=int(found.get("failures") or 0),
        asks_again_s=ahead("until") if state == "open" else 0.0,
        paused_s=ahead("pause_until"),
    )


def _show(seen: Seen, *, as_json: bool, indent: bool) -> None:
    if as_json:
        builtins: Any = msgspec.to_builtins(seen)
        click.echo(orjson.dumps(builtins, option=orjson.OPT_INDENT_2 if indent else 0))
        return
    rows = [
        (
            depth.queue,
            depth.entries,
            depth.held,
            depth.behind or "",
            age(depth.oldest_s),
            "set" if depth.doorbell else "",
        )
        for depth in seen.queues
    ]
    table("", ["queue", "entries", "held", "behind", "oldest", "bell"], rows, numbers=(1, 2, 3, 4))
    for share in seen.servers:
        console.print(f"  ingest_queue at {share.server}: {says_share(share)}", markup=False, highlight=False)
    bells = ", ".join(f"{queue} {n}" for queue, n in seen.doorbells.items())
    console.print(f"\ndoorbells  {bells}   [dim](Celery messages: they say that there is work)[/]")
    console.print(f"spill      {says_spill(seen.spill)}")
    console.print(f"breaker    {says(seen.breaker)}")
    for storm in seen.storms:
        says_storm = f"{storm.name}, {storm.key}: {many(storm.held, 'alert')} held, for {age(storm.since_s)}"
        console.print(f"storm      {says_storm}", markup=False)  # a sender's own words among them
    budget = seen.budget
    console.print(f"budget     {budget.used} of {budget.limit} in the last {budget.window_s:g} s")


def says_share(share: Share) -> str:
    """One server's part in one line."""
    if share.entries is None:
        return "can't be asked; what stands there waits"
    told = (
        f"{many(share.entries, 'entry', 'entries')}, {share.held} held, the oldest {age(share.oldest_s)} old"
    )
    drained = " (drains)" if share.entries else " (drained: `mutt streams leave` takes its books over)"
    return (told if share.entries else "empty") + (drained if share.drains else "")


def says_spill(spill: Spilled | None) -> str:
    """The spill in one line."""
    if spill is None:
        return "PostgreSQL can't be asked"
    if not spill.rounds:
        return "empty"
    aside = f", {many(spill.set_aside, 'round')} set aside (see `mutt doctor`)" if spill.set_aside else ""
    return f"{many(spill.events, 'event')} in PostgreSQL, the oldest {age(spill.oldest_s)} old{aside}"


def says(breaker: Breaker) -> str:
    """The breaker in one line."""
    words = [breaker.state.replace("_", " ") + (f" ({breaker.reason})" if breaker.reason else "")]
    if breaker.asks_again_s:
        words.append(f"asks again in {age(breaker.asks_again_s)}")
    if breaker.paused_s:
        words.append(f"paused by Moog for {age(breaker.paused_s)}")
    return ", ".join(words)
