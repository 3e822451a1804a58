"""Real servers with certificates of a private CA: the right ones are spoken to, the wrong ones are told nothing."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kombu.exceptions
import pytest
import redis
import sqlalchemy as sa

from mutt.budget.permit import Permit
from mutt.celery import BrokerConnection
from mutt.errors import SettingsError, StoreDown
from mutt.moog.client import MoogClient
from mutt.moog.outcome import Kind, Reason
from mutt.settings import Settings
from mutt.store.engine import guard_engine, hasty_engine, make_engine, one_shot_engine, transaction
from mutt.streams.connect import broker, login, redis_of
from tests.private_ca import WRONGS, Papers, Registry
from tests.secure import (
    PASSWORD,
    Eavesdropper,
    SecureMoog,
    SecurePostgres,
    SecureRedis,
    secure_postgres,
    secure_redis,
    secure_sentinel,
)
from tests.servers import scratch

#: What OpenSSL calls each: X509_V_ERR_*.
CODES = {"of another CA": {20}, "of another host": {62}, "expired": {10}}


@pytest.fixture(scope="module")
def papers() -> Iterator[Registry]:
    with scratch() as directory:
        yield Registry(directory)


@pytest.fixture(scope="module")
def secured_redis(papers: Registry) -> Iterator[SecureRedis]:
    with scratch() as directory, secure_redis(directory, papers) as server:
        yield server


@pytest.fixture(scope="module")
def secured_postgres(papers: Registry) -> Iterator[SecurePostgres]:
    with scratch() as directory, secure_postgres(directory, papers) as server:
        yield server


@pytest.fixture
def secured_moog(papers: Registry) -> Iterator[SecureMoog]:
    with SecureMoog(papers.right, PASSWORD) as moog:
        yield moog


def ask_redis(settings: Settings) -> bool:
    with redis_of(settings) as client:
        return bool(client.ping())


def ask_broker(settings: Settings) -> bool:
    told = broker(settings)
    options = {
        **told.options,
        "socket_connect_timeout": 2,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
    }
    with BrokerConnection(
        told.url, ssl=told.ssl, transport_options=options, credential_provider=login(settings, "broker_url")
    ) as connection:
        return bool(connection.default_channel.client.ping())


def over_redis(url: str, papers: Registry, **more: str) -> Settings:
    return Settings.from_env({"REDIS_URL": url, "REDIS_CA": str(papers.ca.pem), **more})


ENGINES = {
    "pool": lambda settings: make_engine(settings, role="test"),
    "replica": lambda settings: make_engine(settings, role="test", which="database_read_url"),
    "hasty": lambda settings: hasty_engine(settings, role="test", size=1, timeout=2),
    "guard": lambda settings: guard_engine(settings, role="test"),
    "once": lambda settings: one_shot_engine(settings.database_url, role="test", ca=settings.database_ca),
}


def ask_postgres(settings: Settings, engine: str = "pool") -> bool:
    made = ENGINES[engine](settings)
    try:
        with transaction(made) as conn:
            question = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return bool(conn.execute(question).scalar_one())
    finally:
        made.dispose()


def over_postgres(url: str, papers: Registry, **more: str) -> Settings:
    return Settings.from_env({"DATABASE_URL": url, "DATABASE_CA": str(papers.ca.pem), **more})


def moog_client(url: str, papers: Registry) -> MoogClient:
    env = {"MOOG_URL": url, "MOOG_CA": str(papers.ca.pem), "MOOG_API_KEY": PASSWORD, "MOOG_TIMEOUT": "3s"}
    return MoogClient.from_settings(Settings.from_env(env))


def said_by(error: BaseException | None) -> Iterator[int]:
    """Why OpenSSL did not trust a certificate, from an error's causes."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            yield error.verify_code
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def showing(server: SecureRedis | SecurePostgres, wrong: Papers, right: Papers) -> Iterator[None]:
    server.show(wrong)
    try:
        yield
    finally:
        server.show(right)


# ---- Redis and the broker

REDIS = pytest.mark.parametrize("ask", [ask_redis, ask_broker], ids=["redis", "broker"])


@REDIS
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redis_that_the_ca_vouches_for_is_spoken_to(
    secured_redis: SecureRedis, papers: Registry, ask: Callable[[Settings], bool], host: str
) -> None:
    assert ask(over_redis(secured_redis.url.replace("localhost", host), papers))


