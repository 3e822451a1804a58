"""Clears on real servers: each ends the raise of its host and key, under its signature, and never comes before it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import Row, func, select, text

from mutt import names
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.store.tables import recent_clears
from tests.bench import Bench, benches, clear, event


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    """Two workers."""
    with benches(redis_url, database_url, 2, evaluate_claim=60.0) as made:
        yield made


@pytest.fixture
def bench(pair: list[Bench]) -> Bench:
    return pair[0]


def down(key: str = "link:7", **fields: Any) -> Event:
    return event("LINK-DOWN Te0/7", clear_key=key, **fields)


def up(key: str = "link:7", **fields: Any) -> Event:
    return clear("Te0/7 is up", clear_key=key, **fields)


def sent_to_moog(bench: Bench) -> list[str]:
    """The states of the alerts of the one signature, in the order in which they will go to Moog."""
    (first,) = bench.lane("critical")
    return [str(alert.state) for alert in [first, *bench.behind(first)]]


def kept(bench: Bench) -> int:
    with bench.sql() as conn:
        return conn.execute(select(func.count()).select_from(recent_clears)).scalar_one()


def check_ended(raised: Row[Any], ended: Row[Any]) -> None:
    assert (raised.state, ended.state) == ("raise", "clear")
    assert raised.cleared_by == ended.alert_id
    assert ended.severity == 0
    same = ("signature", "lane", "rule_id", "team", "clear_key", "hostname")
    assert [getattr(ended, name) for name in same] == [getattr(raised, name) for name in same]


def test_a_raise_and_its_clear_in_one_take(bench: Bench) -> None:
    bench.append(down(), up())
    bench.run()
    raised, ended = bench.alerts()
    check_ended(raised, ended)
    assert ended.description == "Te0/7 is up"
    assert sent_to_moog(bench) == ["raise", "clear"]
    assert len(bench.rows()) == 2
    bench.check()


def test_a_raise_and_its_clear_in_two_takes(bench: Bench) -> None:
    for one in (down(), up()):
        bench.append(one)
        bench.run()
    check_ended(*bench.alerts())
    assert sent_to_moog(bench) == ["raise", "clear"]
    bench.check()


def told(status: str, peer: str, **more: Any) -> Event:
    """One alert as a group holds it that Alertmanager, or with ``orgId`` Grafana, sends."""
    labels = {"alertname": "CRITICAL", "instance": "core-1:9100", "peer": peer}
    at = "0001-01-01T00:00:00Z" if status == "firing" else datetime.now(UTC).isoformat()
    alert = {
        "status": status,
        "labels": labels,
        "startsAt": "2026-03-04T09:00:00Z",
        "endsAt": at,
        "fingerprint": peer,
    }
    body = orjson.dumps({"receiver": "mutt", "alerts": [alert], **more})
    context = Context(datetime.now(UTC), "key", 65536, "192.0.2.1")
    (event,) = registry.parse(registry.sniff(body, ""), body, context).events
    return event


@pytest.mark.parametrize("more", [{}, {"orgId": 1}], ids=["alertmanager", "grafana"])
def test_a_resolved_ends_the_alert_of_its_fingerprint_and_none_beside_it(bench: Bench, more: Any) -> None:
    bench.append(told("firing", "a", **more), told("firing", "b", **more))
    bench.append(told("resolved", "a", **more))
    bench.run()
    first, second, ended = bench.alerts()
    check_ended(first, ended)
    assert second.cleared_by is None
    assert second.signature != first.signature
    bench.check()


def test_a_clear_goes_under_the_stored_signature_though_the_rule_has_changed_since(bench: Bench) -> None:
    bench.append(down())
    bench.run()
    bench.change_rules(match_string="SOMETHING ELSE", moog_severity=1, team_assignment="Other")
    bench.append(up())
    bench.run()
    check_ended(*bench.alerts())


def test_a_clear_before_its_raise_is_kept_and_found_by_it(pair: list[Bench]) -> None:
    one, two = pair
    first, second = down(), up()
    one.append(first)
    one.append(second)
    slow, quick = one.take(1), two.take(1)
    two.held.settle(two.evaluate(quick))
    assert (two.alerts(), kept(two)) == ([], 1)
    one.held.settle(one.evaluate(slow))
    raised, ended = one.alerts()
    check_ended(raised, ended)
    assert (ended.event_id, ended.cause) == (second.event_id, first.event_id)
    assert sent_to_moog(one) == ["raise", "clear"]
    one.check()


def test_a_late_raise_that_was_committed_and_not_settled_brings_both_alerts_once(pair: list[Bench]) -> None:
    one, two = pair
    one.append(down())
    one.append(up())
    slow, quick = one.take(1), two.take(1)
    two.held.settle(two.evaluate(quick))
    one.evaluate(slow)  # and dies
    two.held.settle(two.evaluate(two.take_over()))
    assert sent_to_moog(two) == ["raise", "clear"]
    two.check()


def test_several_late_raises_are_ended_by_the_clear_that_followed_them(pair: list[Bench]) -> None:
    """The newest of them is what the clear ended; Moog must not be left with a raise after it."""
    one, two = pair
    one.append(down(), down())
    one.append(up())
    slow, quick = one.take(1), two.take(1)
    two.held.settle(two.evaluate(quick))
    one.held.settle(one.evaluate(slow))
    first, second, ended = one.alerts()
    check_ended(second, ended)
    assert first.cleared_by == ended.alert_id
    assert sent_to_moog(one) == ["raise", "raise", "clear"]
    one.check()


def test_several_late_raises_each_find_their_own_clear(pair: list[Bench]) -> None:
    one, two = pair
    first, end1, second, end2 = down(), up(), down(), up()
    one.append(first, second)
    one.append(end1, end2)
    slow, quick = one.take(1), two.take(1)
    two.held.settle(two.evaluate(quick))
    one.held.settle(one.evaluate(slow))
    assert sent_to_moog(one) == ["raise", "clear", "raise", "clear"]
    one.check()


def test_a_clear_without_a_raise_is_audited_only(bench: Bench) -> None:
    bench.append(up())
    bench.run()
    assert len(bench.rows()) == 1
    assert bench.alerts() == []
    bench.check()


def test_a_clear_without_a_key_is_audited_only_and_not_kept(bench: Bench) -> None:
    bench.append(event(), clear("CRITICAL is over"))
    bench.run()
    assert len(bench.alerts()) == 1
    assert kept(bench) == 0
    bench.check()


@pytest.mark.parametrize(
    "other", [up("link:8"), up(hostname="core-2"), up("LINK:7")], ids=["interface", "host", "spelling"]
)
def test_the_clear_of_something_else_ends_nothing(bench: Bench, other: Event) -> None:
    bench.append(down(), other)
    bench.run()
    (raised,) = bench.alerts()
    assert raised.cleared_by is None


def test_two_clears_for_one_raise_are_one_alert(bench: Bench) -> None:
    bench.append(down(), up(), up())
    bench.run()
    bench.append(up())
    bench.run()
    assert len(bench.rows()) == 4
    assert len(bench.alerts()) == 2
    bench.check()


def test_a_superfluous_clear_does_not_end_a_later_raise(bench: Bench) -> None:
    bench.append(down(), up(), up())
    bench.run()
    bench.append(down())
    bench.run()
    assert [alert.cleared_by is None for alert in bench.alerts()] == [False, True, True]


def test_a_clear_ends_the_newest_raise_and_all_older_ones(bench: Bench) -> None:
    bench.append(down(), down())
    bench.run()
    bench.append(up(), down())
    bench.run()
    first, second, ended, third = bench.alerts()
    check_ended(second, ended)
    assert first.cleared_by == ended.alert_id
    assert third.cleared_by is None


def test_an_ignored_clear_ends_its_raise_all_the_same(bench: Bench) -> None:
    bench.append(down(), clear("ERROR no more", clear_key="link:7"))
    bench.change_rules(dev_handling="Ignore")
    with bench.sql() as conn:
        conn.execute(text("UPDATE alert_rules SET prod_handling = 'Ignore' WHERE name = 'ERROR'"))
    bench.run()
    check_ended(*bench.alerts())


def test_a_redelivered_clear_is_one_alert(pair: list[Bench]) -> None:
    dead, alive = pair
    dead.append(down())
    dead.run()
    dead.append(up())
    dead.evaluate(dead.take())
    alive.held.settle(alive.evaluate(alive.take_over()))
    check_ended(*alive.alerts())
    assert sent_to_moog(alive) == ["raise", "clear"]
    alive.check()


# ---- a clear never overtakes its raise


def test_a_clear_that_is_settled_before_its_committed_raise_takes_the_raise_along(pair: list[Bench]) -> None:
    """The raise's worker died between its commit and its settle: Moog must hear of the fault before its end."""
    dead, alive = pair
    dead.append(down())
    late = dead.evaluate(dead.take())
    alive.append(up())
    (entry,) = alive.take()
    alive.held.settle(alive.evaluate([entry]))
    assert sent_to_moog(alive) == ["raise", "clear"]
    dead.held.settle(late)
    assert sent_to_moog(alive) == ["raise", "clear"]
    alive.check()


