"""The schema that the migrations make is the one that the tables describe, on every way to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import autogenerate, command, migration
from sqlalchemy import Connection, text

from mutt.embedded.account import postgres_account
from mutt.embedded.pgbinaries import NoPostgres, find_postgres
from mutt.embedded.postgres import PostgresServer
from mutt.errors import StoreDown
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS, STARTING_RULES
from mutt.store import audit, devices, migrate, partitions, rulebook
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.tables import is_ours, metadata
from tests.ports import own_port
from tests.servers import Live, lacking
from tests.waiting import wait_until


@pytest.fixture(params=[15, 18])
def versioned_url(request: pytest.FixtureRequest, own_directory: Path) -> Iterator[str]:
    """An empty database on the oldest PostgreSQL that MUTT supports, and on the newest."""
    account = postgres_account()
    try:
        binaries = find_postgres(account=account, major=request.param)
    except NoPostgres as error:
        lacking(str(error))
    data, log = own_directory / "postgres", own_directory / "postgres.log"
    server = PostgresServer(binaries, data, own_port(), account=account, durable=False)
    live = Live(server.url, server.process(log))
    try:
        yield live.start().url
    finally:
        live.stop()


def test_upgrade_from_empty_equals_the_metadata(versioned_url: str) -> None:
    """Autogenerate finds nothing left to do, and the audit takes rows."""
    migrate.upgrade(versioned_url)
    engine = one_shot_engine(versioned_url, role="test")
    with engine.connect() as conn:
        options = {"include_name": is_ours, "compare_type": True, "compare_server_default": True}
        context = migration.MigrationContext.configure(conn, opts=options)
        assert autogenerate.compare_metadata(context, metadata) == []
    assert audit.control_row(engine)


def test_what_autogenerate_overlooks_is_equal_too(empty_database_url: str, database_url: str) -> None:
    """Constraints, indexes and defaults are the same, to the word, whether migrated or made from the tables."""
    with one_shot_engine(empty_database_url, role="test").begin() as conn:
        metadata.create_all(conn)
        described = _catalog(conn)
    with one_shot_engine(database_url, role="test").connect() as conn:
        assert _catalog(conn) == described


def test_two_migrators_at_once_both_end_well(empty_database_url: str) -> None:
    """The second waits for the first; rules and months are made once."""
    code = "import sys; from mutt.store import migrate; migrate.upgrade(sys.argv[1])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_database_url], cwd=migrate.ROOT, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    with transaction(one_shot_engine(empty_database_url, role="test")) as conn:
        assert len(rulebook.list_rules(conn)) == len(STARTING_RULES)
        assert len(partitions.listing(conn)) == 4


def test_a_new_database_starts_with_rules_hosts_and_months(database_url: str) -> None:
    """What a new installation begins with is there, and the version says that rules were written."""
    with transaction(one_shot_engine(database_url, role="test")) as conn:
        assert {rule.name for rule in rulebook.list_rules(conn)} == {rule.name for rule in STARTING_RULES}
        assert devices.hosts(conn) == sorted(STARTING_DEVELOPMENT_HOSTS)
        assert rulebook.current_version(conn) > 0
        assert partitions.default_rows(conn) == 0


def test_starting_rules_never_come_back(database_url: str) -> None:
    """Who deletes every rule keeps none, over any number of upgrades."""
    with transaction(one_shot_engine(database_url, role="test")) as conn:
        conn.execute(text("DELETE FROM alert_rules"))
    migrate.upgrade(database_url)
    with transaction(one_shot_engine(database_url, role="test")) as conn:
        assert rulebook.list_rules(conn) == []


def test_all_the_way_down_and_up_again(database_url: str) -> None:
    """A downgrade leaves nothing behind that the next upgrade would trip over."""
    with one_shot_engine(database_url, role="test").begin() as conn:
        conn.execute(text("TRUNCATE alert_rules"))
    command.downgrade(migrate.alembic_config(database_url), "base")
    with one_shot_engine(database_url, role="test").connect() as conn:
        assert _catalog(conn) == set()
    migrate.upgrade(database_url)


def test_a_migration_that_has_to_wait_too_long_leaves_the_ones_before_it_done(database_url: str) -> None:
    """And is made good by the next attempt: nothing stands locked from one migration to the next."""
    engine = one_shot_engine(database_url, role="test")
    command.downgrade(migrate.alembic_config(database_url), "0002")
    with engine.connect() as busy:
        busy.execute(text("LOCK TABLE alerts IN ACCESS SHARE MODE"))
        with pytest.raises(StoreDown) as caught:
            migrate.upgrade(database_url)
        assert caught.value.sqlstate == "55P03"
        with engine.connect() as conn:
            assert conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0005"
    migrate.upgrade(database_url)
    with engine.connect() as conn:
        assert conn.execute(text("SELECT bool_and(indisvalid) FROM pg_index")).scalar_one()


def test_an_index_is_built_beside_the_work(database_url: str) -> None:
    """A drain that stands open keeps the migrator waiting, and nobody else."""
    engine = one_shot_engine(database_url, role="test")
    command.downgrade(migrate.alembic_config(database_url), "0002")
    written = text("INSERT INTO audit_ledger (rows, alerts) VALUES (1, 0)")
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def waits() -> bool:
        with engine.connect() as look:
            return bool(look.execute(waiting).scalar_one())

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as busy:
            busy.execute(written)
            done = pool.submit(migrate.upgrade, database_url)
            wait_until(waits, what="the migrator to wait")
            with engine.begin() as other:
                other.execute(text("SET LOCAL lock_timeout = '1s'"))
                other.execute(written)
        done.result(timeout=60)


def test_an_unreachable_server_is_an_outage() -> None:
    """upgrade answers with MUTT's own error, which names no password."""
    with pytest.raises(StoreDown) as caught:
        migrate.upgrade("postgresql://mutt:hidden@127.0.0.1:1/mutt")
    assert "hidden" not in str(caught.value)


def _catalog(conn: Connection) -> set[tuple[str, ...]]:
    """Every column, constraint and index of our tables, as PostgreSQL itself words it."""
    query = """
        SELECT 'column', table_name, column_name, data_type, is_nullable,
               coalesce(column_default, identity_generation, '')
        FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL
        SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
    """
    found = {tuple(row) for row in conn.execute(text(query))}
    return {row for row in found if is_ours(row[1], "table") and row[1] != "alembic_version"}