@REDIS
@pytest.mark.parametrize("wrong", WRONGS)
def test_a_redis_whose_certificate_is_wrong_is_refused_with_the_reason(
    secured_redis: SecureRedis, papers: Registry, ask: Callable[[Settings], bool], wrong: str
) -> None:
    with showing(secured_redis, papers.wrong[wrong], papers.right):
        with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError)) as refused:
            ask(over_redis(secured_redis.url, papers))
    assert set(said_by(refused.value)) == CODES[wrong]
    assert "certificate verify failed" in str(refused.value)


@REDIS
def test_the_systems_cas_do_not_vouch_for_a_private_redis(
    secured_redis: SecureRedis, ask: Callable[[Settings], bool]
) -> None:
    with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError)):
        ask(Settings.from_env({"REDIS_URL": secured_redis.url}))


def test_where_a_ca_is_named_the_systems_cas_vouch_for_nothing(
    secured_redis: SecureRedis, papers: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(papers.ca.pem))  # the system's, as OpenSSL has it
    assert ask_redis(Settings.from_env({"REDIS_URL": secured_redis.url}))
    for ask in (ask_redis, ask_broker):
        with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError)):
            ask(Settings.from_env({"REDIS_URL": secured_redis.url, "REDIS_CA": str(papers.other.pem)}))


@REDIS
def test_a_redis_without_tls_hears_no_password(papers: Registry, ask: Callable[[Settings], bool]) -> None:
    with Eavesdropper() as server:
        with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError)):
            ask(over_redis(f"rediss://:{PASSWORD}@localhost:{server.port}/0", papers))
        assert server.heard.startswith(b"\x16\x03"), "a ClientHello"
        assert PASSWORD.encode() not in server.heard
        assert b"AUTH" not in server.heard


@REDIS
def test_a_redis_that_asks_for_a_certificate_gets_ours(
    secured_redis: SecureRedis, papers: Registry, ask: Callable[[Settings], bool]
) -> None:
    ours = {"REDIS_CERT": str(papers.client.cert), "REDIS_KEY": str(papers.client.key)}
    secured_redis.admin("CONFIG", "SET", "tls-auth-clients", "yes")
    try:
        with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError)):
            ask(over_redis(secured_redis.url, papers))
        assert ask(over_redis(secured_redis.url, papers, **ours))
    finally:
        secured_redis.admin("CONFIG", "SET", "tls-auth-clients", "no")


def test_sentinel_and_the_master_that_it_names_are_spoken_to_over_tls(
    secured_redis: SecureRedis, papers: Registry, tmp_path: Path
) -> None:
    with secure_sentinel(tmp_path, secured_redis, papers) as url:
        for ask in (ask_redis, ask_broker):
            assert ask(over_redis(url, papers))
        with showing(secured_redis, papers.wrong["of another host"], papers.right):
            for ask in (ask_redis, ask_broker):
                with pytest.raises((redis.ConnectionError, kombu.exceptions.OperationalError)) as refused:
                    ask(over_redis(url, papers))
                assert set(said_by(refused.value)) == CODES["of another host"]
        with pytest.raises(redis.ConnectionError):
            ask_redis(Settings.from_env({"REDIS_URL": url, "REDIS_CA": str(papers.other.pem)}))


# ---- PostgreSQL


