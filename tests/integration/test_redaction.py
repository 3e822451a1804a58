"""Redactions on real servers: what is taken out of an event stands in no row, alert, letter or page after that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, text

from mutt import codec
from mutt.alert import Alert
from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, Question, Watch, run
from mutt.cli import cli, common
from mutt.cli.audit import NothingToRedact
from mutt.entry import Entry
from mutt.errors import Overwrites, Refused, RuleError
from mutt.event import Envelope, Event, Varbind
from mutt.explain.gather import Explainer
from mutt.formats.base import Rejected
from mutt.letters.desk import NOT_SHOWN, Desk
from mutt.pipeline.work import Item, Result, requeued
from mutt.rules import book
from mutt.rules.redaction import Redaction, Redactions
from mutt.store import changes, plans, redactions, rewriting, rulebook, versions
from mutt.store.audit import event_of
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.tables import config_audit_log
from mutt.store.undo import undo
from mutt.streams import books
from tests.bench import Bench, benches, clear, event

ANN: Said = {"changed_by": "ann"}
SECRET, PATTERN = "hunter2-c0ffee", "hunter2-[0-9a-f]{6}"


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, unhandled_threshold=2) as (made,):
        yield made


@pytest.fixture
def conn(bench: Bench) -> Iterator[Connection]:
    with transaction(bench.services.engine) as opened:
        yield opened


def redact(bench: Bench, pattern: str = PATTERN, **fields: Any) -> Redaction:
    with bench.sql() as conn:
        return redactions.save(conn, {"name": pattern} | {"pattern": pattern} | fields, **ANN)


def secretive(message: str, **fields: Any) -> Event:
    """An event with the secret in each of its texts."""
    told: dict[str, Any] = {
        "raw": json.dumps({"message": f"{message} {SECRET}"}).replace("hunter2", "\\u0068unter2"),
        "tags": {"login": f"as {SECRET}", f"of {SECRET}": "x"},
        "varbinds": (Varbind("1.3.6", SECRET),),
        "occurred_text": SECRET,
        "facility": SECRET,
        "program": SECRET,
        "instance": SECRET,
    }
    return event(f"{message} {SECRET}", **(told | fields))


def everything(bench: Bench) -> str:
    """All that stands in PostgreSQL's tables and in Redis, opened."""
    found = []
    with bench.sql() as conn:
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        for table in conn.execute(text(tables)).scalars().all():
            found += conn.execute(text(f"SELECT t::text FROM {table} t")).scalars().all()
    for stream in bench.redis.scan_iter(_type="stream"):
        for id_, fields in books.entries(bench.redis, stream.decode()):
            found.append(repr(fields))
            kind = Envelope if stream in (b"mutt:ingest_queue", b"mutt:dlq:alerts") else Alert
            found.append(repr(Entry(stream.decode(), id_, 1, fields).decode(kind)))
    for key in bench.redis.scan_iter(count=1000):
        found.append(repr(key))
        if bench.redis.type(key) == b"hash":
            found.append(repr(bench.redis.hgetall(key)))
    return "\n".join(found)


def test_a_secret_stands_nowhere_once_its_event_is_evaluated(bench: Bench) -> None:
    """Handled, unhandled, counted, refused by PostgreSQL, cleared: no table, stream or key has the secret."""
    redact(bench)
    bench.append(
        secretive("CRITICAL fan 3 failed", clear_key="eth0", severity=2),
        secretive("nobody knows this", hostname="core-2"),
        secretive("nobody knows this", hostname="core-2"),
        secretive("CRITICAL refused", severity=99_999),
    )
    bench.run()
    bench.append(clear(f"up {SECRET}", clear_key="eth0"))
    bench.run()
    assert SECRET not in everything(bench)
    assert len(bench.letters()) == 1
    rows = {row.message: row for row in bench.rows()}
    row = rows["CRITICAL fan 3 failed [redacted]"]
    kept = event_of(row)
    assert (kept.program, kept.tags) == ("[redacted]", {"login": "as [redacted]", "of [redacted]": "x"})
    assert json.loads(kept.raw) == {"message": "CRITICAL fan 3 failed [redacted]"}
    assert (kept.hostname, kept.severity, kept.clear_key) == ("core-1", 2, "eth0")
    assert {alert.description for alert in bench.alerts()} >= {"CRITICAL fan 3 failed [redacted]"}
    meta = [row.message for row in rows.values() if row.handling == "Meta"]
    assert len(meta) == 1
    bench.check()


