"""A search is exported whole, from the table and from archives, in bounded parts, and says how far it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from mutt.cli import cli
from mutt.store import audit, exports, retention
from mutt.store.audit import AuditRow
from mutt.store.lookup import AuditSearch
from mutt.web.admin.exportfile import written
from tests.admin_client import operator_of
from tests.bench import Bench

MAY = datetime(2019, 5, 1, tzinfo=UTC)
NOW = datetime(2019, 7, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = ["plain", "=cmd()", 'a "quoted", b', "two\r\nlines", "", "@x", "ünï 🦊"]


@pytest.fixture
def bench(redis_url: str, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(redis_url, database_url, audit_archive_dir=tmp_path / "archive")
    with made.sql() as conn:
        for month in (MAY, MAY.replace(month=6)):
            conn.execute(text("SELECT audit_make_month(:month)"), {"month": month})
        audit.copy_rows(conn, rows())
    yield made
    made.close()


def rows() -> list[AuditRow]:
    return [
        AuditRow(UUID(int=n), at, at, f"r{n % 3}", n % 8, "syslog", TEXTS[n % 7], None, 1, "Ignore", None, "b", n, "c",
                 TEXTS[n % 7])
        for n in range(60)
        for at in [MAY + timedelta(days=n, microseconds=n)]
    ]  # fmt: skip


def exported(bench: Bench, kind: str = "parquet", **told: Any) -> bytes:
    services, asked = bench.services, AuditSearch(**told)
    with bench.sql() as conn:
        since, until = exports.span(conn, services.archives, asked, NOW)
    parts = exports.export(services.engine, services.archives, asked, since, until)
    return b"".join(written(parts, kind, lambda _rows, _share: None))


def ids(body: bytes) -> list[int]:
    return [one.int for one in pq.read_table(io.BytesIO(body))["event_id"].to_pylist()]


def retire(bench: Bench) -> None:
    assert retention.retire_month(bench.services.engine, "2019-05", LATER, bench.services.archives)


@pytest.mark.parametrize("archived", [False, True], ids=["table", "table and archive"])
def test_every_row_is_exported_once_and_in_order(bench: Bench, archived: bool) -> None:
    """Whole rows, narrowed as the search is, from both places; a late row stands at its time."""
    if archived:
        retire(bench)
    assert ids(exported(bench)) == list(range(60))
    assert ids(exported(bench, hostname="r1", text="PLAIN")) == [
        n for n in range(60) if n % 3 == 1 and n % 7 == 0
    ]
    assert ids(exported(bench, since=MAY + timedelta(days=25), until=MAY + timedelta(days=40))) == list(
        range(25, 40)
    )
    late = rows()[3]._replace(event_id=UUID(int=1000))
    with bench.sql() as conn:
        audit.copy_rows(conn, [late])
    assert sorted(ids(exported(bench))[3:5]) == [3, 1000]


@pytest.mark.parametrize("way", ["archived", "restored"])
def test_a_month_that_moves_meanwhile_is_exported_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Which files are read is told before COPY has its lock: what moved in between is asked for anew."""
    real, moves, engine, duck = exports._copy, [1], bench.services.engine, bench.services.archives
    if way == "restored":
        retire(bench)

    def meanwhile(*told: Any) -> None:
        if moves:
            moves.clear()
            if way == "archived":
                retire(bench)
            else:
                retention.restore(engine, "2019-05", duck, until=LATER, who="test")
        real(*told)

    monkeypatch.setattr(exports, "_copy", meanwhile)
    assert ids(exported(bench)) == list(range(60))


def test_a_row_that_came_again_is_exported_once(bench: Bench) -> None:
    """The same key in the archive and in the table is one event."""
    retire(bench)
    with bench.sql() as conn:
        audit.copy_rows(conn, rows()[3:5])
    assert ids(exported(bench)) == list(range(60))


def test_csv_runs_nothing_and_reads_back(bench: Bench) -> None:
    """Each text as it was, but for the apostrophe before what would be a formula."""
    body = exported(bench, "csv", hostname="r1").decode("utf-8-sig")
    told = list(csv.DictReader(io.StringIO(body, newline="")))
    assert [int(UUID(one["event_id"])) for one in told] == [n for n in range(60) if n % 3 == 1]
    assert {one["raw"] for one in told} == {"'" + one if one[:1] in "=@" and one else one for one in TEXTS}


def test_a_slice_with_too_many_bytes_is_read_in_halves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds more than a part, however much there is."""
    monkeypatch.setattr(exports, "FIRST", timedelta(days=90))
    monkeypatch.setattr(exports, "SLICE_BYTES", 1000)
    assert ids(exported(bench)) == list(range(60))


def test_the_page_gives_the_file_and_says_how_far_it_is(bench: Bench) -> None:
    """A viewer's, too: what may be searched may be exported."""
    told = {"redis_url": bench.settings.redis_url, "audit_archive_dir": bench.settings.audit_archive_dir}
    client = operator_of(bench.services.engine, bench.settings.database_url, **told)
    page = client.get("/audit/export?hostname=r1")
    assert page.status_code == 200 and "came in" in page.text
    job = uuid4()
    assert "Not begun" in client.get(f"/audit/export/{job}/state").text
    answer = client.get(f"/audit/export/{job}/parquet?hostname=r1")
    assert ids(answer.data) == [n for n in range(60) if n % 3 == 1]
    assert "attachment" in answer.headers["Content-Disposition"]
    state = client.get(f"/audit/export/{job}/state").text
    assert "Done" in state and "20 events" in state and "hx-get" not in state


def test_the_shell_exports_searches_and_knows_the_calendar(
    bench: Bench, tmp_path: Path, monkeypatch: Any
) -> None:
    """Archive, list, verify, search, export, restore, take away: as it is typed."""
    for module in ("archives", "searching", "partitions"):
        monkeypatch.setattr(f"mutt.cli.{module}.services", lambda: bench.services)

    def shell(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, args)
        assert done.exit_code == code, done.output
        return done.output

    assert "31 rows" in shell("audit", "archive", "2019-05")
    assert "31 rows in 1 file are as they were written" in shell("audit", "verify")
    assert "2019-05" in shell("audit", "archives")
    assert orjson.loads(shell("audit", "archives", "--json"))[0]["rows"] == 31
    found = shell("audit", "search", "--since", "2019-05-01", "--until", "2019-05-20", "--host", "r1")
    assert "What was received in 2019-05 is read from archives." in found
    file = tmp_path / "out.parquet"
    assert "60 events" in shell(
        "audit", "export", "--since", "2019-05-01", "--format", "parquet", "-o", str(file)
    )
    assert ids(file.read_bytes()) == list(range(60))
    shell("audit", "export", "--since", "2019-05-01", "-o", str(file), code=2)
    months = {one["month"]: one for one in orjson.loads(shell("partitions", "list", "--json"))["months"]}
    assert (months["2019-05"]["state"], months["2019-05"]["next"]) == (
        "archived",
        "deleted from 2026-06-01 on",
    )
    assert "31 rows are back" in shell("audit", "restore", "2019-05", "--days", "3")
    assert "restored" in shell("partitions", "list")
    assert "is gone" in shell("audit", "restore", "2019-05", "--drop")
    (damaged,) = bench.services.archives.directory.glob("*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert f"DAMAGED: {damaged.name}" in shell("audit", "verify", "2019-05", code=1)
    shell("audit", "verify", "may", code=2)