@pytest.mark.parametrize("engine", ENGINES)
def test_a_postgresql_that_the_ca_vouches_for_is_spoken_to_over_tls_by_every_engine(
    secured_postgres: SecurePostgres, papers: Registry, engine: str
) -> None:
    assert ask_postgres(over_postgres(secured_postgres.url, papers), engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", WRONGS)
def test_a_postgresql_whose_certificate_is_wrong_is_refused_by_every_engine(
    secured_postgres: SecurePostgres, papers: Registry, wrong: str, engine: str
) -> None:
    with showing(secured_postgres, papers.wrong[wrong], papers.right):
        # Whatever the address asks for: the CA that is set is checked.
        with pytest.raises(StoreDown, match="certificate"):
            ask_postgres(over_postgres(f"{secured_postgres.url}?sslmode=prefer", papers), engine)


@pytest.mark.parametrize(("ca", "checked"), [("ca", True), ("other-ca", False)])
def test_an_address_may_say_itself_how_postgresql_is_checked(
    secured_postgres: SecurePostgres, papers: Registry, ca: str, checked: bool
) -> None:
    file = {"ca": papers.ca, "other-ca": papers.other}[ca].pem
    url = f"{secured_postgres.url}?sslmode=verify-full&sslrootcert={file}"
    settings = Settings.from_env({"DATABASE_URL": url})
    if checked:
        assert ask_postgres(settings)
    else:
        with pytest.raises(StoreDown, match="certificate"):
            ask_postgres(settings)


def test_a_postgresql_without_tls_hears_no_password_and_no_name(papers: Registry) -> None:
    with Eavesdropper(says=b"N") as server:
        with pytest.raises(StoreDown):
            ask_postgres(over_postgres(f"postgresql://mutt:{PASSWORD}@localhost:{server.port}/mutt", papers))
        assert len(server.heard) % 8 == 0, "nothing but the question for TLS"
        assert b"mutt" not in server.heard


# ---- Moog


def test_a_moog_that_the_ca_vouches_for_gets_alerts(secured_moog: SecureMoog, papers: Registry) -> None:
    with contextlib.closing(moog_client(secured_moog.enterprise_url, papers)) as client:
        answer = client.send([], Permit("token", 1, time.monotonic() + 5))
    assert answer.kind is Kind.DELIVERED


@pytest.mark.parametrize("wrong", WRONGS)
def test_a_moog_whose_certificate_is_wrong_is_refused_and_hears_no_key(
    secured_moog: SecureMoog, papers: Registry, wrong: str
) -> None:
    secured_moog.show(papers.wrong[wrong])
    with contextlib.closing(moog_client(secured_moog.enterprise_url, papers)) as client:
        answer = client.send([], Permit("token", 1, time.monotonic() + 5))
    assert (answer.kind, answer.reason, answer.started_at) == (Kind.CONFIG, Reason.CERTIFICATE, None)
    assert not secured_moog.starts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_moog_that_speaks_tls_1_1_only_is_not_spoken_to(secured_moog: SecureMoog, papers: Registry) -> None:
    secured_moog.age(ssl.TLSVersion.TLSv1_1)
    with contextlib.closing(moog_client(secured_moog.enterprise_url, papers)) as client:
        assert client.warm().kind is Kind.RETRY


def test_nothing_in_the_environment_turns_the_check_of_moog_off(
    secured_moog: SecureMoog, papers: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(papers.other.pem))
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    with contextlib.closing(moog_client(secured_moog.enterprise_url, papers)) as client:
        assert client.warm().kind is Kind.UNSENT, "MOOG_CA is the CA, whatever else is set"
    secured_moog.show(papers.wrong["of another host"])
    with contextlib.closing(moog_client(secured_moog.enterprise_url, papers)) as client:
        assert client.warm().reason is Reason.CERTIFICATE


def test_a_moog_without_tls_hears_no_key(papers: Registry) -> None:
    with Eavesdropper() as server:
        with contextlib.closing(moog_client(f"https://localhost:{server.port}/events/x", papers)) as client:
            answer = client.send([], Permit("token", 1, time.monotonic() + 5))
        assert answer.kind is Kind.RETRY
        assert PASSWORD.encode() not in server.heard


# ---- settings


@pytest.mark.parametrize(
    "setting", ["REDIS_CA", "REDIS_CERT", "DATABASE_CA", "MOOG_CA"], ids=lambda name: name
)
@pytest.mark.parametrize("holds", ["nothing", "no certificate"])
def test_a_file_that_is_no_certificate_is_named_at_the_start(
    papers: Registry, tmp_path: Path, setting: str, holds: str
) -> None:
    file = tmp_path / "file.pem"
    if holds == "no certificate":
        file.write_text("not PEM")
    settings = Settings.from_env(
        {
            "REDIS_URL": "rediss://localhost",
            "DATABASE_URL": "postgresql://localhost/mutt",
            "MOOG_URL": "https://localhost/x",
            "REDIS_KEY": str(papers.client.key) if setting == "REDIS_CERT" else "",
            setting: str(file),
        }
    )
    start = {
        "REDIS": lambda: (redis_of(settings), broker(settings)),
        "DATABASE": lambda: make_engine(settings, role="test"),
        "MOOG": lambda: MoogClient.from_settings(settings),
    }[setting.partition("_")[0]]
    with pytest.raises(SettingsError) as refused:
        start()
    assert refused.value.name in (setting, "REDIS_KEY")