def test_what_was_committed_and_not_settled_is_told_without_its_secret(bench: Bench) -> None:
    """An entry that comes again is read back; what is counted of it has no secret either."""
    redact(bench)
    bench.append(secretive("nobody knows this"), secretive("nobody knows this either"))
    bench.evaluate(bench.take())
    moves = bench.evaluate(bench.take_over())
    assert [move.counts["events.settled"] for move in moves] == [2]
    assert SECRET not in repr([move.unhandled for move in moves])


def test_it_is_redacted_once_however_often_it_is_tried(bench: Bench) -> None:
    """A batch is halved around what PostgreSQL refuses: what its neighbours lose, they lose once."""
    redact(bench, "fan", replacement="fan fan")
    bench.append(event("CRITICAL fan"), *(event(f"CRITICAL fan {n}", severity=99_999) for n in range(3)))
    bench.run()
    assert [row.message for row in bench.rows()] == ["CRITICAL fan fan"]
    assert len(bench.letters()) == 3


def test_what_is_put_back_is_put_back_as_it_came(bench: Bench) -> None:
    """An event that waits for PostgreSQL is redacted by whoever judges it, and not before."""
    made = redact(bench)
    sent = event(f"CRITICAL {SECRET}")
    item = Item(Result(Entry("s", "1-0", 1, {})), 0, sent, "b", "c")
    item.redact(Redactions([made]))
    assert item.event.message == "CRITICAL [redacted]"
    follow, _ = requeued([item])
    told = [one if isinstance(one, bytes) else str(one).encode() for one in follow["fields"]]
    (segment,) = codec.decode(Envelope, codec.pairs(told)).segments
    assert segment.events == [sent]


def test_rules_see_what_is_left(bench: Bench) -> None:
    """A rule can't match what is redacted, and can match what stands in its place."""
    redact(bench, "CRITICAL", replacement="ERROR")
    bench.append(event("CRITICAL disk"))
    bench.run()
    (row,) = bench.rows()
    with bench.sql() as conn:
        assert rulebook.get_rule(conn, row.matched_rule_id).match_string == "ERROR"  # type: ignore[union-attr]


def test_it_acts_with_its_version_and_ends_with_it(bench: Bench) -> None:
    """What judged says which redactions were in force; old versions still have theirs."""
    made = redact(bench)
    bench.append(secretive("one"))
    bench.run()
    with bench.sql() as conn:
        redactions.save(conn, {"is_active": False}, redaction_id=made.id, **ANN)
    bench.append(event(f"two {SECRET}"))
    bench.run()
    first, second = sorted(bench.rows(), key=lambda row: row.received_at)
    assert (SECRET in first.message, SECRET in second.message) == (False, True)
    with bench.sql() as conn:
        then = versions.load(conn, first.ruleset_version, "NETO")
        now = versions.load(conn, second.ruleset_version, "NETO")
    assert (then.redactions.text(SECRET), now.redactions.text(SECRET)) == ("[redacted]", SECRET)


def test_a_back_test_agrees_with_live(bench: Bench) -> None:
    """Old rows are judged as their events would be now: what is redacted today, a rule does not see."""
    with bench.sql() as conn:
        rulebook.save_rule(conn, {"match_string": SECRET, "priority": 1}, **ANN)
        quiet = rulebook.save_rule(
            conn, {"match_string": "[redacted]", "priority": 2, "prod_handling": "Ignore"}, **ANN
        )
    bench.append(event(f"before {SECRET}"))
    bench.run()
    redact(bench)
    bench.append(event(f"after {SECRET}"))
    bench.run()
    before, after = sorted(bench.rows(), key=lambda row: row.received_at)
    assert (before.handling, after.handling) == ("Page_and_ticket", "Ignore")
    louder = {"match_string": "[redacted]", "priority": 2, "prod_handling": "Ticket_only"}
    found = back_test(bench, Draft.of_rule(louder, quiet.id))
    assert found == {("Ignore", "Ticket_only"): 2}


def back_test(bench: Bench, draft: Draft) -> dict[tuple[str, str], int]:
    """How many events would be handled otherwise: (as now, by the draft)."""
    now, engine = datetime.now(UTC), bench.services.engine
    question = Question(
        draft=draft, since=now - timedelta(hours=1), until=now + timedelta(hours=1), baseline=NOW
    )
    result = run(question, bench.settings, engine, engine, Watch())
    return {(one.old.handling, one.new.handling): one.events for one in result.changes}


