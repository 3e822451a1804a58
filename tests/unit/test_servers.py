"""The servers of the ingest queue: what their addresses are called, and where a key belongs."""

from __future__ import annotations

import pytest

from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.streams.servers import Rests, name_of, place_of, servers, shares

HOME = "redis://:secret@home:6379/0"


def listed(urls: str) -> list[tuple[str, bool]]:
    settings = Settings.from_env({"REDIS_URL": HOME, "STREAM_URLS": urls})
    return [(one.name, one.drains) for one in servers(settings)]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://user:p%40ss@Redis.example/0", "redis.example:6379"),
        ("rediss://redis.example:6380/2", "redis.example:6380/2"),
        ("redis://redis.example/0?db=2", "redis.example:6379/2"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock/1"),
        ("sentinel://:p@s1:26379,s2:26379/0?master=a", "a@s1:26379,s2:26379"),
    ],
    ids=["login", "database", "database told twice", "socket", "sentinel"],
)
def test_a_server_is_called_by_its_place_without_a_login(url: str, name: str) -> None:
    assert name_of(url) == name


def test_home_comes_first_and_takes_events_only_where_it_is_listed() -> None:
    assert listed("") == [("home:6379", False)]
    assert listed("redis://b, redis://c") == [("home:6379", True), ("b:6379", False), ("c:6379", False)]
    assert listed(f"redis://b {HOME}") == [("home:6379", False), ("b:6379", False)]
    assert listed(f"{HOME}?drain=on,redis://b") == [("home:6379", True), ("b:6379", False)]


def test_a_server_that_drains_says_so_behind_its_address() -> None:
    found = listed("redis://b,sentinel://s1:1,s2:2/0?master=a&drain=on")
    assert found == [("home:6379", True), ("b:6379", False), ("a@s1:1,s2:2", True)]


@pytest.mark.parametrize(
    "urls",
    ["redis://b?drain=on", "redis://b?drain=yes redis://c", "redis://b http://c", "redis://b rediss://c?ssl_cert_reqs=none"],
    ids=["all drain", "no word", "no redis", "unchecked"],
)  # fmt: skip
def test_a_list_that_can_not_be_is_refused(urls: str) -> None:
    with pytest.raises(SettingsError, match="STREAM_URLS"):
        listed(urls)


def test_a_server_that_is_named_twice_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError, match="b:6379, a second time") as refused:
        listed("redis://:hidden@b redis://:other@b:6379/0")
    assert "hidden" not in str(refused.value)


def test_a_key_moves_only_to_a_server_that_came() -> None:
    keys = [f"key-{n}" for n in range(3000)]
    two, three = ("b", "a"), ("a", "b", "c")
    moved = [key for key in keys if place_of(key, two) != place_of(key, three)]
    assert {place_of(key, three) for key in moved} == {"c"}
    assert 800 < len(moved) < 1200
    assert 1350 < sum(place_of(key, two) == "a" for key in keys) < 1650


def test_shares_of_a_limit_are_those_of_the_servers_that_take_events() -> None:
    settings = Settings.from_env({"REDIS_URL": HOME, "STREAM_URLS": "redis://b redis://c redis://d?drain=on"})
    assert shares(1001, servers(settings)) == 501


def test_a_server_that_keeps_people_waiting_is_left_alone_for_longer() -> None:
    now = 0.0
    rests = Rests(lambda: now)
    assert rests.met("b", OSError("gone"), took=2.0), "that is news"
    assert not rests.met("b", OSError("gone"), took=2.0)
    now = 19.0
    assert rests.due("b")
    now = 21.0
    assert not rests.due("b")
    assert rests.error("b")
    assert rests.over("b")
    assert not rests.over("b")
    rests.met("b", OSError("hangs"), took=500.0)
    now += Rests.MOST + 1
    assert not rests.due("b")
