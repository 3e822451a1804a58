"""The first page: what goes on, what waits where, whether the books balance, and how Moog is."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import redis
from flask_admin import expose

from mutt import names
from mutt.errors import NoRuleset, SettingsError, StoreDown
from mutt.rules.noise import StormState
from mutt.rules.windows import Occurrence, Window
from mutt.store import lookup, rulebook, rulesearch, shadows, windows
from mutt.store.shadows import Shadow
from mutt.streams import books
from mutt.web.admin.page import Page


class Breaker(msgspec.Struct, frozen=True):
    """Moog's breaker for people."""

    state: str
    reason: str
    until: datetime | None


class Flow(msgspec.Struct, frozen=True):
    """What Redis knows."""

    depths: list[books.Depth]
    books: books.Books
    unrecorded: int  #: alerts at their end, of which PostgreSQL can't take the note
    breaker: Breaker
    storms: list[StormState]

    @property
    def dead(self) -> int:
        """Dead letters of all queues."""
        return sum(depth.entries for depth in self.depths if depth.queue.startswith("dlq:"))


class Configured(msgspec.Struct, frozen=True):
    """What PostgreSQL knows."""

    version: int
    every: int  #: rules
    active: int
    windows: list[tuple[Window, Occurrence]]  #: that are on, the first to end first
    shadow: Shadow | None  #: that runs


class Home(Page):
    @expose("/")
    def index(self) -> str:
        flow, redis_says = self._flow()
        rules, store_says = self._rules()
        flower = self.services.settings.flower_url
        return self.render(
            "home.html",
            flow=flow,
            rules=rules,
            outages=[sentence for sentence in (redis_says, store_says) if sentence],
            flower_url=flower if flower.startswith(("http://", "https://")) else "",
        )

    def _flow(self) -> tuple[Flow | None, str]:
        try:
            client = self.services.redis
            found = client.hgetall(names.BREAKER)
            elsewhere = self.services.elsewhere
            depths = books.depths(client, self.services.queues, time.time(), elsewhere)
            unrecorded = books.outcomes_parked(client)
            storms = self.services.due.storms()
            return Flow(depths, books.read(client, *elsewhere), unrecorded, read_breaker(found), storms), ""
        except SettingsError:
            return None, "REDIS_URL is not set: queues, books and breaker can't be shown."
        except redis.RedisError:
            return None, "Redis does not answer: queues, books and breaker can't be shown."

    def _rules(self) -> tuple[Configured | None, str]:
        now = datetime.now(UTC)
        try:
            with lookup.reading(self.engine) as conn:
                every, active = rulesearch.totals(conn)
                on = [(window, one) for window in windows.windows(conn) if (one := window.at(now))]
                on.sort(key=lambda pair: pair[1].end)
                running = shadows.running(conn)
                shadow = None if running is None else shadows.get(conn, running)
                return Configured(rulebook.current_version(conn), every, active, on, shadow), ""
        except (StoreDown, NoRuleset):
            return None, "PostgreSQL does not answer: rules, audit and alerts can't be shown."


def read_breaker(found: dict[bytes, bytes]) -> Breaker:
    """The breaker from its hash in Redis; times there are microseconds."""
    values = {name.decode(): value.decode() for name, value in found.items()}
    until = int(float(values.get("until") or 0)) / 1e6
    return Breaker(
        state=(values.get("state") or "closed").replace("_", " "),
        reason=values.get("reason", ""),
        until=datetime.fromtimestamp(until, UTC) if until else None,
    )
