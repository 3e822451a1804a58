"""Login and sessions: who gets in, how often they may try, and when a session ends."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import requests
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt import passwords
from mutt.errors import Unavailable
from mutt.store import users
from mutt.store.engine import make_engine, transaction
from mutt.store.users import Role
from mutt.web import session as sessions
from mutt.web import throttle
from mutt.web.admin.app import make_admin
from tests import admin_client
from tests.admin_client import log_in, settings_of, token
from tests.doors import served
from tests.people import PASSWORD, browser, enter, person
from tests.proxy import proxied
from tests.servers import Live
from tests.waiting import wait_until

WRONG = "wrong horse battery staple"

#: Within this many seconds a change of a user holds in every process.
SOON = 5


class Clock:
    """Time as the sessions see it."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    return make_admin(settings_of(database_url, redis_url=redis_url), engine)


@pytest.fixture
def second(engine: Engine, database_url: str, redis_url: str) -> Flask:
    """Another process of the same admin."""
    return make_admin(settings_of(database_url, redis_url=redis_url), engine)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(sessions, "time", made)
    return made


def is_in(client: FlaskClient, page: str = "/profile/") -> bool:
    return client.get(page).status_code == 200


def copied(client: FlaskClient, app: Flask) -> FlaskClient:
    """Another browser, with a copy of the first one's cookie."""
    cookie = client.get_cookie("mutt_admin")
    assert cookie is not None
    other = app.test_client()
    other.set_cookie("mutt_admin", cookie.value)
    return other


def test_a_user_logs_in_as_what_they_are(app: Flask, engine: Engine) -> None:
    """Their name and role stand on each page, the login is noted, and names are not told apart by case."""
    person(engine, "ada", Role.OPERATOR)
    client = app.test_client()
    assert enter(client, " Ada ").status_code == 302
    shown = client.get("/").text
    assert ">ada</span>" in shown and ">operator</span>" in shown
    with transaction(engine) as conn:
        ada = users.by_name(conn, "ada")
    assert ada is not None and ada.last_login_at is not None


def test_a_hash_of_old_is_renewed_at_login(app: Flask, engine: Engine) -> None:
    """The same password under the present parameters; no session ends, and the history says nothing."""
    before = person(engine, "ada", Role.VIEWER)
    client = browser(app, "ada")
    with transaction(engine) as conn:
        after = users.by_name(conn, "ada")
    assert after is not None and after.password_hash and after.password_hash != before.password_hash
    assert after.password_hash.startswith("$argon2id$") and not passwords.is_dated(after.password_hash)
    assert after.epoch == before.epoch and is_in(client)
    assert enter(app.test_client(), "ada").status_code == 302


