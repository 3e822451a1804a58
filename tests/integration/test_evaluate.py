"""Evaluate on real servers: one row and one alert an event, whatever dies, repeats or is refused on the way."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import pytest
from sqlalchemy import delete, func, insert, select, text

from mutt import codec, names
from mutt.entry import KINDS, Entry
from mutt.errors import NoRuleset, StoreDown
from mutt.event import Envelope, Event, Segment
from mutt.pipeline.drain import REST, SMALL, drain
from mutt.pipeline.evaluate import ALONE_FROM, KILLS, WHOLE
from mutt.store import devices
from mutt.store.migrate import upgrade
from mutt.store.tables import audit_ledger, ruleset_version
from mutt.streams import books
from mutt.streams.bound import Suspects
from mutt.streams.connect import connect
from tests.bench import Bench, benches, event, wait_for_rows
from tests.waiting import wait_until


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    """Two workers. Neither takes from the other what that only seems to have forgotten, on a busy machine."""
    with benches(redis_url, database_url, 2, evaluate_claim=60.0) as made:
        yield made


@pytest.fixture
def bench(pair: list[Bench]) -> Bench:
    return pair[0]


def refused(**fields: object) -> Event:
    """An event that PostgreSQL does not take, which no format lets through."""
    return event("CRITICAL nul \0 byte", **fields)


# ---- one event


def test_one_event_becomes_one_row_and_one_alert_and_the_books_balance(bench: Bench) -> None:
    sent = event("CRITICAL fan 3 failed", "core-1", severity=2, item=4)
    bench.append(sent, batch="request-1")
    bench.run()
    (row,) = bench.rows()
    assert (row.event_id, row.received_at, row.hostname, row.message) == (
        sent.event_id, sent.received_at, "core-1", "CRITICAL fan 3 failed",
    )  # fmt: skip
    assert (row.batch_id, row.item, row.correlation_id, row.handling) == (
        "request-1",
        4,
        "corr",
        "Page_and_ticket",
    )
    (alert,) = bench.alerts()
    assert (alert.event_id, alert.status, alert.lane, alert.severity) == (
        sent.event_id,
        "waiting",
        "major",
        4,
    )
    assert [one.alert_id for one in bench.lane("major")] == [alert.alert_id]
    assert bench.rung == ["ingest_queue", "alert_queue"]
    assert bench.events == {"accepted": 1, "settled": 1}
    bench.check()


def test_an_ignored_or_unmatched_event_is_audited_and_raises_nothing(bench: Bench) -> None:
    bench.append(event("ERROR session table", "qa-firewall1"), event("all is well"))
    bench.run()
    assert [row.handling for row in bench.rows()] == ["Ignore", "Unhandled"]
    assert bench.alerts() == []
    bench.check()


def test_a_development_host_has_its_own_handling(bench: Bench) -> None:
    with bench.sql() as conn:
        devices.add_host(conn, "lab-*", changed_by="test")
    bench.append(event("LINK-DOWN", "dev-router1"), event("LINK-DOWN", "lab-7"), event("LINK-DOWN", "core-1"))
    bench.run()
    told = [(row.hostname, row.handling) for row in bench.rows()]
    assert told == [("dev-router1", "Ticket_only"), ("lab-7", "Ticket_only"), ("core-1", "Page_and_ticket")]
    assert [alert.environment for alert in bench.alerts()] == ["development", "development", "production"]


def test_a_saved_rule_acts_on_the_next_take(bench: Bench) -> None:
    bench.append(event())
    bench.run()
    bench.change_rules(prod_handling="Ignore")
    bench.append(event())
    bench.run()
    assert [row.handling for row in bench.rows()] == ["Page_and_ticket", "Ignore"]
    assert bench.rows()[1].ruleset_version > bench.rows()[0].ruleset_version


def test_alerts_of_one_signature_stand_in_the_order_of_their_events(bench: Bench) -> None:
    sent = [event(f"CRITICAL {n}") for n in range(20)]
    bench.append(*sent)
    bench.run()
    (first,) = bench.lane("critical")
    order = [alert.description for alert in [first, *bench.behind(first)]]
    assert order == [one.message for one in sent]
    bench.check()


# ---- repeats


def test_equal_keys_within_a_take_are_one_row_and_duplicates(bench: Bench) -> None:
    sent = event()
    bench.append(sent, replace_item(sent, 1))
    bench.append(sent)
    bench.run()
    assert len(bench.rows()) == len(bench.alerts()) == 1
    assert bench.events == {"accepted": 3, "settled": 1, "duplicate": 2}
    bench.check()


def test_equal_keys_of_two_takes_are_one_row_and_a_duplicate(bench: Bench) -> None:
    sent = event()
    for _ in range(2):
        bench.append(sent)
        bench.run()
    assert len(bench.rows()) == len(bench.alerts()) == 1
    assert bench.events == {"accepted": 2, "settled": 1, "duplicate": 1}
    bench.check()


def test_new_events_beside_a_duplicate_are_written(bench: Bench) -> None:
    sent = event()
    bench.append(sent)
    bench.run()
    bench.append(event("CRITICAL a"), sent, event("CRITICAL b"))
    bench.run()
    assert len(bench.rows()) == len(bench.alerts()) == 3
    assert bench.events == {"accepted": 4, "settled": 3, "duplicate": 1}
    bench.check()


def replace_item(sent: Event, item: int) -> Event:
    return Event(**{name: getattr(sent, name) for name in sent.__struct_fields__} | {"item": item})


# ---- the first committed verdict stands


def test_what_was_committed_and_not_settled_is_read_back_not_judged_again(pair: list[Bench]) -> None:
    dead, alive = pair
    dead.append(event())
    dead.evaluate(dead.take())  # and then it dies
    first = dead.alerts()
    dead.change_rules(prod_handling="Ignore", priority=1)
    alive.held.settle(alive.evaluate(alive.take_over()))
    assert [row.handling for row in alive.rows()] == ["Page_and_ticket"]
    assert alive.alerts() == first
    assert [one.signature for one in alive.lane("critical")] == [first[0].signature]
    assert alive.events == {"accepted": 1, "settled": 1}
    alive.check()


def test_a_robbed_holder_settles_nothing(pair: list[Bench]) -> None:
    slow, quick = pair
    slow.append(event())
    late = slow.evaluate(slow.take())
    quick.held.settle(quick.evaluate(quick.take_over()))
    assert slow.held.settle(late) == [False]
    assert len(quick.rows()) == len(quick.lane("critical")) == 1
    quick.check()


def test_a_robbed_holder_that_commits_last_writes_nothing_twice(pair: list[Bench]) -> None:
    slow, quick = pair
    slow.append(event())
    entries = slow.take()
    quick.held.settle(quick.evaluate(quick.take_over()))
    assert slow.held.settle(slow.evaluate(entries)) == [False]
    assert len(quick.rows()) == len(quick.lane("critical")) == 1
    quick.check()


def test_an_alert_that_was_delivered_before_its_entry_is_settled_is_not_sent_again(pair: list[Bench]) -> None:
    dead, alive = pair
    dead.append(event())
    dead.evaluate(dead.take())
    with dead.sql() as conn:
        conn.execute(text("UPDATE alerts SET status = 'delivered'"))
    alive.held.settle(alive.evaluate(alive.take_over()))
    assert alive.lane("critical") == []
    assert books.read(alive.redis).alerts["raised"] == 1


def test_whichever_twin_was_written_counts_as_settled(pair: list[Bench]) -> None:
    """Two entries hold the same key; the later one's row was committed and never settled."""
    one, two = pair
    sent = event()
    one.append(sent)
    one.append(sent)
    one.take(1)  # and dies with the first entry
    two.evaluate(two.take(1))  # commits the second, and dies
    both = one.take_over()
    assert len(both) == 2
    one.held.settle(one.evaluate(both))
    assert one.events == {"accepted": 2, "settled": 1, "duplicate": 1}
    assert len(one.lane("critical")) == 1
    one.check()


