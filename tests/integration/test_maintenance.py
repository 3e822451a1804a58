"""Maintenance on real servers: alerts are held, receipts made, and what still burns goes to Moog once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mutt.alert import Alert
from mutt.celery import app
from mutt.pipeline.record import sweep
from mutt.rules.windows import Window
from mutt.store import receipts, rulebook, versions, windows
from mutt.store.undo import undo
from mutt.streams import books
from mutt.tasks import maintenance
from tests.admin_client import notes_of
from tests.bench import Bench, benches, clear, event

SAID = {"changed_by": "ann", "reason": "ticket 7"}
HOUR = timedelta(hours=1)


class Stopped(Exception):
    """A worker dies here."""


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, cancel_cleared=True) as [bench]:
        yield bench


def add(bench: Bench, **given: Any) -> Window:
    """A window for core-1 from an hour ago to an hour from now."""
    now = datetime.now(UTC)
    plain = {"name": "upgrade", "owner": "ann", "hostname": "core-1"}
    times = {"starts_at": now - HOUR, "ends_at": now + HOUR}
    with bench.sql() as conn:
        return windows.save(conn, {**plain, **times, **given}, **SAID)


def work(bench: Bench, *, after: timedelta = timedelta(), place: Any = None) -> dict[str, int]:
    """The task, so long after now."""
    lanes = bench.services.lanes
    return receipts.work(bench.services.engine, place or lanes.release_held, datetime.now(UTC) + after)


def only_receipt(bench: Bench) -> Any:
    with bench.sql() as conn:
        [found] = receipts.receipts(conn)
    return found


def counts(receipt: Any) -> tuple[int, ...]:
    return receipt.held, receipt.cleared, receipt.burning, receipt.released


def ledger(bench: Bench) -> dict[str, int]:
    return {name: n for name, n in books.read(bench.redis).alerts.items() if n}


def hold_three(bench: Bench, window: Window) -> None:
    """In the window: a fault that is cleared, one that is not, and one of another host."""
    bench.append(
        event("CRITICAL disk", clear_key="disk"),
        event("CRITICAL fan", clear_key="fan"),
        event("CRITICAL fan", hostname="core-2"),
    )
    bench.run()
    bench.append(clear(clear_key="disk"))
    bench.run()
    bench.record()
    reason = window.held
    told = [(row.description, row.status, row.reason) for row in bench.alerts() if row.state == "raise"]
    assert told == [
        ("CRITICAL disk", "cancelled", reason),
        ("CRITICAL fan", "cancelled", reason),
        ("CRITICAL fan", "waiting", ""),
    ]
    assert [alert.hostname for alert in bench.lane("critical")] == ["core-2"]
    bench.check()


def test_what_still_burns_at_the_end_is_told_and_released_once(bench: Bench) -> None:
    """Held, cleared, still burning: the receipt says so, and the lane gets the one that burns, however often asked."""
    window = add(bench)
    hold_three(bench, window)
    assert work(bench) == {"opened": 1}
    assert only_receipt(bench).ended_at is None
    assert work(bench, after=2 * HOUR) == {"ended": 1, "counted": 1, "released": 1}
    for _ in range(2):
        work(bench, after=2 * HOUR)
    receipt = only_receipt(bench)
    assert counts(receipt) == (2, 1, 1, 1)
    assert (receipt.hosts, receipt.rules) == ([["core-1", 2]], [["CRITICAL", 2]])
    assert [alert.description for alert in bench.lane("critical")] == ["CRITICAL fan", "CRITICAL fan"]
    assert ledger(bench) == {"raised": 4, "waiting": 2, "cancelled": 2}
    bench.check()


def test_a_worker_killed_between_release_and_lane_costs_nothing(bench: Bench) -> None:
    """The row waits and stands nowhere: the sweep brings it in, and no later run brings it in again."""
    hold_three(bench, add(bench))

    def dies(_alerts: Sequence[Alert]) -> int:
        raise Stopped

    with pytest.raises(Stopped):
        work(bench, after=2 * HOUR, place=dies)
    assert counts(only_receipt(bench)) == (2, 1, 1, 1)
    later = datetime.now(UTC) + HOUR
    assert sweep(bench.services.store, bench.services.lanes, later, 1000) == {"critical": 1}
    work(bench, after=2 * HOUR)
    assert len(bench.lane("critical")) == 2
    bench.check()


def test_a_worker_killed_before_it_commits_leaves_all_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted and not released: the next run releases, and the receipt is the same as if nothing had happened."""
    hold_three(bench, add(bench))

    def dies(*_args: Any, **_kwargs: Any) -> Any:
        raise Stopped

    with monkeypatch.context() as broken:
        broken.setattr(receipts, "_released", dies)
        with pytest.raises(Stopped):
            work(bench, after=2 * HOUR)
    assert counts(only_receipt(bench)) == (2, 1, 1, 0)
    assert work(bench, after=2 * HOUR)["released"] == 1
    assert counts(only_receipt(bench)) == (2, 1, 1, 1)
    bench.check()


