"""Sources on real servers: what several processes of ingest heard is one picture, and a silence is told of once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import redis
from click.testing import CliRunner
from sqlalchemy import Row, select, text

from mutt import names, watching
from mutt.cli import cli
from mutt.cli.sources import NoSource
from mutt.gauges import RedisGauges
from mutt.grant import INGEST, Grant, digest_of
from mutt.pulse.collect import Collector
from mutt.settings import Settings
from mutt.source import Source
from mutt.sources.clock import Minute
from mutt.sources.fields import Field, Formed
from mutt.sources.heard import LONGEST, REASONS, Gathering, Heard, Looked, Refusal, Report
from mutt.sources.learn import Day
from mutt.sources.observed import Count, Observed
from mutt.sources.view import Seen
from mutt.store import keys, windows
from mutt.store import sources as rows
from mutt.store.tables import sources
from mutt.store.users import Role
from mutt.streams import books
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from mutt.streams.sources import KEPT, Reports
from mutt.web import telling
from mutt.web.admin.app import make_admin
from mutt.web.intake import Intake
from mutt.web.signatures import PRESETS
from tests.admin_client import operator_of, settings_of
from tests.bench import Bench, benches
from tests.doors import Door, served
from tests.integration.test_api import Api
from tests.integration.test_ingest import KEY, Ingest
from tests.people import browser, person
from tests.servers import Live
from tests.waiting import wait_until

MINUTE = 60.0

#: When the stories of these tests begin: all of them are over by now.
START = int(time.time()) - 7200 + 0.1234564  # of a second: more than PostgreSQL keeps of one


#: Names of no source.
NOBODY = ("nobody", "%ff", "x" * 300)


@pytest.fixture
def pair(redis_url: str, database_url: str) -> Iterator[list[Bench]]:
    """Two workers of housekeeping."""
    with benches(redis_url, database_url, 2) as made:
        yield made


@pytest.fixture
def bench(pair: list[Bench]) -> Bench:
    return pair[0]


def key(bench: Bench, name: str = "probe", **source: Any) -> str:
    """A key of this name; ``source`` is what is known of who sends with it."""
    with bench.sql() as conn:
        text = keys.make(conn, name, [INGEST], changed_by="ada")[1]
        if source:
            keys.describe(conn, name, Source(**source), changed_by="ada")
    return text


def hear(bench: Bench, *speaks: float, until: float, since: float = 0.0, **more: Any) -> None:
    """An ingest that listens from ``since`` to ``until`` (seconds of the story), where ``probe`` speaks."""
    said = sorted({*speaks, *range(int(since), int(until) + 1, 10)})
    with bench.redis.pipeline() as pipe:
        for second in said:
            at = START + second
            told = {"requests": 1, "events": 1, "at": at, "first": at, "last": at, **more}
            heard = {"probe": Heard(**told)} if second in speaks else {}
            packed = msgspec.msgpack.encode(Report(at, heard))
            pipe.xadd(names.SOURCES, {"d": packed}, id=f"{round(at * 1000)}-*")
        pipe.execute()


def look(bench: Bench, second: float) -> dict[str, int]:
    """The task, at this second of the story."""
    return watching.work(bench.services, START + second)


def silences(bench: Bench) -> list[tuple[str, int, str]]:
    """What Moog is to be told: signature, severity and description of each alert."""
    bench.run()
    return [(row.signature, row.severity, row.description) for row in bench.alerts()]


def probe(bench: Bench, name: str = "probe") -> Seen:
    with bench.sql() as conn:
        shown = watching.look(conn, bench.services)
    return next(one for one in shown.sources if one.name == name)


def row(bench: Bench) -> Row[Any]:
    with bench.sql() as conn:
        return conn.execute(select(sources)).one()


# ---- what is heard


def test_what_two_processes_heard_is_one_picture(bench: Bench, redis_url: str) -> None:
    mine, theirs = Ingest(redis_url), Ingest(redis_url)
    key(bench)
    for process, n in ((mine, 3), (theirs, 5)):
        process.knows(probe="the key of probe")
        for _ in range(n):
            process.post([{"hostname": "a", "message": "b"}, {"message": "c"}], key="the key of probe")
        process.post(b"<no>", "/ingest/snmptrap", key="the key of probe")
        telling.tell(process.app.extensions["heard"], Reports(process.redis))
    shown = probe(bench)
    assert shown.observed.events == 8
    watching.work(bench.services)
    after = probe(bench).observed
    assert (after.requests, after.events, after.refused, after.failed) == (10, 8, 10, 2)
    assert after.formats["native"].events == 8
    assert {one.field for one in after.why} == {"hostname", "body"}
    assert [wrong.kind for wrong in shown.wrong] == ["refused"]


def test_each_process_of_a_real_ingest_tells_of_it_also_as_it_ends(
    bench: Bench, redis_url: str, tmp_path: Path
) -> None:
    told = {"REDIS_URL": redis_url, "INGEST_API_KEY": KEY}
    body = b'{"hostname": "a", "message": "b"}'
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    with served("ingest", told, tmp_path, "-w", "2") as (port, _):
        assert {Door(port).ask(head.encode() + body)[0] for _ in range(40)} == {202}
    assert len(Reports(bench.redis).since("0-0")) >= 2
    watching.work(bench.services)
    assert probe(bench, "bootstrap").observed.events == 40


def test_the_key_of_the_environment_is_a_source_too(bench: Bench, ingest_of: Ingest) -> None:
    ingest_of.post({"hostname": "a", "message": "b"})
    telling.tell(ingest_of.app.extensions["heard"], Reports(ingest_of.redis))
    assert probe(bench, "bootstrap").observed.events == 1
    assert watching.work(bench.services) == {"read": 1, "silent": 0, "told": 0}
    assert probe(bench, "bootstrap").is_live
    assert Reports(bench.redis).standing().keys() == {"bootstrap"}


def test_who_is_known_is_seen_to_have_been_refused_whatever_for(redis_url: str) -> None:
    """And nothing is said of a source by whoever only knows its name."""
    ingest = Ingest(redis_url, ingest_max_body=1000)
    grants = {
        digest_of(b"probe"): Grant("probe", (INGEST,), formats=("syslog",)),
        digest_of(b"reads"): Grant("reads", ("management",)),
    }
    signing = msgspec.structs.replace(PRESETS["generic"], secret="sealed")
    KeysCopy(ingest.redis).publish(grants, {"signs": Grant("signs", (INGEST,), signing=signing)})
    intake: Intake = ingest.app.extensions["ingest"]
    for status, body, path in (
        (413, b"x" * 2000, "/ingest"),
        (403, b"{}", "/ingest/zabbix"),
        (404, b"{}", "/ingest/zabix"),
        (403, b'{"hostname": "a", "message": "b"}', "/ingest"),
    ):
        assert ingest.post(body, path, key="probe").status_code == status
    assert ingest.post({}, "/ingest", key="reads").status_code == 403
    assert ingest.post(b"x" * 2000, "/ingest", key="another").status_code == 401
    assert ingest.post(b"x" * 2000, "/signed/signs", key=None).status_code == 413
    assert ingest.post(b"x", "/signed/signs", key=None).status_code in (401, 503)
    heard = intake.heard.take()
    assert heard.keys() == {"probe"}
    assert (heard["probe"].failed, heard["probe"].refused, heard["probe"].events) == (4, 4, 0)
    assert [one.field for one in heard["probe"].why] == ["format", "format", "format", "body"]


def test_a_report_is_one_command_whatever_was_heard(ingest_of: Ingest) -> None:
    for _ in range(20):
        ingest_of.post({"hostname": "a", "message": "b"})
    before = ingest_of.redis.info("commandstats")
    telling.tell(ingest_of.app.extensions["heard"], Reports(ingest_of.redis))
    after = ingest_of.redis.info("commandstats")
    calls = {name: stat["calls"] - before.get(name, {"calls": 0})["calls"] for name, stat in after.items()}
    assert {name: n for name, n in calls.items() if n} == {"cmdstat_xadd": 1, "cmdstat_info": 1}


@pytest.fixture
def ingest_of(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    made.knows()
    return made


def test_what_is_heard_while_redis_is_away_is_told_when_it_is_back(own_redis: Live) -> None:
    ingest = Ingest(own_redis.url)
    intake: Intake = ingest.app.extensions["ingest"]
    ingest.post({"hostname": "a", "message": "b"})
    own_redis.kill()
    ingest.post({"hostname": "a", "message": "b"})
    reports = Reports(connect(own_redis.url))
    with pytest.raises(redis.RedisError):
        telling.tell(intake.heard, reports)
    own_redis.start()
    telling.tell(intake.heard, reports)
    (came,) = reports.since("0-0")
    heard = came.report.heard["bootstrap"]
    assert (heard.requests, heard.events) == (2, 1)
    assert heard.turned_away > heard.last


def test_a_thread_tells_it_and_once_more_at_the_end(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "EVERY", 0.05)
    ingest = Ingest(redis_url)
    reports = Reports(ingest.redis)
    end = telling.start(Settings.from_env({}, redis_url=redis_url), ingest.app.extensions["heard"])
    wait_until(lambda: reports.since("0-0"), 5, "a report of an ingest that heard nobody")
    ingest.post({"hostname": "a", "message": "b"})
    end()
    assert [one.report.heard["bootstrap"].events for one in reports.since("0-0") if one.report.heard] == [1]


def test_reports_that_nobody_reads_are_forgotten(redis_url: str) -> None:
    client = connect(redis_url)
    for _ in range(KEPT + 300):
        Reports(client).tell({}, time.time())
    assert client.xlen(names.SOURCES) < KEPT + 200


@pytest.mark.parametrize(("sources", "kept", "most"), [(50, 5, 64), (150, 1, 64), (1_000, 0, 200)])
def test_what_is_said_of_many_who_fail_is_small(redis_url: str, sources: int, kept: int, most: int) -> None:
    """Whatever they send: what is too much goes without fields, then without reasons, and the counts stay."""
    now, gathering = time.time(), Gathering()
    for i, n in product(range(sources), range(REASONS)):
        gathering.failed(f"{'n' * 60}{i:04}", "body", f"{n}{'w' * (LONGEST if kept == 0 else 180)}")
    heard = gathering.take()
    reports = Reports(connect(redis_url))
    reports.tell(heard, now)
    ((_, fields),) = reports._client.xrange(names.SOURCES)
    assert len(fields[b"d"]) <= most << 10
    (came,) = reports.since("0-0")
    assert {(one.failed, len(one.why)) for one in came.report.heard.values()} == {(REASONS, kept)}


def test_an_emptied_redis_costs_what_was_not_read_and_no_more(bench: Bench) -> None:
    key(bench)
    hear(bench, 0, 30, until=30)
    look(bench, 30)
    bench.redis.flushall()
    assert probe(bench).observed.events == 2
    hear(bench, 10, until=10)  # a clock that was set back, too
    look(bench, 60)
    assert probe(bench).observed.events == 3


def test_reports_are_read_once_by_two_at_a_time(pair: list[Bench]) -> None:
    key(pair[0])
    hear(pair[0], *range(0, 600, 10), until=600)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: look(pair[i % 2], 600), range(8)))
    assert probe(pair[0]).observed.events == 60
    assert pair[0].redis.xlen(names.SOURCES) == 0


def test_who_reads_waits_for_who_reads(pair: list[Bench]) -> None:
    """Else both would tell of one silence, each under a key of its own."""
    key(pair[0], every=300.0)
    hear(pair[0], 0, until=600)
    with ThreadPoolExecutor(1) as pool:
        with pair[0].sql() as conn:
            rows.hold(conn)
            other = pool.submit(look, pair[1], 600)
            wait_until(lambda: conn.execute(_WAITING).scalar_one(), 5, "the other waits")
            assert not other.done()
        assert other.result(5)["told"] == 1


_WAITING = text(
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE NOT granted AND datname = current_database()"
)


def test_what_cannot_be_read_costs_itself_alone(bench: Bench) -> None:
    key(bench)
    bench.redis.xadd(names.SOURCES, {"d": b"\xff"}, id="1-1")
    bench.redis.xadd(names.SOURCES, {"other": b""}, id="1-2")
    hear(bench, 0, until=0)
    look(bench, 0)
    assert probe(bench).observed.events == 1
    with bench.sql() as conn:
        conn.execute(sources.update().values(observed=b"\xff"))
    hear(bench, 30, until=30, since=30)
    look(bench, 30)
    assert probe(bench).observed.events == 1


# ---- silence


def test_a_silence_is_told_of_once_and_ends_under_the_same_signature(pair: list[Bench]) -> None:
    bench = pair[0]
    key(bench, every=300.0, team="WAN")
    hear(bench, 0, 60, until=1200)
    with ThreadPoolExecutor(2) as pool:  # both by the same clock: it is Redis'
        for second in range(60, 1201, 60):
            list(pool.map(look, pair, [second] * 2))
    [(signature, severity, says)] = silences(bench)
    assert (signature, severity) == ("probe::source-silent", 3)
    assert says.startswith("Source probe is silent: no event of it was accepted for ")
    assert bench.alerts()[0].team == "WAN"
    assert probe(bench).silent_since == pytest.approx(START + 60, abs=0.01)
    assert Reports(bench.redis).standing()["probe"].silent_since == pytest.approx(START + 60, abs=0.01)
    hear(bench, 1260, until=1500, since=1230)
    for second in (1260, 1320, 1500):
        look(bench, second)
    (_, (signature, severity, says)) = silences(bench)
    assert (signature, severity, says) == (
        "probe::source-silent",
        0,
        "Source probe is heard again, after 20 min",
    )
    assert bench.alerts()[0].cleared_by == bench.alerts()[1].alert_id
    assert probe(bench).silent_since is None
    assert balanced(bench) == {"accepted": 2, "settled": 2}


def balanced(bench: Bench) -> dict[str, int]:
    """The books of events, which balance."""
    found = books.read(bench.redis)
    assert found.events["accepted"] == sum(n for name, n in found.events.items() if name != "accepted")
    return {name: n for name, n in found.events.items() if n}


def test_a_source_that_was_never_heard_is_waited_for_from_when_that_was_said(bench: Bench) -> None:
    key(bench, every=300.0)
    hear(bench, until=900)
    look(bench, 60)
    look(bench, 360)
    assert silences(bench) == []
    look(bench, 400)
    [(_, _, says)] = silences(bench)
    assert "it was never heard" in says


def test_a_learned_habit_is_watched_and_can_be_left_alone(redis_url: str, database_url: str) -> None:
    with (
        benches(redis_url, database_url) as (bench,),
        benches(redis_url, database_url, silence_learned=False) as (other,),
    ):
        key(bench)
        for day in range(8):
            with bench.sql() as conn:
                known = rows.stored(conn).get("probe", watching.FRESH)
                at = START + (day - 8) * 86_400
                pauses = (*known.observed.pauses, Day(int(at // 86_400), 600.0))
                observed = msgspec.structs.replace(known.observed, pauses=pauses, event_at=START)
                rows.keep(conn, {"probe": known._replace(observed=observed)})
        hear(bench, 0, until=2000)
        look(other, 1990)
        assert silences(bench) == []
        look(bench, 1190)
        assert silences(bench) == []
        look(bench, 1990)
        [(_, _, says)] = silences(bench)
        assert "it was always heard within 20 min" in says


@pytest.mark.parametrize("hole", ["ingest", "redis"])
def test_an_outage_gives_no_alarm_and_each_source_its_time_anew(bench: Bench, hole: str) -> None:
    key(bench, every=300.0)
    hear(bench, 0, until=60)
    look(bench, 60)
    if hole == "redis":
        bench.redis.flushall()
    look(bench, 3000)  # nobody listens
    hear(bench, until=3290, since=3000)
    look(bench, 3001)
    look(bench, 3290)
    assert silences(bench) == []
    hear(bench, until=3400, since=3300)
    look(bench, 3400)
    assert len(silences(bench)) == 1


def test_a_key_that_ends_is_watched_no_more_and_its_alarm_ends(bench: Bench) -> None:
    key(bench, every=300.0)
    hear(bench, 0, until=1200)
    look(bench, 600)
    with bench.sql() as conn:
        keys.revoke(conn, "probe", changed_by="ada")
    for second in (660, 720, 1200):
        look(bench, second)
    assert [says for _, _, says in silences(bench)][1:] == ["Source probe is not waited for any more"]
    assert Reports(bench.redis).standing() == {}


def test_what_was_seen_before_a_full_queue_is_told_when_there_is_room(
    redis_url: str, database_url: str
) -> None:
    with (
        benches(redis_url, database_url) as (bench,),
        benches(redis_url, database_url, ingest_max_bytes=1) as (full,),
    ):
        key(bench, every=300.0)
        hear(bench, 0, until=600)
        assert look(full, 600)["told"] == 0
        assert row(bench).owed is not None
        hear(bench, 620, until=620, since=620)
        assert look(full, 660)["told"] == 0
        assert look(bench, 720)["told"] == 1
        look(bench, 780)
        assert [severity for _, severity, _ in silences(bench)] == [3, 0]
        assert balanced(bench) == {"accepted": 2, "settled": 2}


def test_where_one_can_not_be_told_of_the_others_are_not_tried(
    redis_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each would wait as long for nothing, and write a line of its own into the log."""
    with (
        benches(redis_url, database_url) as (bench,),
        benches(redis_url, database_url, ingest_max_bytes=1) as (full,),
    ):
        for i in range(5):
            key(bench, f"probe-{i}", every=300.0)
        hear(bench, until=600)
        look(bench, 10)
        assert look(full, 400) == {"read": 0, "silent": 5, "told": 0}
        later = [one.getMessage() for one in caplog.records if "told" in one.getMessage()]
        assert len(later) == 2 and "of 4 other sources" in later[1]
        assert look(bench, 460)["told"] == 5


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "forgotten"])
def test_a_death_after_the_append_tells_it_no_second_time(
    bench: Bench, remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    key(bench, every=300.0)
    hear(bench, 0, until=1800)
    with monkeypatch.context() as dying:
        dying.setattr(rows, "appended", _die)
        with pytest.raises(KeyboardInterrupt):
            look(bench, 400)
    bench.run()
    if not remembered:  # after ten minutes
        bench.redis.delete(*bench.redis.keys("mutt:round:*"))
    for second in (1010, 1070):
        look(bench, second)
    assert len(silences(bench)) == 1
    ends = {"accepted": 1, "settled": 1} if remembered else {"accepted": 2, "settled": 1, "duplicate": 1}
    assert balanced(bench) == ends


def test_what_an_older_mutt_owes_is_told_and_then_owed_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key(bench, every=300.0)
    hear(bench, 0, until=600)
    with monkeypatch.context() as dying:
        dying.setattr(rows, "appended", _die)
        with pytest.raises(KeyboardInterrupt):
            look(bench, 400)
    fewer = msgspec.msgpack.encode(msgspec.msgpack.decode(row(bench).owed)[:-2])
    with bench.sql() as conn:
        conn.execute(sources.update().values(owed=fewer))
    assert look(bench, 460)["told"] == 1
    assert look(bench, 520)["told"] == 0
    assert row(bench).owed is None


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_maintenance_window_holds_it_as_any_alert(bench: Bench) -> None:
    key(bench, every=300.0)
    at = datetime.fromtimestamp(START, UTC)
    window = {
        "name": "new cards", "owner": "ada", "hostname": "prob*",
        "starts_at": at.isoformat(), "ends_at": (at + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    with bench.sql() as conn:
        windows.save(conn, window, changed_by="ada")
    hear(bench, 0, until=600)
    look(bench, 600)
    bench.run()
    bench.record()
    assert [(one.status, one.reason.partition(":")[0]) for one in bench.alerts()] == [
        ("cancelled", "maintenance")
    ]


def test_no_sender_can_end_the_alarm(bench: Bench) -> None:
    key(bench, every=300.0)
    hear(bench, 0, until=600)
    look(bench, 600)
    bench.run()
    raised = bench.alerts()[0]
    assert raised.clear_key not in ("", None, "probe", "source-silent")
    assert raised.clear_key == str(row(bench).silence)


# ---- who looks


def furnish(bench: Bench) -> None:
    """A source that is silent, one of which much is refused, and one that was never heard."""
    key(bench, every=300.0)
    key(bench, "quiet")
    with bench.sql() as conn:
        known = Observed(
            first_at=START, heard_at=START + 600, event_at=START, events=9, refused=4, requests=13, bytes=900,
            minutes=(Count(int(START // 60), 9, 4),), why=(Refusal("<b>&", "is \x1b[31m missing", START + 600, 4),),
            times=tuple(Minute(int(START // 60) - i, 3600.0, 3601.5) for i in range(9)),
            formats={"syslog": Formed(9, 200, START + 900, {"tags.<i>": Field(140, 1, 140, START)})},
        )  # fmt: skip
        rows.keep(conn, {"probe": rows.Stored(known)})
    hear(bench, until=900)
    look(bench, 900)


@pytest.mark.parametrize("fields", [True, False])
def test_a_field_that_came_back_a_moment_ago_has_not_vanished_for_who_reads_no_fields(
    bench: Bench, fields: bool
) -> None:
    key(bench)
    gone = Formed(
        900, 200, START, {"severity": Field(140, 1, 140, START - 900), "time": Field(200, 1, 200, START)}
    )
    with bench.sql() as conn:
        rows.keep(conn, {"probe": rows.Stored(Observed(event_at=START, formats={"syslog": gone}))})
        (seen,) = watching.look(conn, bench.services, fields=fields).sources
        assert [one.kind for one in seen.wrong] == ["fields"]
        hear(bench, 5, until=5, formats={"syslog": Looked(1, 1, {"severity": 1, "time": 1})})
        (seen,) = watching.look(conn, bench.services, fields=fields).sources
        assert (seen.wrong, seen.observed.formats["syslog"].events) == ((), 901)


def test_the_pages_show_what_is_wrong_first_and_no_markup_of_senders(
    bench: Bench, database_url: str, redis_url: str
) -> None:
    furnish(bench)
    operator = operator_of(bench.services.engine, database_url, redis_url=redis_url)
    page = operator.get("/sources/").text
    assert (
        page.index("Something is wrong")
        < page.index(">probe<")
        < page.index("Never heard")
        < page.index(">quiet<")
    )
    assert "2 sources." in page and "silent 1</a>" in page and ">Well<" not in page
    silent = operator.get("/sources/?q=silent").text
    assert "1 source." in silent and ">probe<" in silent and ">quiet<" not in silent
    for says in (
        "no event of it was accepted for",
        "as much as a time zone",
        "tags.&lt;i&gt; vanished: 100%",
    ):
        assert says in page
    one = operator.get("/sources/probe").text
    assert "&lt;b&gt;&amp;" in one and "\x1b" not in one and "<i>" not in one
    assert "/keys/probe" in one and "/letters/ingest/" in one and "300" not in one and "5 min, set" in one
    assert [operator.get(f"/sources/{name}").status_code for name in NOBODY] == [404] * len(NOBODY)
    assert operator.get("/sources/a%00b").status_code == 400
    assert "/sources/probe" in operator.get("/keys/probe").text


def test_a_viewer_sees_both_pages_and_is_offered_nothing_that_is_not_theirs(
    bench: Bench, database_url: str, redis_url: str
) -> None:
    furnish(bench)
    engine = bench.services.engine
    person(engine, "vera", Role.VIEWER)
    vera = browser(make_admin(settings_of(database_url, redis_url=redis_url), engine), "vera")
    for page in ("/sources/", "/sources/probe"):
        shown = vera.get(page)
        assert shown.status_code == 200 and "no event of it was accepted for" in shown.text
        main = re.search(r"<main.*</main>", shown.text, re.S)
        assert main and 'method="post"' not in main[0]
        links = set(re.findall(r'href="(/[^"]*)"', main[0]))
        assert {link: vera.get(unescape(link)).status_code for link in links} == dict.fromkeys(links, 200)
        assert links


def test_the_pulse_and_prometheus_are_told(bench: Bench) -> None:
    furnish(bench)
    assert Collector(bench.services).once().silent == {"probe": pytest.approx(START, abs=0.01)}
    told = {
        (metric.name, one.labels["source"]): one.value
        for metric in RedisGauges(bench.services).collect()
        for one in metric.samples
        if "source" in one.labels
    }
    assert told == {
        ("mutt_source_silent", "probe"): 1.0,
        ("mutt_source_silent", "quiet"): 0.0,
        ("mutt_source_last_seen_seconds", "probe"): pytest.approx(time.time() - START, abs=5),
    }


def test_a_page_without_redis_shows_what_was_read(bench: Bench, database_url: str) -> None:
    furnish(bench)
    operator = operator_of(bench.services.engine, database_url, redis_url="redis://127.0.0.1:1/0")
    page = operator.get("/sources/")
    assert page.status_code == 200 and "Redis does not answer" in page.text and ">probe<" in page.text


def test_programs_are_told_the_same(bench: Bench, database_url: str, redis_url: str) -> None:
    furnish(bench)
    app = make_admin(
        settings_of(database_url, redis_url=redis_url, management_api_key="key-of-this-test"),
        bench.services.engine,
    )
    api = Api(app, key="key-of-this-test")
    probe_, quiet = api("GET", "/sources").get_json()["sources"]
    assert (probe_["name"], probe_["counts"]["events"], probe_["expected"]) == (
        "probe",
        9,
        {"seconds": 300.0, "how": "set"},
    )
    assert [one["kind"] for one in probe_["wrong"]] == ["silent", "clock", "fields"]
    assert probe_["clock"] == {"behind_s": 3600.0, "late_s": 1.5}
    assert quiet["last_event"] is None
    assert api("GET", "/sources/probe").get_json()["formats"] == probe_["formats"]
    assert [api("GET", f"/sources/{name}").status_code for name in NOBODY] == [404] * len(NOBODY)


def test_a_shell_is_told_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(bench)
    monkeypatch.setattr("mutt.cli.sources.services", lambda: bench.services)
    monkeypatch.setattr("mutt.cli.common.console.width", 160)
    run = CliRunner().invoke
    listed = run(cli, ["sources"], catch_exceptions=False).output
    assert "probe" in listed and "silent: no event of it was accepted for" in listed
    shown = run(cli, ["sources", "probe"], catch_exceptions=False).output
    assert "5 min, set" in shown and "vanished" in shown and "\x1b[31m" not in shown
    assert orjson.loads(run(cli, ["sources", "probe", "--json"]).output)["name"] == "probe"
    with pytest.raises(NoSource, match="no source of the name"):
        run(cli, ["sources", "nobody"], catch_exceptions=False)
