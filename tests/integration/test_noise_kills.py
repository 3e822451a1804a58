"""Workers die between commit and settle while clears cancel what Moog has not got: no fault stays open at Moog."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mutt.alert import Alert, Outcome, Status
from mutt.entry import Entry, Move, deliver, leave_lane
from mutt.event import Event
from mutt.pipeline.record import sweep
from mutt.streams.bound import Held
from tests.bench import CLAIM, Bench, benches, clear, event
from tests.waiting import wait_until

STEPS = 60


class Site:
    """Two workers that may die, Moog, and what is really up or down."""

    def __init__(self, pair: list[Bench], dice: random.Random) -> None:
        self.pair, self.dice = pair, dice
        self.down: dict[str, bool] = {}
        self.at_moog: dict[str, bool] = {}
        self.in_work: list[Entry] = []
        self.lanes = Held(pair[0].plain_lanes, "forward")

    def happen(self) -> Event:
        """A port goes down or comes up."""
        port = self.dice.choice(("a", "b", "c"))
        self.down[port] = not self.down.get(port, False)
        told = {"clear_key": f"link:{port}", "instance": port}
        make = event if self.down[port] else clear
        return make("LINK-DOWN" if self.down[port] else "is up", "core-1", **told)

    def work(self, dies: bool) -> None:
        worker = self.dice.choice(self.pair)
        entries = worker.take()
        if entries:
            moves = worker.evaluate(entries)
            if not dies:
                worker.held.settle(moves)

    def take_for_moog(self) -> None:
        self.in_work += self.lanes.take(1).entries

    def finish_at_moog(self) -> None:
        for entry in self.in_work:
            alert = entry.decode(Alert)
            self.at_moog[alert.signature.rpartition("::")[2]] = alert.severity > 0
            outcome = Outcome(alert=alert, status=Status.DELIVERED, attempts=1, at=datetime.now(UTC))
            move = Move(
                entry, {"alerts.waiting": -1, "alerts.delivered": 1}, [leave_lane(alert), deliver(outcome)]
            )
            assert self.pair[0].services.alert_stream.settle([move]) == [True]
        self.in_work = []

    def calm(self) -> None:
        """Everything that was left is worked, by somebody."""
        one = self.pair[0]

        def worked() -> bool:
            one.run()
            return one.services.ingest_stream.size() == 0

        wait_until(worked, 20 * CLAIM, "all entries to be worked")
        while self.in_work or one.plain_lanes.size():
            self.finish_at_moog()
            self.take_for_moog()
        one.record()


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    with benches(redis_url, database_url, 2, cancel_cleared=True) as made:
        yield made


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_moog_ends_where_the_network_does(pair: list[Bench], seed: int, dies: bool) -> None:
    """Whenever Moog takes an alert, at the end it shows as open what is down, and nothing else.

    A worker that dies holds back what it had: a clear of its may come after the next raise, and close it. But what
    is up is never left open.
    """
    dice = random.Random(seed)
    site = Site(pair, dice)
    one = pair[0]
    for _ in range(STEPS):
        dice.choices(
            (
                lambda: one.append(*(site.happen() for _ in range(dice.randint(1, 4)))),
                lambda: site.work(dies=False),
                lambda: site.work(dies=dies),
                site.take_for_moog,
                site.finish_at_moog,
                one.record,
                lambda: sweep(
                    one.services.store, one.services.lanes, datetime.now(UTC) + timedelta(hours=1), 1000
                ),
            ),
            (6, 8, 2, 5, 5, 2, 1),
        )[0]()
    site.calm()
    wrong = {
        port
        for port, is_down in site.down.items()
        if site.at_moog.get(port, False) is not is_down and not (dies and is_down)
    }
    assert not wrong, (site.down, site.at_moog)
    one.check()
    statuses = {row.status for row in one.alerts()}
    assert statuses <= {"delivered", "cancelled"}
