"""What an outage says to somebody at a shell: a sentence that names the server, never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from mutt.errors import MuttError, StoreDown
from mutt.store.engine import fault

_REDIS = (
    "Start it (`mutt up` has one of its own), or say in REDIS_URL where it is; `mutt doctor` looks closer"
)
_POSTGRES = (
    "Start it (`mutt up` has one of its own), or say in DATABASE_URL where it is; `mutt doctor` looks closer"
)

_BROKER = "Start it, or say in BROKER_URL where it is; `mutt doctor` looks closer"


class Away(MuttError):
    """A server that the command needs does not answer."""


@contextlib.contextmanager
def spoken() -> Iterator[None]:
    """Around a command: Redis', the broker's and PostgreSQL's errors become :class:`Away`. Also a decorator."""
    try:
        yield
    except redis.RedisError as error:
        raise Away(f"Redis can't be asked: {first_line(error)}. {_REDIS}") from error
    except OperationalError as error:
        raise Away(f"The broker can't be asked: {first_line(error)}. {_BROKER}") from error
    except StoreDown as error:
        raise Away(f"PostgreSQL can't be asked: {first_line(error)}. {_POSTGRES}") from error
    except SQLAlchemyError as error:
        raise Away(f"PostgreSQL can't be asked: {first_line(fault(error))}. {_POSTGRES}") from error


def first_line(error: Exception) -> str:
    """An error in one line; of a class that says nothing, its name."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
