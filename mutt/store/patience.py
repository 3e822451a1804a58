"""How long a connection to PostgreSQL waits for an answer: a server that is stopped, or gone without a word, ends it.

``statement_timeout`` is kept by the server, so it is worth nothing where the server hangs; and libpq itself waits for
an answer for ever. So each wait has an alarm beside it, a little longer than what the server was told: it shuts the
socket down, libpq sees the end of the connection, and the caller an outage.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg2.extensions
from sqlalchemy import Connection, Engine, event, text

from mutt.deadline import DEADLINES
from mutt.meter import REMEMBERED, Spent

T = TypeVar("T")

#: Seconds that a server has beyond its own time limit to say that a statement took too long.
GRACE = 5.0

#: Seconds in which a connection that lay in the pool answers, or another one is made.
PING = 5.0

#: The same of a :class:`HastyConnection`, and the seconds in which it is answered otherwise.
HASTY_PING, HASTE = 0.3, 1.0

#: What this process waited for PostgreSQL, and how long each of its last COMMITs took (seconds).
WAITED = Spent()
COMMITS: deque[float] = deque(maxlen=REMEMBERED)

#: When the work that this thread is at must be done (monotonic seconds).
_ends: ContextVar[float | None] = ContextVar("ends", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever this thread asks PostgreSQL in here is answered within so many seconds, or is an outage."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


class HungUp(psycopg2.OperationalError):
    """The server said nothing for too long."""


class PatientConnection(psycopg2.extensions.connection):
    """A connection that hangs up on a server that says nothing for ``silence`` seconds (None: it waits for ever)."""

    silence: float | None = PING
    usual: float | None = PING  #: what ``silence`` is at the start of each transaction
    _hook: _Hook | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with WAITED:  # it connects
            super().__init__(*args, **kwargs)

    def patiently(self, ask: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """``ask(…)``, which waits for the server. Raises :class:`HungUp`."""
        with WAITED:
            return self._patiently(ask, *args, **kwargs)

    def _patiently(self, ask: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        began = time.monotonic()
        ends = self._ends(began)
        if ends is None or self.closed:
            return ask(*args, **kwargs)
        if self._hook is None:
            self._hook = _Hook(self.fileno())
        alarm = DEADLINES.at(ends, self._hook.armed())
        try:
            return ask(*args, **kwargs)
        except psycopg2.Error as error:
            if self._hook.pulled:
                raise HungUp(f"no answer from PostgreSQL for {time.monotonic() - began:.0f} s") from error
            raise
        finally:
            alarm.cancel()
            self._hook.disarm()

    def _ends(self, now: float) -> float | None:
        ours = None if self.silence is None else now + self.silence
        works = _ends.get()
        return min(ours, works) if ours and works else ours or works

    def commit(self) -> None:
        began = time.monotonic()
        self.patiently(super().commit)
        COMMITS.append(time.monotonic() - began)
        self.silence = self.usual

    def rollback(self) -> None:
        self.silence = self.usual
        self.patiently(super().rollback)

    def close(self) -> None:
        super().close()
        if self._hook:
            self._hook.close()


class HastyConnection(PatientConnection):
    """One for who has a second in all: it hangs up after :data:`HASTE`, whatever limit its session has."""

    silence = usual = HASTE


class PatientCursor(psycopg2.extensions.cursor):
    """A cursor of a :class:`PatientConnection`."""

    connection: PatientConnection

    def execute(self, *args: Any, **kwargs: Any) -> None:
        self.connection.patiently(super().execute, *args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> None:
        self.connection.patiently(super().executemany, *args, **kwargs)

    def copy_expert(self, *args: Any, **kwargs: Any) -> None:
        self.connection.patiently(super().copy_expert, *args, **kwargs)


class _Hook:
    """Shuts a connection's socket down from another thread, while it is armed.

    Through a handle of its own: libpq may close the socket, and its number soon names another file.
    """

    def __init__(self, fileno: int) -> None:
        self._handle: int | None = os.dup(fileno)
        self._lock = threading.Lock()
        self._turn = 0
        self.pulled = False

    def armed(self) -> Callable[[], None]:
        """What pulls it, until it is disarmed."""
        return functools.partial(self._pull, self._turn)

    def disarm(self) -> None:
        with self._lock:
            self._turn += 1

    def _pull(self, turn: int) -> None:
        with self._lock:
            if turn != self._turn or self._handle is None:
                return
            self.pulled = True
            handle, self._handle = self._handle, None
        with socket.socket(fileno=handle) as sock, contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    __del__ = close


def watch(engine: Engine) -> None:
    """Have the connections of ``engine`` wait a little longer than their sessions' ``statement_timeout``, no more.

    Hasty ones wait for no more than their own second.
    """
    event.listen(engine, "connect", _connected)
    event.listen(engine, "checkout", _taken)
    event.listen(engine, "checkin", _given_back)


def _connected(connection: PatientConnection, _record: Any) -> None:
    if isinstance(connection, HastyConnection):
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")
        [milliseconds] = cursor.fetchone() or ["0"]
    connection.rollback()
    connection.usual = _beyond(int(milliseconds) / 1000)


def _taken(connection: PatientConnection, *_: Any) -> None:
    connection.silence = connection.usual


def _given_back(connection: PatientConnection | None, _record: Any) -> None:
    # The next to ask is the pool: does it still live?
    if connection is not None:
        connection.silence = HASTY_PING if isinstance(connection, HastyConnection) else PING


def _beyond(limit: float) -> float | None:
    return limit + GRACE if limit else None


def allow(conn: Connection, seconds: float) -> None:
    """Until this transaction ends a statement may take so many seconds; 0: any number."""
    conn.execute(text(f"SET LOCAL statement_timeout = {round(seconds * 1000)}"))
    connection: Any = conn.connection.dbapi_connection
    if isinstance(connection, PatientConnection):
        connection.silence = _beyond(seconds)