def test_two_workers_with_overlapping_keys_at_once_write_each_row_once(pair: list[Bench]) -> None:
    shared = [event(f"CRITICAL {n}", f"host-{n}") for n in range(40)]
    for bench, own in zip(pair, (shared[:30], shared[10:][::-1]), strict=True):
        bench.append(*own)
    takes = [bench.take(1) for bench in pair]
    failures: list[BaseException] = []

    def work(bench: Bench, entries: list) -> None:
        try:
            bench.held.settle(bench.evaluate(entries))
        except BaseException as error:  # noqa: BLE001 a thread's edge: the test looks at it
            failures.append(error)

    threads = [threading.Thread(target=work, args=both) for both in zip(pair, takes, strict=True)]
    with pair[0].sql() as conn:
        # Nobody may write until both have begun, so that they really meet.
        conn.execute(text("LOCK TABLE event_audit_log IN SHARE MODE"))
        for thread in threads:
            thread.start()
        wait_for_rows(pair[1], "Lock")
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert len(pair[0].rows()) == len(pair[0].alerts()) == 40
    assert pair[0].events == {"accepted": 60, "settled": 40, "duplicate": 20}
    pair[0].check()


def test_a_unique_violation_is_read_back_within_the_same_evaluation(pair: list[Bench]) -> None:
    """Another worker's uncommitted row is waited for, then found to stand."""
    one, two = pair
    sent = event()
    one.append(sent)
    one.append(sent, event("CRITICAL other", "core-2"))
    first, second = one.take(1), two.take(1)
    with one.sql() as conn:
        conn.execute(text("LOCK TABLE alerts IN SHARE MODE"))  # one stops after its COPY, with the key taken
        threads = [threading.Thread(target=lambda b=b, e=e: b.held.settle(b.evaluate(e)))
                   for b, e in ((one, first), (two, second))]  # fmt: skip
        for thread in threads:
            thread.start()
        wait_for_rows(one, "Lock")
    for thread in threads:
        thread.join(20)
    assert one.events == {"accepted": 3, "settled": 2, "duplicate": 1}
    one.check()