def test_a_clear_of_what_was_released_and_not_sent_goes_after_it(bench: Bench) -> None:
    """A released raise waits in its lane when its clear comes: Moog gets both, and no sweep brings in one alone."""
    add(bench)
    bench.append(event("CRITICAL fan", clear_key="fan"))
    bench.run()
    bench.record()
    work(bench)
    assert work(bench, after=2 * HOUR)["released"] == 1
    bench.append(clear(clear_key="fan"))
    bench.run()
    bench.record()
    later = datetime.now(UTC) + HOUR
    sweep(bench.services.store, bench.services.lanes, later, 1000)
    assert [row.status for row in bench.alerts()] == ["waiting", "waiting"]
    assert ledger(bench) == {"raised": 2, "waiting": 2}
    bench.check()


def test_a_window_may_only_report(bench: Bench) -> None:
    """Without release, what burns is counted and stays held."""
    hold_three(bench, add(bench, release=False))
    work(bench, after=2 * HOUR)
    assert counts(only_receipt(bench)) == (2, 1, 1, 0)
    assert len(bench.lane("critical")) == 1
    with bench.sql() as conn:
        [burning] = receipts.burning(conn, only_receipt(bench).id)
    assert (burning.description, burning.status, burning.released) == ("CRITICAL fan", "cancelled", False)


def test_a_clear_of_what_moog_knows_is_sent_in_maintenance_too(bench: Bench) -> None:
    """The raise came before the window began: its end is not held."""
    now = datetime.now(UTC)
    bench.append(event("CRITICAL disk", clear_key="disk", received_at=now - 2 * HOUR))
    bench.run()
    bench.services.lanes  # noqa: B018
    taken = bench.plain_lanes.take("forwarder", 1)
    assert taken.entries
    add(bench)
    bench.append(clear(clear_key="disk"))
    bench.run()
    [_, cleared] = bench.alerts()
    assert (cleared.state, cleared.status, cleared.held) == ("clear", "waiting", "")
    assert ledger(bench)["waiting"] == 2
    bench.check()


def test_an_event_that_was_late_is_held_by_when_it_came_in(bench: Bench) -> None:
    """A backlog is judged by received_at, also after the end, and what it held is released after all."""
    window = add(bench)
    work(bench)
    with bench.sql() as conn:
        windows.end_now(conn, window.id, datetime.now(UTC), **SAID)
    work(bench, after=timedelta(seconds=1))
    assert counts(only_receipt(bench)) == (0, 0, 0, 0)
    bench.append(event("CRITICAL fan", received_at=datetime.now(UTC) - HOUR / 2))
    bench.run()
    bench.record()
    assert bench.alerts()[0].reason == window.held
    assert work(bench, after=HOUR)["released"] == 1
    assert counts(only_receipt(bench)) == (1, 0, 1, 1)
    bench.check()


def test_what_another_window_still_covers_is_not_released_yet(bench: Bench) -> None:
    """Two windows one after the other on one host are one maintenance for what burns."""
    now = datetime.now(UTC)
    add(bench)
    add(bench, name="longer", starts_at=now + HOUR / 2, ends_at=now + 3 * HOUR)
    bench.append(event("CRITICAL fan"))
    bench.run()
    bench.record()
    assert "released" not in work(bench, after=2 * HOUR)
    assert bench.lane("critical") == []
    assert work(bench, after=4 * HOUR)["released"] == 1
    bench.check()


@pytest.mark.parametrize("how", ["delete", "off", "undo", "moved"])
def test_a_window_that_goes_in_the_middle_ends_with_a_receipt(bench: Bench, how: str) -> None:
    """Deleted, switched off, undone or moved away while it is on: what it held is released all the same."""
    window = add(bench)
    bench.append(event("CRITICAL fan"))
    bench.run()
    bench.record()
    work(bench)
    with bench.sql() as conn:
        if how == "delete":
            windows.remove(conn, window.id, **SAID)
        elif how == "off":
            windows.save(conn, {"is_active": False}, window_id=window.id, **SAID)
        elif how == "moved":
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            windows.save(
                conn, {"starts_at": tomorrow, "ends_at": tomorrow + HOUR}, window_id=window.id, **SAID
            )
        else:
            note = conn.exec_driver_sql("SELECT max(id) FROM config_audit_log").scalar_one()
            undo(conn, note, {"changed_by": "ann"})
    assert work(bench)["released"] == 1
    assert counts(only_receipt(bench)) == (1, 0, 1, 1)
    bench.check()


