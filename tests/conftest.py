"""What every test may ask for: real servers, a fresh database, a clean environment."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import argon2
import hypothesis
import psycopg2
import pytest
import redis

from mutt.settings import Settings
from tests.servers import Live, live_pgbouncer, live_postgres, live_redis, memory, scratch

if TYPE_CHECKING:
    from sqlalchemy import Engine

# No deadline an example on a busy machine; ``quick`` (``make check``) tries fewer examples, ``fuzz`` (``make fuzz``)
# many more.
hypothesis.settings.register_profile("house", hypothesis.settings.default, deadline=None)
hypothesis.settings.register_profile("quick", hypothesis.settings.default, max_examples=20, deadline=None)
hypothesis.settings.register_profile(
    "fuzz", hypothesis.settings.default, max_examples=20_000, deadline=None, print_blob=True
)
hypothesis.settings.load_profile("house")

TEMPLATE = "mutt_template"

#: Read when the suite starts: do all databases of the tests stand behind PgBouncer?
POOLED = bool(os.environ.get("MUTT_TEST_POOLER"))

_numbers = itertools.count(1)

_SETTINGS = frozenset(field.metadata["env"] or field.name.upper() for field in dataclasses.fields(Settings))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting leaks in from the shell, and nothing reaches the real MUTT_HOME."""
    for name in list(os.environ):
        if name.startswith(("MUTT_", "CELERY_", "PG")) or name.removesuffix("_FILE") in _SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("MUTT_HOME", str(tmp_path_factory.getbasetemp() / f"home-{next(_numbers)}"))


@pytest.fixture(autouse=True)
def cheap_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login takes no tenth of a second in tests of something else. What is sure of the real cost is a unit test."""
    if "unit" not in request.path.parts:
        hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        monkeypatch.setattr("mutt.passwords._hasher", hasher)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Where the session's servers keep their data and logs."""
    with scratch(memory()) as directory:
        yield directory


@pytest.fixture
def own_directory() -> Iterator[Path]:
    """One test's directory that PostgreSQL can reach, also as root."""
    with scratch() as directory:
        yield directory


@pytest.fixture(scope="session")
def redis_server(server_directory: Path) -> Iterator[Live]:
    """The session's Redis. A test that kills it takes ``own_redis`` instead."""
    with live_redis(server_directory) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Live) -> str:
    """The address of an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture(scope="session")
def more_redis(server_directory: Path) -> Iterator[list[Live]]:
    """Two servers beside the session's."""
    with live_redis(server_directory / "b") as one, live_redis(server_directory / "c") as other:
        yield [one, other]


@pytest.fixture
def redis_urls(redis_url: str, more_redis: list[Live]) -> list[str]:
    """The addresses of three empty servers; the first is ``redis_url``."""
    for server in more_redis:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
    return [redis_url, *(server.url for server in more_redis)]


@pytest.fixture
def own_redis(own_directory: Path) -> Iterator[Live]:
    """A Redis of this test's own, to kill and restart."""
    with live_redis(own_directory) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[Live]:
    """The session's PostgreSQL; its commits don't wait for the disk."""
    with live_postgres(server_directory) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: Live) -> str:
    """The address of the session's PostgreSQL, in a database that nobody migrates."""
    return postgres_server.url


@pytest.fixture
def own_postgres(own_directory: Path) -> Iterator[Live]:
    """A PostgreSQL of this test's own, durable, to kill and restart. Its database is empty."""
    with live_postgres(own_directory, durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def database_template(postgres_url: str) -> str:
    """The name of a migrated database to clone."""
    _execute(postgres_url, f"CREATE DATABASE {TEMPLATE}")
    # Late, so that a test without a database needs nothing of the store.
    importlib.import_module("mutt.store.migrate").upgrade(_named(postgres_url, TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def pooler(server_directory: Path, postgres_server: Live) -> Iterator[Live | None]:
    """PgBouncer in front of the session's PostgreSQL, where all tests are to go through it (MUTT_TEST_POOLER=1)."""
    if not POOLED:
        yield None
        return
    with live_pgbouncer(server_directory, postgres_server) as server:
        yield server


@pytest.fixture
def database_url(postgres_url: str, database_template: str, pooler: Live | None) -> Iterator[str]:
    """The address of this test's own migrated database."""
    for url in _database(postgres_url, f"TEMPLATE {database_template} STRATEGY file_copy"):
        yield _named(pooler.url, url.rpartition("/")[2]) if pooler else url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """SQLAlchemy's way into this test's own migrated database."""
    settings = Settings.from_env({}, database_url=database_url)
    made = importlib.import_module("mutt.store.engine").make_engine(settings, role="test")
    yield made
    made.dispose()


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """The address of this test's own database without a schema."""
    yield from _database(postgres_url, "")


def _database(postgres_url: str, options: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _execute(postgres_url, f"CREATE DATABASE {name} {options}")
    try:
        yield _named(postgres_url, name)
    finally:
        _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def _named(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
