"""Retired months are files that hold every row as it was, proved before anything is dropped, and come back whole."""

from __future__ import annotations

import gzip
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import Engine, select, text

from mutt.deadline import DEADLINES
from mutt.errors import ArchiveUnreadable, Refused, StoreDown
from mutt.rules.redaction import Redaction, Redactions
from mutt.store import audit, partitions, retention
from mutt.store.archives import checking, keeping, manifest, parquet, reading, sums
from mutt.store.archives.duck import Duck
from mutt.store.archives.manifest import Manifest
from mutt.store.audit import AuditRow
from mutt.store.engine import transaction
from mutt.store.tables import event_audit_log
from tests.bench import without_months
from tests.waiting import wait_until

NOW = datetime(2031, 5, 17, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=200)
MAY = "2031-05"

#: Texts that are not to be told from others: all that CSV, COPY and Parquet could mean something by.
TEXTS = [
    "plain",
    'quoted "a", b',
    "two\nlines\r\n",
    "\\N",
    "",
    "tab\tand\\t",
    "\x1f\x01",
    "ünïcödé 🦊",
    "NULL",
    "'",
    ",",
]


@pytest.fixture
def engine(engine: Engine) -> Engine:
    return without_months(engine)


@pytest.fixture
def duck(tmp_path: Path) -> Duck:
    return Duck(tmp_path / "archive", 128 << 20, 1)


def row(at: datetime = NOW, message: str = "m", **more: Any) -> AuditRow:
    plain = AuditRow(
        uuid4(), at, at, "r1", None, "syslog", message, None, 1, "Unhandled", None, "b", 0, "c", "raw"
    )
    return plain._replace(**more)


def strange() -> list[AuditRow]:
    """Rows that hold everything a row can."""
    rows = [
        row(NOW + timedelta(seconds=n), one, raw=one, team=one, context=one) for n, one in enumerate(TEXTS)
    ]
    first, last = datetime(2031, 5, 1, tzinfo=UTC), datetime(2031, 5, 31, 23, 59, 59, 999999, tzinfo=UTC)
    edges = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    more = {"severity": 7, "matched_rule_id": 2**31 - 1, "item": 12, "ruleset_version": 2**31 - 1}
    return [
        *rows,
        row(first, occurred_at=edges[0], event_id=UUID(int=0)),
        row(last, occurred_at=edges[1], event_id=UUID(int=2**128 - 1), **more),
    ]


def put(engine: Engine, *rows: AuditRow) -> None:
    with transaction(engine) as conn:
        audit.copy_rows(conn, sorted(rows))
        for month in {one.received_at.astimezone(UTC).replace(day=1) for one in rows}:
            partitions.ensure(conn, month, months_ahead=0)


def stored(engine: Engine) -> list[tuple[Any, ...]]:
    with transaction(engine) as conn:
        query = select(event_audit_log).order_by(event_audit_log.c.received_at, event_audit_log.c.event_id)
        return [tuple(one) for one in conn.execute(query)]


def retire(engine: Engine, duck: Duck) -> list[str]:
    return retention.retire(engine, LATER, 90, duck)


def archived(duck: Duck, month: str = MAY) -> Manifest:
    found = manifest.read(duck.directory, month)
    assert found is not None
    return found


def restore(engine: Engine, duck: Duck, month: str = MAY) -> retention.Restored:
    return retention.restore(engine, month, duck, until=LATER + timedelta(days=9), who="test")


def test_every_row_comes_back_as_it_was(engine: Engine, duck: Duck) -> None:
    """NULL and nothing, quotes, line ends, edges of time and numbers: archived and restored, byte for byte."""
    rows = strange()
    put(engine, *rows)
    before = stored(engine)
    assert retire(engine, duck) == ["event_audit_log_2031_05"]
    assert stored(engine) == []
    assert restore(engine, duck).rows == len(rows)
    assert stored(engine) == before


def test_a_month_goes_only_when_it_is_wholly_older_than_the_retention(engine: Engine, duck: Duck) -> None:
    """On the day before, its last row is inside the retention: nothing goes. Then it goes, and no other."""
    put(engine, row(), row(datetime(2031, 6, 1, tzinfo=UTC)))
    end = datetime(2031, 6, 1, tzinfo=UTC) + timedelta(days=90)
    assert retention.retire(engine, end - timedelta(microseconds=1), 90, duck) == []
    assert retention.retire(engine, end, 90, duck) == ["event_audit_log_2031_05"]
    assert len(stored(engine)) == 1


