"""A streaming replica that pages and back-tests read: what it lacks is said, and while it is away pages are there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, text

from mutt.backtest.draft import Draft
from mutt.backtest.run import Question, Watch, run
from mutt.cli import searching
from mutt.doctor.ask import examine
from mutt.errors import StoreDown
from mutt.explain.gather import Explainer
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import audit, exports, lookup, privileges
from mutt.store.engine import make_engine, one_shot_engine, transaction
from mutt.store.lookup import AuditSearch
from mutt.store.migrate import upgrade
from mutt.store.replica import UNSAID, Reader
from tests.admin_client import operator_of, send
from tests.integration.test_admin_records import audited
from tests.servers import Live, live_postgres, live_replica, memory, scratch
from tests.waiting import wait_until


class Pair(NamedTuple):
    """Both servers. MUTT reads the replica as ``mutt_reader``, which may do nothing else."""

    primary: Live
    replica: Live
    services: Services
    owner: Engine  #: of the replica

    def pause(self) -> None:
        """What the primary writes from now on, the replica gets and does not show."""
        self._tell("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self._ask("SELECT pg_get_wal_replay_pause_state()") == "paused", 10, "the pause")

    def resume(self) -> None:
        self._tell("SELECT pg_wal_replay_resume()")
        self.arrived("replay")

    def arrived(self, how: str = "receive") -> None:
        """Wait until the replica has received, or shows, what is written by now."""
        with transaction(self.services.engine) as conn:
            lsn = conn.execute(text("SELECT pg_current_wal_insert_lsn()")).scalar_one()
        wait_until(lambda: self._ask(f"SELECT pg_last_wal_{how}_lsn() >= '{lsn}'"), 20, how)

    def _tell(self, statement: str) -> None:
        with transaction(self.owner) as conn:
            conn.execute(text(statement))

    def _ask(self, statement: str) -> object:
        with transaction(self.owner) as conn:
            return conn.execute(text(statement)).scalar_one()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Live, Live]]:
    # Its commits are not waited for by the disk, and sent to the replica all the same.
    extra = {"synchronous_commit": "on"}
    with scratch(memory()) as directory, live_postgres(directory, extra=extra) as primary:
        upgrade(primary.url)
        with transaction(one_shot_engine(primary.url, role="test")) as conn:
            privileges.apply(conn, dict.fromkeys(privileges.ROLES, "secret"))
        with live_replica(directory, primary) as replica:
            yield primary, replica


@pytest.fixture
def pair(servers: tuple[Live, Live], redis_url: str) -> Iterator[Pair]:
    primary, replica = servers
    reads = as_reader(replica)
    settings = Settings.from_env({}, redis_url=redis_url, database_url=primary.url, database_read_url=reads)
    services = Services(settings, lambda *_, **__: None, role="test")
    owner = make_engine(Settings.from_env({}, database_url=replica.url), role="test")
    made = Pair(primary, replica, services, owner)
    made.resume()
    yield made
    for engine in (services.engine, services.read_engine, owner):
        engine.dispose()


def as_reader(replica: Live) -> str:
    return replica.url.replace("//mutt@", "//mutt_reader@")


def write(pair: Pair, hostname: str, at: datetime | None = None) -> audit.AuditRow:
    row = audited(hostname, f"CRITICAL {hostname}", at or datetime.now(UTC))
    with transaction(pair.services.engine) as conn:
        audit.copy_rows(conn, [row])
    pair.arrived()
    return row


def hosts(pair: Pair, hostname: str) -> tuple[int, str]:
    found, source = pair.services.reader.read(
        lambda conn: lookup.search_audit(conn, AuditSearch(hostname=hostname))
    )
    return len(found.rows), source.says


def test_pages_read_the_replica_and_say_how_far_it_is_behind(pair: Pair) -> None:
    """Caught up it is as good as the primary, also where nothing was written for long; paused it says since when."""
    write(pair, "before")
    wait_until(lambda: hosts(pair, "before") == (1, ""), 10, "the row at the replica")
    pair.pause()
    write(pair, "during")
    assert hosts(pair, "during")[0] == 0, "it was read from the replica"
    said = wait_until(lambda: hosts(pair, "during")[1], UNSAID.total_seconds() + 5, "the sentence")
    assert " s behind: what was written after " in said
    pair.resume()
    assert hosts(pair, "during") == (1, "")


def test_a_page_and_a_reply_for_programs_say_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence on the page, in X-Read-Note; what a person just saved is there all the same."""
    monkeypatch.setattr("mutt.store.replica.UNSAID", timedelta(0))
    read_url = {"database_read_url": as_reader(pair.replica)}
    client: FlaskClient = operator_of(pair.services.engine, pair.primary.url, **read_url)
    pair.arrived("replay")  # what the login wrote
    assert "read replica" not in client.get("/audit/").text
    pair.pause()
    try:
        write(pair, "unseen")
        search = "/audit/?hostname=unseen"
        assert "The read replica is " in client.get(search).text
        assert "behind" in client.get("/audit/audit.csv?hostname=unseen").headers["X-Read-Note"]
        answer = client.get("/api/v2/audit-logs?hostname=unseen")
        assert (answer.json["logs"], "behind" in answer.headers["X-Read-Note"]) == ([], True)
        send(client, "/rules/new", name="just saved", match_string="x", team_assignment="NETO")
        assert "just saved" in client.get("/rules/").text
    finally:
        pair.resume()


