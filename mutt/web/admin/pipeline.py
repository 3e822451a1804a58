"""The first page: the pipeline as it is at this moment, live, what holds it up, and how the last hour was.

Everything that moves is read once for all who look (``mutt/web/live.py``), whole pages included. What stands still for
minutes (rules, maintenance windows, storms, the shadow) is read beside it, so that an outage of PostgreSQL holds up
nobody who wants to see what Redis tells, nor the other way round.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
import redis
from flask import Flask, Response, request
from flask_admin import expose

from mutt.errors import NoRuleset, SettingsError, StoreDown
from mutt.pulse.collect import reading
from mutt.pulse.sample import Point, Reading, Sample
from mutt.rules.noise import StormState
from mutt.rules.windows import Occurrence, Window
from mutt.services import Services
from mutt.store import lookup, rulebook, rulesearch, shadows, windows
from mutt.store.shadows import Shadow
from mutt.web import session
from mutt.web.admin.board import board_of, books_of, table_of, unrecorded_of
from mutt.web.admin.page import Page
from mutt.web.live import EVERY, STAY, Live, Shared

log = logging.getLogger("mutt.admin")

#: Seconds that a page waits for what it shows. Later it comes without.
PATIENCE = 1.5

#: Seconds for which what stands still is not read again.
SLOW = 10.0

#: Milliseconds after which a browser comes again: whose stream ended, and for whom there was no room.
AGAIN, LATER = 3_000, 10_000

#: The parts of the page that are written anew as a whole where what they are made of has changed.
PARTS = ("troubles", "processes", "servers", "going", "balance")

#: Columns of the charts, in the order in which the script draws them.
COLUMNS = ("at", "events_in", "events_out", "ingest_depth", "alert_depth", "oldest_s", "budget_used", "rows",
           "redis_share", "redis_cpu")  # fmt: skip


class Configured(msgspec.Struct, frozen=True):
    """What PostgreSQL knows."""

    version: int
    every: int  #: rules
    active: int
    windows: list[tuple[Window, Occurrence]]  #: that are on, the first to end first
    shadow: Shadow | None  #: that runs


class Standing(msgspec.Struct, frozen=True):
    """What is read every ten seconds; None: it can't be read."""

    storms: list[StormState]
    rules: Configured | None


class Pipeline(Page):
    def __init__(self, services: Services, name: str, endpoint: str, url: str | None = None) -> None:
        super().__init__(services, name, endpoint, url)
        self._moving = Shared(self._read, EVERY * 0.9)
        self._standing = Shared(self._read_standing, SLOW)
        self._app: Flask | None = None
        self._events = Shared(self._write_event, EVERY * 0.9)

    def live(self, app: Flask) -> Live:
        """The stream of this page, as the worker finds it in ``app.extensions``."""
        self._app = app
        ended = app.extensions["sessions"].ended
        self._live = Live("/pipeline/events", lambda: self._events.get(2 * PATIENCE) or b"", ended)
        return self._live

    @expose("/")
    def index(self) -> str:
        moving, standing = self._look()
        return self.render(
            "pipeline.html",
            **_shown(moving, standing),
            rows=table_of(moving.points),
            flower_url=_link(self.services.settings.flower_url),
            metrics_url=_link(self.services.settings.metrics_url),
        )

    @expose("/pipeline/events")
    def events(self) -> Response:
        """What is shown, now and whenever it changes; where there is no room: once, and the browser comes again."""
        stay: Callable[[Any], None] | None = request.environ.get(STAY)
        event = self._events.get(2 * PATIENCE) or b""
        viewer = self._live.admit(session.ticket()) if stay else None
        if stay and viewer:
            stay(viewer)
        pieces = [b"retry: %d\n\n" % (AGAIN if viewer else LATER), event]
        # As an iterator it has no length: what goes on has none.
        answer = Response(iter(pieces) if viewer else pieces, mimetype="text/event-stream")
        answer.headers["X-Accel-Buffering"] = "no"  # nginx would keep it until there is more
        return answer

    @expose("/pipeline/hour")
    def hour(self) -> Response:
        """The last hour for the charts: a list for each of ``COLUMNS``."""
        points = self._now().points
        return Response(
            orjson.dumps([_column(points, name) for name in COLUMNS]), mimetype="application/json"
        )

    def _look(self) -> tuple[Reading, Standing | None]:
        """Both, read at the same time: whatever hangs, a page waits for it once."""
        until = time.monotonic() + PATIENCE
        self._standing.get(0.0)
        moving = self._now()
        return moving, self._standing.get(max(0.0, until - time.monotonic()))

    def _now(self) -> Reading:
        return self._moving.get(PATIENCE) or _unread("It takes longer than usual to read")

    def _read(self) -> Reading:
        try:
            return reading(self.services)
        except SettingsError as error:
            return _unread(f"{error.name} is not set")

    def _read_standing(self) -> Standing:
        try:
            storms = self.services.due.storms()
        except (SettingsError, redis.RedisError):
            storms = []
        return Standing(storms, self._configured())

    def _configured(self) -> Configured | None:
        now = datetime.now(UTC)
        try:
            with lookup.reading(self.engine) as conn:
                every, active = rulesearch.totals(conn)
                on = [(window, one) for window in windows.windows(conn) if (one := window.at(now))]
                on.sort(key=lambda pair: pair[1].end)
                running = shadows.running(conn)
                shadow = None if running is None else shadows.get(conn, running)
                return Configured(rulebook.current_version(conn), every, active, on, shadow)
        except (StoreDown, NoRuleset):
            return None

    def _write_event(self) -> bytes:
        """What is shown, as one server-sent event."""
        assert self._app
        moving, standing = self._look()
        shown = _shown(moving, standing)
        with self._app.test_request_context():
            parts = self._app.jinja_env.get_template("pipeline_parts.html").make_module(shown)
            told = {
                **msgspec.to_builtins(shown["board"]),
                "parts": {name: str(getattr(parts, name)()) for name in PARTS},
                "point": [_column(moving.points[-1:], name) for name in COLUMNS],
            }
        return b"event: board\ndata: %b\n\n" % orjson.dumps(told)


def _shown(moving: Reading, standing: Standing | None) -> dict[str, Any]:
    """What the page and its events are written from."""
    sample = moving.sample
    return {
        "reading": moving,
        "board": board_of(moving),
        "books": books_of(sample),
        "unrecorded": unrecorded_of(sample),
        "standing": standing or Standing([], None),
        "outages": outages_of(moving, standing),
    }


def outages_of(moving: Reading, standing: Standing | None) -> list[str]:
    """Why something is not shown, a sentence each. What else is to be said of it stands with its trouble."""
    found = []
    if why := moving.sample.away.get("redis"):
        known = any(one.name == "redis-away" for one in moving.troubles)
        found.append(
            f"{'Redis does not answer' if known else why}: queues, books and breaker can't be shown."
        )
    if standing is None or standing.rules is None:
        found.append("PostgreSQL does not answer: rules, audit and alerts can't be shown.")
    return found


def _unread(why: str) -> Reading:
    return Reading(Sample(at=time.time(), away={"redis": why}))


def _column(points: Sequence[Point], name: str) -> list[float]:
    return [round(getattr(point, name), 3) for point in points]


def _link(address: str) -> str:
    """An address that a browser may be led to; else none."""
    return address if address.startswith(("http://", "https://")) else ""
