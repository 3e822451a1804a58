"""A draft beside the live rules: what workers count of it is exact, and nothing of it touches the live verdict."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import select, text, update

from mutt.errors import AlreadyStored, NoRuleset, Overtaken, Refused, RuleError, StoreDown
from mutt.pipeline import shadow as looking
from mutt.rules.book import check
from mutt.rules.evaluate import evaluate
from mutt.rules.rule import Rule
from mutt.rules.shadow import Kind, Status
from mutt.store import rulebook, shadowbook, shadows, windows
from mutt.store.engine import transaction
from mutt.store.shadows import Edit, Shadow
from mutt.store.tables import config_audit_log, shadow_counts
from tests.bench import Bench, benches, event
from tests.waiting import wait_until

SAID = {"changed_by": "ann", "reason": "ticket 7"}
DISK = {"name": "disk", "match_string": "disk", "priority": 1, "prod_handling": "Page_only"}


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as [made]:
        yield made


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    with benches(redis_url, database_url, 2) as made:
        yield made


@pytest.fixture
def patient_pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    """Neither takes the other for dead, however busy the machine is."""
    with benches(redis_url, database_url, 2, evaluate_claim=60.0) as made:
        yield made


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shadow that began is seen at the next take; and a busy machine skips nothing here."""
    monkeypatch.setattr(shadowbook, "LOOK", 0.0)
    monkeypatch.setattr(looking, "BUDGET", 60.0)
    monkeypatch.setattr(looking, "LAG", 60.0)


def rule_named(bench: Bench, name: str) -> Rule:
    with bench.sql() as conn:
        return next(rule for rule in rulebook.list_rules(conn) if rule.name == name)


def start(bench: Bench, *edits: Edit, **more: Any) -> Shadow:
    with bench.sql() as conn:
        return shadows.start(conn, edits or [Edit(None, DISK)], **more, **SAID)


def standing(bench: Bench, shadow: Shadow) -> Shadow:
    with bench.sql() as conn:
        return shadows.get(conn, shadow.id)


def ready(bench: Bench) -> None:
    """Until this worker has the draft of the version in force compiled."""

    def has() -> bool:
        with bench.services.store.transaction() as tx:
            draft = tx.draft(tx.ruleset())
            return draft is not None and draft.ruleset is not None

    wait_until(has, 10, "the draft to be compiled")


def counted(bench: Bench, shadow: Shadow) -> dict[str, int]:
    with bench.sql() as conn:
        return {kind.value: n for kind, n in shadows.totals(shadows.hours(conn, shadow.id)).items() if n}


def samples(bench: Bench, shadow: Shadow, kind: Kind) -> list[shadows.Sample]:
    with bench.sql() as conn:
        return shadows.samples(conn, shadow.id, kind)


def send(bench: Bench, *messages: str, **fields: Any) -> None:
    bench.append(*(event(message, **fields) for message in messages))
    bench.run()


# ---- what is counted


def test_differences_are_counted_and_shown_and_the_live_verdict_stands(bench: Bench) -> None:
    """Each event stands in one kind, samples lead to it and say both verdicts; the audit is as without the shadow."""
    error = rule_named(bench, "ERROR")
    shadow = start(bench, Edit(None, DISK), Edit(error.id, {"prod_handling": "Ignore"}))
    ready(bench)
    send(bench, "disk full", "CRITICAL disk", "ERROR fan", "CRITICAL fan", "hello")
    assert counted(bench, shadow) == {
        "newly_alerts": 1,
        "other_handling": 1,
        "no_longer_alerts": 1,
        "same": 2,
    }
    [newly] = samples(bench, shadow, Kind.NEWLY_ALERTS)
    [disk] = [row for row in bench.rows() if row.message == "disk full"]
    assert (newly.event_id, newly.received_at, newly.message) == (
        disk.event_id,
        disk.received_at,
        "disk full",
    )
    assert (newly.live["handling"], newly.draft["handling"]) == ("Unhandled", "Page_only")
    assert str(newly.draft["rule_id"]) == shadow.draft[0].record_id
    assert disk.handling == "Unhandled"
    assert {alert.rule_id for alert in bench.alerts()} == {rule_named(bench, "CRITICAL").id, error.id}
    bench.check()