def test_one_event_is_looked_for_at_the_primary_where_the_replica_lacks_it(pair: Pair) -> None:
    """A page of an event that came a moment ago is there; one that the replica has is read there."""
    pair.pause()
    row = write(pair, "fresh")
    found = Explainer(pair.services).event(str(row.event_id))
    assert found.found == "audited"
    assert not [note for note in found.notes if "replica" in note], "the primary has all of it"
    pair.resume()


def test_a_back_test_says_what_it_could_not_read(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a time that the replica has whole, nothing."""
    monkeypatch.setattr("mutt.store.replica.UNSAID", timedelta(0))
    draft = Draft.of_file([{"name": "d", "match_string": "CRITICAL"}])
    now = datetime.now(UTC)
    write(pair, "backtest-old", now - timedelta(minutes=5))
    pair.resume()
    pair.pause()
    write(pair, "backtest-new")
    engines = pair.services.engine, pair.services.read_engine

    def back_test(until: datetime) -> str:
        question = Question(draft, now - timedelta(hours=1), until, host="backtest-*")
        result = run(question, pair.services.settings, *engines, Watch())
        assert result.events == 1
        return result.note

    assert "behind: what was written after" in back_test(datetime.now(UTC) + timedelta(minutes=1))
    assert back_test(now - timedelta(minutes=1)) == ""
    pair.resume()


def test_an_export_reads_the_replica_and_says_what_it_lacks(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the reader, who may do nothing else; a slice that was broken off for recovery is read again."""
    monkeypatch.setattr("mutt.store.replica.UNSAID", timedelta(0))
    monkeypatch.setattr(searching, "services", lambda: pair.services)
    write(pair, "export-old")
    pair.resume()
    pair.pause()
    write(pair, "export-new")
    real, broken = exports._copy, ["once"]

    def broken_off_once(conn: Connection, *told: Any) -> None:
        if broken:
            broken.clear()
            conn.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        real(conn, *told)

    monkeypatch.setattr(exports, "_copy", broken_off_once)
    out = tmp_path / "out.csv"
    done = CliRunner().invoke(searching.export, ["--since", "1h", "--text", "export-", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "behind: what was written after" in done.output
    assert ("export-old" in out.read_text(), "export-new" in out.read_text()) == (True, False)
    pair.resume()


def test_while_the_replica_is_away_pages_read_the_primary(pair: Pair) -> None:
    """And say so; it is asked again after a while. A question that takes too long is not asked once more."""
    clock = [0.0]
    reader = Reader(pair.services.engine, pair.services.read_engine, monotonic=lambda: clock[0])
    write(pair, "away")
    pair.replica.kill()
    try:
        for _ in range(2):
            row, source = reader.read(
                lambda conn: conn.execute(text("SELECT pg_is_in_recovery()")).scalar_one()
            )
            assert row is False
            assert source.says.startswith(
                "The read replica can't be asked, so this was read from the primary: "
            )
    finally:
        pair.replica.start()
    clock[0] = 11.0
    row, source = reader.read(lambda conn: conn.execute(text("SELECT pg_is_in_recovery()")).scalar_one())
    assert (row, source.away) == (True, "")
    asked = []

    def slow(conn):
        asked.append(conn)
        conn.execute(text("SET LOCAL statement_timeout = '50ms'"))
        conn.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(StoreDown):
        reader.read(slow)
    assert len(asked) == 1


def test_a_replica_whose_connections_are_all_in_use_is_not_away(pair: Pair) -> None:
    """This page reads the primary, the next one asks the replica again."""
    url = pair.replica.url
    one = Settings.from_env({}, database_url=url, database_read_url=url, db_pool_min=1, db_pool_max=1)
    replica = make_engine(one, role="test", patience=0.05)
    reader = Reader(pair.services.engine, replica, monotonic=lambda: 0.0)
    with transaction(replica):
        assert reader.read(lambda conn: 1)[1].away
    assert reader.read(lambda conn: 1)[1].replica
    replica.dispose()


def test_a_conflict_with_recovery_is_answered_by_the_primary(pair: Pair) -> None:
    """40001: the replica had to go on, and broke the question off."""

    def broken_off_once(conn):
        if conn.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
            conn.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        return "found"

    found, source = pair.services.reader.read(broken_off_once)
    assert (found, source.away[:5]) == ("found", "40001")
    assert pair.services.reader.read(lambda conn: 1)[1].replica, "it is asked again at once"


def test_the_doctor_looks_at_the_replica(pair: Pair, servers: tuple[Live, Live], database_url: str) -> None:
    """Is it a standby of this very primary, with the same schema, and how far behind."""

    def told(services: Services) -> dict[str, tuple[str, str]]:
        return {one.what: (one.level, one.says) for one in examine(services) if "replica" in one.what}

    found = told(pair.services)
    assert {level for level, _ in found.values()} <= {"ok", "warn"}
    assert found["replica"] == ("ok", "a standby of this primary, with its schema")
    assert found["replica, behind"][0] == "ok"
    other = Settings.from_env({}, database_url=database_url, database_read_url=pair.replica.url)
    assert told(Services(other, lambda *_, **__: None))["replica"][0] == "bad"
    itself = Settings.from_env({}, database_url=f"{pair.primary.url}?", database_read_url=pair.primary.url)
    assert told(Services(itself, lambda *_, **__: None))["replica"][0] == "warn"
