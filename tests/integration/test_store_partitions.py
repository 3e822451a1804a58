"""The audit's months are made ahead, take in what came too early, and go only when archived and old."""

from __future__ import annotations

import csv
import gzip
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, func, select, text

from mutt.errors import StoreDown
from mutt.store import archive, audit, partitions
from mutt.store.audit import AuditRow
from mutt.store.engine import transaction
from mutt.store.tables import event_audit_log
from tests.waiting import wait_until

NOW = datetime(2031, 5, 17, 12, tzinfo=UTC)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """Without months: these were made by the real clock, here time is an argument."""
    with transaction(engine) as conn:
        for month in partitions.listing(conn):
            conn.execute(text(f"DROP TABLE {month.name}"))
    return engine


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with transaction(engine) as opened:
        yield opened


def row(at: datetime, message: str = "m") -> AuditRow:
    return AuditRow(
        uuid4(), at, at, "r1", None, "syslog", message, None, 1, "Unhandled", None, "b", 0, "c", "raw"
    )


def rows_in(conn: Connection, table: str) -> int:
    return conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_months_are_made_ahead_and_only_once(conn: Connection) -> None:
    """The current month and three more, over the end of a year, in UTC whatever the clock's zone."""
    november = datetime(2031, 11, 30, 23, 30, tzinfo=UTC)
    made = partitions.ensure(conn, november)
    expected = ["2031_11", "2031_12", "2032_01", "2032_02"]
    assert made == [f"event_audit_log_{month}" for month in expected]
    assert partitions.ensure(conn, november) == []
    listed = {month.name: month for month in partitions.listing(conn)}
    february = listed["event_audit_log_2032_02"]
    assert (february.start, february.end) == (
        datetime(2032, 2, 1, tzinfo=UTC),
        datetime(2032, 3, 1, tzinfo=UTC),
    )
    assert "event_audit_log_default" not in listed