def test_a_clear_whose_entry_came_first_goes_after_its_raise(bench: Bench) -> None:
    """Two processes of ingest stamp in one order and append in the other."""
    raised, ended = down(), up()
    bench.append(ended)
    bench.append(raised)
    bench.run()
    check_ended(*bench.alerts())
    assert sent_to_moog(bench) == ["raise", "clear"]
    bench.check()


def test_a_clear_whose_entry_came_first_beside_a_bad_row_goes_after_its_raise(bench: Bench) -> None:
    """The halves of a bisected take are committed one after the other."""
    for _ in range(3):
        bench.append(up())
        bench.append(down())
        bench.append(event("nul \0"))
    raised, ended = down("link:9", hostname="core-9"), up("link:9", hostname="core-9")
    bench.append(ended)
    bench.append(raised)
    bench.run()
    theirs = [alert for alert in bench.lane("critical") if alert.hostname == "core-9"]
    assert [str(alert.state) for alert in [*theirs, *bench.behind(theirs[0])]] == ["raise", "clear"]
    bench.check()


def test_a_delivered_raise_is_not_sent_again_for_its_clear(bench: Bench) -> None:
    bench.append(down())
    bench.run()
    (held,) = bench.lane("critical")
    with bench.sql() as conn:
        conn.execute(text("UPDATE alerts SET status = 'delivered'"))
    bench.redis.delete("mutt:alert_queue:critical", names.STANDING, names.HOLDERS)  # long ago
    bench.append(up())
    bench.run()
    (alert,) = bench.lane("critical")
    assert (alert.signature, str(alert.state)) == (held.signature, "clear")


