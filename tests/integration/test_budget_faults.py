"""P3 under faults: whatever dies, stalls, restarts or differs, no window holds more starts than the limit.

``MUTT_TEST_BUDGET_SECONDS`` makes the faults last longer than the few seconds that they last in ``make test``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutt.budget.arithmetic import Budget
from mutt.moogsim.server import Simulator
from mutt.streams.connect import Client, connect
from tests.budget_windows import Fleet, over_in_window
from tests.forwarding import Works, alert
from tests.proxy import proxied
from tests.servers import Live
from tests.waiting import wait_until

LIMIT, PERIOD = 20, 0.5

#: Read when the suite starts: the tests themselves run in a clean environment.
LASTS = float(os.environ.get("MUTT_TEST_BUDGET_SECONDS", "2"))


@pytest.fixture
def moog() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def backlog(client: Client, alerts: int) -> None:
    works = Works(client, Budget(limit=LIMIT, period=PERIOD))
    for first in range(0, alerts, 500):
        works.raise_alerts(*(alert(n) for n in range(first, min(first + 500, alerts))))


def within_budget(fleet: Fleet, moog: Simulator) -> None:
    seen, starts = len(moog.starts), fleet.starts()
    assert over_in_window(starts, LIMIT, PERIOD) == 0, "by the forwarders' first bytes"
    # When it reads them depends on who else has the processor.
    assert len(starts) >= seen, "and Moog got no request that they did not note"


def elapsed(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 60, every=0.1)


@pytest.mark.timeout(120 + LASTS)
def test_thirty_forwarders_that_die_and_stall_at_a_jittery_redis_that_restarts_never_exceed_the_budget(
    own_redis: Live, moog: Simulator, own_directory: Path
) -> None:
    with connect(own_redis.url) as client:
        backlog(client, 2000)
    with (
        proxied(own_redis.url) as proxy,
        Fleet(
            own_directory,
            "frail",
            redis_url=proxy.url,
            moog_url=moog.enterprise_url,
            forwarders=30,
            limit=LIMIT,
            period=PERIOD,
            kill=0.05,
            stop=0.10,
            clock=3600.0,
        ) as fleet,
    ):
        fleet.wait_for_starts(LIMIT)
        proxy.shake(0.01)
        elapsed(LASTS / 4)
        own_redis.restart()
        fleet.wait_for_starts(LIMIT)
        proxy.shake(0.0)
        proxy.cut()
        elapsed(LASTS / 4)
        with connect(own_redis.url) as client:
            client.client_pause(round(LASTS / 8 * 1000))
        fleet.wait_for_starts(LIMIT)
        elapsed(LASTS / 4)
        wait_until(
            lambda: {"killed", "stopped"} <= fleet.faults().keys(), 30, "forwarders that died and stalled"
        )
        within_budget(fleet, moog)


@pytest.mark.timeout(120)
def test_a_forwarder_with_a_lower_limit_binds_those_that_still_run_with_the_old_one(
    redis_url: str, moog: Simulator, own_directory: Path
) -> None:
    with connect(redis_url) as client:
        backlog(client, 600)
    common = {"redis_url": redis_url, "moog_url": moog.enterprise_url, "period": PERIOD}
    with Fleet(own_directory, "old", forwarders=3, limit=LIMIT, **common) as old:
        old.wait_for_starts(LIMIT)
        within_budget(old, moog)
        lower = LIMIT // 4
        with Fleet(own_directory, "new", forwarders=1, limit=lower, **common) as new:
            new.wait_for_starts(2)
            old.wait_for_starts(lower)
            first = new.starts()[0]
            both = [at for at in [*old.starts(), *new.starts()] if at > first - PERIOD]
            assert len(both) > lower
            assert over_in_window(both, lower, PERIOD) == 0
