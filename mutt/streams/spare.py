"""Spare: how busy the lanes, the budget and the ingest queue are now, asked in two round trips."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import redis

from mutt import names
from mutt.budget.arithmetic import Budget, window
from mutt.streams.connect import Client


@dataclasses.dataclass(frozen=True)
class Load:
    """How busy it is now."""

    used: int = 0  #: requests that the budget granted within its window
    standing: int = 0  #: alerts in the lanes and behind others
    queued: int = 0  #: events in the ingest queue
    breaker: str = "closed"
    paused: bool = False  #: Moog asked for a pause


def load(client: Client, budget: Budget, elsewhere: Sequence[Client] = ()) -> Load:
    """The load now, on Redis' clock. A server elsewhere that does not answer counts for nothing."""
    seconds, micros = client.time()
    now_us = seconds * 1_000_000 + micros
    with client.pipeline(transaction=False) as pipe:
        pipe.zcount(names.BUDGET, now_us - round(window(budget.period) * 1e6), "+inf")
        pipe.hmget(names.BREAKER, "state", "pause_until")
        pipe.hget(names.LEDGER, "events.queued")
        pipe.hvals(names.BEHIND_COUNTS)
        for lane in names.LANE_STREAMS:
            pipe.xlen(lane)
        used, (state, pause), queued, behind, *lanes = pipe.execute()
    return Load(
        used=used,
        standing=sum(lanes) + sum(map(int, behind)),
        queued=int(queued or 0) + sum(map(_queued, elsewhere)),
        breaker=(state or b"closed").decode(),
        paused=float(pause or 0) > now_us,
    )


def _queued(elsewhere: Client) -> int:
    with contextlib.suppress(redis.RedisError):
        return int(elsewhere.hget(names.LEDGER, "events.queued") or 0)
    return 0