# ---- poison


@pytest.mark.parametrize("at", [0, 3, 6])
def test_one_row_that_postgresql_refuses_is_parked_and_its_neighbours_are_settled(
    bench: Bench, at: int
) -> None:
    sent = [event(f"CRITICAL {n}", f"host-{n}") for n in range(7)]
    sent[at] = refused()
    bench.append(*sent)
    bench.run()
    assert len(bench.rows()) == len(bench.alerts()) == 6
    (letter,) = bench.letters()
    assert letter["reason"] == "refused by PostgreSQL"
    assert letter["detail"]
    assert (letter["attempts"], letter["stream"]) == (1, names.INGEST_STREAM)
    assert bench.events == {"accepted": 7, "settled": 6, "parked": 1}
    bench.check()


@pytest.mark.parametrize(
    "bad",
    [
        event("CRITICAL out of range", severity=99999),
        event("fault", hostname="".join(chr(0x4E00 + n * 7 % 20000) for n in range(4000))),
        event("CRITICAL nul in an alert only", raw="x", clear_key="\0"),
    ],
    ids=["number", "index", "clear key"],
)  # fmt: skip
def test_whatever_it_is_that_postgresql_refuses_only_that_event_is_parked(bench: Bench, bad: Event) -> None:
    bench.append(event(), bad, event("CRITICAL b", "core-2"))
    bench.run()
    assert len(bench.rows()) == 2
    assert bench.events == {"accepted": 3, "settled": 2, "parked": 1}
    bench.check()


def test_several_bad_rows_in_several_entries_are_parked_one_by_one(bench: Bench) -> None:
    for _ in range(3):
        bench.append(event(), refused(), event("ERROR", "core-2"), refused())
    bench.run()
    assert bench.events == {"accepted": 12, "settled": 6, "parked": 6}
    bench.check()


def test_a_parked_event_beside_a_commit_that_was_never_settled_is_parked_once(pair: list[Bench]) -> None:
    dead, alive = pair
    dead.append(event(), refused())
    dead.evaluate(dead.take())
    assert dead.letters() == []
    alive.held.settle(alive.evaluate(alive.take_over()))
    assert len(alive.letters()) == 1
    assert alive.events == {"accepted": 2, "settled": 1, "parked": 1}
    alive.check()


def test_a_refused_row_while_ordinary_ones_are_refused_too_is_an_outage(bench: Bench) -> None:
    """The clear key is refused by the client; then the control row finds the server read-only."""
    bench.append(event("x", clear_key="\0", state="raise"))
    entries = bench.take()
    with bench.sql() as conn:
        conn.execute(text("DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || "
                          "' SET default_transaction_read_only = on'; END $$"))  # fmt: skip
    bench.services.engine.dispose()
    with pytest.raises(StoreDown):
        bench.evaluate(entries)
    assert bench.letters() == []