# ---- dead letters and stories


def test_a_letter_is_shown_without_what_is_redacted(bench: Bench) -> None:
    """What ingest rejected is kept as it came, and shown without; without PostgreSQL it is not shown."""
    raw = json.dumps({"hostname": "core-1", "password": "hunter2"})
    rejected = [Rejected(0, "message", "is missing", raw)]
    bench.services.letters.keep_rejected("sender-7", rejected, most_bytes=1 << 20)
    (letter,) = bench.services.letters.listed("ingest")
    desk = Desk(bench.services)
    assert desk.show("ingest", letter.id).payload["raw"] == raw
    redact(bench, r"password=\S+", replacement="password=x")
    shown = desk.show("ingest", letter.id).payload["raw"]
    assert json.loads(shown) == {"hostname": "core-1", "password": "x"}
    away = Bench(str(bench.settings.redis_url), "postgresql://nobody@127.0.0.1:1/none")
    assert Desk(away.services).show("ingest", letter.id).payload == NOT_SHOWN
    away.close()


def test_a_story_of_an_event_on_its_way_has_no_secret(bench: Bench) -> None:
    """What is not evaluated yet is explained as it would be kept."""
    redact(bench)
    sent = secretive("CRITICAL fan")
    bench.append(sent)
    story = Explainer(bench.services).event(str(sent.event_id))
    assert story.found == "queued"
    assert SECRET not in repr(story)


# ---- the store


def last_note(conn: Connection) -> Any:
    return conn.execute(config_audit_log.select().order_by(config_audit_log.c.id.desc()).limit(1)).one()


def test_saved_changed_removed_and_taken_back(conn: Connection) -> None:
    """Each change is a version and a note, and can be undone."""
    at = rulebook.current_version(conn)
    made = redactions.save(conn, {"name": "tokens", "pattern": "tok-[0-9]+"}, **ANN)
    note = last_note(conn)
    assert (note.table_name, note.operation, note.after["pattern"]) == ("redactions", "CREATE", "tok-[0-9]+")
    changed = redactions.save(conn, {"replacement": "[tok]"}, redaction_id=made.id, **ANN)
    undo(conn, last_note(conn).id, ANN)
    assert redactions.get(conn, made.id)[0] == made != changed
    redactions.remove(conn, made.id, **ANN)
    undo(conn, last_note(conn).id, ANN)
    assert redactions.by_name(conn, "tokens") == made
    assert rulebook.current_version(conn) > at  # one version a transaction


def test_what_can_not_be_saved_is_refused(conn: Connection) -> None:
    """A name that is taken, a pattern that can't be, a change over one not seen."""
    made = redactions.save(conn, {"name": "tokens", "pattern": "x"}, **ANN)
    for fields in ({"name": "tokens", "pattern": "y"}, {"name": "more", "pattern": "y*"}):
        with pytest.raises(RuleError):
            redactions.save(conn, fields, **ANN)
    with pytest.raises(Overwrites):
        redactions.save(conn, {"pattern": "z"}, redaction_id=made.id, seen="2020-01-01", **ANN)
    with pytest.raises(LookupError):
        redactions.remove(conn, made.id + 1, **ANN)


def test_an_undo_may_not_make_two_of_one_name(bench: Bench) -> None:
    """Where its name is taken by now, a deleted redaction does not come back."""
    made = redact(bench, "x", name="tokens")
    with bench.sql() as conn:
        redactions.remove(conn, made.id, **ANN)
        gone = last_note(conn).id
    redact(bench, "y", name="tokens")
    with pytest.raises(Refused) as caught, bench.sql() as conn:
        undo(conn, gone, ANN)
    assert caught.value.field == "name"


def test_a_version_is_restored_also_where_names_were_exchanged(bench: Bench) -> None:
    """An earlier version stands again, row by row, whatever was done to the names since."""
    one, two = redact(bench, "one"), redact(bench, "two")
    with bench.sql() as conn:
        version = rulebook.current_version(conn)
    with bench.sql() as conn:
        redactions.save(conn, {"name": "three"}, redaction_id=one.id, **ANN)
        redactions.save(conn, {"name": "one"}, redaction_id=two.id, **ANN)
        redactions.save(conn, {"name": "two"}, redaction_id=one.id, **ANN)
    with bench.sql() as conn:
        versions.restore(conn, version, ANN)
    with bench.sql() as conn:
        assert redactions.listed(conn) == [one, two]
        assert versions.redactions_of(conn, version) == [one, two]


