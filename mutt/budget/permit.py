"""Permit: the permission to start one request, as the HTTP client sees it."""

from __future__ import annotations

import msgspec


class Permit(msgspec.Struct, frozen=True):
    """One unit of budget. It is good for a moment only, and for one request."""

    token: str  #: names the grant in the budget's log, and the holder of the half-open probe
    generation: int  #: of the breaker; an answer to an older one is ignored
    expires_at: float  #: on ``time.monotonic()``, counted from before the budget was asked

    def holds(self, now: float) -> bool:
        """May a request still start at ``now`` (monotonic seconds)?"""
        return now <= self.expires_at