def test_an_entry_of_an_unknown_version_is_parked_whole_and_counted(bench: Bench) -> None:
    fields, size = codec.encode(Envelope([Segment("b", "c", [event(), event()])]), n=2)
    bench.append_fields(["v", "0", *fields[2:]], 2, size)
    bench.append(event())
    bench.run()
    (letter,) = bench.letters()
    assert (letter["n"], letter["reason"]) == (2, "undecodable")
    assert "version" in letter["detail"]
    assert bench.events == {"accepted": 3, "settled": 1, "parked": 2}
    bench.check()


def test_a_damaged_entry_is_parked_and_its_neighbours_are_settled(bench: Bench) -> None:
    bench.append_fields(["v", "2", "n", 3, "id", "", "d", b"\x28\xb5\x2f\xfd garbage"], 3, 12)
    bench.append(event())
    bench.run()
    assert bench.events == {"accepted": 4, "settled": 1, "parked": 3}
    bench.check()


def test_an_entry_that_somebody_else_wrote_stops_nobody(bench: Bench) -> None:
    bench.redis.xadd(names.INGEST_STREAM, {"hello": "world"})
    bench.redis.xadd(names.INGEST_STREAM, {"n": "many", "v": "1", "d": b"x"})
    bench.append(event())
    bench.run()
    assert len(bench.rows()) == 1
    assert len(bench.letters()) == 2


# ---- entries that come back


def deliver_again(bench: Bench, times: int) -> list:
    """Take the same entries until they were handed out so often."""
    entries = bench.take()
    while entries[0].attempts < times:
        entries = bench.take_over()
    return entries


def died_on(bench: Bench, entry: Entry, position: int) -> None:
    """The workers of its last deliveries had this in work when they died."""
    for delivery in range(entry.attempts - KILLS, entry.attempts):
        bench.services.evaluator._suspects.note(dataclasses.replace(entry, attempts=delivery), position)


class Notes:
    """Suspects that also say in which order events were worked."""

    def __init__(self, inner) -> None:
        self.inner, self.noted = inner, []

    def read(self, entry):
        return self.inner.read(entry)

    def note(self, entry, position):
        self.noted.append(position)
        self.inner.note(entry, position)

    def forget(self, entry):
        self.inner.forget(entry)


def test_an_entry_delivered_three_times_is_worked_event_by_event(bench: Bench) -> None:
    bench.append(event(), event("CRITICAL b", "core-2"), event("quiet"))
    entries = deliver_again(bench, ALONE_FROM)
    notes = Notes(bench.services.evaluator._suspects)
    bench.services.evaluator._suspects = notes
    bench.held.settle(bench.evaluate(entries))
    assert (notes.noted[0], sorted(notes.noted[1:])) == (WHOLE, [0, 1, 2])
    with bench.sql() as conn:
        assert conn.execute(select(func.count()).select_from(audit_ledger)).scalar_one() == 3
    assert bench.redis.hlen(names.SUSPECTS) == 0
    bench.check()


def test_an_entry_worked_alone_does_not_hold_up_the_others_of_its_take(bench: Bench) -> None:
    bench.append(event())
    deliver_again(bench, ALONE_FROM - 1)
    bench.append(event("CRITICAL new", "core-2"))
    entries = bench.take_over()
    assert [entry.attempts for entry in entries] == [ALONE_FROM, 1]
    bench.held.settle(bench.evaluate(entries))
    assert bench.events == {"accepted": 2, "settled": 2}
    bench.check()


def test_an_event_whose_worker_died_twice_on_it_is_parked_and_its_neighbours_are_not(bench: Bench) -> None:
    bench.append(event(), event("CRITICAL killer"), event("CRITICAL c", "core-2"))
    entries = deliver_again(bench, ALONE_FROM + KILLS)
    died_on(bench, entries[0], 1)
    bench.held.settle(bench.evaluate(entries))
    (letter,) = bench.letters()
    assert (letter["reason"], letter["n"], letter["attempts"]) == ("killed its worker", 1, ALONE_FROM + KILLS)
    assert [row.message for row in bench.rows()] == ["CRITICAL disk", "CRITICAL c"]
    assert bench.events == {"accepted": 3, "settled": 2, "parked": 1}
    bench.check()


