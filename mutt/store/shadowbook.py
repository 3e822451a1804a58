"""The draft that runs beside the rules in force, as one process has it: looked for, compiled, and what it said noted.

Nothing of it may touch the rules in force. It is looked for once a second, compiled in a thread, and what it said is
written behind a savepoint; whatever goes wrong with it stops it, and the page says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from mutt.errors import StoreDown
from mutt.rules.change import RULES
from mutt.rules.evaluate import Ruleset
from mutt.rules.shadow import Difference, Draft, Kind, Seen
from mutt.store import rulebook, shadows
from mutt.store.rulebook import Opens, in_a_thread

log = logging.getLogger(__name__)

#: Seconds after which a process looks again whether a shadow runs.
LOOK = 1.0

#: So many kinds of difference are told apart by a process when it chooses samples.
TOLD_MAX = 10_000


class ShadowBook:
    """The draft of one process. Threads may share one."""

    def __init__(
        self, default_team: str, opens: Opens, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._default_team, self._opens, self._monotonic = default_team, opens, monotonic
        self._worker = uuid4().hex[:12]  #: counts in rows of its own
        self._lock = threading.Lock()
        self._look_at = float("-inf")
        self._running: int | None = None  #: the shadow that runs
        self._ruleset: Ruleset | None = None  #: its, for the version that it says
        self._beside: Future[Ruleset | None] | None = None  #: what is being compiled
        self._told: dict[
            tuple[Any, ...], UUID
        ] = {}  #: differences of which there is a sample, and of which event
        self._full: set[Kind] = set()  #: kinds with enough samples

    def draft(self, conn: Connection, live: Ruleset) -> Draft | None:
        """The draft that runs beside ``live``, and its ruleset once it is compiled for the same version."""
        now = self._monotonic()
        if self._running is None and now < self._look_at:
            return None
        with self._lock:
            # A new version may be the draft itself, promoted: then it is over.
            moved = self._running is not None and self._ruleset and self._ruleset.version < live.version
            if now >= self._look_at or (moved and not self._beside):
                self._look_at = now + LOOK
                self._runs(shadows.running(conn))
                self._compile(live.version)
            if self._running is None:
                return None
            self._take_compiled()
            ready = self._ruleset if self._ruleset and self._ruleset.version == live.version else None
            return Draft(self._running, ready)

    def note(self, conn: Connection, draft: Draft, seen: Seen) -> None:
        """Count what the draft said, in the caller's transaction. Where that fails, the draft is stopped."""
        try:
            with conn.begin_nested():
                shadows.count(conn, draft.shadow_id, self._worker, seen.counts)
                if found := self._chosen(seen.differences):
                    self._full = shadows.keep(conn, draft.shadow_id, found)
        except (SQLAlchemyError, psycopg2.Error) as error:
            if conn.invalidated or _is_closed(conn):
                raise  # PostgreSQL is away: the draft is not to blame
            self.stop(draft.shadow_id, f"what it said can't be written: {error}")

    def stop(self, shadow_id: int, why: str) -> None:
        """It can't go on: no more of it here, and from the next look on nowhere."""
        log.error("shadow %d is stopped: %s", shadow_id, why)
        with self._lock:
            self._runs(None)
            self._look_at = self._monotonic() + LOOK
        in_a_thread(partial(self._write_down, shadow_id, why))

    def _write_down(self, shadow_id: int, why: str) -> None:
        with self._opens() as conn:
            shadows.stop(conn, shadow_id, why[-2000:])

    def _runs(self, shadow_id: int | None) -> None:
        if shadow_id != self._running:
            self._running, self._ruleset, self._beside = shadow_id, None, None
            self._told, self._full = {}, set()

    def _compile(self, version: int) -> None:
        if self._running is None or self._beside:
            return
        if self._ruleset is None or self._ruleset.version < version:
            self._beside = in_a_thread(partial(self._compiled, self._running))

    def _take_compiled(self) -> None:
        if self._beside and self._beside.done():
            # An outage leaves nothing: at the next look it is tried again.
            self._ruleset = None if self._beside.exception() else self._beside.result()
            self._beside = None

    def _compiled(self, shadow_id: int) -> Ruleset | None:
        """The ruleset of the draft on top of what stands. None: it can't be compiled, and is stopped."""
        try:
            with self._opens() as conn:
                draft = shadows.get(conn, shadow_id).draft
                read = rulebook.read_draft(conn, draft)
            ruleset = read.compile(self._default_team)  # others need the connection more
            for change in draft:
                if change.table == RULES and (refused := ruleset.refused.get(int(change.record_id))):
                    raise refused
        except StoreDown:
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, it is the draft's
            log.error("shadow %d is stopped: %s", shadow_id, error)
            self._write_down(shadow_id, f"can't be compiled: {error or type(error).__name__}")
            return None
        return ruleset

    def _chosen(self, found: Sequence[Difference]) -> list[Difference]:
        """One of each sort (what differs, and on which host): two hundred of one device tell no more than one."""
        chosen = []
        for one in found:
            kind, event, live, draft = one
            sort = kind, live.rule_id, live.handling, draft.rule_id, draft.handling, event.hostname
            # The same event comes again where its transaction was rolled back.
            if kind in self._full or self._told.get(sort, event.event_id) != event.event_id:
                continue
            if len(self._told) < TOLD_MAX:
                self._told[sort] = event.event_id
                chosen.append(one)
        return chosen


def _is_closed(conn: Connection) -> bool:
    return bool(getattr(conn.connection.dbapi_connection, "closed", True))