def test_nothing_tells_whether_there_is_such_a_user(
    app: Flask, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong, the answer is the same and one hash of the same cost is worked."""
    person(engine, "ada", Role.VIEWER)
    for name in ("out", "elsewhere"):
        person(engine, name, Role.ADMIN)
    with transaction(engine) as conn:
        users.change(conn, "out", is_active=False, changed_by="test")
        users.make(conn, "oidc", Role.VIEWER, issuer="https://id.example", subject="7", changed_by="test")
    hashes = []

    class Watched(PasswordHasher):
        def verify(self, hash: str, password: str | bytes) -> bool:  # type: ignore[override]
            hashes.append(hash)
            return super().verify(hash, password)  # type: ignore[return-value]

    monkeypatch.setattr(passwords, "_hasher", Watched())
    answers = {}
    for number, name in enumerate(("ada", "nobody", "out", "oidc", "admin", "no name\0", "a" * 3000)):
        answer = enter(app.test_client(), name, WRONG, f"192.0.2.{number}")
        # The name that was typed stands in the form again.
        told = re.sub(r'value="[^"]*"', "", answer.text)
        answers[name] = (answer.status_code, told, answer.headers.get("Retry-After"), len(hashes))
        hashes.clear()
    assert {answer[0] for answer in answers.values()} == {403}
    assert len(set(answers.values())) == 1 and answers["ada"][3] == 1
    # The right password of who is kept out is no other case.
    assert enter(app.test_client(), "out", PASSWORD, "192.0.2.99").status_code == 403
    assert len(hashes) == 1


def test_the_administrator_gets_in_while_both_servers_are_away(engine: Engine) -> None:
    """By the settings alone, and the pages that need neither server are there."""
    away = settings_of("postgresql://mutt@127.0.0.1:1/mutt", redis_url="redis://127.0.0.1:1/0")
    client = make_admin(away).test_client()
    assert log_in(client).status_code == 302
    assert is_in(client) and is_in(client, "/")
    stranger = make_admin(away).test_client()
    assert [enter(stranger, "ada").status_code for _ in range(throttle.PAIR.free + 3)] == [503] * 8
    assert enter(stranger, "admin", WRONG).status_code == 503, (
        "an outage does not tell who the administrator is"
    )


def test_users_stay_logged_in_while_postgresql_is_away(
    database_url: str, redis_url: str, engine: Engine
) -> None:
    """The process goes on with the last good copy: pages that only need Redis work, and a login does too."""
    person(engine, "ada", Role.OPERATOR)
    with proxied(database_url) as proxy:
        settings = settings_of(proxy.url, redis_url=redis_url)
        app = make_admin(settings, make_engine(settings, role="test"))
        client = browser(app, "ada")
        proxy.refuse()
        app.extensions["sessions"].people.forget()
        assert is_in(client, "/letters/") and is_in(client)
        assert enter(app.test_client(), "ada").status_code == 302
        assert enter(app.test_client(), "ada", WRONG).status_code == 403
        proxy.listen()


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait of who fails is no second, in which a busy machine may not come to look at it."""
    monkeypatch.setattr(throttle, "PAIR", dataclasses.replace(throttle.PAIR, first=30))


def let_waits_end(redis_url: str) -> None:
    """As after that time."""
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter("mutt:login:*"):
            count = msgspec.msgpack.decode(client.get(key), type=throttle.Count)
            over = msgspec.structs.replace(count, until=time.time() - 1)
            client.set(key, msgspec.msgpack.encode(over), keepttl=True)


@pytest.mark.usefixtures("long_waits")
def test_who_fails_too_often_waits(app: Flask, second: Flask, engine: Engine, redis_url: str) -> None:
    """429 with Retry-After, a page that says how long, in every process; and the right password does not pass."""
    person(engine, "ada", Role.VIEWER)
    client = app.test_client()
    for _ in range(throttle.PAIR.free + 1):
        assert enter(client, "ada", WRONG).status_code == 403
    for process in (app, second):
        answer = enter(process.test_client(), "ada", PASSWORD)
        wait = int(answer.headers["Retry-After"])
        assert answer.status_code == 429 and 1 <= wait <= 30 and f"Wait {wait} second" in answer.text
    # From elsewhere they get in; and here too, once the wait is over.
    assert enter(second.test_client(), "ada", PASSWORD, "198.51.100.7").status_code == 302
    let_waits_end(redis_url)
    assert enter(second.test_client(), "ada", PASSWORD).status_code == 302


@pytest.mark.usefixtures("long_waits")
@pytest.mark.parametrize("padded", [" \t{}", "{}\u2003 ", "ADMIN", "{}" + " " * 300 + "x"])
def test_no_way_of_writing_a_name_has_free_tries_of_its_own(app: Flask, padded: str) -> None:
    """Whatever is taken for a name counts as that name."""
    client = app.test_client()
    for _ in range(throttle.PAIR.free + 1):
        assert enter(client, "admin", WRONG).status_code == 403
    assert enter(client, padded.format("admin"), admin_client.PASSWORD).status_code == 429


def test_a_name_that_is_attacked_from_everywhere_keeps_its_owner(app: Flask, engine: Engine) -> None:
    """Where they are known they get in at once; elsewhere they wait once, and the wait says so."""
    person(engine, "ada", Role.VIEWER)
    browser(app, "ada", "192.0.2.1")
    counted = throttle.Throttle(app.extensions["sessions"].services)
    attack = [counted.tried("ada", f"198.51.100.{number}") for number in range(throttle.NAME.free + 1)]
    assert set(attack) == {0.0}
    assert enter(app.test_client(), "ada", PASSWORD, "192.0.2.1").status_code == 302
    late = enter(app.test_client(), "ada", PASSWORD, "203.0.113.5")
    assert late.status_code == 429 and 0 < int(late.headers["Retry-After"]) <= throttle.NAME.most
    wait_until(
        lambda: enter(app.test_client(), "ada", PASSWORD, "203.0.113.5").status_code == 302, 10, "their turn"
    )


def test_redis_holds_no_name_and_forgets(app: Flask, redis_url: str) -> None:
    """What is counted has an end, and stands under hashes."""
    enter(app.test_client(), "grace", WRONG)
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter("mutt:login:*"))
        assert len(keys) == 3 and all(0 < client.ttl(key) <= 3600 for key in keys)
        assert not any(b"grace" in key or b"192.0.2" in key for key in keys)