@pytest.mark.parametrize("release", [True, False])
@pytest.mark.parametrize("how", ["came and went", "was ended before a worker knew"])
def test_what_no_receipt_speaks_of_is_told_and_released(bench: Bench, how: str, release: bool) -> None:
    """Nobody saw the window on, or it held after its end: what it held has a receipt, and its end, once."""
    window = add(bench, release=release)
    if how != "came and went":
        work(bench)
    bench.append(event("CRITICAL fan", received_at=datetime.now(UTC)))
    bench.run()
    bench.record()
    before = datetime.now(UTC) - timedelta(minutes=1)
    with bench.sql() as conn:
        if how == "came and went":
            windows.remove(conn, window.id, **SAID)
        else:
            windows.end_now(conn, window.id, before, **SAID)
    work(bench)
    assert bench.lane("critical") == []
    did = [work(bench, after=timedelta(minutes=5)) for _ in range(2)]
    assert [(each.get("strays", 0), each.get("released", 0)) for each in did] == [(1, int(release)), (0, 0)]
    with bench.sql() as conn:
        stray = receipts.receipts(conn)[0]
    assert (stray.name, stray.owner, stray.held, stray.burning) == ("upgrade", "ann", 1, 1)
    assert len(bench.lane("critical")) == int(release)
    bench.check()


def test_each_occurrence_has_a_receipt_also_after_an_outage(bench: Bench) -> None:
    """Daily, and nobody looked for three days: three receipts, one of them still open."""
    window = add(bench, recurrence="FREQ=DAILY")
    assert work(bench, after=timedelta(days=2)) == {"opened": 3, "ended": 2, "counted": 2}
    with bench.sql() as conn:
        found = receipts.receipts(conn, window_id=window.id)
        assert [one.ended_at is None for one in found] == [True, False, False]
        assert receipts.expire(conn, datetime.now(UTC) + timedelta(days=1, hours=12)) == 2


def test_a_look_that_finds_nothing_new_uses_up_no_ids(bench: Bench) -> None:
    """The task looks every 15 seconds for years: the ids of receipts have to last."""
    add(bench, recurrence="FREQ=DAILY")
    for _ in range(5):
        work(bench, after=timedelta(days=2))
    with bench.sql() as conn:
        last = conn.exec_driver_sql("SELECT last_value FROM maintenance_receipts_id_seq").scalar_one()
    assert last == 3


def test_two_workers_at_once_release_each_alert_once(bench: Bench) -> None:
    """Whoever comes first: one receipt, and each alert in its lane once."""
    add(bench)
    bench.append(*(event(f"CRITICAL fan {n}", instance=str(n)) for n in range(40)))
    bench.run()
    bench.record()
    with ThreadPoolExecutor(4) as pool:
        did = list(pool.map(lambda _: work(bench, after=2 * HOUR), range(4)))
    assert sum(each.get("released", 0) for each in did) == 40
    assert counts(only_receipt(bench)) == (40, 0, 40, 40)
    assert ledger(bench) == {"raised": 40, "waiting": 40}
    bench.check()


def test_the_task_works_with_what_its_process_has(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick asks for it by name; it answers with counts, as all tasks do."""
    monkeypatch.setattr(maintenance, "services", lambda: bench.services)
    add(bench)
    assert app.tasks["mutt.maintenance.windows"].run()["opened"] == 1


def test_what_mutt_itself_raises_is_not_held(bench: Bench) -> None:
    """A host in maintenance may still send so much that no rule handles that people should look."""
    add(bench)
    told = event("storm of strangers", source="mutt", template="x", team="NETO")
    bench.append(told)
    bench.run()
    assert [alert.status for alert in bench.alerts()] == ["waiting"]


def test_a_window_is_part_of_a_version_and_of_the_history(bench: Bench) -> None:
    """Each change makes a version from which the window can be read again, and a note."""
    with bench.sql() as conn:
        first = rulebook.current_version(conn)
    window = add(bench, recurrence="FREQ=DAILY", timezone="Europe/London")
    with bench.sql() as conn:
        second = rulebook.current_version(conn)
        windows.save(conn, {"name": "other"}, window_id=window.id, **SAID)
        assert versions.windows_of(conn, first) == []
        assert versions.windows_of(conn, second) == [window]
        assert [one.name for one in versions.load(conn, second + 1, "NETO").windows] == ["other"]
    assert notes_of(bench.services.engine) == []  # those of ann, not the administrator's
