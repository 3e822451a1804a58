"""API keys from PostgreSQL to the door: two gunicorns, one Redis; what a key may do, and when it no longer may."""

from __future__ import annotations

import dataclasses
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from mutt import keyring, names
from mutt.celery import app
from mutt.errors import Unavailable
from mutt.event import Envelope
from mutt.grant import INGEST, MANAGEMENT, Grant, digest_of
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.streams import books
from mutt.streams.connect import connect
from mutt.streams.keys import SIGNED, KeysCopy, is_older
from mutt.tasks import maintenance
from mutt.tasks.tick import HISTORY, KEYS_TICK
from mutt.web.keys import Keys
from tests.doors import served
from tests.integration.test_ingest import GOOD, KEY, Ingest, metric
from tests.integration.test_tick import Fleet, fleet  # noqa: F401 the fixture
from tests.servers import Live, live_redis, scratch
from tests.waiting import wait_until

SAID = keys.Said(changed_by="anna")
HOUR = timedelta(hours=1)
TRAP = {"hostname": "core-1", "trap_oid": "1.3.6.1.6.3.1.1.5.3", "varbinds": []}
LINE = b"<187>Mar  4 09:15:02 core-rtr-01 %LINK-3-UPDOWN: Interface Te0/0/1, changed state to down"

#: The promise: a key that was revoked opens nothing after so many seconds.
IN_EFFECT = 5.0


@dataclasses.dataclass
class Doors:
    """Two gunicorns on one Redis."""

    redis: Live
    ports: tuple[int, int]
    logs: tuple[Path, Path]

    def post(self, key: str, body: Any = GOOD, path: str = "/ingest", *, door: int = 0) -> requests.Response:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        address = f"http://127.0.0.1:{self.ports[door]}{path}"
        return requests.post(address, data, headers={"X-API-KEY": key}, timeout=10)

    def statuses(self, key: str, **more: Any) -> set[int]:
        return {self.post(key, door=door, **more).status_code for door in range(len(self.ports))}


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with scratch() as one, scratch() as two, live_redis(one) as server:
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY}
        KeysCopy(connect(server.url)).publish({})
        with served("ingest", env, one) as (port, log), served("ingest", env, two) as (other, log_two):
            yield Doors(server, (port, other), (log, log_two))


@dataclasses.dataclass
class House:
    """Where keys are made: PostgreSQL, and the Redis of the doors."""

    services: Services

    def make(self, name: str, *scopes: str, **more: Any) -> str:
        with transaction(self.services.engine) as conn:
            _, key = keys.make(conn, name, scopes or (INGEST,), **more, **SAID)
        keyring.publish(self.services)
        return key

    def rotate(self, name: str, overlap: timedelta = HOUR) -> str:
        with transaction(self.services.engine) as conn:
            key = keys.rotate(conn, name, overlap, **SAID)
        keyring.publish(self.services)
        return key

    def revoke(self, name: str) -> None:
        with transaction(self.services.engine) as conn:
            keys.revoke(conn, name, **SAID)
        keyring.publish(self.services)

    def last_used(self, name: str) -> datetime | None:
        with transaction(self.services.engine) as conn:
            return keys.find(conn, name).last_used_at


def house_on(redis_url: str, database_url: str) -> House:
    settings = Settings.from_env({}, redis_url=redis_url, database_url=database_url)
    return House(Services(settings, lambda *_, **__: None, role="admin"))


@pytest.fixture
def house(doors: Doors, database_url: str) -> Iterator[House]:
    made = house_on(doors.redis.url, database_url)
    made.services.redis.flushall()
    yield made
    made.services.engine.dispose()


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    made.knows()
    return made


def known(doors: Doors, key: str) -> None:
    wait_until(lambda: doors.statuses(key) == {202}, IN_EFFECT, "the key to be known at both doors")


def gone(doors: Doors, key: str) -> float:
    """Until no door takes it: how many seconds that took."""
    began = time.monotonic()
    wait_until(lambda: doors.statuses(key) == {401}, 2 * IN_EFFECT, "the key to be gone from both doors")
    return time.monotonic() - began


# ---- over real gunicorn


def test_a_key_is_known_rotates_and_is_gone_within_seconds(doors: Doors, house: House) -> None:
    """Two texts of one name at once, to which one id is one event; the revoked one opens nothing 5 s later."""
    first = house.make("site-7")
    known(doors, first)
    told = GOOD | {"event_id": "ticket-7"}
    assert doors.post(first, told).json()["duplicates"] == 0
    second = house.rotate("site-7")
    known(doors, second)
    assert doors.post(second, told).json()["duplicates"] == 1
    assert doors.statuses(first) == {202}
    with transaction(house.services.engine) as conn:
        keys.revoke_secret(conn, "site-7", digest_of(first.encode()), **SAID)
    keyring.publish(house.services)
    assert gone(doors, first) < IN_EFFECT
    assert doors.statuses(second) == {202}
    house.revoke("site-7")
    assert gone(doors, second) < IN_EFFECT
    assert doors.statuses(KEY) == {202}
    for log in doors.logs:
        assert first not in log.read_text() and second not in log.read_text()


