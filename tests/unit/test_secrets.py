"""Secrets in files, and what an address may not ask for."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from mutt import secretfile
from mutt.errors import SettingsError
from mutt.moog.client import MoogClient
from mutt.settings import Settings
from mutt.streams.connect import Tls, broker, login, login_of
from mutt.tls import check_pair, client_context
from tests.private_ca import Authority


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("old\n")
    return tmp_path / "secret"


@pytest.fixture
def key(file: Path) -> Callable[[], str]:
    """What the process takes for Moog's key, looked at now."""
    settings = Settings.from_env({"MOOG_API_KEY_FILE": str(file)})
    return lambda: settings.current("moog_api_key", at_once=True)


def test_a_secret_whose_file_changed_is_the_new_one(file: Path, key: Callable[[], str]) -> None:
    assert key() == "old"
    file.write_text("new\n")
    assert key() == "new"


def test_a_link_that_points_elsewhere_is_a_new_secret(tmp_path: Path) -> None:
    """As Kubernetes and Vault agents change files: the directory behind a link is another one."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(name)
    (tmp_path / "data").symlink_to("one")
    settings = Settings.from_env({"MOOG_API_KEY_FILE": str(tmp_path / "data" / "key")})
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    assert settings.current("moog_api_key", at_once=True) == "two"


def test_it_is_looked_at_once_a_second(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(secretfile.time, "monotonic", lambda: now[0])
    settings = Settings.from_env({"MOOG_API_KEY_FILE": str(file)})
    file.write_text("new")
    now[0] += 0.9
    assert settings.current("moog_api_key") == "old"
    now[0] += 0.1
    assert settings.current("moog_api_key") == "new"


@pytest.mark.parametrize("becomes", ["gone", "empty", "no text"])
def test_a_file_that_says_nothing_changes_nothing_and_is_told_of_once(
    file: Path, key: Callable[[], str], caplog: pytest.LogCaptureFixture, becomes: str
) -> None:
    if becomes == "gone":
        file.unlink()
    else:
        file.write_bytes({"empty": b" \n", "no text": b"\xff\xfe"}[becomes])
    with caplog.at_level(logging.INFO):
        assert [key() for _ in range(3)] == ["old"] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    file.write_text("new")
    assert key() == "new"


def test_an_address_that_can_not_be_changes_nothing_and_no_log_holds_it(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("redis://:first-password@h/0")
    settings = Settings.from_env({"REDIS_URL_FILE": str(file)})
    with caplog.at_level(logging.DEBUG):
        file.write_text("http://:second-password@h/0")
        assert settings.current("redis_url", at_once=True) == "redis://:first-password@h/0"
        file.write_text("redis://:third-password@h/0")
        assert settings.current("redis_url", at_once=True) == "redis://:third-password@h/0"
        assert settings.current("broker_url") == "redis://:third-password@h/0", "they are the same one"
    assert len(caplog.records) == 2
    assert "password" not in caplog.text
    assert "password" not in repr(settings)


def test_the_frozen_value_stays(file: Path, key: Callable[[], str]) -> None:
    settings = Settings.from_env({"MOOG_API_KEY_FILE": str(file)})
    file.write_text("new")
    assert settings.current("moog_api_key", at_once=True) == "new"
    assert settings.moog_api_key == "old"


def test_what_comes_from_no_file_is_as_it_was() -> None:
    settings = Settings.from_env({"MOOG_API_KEY": "plain"}, redis_url="redis://h")
    assert settings.current("moog_api_key", at_once=True) == "plain"
    assert settings.current("redis_url", at_once=True) == "redis://h"
    assert settings.current("moog_turn") == 1


def test_a_login_is_asked_for_at_each_connection(file: Path) -> None:
    file.write_text("redis://one:pass%2Fword@h/0")
    asked = login(Settings.from_env({"REDIS_URL_FILE": str(file)}), "redis_url")
    assert asked is not None
    assert asked.get_credentials() == ("one", "pass/word")
    file.write_text("redis://:other@h/0")
    assert asked.get_credentials() == ("other",)


def test_a_key_that_no_header_can_carry_leaves_the_old_one(file: Path) -> None:
    url = {"MOOG_URL": "https://moog.invalid/x", "MOOG_API_KEY_FILE": str(file)}
    client = MoogClient.from_settings(Settings.from_env(url))
    before = dict(client._way(at_once=True).headers)
    file.write_text("two\nlines")
    assert dict(client._way(at_once=True).headers) == before
    file.write_text("new")
    assert "new" in str(dict(client._way(at_once=True).headers))


@pytest.mark.parametrize(
    "asked",
    ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_check_hostname=false", "a=b&ssl_ca_certs=/x"],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "BROKER_URL"])
def test_an_address_has_no_say_in_how_certificates_are_checked(name: str, asked: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({name: f"rediss://:pass-word@h:6379/0?{asked}"})
    assert refused.value.name == name
    assert "pass-word" not in str(refused.value)
    assert "REDIS_CA" in refused.value.expected


@pytest.mark.parametrize("name", ["REDIS_URL", "BROKER_URL", "DATABASE_URL"])
@pytest.mark.parametrize("password", ["pass/word", "pass?word", "pass#word", "pass[word"])
def test_a_password_that_cuts_its_address_in_two_is_not_repeated(name: str, password: str) -> None:
    """Else a piece of it would be taken for a port, and shown by whoever can't read that."""
    scheme = "postgresql" if name == "DATABASE_URL" else "redis"
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({name: f"{scheme}://mutt:{password}@h:6379/0"})
    assert refused.value.name == name
    assert "pass" not in refused.value.value
    assert "word" not in refused.value.value
    assert "%2F" in refused.value.expected