def test_an_event_that_was_written_is_not_parked_for_its_workers_later_death(bench: Bench) -> None:
    bench.append(event())
    entries = deliver_again(bench, ALONE_FROM)
    bench.evaluate(entries)  # committed; and here it died, twice
    died_on(bench, entries[0], 0)
    bench.held.settle(bench.evaluate(entries))
    assert bench.letters() == []
    assert bench.events == {"accepted": 1, "settled": 1}
    bench.check()


class Killed(BaseException):
    """The end of a worker's process."""


def test_an_entry_whose_decoding_kills_its_worker_is_parked_as_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.append(event(), event("CRITICAL b", "core-2"))

    def kill(*_args):
        raise Killed

    with monkeypatch.context() as deadly:
        deadly.setattr(Entry, "decode", kill)
        entries = bench.take()
        while entries[0].attempts < ALONE_FROM + KILLS:
            with pytest.raises(Killed):
                bench.evaluate(entries)
            entries = bench.take_over()
        bench.held.settle(bench.evaluate(entries))
    (letter,) = bench.letters()
    assert (letter["reason"], letter["n"]) == ("killed its worker", 2)
    assert "opened it" in letter["detail"]
    assert bench.events == {"accepted": 2, "parked": 2}
    assert bench.redis.hlen(names.SUSPECTS) == 0
    bench.check()
    bench.replay()
    bench.run()
    assert bench.events == {"accepted": 2, "settled": 2}
    bench.check()


def test_an_outage_of_both_servers_is_no_death_and_what_is_owed_is_paid_when_redis_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes away in the middle of an event, and Redis before the note of it could be taken back."""
    bench.append(event())
    entries = deliver_again(bench, ALONE_FROM)
    suspects, evaluator = bench.services.evaluator._suspects, bench.services.evaluator
    for _ in range(KILLS + 1):
        with monkeypatch.context() as away:

            def down(*_args, away=away, **_kwargs):
                away.setattr(suspects, "_client", connect("redis://127.0.0.1:1/0", timeout=0.1))
                raise StoreDown("away")

            away.setattr(evaluator, "_work", down)
            with pytest.raises(StoreDown):
                bench.evaluate(entries)
        entries = bench.take_over()  # it was not handed back, either
        assert evaluator.shares(entries) == [entries]
        assert suspects.read(entries[0]) == []
    bench.held.settle(bench.evaluate(entries))
    assert bench.letters() == []
    assert bench.events == {"accepted": 1, "settled": 1}
    bench.check()


def test_a_worker_that_lives_takes_its_note_back_before_another_counts_it(
    pair: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to do that would make it ask."""
    one, other = pair
    one.append(event())
    [entry] = deliver_again(one, ALONE_FROM)
    suspects = one.services.evaluator._suspects
    suspects.note(entry, 0)
    with monkeypatch.context() as away:
        away.setattr(suspects, "_client", connect("redis://127.0.0.1:1/0", timeout=0.1))
        suspects.withdraw(entry)
        assert other.services.evaluator._suspects.read(entry) == [0]
    wait_until(lambda: other.services.evaluator._suspects.read(entry) == [], 5, "the note to be taken back")


def test_a_note_that_is_owed_just_as_the_last_one_was_paid_is_taken_back_too(pair: list[Bench]) -> None:
    """Whoever pays is about to end then, and does not look again."""
    one, other = pair
    one.append(event())
    [entry] = deliver_again(one, ALONE_FROM)
    suspects, owed = one.services.evaluator._suspects, threading.Event()
    here, away = suspects._client, connect("redis://127.0.0.1:1/0", timeout=0.1)

    def owe() -> None:
        suspects.note(entry, 0)
        suspects._client = away
        suspects.withdraw(entry)
        suspects._client = here

    def once_more(frame: FrameType, what: str, _: object) -> None:
        if what == "return" and frame.f_code is Suspects._pay_later.__code__ and not owed.is_set():
            owe()
            owed.set()

    threading.setprofile(once_more)
    try:
        owe()
    finally:
        threading.setprofile(None)
    assert owed.wait(10)
    wait_until(lambda: other.services.evaluator._suspects.read(entry) == [], 5, "the note to be taken back")


