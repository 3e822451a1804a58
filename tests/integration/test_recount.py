"""`mutt ledger --recount`: after a restore the ledger says what stands, and nothing that was parked is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pytest
import redis
from click.testing import CliRunner
from sqlalchemy import select, text

from mutt import names, recount
from mutt.balance import observe
from mutt.cli import cli, common
from mutt.errors import Refused
from mutt.store.tables import alerts, config_audit_log
from mutt.streams import books
from tests.bench import Bench, benches, event


@pytest.fixture
def bench(redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(redis_url, database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    yield made
    made.close()


def ledger(*arguments: str) -> tuple[int, str]:
    common.services.cache_clear()
    done = CliRunner().invoke(cli, ["ledger", *arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_an_older_redis_is_put_right_by_what_postgresql_has(bench: Bench) -> None:
    """A look changes nothing; applied, the books balance, and the history has who did it, why, and both figures."""
    for one in (event("quiet"), event()):
        bench.append(one)
    bench.run()
    bench.redis.hincrby(names.LEDGER, "events.settled", -2)
    bench.redis.hincrby(names.LEDGER, "events.accepted", -2)
    assert observe(bench.services, deep=True)[0].state == "double"
    code, said = ledger("--recount")
    assert (code, "nothing was changed" in said, "events.settled" in said) == (0, True, True)
    assert observe(bench.services, deep=True)[0].state == "double"
    assert ledger("--recount", "--apply")[0] == 2, "a reason is asked for"
    code, said = ledger("--recount", "--apply", "--who", "ops", "--reason", "restored")
    assert (code, "the ledger says so now" in said) == (0, True), said
    report = observe(bench.services, deep=True)[0]
    assert (report.state, report.disagree, report.events["settled"]) == ("balanced", {}, 2)
    assert ledger("--recount")[1].startswith("the ledger says what stands")
    with bench.sql() as conn:
        note = conn.execute(select(config_audit_log).where(config_audit_log.c.operation == "RECOUNT")).one()
    assert (note.changed_by, note.reason, note.table_name) == ("ops", "restored", "mutt:ledger")
    assert (note.before["events.settled"], note.after["events.settled"]) == (0, 2)


def test_an_alert_that_was_parked_and_has_no_letter_waits_again(bench: Bench) -> None:
    """Its letter went with the Redis that held it: the sweep is to find its row."""
    bench.append(event())
    bench.run()
    with bench.sql() as conn:
        conn.execute(text("UPDATE alerts SET status = 'parked', attempts = 5"))
    bench.redis.flushall()
    made = recount.plan(bench.services)
    assert len(made.letterless) == 1
    recount.apply(bench.services, made, changed_by="ops", reason="Redis is new")
    with bench.sql() as conn:
        row = conn.execute(select(alerts.c.status, alerts.c.attempts, alerts.c.reason)).one()
    assert tuple(row) == ("waiting", 0, recount.REASON)
    report = observe(bench.services, deep=False)[0]
    assert (report.balanced, report.alerts["waiting"], report.events["settled"]) == (True, 1, 1)


def test_while_something_moves_nothing_is_recounted(bench: Bench) -> None:
    """What waits would be counted at both ends, or at none."""
    bench.append(event())
    with pytest.raises(Refused, match="move"):
        recount.plan(bench.services)
    bench.run()
    made = recount.plan(bench.services)
    bench.redis.hincrby(names.LEDGER, "events.accepted", 1)
    with pytest.raises(Refused, match="move"):
        recount.apply(bench.services, made, changed_by="ops", reason="late")
    with bench.sql() as conn:
        assert not conn.execute(
            select(config_audit_log).where(config_audit_log.c.operation == "RECOUNT")
        ).all()


def test_with_redis_copied_first_an_event_in_between_is_audited_once(bench: Bench, redis_url: str) -> None:
    """It stands in both copies: its row is found, no second alert is raised, and a recount is all it takes."""
    bench.append(event())
    with redis.Redis.from_url(f"{redis_url.rpartition('/')[0]}/1") as copy:
        copy.flushdb()
    for key in bench.redis.scan_iter():
        bench.redis.copy(key, key, destination_db=1)
    bench.run()
    restored = Bench(f"{redis_url.rpartition('/')[0]}/1", bench.settings.database_url)
    restored.run()
    with restored.sql() as conn:
        assert conn.execute(text("SELECT count(*) FROM event_audit_log")).scalar_one() == 1
        assert conn.execute(text("SELECT count(*) FROM alerts")).scalar_one() == 1
    made = recount.plan(restored.services)
    if made.changes:
        recount.apply(restored.services, made, changed_by="ops", reason="restored")
    report = observe(restored.services, deep=True)[0]
    assert (report.state, report.disagree) == ("balanced", {})
    restored.redis.flushdb()
    restored.close()


def test_with_postgresql_copied_first_an_event_in_between_is_lost(bench: Bench, postgres_url: str) -> None:
    """It is in neither copy, and the books say so: why docs/backup.md has the order that it has."""
    bench.append(event())
    source = bench.settings.database_url.rpartition("/")[2]
    bench.services.engine.dispose()
    admin = psycopg2.connect(postgres_url)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {source}_copy TEMPLATE {source} STRATEGY file_copy")
    try:
        bench.run()
        restored = Bench(bench.settings.redis_url, f"{postgres_url.rpartition('/')[0]}/{source}_copy")
        restored.run()
        report = observe(restored.services, deep=False)[0]
        assert (report.state, report.lost) == ("lost", 1)
        restored.close()
        restored.services.engine.dispose()
    finally:
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {source}_copy WITH (FORCE)")
        admin.close()


def test_what_is_lost_is_said_before_the_ledger_forgets_it(bench: Bench) -> None:
    """PostgreSQL is the older one: afterwards nothing else knows."""
    bench.append(event("quiet"))
    bench.run()
    with bench.sql() as conn:
        conn.execute(text("TRUNCATE audit_ledger"))
    code, said = ledger("--recount")
    assert (code, "1 settled event without an audit row" in said) == (0, True), said


def test_with_several_servers_home_takes_the_difference(redis_urls: list[str], database_url: str) -> None:
    """The others' ledgers balance by themselves."""
    with benches(redis_urls[0], database_url, 1, stream_urls="\n".join(redis_urls)) as [bench]:
        for server in bench.services.ingest_servers:
            bench.append(event("quiet"), server=server)
        bench.run()
        for name in ("events.settled", "events.accepted"):
            bench.redis.hincrby(names.LEDGER, name, -1)
        made = recount.plan(bench.services)
        recount.apply(bench.services, made, changed_by="ops", reason="restored")
        assert observe(bench.services, deep=True)[0].state == "balanced"
        assert [books.read(client).events["settled"] for client in bench.everywhere] == [1, 1, 1]
