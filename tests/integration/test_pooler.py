"""PgBouncer in transaction mode between MUTT and PostgreSQL: a session is lent for a transaction, and keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg2
import pytest
from sqlalchemy import Engine, event, text

from mutt.errors import SettingsError, StoreDown
from mutt.settings import Settings
from mutt.store.engine import guard_engine, hasty_engine, make_engine, one_shot_engine, transaction
from mutt.store.migrate import upgrade
from mutt.store.patience import allow, has_session
from tests.servers import Live, live_pgbouncer, scratch


@pytest.fixture(scope="module")
def bouncer(postgres_server: Live) -> Iterator[Live]:
    """One session for all who come, so that whatever somebody leaves in it is found by the next one."""
    with scratch() as directory, live_pgbouncer(directory, postgres_server, size=1) as server:
        yield server


@pytest.fixture
def pooled_url(bouncer: Live, database_url: str) -> str:
    """This test's database by way of the pooler."""
    return f"{bouncer.url.rpartition('/')[0]}/{database_url.rpartition('/')[2]}"


def settings(url: str) -> Settings:
    return Settings.from_env({}, database_url=url)


@pytest.fixture
def pooled(pooled_url: str) -> Iterator[Engine]:
    engine = make_engine(settings(pooled_url), role="alerts")
    yield engine
    engine.dispose()


def shown(engine: Engine, name: str) -> str:
    with transaction(engine) as conn:
        return str(conn.execute(text(f"SHOW {name}")).scalar_one())


def test_each_transaction_brings_its_limits(pooled: Engine, pooled_url: str) -> None:
    """Those of its kind of pool, and of the address, though one session serves them all in turn."""
    hasty = hasty_engine(settings(pooled_url), role="ingest", size=1, timeout=0.5)
    guard = guard_engine(settings(pooled_url), role="housekeeping")
    own = make_engine(
        settings(f"{pooled_url}?options=-c%20statement_timeout%3D7s%20-c%20search_path%3Dother%2Cpublic"),
        role="own",
    )
    for _ in range(2):
        assert shown(pooled, "statement_timeout") == "20s"
        assert shown(hasty, "statement_timeout") == "500ms"
        assert shown(guard, "statement_timeout") == "5s"
        assert shown(own, "statement_timeout") == "7s"
        assert shown(own, "search_path") == "other,public"
    assert shown(pooled, "timezone") == "UTC"
    assert shown(pooled, "idle_in_transaction_session_timeout") == "1min"
    assert shown(pooled, "application_name") == "mutt-alerts"
    for engine in (hasty, guard, own):
        engine.dispose()


def test_a_limit_ends_a_statement(pooled_url: str) -> None:
    """The first of a transaction as well as those after it; the next transaction is served at once."""
    hasty = hasty_engine(settings(pooled_url), role="ingest", size=1, timeout=0.5)
    for ahead in ("", "SELECT 1"):
        began = time.monotonic()
        with pytest.raises(StoreDown) as caught, transaction(hasty) as conn:
            if ahead:
                conn.execute(text(ahead))
            conn.execute(text("SELECT pg_sleep(30)"))
        assert caught.value.sqlstate == "57014"
        assert time.monotonic() - began < 3
    with transaction(hasty) as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1
    hasty.dispose()


def test_nothing_is_left_in_the_session(pooled: Engine, pooled_url: str) -> None:
    """Who comes next and sets nothing has the server's own settings."""
    with transaction(pooled) as conn:
        allow(conn, 3)
        conn.execute(text("SET LOCAL timezone = 'Asia/Tokyo'"))
    with pytest.raises(StoreDown), transaction(pooled) as conn:
        conn.execute(text("SELECT 1 FROM nowhere"))
    plain = psycopg2.connect(pooled_url)
    with plain, plain.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name LIKE '%statement_timeout'")
        assert cursor.fetchall() == [("statement_timeout", "0")]
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (0,)
    plain.close()


def test_limits_cost_no_statement_more(pooled: Engine, engine: Engine) -> None:
    """What goes over the wire: as many messages as without a pooler; with parameters, and COPY, as ever."""

    def work(engine: Engine) -> list[str]:
        sent: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
        with transaction(engine) as conn:
            [row] = conn.execute(text("SELECT :percent, :n"), {"percent": "100 %s", "n": 7})
            assert tuple(row) == ("100 %s", 7)
            before = list(sent)
            cursor = conn.connection.cursor()
            cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            assert "set_config" not in cursor.fetchone()[0], "only the first statement brings them"
            cursor.close()
        return before

    assert work(pooled) == work(engine)


def test_migrations_ask_for_a_session_of_their_own(pooled_url: str, database_url: str) -> None:
    """They hold a lock and set limits for longer than a transaction: by a pooler they would leave both to others."""
    with transaction(one_shot_engine(pooled_url, role="test")) as conn:
        assert not has_session(conn)
    with transaction(one_shot_engine(database_url, role="test")) as conn:
        assert has_session(conn)
    with pytest.raises(SettingsError, match=r"DATABASE_OWNER_URL.*a pooler"):
        upgrade(pooled_url)
    upgrade(database_url)
