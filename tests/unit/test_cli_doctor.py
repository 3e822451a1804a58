"""What the doctor makes of what it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mutt.balance import weigh
from mutt.doctor import flow, postgres, wire
from mutt.doctor import redis as redis_checks
from mutt.doctor.finding import Finding, Level
from mutt.grant import INGEST, Grant
from mutt.store.spill import Standing
from mutt.store.sums import Sums
from mutt.store.vitals import Vitals
from mutt.streams.books import ALERTS, EVENTS, Books, Depth

INFO = {
    "redis_version": "7.2.4",
    "aof_enabled": 1,
    "maxmemory_policy": "noeviction",
    "used_memory": 1 << 20,
    "maxmemory": 1 << 30,
    "role": "master",
    "connected_slaves": 0,
}
CONFIG = {"appendfsync": "always", "no-appendfsync-on-rewrite": "no", "min-replicas-to-write": "0"}


def of_redis(config: dict[str, str] | None = CONFIG, wait: int = 0, **info: Any) -> dict[str, Finding]:
    found = redis_checks.check({**INFO, **info}, config, wait_replicas=wait, sentinel=False)
    return {one.what: one for one in found}


def test_a_redis_as_mutt_up_starts_it_is_well():
    assert {one.level for one in of_redis().values()} == {Level.OK}


@pytest.mark.parametrize(
    ("what", "level", "info"),
    [
        ("Redis version", Level.BAD, {"redis_version": "6.2.14"}),
        ("Redis cluster", Level.BAD, {"cluster_enabled": 1}),
        ("Redis appendonly", Level.BAD, {"aof_enabled": 0}),
        ("Redis writing", Level.BAD, {"aof_last_write_status": "err"}),
        ("Redis maxmemory-policy", Level.BAD, {"maxmemory_policy": "allkeys-lru"}),
        ("Redis memory", Level.WARN, {"maxmemory": 0}),
        ("Redis memory", Level.WARN, {"used_memory": 700 << 20}),
        ("Redis memory", Level.BAD, {"used_memory": 900 << 20}),
        ("Redis replicas", Level.BAD, {"role": "slave"}),
        ("Redis replicas", Level.WARN, {"connected_slaves": 1}),
    ],
)
def test_each_fault_of_redis_has_a_fix(what, level, info):
    found = of_redis(**info)[what]
    assert found.level is level
    assert found.fix


def test_a_valkey_is_called_by_its_name_and_version():
    assert of_redis(valkey_version="9.1.2")["Redis version"].says == "Valkey 9.1.2"
    assert of_redis()["Redis version"].says == "7.2.4"


def test_everysec_names_its_bound():
    found = of_redis({**CONFIG, "appendfsync": "everysec"})["Redis appendfsync"]
    assert found.level is Level.WARN
    assert "about a second" in found.says


def test_no_sync_at_all_is_bad():
    assert of_redis({**CONFIG, "appendfsync": "no"})["Redis appendfsync"].level is Level.BAD


def test_a_redis_that_hides_its_configuration_is_a_warning():
    assert of_redis(None)["Redis appendfsync"].level is Level.WARN


def test_waiting_for_replicas_that_are_not_there_is_bad():
    assert of_redis(wait=1)["Redis replicas"].level is Level.BAD


def test_a_replica_that_is_waited_for_is_well_once_the_master_wants_one_too():
    assert of_redis(wait=1, connected_slaves=1)["Redis replicas"].level is Level.WARN
    wanted = {**CONFIG, "min-replicas-to-write": "1"}
    assert of_redis(wanted, wait=1, connected_slaves=1)["Redis replicas"].level is Level.OK


NOW = datetime(2026, 11, 30, tzinfo=UTC)
MONTHS = [f"event_audit_log_{month}" for month in ("2026_11", "2026_12", "2027_01")]
VITALS = Vitals(
    settings={
        "server_version_num": "150018",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "max_connections": "100",
        "superuser_reserved_connections": "3",
    },
    connections=6,
    ours={"mutt-alerts": 4},
    migrated_to="0001",
    head="0001",
    default_rows=0,
    months=MONTHS,
)


def of_postgres(settings: dict[str, str] | None = None, **changed: Any) -> dict[str, Finding]:
    vitals = VITALS._replace(**changed, settings={**VITALS.settings, **(settings or {})})
    return {one.what: one for one in postgres.check(vitals, pool_max=10, now=NOW)}


def test_an_ordinary_postgresql_is_well():
    assert {one.level for one in of_postgres().values()} == {Level.OK}


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_postgresql_that_may_forget_is_bad(name):
    assert of_postgres({name: "off"})[f"PostgreSQL {name}"].level is Level.BAD


@pytest.mark.parametrize(
    ("what", "level", "changed"),
    [
        ("PostgreSQL schema", Level.BAD, {"migrated_to": ""}),
        ("PostgreSQL schema", Level.BAD, {"migrated_to": "0000"}),
        ("PostgreSQL schema", Level.WARN, {"migrated_to": "9999", "ahead": True}),
        ("PostgreSQL connections", Level.BAD, {"connections": 90}),
        ("PostgreSQL connections", Level.WARN, {"connections": 20, "ours": {"mutt-alerts": 12}}),
        ("audit, default partition", Level.WARN, {"default_rows": 3}),
        ("audit, months ahead", Level.WARN, {"months": MONTHS[:2]}),
        ("audit, months ahead", Level.BAD, {"months": MONTHS[1:]}),
    ],
)
def test_each_fault_of_postgresql_has_a_fix(what, level, changed):
    found = of_postgres(**changed)[what]
    assert found.level is level
    assert found.fix


def test_an_old_postgresql_is_bad():
    assert of_postgres({"server_version_num": "140012"})["PostgreSQL version"].level is Level.BAD


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("rediss://:p@redis.example/0", Level.OK),
        ("sentinels://a:1,b:2/0?master=m", Level.OK),
        ("https://moog.example/events", Level.OK),
        ("redis://:p@127.0.0.1:6379/0", Level.OK),
        ("redis://:p@[::1]/0", Level.OK),
        ("redis://localhost:6379", Level.OK),
        ("unix:///run/redis.sock", Level.OK),
        ("redis://:p@redis.example:6379/0", Level.WARN),
        ("redis://10.0.0.7", Level.WARN),
        ("sentinel://localhost:1,b:2/0?master=m", Level.WARN),
        ("http://moog.example/events", Level.WARN),
    ],
)
def test_what_leaves_the_machine_in_the_clear_is_a_warning(url, level):
    assert wire.address("way", url, "fix").level is level


@pytest.mark.parametrize(
    ("host", "tls", "sslmode", "level"),
    [
        ("db.example", True, "verify-full", Level.OK),
        ("db.example", True, "verify-ca", Level.WARN),
        ("db.example", True, "require", Level.WARN),
        ("db.example", True, "prefer", Level.WARN),
        ("db.example", False, "prefer", Level.WARN),
        ("10.0.0.7", False, "disable", Level.WARN),
        ("127.0.0.1", False, "prefer", Level.OK),
        ("localhost", True, "prefer", Level.OK),
        ("/var/run/postgresql", False, "prefer", Level.OK),
    ],
)
def test_a_postgresql_that_is_not_checked_is_a_warning(host, tls, sslmode, level):
    assert wire.postgres("way", wire.Postgres(host, tls, sslmode)).level is level


def test_clocks_may_differ_by_a_second():
    levels = [one.level for one in flow.clocks({"Redis": 0.9, "PostgreSQL": -1.1})]
    assert levels == [Level.OK, Level.WARN]


def test_a_slow_redis_is_told_before_and_after_it_stops_what_is_sent():
    levels = [flow.round_trip(took, 0.025, 0.25).level for took in (0.002, 0.03, 0.3)]
    assert levels == [Level.OK, Level.WARN, Level.BAD]


def test_made_up_words_are_told_of():
    assert [flow.unhandled(kinds, 10).level for kinds in (0, 10, 11)] == [Level.OK, Level.OK, Level.WARN]


def test_an_old_entry_and_a_dead_letter_are_warnings_with_the_command_to_type():
    old = Depth("alert_queue:critical", 3, 0, 61.0, True)
    young = Depth("ingest_queue", 3, 0, 1.0, True)
    dead = Depth("dlq:moog", 2, 0, 1.0, False)
    found = list(flow.queues([old, young, dead]))
    assert [one.level for one in found] == [Level.WARN, Level.OK, Level.WARN]
    assert "-Q moog" in found[0].fix
    assert "mutt dlq show moog" in found[2].fix


def test_one_is_one_and_what_stands_behind_is_told():
    found = list(flow.queues([Depth("alert_queue:info", 1, 0, 1.0, True, behind=3)]))
    assert found[0].says == "1 entry and 3 alerts behind them, the oldest waits 1.0 s"


def test_books_that_are_off_are_bad():
    empty = Books(dict.fromkeys(EVENTS, 0), dict.fromkeys(ALERTS, 0))
    off = Books({**empty.events, "accepted": 1}, empty.alerts)
    assert [flow.ledger(weigh(one, None, at_rest=False)).level for one in (empty, off)] == [
        Level.OK,
        Level.BAD,
    ]


def test_doctor_gives_the_ledgers_whole_verdict():
    empty = Books(dict.fromkeys(EVENTS, 0), dict.fromkeys(ALERTS, 0))
    rests = Sums(0, dict.fromkeys(ALERTS[1:], 0))
    waits = rests._replace(alerts={**rests.alerts, "waiting": 2})
    good, outcome, row = (
        flow.ledger(weigh(empty, found, outcomes_parked=parked, at_rest=True))
        for found, parked in ((rests, 0), (waits, 2), (waits, 0))
    )
    assert (good.level, good.says) == (Level.OK, "they balance, in Redis and in PostgreSQL")
    assert (outcome.level, "2 notes" in outcome.says, "mutt dlq replay moog" in outcome.fix) == (
        Level.BAD,
        True,
        True,
    )
    assert (row.level, "alerts.waiting +2" in row.says) == (Level.BAD, True)


@pytest.mark.parametrize(
    ("state", "level"), [("", Level.OK), ("closed", Level.OK), ("half_open", Level.WARN), ("open", Level.BAD)]
)
def test_the_breaker_is_reported(state, level):
    assert flow.breaker(state, "auth").level is level


@pytest.mark.parametrize(
    ("stands", "level", "says"),
    [
        (Standing(0, 0, 0, 0.0, 0, ""), Level.OK, "empty"),
        (
            Standing(3, 20, 500, 90.0, 0, ""),
            Level.WARN,
            "20 events in 3 rows of ingest_spill, the oldest 90 s",
        ),
        (Standing(3, 20, 800, 90.0, 0, ""), Level.BAD, "80% of INGEST_SPILL_BYTES"),
        (Standing(3, 20, 500, 90.0, 1, "it is damaged"), Level.BAD, "1 round can't flow back: it is damaged"),
    ],
)
def test_what_stands_in_the_spill_is_told_of_by_age_room_and_reason(stands, level, says):
    found = flow.spill(stands, on=True, most=1000)
    assert found.level is level
    assert says in found.says


def test_without_a_spill_the_doctor_says_what_ingest_does():
    assert "refuses" in flow.spill(Standing(0, 0, 0, 0.0, 0, ""), on=False, most=1000).says


def test_the_keys_that_ingest_reads_are_compared_with_those_that_there_are() -> None:
    """No copy, another copy, and a key that is soon without a good text are worth a word."""
    stays, soon = Grant("stays", (INGEST,)), Grant("soon", (INGEST,), expires=2 * 86400.0)
    follows = msgspec.structs.replace(soon, expires=90 * 86400.0)
    told = [
        flow.keys({}, {}, 0.0),
        flow.keys({"a": stays}, {"a": stays}, 0.0),
        flow.keys({"a": soon, "b": follows}, {"a": soon, "b": follows}, 0.0),
        flow.keys({"a": stays}, None, 0.0),
        flow.keys({"a": stays}, {}, 0.0),
        flow.keys({}, {"a": stays}, 0.0),
        flow.keys({"a": stays}, {"a": soon}, 0.0),
        flow.keys({"a": soon, "b": stays}, {"a": soon, "b": stays}, 0.0),
    ]
    assert [one.level for one in told] == [Level.OK] * 3 + [Level.WARN] * 5
    assert "soon" in told[-1].says and "stays" not in told[-1].says