def test_the_manifest_says_what_is_there(engine: Engine, duck: Duck) -> None:
    """Counts, bounds, hashes; PostgreSQL's own sum of hashes is the file's."""
    put(engine, *strange())
    with transaction(engine) as conn:
        stands = sums.of_table(conn, datetime(2031, 5, 1, tzinfo=UTC), datetime(2031, 6, 1, tzinfo=UTC))
    retire(engine, duck)
    found = archived(duck)
    (file,) = found.files
    assert (found.rows, file.checksum) == (stands.rows, stands.checksum) and stands.hashes
    assert found.span == (
        datetime(2031, 5, 1, tzinfo=UTC),
        datetime(2031, 5, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )
    assert sum(file.row_groups) == file.rows and not file.pending
    assert (duck.directory / file.name).stat().st_size == file.bytes
    assert parquet.hash_of(duck.directory / file.name) == file.sha256
    assert {path.name for path in duck.directory.iterdir()} == {
        file.name,
        "event_audit_log_2031_05.json",
        ".lock",
    }


def test_row_groups_are_small_and_in_order(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows a month has, a writer holds one group of them."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    put(engine, *(row(NOW - timedelta(hours=n)) for n in range(35)))
    retire(engine, duck)
    assert archived(duck).files[0].row_groups == (10, 10, 10, 5)
    assert restore(engine, duck).rows == 35


@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_a_damaged_file_is_found_and_named_and_not_restored(engine: Engine, duck: Duck, harm: str) -> None:
    """One byte is enough."""
    put(engine, *strange())
    retire(engine, duck)
    file = duck.directory / archived(duck).files[0].name
    body = file.read_bytes()
    middle = len(body) // 2
    harmed = {"cut": body[:-1], "flipped": body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]}
    file.unlink() if harm == "gone" else file.write_bytes(harmed[harm])
    assert [damage.file for damage in checking.damages(duck, archived(duck))] == [file.name]
    with pytest.raises(ArchiveUnreadable, match=r"2031_05\.1\.parquet"):
        restore(engine, duck)
    assert stored(engine) == []


def test_a_file_of_other_rows_is_found_though_its_hash_is_noted(engine: Engine, duck: Duck) -> None:
    """The rows themselves are counted and summed, too."""
    put(engine, row(message="one"))
    retire(engine, duck)
    wrong = [msgspec.structs.replace(file, checksum="0" * 16) for file in archived(duck).files]
    manifest.change(duck.directory, MAY, lambda found: msgspec.structs.replace(found, files=tuple(wrong)))
    assert "not the 1 that were noted" in checking.damages(duck, archived(duck))[0].what


def test_a_month_whose_archive_is_not_what_stands_is_not_dropped(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read back has to be what PostgreSQL holds, row by row; nothing half done is left behind."""
    put(engine, row(message="one"))
    real = parquet.of_csv
    monkeypatch.setattr(parquet, "of_csv", lambda written: real(written.replace(b"one", b"eno")))
    with pytest.raises(ArchiveUnreadable):
        retire(engine, duck)
    assert len(stored(engine)) == 1
    assert [path.name for path in duck.directory.iterdir()] == []


def test_a_month_that_fails_to_be_archived_stays(engine: Engine, tmp_path: Path) -> None:
    """A full or missing disk costs no row."""
    put(engine, row())
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError):
        retire(engine, Duck(blocked, 64 << 20, 1))
    assert len(stored(engine)) == 1


def test_rows_that_come_late_are_another_file_of_their_month(engine: Engine, duck: Duck) -> None:
    """Only those that are not there: what was stored first stands, as by the audit's own key."""
    first = row(message="first")
    put(engine, first)
    retire(engine, duck)
    put(engine, first._replace(message="a repeat"), row(NOW + timedelta(seconds=1), message="late"))
    retire(engine, duck)
    assert [file.rows for file in archived(duck).files] == [1, 1]
    assert restore(engine, duck).rows == 2
    assert sorted(one[6] for one in stored(engine)) == ["first", "late"]


def test_a_restored_month_stays_as_long_as_was_said(engine: Engine, duck: Duck) -> None:
    """Until then retention leaves it; then it goes, and its archive is what it was."""
    put(engine, *strange())
    retire(engine, duck)
    was = archived(duck)
    until = restore(engine, duck).until
    assert retention.retire(engine, until - timedelta(seconds=1), 90, duck) == []
    assert retention.retire(engine, until, 90, duck) == ["event_audit_log_2031_05"]
    assert archived(duck) == was
    with transaction(engine) as conn:
        assert reading.restored(conn) == {}


def test_a_month_that_was_archived_early_goes_again_when_its_time_is_up(engine: Engine, duck: Duck) -> None:
    """By hand, long before retention would have."""
    put(engine, row())
    soon = NOW + timedelta(days=20)
    assert retention.retire_month(engine, MAY, soon, duck)
    retention.restore(engine, MAY, duck, until=soon + timedelta(days=1), who="test")
    assert retention.retire(engine, soon, 90, duck) == []
    assert retention.retire(engine, soon + timedelta(days=1), 90, duck) == ["event_audit_log_2031_05"]


def test_a_writer_that_waits_for_a_month_keeps_it_no_longer_than_he_waits(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has what the other needs: the drop is tried again, and the row is written once its month is gone."""
    put(engine, row())
    real, done = keeping.keep, list[Future[None]]()

    def late() -> None:
        with transaction(engine) as conn:
            conn.execute(text("SET LOCAL statement_timeout = 2500"))
            audit.copy_rows(conn, [row(message="late")])

    with ThreadPoolExecutor(1) as pool:

        def and_a_late_row(*told: Any) -> None:
            real(*told)
            done.append(pool.submit(late))
            wait_until(lambda: waits(engine), 5, "the writer's wait")

        monkeypatch.setattr(keeping, "keep", and_a_late_row)
        assert retire(engine, duck) == ["event_audit_log_2031_05"]
        with pytest.raises(StoreDown):
            done[0].result(10)


def waits(engine: Engine) -> bool:
    # Longer than PostgreSQL waits before it looks for a deadlock: it is then the other's who comes to wait.
    query = (
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'"
        " AND clock_timestamp() - query_start > interval '1.2 seconds'"
    )
    with transaction(engine) as conn:
        return conn.execute(text(query)).first() is not None


def test_a_restored_month_is_taken_away_when_told(engine: Engine, duck: Duck) -> None:
    """Only what its archive holds: with a late row in it, it stays."""
    put(engine, row())
    retire(engine, duck)
    restore(engine, duck)
    assert retention.drop_restored(engine, MAY, duck)
    assert stored(engine) == [] and not retention.drop_restored(engine, MAY, duck)
    restore(engine, duck)
    put(engine, row(message="late"))
    with pytest.raises(Refused, match="other rows"):
        retention.drop_restored(engine, MAY, duck)
    assert retention.retire_month(engine, MAY, LATER, duck)
    assert archived(duck).rows == 2


def test_a_restored_month_is_not_taken_away_behind_a_late_row_or_a_damaged_file(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the sum to the drop nobody writes to it, nobody else archives, and its archive is read to its end."""
    put(engine, row())
    retire(engine, duck)
    restore(engine, duck)
    real = sums.of_table

    def and_a_late_row(conn: Any, *time: datetime) -> sums.Sums:
        found = real(conn, *time)
        with pytest.raises(StoreDown), transaction(engine) as other:
            other.execute(text("SET LOCAL lock_timeout = 100"))
            audit.copy_rows(other, [row(message="late")])
        return found

    file = duck.directory / archived(duck).files[0].name
    body = file.read_bytes()
    file.write_bytes(body[:-1])
    with pytest.raises(ArchiveUnreadable):
        retention.drop_restored(engine, MAY, duck)
    file.write_bytes(body)
    with transaction(engine) as first:
        assert retention._alone(first)
        with pytest.raises(StoreDown, match="another process"):
            retention.drop_restored(engine, MAY, duck)
    monkeypatch.setattr(sums, "of_table", and_a_late_row)
    assert retention.drop_restored(engine, MAY, duck)
    assert stored(engine) == []


def test_rows_without_a_month_are_stored_while_one_is_restored(engine: Engine, duck: Duck) -> None:
    """The default partition is locked for as long as it takes to make a month, and no longer."""
    put(engine, row())
    retire(engine, duck)

    def and_another(_rows: int) -> None:
        with transaction(engine) as other:
            other.execute(text("SET LOCAL lock_timeout = 500"))
            audit.copy_rows(other, [row(LATER, "of a month to come")])

    assert retention.restore(engine, MAY, duck, until=LATER, who="test", each=and_another).rows == 1
    assert len(stored(engine)) == 2


def test_a_month_is_not_dropped_by_who_sees_only_what_stood_at_first(engine: Engine, duck: Duck) -> None:
    """Under another isolation, rows that were committed before the lock are not seen by the sum behind it."""
    put(engine, row())
    with pytest.raises(StoreDown, match="default_transaction_isolation"):
        retire(engine.execution_options(isolation_level="REPEATABLE READ"), duck)
    assert len(stored(engine)) == 1


def test_a_month_with_rows_is_not_restored_over_them(engine: Engine, duck: Duck) -> None:
    """Late rows go to the archive first."""
    put(engine, row())
    retire(engine, duck)
    put(engine, row(message="late"))
    with pytest.raises(Refused, match="came late"):
        restore(engine, duck)
    assert len(stored(engine)) == 1


def test_a_crash_between_archive_and_drop_doubles_nothing(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run finds its rows in the archive, proves it, and drops the month."""
    put(engine, *strange())
    with monkeypatch.context() as broken:
        broken.setattr(retention, "_drop", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            retire(engine, duck)
    was = archived(duck)
    assert was.files[0].pending and len(stored(engine)) == was.rows
    assert retire(engine, duck) == ["event_audit_log_2031_05"]
    assert archived(duck).files == (msgspec.structs.replace(was.files[0], pending=False),)


def test_archives_of_older_versions_are_made_anew(engine: Engine, duck: Duck) -> None:
    """Every row of the gzip of CSV, read by one parser and proved by another; then it goes."""
    put(engine, *strange())
    before = stored(engine)
    duck.directory.mkdir()
    old = duck.directory / "event_audit_log_2031_05.csv.gz"
    with transaction(engine) as conn, gzip.open(old, "wb") as out, conn.connection.cursor() as cursor:
        cursor.copy_expert("COPY event_audit_log_2031_05 TO STDOUT (FORMAT csv, HEADER)", out)
    with transaction(engine) as conn:
        conn.execute(text("DROP TABLE event_audit_log_2031_05"))
    assert retention.convert(engine, duck, LATER) == [old.name]
    assert not old.exists()
    restore(engine, duck)
    assert stored(engine) == before


def test_two_old_archives_of_a_month_become_one_whatever_their_order(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They came as they stood in the table, in no order of time: no row is left out, none is there twice."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    times = [NOW + timedelta(hours=n) for n in (5, 6, 1, 2, 7, 8, 3, 9)]
    rows = [row(at, f"m{n}") for n, at in enumerate(times)]
    put(engine, *rows)
    before = stored(engine)
    duck.directory.mkdir()
    for name, some in (("", rows), (".1", rows[3:5])):
        text_of = ", ".join(f"('{one.event_id}'::uuid, {n})" for n, one in enumerate(some))
        query = f"SELECT a.* FROM event_audit_log a JOIN (VALUES {text_of}) v (id, n) ON a.event_id = id ORDER BY n"
        with transaction(engine) as conn, conn.connection.cursor() as cursor:
            with gzip.open(duck.directory / f"event_audit_log_2031_05{name}.csv.gz", "wb") as out:
                cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", out)
    with transaction(engine) as conn:
        conn.execute(text("DROP TABLE event_audit_log_2031_05"))
    real = parquet.old_csv
    monkeypatch.setattr(
        parquet,
        "old_csv",
        lambda opened: (table.slice(n, 2) for table in real(opened) for n in range(0, table.num_rows, 2)),
    )
    assert len(retention.convert(engine, duck, LATER)) == 2
    assert archived(duck).rows == len(rows)
    restore(engine, duck)
    assert stored(engine) == before


def test_late_rows_that_do_not_come_through_keep_their_month(
    engine: Engine, duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out is counted, too: what stands is what the archive had and what came to it."""
    put(engine, row())
    retire(engine, duck)
    put(engine, *(row(NOW + timedelta(seconds=n)) for n in range(3)))
    monkeypatch.setattr(keeping, "_NEW", keeping._NEW.replace(" ORDER BY", " LIMIT 2 --"))
    with pytest.raises(ArchiveUnreadable, match="lacked"):
        retire(engine, duck)
    assert len(stored(engine)) == 3 and archived(duck).rows == 1


def test_one_process_retires_while_another_has_nothing_to_do(engine: Engine, duck: Duck) -> None:
    """It does not wait for the other."""
    put(engine, row())
    with transaction(engine) as first:
        assert retention._alone(first)
        assert retire(engine, duck) == []
    assert retire(engine, duck) == ["event_audit_log_2031_05"]


def test_archives_expire_by_their_month(tmp_path: Path) -> None:
    """Older than so many years, to the month; the manifest goes last, and other files are not ours to delete."""
    for name in (
        "2024_04.1.parquet",
        "2024_04.json",
        "2024_05.1.parquet",
        "2024_05.json",
        "2024_04.2.csv.gz",
        "2024_04.txt",
    ):
        (tmp_path / f"event_audit_log_{name}").touch()
    gone = manifest.expire(tmp_path, NOW, years=7)
    assert gone == [f"event_audit_log_2024_04.{kind}" for kind in ("1.parquet", "2.csv.gz", "json")]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_question_reaches_nothing_but_the_archives(duck: Duck, tmp_path: Path) -> None:
    """No file beside them, no extension, no other setting; nothing is written elsewhere."""
    duck.directory.mkdir()
    beside = tmp_path / "secret.csv"
    beside.write_text("a\n1\n")
    for asked in (
        f"SELECT * FROM read_csv('{beside}')",
        "SELECT * FROM read_text('/etc/passwd')",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        f"ATTACH '{tmp_path / 'new.db'}'",
    ):
        with pytest.raises(ArchiveUnreadable), duck.asking() as conn:
            conn.execute(asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "secret.csv"]


def test_a_deadline_that_comes_as_a_question_ends_harms_nobody(
    duck: Duck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed, and its interruption still under way."""
    alarms: list[Any] = []
    alarm = SimpleNamespace(cancel=lambda: None)
    monkeypatch.setattr(DEADLINES, "at", lambda _when, action: alarms.append(action) or alarm)
    with duck.asking(5) as conn:
        conn.execute("SELECT 1")
    [late] = alarms
    late()


def test_archived_rows_are_redacted_where_they_are_asked_for(engine: Engine, duck: Duck) -> None:
    """The file is written anew and proved, the old one is gone; only rows of that time, and not when only counted."""
    put(engine, row(message="password=one"), row(NOW + timedelta(days=1), message="password=two"))
    retire(engine, duck)
    was = archived(duck)
    made = Redactions([Redaction(id=1, name="p", pattern="password=[a-z]+")])
    time = NOW, NOW + timedelta(hours=1), LATER
    for note in (None, 0):
        (done,) = retention.redact_archives(engine, duck, made, *time, note)
        assert (done.rows, done.changed) == (1, 1)
        assert (archived(duck) == was) is (note is None)
    assert checking.damages(duck, archived(duck)) == [] and manifest.unknown_files(duck.directory) == []
    restore(engine, duck)
    assert [one[6] for one in stored(engine)] == ["[redacted]", "password=two"]


def test_who_asks_nothing_of_archives_carries_nothing_for_them() -> None:
    """Neither a worker, nor the web, nor the shell loads what reads files before it is asked to."""
    asked = "import sys, mutt.wsgi, mutt.cli, mutt.tasks.worker, mutt.tasks.maintenance, mutt.tasks.backtests"
    code = f"{asked}; sys.exit(' '.join({{'duckdb', 'pyarrow'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_old_archive_that_is_none_is_left_alone(engine: Engine, duck: Duck) -> None:
    """What its first line says is looked at before it is asked for anything; nothing is deleted."""
    duck.directory.mkdir()
    old = duck.directory / "event_audit_log_2031_05.csv.gz"
    with gzip.open(old, "wt") as out:
        out.write("event_id,x' : 'VARCHAR'}) --\n1,2\n")
    with pytest.raises(Refused, match="would keep the text"):
        next(retention.redact_archives(engine, duck, Redactions([]), NOW, LATER, LATER, None))
    with pytest.raises(ArchiveUnreadable, match="columns"):
        retention.convert(engine, duck, LATER)
    assert old.exists() and manifest.read(duck.directory, MAY) is None