def test_a_file_carries_them(bench: Bench) -> None:
    """What is exported is what is imported, and a plan says what would change."""
    made = redact(bench, r"password=\S+", replacement="password=[x]", position=7, is_active=False)
    with bench.sql() as conn:
        standing = plans.standing(conn)
        written = book.write(standing)
        read, faults = book.check(book.read("f", written.encode()))
        assert not faults
        assert plans.plan(conn, read, replace=True).changes == []
        redactions.remove(conn, made.id, **ANN)
        plans.apply(conn, read, **ANN)
        back = redactions.by_name(conn, made.name)
        assert changes.fields_of(back) == changes.fields_of(made)


@pytest.mark.parametrize(
    "given, field",
    [
        ({"name": "a", "pattern": "x*"}, "pattern"),
        ({"pattern": "x"}, "name"),
        ({"name": "b", "pattern": "y"}, "name"),
    ],
)
def test_a_file_that_holds_a_fault_says_which(given: dict[str, str], field: str) -> None:
    """A redaction of a file is checked as any other; each has its own name."""
    sections = {"redactions": [{"name": "b", "pattern": "z"}, given]}
    found, faults = book.check(sections)
    assert [fault.field for fault in faults] == [field]
    assert [one.name for one in found.redactions or ()] == ["b"]


# ---- what is stored already


def test_stored_events_and_alerts_are_redacted_by_hand(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted first; then the texts of that time are changed, nothing else is, and the history has the counts only."""
    bench.append(secretive("CRITICAL fan", clear_key=SECRET), event("CRITICAL all is well"))
    bench.run()
    late = secretive("CRITICAL later", received_at=datetime.now(UTC) + timedelta(hours=2))
    bench.append(late)
    bench.run()
    before = {row.event_id: row for row in bench.rows()}
    redact(bench, is_active=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    common.services.cache_clear()
    span = ("--since", "2025-01-01", "--until", (datetime.now(UTC) + timedelta(hours=1)).isoformat())

    def run_it(*more: str) -> str:
        given = ["audit", "redact", *span, "--who", "ann", "--reason", "GDPR-7", *more]
        done = CliRunner().invoke(cli, given)
        assert done.exit_code == 0, done.output
        return done.stdout

    told = "2 events looked at: 1 event and 1 alert "
    assert run_it("--only", PATTERN, "--dry-run") == f"{told}would be changed\n"
    assert {row.event_id: row for row in bench.rows()} == before
    assert run_it("--only", PATTERN) == f"{told}changed\n"
    assert run_it("--only", PATTERN) == "2 events looked at: 0 events and 0 alerts changed\n"
    common.services().engine.dispose()
    common.services.cache_clear()
    after = {row.event_id: row for row in bench.rows()}
    differs = [one for one, row in after.items() if row != before[one]]
    assert len(differs) == 1 and SECRET not in repr(after[differs[0]])
    kept = [
        getattr(rows[differs[0]], name)
        for rows in (before, after)
        for name in ("handling", "batch_id", "team")
    ]
    assert kept[:3] == kept[3:]
    assert SECRET in after[late.event_id].message
    assert [SECRET in alert.description for alert in bench.alerts()].count(True) == 1
    with bench.sql() as conn:
        notes = conn.execute(config_audit_log.select().where(config_audit_log.c.operation == "REDACT")).all()
    assert [note.after for note in notes] == [
        {"redactions": PATTERN, "events": n, "alerts": n} for n in (1, 0)
    ]
    result = CliRunner().invoke(cli, ["audit", "redact", *span, "--reason", "none is on"])
    assert isinstance(result.exception, NothingToRedact)


def test_a_slice_that_is_too_full_is_cut(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many came at once, a transaction rewrites few of them."""
    monkeypatch.setattr(rewriting, "MOST", 4)
    bench.append(*(secretive(f"CRITICAL {n}") for n in range(20)))
    bench.run()
    redact(bench)
    now = datetime.now(UTC)
    with bench.sql() as conn:
        made = versions.load(conn, rulebook.current_version(conn), "NETO").redactions
        note = rewriting.begin(conn, now - timedelta(days=1), now, ["it"], **ANN)
    span = now - timedelta(hours=2), now + timedelta(hours=2)
    done = list(rewriting.rewrite(bench.services.engine, made, *span, note))
    assert sum(one.events_changed for one in done) == 20
    assert done[-1].until == span[1]
    assert not any(SECRET in row.message for row in bench.rows())