def test_two_workers_count_every_event_once(patient_pair: list[Bench]) -> None:
    """However takes interleave: the sum of all kinds is the number of audit rows."""
    one, _ = patient_pair
    shadow = start(one)
    for worker in patient_pair:
        ready(worker)
    for n in range(40):
        one.append(*(event(f"disk {n}", f"core-{i}") for i in range(5)))

    def work(bench: Bench) -> None:
        while entries := bench.take(10):
            bench.held.settle(bench.evaluate(entries))

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, patient_pair))
    assert len(one.rows()) == 200
    assert counted(one, shadow) == {"newly_alerts": 200}
    with one.sql() as conn:
        assert len({row.worker for row in conn.execute(select(shadow_counts))}) == 2
    one.check()


def test_what_was_committed_and_not_settled_is_not_counted_again(pair: list[Bench]) -> None:
    """The counts are committed with the rows: a worker that dies in between leaves nothing to count twice."""
    dead, alive = pair
    shadow = start(dead)
    ready(dead)
    ready(alive)
    dead.append(event("disk full"))
    dead.evaluate(dead.take())  # and then it dies
    alive.held.settle(alive.evaluate(alive.take_over()))
    assert counted(alive, shadow) == {"newly_alerts": 1}
    alive.check()


def test_duplicates_are_not_counted(bench: Bench) -> None:
    """One key is one event, within a take and over two."""
    shadow = start(bench)
    ready(bench)
    sent = event("disk full")
    bench.append(sent, sent)
    bench.run()
    bench.append(sent)
    bench.run()
    assert counted(bench, shadow) == {"newly_alerts": 1}
    bench.check()


def test_what_was_rolled_back_is_not_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that another's commit undid is done anew: it counts once, and its sample is kept."""
    shadow = start(bench)
    ready(bench)
    sent = event("disk full")
    bench.append(sent)
    entries = bench.take()
    other = [bench]
    real = shadowbook.ShadowBook.note

    def note(book: Any, *args: Any) -> None:
        real(book, *args)
        if other:
            other.pop()
            raise AlreadyStored("another commit came first")

    monkeypatch.setattr(shadowbook.ShadowBook, "note", note)
    bench.held.settle(bench.evaluate(entries))
    assert counted(bench, shadow) == {"newly_alerts": 1}
    assert len(samples(bench, shadow, Kind.NEWLY_ALERTS)) == 1
    bench.check()