def test_nothing_is_parked_for_deaths_while_postgresql_takes_no_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.append(event())
    entries = deliver_again(bench, ALONE_FROM + KILLS)
    for position in (0, WHOLE):
        died_on(bench, entries[0], position)
        with monkeypatch.context() as refused:
            refused.setattr(bench.services.store, "control_row", lambda: False)
            with pytest.raises(StoreDown, match="workers died"):
                bench.evaluate(entries)
    assert bench.letters() == []
    bench.held.settle(bench.evaluate(entries))
    assert len(bench.letters()) == 1
    bench.check()


def test_an_outage_is_no_death(bench: Bench) -> None:
    """Whatever stood in work when PostgreSQL went away is not suspected for it, however often."""
    bench.append(event())
    entries = deliver_again(bench, ALONE_FROM)
    with bench.sql() as conn:
        conn.execute(delete(ruleset_version))
    for _ in range(KILLS + 1):
        with pytest.raises(NoRuleset):
            bench.evaluate(entries)
    with bench.sql() as conn:
        conn.execute(insert(ruleset_version).values(id=1, version=50))
    bench.held.settle(bench.evaluate(entries))
    assert bench.letters() == []
    assert bench.events == {"accepted": 1, "settled": 1}
    bench.check()


# ---- outages


def test_without_a_ruleset_nothing_is_judged_and_nothing_is_lost(bench: Bench) -> None:
    bench.append(event())
    with bench.sql() as conn:
        conn.execute(delete(ruleset_version))
    entries = bench.take()
    with pytest.raises(NoRuleset):
        bench.evaluate(entries)
    bench.held.release(entries, 0.0)
    assert bench.rows() == []
    assert bench.events == {"accepted": 1, "queued": 1}
    with bench.sql() as conn:
        conn.execute(insert(ruleset_version).values(id=1, version=50))
    bench.run()
    assert [row.handling for row in bench.rows()] == ["Page_and_ticket"]
    bench.check()


def test_while_postgresql_is_away_entries_are_handed_back_unspent_and_settled_later(
    redis_url, own_postgres
) -> None:
    upgrade(own_postgres.url)
    with benches(redis_url, own_postgres.url) as (bench,):
        bench.append(event(), event("CRITICAL b", "core-2"))
        entries = bench.take()
        own_postgres.kill()
        for _ in range(ALONE_FROM + 1):
            with pytest.raises(StoreDown):
                bench.evaluate(entries)
            bench.held.release(entries, 0.0)
            entries = bench.take_over()
            assert [entry.attempts for entry in entries] == [1]
        own_postgres.start()
        bench.held.settle(bench.evaluate(entries))
        assert bench.letters() == []
        assert bench.events == {"accepted": 2, "settled": 2}
        bench.check()


# ---- unhandled


@pytest.fixture
def counting(redis_url: str, database_url: str) -> Iterator[Bench]:
    """A window of a minute and a threshold of ten."""
    with benches(redis_url, database_url, unhandled_threshold=10, unhandled_window=60.0) as (bench,):
        yield bench


def strangers(count: int, hostname: str = "lb-07", first: int = 0) -> list[Event]:
    return [event(f"haproxy[{first + n}]: no server available", hostname) for n in range(count)]


def test_the_hundredth_unhandled_event_raises_one_meta_alert_and_the_next_two_hundred_none(
    bench: Bench,
) -> None:
    for n in range(99):
        bench.append(*strangers(1, first=n))
    bench.run()
    assert bench.alerts() == []
    bench.append(*strangers(1))
    bench.run()
    (alert,) = bench.alerts()
    assert (alert.team, alert.hostname, alert.handling, alert.severity) == ("NETO", "lb-07", "Meta", 3)
    assert alert.signature == "lb-07::haproxy[<*>]: no server available"
    for n in range(4):
        bench.append(*strangers(50, first=n * 50))
    bench.run()
    assert len(bench.alerts()) == 1
    assert bench.events == {"accepted": 301, "settled": 301}, "MUTT's own event is in the books, too"
    bench.check()


def test_a_batch_that_jumps_over_the_threshold_raises_one_meta_alert(bench: Bench) -> None:
    bench.append(*strangers(350))
    bench.run()
    assert len(bench.alerts()) == 1
    bench.check()


def test_the_meta_alert_goes_to_the_team_of_the_host(bench: Bench) -> None:
    with bench.sql() as conn:
        devices.put_team(conn, "lb-07", "LoadBalancing", changed_by="test")
    bench.append(*strangers(100))
    bench.run()
    assert [alert.team for alert in bench.alerts()] == ["LoadBalancing"]


