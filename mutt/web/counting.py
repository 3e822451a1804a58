"""Counts posts against the quotas of their keys: for all replicas, or in this process while Redis is away."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from mutt.quota import Ask, Counted
from mutt.streams.connect import Client
from mutt.streams.quota import Quotas
from mutt.web.keys import Keys
from mutt.web.outage import Outage

log = logging.getLogger("mutt.ingest")


class Counting:
    """Ends no sender by an outage."""

    def __init__(self, client: Client, keys: Keys, outage: Outage) -> None:
        self.quotas, self._alone = Quotas(client), False
        self._keys, self._outage = keys, outage

    def take(self, asks: Sequence[Ask]) -> list[Counted]:
        """Count what fits into the quotas: for all replicas, or in this process while Redis is away."""
        if not self._outage.lasts and not self._keys.away:
            try:
                counted, self._alone = self.quotas.take(asks), False
            except redis.RedisError as error:
                self._outage.note()
                if not self._alone:  # an outage is a line, and not one a second
                    log.warning("quotas are counted in this process: %s", error)
                self._alone = True
            else:
                return counted
        return self.quotas.take_here(asks)

    def give_back(self, granted: Sequence[tuple[Ask, Counted]]) -> None:
        """A quota counts what was accepted."""
        try:
            self.quotas.give_back(granted, here=self._outage.lasts)
        except redis.RedisError:
            self._outage.note()