def test_an_older_raise_that_is_evaluated_after_its_clear_is_ended_too(pair: list[Bench]) -> None:
    """Its worker died before the commit; meanwhile another raise of the pair came, and the clear of both."""
    slow, quick = pair
    slow.append(down())
    late = slow.take()
    for one in (down(), up()):
        quick.append(one)
        quick.held.settle(quick.evaluate(quick.take()))
    slow.held.settle(slow.evaluate(late))
    assert sent_to_moog(slow) == ["raise", "clear", "raise", "clear"]
    assert [row.cleared_by is None for row in slow.alerts() if row.state == "raise"] == [False, False]
    slow.check()


def test_a_clear_takes_along_every_raise_that_it_ends_and_that_does_not_stand_yet(pair: list[Bench]) -> None:
    """The first was committed, and its worker died before the settle."""
    dead, alive = pair
    dead.append(down())
    unsettled = dead.evaluate(dead.take())
    for one in (down(), up()):
        alive.append(one)
        alive.held.settle(alive.evaluate(alive.take()))
    assert sent_to_moog(alive)[-1] == "clear"
    dead.held.settle(unsettled)
    assert sorted(sent_to_moog(alive)) == ["clear", "raise", "raise"]
    assert sent_to_moog(alive)[-1] == "clear"
    alive.check()


def test_a_clear_that_is_read_back_takes_its_raise_along_too(pair: list[Bench]) -> None:
    """Both were committed by workers that died before they settled."""
    dead, alive = pair
    dead.append(down())
    lost_raise = dead.take()
    dead.evaluate(lost_raise)
    dead.append(up())
    dead.evaluate(dead.take())
    first, second = alive.take_over()
    alive.held.settle(alive.evaluate([second]))
    assert sent_to_moog(alive) == ["raise", "clear"]
    alive.held.settle(alive.evaluate([first]))
    assert sent_to_moog(alive) == ["raise", "clear"]
    alive.check()


# ---- as senders write them


def test_a_link_up_trap_ends_the_link_down_of_its_interface_only(bench: Bench) -> None:
    def trap(oid: int, index: int) -> dict[str, Any]:
        return {
            "hostname": "edge-3",
            "message": f"ERROR link ifIndex={index}",
            "trap_oid": f".1.3.6.1.6.3.1.1.5.{oid}",
        }

    def send(*sent: dict[str, Any]) -> None:
        native = registry.get("native")
        assert native
        for one in sent:
            context = Context(datetime.now(UTC), "k", 1 << 18, "unknown")
            bench.append(*registry.parse(native, orjson.dumps(one), context).events)
            bench.run()

    send(trap(3, 12), trap(3, 13), trap(4, 12))
    first, second, ended = bench.alerts()
    check_ended(first, ended)
    assert second.cleared_by is None
    assert first.signature != second.signature
    bench.check()