def test_who_shows_a_password_only_when_asked_is_asked(doors: Doors, house: House) -> None:
    """As SNS, .NET, and this client of Python's."""
    key, address = house.make("asked"), f"http://127.0.0.1:{doors.ports[0]}/ingest/native"
    known(doors, key)
    words = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    words.add_password(None, address, "mutt", key)
    shows = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(words))
    with shows.open(urllib.request.Request(address, orjson.dumps(GOOD)), timeout=10) as answer:
        assert answer.status == 202


def test_a_key_expires_by_itself(doors: Doors, house: House) -> None:
    """Nobody publishes anything, and Redis need not be asked."""
    ends = datetime.now(UTC) + timedelta(seconds=4)
    key = house.make("site-7", expires_at=ends)
    known(doors, key)
    wait_until(lambda: doors.statuses(key) == {401}, 10, "the key to expire")
    assert datetime.now(UTC) >= ends


def test_a_key_does_what_it_is_for_and_nothing_else(doors: Doors, house: House) -> None:
    """One of the scope management sends nothing; one for syslog sends no trap, named or found out, on either way in."""
    manages = house.make("manages", MANAGEMENT)
    narrow = house.make("narrow", formats=("syslog",))
    both = house.make("both", INGEST, MANAGEMENT, formats=("native", "syslog"))
    wait_until(lambda: doors.statuses(both) == {202}, IN_EFFECT)
    before = books.read(house.services.redis).events["accepted"]
    assert doors.statuses(manages) == {403}
    large = b" " * 5000  # too large for the lane
    for more in (b"", large):
        for body in (orjson.dumps(GOOD), orjson.dumps(TRAP), orjson.dumps([GOOD, TRAP])):
            refused = doors.post(narrow, body + more)
            assert refused.status_code == 403, refused.text
            assert refused.json()["field"] == "format"
        assert doors.post(both, orjson.dumps([GOOD, TRAP]) + more).status_code == 403
    assert doors.post(narrow, GOOD, "/ingest/native").status_code == 403
    assert doors.post(narrow, LINE, "/ingest/snmptrap").status_code == 403
    assert books.read(house.services.redis).events["accepted"] == before, "nothing of it was taken"
    assert doors.post(narrow, LINE).status_code == 202
    assert doors.post(narrow, LINE + large).status_code == 202
    assert doors.post(narrow, LINE, "/ingest/syslog").status_code == 202
    assert doors.post(both, [GOOD, GOOD]).status_code == 202


def test_who_empties_redis_locks_nobody_out(doors: Doors, house: House) -> None:
    """The doors go on with what they know; the copy is made again by housekeeping."""
    key = house.make("site-7")
    known(doors, key)
    house.services.redis.flushall()
    until = time.monotonic() + 2.5  # longer than the doors keep their copy without a look
    while time.monotonic() < until:
        assert doors.statuses(key) == {202}
    assert keyring.publish(house.services) == 1
    assert set(KeysCopy(house.services.redis).read() or {}) == {digest_of(key.encode())}


def test_two_processes_share_a_quota(doors: Doors) -> None:
    """Of many posts at both doors at once, on both ways in, exactly the quota is accepted."""
    client = connect(doors.redis.url)
    client.flushall()
    quota = 10
    few, many = Grant("few", (INGEST,), quota=quota), Grant("many", (INGEST,))
    KeysCopy(client).publish({digest_of(b"few"): few, digest_of(b"many"): many})
    known(doors, "many")
    before = books.read(client).events["accepted"]

    def post(i: int) -> int:
        body = GOOD if i % 4 < 2 else orjson.dumps(GOOD) + b" " * 5000
        return doors.post("few", body, door=i % 2).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(post, range(60)))
    assert (statuses.count(202), statuses.count(429)) == (quota, 60 - quota)
    assert books.read(client).events["accepted"] - before == quota


# ---- the copy


def test_without_a_copy_a_key_that_is_not_known_is_no_401(redis_url: str) -> None:
    """Redis was emptied, and this process has just begun: its sender would give up for good."""
    ingest = Ingest(redis_url)
    refused = ingest.post(GOOD, key="perhaps")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert ingest.post(GOOD).status_code == 202, "the environment's own key needs no copy"
    ingest.knows()
    wait_until(lambda: ingest.post(GOOD, key="perhaps").status_code == 401, IN_EFFECT)
    ingest.redis.delete(names.KEYS)
    assert ingest.post(GOOD, key="perhaps").status_code == 401


