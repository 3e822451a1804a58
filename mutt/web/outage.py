"""What ingest knows of an outage of Redis: what can do without it does not wait for it meanwhile."""

from __future__ import annotations

import time

from mutt.pipeline.accept import AWAY


class Outage:
    """One that was met a moment ago. Threads may share it."""

    def __init__(self) -> None:
        self._until = float("-inf")  # monotonic

    @property
    def lasts(self) -> bool:
        """Is Redis taken to be away?"""
        return time.monotonic() < self._until

    def note(self) -> None:
        """Redis did not answer just now."""
        self._until = time.monotonic() + AWAY
