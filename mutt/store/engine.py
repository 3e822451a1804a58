"""Connections to PostgreSQL, and its errors as MUTT's own.

With DATABASE_CA nothing is sent to a server before its certificate and host name were checked. A login may change while
the process runs: each new connection asks for it anew, and old ones stay until they end.

A session's settings travel in the connection's ``options``. A pooler drops those (PgBouncer with
``ignore_startup_parameters = options``); then each transaction brings them itself (patience).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mutt.errors import AlreadyStored, MuttError, PoisonRow, StoreDown
from mutt.settings import Settings
from mutt.store.patience import MARK, HastyConnection, PatientConnection, PatientCursor, watch
from mutt.tls import check_ca

CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 20  # seconds: below the claim timeout, so that a drain never outlives its claim
TCP_TIMEOUT = 20  # seconds in which the other side's kernel confirms what was sent
GUARD_TIMEOUT = 5  # seconds: a lock that is only tried
IDLE_TIMEOUT = 60  # seconds a transaction may stand idle before the server ends it

#: What TLS an address may ask for: the floor of :mod:`mutt.tls`, or more.
TLS_FLOOR, TLS_KNOWN = "TLSv1.2", ("TLSv1.2", "TLSv1.3")

SAID_MAX = 300  # characters of PostgreSQL's words: some of them quote what was sent

#: What helps, where that is not plain from what PostgreSQL says.
_MIGRATE = ": its schema is not this MUTT's: run `mutt migrate`"
_REMEDIES = {
    "42P01": _MIGRATE,  # a table is missing
    "42703": _MIGRATE,  # a column is
    "25006": ": it is a standby, or was set to read-only: DATABASE_URL must name one that takes writes",
}

HASTY_DEAD_AFTER = 2000  # milliseconds without an acknowledgement of what was sent, for hasty_engine

_UNIQUE_VIOLATION = "23505"
_CHECK_VIOLATION = "23514"
_BAD_TEXT = "22021"


def make_engine(
    settings: Settings, *, role: str, which: str = "database_url", patience: float = CONNECT_TIMEOUT
) -> Engine:
    """A pool of ``db_pool_min`` to ``db_pool_max`` connections for one process.

    ``role`` names the process in ``pg_stat_activity``. ``which`` is the setting that holds the address.
    ``patience`` is how many seconds a caller waits for a connection that others use.
    Make it after fork. Nothing is connected yet. Raises :class:`SettingsError`.
    """
    address = _address(getattr(settings, which))
    kept = max(1, min(settings.db_pool_min, settings.db_pool_max))
    engine = create_engine(
        address,
        pool_size=kept,
        max_overflow=settings.db_pool_max - kept,
        pool_timeout=patience,
        pool_pre_ping=True,
        pool_use_lifo=True,
        connect_args=_connect_args(address, role, settings.database_ca)
        | {
            "options": _session_options(address, statement=STATEMENT_TIMEOUT, idle=IDLE_TIMEOUT),
            "connection_factory": PatientConnection,
            "cursor_factory": PatientCursor,
        },
    )
    _ask_for_login(engine, settings, which)
    watch(engine)
    return engine


def hasty_engine(settings: Settings, *, role: str, size: int, timeout: float) -> Engine:
    """A pool of at most ``size`` connections for who can't wait: a statement has ``timeout`` seconds.

    A server that is gone without a word is found out within a few seconds, a session that hangs after a second: it
    gives its place in the pool back. Nothing is connected yet.
    """
    address = _address(settings.database_url)
    engine = create_engine(
        address,
        pool_size=size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        pool_use_lifo=True,
        connect_args=_connect_args(address, role, settings.database_ca)
        | {
            "connect_timeout": 2,  # the least that libpq knows
            "tcp_user_timeout": HASTY_DEAD_AFTER,
            "options": _session_options(address, statement=timeout, idle=2 * timeout),
            "connection_factory": HastyConnection,
            "cursor_factory": PatientCursor,
        },
    )
    _ask_for_login(engine, settings)
    watch(engine)
    return engine


def guard_engine(settings: Settings, *, role: str) -> Engine:
    """Without a pool, for a lock that is held beside the work: its session has time limits, and none waits for ever."""
    address = _address(settings.database_url)
    engine = create_engine(
        address,
        poolclass=NullPool,
        connect_args=_connect_args(address, role, settings.database_ca)
        | {
            "options": _session_options(address, statement=GUARD_TIMEOUT, idle=IDLE_TIMEOUT),
            "connection_factory": PatientConnection,
            "cursor_factory": PatientCursor,
        },
    )
    _ask_for_login(engine, settings)
    watch(engine)
    return engine


def one_shot_engine(url: str, *, role: str, ca: str = "") -> Engine:
    """Without a pool and without time limits, for what runs once: a migration. ``ca`` is DATABASE_CA."""
    address = _address(url)
    told = _connect_args(address, role, ca) | {"options": _options(address, MARK)}
    return create_engine(address, poolclass=NullPool, connect_args=told)


def _address(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+psycopg2")


def _ask_for_login(engine: Engine, settings: Settings, which: str = "database_url") -> None:
    @event.listens_for(engine, "do_connect")
    def ask(_dialect: Any, _record: Any, _args: Any, how: dict[str, Any]) -> None:
        address = _address(settings.current(which, at_once=True))
        now = {"user": address.username, "password": address.password}
        how.update({name: value for name, value in now.items() if value})


def _connect_args(address: URL, role: str, ca: str) -> dict[str, Any]:
    # GSSAPI would be tried first, and knows nothing of certificates.
    tls = {"sslmode": "verify-full", "sslrootcert": check_ca("DATABASE_CA", ca), "gssencmode": "disable"}
    asked = address.query.get("ssl_min_protocol_version")
    return {
        **(tls if ca else {}),
        # What stands here wins over the address, which may ask for more, and not for less.
        "ssl_min_protocol_version": asked if asked in TLS_KNOWN else TLS_FLOOR,
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": f"mutt-{role}",
        "client_encoding": "utf8",
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        # Keepalives are silent while something is on its way: a host that vanished is given up after this, in ms.
        "tcp_user_timeout": TCP_TIMEOUT * 1000,
    }


def _session_options(address: URL, *, statement: float, idle: float) -> str:
    return _options(
        address,
        f"-c statement_timeout={round(statement * 1000)}ms"
        f" -c idle_in_transaction_session_timeout={round(idle * 1000)}ms"
        f" -c timezone=UTC {MARK}",
    )


def _options(address: URL, ours: str) -> str:
    # The address' own options come last: they win.
    given = address.query.get("options", "")
    theirs = given if isinstance(given, str) else " ".join(given)
    return f"{ours} {theirs}".rstrip()


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on an error, which is translated.

    After an outage its connection is not used again: a session that began while the server was read-only stays so,
    and one to a server that was demoted would be asked for ever.
    """
    with translated(), engine.connect() as connection:
        try:
            with connection.begin():
                yield connection
        except (SQLAlchemyError, psycopg2.Error) as error:
            if isinstance(fault(error), StoreDown):
                connection.invalidate()
            raise


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLAlchemy and psycopg2 raise into :class:`StoreDown`, :class:`PoisonRow` or :class:`AlreadyStored`.

    Hold it around the whole transaction: COMMIT fails too. What the client itself refuses to send (NUL, a lone
    surrogate) is poison as well.
    """
    try:
        yield
    except (SQLAlchemyError, psycopg2.Error) as error:
        found = fault(error)
        _without_rows(error)
        raise found from error
    except UnicodeEncodeError as error:
        raise PoisonRow(str(error), _BAD_TEXT) from error
    except ValueError as error:
        if "NUL" not in str(error):
            raise
        raise PoisonRow(str(error), _BAD_TEXT) from error


def _without_rows(error: BaseException | None) -> None:
    """Leave of what PostgreSQL said its first line: the others hold rows, and tracebacks hold what is said."""
    while error is not None:
        if isinstance(error, (SQLAlchemyError, psycopg2.Error)):
            error.args = tuple(_first_line(part) for part in error.args)
        if hasattr(error, "hide_parameters"):
            error.hide_parameters = True
        error = error.__cause__ or error.__context__


def _first_line(said: object) -> object:
    return said.strip().partition("\n")[0][:SAID_MAX] if isinstance(said, str) else said


def fault(error: Exception) -> MuttError:
    """What an error of SQLAlchemy or psycopg2 means. Whatever isn't surely about the rows is an outage."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "pgcode", None) or ""
    said = str(cause).strip().partition("\n")[0][:SAID_MAX]
    if state == _UNIQUE_VIOLATION:
        return AlreadyStored(said)
    if state == _CHECK_VIOLATION and cause.diag.constraint_name is None:  # type: ignore[union-attr]
        # No partition for the row: the table is at fault, not the row.
        return StoreDown(f"{state} {said}: run `mutt partitions ensure`", state)
    if state[:2] in ("22", "23", "54"):
        return PoisonRow(said, state)
    return StoreDown(f"{state} {said}{_REMEDIES.get(state, '')}".strip(), state)
