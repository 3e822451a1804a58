"""Redactions on real servers: what is taken out of an event stands in no row, alert, letter or page after that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from mutt.alert import Alert
from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, Question, Watch, run
from mutt.entry import Entry
from mutt.errors import Overwrites, Refused, RuleError
from mutt.event import Envelope, Event, Varbind
from mutt.explain.gather import Explainer
from mutt.formats.base import Rejected
from mutt.letters.desk import NOT_SHOWN, Desk
from mutt.rules import book
from mutt.rules.redaction import Redaction
from mutt.store import changes, plans, redactions, rulebook, versions
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