def test_rows_of_the_default_partition_move_into_their_month(conn: Connection) -> None:
    """All of them, to the microsecond at both ends; the month has the audit's indexes."""
    inside = [datetime(2031, 5, 1, tzinfo=UTC), datetime(2031, 5, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    outside = [datetime(2031, 4, 30, 23, 59, 59, 999999, tzinfo=UTC)]
    audit.copy_rows(conn, [row(at) for at in inside + outside])
    assert partitions.default_rows(conn) == 3

    made = partitions.ensure(conn, NOW, months_ahead=0)

    assert made == ["event_audit_log_2031_05", "event_audit_log_2031_04"]
    assert partitions.default_rows(conn) == 0
    assert (rows_in(conn, made[0]), rows_in(conn, made[1])) == (2, 1)
    indexes = text("SELECT count(*) FROM pg_indexes WHERE tablename = :name")
    assert conn.execute(indexes, {"name": made[0]}).scalar_one() == 4
    checks = text(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = CAST(:name AS regclass) AND contype = 'c'"
    )
    assert conn.execute(checks, {"name": made[0]}).scalar_one() == 0


def test_the_months_are_in_use_at_once(conn: Connection) -> None:
    """New rows go into the new month, and equal keys are still refused across the move."""
    partitions.ensure(conn, NOW)
    audit.copy_rows(conn, [row(NOW)])
    assert rows_in(conn, "event_audit_log_2031_05") == 1
    assert partitions.default_rows(conn) == 0


def test_making_months_does_not_wait_for_ever(engine: Engine) -> None:
    """A busy audit is an outage, said so after a few short tries; nothing half made stays."""
    with transaction(engine) as busy:
        audit.copy_rows(busy, [row(NOW)])  # holds the default partition
        with pytest.raises(StoreDown, match="55P03"), transaction(engine) as conn:
            partitions.ensure(conn, NOW, lock_wait=0.05)
    with transaction(engine) as conn:
        assert len(partitions.ensure(conn, NOW)) == 4
        assert rows_in(conn, "event_audit_log_2031_05") == 1


def test_making_months_waits_for_who_writes(engine: Engine) -> None:
    """Who writes for a moment delays the months, and loses no row to them."""
    holds = threading.Event()

    def write() -> None:
        with transaction(engine) as conn:
            audit.copy_rows(conn, [row(NOW)])
            holds.set()
            wait_until(lambda: _waiting_for_locks(engine), what="the maker of months to wait")

    thread = threading.Thread(target=write)
    thread.start()
    assert holds.wait(timeout=10)
    with transaction(engine) as conn:
        partitions.ensure(conn, NOW)
        assert rows_in(conn, "event_audit_log_2031_05") == 1
    thread.join(timeout=10)


def test_a_month_goes_only_when_it_is_wholly_older_than_the_retention(
    conn: Connection, tmp_path: Path
) -> None:
    """On the day before, its last row is inside the retention: nothing goes. Then it goes, into an archive."""
    partitions.ensure(conn, NOW, months_ahead=1)
    messages = ["plain", 'quoted "a", b', "two\nlines\r\n", "\\N", ""]
    audit.copy_rows(conn, [row(NOW + timedelta(seconds=n), message) for n, message in enumerate(messages)])
    audit.copy_rows(conn, [row(datetime(2031, 6, 1, tzinfo=UTC))])
    may_ends = datetime(2031, 6, 1, tzinfo=UTC)

    early = may_ends + timedelta(days=90) - timedelta(microseconds=1)
    assert partitions.retire(conn, early, 90, tmp_path) == []
    assert partitions.retire(conn, may_ends + timedelta(days=90), 90, tmp_path) == ["event_audit_log_2031_05"]

    assert conn.execute(select(func.count()).select_from(event_audit_log)).scalar_one() == 1
    file = tmp_path / "event_audit_log_2031_05.csv.gz"
    assert archive.count_rows(file) == len(messages)
    with gzip.open(file, "rt", newline="") as lines:
        assert [line["message"] for line in csv.DictReader(lines)] == messages
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_month_that_fails_to_be_archived_stays(engine: Engine, tmp_path: Path) -> None:
    """A full or missing disk costs no row."""
    with transaction(engine) as conn:
        partitions.ensure(conn, NOW, months_ahead=0)
        audit.copy_rows(conn, [row(NOW)])
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError), transaction(engine) as conn:
        partitions.retire(conn, NOW + timedelta(days=200), 90, blocked)
    with transaction(engine) as conn:
        assert rows_in(conn, "event_audit_log_2031_05") == 1


def test_archiving_may_take_longer_than_any_time_limit(conn: Connection, tmp_path: Path) -> None:
    """Neither the COPY nor the reading back, with the transaction idle, is cut off by the server."""
    partitions.ensure(conn, NOW, months_ahead=0)
    partitions.retire(conn, NOW + timedelta(days=200), 90, tmp_path)
    limits = ("statement_timeout", "idle_in_transaction_session_timeout")
    assert [conn.execute(text(f"SHOW {limit}")).scalar_one() for limit in limits] == ["0", "0"]


def test_an_archive_is_never_overwritten(conn: Connection, tmp_path: Path) -> None:
    """A row that comes after its month went makes a second archive of that month."""
    for _ in range(2):
        audit.copy_rows(conn, [row(NOW)])
        partitions.ensure(conn, NOW, months_ahead=0)
        assert partitions.retire(conn, NOW + timedelta(days=200), 90, tmp_path) == ["event_audit_log_2031_05"]
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["event_audit_log_2031_05.2.csv.gz", "event_audit_log_2031_05.csv.gz"]


def test_retention_leaves_writers_alone_until_the_end(engine: Engine, tmp_path: Path) -> None:
    """While one process retires months, another finds nothing to do instead of waiting."""
    with transaction(engine) as conn:
        partitions.ensure(conn, NOW, months_ahead=0)
    with transaction(engine) as first:
        assert partitions.retire(first, NOW + timedelta(days=200), 90, tmp_path / "first") == [
            "event_audit_log_2031_05"
        ]
        with transaction(engine) as second:
            second.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert partitions.retire(second, NOW + timedelta(days=200), 90, tmp_path / "second") == []


def test_archives_expire_by_the_month_in_their_name(tmp_path: Path) -> None:
    """Older than so many years, to the month; other files are not ours to delete."""
    for name in ("2024_04.csv.gz", "2024_05.csv.gz", "2024_04.2.csv.gz", "2024_04.txt"):
        (tmp_path / f"event_audit_log_{name}").touch()
    gone = archive.expire(tmp_path, NOW, years=7)
    assert gone == ["event_audit_log_2024_04.2.csv.gz", "event_audit_log_2024_04.csv.gz"]
    assert len(list(tmp_path.iterdir())) == 2


def _waiting_for_locks(engine: Engine) -> bool:
    waiting = "wait_event_type = 'Lock' AND datname = current_database()"
    with transaction(engine) as conn:
        return conn.execute(text(f"SELECT count(*) > 0 FROM pg_stat_activity WHERE {waiting}")).scalar_one()


@pytest.mark.parametrize("month", ["0044-03-01 BC", "12026-01-01", "infinity"])
def test_a_month_that_no_name_can_tell_is_refused(engine: Engine, month: str) -> None:
    """It would be named as another, or as none; the first and the last month of the calendar may be made."""
    with pytest.raises(StoreDown, match="is no month of the audit"), transaction(engine) as conn:
        conn.execute(text("SELECT audit_make_month(CAST(:month AS timestamptz))"), {"month": month})
    with transaction(engine) as conn:
        for year in ("0001", "9999"):
            conn.execute(
                text("SELECT audit_make_month(CAST(:month AS timestamptz))"), {"month": f"{year}-12-01"}
            )
