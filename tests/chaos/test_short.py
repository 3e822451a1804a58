"""The short form of ``make chaos``, and that the runner sees what it is there to see."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.chaos import run as runner
from tests.chaos.balance import Found, judge, over_budget, standing
from tests.chaos.faults import FAULTS
from tests.chaos.load import NOISY, Load, Sent
from tests.chaos.site import Site, site
from tests.servers import scratch
from tests.waiting import wait_until

SEED = 1
EVENTS = 12_000

#: One of each kind.
SHORT = (
    ("a worker killed",),
    ("a forwarder killed",),
    ("ingest's child killed",),
    ("a worker stopped, then woken: robbed",),
    ("Redis killed",),
    ("PostgreSQL killed",),
    ("Moog hangs up after it took",),
    ("workers - Redis: replies cut",),
    ("workers - PostgreSQL: black hole",),
    ("doorbells lost", "a migration missing"),
)


@pytest.fixture(scope="module")
def made() -> Iterator[Site]:
    with scratch() as directory, site(directory, {"INGEST_SPILL": "on"}) as made:
        yield made


@pytest.mark.timeout(300)
def test_no_fault_of_the_short_form_costs_or_doubles_an_event_or_exceeds_the_budget(made):
    scenarios = [tuple(FAULTS[name] for name in names) for names in SHORT]
    found: list[Found] = []
    runner.run(made, scenarios, EVENTS, SEED, found.append)
    assert [one for one in found if not one.good] == []
    assert len(found) == len(scenarios)
    assert sum(one.accepted for one in found) >= EVENTS


@pytest.mark.timeout(120)
def test_the_balance_sees_a_lost_row_a_second_one_an_alert_that_moog_never_got_and_a_row_of_nobody(made):
    number = 900
    load = Load(made.ingest, made.keys, number, SEED, 1500.0).start()
    wait_until(lambda: load.accepted > 1500, 30, "load to flow")
    sent = load.stop()
    made.stack.balanced()

    def found(sent: Sent) -> Found:
        return judge(made, number, "none", sent, (0.0, 0.0))

    honest = found(sent)
    assert (honest.lost, honest.double, honest.why) == (0, 0, "")
    there = standing(made, f"chaos-{number}-")
    assert {alert.state for alert in there.alerts} == {"raise", "clear"}
    assert [alert.hostname for alert in there.alerts if not alert.mark] == [f"chaos-{number}-{NOISY}"]
    assert found(Sent(accepted={*sent.accepted, f"c{number}.x"})).lost == 1
    assert "nobody sent" in found(Sent(accepted=set(list(sent.accepted)[1:]))).why
    hosts = f"chaos-{number}-%"
    with made.sql() as cursor:
        cursor.execute(
            "INSERT INTO alerts SELECT (jsonb_populate_record(a, jsonb_build_object("
            "'alert_id', gen_random_uuid(), 'event_id', gen_random_uuid()))).* FROM alerts a"
            " WHERE hostname LIKE %s LIMIT 1",
            (hosts,),
        )
        twice = found(sent)
        assert (twice.lost, twice.double) == (1, 1), "a second alert, delivered, that Moog never got"
        cursor.execute(
            "INSERT INTO event_audit_log SELECT (jsonb_populate_record(e, jsonb_build_object("
            "'received_at', e.received_at + interval '1 second'))).* FROM event_audit_log e"
            " WHERE hostname LIKE %s AND matched_rule_id IS NULL LIMIT 1",
            (hosts,),
        )
        assert found(sent).double == 2
    said: list[Found] = []
    (last,) = runner.weighed_again(made, [(number, honest, sent)], said.append)
    assert not last.good, "what went wrong later is seen at the end of the run"
    assert said == [last]
    assert (last.lost, last.double) == (1, 2)
    assert runner.weighed_again(made, [(number, last, sent)], said.append) == [last]


class MadeUp:
    """A site of which nothing is known but when requests began."""

    def __init__(self, first: int) -> None:
        self._first = first

    def first_bytes(self) -> list[float]:
        return [1000 + n / 1000 for n in range(self._first)]


@pytest.mark.parametrize(
    ("first", "reads", "way", "over"),
    [
        (103, 0, True, (3, "3 over by the forwarders' first bytes")),
        (0, 104, False, (4, "4 over by the simulator's first reads")),
        (100, 100, False, (0, "")),
        (100, 100, True, (0, "")),
        (0, 2, True, (0, "the forwarders told of 0 first bytes, and 2 requests came to Moog")),
    ],
)
def test_requests_beyond_the_limit_are_seen_and_that_nobody_noted_them(first, reads, way, over):
    received = [{"request": n, "at": 1000 + n / 1000} for n in range(reads)]
    assert over_budget(MadeUp(first), (999.0, 1010.0), received, way=way) == over


def planned(seed: int, *, spill: bool = True) -> list[runner.Scenario]:
    dice = random.Random(seed)
    return runner.planned(runner.chosen("", dice, spill=spill), 8, dice)


def test_the_same_seed_gives_the_same_run():
    def plan(seed: int) -> list[str]:
        return [" + ".join(fault.name for fault in scenario) for scenario in planned(seed)]

    assert plan(3) == plan(3)
    assert plan(3) != plan(4)
    assert len(plan(3)) > 60
    for scenario in planned(5):
        assert len(scenario) == 1 or not scenario[0].touches & scenario[1].touches


@pytest.mark.parametrize("seed", range(5))
def test_every_run_has_half_answers_of_moog_and_breaks_the_spill_only_where_there_is_one(seed):
    alone = {one.name for one, *more in planned(seed) if not more}
    assert {"Moog answers half", "forwarders - Moog: replies cut"} <= alone
    assert sum(name.startswith("ingest - PostgreSQL") for name in alone) == 2
    assert not any(one.spill for scenario in planned(seed, spill=False) for one in scenario)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("senders' clocks stepped", "senders - ingest: black hole"),
        ("senders' clocks stepped", "everybody - PostgreSQL: black hole"),
        ("Moog fails: 500", "everybody - Redis: refused"),
        ("doorbells lost", "ingest - Redis: black hole"),
        ("forwarders - Moog: slow", "senders - ingest: refused"),
        ("forwarders - Moog: slow", "ingest - PostgreSQL: refused, and Redis away"),
        ("Moog throttles: 429", "Redis killed"),
    ],
)
def test_of_two_faults_the_one_that_stops_what_the_other_shows_in_comes_second(first, second):
    for pair in ((first, second), (second, first)):
        *_, both = sorted(runner.planned([FAULTS[name] for name in pair], 1, random.Random(1)), key=len)
        assert [one.name for one in both] == [first, second]