def test_a_copy_of_an_older_version_and_one_bad_entry_cost_nobody_a_key(redis_url: str) -> None:
    """A plain name may send; what can't be read is left out."""
    ingest = Ingest(redis_url)
    copy = {digest_of(b"old"): "probe", digest_of(b"new"): Grant("new", (INGEST,)).pack()}
    ingest.redis.hset(names.KEYS, mapping={**copy, digest_of(b"bad"): "{", "made": "x"})
    assert [ingest.post(GOOD, key=key).status_code for key in ("old", "new", "bad")] == [202, 202, 401]


def test_redis_away_for_long_ends_no_key_but_those_that_expire(
    own_redis: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last good copy stays, and is read by this process' clock."""
    ingest = Ingest(own_redis.url)
    found = ingest.app.extensions["ingest"].keys
    now = time.time()
    stays, ends = Grant("stays", (INGEST,)), Grant("ends", (INGEST,), expires=now + HOUR.total_seconds())
    KeysCopy(ingest.redis).publish({digest_of(b"stays"): stays, digest_of(b"ends"): ends})
    assert [found.identify(key) for key in (b"stays", b"ends")] == [stays, ends]
    own_redis.kill()
    monkeypatch.setattr(found._known, "_read_at", float("-inf"))
    assert [found.identify(key) for key in (b"stays", b"ends", b"none")] == [stays, ends, None]
    monkeypatch.setattr(found, "_clock", lambda: now + 2 * HOUR.total_seconds())
    assert [found.identify(key) for key in (b"stays", b"ends")] == [stays, None]


def test_an_older_copy_brings_back_no_revoked_key(
    redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover may lead to a replica that lacked the last publication; the next one is read again."""
    house, ingest = house_on(redis_url, database_url), Ingest(redis_url)
    found = ingest.app.extensions["ingest"].keys
    secret = house.make("site-7")
    keyring.publish(house.services)
    before = house.services.redis.dump(names.KEYS)

    def asked_anew() -> Grant | None:
        monkeypatch.setattr(found._known, "_read_at", float("-inf"))
        return found.identify(secret.encode())

    assert asked_anew()
    with transaction(house.services.engine) as conn:
        keys.revoke(conn, "site-7", **SAID)
    keyring.publish(house.services)
    assert asked_anew() is None
    house.services.redis.restore(names.KEYS, 0, before, replace=True)
    assert asked_anew() is None
    again = house.make("site-8")
    keyring.publish(house.services)
    assert asked_anew() is None
    assert found.identify(again.encode())
    house.services.engine.dispose()


def test_a_publication_after_the_clock_was_set_back_is_read_all_the_same(redis_url: str) -> None:
    ingest = Ingest(redis_url)
    copy = KeysCopy(ingest.redis)
    copy.publish({}, at=2_000_000_000_000_000)
    first = copy.stamp()
    copy.publish({}, at=1_000_000_000_000_000)
    assert is_older(first, copy.stamp())
    assert not is_older(copy.stamp(), first)
    assert not is_older(b"0123456789abcdef", first), "of an older version: nobody knows"


def test_a_late_publisher_brings_back_no_revoked_key(redis_url: str, database_url: str) -> None:
    """Whoever looked before the revocation writes before whoever looked after it."""
    house = house_on(redis_url, database_url)
    house.make("site-7")
    late = transaction(house.services.engine)
    with late as conn:
        keys.hold_publication(conn)
        stale = keys.copy(conn)
        with transaction(house.services.engine) as other:
            keys.revoke(other, "site-7", **SAID)
            other.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            with pytest.raises(Exception, match="lock timeout"), other.begin_nested():
                keys.hold_publication(other)
        KeysCopy(house.services.redis).publish(stale)
    keyring.publish(house.services)
    assert KeysCopy(house.services.redis).read() == {}
    house.services.engine.dispose()


def test_the_task_makes_the_copy_again_and_notes_the_last_use(
    ingest: Ingest, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use is in Redis at once, the ones that follow now and then; a failed task loses none."""
    house = house_on(ingest.services.settings.redis_url, database_url)
    task = app.tasks["mutt.maintenance.keys"]
    monkeypatch.setattr(maintenance, "services", lambda: house.services)
    key = house.make("site-7")
    digest = digest_of(key.encode())
    assert house.last_used("site-7") is None
    before = datetime.now(UTC)
    wait_until(lambda: ingest.post(GOOD, key=key).status_code == 202, IN_EFFECT)
    for _ in range(5):
        ingest.post(GOOD, key=key)
    noted = ingest.redis.hgetall(names.KEYS_USED)
    assert list(noted) == [digest.encode()], "and not the environment's own"

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(keys, "note_use", fails)
        keyring.note_uses(house.services)
    ingest.redis.delete(names.KEYS)
    assert task.run().items() >= {"used": 1, "keys": 1}.items()
    used = house.last_used("site-7")
    assert used is not None and before - timedelta(milliseconds=1) <= used <= datetime.now(UTC)
    assert set(KeysCopy(ingest.redis).read() or {}) == {digest}
    assert task.run().items() >= {"used": 0, "keys": 1}.items()
    house.services.engine.dispose()


def test_uses_are_noted_again_after_an_outage_though_nobody_shows_a_key(own_redis: Live) -> None:
    """As where all posts are signed: those ask for no key, so nothing else would see that Redis is back."""
    client = connect(own_redis.url, timeout=0.3)
    keys = Keys(client, lambda: "")
    own_redis.kill()
    with pytest.raises(Unavailable):
        keys.need()
    assert keys.away
    own_redis.start()
    keys.note(SIGNED + "github")
    wait_until(lambda: not keys.away, 5, "Redis to be seen again")
    keys.note(SIGNED + "github")
    assert client.hlen(names.KEYS_USED) == 1


def test_a_use_costs_no_command_a_post(ingest: Ingest) -> None:
    """A key that is known by its copy is as cheap as the environment's own."""
    ingest.knows(site="site")
    wait_until(lambda: ingest.post(GOOD, key="site").status_code == 202, IN_EFFECT)
    ingest.redis.config_resetstat()
    for _ in range(50):
        assert ingest.post(GOOD, key="site").status_code == 202
    stats = ingest.redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 50
    assert stats.get("cmdstat_hgetall", {"calls": 0})["calls"] <= 5
    assert ingest.redis.hlen(names.KEYS_USED) <= 1


def test_keys_are_looked_after_once_for_the_fleet(fleet: Fleet) -> None:  # noqa: F811
    """Now and then; at once where Redis was emptied, or is another one."""
    one, other = fleet.worker("alerts"), fleet.worker("moog")
    for _ in range(3):
        one.once()
        other.once()
    assert fleet.keys == 1
    fleet.bench.redis.delete(KEYS_TICK)
    other.once()
    assert fleet.keys == 2
    fleet.bench.redis.set(HISTORY, "another")
    one.once()
    other.once()
    assert fleet.keys == 3
    fleet.bench.redis.flushall()
    one.once()
    assert fleet.keys == 4


def test_refusals_are_counted_by_reason(ingest: Ingest) -> None:
    """Of a closed set, whatever was sent."""
    ingest.services.redis.delete(names.KEYS)
    grants = [
        Grant("narrow", (INGEST,), ("syslog",)),
        Grant("manages", (MANAGEMENT,)),
        Grant("few", (INGEST,), quota=1),
    ]
    KeysCopy(ingest.redis).publish({digest_of(one.name.encode()): one for one in grants})
    wait_until(lambda: ingest.post(GOOD, key="few").status_code == 202, IN_EFFECT)
    refused = [
        ("no_key", ingest.post(GOOD, key=None)),
        ("unknown_key", ingest.post(GOOD, key="wrong")),
        ("scope", ingest.post(GOOD, key="manages")),
        ("format", ingest.post(GOOD, key="narrow")),
        ("quota", ingest.post(GOOD, key="few")),
        ("unknown_format", ingest.post(GOOD, "/ingest/pigeon")),
        ("bad", ingest.post(b"[")),
        ("too_large", ingest.post(b"[" + b"{}," * 300_000 + b"{}]")),
        ("http", ingest.client.put("/ingest")),
    ]
    for reason, response in refused:
        assert response.status_code >= 400, reason
        assert metric(ingest, f'mutt_ingest_refused_total{{reason="{reason}"}}') == 1, reason
    assert ingest.post([GOOD, GOOD], key="few").status_code == 413
    assert metric(ingest, 'mutt_ingest_refused_total{reason="quota"}') == 2


def test_what_waits_in_the_stream_names_its_key_by_name(ingest: Ingest) -> None:
    """The key's text and digest stand nowhere in Redis but in the copy."""
    ingest.knows(site="a-secret-text")
    wait_until(lambda: ingest.post([GOOD, {}], key="a-secret-text").status_code == 202, IN_EFFECT)
    [letter] = list(ingest.services.letters.listed("ingest"))
    assert letter.about == "site"
    entry = ingest.services.held("ingest_queue").take(1).entries[0]
    assert entry.decode(Envelope).segments
    digest = digest_of(b"a-secret-text").encode()
    for name in ingest.redis.scan_iter():
        if name.decode() not in (names.KEYS, names.KEYS_USED):
            stored = ingest.redis.dump(name) or b""
            assert b"a-secret-text" not in stored and digest not in stored, name
