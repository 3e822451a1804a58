"""Where an event or an alert stands in Redis now. Every look is bounded: what was not looked at is said."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import redis

from mutt import codec, names
from mutt.entry import Entry, short_hash
from mutt.errors import UndecodableEntry
from mutt.event import Envelope, Event
from mutt.explain.facts import Place
from mutt.streams.connect import Client
from mutt.words import age, many

#: Entries that are counted to tell a place in a lane.
COUNTED = 1000

#: Seconds and entries that a look through one stream may take.
LOOK_S, LOOK = 1.0, 20_000

#: Entries that are read at a time; one may hold a MiB.
PAGE = 50


def of_alert(client: Client, row: Any) -> Place:
    """Where an alert that waits stands. ``row`` has the columns of ``alerts``."""
    told = client.hget(names.STANDING, str(row.alert_id))
    standing = told.decode() if told else ""
    lane, _, entry = standing.partition(" ")
    if entry:
        return _in_lane(client, lane, entry)
    if standing == "behind":
        holder = client.hget(names.HOLDERS, short_hash(row.signature))
        before = f" {holder.decode()}" if holder else ""
        return Place(
            where="behind",
            says=f"It stands behind alert{before} of the same signature: they go to Moog one at a time.",
        )
    if standing == "delivery":
        return Place(where="delivery", says="Its outcome is known and on its way to PostgreSQL.")
    if standing == "held":
        return Place(where="held", says="It is held back; the note of why is on its way to PostgreSQL.")
    outside = int(client.hget(names.OUTSIDE, row.lane) or 0)
    if outside:
        says = f"Lane {row.lane} is full: {many(outside, 'alert')} wait outside of it, oldest first, in PostgreSQL."
        return Place(where="outside", says=says)
    return Place(
        where="nowhere",
        says="It stands in no lane: it is being settled, or the sweep brings it in within minutes.",
    )


def _in_lane(client: Client, lane: str, entry: str) -> Place:
    stream = f"mutt:alert_queue:{lane}"
    with contextlib.suppress(redis.ResponseError):  # no group yet: nobody ever took from it
        pending = client.xpending_range(stream, names.GROUP, entry, entry, 1)
        if pending:
            idle = age(pending[0]["time_since_delivered"] / 1000)
            return Place(
                where="work",
                says=f"In lane {lane}: a forwarder had it {idle} ago; it is sent, or tried again in a moment."
                + _moog(client),
            )
    before = len(client.xrange(stream, "-", entry, count=COUNTED)) - 1
    ahead = f"at least {before}" if before + 1 == COUNTED else str(max(0, before))
    return Place(where="lane", says=f"It stands in lane {lane}, {ahead} before it." + _moog(client))


def _moog(client: Client) -> str:
    """What keeps everyone from Moog now, as a sentence more."""
    state, reason, pause = (
        (one or b"").decode() for one in client.hmget(names.BREAKER, "state", "reason", "pause_until")
    )
    if state in ("open", "half_open"):
        return f" The breaker is {state.replace('_', ' ')} ({reason}): only probes go to Moog."
    if pause and float(pause) / 1e6 > time.time():
        return (
            f" Moog asked for a pause until {datetime.fromtimestamp(float(pause) / 1e6, UTC):%H:%M:%S} UTC."
        )
    return ""


def letter_of_alert(client: Client, alert_id: str) -> Place | None:
    """The dead letter that holds an alert, if the look finds it."""
    for id_, fields in _newest(client, names.DLQ_MOOG, time.monotonic() + LOOK_S):
        if fields.get(b"id", b"").decode(errors="replace") == alert_id:
            return Place(where="letter", says=f"It is dead letter {id_}.", letter=id_, queue="moog")
    return None


def of_event(
    client: Client, ids: set[UUID], text: str, elsewhere: Sequence[Client] = ()
) -> tuple[Place, Event | None]:
    """Where an event that is not audited stands: the ingest queue, a dead letter, or nowhere that was looked at.

    ``ids`` are what its id may be, ``text`` is what its sender wrote; ``elsewhere`` are servers that hold a part of the
    ingest queue.
    """
    looked = _Look()
    for one in (client, *elsewhere):
        for id_, fields in looked.through(one, names.INGEST_STREAM):
            event = _event_in(Entry(names.INGEST_STREAM, id_, 1, fields), ids)
            if event:
                return Place(where="queue", says=_queued(one, id_)), event
    for id_, fields in looked.through(client, names.DLQ_ALERTS):
        event = _event_in(Entry(names.DLQ_ALERTS, id_, 1, fields), ids)
        if event:
            reason = _reason(fields)
            says = f"It is dead letter {id_} of alerts: {reason}."
            return Place(where="letter", says=says, letter=id_, queue="alerts"), event
    needles = [one.encode() for one in (text, *map(str, ids)) if one]
    for id_, fields in looked.through(client, names.DLQ_INGEST):
        if any(needle in fields.get(b"d", b"") for needle in needles):
            says = f"Ingest refused an item with this id (dead letter {id_} of ingest): {_reason(fields)}."
            return Place(where="letter", says=says, letter=id_, queue="ingest"), None
    return Place(where="nowhere", says=looked.says()), None


def _queued(client: Client, id_: str) -> str:
    waited = age(max(0.0, time.time() - int(id_.partition("-")[0]) / 1000))
    with contextlib.suppress(redis.ResponseError):
        pending = client.xpending_range(names.INGEST_STREAM, names.GROUP, id_, id_, 1)
        if pending:
            times = many(pending[0]["times_delivered"], "delivery", "deliveries")
            return f"It is accepted, and a worker has it ({times}); it came in {waited} ago."
    return f"It is accepted and waits for evaluation since {waited}."


def _event_in(entry: Entry, ids: set[UUID]) -> Event | None:
    with contextlib.suppress(UndecodableEntry):
        for segment in codec.decode(Envelope, entry.fields).segments:
            for event in segment.events:
                if event.event_id in ids:
                    return event
    return None


def _reason(fields: dict[bytes, bytes]) -> str:
    with contextlib.suppress(orjson.JSONDecodeError):
        told = orjson.loads(fields.get(b"why", b"{}"))
        return str(told.get("reason", "")) if isinstance(told, dict) else ""
    return ""


class _Look:
    """Looks through streams, each for a bounded time, and remembers how far it came."""

    def __init__(self) -> None:
        self._cut: list[str] = []

    def through(self, client: Client, stream: str) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        seen = 0
        for one in _newest(client, stream, time.monotonic() + LOOK_S):
            seen += 1
            yield one
        there = client.xlen(stream)
        if seen < there:
            self._cut.append(f"{seen} of {there} in {stream.removeprefix('mutt:')}")

    def says(self) -> str:
        if self._cut:
            return f"Of what stands in Redis only a part was looked at ({', '.join(self._cut)}): it may be in the rest."
        return "It stands neither in the ingest queue nor in the dead letters."


def _newest(client: Client, stream: str, until: float) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    """A stream's entries, the newest first, until the time is up or enough were seen."""
    end, seen = "+", 0
    while seen < LOOK and time.monotonic() < until:
        page = client.xrevrange(stream, end, "-", count=PAGE)
        for id_, fields in page:
            yield id_.decode(), fields if isinstance(fields, dict) else codec.pairs(fields)
        seen += len(page)
        if len(page) < PAGE:
            return
        end = "(" + page[-1][0].decode()
