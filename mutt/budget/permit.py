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


class Patience:
    """How long one forwarder's permits live, in seconds: as long as its Redis makes it need, and no longer.

    A permit counts from before the budget is asked. Where asking takes longer than a permit lives, none could ever be
    used: so where all ran out for a second, the next ones live twice as long, up to ``most``; each that is used
    shortens that a little. Some that run out among others tell of a busy processor, and cost nothing: their grants go
    back. The log of grants counts a longer life, so the bound stays where it is. Threads may share one.
    """

    FOR = 1.0  #: seconds
    SHORTER = 0.98

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, max(least, most)
        self._since: float | None = None  #: when the first one ran out since one was used
        self.seconds = least

    def now(self) -> tuple[float, float]:
        """How long the next permit lives, and how much of it is beyond the least, as the gate is told.

        Read once: another thread may shorten it in between, and a permit must not outlive what the log counts.
        """
        seconds = self.seconds
        return seconds, seconds - self._least

    def ran_out(self, now: float) -> None:
        """A permit ran out at ``now`` (monotonic seconds)."""
        since = self._since  # read once: another thread may use a permit in between
        if since is None:
            self._since = now
        elif now - since >= self.FOR:
            self._since = now
            self.seconds = min(self._most, self.seconds * 2)

    def used(self) -> None:
        """A permit was used."""
        self._since = None
        self.seconds = max(self._least, self.seconds * self.SHORTER)
