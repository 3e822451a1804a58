"""The API keys on their way from PostgreSQL to Redis, after a change or where they may be gone; and back, their use."""

from __future__ import annotations

from datetime import UTC, datetime

from mutt.services import Services
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.streams.keys import SIGNED, KeysCopy


def publish(services: Services) -> int:
    """Make the copy in Redis say what PostgreSQL says. How many keys are good.

    Call it after the commit of a change. Raises StoreDown; ``redis.RedisError`` passes through: the change stands, and
    housekeeping publishes it within a minute.
    """
    with transaction(services.engine) as conn:
        at = keys.hold_publication(conn)
        grants, signed = keys.copy(conn), keys.signed(conn)
        KeysCopy(services.redis).publish(grants, signed, at)
    return len(grants)


def note_uses(services: Services) -> int:
    """Bring into PostgreSQL when keys were used. How many rows changed."""
    copy = KeysCopy(services.redis)
    taken = copy.take_used()
    at = {what: datetime.fromtimestamp(ms / 1000, UTC) for what, ms in taken.items()}
    signed = {what.removeprefix(SIGNED): at.pop(what) for what in taken if what.startswith(SIGNED)}
    try:
        with transaction(services.engine) as conn:
            return keys.note_use(conn, at) + keys.note_signed(conn, signed)
    except BaseException:
        copy.used(taken)
        raise
