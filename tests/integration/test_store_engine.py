"""PostgreSQL's errors, each provoked for real, and what MUTT calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from mutt.errors import AlreadyStored, MuttError, PoisonRow, StoreDown
from mutt.settings import Settings
from mutt.store.engine import make_engine, transaction, translated
from tests.servers import Live

ROW = "INSERT INTO event_audit_log VALUES ({}, {}, now(), 'h', {}, 's', 'm', NULL, 1, 'Ignore', NULL, 'b', 0, 'c', 'r')"


def run(engine: Engine, *statements: str) -> None:
    with transaction(engine) as conn:
        for statement in statements:
            conn.execute(text(statement))


AN_ID = "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'"
GOOD = ROW.format("gen_random_uuid()", "now()", 3)

# What is done, and what it is: poison with its SQLSTATE, a repeat, or an outage.
FAULTS = [
    # about the row
    ([ROW.format("'no uuid'", "now()", 3)], PoisonRow, "22P02"),
    ([ROW.format("gen_random_uuid()", "now()", 40_000)], PoisonRow, "22003"),
    ([ROW.format("gen_random_uuid()", "'300000-01-01'", 3)], PoisonRow, "22008"),
    ([ROW.format("NULL", "now()", 3)], PoisonRow, "23502"),
    (
        ["INSERT INTO ruleset_version VALUES (2, 0)"],
        PoisonRow,
        "23514",
    ),  # a check constraint, which has a name
    (
        [
            # too long for its index
            "INSERT INTO recent_clears SELECT gen_random_uuid(), now(), 'h',"
            " string_agg(gen_random_uuid()::text, ''), 'c', '' FROM generate_series(1, 500)"
        ],
        PoisonRow,
        "54000",
    ),
    # about another row
    ([ROW.format(AN_ID, "'2026-01-01'", 3)] * 2, AlreadyStored, None),
    # about the table, the server or the moment
    (
        ["DROP TABLE event_audit_log_default", ROW.format("gen_random_uuid()", "'1999-01-01'", 3)],
        StoreDown,
        None,
    ),
    (["ALTER TABLE event_audit_log RENAME TO gone", GOOD], StoreDown, None),
    (["SET TRANSACTION READ ONLY", GOOD], StoreDown, None),
    (["SET LOCAL statement_timeout = '10ms'", "SELECT pg_sleep(5)"], StoreDown, None),
    (["SELECT pg_terminate_backend(pg_backend_pid())"], StoreDown, None),
    (["DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"], StoreDown, None),
    (["DO $$ BEGIN RAISE SQLSTATE '53100'; END $$"], StoreDown, None),  # disk full
    (["DO $$ BEGIN RAISE SQLSTATE '57P01'; END $$"], StoreDown, None),
    (["SELECT 1 FROM nowhere"], StoreDown, None),
    (["SELEC"], StoreDown, None),
]


@pytest.mark.parametrize(("statements", "expected", "sqlstate"), FAULTS)
def test_each_error_has_its_meaning(
    engine: Engine, statements: list[str], expected: type[MuttError], sqlstate: str | None
) -> None:
    """Poison only where the row is surely at fault; the pool is usable at once afterwards."""
    with pytest.raises(MuttError) as caught:
        run(engine, *statements)
    assert type(caught.value) is expected
    if isinstance(caught.value, PoisonRow):
        assert caught.value.sqlstate == sqlstate
    run(engine, GOOD)


@pytest.mark.parametrize("value", ["a\0b", "half \ud800"])
def test_what_the_client_refuses_to_send_is_poison(engine: Engine, value: str) -> None:
    """NUL and lone surrogates never reach the server, and mean the same as its refusal."""
    with pytest.raises(PoisonRow) as caught, transaction(engine) as conn:
        conn.execute(text("SELECT CAST(:value AS text)"), {"value": value})
    assert caught.value.sqlstate == "22021"


def test_an_error_that_is_not_about_sql_passes_through() -> None:
    """A bug is not called an outage."""
    with pytest.raises(ValueError, match="ours"), translated():
        raise ValueError("ours")
    with pytest.raises(KeyError), translated():
        raise KeyError("ours")


def test_nobody_answers(database_url: str) -> None:
    """A closed port is an outage, at once, and its error names no password."""
    away = Settings.from_env({}, database_url="postgresql://mutt:hidden@127.0.0.1:1/mutt")
    with pytest.raises(StoreDown) as caught:
        run(make_engine(away, role="test"), "SELECT 1")
    assert "hidden" not in str(caught.value)


def test_an_exhausted_pool_is_an_outage(database_url: str) -> None:
    """Who finds no connection asks again later."""
    settings = Settings.from_env({}, database_url=database_url, db_pool_min=0, db_pool_max=1)
    small = make_engine(settings, role="test", patience=0.05)
    with transaction(small), pytest.raises(StoreDown):
        run(small, "SELECT 1")
    small.dispose()


def test_a_session_is_as_the_design_asks(database_url: str) -> None:
    """UTC, time limits, a name in pg_stat_activity; the address' own options win."""
    engine = make_engine(Settings.from_env({}, database_url=database_url), role="alerts")
    with transaction(engine) as conn:
        assert _show(conn, "timezone") == "UTC"
        assert _show(conn, "statement_timeout") == "20s"
        assert _show(conn, "idle_in_transaction_session_timeout") == "1min"
        assert _show(conn, "application_name") == "mutt-alerts"
        assert _show(conn, "client_encoding") == "UTF8"
        told = conn.connection.dbapi_connection.info.dsn_parameters
        assert (told["connect_timeout"], told["tcp_user_timeout"], told["keepalives"]) == ("5", "20000", "1")
    engine.dispose()
    own = database_url.replace("postgresql://", "postgres://") + "?options=-c%20statement_timeout%3D7s"
    own += "&ssl_min_protocol_version=TLSv1"
    engine = make_engine(Settings.from_env({}, database_url=own), role="alerts")
    with transaction(engine) as conn:
        assert _show(conn, "statement_timeout") == "7s"
        told = conn.connection.dbapi_connection.info.dsn_parameters
        assert told["ssl_min_protocol_version"] == "TLSv1.2", "an address may ask for more, not for less"
        assert _show(conn, "timezone") == "UTC"
    engine.dispose()


def test_a_restarted_server_is_used_again_at_once(own_postgres: Live) -> None:
    """Connections that died with it are not handed out."""
    engine = make_engine(Settings.from_env({}, database_url=own_postgres.url), role="test")
    run(engine, "SELECT 1")
    own_postgres.kill()
    with pytest.raises(StoreDown):
        run(engine, "SELECT 1")
    own_postgres.start()
    run(engine, "SELECT 1")
    engine.dispose()


def test_alembics_folder_is_no_package() -> None:
    """With an __init__.py it would hide the library of the same name."""
    folder = Path(__file__).parents[2] / "alembic"
    assert folder.is_dir()
    assert not (folder / "__init__.py").exists()


def _show(conn: Connection, name: str) -> str:
    return conn.execute(text(f"SHOW {name}")).scalar_one()