def test_the_meta_alert_has_what_the_key_of_its_events_says(bench: Bench) -> None:
    """Its team and environment, where the host has no team of its own."""
    said = {"default_team": "Web", "environment": "development"}
    bench.append(*[event("haproxy: no server", "lb-07", **said) for _ in range(100)])
    bench.run()
    assert [(alert.team, alert.environment) for alert in bench.alerts()] == [("Web", "development")]
    assert {row.team for row in bench.rows()} == {"Web"}
    bench.check()


def test_hosts_and_templates_are_counted_apart(counting: Bench) -> None:
    counting.append(*strangers(9), *strangers(9, "lb-08"), *[event("other thing", "lb-07") for _ in range(9)])
    counting.run()
    assert counting.alerts() == []
    counting.check()


def test_a_new_window_begins_only_when_the_old_one_is_over(counting: Bench) -> None:
    counting.append(*strangers(10))
    counting.run()
    counting.append(*strangers(30))
    counting.run()
    assert len(counting.alerts()) == 1
    (kind,) = counting.redis.keys("mutt:unhandled:*")
    assert 0 < counting.redis.pttl(kind) <= 60_000
    counting.redis.pexpire(kind, 1)
    wait_until(lambda: not counting.redis.exists(kind), 5, "the window's end")
    counting.append(*strangers(9))
    counting.run()
    assert len(counting.alerts()) == 1
    counting.append(*strangers(1))
    counting.run()
    assert len(counting.alerts()) == 2
    assert len({alert.signature for alert in counting.alerts()}) == 1
    counting.check()


def test_kinds_beyond_the_bound_are_audited_and_not_counted(counting: Bench) -> None:
    """Made-up words must not fill Redis; what was counted before still is."""
    counting.append(*strangers(9))
    counting.run()
    counting.redis.set(names.UNHANDLED_KINDS, KINDS, px=60_000)
    counting.append(*[event("some new thing", "lb-09") for _ in range(10)], *strangers(1))
    counting.run()
    assert [alert.hostname for alert in counting.alerts()] == ["lb-07"]
    assert len(counting.rows()) == 9 + 11 + 1
    counting.check()


def test_a_redelivered_entry_is_counted_once(pair: list[Bench]) -> None:
    dead, alive = pair
    dead.append(*strangers(60))
    late = dead.evaluate(dead.take())
    alive.held.settle(alive.evaluate(alive.take_over()))
    dead.held.settle(late)
    alive.run()
    assert alive.alerts() == []
    (key,) = alive.redis.keys("mutt:unhandled:*")
    assert alive.redis.get(key) == b"60"
    alive.check()


def test_duplicates_are_not_counted(counting: Bench) -> None:
    sent = strangers(6)
    for _ in range(3):
        counting.append(*sent)
        counting.run()
    assert counting.alerts() == []
    counting.check()


def test_the_meta_event_itself_is_neither_counted_nor_given_to_rules(counting: Bench) -> None:
    counting.append(*[event("a CRITIC al thing", "h9") for _ in range(10)])
    counting.change_rules(match_string="events within", prod_handling="Ignore")
    counting.run()
    assert [alert.handling for alert in counting.alerts()] == ["Meta"]
    assert len(counting.redis.keys("mutt:unhandled:*")) == 1
    counting.check()


# ---- drained


def notes(count: int) -> list[Event]:
    """Events that come to nothing."""
    return [event("note", f"h{n}") for n in range(count)]


def test_a_drain_that_worked_a_batch_waits_a_moment_for_the_next(bench: Bench) -> None:
    """Steady traffic needs no doorbell for each of its batches: one that comes in the rest is worked without."""
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            bench.append(*notes(SMALL))

    def work(entries: Sequence[Entry]) -> None:
        bench.held.settle(bench.evaluate(entries))

    bench.append(*notes(SMALL))
    done = drain(bench.held, work, monotonic=time.monotonic, now=time.time, sleep=sleep)
    assert (done.ended, naps, bench.rung) == ("empty", [REST, REST], ["ingest_queue"])
    assert bench.events == {"accepted": 2 * SMALL, "settled": 2 * SMALL}
    bench.append(*notes(1))
    assert bench.rung == ["ingest_queue"] * 2, "nobody is at work any more"
