"""After a change of keys is committed: ingest is told of it, through the copy in Redis."""

from __future__ import annotations

import logging

import redis

from mutt import keyring
from mutt.errors import SettingsError, StoreDown
from mutt.services import Services

log = logging.getLogger("mutt.keys")

#: What is said where ingest could not be told.
LATER = "Redis does not answer: ingest hears of it within a minute after Redis does."


def published(services: Services) -> bool:
    """Does ingest hear of what was just committed? Else housekeeping tells it, when Redis answers again."""
    try:
        keyring.publish(services)
    except (redis.RedisError, SettingsError, StoreDown) as error:
        log.warning("a change of the API keys is not in Redis yet: %s", type(error).__name__)
        return False
    return True
