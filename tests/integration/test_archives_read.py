"""Archived months are searched, explained and back-tested as if they still stood in the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, THEN, Question, Watch, run
from mutt.backtest.tally import Result
from mutt.celery import app
from mutt.errors import ArchiveUnreadable, StoreDown
from mutt.event import Event
from mutt.explain.gather import Explainer
from mutt.services import Services
from mutt.store import audit, partitions, past, retention, rulebook, whole
from mutt.store.archives import duck, keeping, manifest
from mutt.store.audit import AuditRow
from mutt.store.lookup import AuditSearch, Key
from mutt.store.tables import alert_rules
from mutt.tasks import base, maintenance
from tests.bench import Bench, event
from tests.integration.test_backtest import SAID, events, judge, rules

MAY, JUNE = datetime(2019, 5, 1, tzinfo=UTC), datetime(2019, 6, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def bench(redis_url: str, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(redis_url, database_url, audit_archive_dir=tmp_path / "archive")
    with made.sql() as conn:
        conn.execute(delete(alert_rules))
        for month in (MAY, JUNE):
            conn.execute(text("SELECT audit_make_month(:month)"), {"month": month})
    yield made
    made.close()


def put(bench: Bench, *rows: AuditRow) -> None:
    with bench.sql() as conn:
        audit.copy_rows(conn, sorted(rows))


def retire(bench: Bench, month: str) -> None:
    assert retention.retire_month(bench.services.engine, month, LATER, bench.services.archives)


def row(n: int, at: datetime, **more: Any) -> AuditRow:
    told = {"severity": n % 8, "matched_rule_id": n % 3 or None, "handling": ("Ignore", "Page_only")[n % 2]}
    plain = AuditRow(
        UUID(int=n),
        at,
        at,
        f"r{n % 4}",
        None,
        "syslog",
        f"Line {n} is up",
        None,
        1,
        "",
        None,
        "b",
        0,
        "c",
        "",
    )
    return plain._replace(**told | more)


def both_ways(bench: Bench, asked: AuditSearch) -> list[list[tuple[Any, ...]]]:
    """Every page of a search, from the newest to the oldest and back again."""
    services, pages = bench.services, []
    found = whole.search(services.reader.ask, services.archives, asked)
    while found.rows:
        pages.append([tuple(one) for one in found.rows])
        if not found.older:
            break
        last = found.rows[-1]
        asked = msgspec.structs.replace(asked, before=Key(last.received_at, last.event_id))
        found = whole.search(services.reader.ask, services.archives, asked)
    while found.rows and found.newer:
        first = found.rows[0]
        asked = msgspec.structs.replace(asked, before=None, after=Key(first.received_at, first.event_id))
        found = whole.search(services.reader.ask, services.archives, asked)
        pages.append([tuple(one) for one in found.rows])
    return pages


SEARCHES = {
    "all": {},
    "host": {"hostname": "r2"},
    "rule": {"rule_id": 2},
    "severity": {"severity": 3},
    "handling": {"handling": "Ignore"},
    "text": {"text": "LINE 1"},
    "hostile": {"text": "' OR 1=1; --", "hostname": "') UNION SELECT 1 --"},
    "like": {"text": "%"},
    "time": {"since": MAY + timedelta(days=20), "until": JUNE + timedelta(days=9)},
}


def test_a_search_is_the_same_over_the_table_over_files_and_over_both(bench: Bench) -> None:
    """Page by page in both directions, whatever is asked, with equal times, and with a row that came late."""
    put(bench, *(row(n, MAY + timedelta(hours=24 * (n // 2))) for n in range(84)))
    asked = {name: AuditSearch(**{"since": MAY, "limit": 40, **told}) for name, told in SEARCHES.items()}
    table = {name: both_ways(bench, one) for name, one in asked.items()}
    assert table["all"] and table["time"] and not table["hostile"] and not table["like"]
    retire(bench, "2019-05")
    assert {name: both_ways(bench, one) for name, one in asked.items()} == table
    retire(bench, "2019-06")
    assert {name: both_ways(bench, one) for name, one in asked.items()} == table
    late = row(1000, MAY + timedelta(days=3), hostname="late")
    put(bench, late)
    [[found]] = both_ways(bench, AuditSearch(since=MAY, hostname="late"))
    assert found[0] == late.event_id
    assert sum(map(len, both_ways(bench, AuditSearch(since=MAY, limit=400)))) == 85


def test_a_month_that_is_in_both_places_is_read_from_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash before the manifest says that it went, a server that has it still, a late row: each row once."""
    rows = [row(n, MAY + timedelta(hours=n)) for n in range(40)]
    put(bench, *rows)
    archives, asked = bench.services.archives, AuditSearch(since=MAY, limit=100)

    def ids() -> list[int]:
        question = Question(Draft(rules=(), whole=True), MAY, JUNE)
        judged = run(question, bench.services.settings, bench.services.engine, bench.services.engine, Watch())
        found = [one.event_id.int for one in whole.search(bench.services.reader.ask, archives, asked).rows]
        assert judged.events == len(found)
        return sorted(found)

    with monkeypatch.context() as broken:
        broken.setattr(keeping, "dropped", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            retire(bench, "2019-05")
    assert ids() == list(range(40))
    with bench.sql() as conn:
        conn.execute(text("SELECT audit_make_month(:month)"), {"month": MAY})
    put(bench, row(99, MAY + timedelta(hours=3, minutes=1)))
    assert ids() == [*range(40), 99]
    put(bench, *rows)
    keeping.dropped(archives.directory, "2019-05")
    assert ids() == [*range(40), 99]


def test_a_month_that_is_archived_while_it_is_judged_is_judged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice is read anew if what is read from files is not what it was when it was begun."""
    put(bench, *(row(n, MAY + timedelta(hours=n)) for n in range(40)))
    real, moves = past.read, [1]

    def meanwhile(*told: Any, **more: Any) -> None:
        if moves:
            moves.clear()
            retire(bench, "2019-05")
        real(*told, **more)

    monkeypatch.setattr(past, "read", meanwhile)
    s = bench.services
    question = Question(Draft(rules=(), whole=True), MAY, JUNE)
    assert run(question, s.settings, s.engine, s.engine, Watch()).events == 40


def test_a_search_says_what_comes_from_files(bench: Bench) -> None:
    """Only where files were read; and where they can't be, what is missing."""
    put(bench, row(1, MAY), row(2, JUNE))
    services = bench.services
    retire(bench, "2019-05")
    search = lambda **asked: whole.search(services.reader.ask, services.archives, AuditSearch(**asked))  # noqa: E731
    assert search(since=JUNE).told == ""
    assert search(since=MAY).told == "What was received in 2019-05 is read from archives."
    (file,) = services.archives.directory.glob("*.parquet")
    file.write_bytes(b"no parquet")
    found = search(since=MAY)
    assert [one.event_id for one in found.rows] == [UUID(int=2)]
    assert found.told.startswith("Only what stands in PostgreSQL is shown: an archive can't be read")


def test_pages_by_number_count_both(bench: Bench) -> None:
    """The API's pages run through the table and the files; what is counted is capped."""
    put(bench, *(row(n, MAY + timedelta(hours=8 * n)) for n in range(150)))
    ask = lambda **told: whole.numbered(  # noqa: E731
        bench.services.reader.ask, bench.services.archives, AuditSearch(since=MAY), **told
    )
    pages = [ask(limit=40, skip=skip, most=1000)[:2] for skip in range(0, 160, 40)]
    retire(bench, "2019-05")
    assert [ask(limit=40, skip=skip, most=1000)[:2] for skip in range(0, 160, 40)] == pages
    assert ask(limit=10, skip=0, most=100).total == 100


def test_an_archived_event_is_explained(bench: Bench) -> None:
    """By its id alone, or at its time; the answer says where its row stands."""
    one = event("CRITICAL disk", received_at=MAY + timedelta(days=2))
    judge(bench, one)
    explainer = Explainer(bench.services)
    before = explainer.event(str(one.event_id))
    retire(bench, "2019-05")
    for at in (None, one.received_at):
        told = explainer.event(str(one.event_id), at)
        assert told.notes == [*before.notes, "Its row is read from the archive of 2019-05."]
        assert msgspec.structs.replace(told, notes=before.notes, counted=before.counted) == before
    assert explainer.event(str(UUID(int=7))).found == "nowhere"


def backtest(bench: Bench, draft: Draft, baseline: str) -> Result:
    question = Question(draft, MAY, MAY + timedelta(days=40), baseline=baseline)
    services = bench.services
    told = run(question, bench.settings, services.engine, services.read_engine, Watch())
    for change in told.changes:  # of equal ones those that are read first are shown, in no order
        change.samples.sort(key=lambda sample: sample.received_at)
    return told


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_back_test_says_the_same_of_files_as_of_the_table(bench: Bench, data: st.DataObject) -> None:
    """Events judged live, then a draft tried on the table and on the archive of it: nothing differs."""
    with bench.sql() as conn:
        conn.execute(text("TRUNCATE event_audit_log, alert_rules, recent_clears, alerts"))
        if conn.execute(text("SELECT to_regclass('event_audit_log_2019_05')")).scalar_one() is None:
            conn.execute(text("SELECT audit_make_month(:month)"), {"month": MAY})
        wanted = data.draw(st.lists(rules, max_size=4), "rules")
        rulebook.import_rules(conn, wanted, replace=True, **SAID)
    manifest.expire(bench.services.archives.directory, LATER, 0)
    told: list[Event] = data.draw(st.lists(events, min_size=1, max_size=12), "events")
    spread = [
        msgspec.structs.replace(one, received_at=MAY + timedelta(days=3 * n, microseconds=n))
        for n, one in enumerate(told[:10])
    ]
    judge(bench, *spread)
    draft = Draft.of_file(data.draw(st.lists(rules, min_size=1, max_size=3), "draft"))
    before = [backtest(bench, draft, baseline) for baseline in (NOW, THEN)]
    assert before[0].events == len(spread)
    retire(bench, "2019-05")
    assert [backtest(bench, draft, baseline) for baseline in (NOW, THEN)] == before


def test_retention_of_a_worker_whose_clock_runs_ahead_deletes_nothing_that_is_not_due(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a month whose archive is damaged stays, and keeps no other one."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=366 * 30)

    monkeypatch.setattr(maintenance, "datetime", Ahead)
    settings = dataclasses.replace(bench.settings, audit_archive_years=20)
    services = Services(settings, lambda *_, **__: None, role="test")
    for module in (base, maintenance):
        monkeypatch.setattr(module, "services", lambda: services)
    put(bench, row(1, MAY))
    retire(bench, "2019-05")
    (file,) = services.archives.directory.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    with bench.sql() as conn:
        conn.execute(text("SELECT audit_make_month(:month)"), {"month": MAY})
    put(bench, row(2, MAY), row(3, JUNE))
    with pytest.raises(ArchiveUnreadable, match=r"2019_05\.1"):
        app.tasks["mutt.maintenance.retention"].run()
    assert manifest.months(services.archives.directory) == ["2019-05", "2019-06"]
    assert file.exists()
    with bench.sql() as conn:
        left = {month.name for month in partitions.listing(conn)}
    assert "event_audit_log_2019_05" in left and "event_audit_log_2019_06" not in left


def test_a_process_asks_the_archives_a_bounded_number_of_questions_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would wait longer than his question may take is told so; what is archived waits for none."""
    archives = bench.services.archives
    with ExitStack() as asked:
        for _ in range(duck.AT_ONCE):
            asked.enter_context(archives.asking(5))
        with pytest.raises(StoreDown, match="for others") as told, archives.asking(0.01):
            pass
        assert told.value.sqlstate == "57014", "no outage"
        asked.enter_context(archives.asking())
    with archives.asking(0.01):
        pass
    small = archives._replace(memory=1 << 20)
    with pytest.raises(StoreDown, match="AUDIT_ARCHIVE_MEMORY") as told, small.asking() as conn:
        conn.execute("SELECT list(range) FROM range(10000000)")
    assert told.value.sqlstate == "57014"
