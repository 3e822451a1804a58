"""PostgreSQL away, hung, read-only, full, slow or not migrated: all of it is an outage, and none of it lasts."""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import psutil
import psycopg2
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, func, select, text

from mutt.cli import cli
from mutt.entry import Entry
from mutt.errors import NoRuleset, StoreDown
from mutt.event import Event
from mutt.moogsim.server import Simulator
from mutt.pipeline import evaluate as pipeline
from mutt.pipeline.evaluate import ALONE_FROM
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import engine as engine_module
from mutt.store import partitions, patience
from mutt.store.engine import make_engine, transaction
from mutt.store.patience import allow, within
from mutt.store.tables import audit_ledger
from mutt.tasks import alerts as alert_tasks
from mutt.tasks import base
from mutt.tasks.base import MuttTask
from tests.bench import Bench, benches, event
from tests.forwarding import turns_until
from tests.integration.test_record import raised, statuses, take
from tests.proxy import Proxy, proxied
from tests.servers import Live
from tests.waiting import wait_until


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    """One whose claims last: however busy the machine is, a drain does not see again what it has handed back."""
    with benches(redis_url, database_url, evaluate_claim=60.0) as (made,):
        yield made


def psql(url: str, *statements: str) -> None:
    """As an operator would, in a session that may write whatever the database's default is."""
    connection = psycopg2.connect(url, options="-c default_transaction_read_only=off")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def hands_back(bench: Bench, entries: list[Entry], says: str) -> list[Entry]:
    """An outage that says so; the entries as they are handed out again."""
    with pytest.raises(StoreDown, match=says):
        bench.evaluate(entries)
    bench.held.release(entries, 0.0)
    assert bench.letters() == []
    entries = bench.take_over()
    assert [entry.attempts for entry in entries] == [1]
    return entries


def drains_in_one_go(bench: Bench, entries: list[Entry], events: int) -> None:
    """Everything is written in the one transaction that it would have been without an outage."""
    bench.held.settle(bench.evaluate(entries))
    assert bench.events == {"accepted": events, "settled": events}
    with bench.sql() as conn:
        assert conn.execute(select(func.count()).select_from(audit_ledger)).scalar_one() == 1
    bench.check()


# ---- what the server says


#: What PostgreSQL answers when no row is at fault.
OUTAGES = [
    "25006",  # read-only
    "40001",
    "40P01",  # deadlock
    "53100",  # disk full
    "53200",  # out of memory
    "53300",  # out of connections
    "55P03",  # a lock was not to be had
    "57014",  # took too long
    "57P01",  # shutting down
    "58030",  # the disk fails
    "XX001",  # a page is damaged
]


def test_what_is_not_about_the_rows_is_handed_back_unspent_and_parks_nothing(
    bench: Bench, database_url: str
) -> None:
    bench.append(*[event(f"CRITICAL {n}", f"host-{n}") for n in range(5)])
    fails = (
        "CREATE OR REPLACE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE SQLSTATE '{}' USING MESSAGE = 'not now'; END $$"
    )
    trigger = "TRIGGER fails BEFORE INSERT ON event_audit_log FOR EACH ROW EXECUTE FUNCTION fails()"
    psql(database_url, fails.format("53100"), f"CREATE {trigger}")
    entries = bench.take()
    for sqlstate in OUTAGES:
        psql(database_url, fails.format(sqlstate))
        entries = hands_back(bench, entries, f"{sqlstate}.*not now")
    psql(database_url, "DROP TRIGGER fails ON event_audit_log")
    drains_in_one_go(bench, entries, 5)


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        ("ALTER TABLE alerts RENAME TO gone", "ALTER TABLE gone RENAME TO alerts"),
        ("ALTER TABLE event_audit_log RENAME raw TO gone", "ALTER TABLE event_audit_log RENAME gone TO raw"),
        ("ALTER TABLE alert_rules RENAME team_assignment TO gone",
         "ALTER TABLE alert_rules RENAME gone TO team_assignment"),
    ],
    ids=["table", "column", "rules"],
)  # fmt: skip
def test_a_schema_that_was_not_migrated_is_an_outage_that_names_the_command(
    bench: Bench, database_url: str, breaks: str, mends: str
) -> None:
    bench.append(event(), event("CRITICAL b", "core-2"))
    psql(database_url, breaks)
    entries = hands_back(bench, bench.take(), "mutt migrate")
    psql(database_url, mends)
    drains_in_one_go(bench, entries, 2)


