"""How long a connection to PostgreSQL waits for an answer: a server that is stopped, or gone without a word, ends it.

``statement_timeout`` is kept by the server, so it is worth nothing where the server hangs; and libpq itself waits for
an answer for ever. So each wait has an alarm beside it, a little longer than what the server was told: it shuts the
socket down, libpq sees the end of the connection, and the caller an outage.

Behind a pooler that lends a session for a transaction (PgBouncer) there is no session to tell: there the settings go
ahead of each transaction's first statement, in the same message, so that none costs a round trip more.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg2.extensions
from psycopg2.extensions import STATUS_READY
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

#: An option that only a session has which heard of it; where it is unknown, the options went no further than a pooler.
_MARK = "mutt.session"
MARK = f"-c {_MARK}=on"

_OPTION = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|\S)*)")

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
    ahead: str = ""  #: what each transaction begins with, where the session can't hold it
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

    def execute(self, query: Any, given: Any = None) -> None:
        if self._begins() and isinstance(query, str):
            # PostgreSQL holds each of them to its limit by itself, and psycopg2 hands out the last one's rows.
            ahead = self.connection.ahead
            query = (ahead if given is None else ahead.replace("%", "%%")) + query
        self.connection.patiently(super().execute, query, given)

    def executemany(self, *args: Any, **kwargs: Any) -> None:
        self._ahead()
        self.connection.patiently(super().executemany, *args, **kwargs)

    def copy_expert(self, *args: Any, **kwargs: Any) -> None:
        self._ahead()
        self.connection.patiently(super().copy_expert, *args, **kwargs)

    def _ahead(self) -> None:
        if self._begins():
            self.connection.patiently(super().execute, self.connection.ahead)

    def _begins(self) -> bool:
        """Is what is asked now the first of a transaction whose session holds no settings?"""
        connection = self.connection
        return bool(connection.ahead) and not connection.autocommit and connection.status == STATUS_READY


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


_LIMIT = (
    "SELECT current_setting('mutt.session', true),"
    " extract(epoch FROM current_setting('statement_timeout')::interval)"
)


def _connected(connection: PatientConnection, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_LIMIT)
        marked, seconds = cursor.fetchone() or (None, 0)
        if not marked:
            connection.rollback()
            connection.ahead = _ahead_of(connection.info.dsn_parameters.get("options", ""))
            cursor.execute(_LIMIT)
            _, seconds = cursor.fetchone() or (None, 0)
    connection.rollback()
    if not isinstance(connection, HastyConnection):
        connection.usual = _beyond(float(seconds))


def has_session(conn: Connection) -> bool:
    """Is there a session behind this connection, and not a pooler that lends one for a transaction?"""
    return bool(conn.execute(text("SELECT current_setting('mutt.session', true)")).scalar_one())


def _ahead_of(options: str) -> str:
    """A session's options as what a transaction begins with; of several for one setting the last."""
    found = _OPTION.findall(options)
    told = {name.replace("-", "_"): re.sub(r"\\(.)", r"\1", value) for name, value in found if name != _MARK}
    set_ = (f"set_config({_quoted(name)}, {_quoted(value)}, true)" for name, value in told.items())
    return f"SELECT {', '.join(set_)};"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


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