def test_samples_are_bounded_and_of_every_sort(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that repeats itself fills no list, and no kind has more than its share."""
    monkeypatch.setattr(shadows, "SAMPLES", 3)
    shadow = start(bench)
    ready(bench)
    send(bench, *["disk full"] * 5)
    assert len(samples(bench, shadow, Kind.NEWLY_ALERTS)) == 1
    bench.append(*(event("disk full", f"edge-{n}") for n in range(5)))
    bench.append(event("disk full", "edge-9"))
    bench.run()
    assert len(samples(bench, shadow, Kind.NEWLY_ALERTS)) == 3
    assert counted(bench, shadow) == {"newly_alerts": 11}


def test_a_worker_that_is_behind_skips(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited too long is judged by the live rules only; the page says of how many that is true."""
    shadow = start(bench)
    ready(bench)
    monkeypatch.setattr(looking, "LAG", -60.0)
    send(bench, "disk full", "hello")
    assert counted(bench, shadow) == {"skipped": 2}
    assert len(bench.rows()) == 2


def test_what_maintenance_holds_does_not_alert_newly(bench: Bench) -> None:
    """The draft has the windows of the rules in force: what they hold reaches nobody, by the one or the other."""
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    window = {
        "name": "upgrade",
        "owner": "ann",
        "hostname": "core-1",
        "starts_at": now - hour,
        "ends_at": now + hour,
    }
    with bench.sql() as conn:
        windows.save(conn, window, **SAID)
    shadow = start(bench)
    ready(bench)
    send(bench, "disk full")
    send(bench, "disk full", hostname="core-2")
    assert counted(bench, shadow) == {"other_handling": 1, "newly_alerts": 1}
    [held] = samples(bench, shadow, Kind.OTHER_HANDLING)
    assert held.draft["held"].startswith("maintenance:")


def test_a_draft_follows_the_rules_that_it_stands_on(bench: Bench) -> None:
    """A rule that others save meanwhile is in force in the draft too."""
    shadow = start(bench)
    ready(bench)
    with bench.sql() as conn:
        rulebook.save_rule(conn, {"name": "fan", "match_string": "fan", "priority": 1}, **SAID)
    ready(bench)
    send(bench, "fan failed", "disk full")
    assert counted(bench, shadow) == {"same": 1, "newly_alerts": 1}


# ---- what it costs while there is none


def statements(bench: Bench) -> list[str]:
    found: list[str] = []
    sa.event.listen(
        bench.services.engine, "before_cursor_execute", lambda _c, _cu, statement, *_: found.append(statement)
    )
    return found


def test_without_a_shadow_nothing_is_asked_but_once_a_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement of a take is about shadows, but for one look of the process in a second."""
    clock = [0.0]
    book = shadowbook.ShadowBook(
        "NETO", lambda: transaction(bench.services.engine), monotonic=lambda: clock[0]
    )
    monkeypatch.setattr(shadowbook, "LOOK", 1.0)
    monkeypatch.setattr(bench.services.store, "_shadowbook", book)
    send(bench, "warm")
    asked = statements(bench)
    for _ in range(5):
        send(bench, "disk full")
    assert not [one for one in asked if "shadow" in one]
    each = len(asked) // 5
    clock[0] = 1.0
    send(bench, "disk full")
    assert len([one for one in asked if "shadow" in one]) == 1
    assert len(asked) == 6 * each + 1


def test_while_none_runs_no_event_is_judged_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compared without a draft."""

    def never(*_: Any) -> None:
        raise AssertionError("compared")

    monkeypatch.setattr("mutt.pipeline.evaluate.compare", never)
    send(bench, "disk full")
    assert len(bench.rows()) == 1


# ---- what goes wrong with it stays with it


def test_a_draft_that_can_not_be_compiled_is_stopped_and_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live rules go on judging; the shadow has its error, and is asked no more."""
    shadow = start(bench)
    real = rulebook._Read.compile

    def compile_(read: Any, team: str) -> Any:
        if any(rule.name == "disk" for rule in read.rules):
            raise NoRuleset("too large")
        return real(read, team)

    monkeypatch.setattr(rulebook._Read, "compile", compile_)

    def stopped() -> bool:
        send(bench, "CRITICAL disk")
        return standing(bench, shadow).status is Status.STOPPED

    wait_until(stopped, 10, "the shadow to be stopped")
    assert "too large" in standing(bench, shadow).error
    before = counted(bench, shadow)
    send(bench, "CRITICAL disk")
    assert counted(bench, shadow) == before
    assert {row.handling for row in bench.rows()} == {"Page_and_ticket"}
    bench.check()


@pytest.mark.parametrize("error", [RuntimeError("odd"), MemoryError("large")], ids=repr)
def test_a_draft_that_fails_on_an_event_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The event has its row and its alert, its neighbours too; nothing is parked."""
    shadow = start(bench)
    ready(bench)

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(looking, "evaluate", fails)
    send(bench, "CRITICAL disk", "hello")
    wait_until(lambda: standing(bench, shadow).status is Status.STOPPED, 5, "the shadow to be stopped")
    assert type(error).__name__ in standing(bench, shadow).error
    assert (len(bench.rows()), len(bench.alerts()), bench.letters()) == (2, 1, [])
    bench.check()


def test_counts_that_can_not_be_written_stop_the_shadow_and_no_row(bench: Bench) -> None:
    """What PostgreSQL refuses of the shadow goes back to the savepoint; the rows are committed."""
    shadow = start(bench)
    ready(bench)
    with bench.sql() as conn:
        conn.execute(text("ALTER TABLE shadow_counts ADD CHECK (n < 0)"))
    send(bench, "CRITICAL disk", "hello")
    wait_until(lambda: standing(bench, shadow).status is Status.STOPPED, 5, "the shadow to be stopped")
    assert (len(bench.rows()), len(bench.alerts()), bench.letters()) == (2, 1, [])
    bench.check()


def test_a_server_that_goes_away_is_no_fault_of_the_draft(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session ends while counts are written: an outage for the take, and the shadow runs on."""
    shadow = start(bench)
    ready(bench)
    real = shadows.count
    once = [True]

    def count(conn: Any, *args: Any) -> None:
        if once:
            once.pop()
            with bench.sql() as other:
                pid = conn.connection.dbapi_connection.info.backend_pid
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        real(conn, *args)

    monkeypatch.setattr(shadows, "count", count)
    bench.append(event("disk full"))
    entries = bench.take()
    with pytest.raises(StoreDown):
        bench.evaluate(entries)
    bench.held.settle(bench.evaluate(entries))
    assert standing(bench, shadow).runs
    assert counted(bench, shadow) == {"newly_alerts": 1}


# ---- how it begins and ends


def test_what_is_promoted_is_what_was_watched(bench: Bench) -> None:
    """Rules, ids and verdicts are the draft's; one version, with its history; and then nothing differs any more."""
    error, critical = rule_named(bench, "ERROR"), rule_named(bench, "CRITICAL")
    edits = Edit(None, DISK), Edit(error.id, {"priority": 1}), Edit(critical.id, None)
    shadow = start(bench, *edits, name="disks")
    with bench.sql() as conn:
        read = rulebook.read_draft(conn, shadow.draft)
    watched = read.compile("NETO")
    with bench.sql() as conn:
        before = rulebook.current_version(conn)
        version = shadows.promote(conn, shadow.id, **SAID)
    with bench.sql() as conn:
        stands = rulebook.load(conn, "NETO")
        notes = list(conn.execute(select(config_audit_log).where(config_audit_log.c.changed_by == "ann")))
    assert (version, stands.version) == (before + 1, before + 1)
    assert stands.rules == watched.rules
    for message in ("disk full", "ERROR disk", "CRITICAL", "hello"):
        one = event(message)
        assert evaluate(one, stands) == evaluate(one, watched)
    told = [(note.table_name, note.operation) for note in notes]
    rows = [("alert_rules", operation) for operation in ("CREATE", "DELETE", "UPDATE")]
    assert sorted(told) == [*rows, ("shadows", "CREATE"), ("shadows", "UPDATE")]
    assert {note.ruleset_version for note in notes[1:]} == {version}
    assert standing(bench, shadow).status is Status.PROMOTED
    assert standing(bench, shadow).promoted_version == version
    send(bench, "disk full")
    assert counted(bench, shadow) == {}


def test_an_idle_worker_learns_of_a_promotion_with_its_version(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules moved on: it looks at once, and asks no draft that is over."""
    shadow = start(bench)
    ready(bench)
    monkeypatch.setattr(shadowbook, "LOOK", 3600.0)
    send(bench, "disk full")  # from here on it would look in an hour
    with bench.sql() as conn:
        shadows.promote(conn, shadow.id, **SAID)
    send(bench, "disk full")
    assert counted(bench, shadow) == {"newly_alerts": 1}


@pytest.mark.parametrize("how", ["changed", "deleted"])
def test_a_promotion_over_the_changes_of_others_is_refused(bench: Bench, how: str) -> None:
    """It names the rules, and changes nothing."""
    error = rule_named(bench, "ERROR")
    shadow = start(bench, Edit(error.id, {"priority": 1}), Edit(None, DISK))
    with bench.sql() as conn:
        if how == "changed":
            rulebook.save_rule(conn, {"team_assignment": "Other"}, rule_id=error.id, **SAID)
        else:
            rulebook.delete_rule(conn, error.id, **SAID)
        before = rulebook.list_rules(conn)
    with pytest.raises(Overtaken) as caught, bench.sql() as conn:
        shadows.promote(conn, shadow.id, **SAID)
    assert caught.value.rules == [f"rule {error.id} “ERROR”"]
    with bench.sql() as conn:
        assert rulebook.list_rules(conn) == before
        assert shadows.get(conn, shadow.id).runs
        assert [change.record_id for change in shadows.changed_since(conn, shadow)] == [str(error.id)]


def test_a_promotion_keeps_what_others_did_to_other_rules(bench: Bench) -> None:
    """Also a rule that is newer than the draft, whose id comes after those of the draft's new ones."""
    shadow = start(bench)
    with bench.sql() as conn:
        other = rulebook.save_rule(conn, {"name": "fan", "match_string": "fan"}, **SAID)
        shadows.promote(conn, shadow.id, **SAID)
    with bench.sql() as conn:
        assert rulebook.get_rule(conn, other.id) == other
    assert rule_named(bench, "disk").id == int(shadow.draft[0].record_id) < other.id


def test_one_shadow_runs_at_a_time(bench: Bench) -> None:
    """The next is refused until the first has ended; of two at once one is."""
    first = start(bench)
    with pytest.raises(Refused):
        start(bench)
    with bench.sql() as conn:
        assert shadows.drop(conn, first.id, **SAID).id == first.id
    assert standing(bench, first).status is Status.DROPPED

    def begin(_: int) -> bool:
        try:
            start(bench)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(begin, range(2))) == [False, True]


def test_one_that_has_ended_can_not_be_ended_again(bench: Bench) -> None:
    """Neither promoted nor dropped; nor one that never was."""
    shadow = start(bench)
    with bench.sql() as conn:
        shadows.drop(conn, shadow.id, **SAID)
    for end in (shadows.promote, shadows.drop):
        with pytest.raises(Refused), bench.sql() as conn:
            end(conn, shadow.id, **SAID)
        with pytest.raises(LookupError), bench.sql() as conn:
            end(conn, shadow.id + 1, **SAID)


def test_it_ends_by_itself(bench: Bench) -> None:
    """When its time is up it has stopped for everybody, the next may begin, and it may still be promoted."""
    shadow = start(bench)
    ready(bench)
    with bench.sql() as conn:
        conn.execute(update(shadows.shadows).values(until=datetime.now(UTC) - timedelta(seconds=1)))
    assert standing(bench, shadow).status is Status.STOPPED
    send(bench, "disk full")
    assert counted(bench, shadow) == {}
    start(bench, Edit(None, DISK | {"name": "next"}))
    with bench.sql() as conn:
        shadows.promote(conn, shadow.id, **SAID)
    assert standing(bench, shadow).status is Status.PROMOTED


def test_what_ended_long_ago_is_forgotten(bench: Bench) -> None:
    """With all that was counted; what runs stays."""
    old = start(bench)
    ready(bench)
    send(bench, "disk full")
    with bench.sql() as conn:
        shadows.drop(conn, old.id, **SAID)
    new = start(bench)
    with bench.sql() as conn:
        assert shadows.expire(conn, datetime.now(UTC) + timedelta(minutes=1)) == 1
        assert [one.id for one in shadows.newest(conn)] == [new.id]
        assert conn.execute(select(shadow_counts)).all() == []


def test_a_file_is_drafted_as_it_would_be_brought_in(bench: Bench) -> None:
    """By names: rules are changed, made, and with replace deleted; promoted it is what import makes of it."""
    items = [{"name": "ERROR", "match_string": "ERROR", "team_assignment": "Other"}, DISK]
    wanted, _ = check({"rules": items})
    with bench.sql() as conn:
        standing_before = rulebook.list_rules(conn)
        shadow = shadows.start(conn, wanted=wanted, replace=True, **SAID)
    assert sorted(change.operation for change in shadow.draft) == sorted(
        ["UPDATE", "CREATE", *["DELETE"] * (len(standing_before) - 1)]
    )
    with bench.sql() as conn:
        shadows.promote(conn, shadow.id, **SAID)
        promoted = rulebook.export(conn)
        rulebook.import_rules(conn, items, replace=True, **SAID)
        assert rulebook.export(conn) == promoted


def test_what_else_makes_a_ruleset_is_drafted_and_promoted(bench: Bench) -> None:
    """A file's development hosts and teams judge in the draft, and stand once it is promoted."""
    wanted, _ = check({"development_hosts": ["core-*"], "device_teams": {"core-*": "Backbone"}})
    with bench.sql() as conn:
        shadow = shadows.start(conn, wanted=wanted, **SAID)
    ready(bench)
    send(bench, "ERROR disk")  # in development: it is not told
    send(bench, "hello")
    assert counted(bench, shadow) == {"no_longer_alerts": 1, "other_handling": 1}
    with bench.sql() as conn:
        shadows.promote(conn, shadow.id, **SAID)
    send(bench, "ERROR disk")
    assert [row.handling for row in bench.rows()] == ["Ticket_only", "Unhandled", "Ignore"]


@pytest.mark.parametrize(
    ("edits", "more", "field"),
    [
        ([Edit(None, {"match_type": "regex", "match_string": "(?=x)"})], {}, "match_string"),
        ([Edit(None, {"nmae": "x"})], {}, "nmae"),
        ([], {}, "rules"),
        ([Edit(None, DISK)], {"days": 15}, "days"),
    ],
)
def test_what_can_not_be_saved_is_not_drafted(
    bench: Bench, edits: list[Edit], more: dict[str, Any], field: str
) -> None:
    """The error names the field, and no shadow begins."""
    with pytest.raises(RuleError) as caught, bench.sql() as conn:
        shadows.start(conn, edits, **more, **SAID)
    assert caught.value.field == field
    with bench.sql() as conn:
        assert shadows.newest(conn) == []


def test_rules_that_do_not_fit_together_are_not_drafted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands with the draft is compiled before it begins."""

    def full(*_: Any) -> None:
        raise NoRuleset("too large")

    monkeypatch.setattr(rulebook._Read, "compile", full)
    with pytest.raises(RuleError) as caught:
        start(bench)
    assert caught.value.field == "rules"
