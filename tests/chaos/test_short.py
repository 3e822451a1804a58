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
        assert found(sent).lost == 1, "a delivered alert that Moog never got"
        cursor.execute(
            "INSERT INTO event_audit_log SELECT (jsonb_populate_record(e, jsonb_build_object("
            "'received_at', e.received_at + interval '1 second'))).* FROM event_audit_log e"
            " WHERE hostname LIKE %s AND matched_rule_id IS NULL LIMIT 1",
            (hosts,),
        )
        assert found(sent).double == 1


def test_requests_beyond_the_limit_are_seen():
    at = 1000.0
    made_up = type("MadeUp", (), {"first_bytes": lambda _: [at + n / 1000 for n in range(103)]})()
    assert over_budget(made_up, (at - 1, at + 10), way=True) == (3, "3 over by the forwarders' first bytes")


def test_the_same_seed_gives_the_same_run():
    def plan(seed: int) -> list[str]:
        dice = random.Random(seed)
        scenarios = runner.planned(runner.chosen("", dice), 8, dice)
        return [" + ".join(fault.name for fault in scenario) for scenario in scenarios]

    assert plan(3) == plan(3)
    assert plan(3) != plan(4)
    assert len(plan(3)) > 60
    for scenario in runner.planned(runner.chosen("", random.Random(5)), 8, random.Random(5)):
        assert len(scenario) == 1 or not scenario[0].touches & scenario[1].touches