def test_a_lost_default_partition_is_an_outage_for_who_needs_it_until_it_is_made_again(
    bench: Bench, database_url: str
) -> None:
    bench.append(event(), event("CRITICAL b", received_at=datetime(1999, 1, 1, tzinfo=UTC)))
    psql(database_url, "DROP TABLE event_audit_log_default")
    bench.held.settle(bench.evaluate(bench.take()))
    assert bench.events == {"accepted": 2, "settled": 1, "queued": 1}
    bench.check()
    entries = hands_back(bench, bench.take(), "mutt partitions ensure")
    with bench.sql() as conn:
        partitions.ensure(conn, datetime.now(UTC))
    bench.held.settle(bench.evaluate(entries))
    assert bench.events == {"accepted": 2, "settled": 2}
    bench.check()


FAILS_FOR_BAD = (
    "CREATE OR REPLACE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.hostname LIKE 'bad%' THEN RAISE SQLSTATE '53100' USING MESSAGE = 'tablespace full'; END IF; "
    "RETURN NEW; END $$",
    "CREATE TRIGGER fails BEFORE INSERT ON event_audit_log FOR EACH ROW EXECUTE FUNCTION fails()",
)


@pytest.fixture
def drains(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """What doorbells of the ingest queue do, without Celery, until nothing is due. How many entries were stuck."""
    for module in (base, alert_tasks):
        monkeypatch.setattr(module, "services", lambda: bench.services)
    monkeypatch.setattr(base, "settings", lambda: bench.settings)
    monkeypatch.setattr(base, "_rests", defaultdict(base.Rest))

    def drain() -> int:
        did = alert_tasks.evaluate_queue()
        # On a busy machine a slice may be over before the work is: then it is the next doorbell's.
        return did.get("stuck", 0) + (drain() if did["ended"] == "slice" else 0)

    return drain


def good(count: int) -> list[Event]:
    return [event(f"CRITICAL {n}", f"good-{n}") for n in range(count)]


@pytest.mark.parametrize("bad", [1, 3])
def test_a_row_that_is_refused_with_an_outages_sqlstate_does_not_hold_its_neighbours(
    bench: Bench, database_url: str, drains: Callable[[], int], bad: int
) -> None:
    psql(database_url, *FAILS_FOR_BAD)
    for n, one in enumerate(good(10)):
        bench.append(one)
        if n in (2, 3, 9)[:bad]:
            bench.append(event("CRITICAL bad", f"bad-{n}"))
    assert drains() == bad
    assert len(bench.rows()) == 10
    assert bench.events == {"accepted": 10 + bad, "settled": 10, "queued": bad}
    for _ in range(3):
        bench.let_time_pass()
        bench.append(*good(1))
        assert drains() == bad
    assert bench.letters() == []
    assert bench.events == {"accepted": 13 + bad, "settled": 13, "queued": bad}
    bench.check()
    psql(database_url, "DROP TRIGGER fails ON event_audit_log")
    bench.let_time_pass()
    entries = bench.take()
    assert {entry.attempts for entry in entries} == {1}, "to wait costs nothing"
    bench.held.settle(bench.evaluate(entries))
    assert bench.events == {"accepted": 13 + bad, "settled": 13 + bad}
    bench.check()


@pytest.mark.parametrize("delivery", [1, ALONE_FROM])
def test_the_neighbours_in_the_same_entry_are_written_too_and_what_is_stuck_becomes_an_entry_of_its_own(
    bench: Bench, database_url: str, drains: Callable[[], int], delivery: int
) -> None:
    psql(database_url, *FAILS_FOR_BAD)
    twice = event("CRITICAL bad", "bad-1", item=1)
    nul = event("CRITICAL nul \0 byte", "nul-1")
    bench.append(*good(5), twice, nul, *good(5), twice, event("b", "bad-2"))
    for _ in range(delivery - 1):
        bench.take_over()
    bench.let_time_pass()
    assert drains() == 1
    assert len(bench.rows()) == len(bench.alerts()) == 10
    assert bench.events == {"accepted": 14, "settled": 10, "parked": 1, "queued": 3}
    bench.check()
    bench.let_time_pass()
    assert drains() == 1
    psql(database_url, "DROP TRIGGER fails ON event_audit_log")
    bench.let_time_pass()
    drains()
    assert bench.events == {"accepted": 14, "settled": 12, "duplicate": 1, "parked": 1}
    bench.check()


@pytest.mark.parametrize("one_entry", [True, False])
def test_where_more_is_stuck_than_can_be_halved_the_rest_comes_apart(
    bench: Bench,
    database_url: str,
    drains: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    one_entry: bool,
) -> None:
    """The stuck are told from the others over several drains; each drain asks a bounded number of times."""
    monkeypatch.setattr(base, "HALVINGS", 2)
    monkeypatch.setattr(pipeline, "HALVINGS", 4)
    psql(database_url, *FAILS_FOR_BAD)
    events = [event("CRITICAL x", f"{'bad' if n % 4 == 1 else 'good'}-{n}") for n in range(16)]
    if one_entry:
        bench.append(*events)
    else:
        for one in events:
            bench.append(one)

    def written() -> int:
        drains()
        bench.let_time_pass(base.OUTAGE_REST)
        return bench.events.get("settled", 0)

    wait_until(lambda: written() == 12, 10, "all that can be written")
    assert bench.letters() == []
    assert bench.events == {"accepted": 16, "settled": 12, "queued": 4}
    psql(database_url, "DROP TRIGGER fails ON event_audit_log")
    bench.let_time_pass()
    drains()
    assert bench.events == {"accepted": 16, "settled": 16}
    bench.check()


def test_in_a_real_outage_a_share_is_not_halved(
    bench: Bench, database_url: str, drains: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in good(10):
        bench.append(one)
    name = database_url.rpartition("/")[2]
    psql(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    bench.services.engine.dispose()
    asked: list[int] = []
    work = bench.services.evaluator.evaluate_entries
    monkeypatch.setattr(
        bench.services.evaluator,
        "evaluate_entries",
        lambda entries: asked.append(len(entries)) or work(entries),
    )
    with pytest.raises(StoreDown):
        drains()
    assert asked == [10]
    psql(database_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    drains_in_one_go(bench, bench.take_over(), 10)


def test_rules_that_can_not_be_read_are_no_events_fault(bench: Bench, database_url: str) -> None:
    """What PostgreSQL refuses then is the rules', though it says so with a SQLSTATE that is poison in a row."""
    bench.append(event(), event("CRITICAL b", "core-2"))
    psql(
        database_url,
        "ALTER TABLE alert_rules DROP CONSTRAINT ck_alert_rules_tags",
        "UPDATE alert_rules SET tags = '[1]'",
    )
    entries = bench.take()
    with pytest.raises(NoRuleset, match="can't be read"):
        bench.evaluate(entries)
    assert bench.letters() == []
    psql(database_url, "UPDATE alert_rules SET tags = '{}'")
    drains_in_one_go(bench, entries, 2)


def test_sessions_that_began_while_the_database_was_read_only_are_not_kept(
    bench: Bench, database_url: str
) -> None:
    """A session keeps what it began with: one of a standby, or of a database that was set to read-only."""
    name = database_url.rpartition("/")[2]
    bench.append(event(), event("CRITICAL b", "core-2"))
    psql(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    bench.services.engine.dispose()
    entries = hands_back(bench, bench.take(), "25006.*standby")
    psql(database_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    drains_in_one_go(bench, entries, 2)


# ---- what the server does not say


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of a few seconds are tenths."""
    monkeypatch.setattr(patience, "GRACE", 0.2)
    monkeypatch.setattr(patience, "PING", 0.3)
    monkeypatch.setattr(engine_module, "CONNECT_TIMEOUT", 2)
    monkeypatch.setattr(engine_module, "STATEMENT_TIMEOUT", 1)


def ended(work: Callable[[], object], within_s: float = 30.0) -> BaseException | None:
    """What ``work`` raised; that it ends at all is what is asked."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 a thread's edge: the test looks at it
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(within_s)
    assert not thread.is_alive(), "it waits for a server that will never answer"
    return caught[0] if caught else None


@contextmanager
def stopped(server: Live) -> Iterator[None]:
    """The postmaster and all its children hang: the kernel still takes connections for it, and confirms every byte."""
    postmaster = psutil.Process(server.pid)
    postmaster.send_signal(signal.SIGSTOP)  # first: from now on it has no new children
    tree = [postmaster, *postmaster.children(recursive=True)]
    for process in tree:
        with suppress(psutil.NoSuchProcess):  # it was about to end
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_is_an_outage_and_is_used_again_when_it_goes_on(own_postgres: Live) -> None:
    engine = make_engine(Settings.from_env({}, database_url=own_postgres.url), role="test")
    _ask(engine)
    with engine.connect() as busy, stopped(own_postgres):
        error = ended(lambda: busy.execute(text("SELECT 1")))
        assert "no answer from PostgreSQL" in str(error)
        assert isinstance(ended(lambda: _ask(engine)), StoreDown), (
            "neither by an old connection nor by a new one"
        )
    _ask(engine)
    engine.dispose()


def _ask(engine: Engine) -> None:
    with transaction(engine) as conn:
        conn.execute(text("SELECT 1"))


@pytest.fixture
def far(impatient: None, redis_url: str, database_url: str) -> Iterator[tuple[Bench, Proxy]]:
    """A worker and its PostgreSQL, with a network between."""
    with proxied(database_url) as proxy, benches(redis_url, proxy.url) as (bench,):
        yield bench, proxy


def test_a_host_that_vanished_holds_no_entry_beyond_its_wait_and_makes_no_event_in_work_alone_a_suspect(
    far: tuple[Bench, Proxy],
) -> None:
    bench, proxy = far
    bench.append(event(), event("CRITICAL b", "core-2"))
    entries = bench.take()
    while entries[0].attempts < ALONE_FROM:
        entries = bench.take_over()
    proxy.silence()
    assert isinstance(ended(lambda: bench.evaluate(entries)), StoreDown)
    assert bench.services.evaluator._suspects.read(entries[0]) == []
    proxy.speak()
    bench.held.settle(bench.evaluate(entries))
    assert bench.events == {"accepted": 2, "settled": 2}
    bench.check()


def test_a_flow_back_that_holds_its_lock_when_the_host_vanishes_ends(
    far: tuple[Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Housekeeping runs in threads, which nobody else would end."""
    monkeypatch.setattr(engine_module, "GUARD_TIMEOUT", 1)
    bench, proxy = far
    rows = bench.services.spill_rows

    def holds() -> None:
        with rows.alone() as mine:
            assert mine
            proxy.silence()

    error = ended(holds, 10)
    assert isinstance(error, StoreDown)
    assert "no answer from PostgreSQL" in str(error)
    assert isinstance(ended(holds, 10), StoreDown), "nor is it entered"
    proxy.speak()
    proxy.cut()  # as the server's own limits would, for what it has not heard the end of

    def is_free() -> bool:
        with rows.alone() as mine:
            return mine

    wait_until(is_free, 5, "the lock to be free")


def test_the_waits_of_one_piece_of_work_end_together(far: tuple[Bench, Proxy]) -> None:
    """Each statement is quick enough by itself: still the work must not outlive its claim."""
    bench, _ = far

    def work() -> None:
        with within(1.0), bench.sql() as conn:
            while True:
                conn.execute(text("SELECT pg_sleep(0.2)"))

    assert isinstance(ended(work), StoreDown)
    _ask(bench.services.engine)


def test_who_needs_long_is_waited_for(far: tuple[Bench, Proxy]) -> None:
    """Archives and recounts: for one transaction, and then the usual limits hold again."""
    bench, _ = far
    with bench.sql() as conn:
        allow(conn, 0)
        conn.execute(text("SELECT pg_sleep(1.5)"))
    with bench.sql() as conn:
        connection = conn.connection.dbapi_connection
        assert isinstance(connection, patience.PatientConnection)
        assert connection.silence == connection.usual == pytest.approx(1.2)


def test_many_threads_wait_side_by_side_and_each_is_answered(far: tuple[Bench, Proxy]) -> None:
    """An alarm hangs up on its own connection, and on none that took its number since."""
    bench, _ = far
    before, began = psutil.Process().num_fds(), time.monotonic()

    def ask(_n: int) -> None:
        while time.monotonic() - began < 1.0:
            _ask(bench.services.engine)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert psutil.Process().num_fds() < before + 20, "no handle is left behind"


# ---- the others, meanwhile


def test_what_stands_in_the_lanes_goes_to_moog_while_postgresql_is_away(bench: Bench) -> None:
    alerts = raised(bench, 3)
    with Simulator() as moog:
        away = {"database_url": "postgresql://mutt@127.0.0.1:1/mutt", "moog_url": moog.enterprise_url}
        settings = Settings.from_env({}, redis_url=bench.settings.redis_url, **away)
        services = Services(settings, lambda *_, **__: None, role="test")
        turns_until(services.forwarder, lambda: len(moog.received) == len(alerts))
        assert "engine" not in vars(services), "it never asked"
    entries = take(bench)
    bench.services.held("delivery_queue").settle(bench.services.recorder.record_outcomes(entries))
    assert statuses(bench) == {"delivered": 3}


def test_a_command_says_a_sentence_where_the_server_hangs(
    far: tuple[Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, proxy = far
    monkeypatch.setenv("DATABASE_URL", proxy.url)
    monkeypatch.setenv("REDIS_URL", bench.settings.redis_url)
    proxy.silence()
    told = CliRunner().invoke(cli, ["partitions", "list"])
    assert "PostgreSQL can't be asked" in str(told.exception)


def test_a_task_that_is_out_of_memory_fails_alone(bench: Bench) -> None:
    """Celery ends the whole worker where a task lets a MemoryError out."""

    def work() -> dict[str, object]:
        raise MemoryError("no room")

    task = MuttTask()
    task.name = "mutt.alerts.evaluate"
    with pytest.raises(RuntimeError, match="out of memory: no room"):
        task.work(work)
