"""The budget's arithmetic: pure."""

from __future__ import annotations

import dataclasses

#: The share of the period that a permit lives for, and its least, in seconds.
SLACK_SHARE = 0.025
SLACK_LEAST = 0.025

#: Seconds that a permit may be good for where Redis is slow. Throughput falls then; the bound does not move.
SLACK_MOST = 0.25

#: A pause that Moog asks for is honoured up to this many seconds at a time; then requests within the budget ask again.
PAUSE_MOST = 300.0


def slack(period: float) -> float:
    """Seconds that a permit is good for."""
    return max(period * SLACK_SHARE, SLACK_LEAST)


def window(period: float) -> float:
    """Seconds that a grant stays in the log."""
    return period + slack(period)


#: Seconds for which a forwarder's limit and period bind all others after it asked last, at least two windows.
AGREE_LEAST = 15.0


@dataclasses.dataclass(frozen=True)
class Budget:
    """``limit`` requests in any window of ``period`` seconds, and the breaker beside it."""

    limit: int = 50
    period: float = 1.0
    threshold: int = 10  #: failures in a row that open the breaker
    timeout: float = 300.0  #: seconds that it stays open
    deadline: float = 10.0  #: seconds that one request may take

    @property
    def slack(self) -> float:
        return slack(self.period)

    @property
    def slack_most(self) -> float:
        return max(self.slack, SLACK_MOST)

    @property
    def fence(self) -> float:
        """Seconds in which nothing is granted after a restart of Redis: the longest that a lost grant could count."""
        return self.period + self.slack_most

    @property
    def options(self) -> dict[str, int]:
        """What ``gate.lua`` is told."""
        return {
            "limit": self.limit,
            "window_us": round(window(self.period) * 1e6),
            "extra_most_us": round((self.slack_most - self.slack) * 1e6),
            "threshold": self.threshold,
            "timeout_us": round(self.timeout * 1e6),
            # Longer than the request's deadline: the lock must not run out under a living probe.
            "lock_ms": round((self.deadline + 5.0) * 1000),
            "pause_max_us": round(PAUSE_MOST * 1e6),
            "agree_us": round(AGREE_LEAST * 1e6),
        }


def celery_rate(limit: int, period: float, turn: int) -> str:
    """Celery's ``rate_limit`` for forward: a second guard, per worker, at one and a half times the budget."""
    a_second = 1.5 * limit / period / turn
    return f"{a_second:g}/s" if a_second >= 1 else f"{max(1, round(a_second * 60))}/m"