@pytest.mark.usefixtures("long_waits")
def test_while_redis_is_away_a_process_counts_by_itself(
    database_url: str, engine: Engine, own_redis: Live
) -> None:
    app = make_admin(settings_of(database_url, redis_url=own_redis.url), engine)
    own_redis.kill()
    tried = [enter(app.test_client(), "admin", WRONG).status_code for _ in range(throttle.PAIR.free + 3)]
    assert tried == [403] * (throttle.PAIR.free + 1) + [429] * 2


def test_two_processes_and_many_at_once_count_together(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Two real servers, guesses sent to both side by side: as many are looked at as one server would have."""
    env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "ADMIN_PASSWORD": admin_client.PASSWORD}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        served("admin", env, tmp_path / "a", "--threads", "4") as (first, _),
        served("admin", env, tmp_path / "b", "--threads", "4") as (other, _),
    ):
        tries = [_prepared(port) for port in (first, other) * 8]
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda send: send(), tries))
        looked_at = statuses.count(403)
        # Where a machine is very busy a hash waits for its turn too long, and is no try.
        not_looked_at = statuses.count(503)
        assert set(statuses) - {503} == {403, 429}
        # The first waits may end while the last ones come: one more after 1 s, 3 s, 7 s …
        more = int(math.log2(time.monotonic() - began + 1))
        assert looked_at <= throttle.PAIR.free + 1 + more, statuses
        assert looked_at + not_looked_at > throttle.PAIR.free, statuses


def _prepared(port: int) -> Callable[[], int]:
    """A guess at the administrator's password, ready to be sent."""
    browser_ = requests.Session()
    page = browser_.get(f"http://127.0.0.1:{port}/login", timeout=10).text
    given = {"name": "admin", "password": WRONG, "csrf_token": admin_client.hidden(page, "csrf_token")}
    return lambda: browser_.post(f"http://127.0.0.1:{port}/login", data=given, timeout=30).status_code


def test_only_so_many_hashes_are_worked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins can't eat up memory and threads: a few wait for their turn, the others are told to come again."""
    working, most = [], []

    class Slow(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            working.append(password)
            most.append(len(working))
            wait_until(lambda: len(most) > passwords.AT_ONCE - 1, 5)
            working.remove(password)
            return super().hash(password, salt=salt)

    monkeypatch.setattr(passwords, "_hasher", Slow(time_cost=1, memory_cost=8, parallelism=1))
    with ThreadPoolExecutor(12) as pool:
        done = [pool.submit(passwords.hashed, str(number)) for number in range(12)]
    refused = [one.exception() for one in done if one.exception()]
    assert max(most) <= passwords.AT_ONCE
    assert all(isinstance(error, Unavailable) for error in refused) and len(refused) < 12
    assert passwords.hashed("again")


def test_a_session_begins_anew_at_login(app: Flask) -> None:
    """Whoever planted a cookie in a browser holds nothing once somebody logs in with it: neither id nor token."""
    client = app.test_client()
    planted = token(client, "/login")
    before = client.get_cookie("mutt_admin")
    log_in(client)
    after = client.get_cookie("mutt_admin")
    assert before and after and before.value != after.value
    other = app.test_client()
    other.set_cookie("mutt_admin", before.value)
    assert not is_in(other) and is_in(client)
    assert client.post("/profile/end", data={"csrf_token": planted}).status_code == 400


def test_the_cookie_is_for_https_where_it_came_by_https(app: Flask) -> None:
    """HttpOnly and SameSite always; Secure where the request was."""
    plain = log_in(app.test_client()).headers["Set-Cookie"]
    assert "HttpOnly" in plain and "SameSite=Lax" in plain and "Secure" not in plain
    client = app.test_client()
    page = client.get("/login", base_url="https://mutt.example")
    assert "Secure" in page.headers["Set-Cookie"]
    given = {"name": "admin", "password": admin_client.PASSWORD}
    given["csrf_token"] = admin_client.hidden(page.text, "csrf_token")
    origin = {"Referer": "https://mutt.example/login"}
    answer = client.post("/login", data=given, base_url="https://mutt.example", headers=origin)
    assert answer.status_code == 302 and "Secure" in answer.headers["Set-Cookie"]


def test_logout_ends_the_session_for_every_copy(app: Flask, second: Flask, engine: Engine) -> None:
    """A cookie that was copied before is dead afterwards, in each process; another session of theirs is not."""
    person(engine, "ada", Role.VIEWER)
    client, elsewhere = browser(app, "ada"), browser(second, "ada")
    copies = [copied(client, app), copied(client, second)]
    assert all(is_in(copy) for copy in copies)
    client.post("/logout", data={"csrf_token": token(client, "/profile/")})
    assert not any(is_in(copy) for copy in (client, *copies))
    assert is_in(elsewhere)


@pytest.mark.parametrize("path", ["/logout", "/profile/end"])
def test_an_end_holds_whatever_the_clock_of_the_process_says(
    app: Flask, second: Flask, clock: Clock, path: str
) -> None:
    """A session that began by a clock that is ahead is ended by one that is behind."""
    client = app.test_client()
    log_in(client)
    copy = copied(client, app)
    clock.now -= 60
    far = copied(client, second)
    assert far.post(path, data={"csrf_token": token(far, "/profile/")}).status_code == 302
    assert is_in(far) is (path == "/profile/end")
    clock.now += 60
    assert not is_in(copy) and not is_in(client)


def test_a_logout_while_redis_is_away_is_told_when_it_is_back(
    database_url: str, engine: Engine, own_redis: Live
) -> None:
    """The process itself knows at once; the others as soon as Redis can tell them."""
    settings = settings_of(database_url, redis_url=own_redis.url)
    app, second = make_admin(settings, engine), make_admin(settings, engine)
    client = app.test_client()
    log_in(client)
    copy, far = copied(client, app), copied(client, second)
    csrf = token(client, "/profile/")
    own_redis.kill()
    client.post("/logout", data={"csrf_token": csrf})
    assert not is_in(copy)
    own_redis.start()
    log_in(client)
    wait_until(lambda: is_in(client) and not is_in(far), 10, "the other process to know")


def test_a_session_ends_when_nobody_uses_it(app: Flask, clock: Clock) -> None:
    """What a page asks for by itself is no use; a click is."""
    client = app.test_client()
    log_in(client)
    for _ in range(3):
        clock.now += 3 * 3600
        assert is_in(client)
    clock.now += 3 * 3600
    polled = {"HX-Request": "true"}
    assert client.get("/rules/badges", headers=polled).status_code == 200
    clock.now += 2 * 3600
    assert client.get("/rules/badges", headers=polled).status_code == 401
    assert not is_in(client)


def test_a_session_ends_however_much_it_is_used(app: Flask, clock: Clock) -> None:
    """A day after the login, at the latest."""
    client = app.test_client()
    log_in(client)
    for _ in range(23):
        clock.now += 3600
        assert is_in(client)
    clock.now += 3601
    assert not is_in(client)


def test_a_change_of_a_user_ends_their_sessions_soon(app: Flask, second: Flask, engine: Engine) -> None:
    """Another role, another password, being kept out: in each process, and of nobody else."""
    changes: dict[str, dict[str, Any]] = {
        "ada": {"role": Role.ADMIN},
        "grace": {"is_active": False},
        "alan": {"password_hash": "$argon2id$another"},
    }
    for name in (*changes, "other"):
        person(engine, name, Role.OPERATOR)
    clients = [browser(process, name) for process in (app, second) for name in changes]
    other = browser(app, "other")
    with transaction(engine) as conn:
        for name, change in changes.items():
            users.change(conn, name, **change, changed_by="test")
    wait_until(lambda: not any(map(is_in, clients)), SOON, "the sessions to end")
    assert is_in(other)


def test_an_outage_of_the_users_is_no_logout(database_url: str, redis_url: str, engine: Engine) -> None:
    """A process that never read the users says that it can't, and the session stands when it can."""
    person(engine, "ada", Role.VIEWER)
    settings = settings_of(database_url, redis_url=redis_url, secret_key="s" * 32)
    client = browser(make_admin(settings, engine), "ada")
    with proxied(database_url) as proxy:
        proxy.refuse()
        late = settings_of(proxy.url, redis_url=redis_url, secret_key="s" * 32)
        app = make_admin(late, make_engine(late, role="test"))
        other = copied(client, app)
        assert other.get("/letters/").status_code == 503
        proxy.listen()
        wait_until(lambda: is_in(other), 10, "the users to be read")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No password stands in a log line."""
    yield
    assert not {word for word in (PASSWORD, WRONG, admin_client.PASSWORD) if word in caplog.text}