@pytest.mark.parametrize(
    "url",
    ["redis://[::1]:6379/0", "unix:///run/redis.sock", "sentinel://:p%2Fw@h:26379,[::2]:26379/0?master=mutt"],
)
def test_an_address_that_is_whole_is_taken(url: str) -> None:
    assert Settings.from_env({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("name", ["REDIS_CA", "DATABASE_CA", "MOOG_CA", "TLS_CERT"])
def test_a_file_has_an_absolute_path(name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({name: "ca.pem"})
    assert refused.value.name == name


def test_what_is_spoken_is_checked_and_no_older_than_tls_1_2() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_certificate_and_its_key_go_together(tmp_path: Path) -> None:
    ca = Authority(tmp_path, "ca")
    one, two = ca.server("one", "localhost"), ca.server("two", "localhost")
    cert, key = str(one.cert), str(one.key)
    assert check_pair("TLS_CERT", cert, "TLS_KEY", key) == (cert, key)
    assert check_pair("TLS_CERT", "", "TLS_KEY", "") == ("", "")
    for pair, name in (
        ((cert, ""), "TLS_KEY"),
        (("", key), "TLS_CERT"),
        ((cert, str(two.key)), "TLS_KEY"),
        ((str(tmp_path / "none"), key), "TLS_CERT"),
    ):
        with pytest.raises(SettingsError) as refused:
            check_pair("TLS_CERT", pair[0], "TLS_KEY", pair[1])
        assert refused.value.name == name


def test_sentinels_over_tls_are_the_same_for_kombu(tmp_path: Path) -> None:
    ca = str(Authority(tmp_path, "ca").pem)
    url = "sentinels://u:p%40w@one,two:26380/3?master=mutt"
    told = broker(Settings.from_env({"REDIS_URL": url, "REDIS_CA": ca}))
    assert told.url == "sentinel://u:p%40w@one:26379/3;sentinel://u:p%40w@two:26380/3"
    assert told.ssl == Tls(ca).options
    assert told.options["master_name"] == "mutt"
    assert told.options["sentinel_kwargs"]["ssl_ca_certs"] == ca
    assert login_of(url) == ("u", "p@w")
