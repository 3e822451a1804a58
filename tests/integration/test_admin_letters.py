"""The page of dead letters, as an operator uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine
from werkzeug.test import TestResponse

from mutt import codec, names
from mutt.entry import alert_fields
from mutt.event import Envelope, Segment
from mutt.formats.base import Rejected
from mutt.letters.desk import Desk
from mutt.letters.orders import Orders
from mutt.streams import books
from tests.admin_client import filled_in, notes_of, operator_of, token
from tests.bench import Bench, benches, event

#: What a sender may write to hurt who looks at it.
HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}\u202e\x1b[31m'


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url) as (made,):
        yield made


@pytest.fixture
def operator(bench: Bench, engine: Engine, database_url: str, redis_url: str) -> FlaskClient:
    return operator_of(engine, database_url, redis_url=redis_url)


def poisoned(bench: Bench, count: int = 1, message: str = "CRITICAL fan", **fields: object) -> list[str]:
    """Events that PostgreSQL refuses; their letters' ids."""
    bench.append(*[event(message, **{"severity": 99_999, **fields}) for _ in range(count)])
    bench.run()
    return [letter.id for letter in bench.services.letters.listed("alerts")]


def put(bench: Bench, queue: str, fields: list[object], why: bytes) -> str:
    """One letter as it stands in Redis, and its id."""
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    return str(bench.redis.xadd(names.DLQS[queue], {**told, "why": why}).decode())  # type: ignore[dict-item]


def refused(bench: Bench, count: int = 1, detail: str = "no such class") -> list[str]:
    """Letters of alerts that Moog refused, with the books; the rows say parked."""
    bench.append(*[event(f"ERROR disk {n}", f"host-{n}", severity=3) for n in range(count)])
    bench.run()
    alerts = bench.lane("minor")
    bench.redis.delete("mutt:alert_queue:minor", names.STANDING, names.HOLDERS)
    bench.redis.hincrby(names.LEDGER, "alerts.waiting", -count)
    bench.redis.hincrby(names.LEDGER, "alerts.parked", count)
    with bench.sql() as conn:
        conn.exec_driver_sql("UPDATE alerts SET status = 'parked'")
    told = '{"reason":"refused","detail":"%s","moog_status":400,"requests":2,"entry":"1795576504016-0"}'
    why = (told % detail).encode()
    return [put(bench, "moog", alert_fields(alert, 1)["fields"], why) for alert in alerts]


def rejected(bench: Bench, text: str, reason: str = "is missing") -> str:
    bench.services.letters.keep_rejected(
        "sender-7", [Rejected(0, "hostname", reason, text)], most_bytes=1 << 20
    )
    return next(letter.id for letter in bench.services.letters.listed("ingest"))


def press(operator: FlaskClient, page: str, action: str, **fields: str) -> TestResponse:
    """Press a button of a page."""
    return operator.post(action, data={"csrf_token": token(operator, page), **fields})


def text_of(response: TestResponse) -> str:
    """What stands on a page, without its markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", response.text)))


def test_letters_are_counted_by_reason_and_each_leads_to_its_list(
    operator: FlaskClient, bench: Bench
) -> None:
    poisoned(bench, 2)
    refused(bench)
    page = operator.get("/letters/")
    assert "alerts refused by PostgreSQL 2" in text_of(page)
    assert "moog refused 1" in text_of(page)
    (link,) = re.findall(r'href="(/letters/alerts/\?group=[^"]+)"', page.text)
    listed = text_of(operator.get(unescape(link)))
    assert "edit a copy without what it refuses" in listed
    assert listed.count("refused by PostgreSQL") == 3


def test_a_long_list_goes_page_by_page(operator: FlaskClient, bench: Bench) -> None:
    ids = poisoned(bench, 60)
    first = operator.get("/letters/alerts/?group=refused by PostgreSQL")
    (more,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = operator.get(unescape(more))
    shown = [re.findall(r'href="/letters/alerts/([0-9-]+)"', page.text) for page in (first, second)]
    assert [*shown[0], *shown[1]] == ids
    assert 'rel="next"' not in second.text


def test_one_letter_tells_all_that_is_known_of_it(operator: FlaskClient, bench: Bench) -> None:
    (id_,) = refused(bench, detail="no such class")
    said = text_of(operator.get(f"/letters/moog/{id_}"))
    for wanted in (
        "Moog refused this alert",
        "no such class",
        "400",
        "host-0",
        "Attempts 2",
        "First queued (UTC)",
    ):
        assert wanted in said


def test_a_hostile_letter_is_text_on_every_page(operator: FlaskClient, bench: Bench) -> None:
    (event_,) = poisoned(bench, 1, HOSTILE, tags={HOSTILE: HOSTILE}, program=HOSTILE)
    item = rejected(bench, HOSTILE, HOSTILE)
    fields, _ = codec.encode(Envelope([Segment("b", "c", [event(HOSTILE)])]))
    put(
        bench, "alerts", fields, b'{"reason":"<script>1</script>","detail":"<script>2</script>","attempts":1}'
    )
    (group,) = bench.services.letters.counts("ingest")
    pages = ["/letters/", "/letters/alerts/", f"/letters/ingest/?group={group}", f"/letters/alerts/{event_}"]
    pages += [f"/letters/alerts/{event_}/edit", f"/letters/ingest/{item}", f"/letters/ingest/{item}/edit"]
    for page in pages:
        shown = operator.get(page)
        assert shown.status_code == 200, page
        assert "<script>" not in shown.text and "&lt;script&gt;" in shown.text, page
        assert "49" not in re.findall(r"&lt;/script&gt;(\S{2})", shown.text), page
        if not page.endswith("/edit"):
            assert "\u202e" not in text_of(shown) and "\x1b" not in text_of(shown), page
    tried = press(operator, f"/letters/ingest/{item}", f"/letters/ingest/{item}/try")
    assert tried.status_code == 200 and "<script>" not in tried.text


def test_a_letter_is_tried_and_nothing_is_written(operator: FlaskClient, bench: Bench) -> None:
    (id_,) = poisoned(bench)
    page = f"/letters/alerts/{id_}"
    said = text_of(press(operator, page, f"{page}/try"))
    assert "nothing was written" in said
    assert "smallint" in said
    assert "Page_and_ticket" in said
    assert (bench.rows(), bench.events) == ([], {"accepted": 1, "parked": 1})


def test_what_killed_workers_is_tried_too_for_it_cannot_end_the_page(
    operator: FlaskClient, bench: Bench
) -> None:
    fields, _ = codec.encode(Envelope([Segment("b", "c", [event("x")])]))
    id_ = put(bench, "alerts", fields, b'{"reason":"killed its worker","detail":"2 workers"}')
    answer = press(operator, f"/letters/alerts/{id_}", f"/letters/alerts/{id_}/try")
    assert (answer.status_code, "nothing was written" in text_of(answer)) == (200, True)


def test_a_copy_is_edited_and_what_was_not_touched_stays(operator: FlaskClient, bench: Bench) -> None:
    fields = {"tags": {"a=b": "x\r\ny", "site": "lon1"}, "program": "kernel", "raw": "as it\r\ncame\n"}
    (id_,) = poisoned(bench, 1, "CRITICAL fan\nsecond line", **fields)
    page = f"/letters/alerts/{id_}/edit"
    sent = filled_in(operator.get(page).text) | {"severity": "2", "state": "raise", "reason": "typo"}
    assert operator.post(page, data=sent).status_code == 302
    (entry,) = books.entries(bench.redis, names.INGEST_STREAM)
    (copy,) = codec.decode(Envelope, entry[1]).segments[0].events
    assert (copy.severity, copy.tags, copy.program) == (2, fields["tags"], "kernel")
    assert (copy.message, copy.raw) == ("CRITICAL fan\nsecond line", fields["raw"])
    bench.run()
    bench.check()
    (note,) = notes_of(bench.services.engine)
    assert (note.operation, note.reason, note.after["changed"]) == ("EDIT", "typo", "severity")
    assert f"EDIT mutt:dlq:alerts {id_}" in text_of(operator.get("/history/"))


def test_a_bad_copy_is_refused_beside_its_field_and_keeps_what_was_typed(
    operator: FlaskClient, bench: Bench
) -> None:
    (id_,) = poisoned(bench)
    page = f"/letters/alerts/{id_}/edit"
    sent = filled_in(operator.get(page).text) | {"severity": "99", "state": "raise", "message": "typed"}
    answer = operator.post(page, data=sent)
    assert answer.status_code == 422
    assert "write 0 (emergency) to 7 (debug)" in re.findall(r'id="severity-error">([^<]+)', answer.text)[0]
    assert filled_in(answer.text)["message"].strip() == "typed"
    assert bench.events == {"accepted": 1, "parked": 1}


def test_a_rejected_item_is_mended_and_goes_through_ingests_checks(
    operator: FlaskClient, bench: Bench
) -> None:
    id_ = rejected(bench, '{"message":"CRITICAL fan"}')
    page = f"/letters/ingest/{id_}/edit"
    sent = filled_in(operator.get(page).text)
    answer = operator.post(page, data=sent)
    assert (answer.status_code, "hostname is missing" in text_of(answer)) == (422, True)
    text = '{"message":"CRITICAL fan","hostname":"r9"}'
    assert operator.post(page, data=sent | {"text": text}).status_code == 302
    bench.run()
    assert [row.hostname for row in bench.rows()] == ["r9"]


def test_an_alerts_copy_is_edited(operator: FlaskClient, bench: Bench) -> None:
    (id_,) = refused(bench)
    page = f"/letters/moog/{id_}/edit"
    sent = filled_in(operator.get(page).text) | {"description": "short", "severity": "5"}
    assert operator.post(page, data=sent).status_code == 302
    assert [alert.description for alert in bench.lane("critical")] == ["short"]
    bench.record()
    bench.check()


def test_one_letter_is_sent_again_at_once(operator: FlaskClient, bench: Bench) -> None:
    first, _ = refused(bench, 2)
    page = f"/letters/moog/{first}"
    assert press(operator, page, f"{page}/replay").status_code == 302
    assert sorted(row.status for row in bench.alerts()) == ["parked", "waiting"]
    assert (len(bench.lane("minor")), bench.redis.xlen(names.DLQ_MOOG)) == (1, 1)
    (note,) = notes_of(bench.services.engine)
    assert (note.operation, note.record_id) == ("REPLAY", first)
    assert (
        operator.post(page + "/replay", data={"csrf_token": token(operator, "/letters/")}).status_code == 404
    )


def test_a_drop_wants_a_reason_and_keeps_it(operator: FlaskClient, bench: Bench) -> None:
    (id_,) = poisoned(bench)
    page = f"/letters/alerts/{id_}"
    assert press(operator, page, f"{page}/drop").status_code == 422
    assert bench.events == {"accepted": 1, "parked": 1}
    assert press(operator, page, f"{page}/drop", reason="a test device").status_code == 302
    assert bench.events == {"accepted": 1, "dropped": 1}
    (note,) = notes_of(bench.services.engine)
    assert (note.operation, note.reason, note.record_id) == ("DROP", "a test device", id_)


def test_what_became_of_an_alert_is_not_dropped(operator: FlaskClient, bench: Bench) -> None:
    why = '{"reason":"refused by PostgreSQL","what":"outcome"}'
    id_ = bench.redis.xadd(names.DLQ_MOOG, {"v": "1", "n": 1, "id": "x", "d": b"?", "why": why}).decode()
    assert "Drop this letter" not in operator.get(f"/letters/moog/{id_}").text
    form = {"csrf_token": token(operator, "/rules/new"), "reason": "r"}
    answer = operator.post(f"/letters/moog/{id_}/drop", data=form)
    assert (answer.status_code, "replay it once PostgreSQL takes it" in text_of(answer)) == (409, True)
    assert bench.redis.xlen(names.DLQ_MOOG) == 1
    assert "1 note of what became of alerts can't be recorded" in text_of(operator.get("/"))


def test_all_of_a_reason_are_sent_again_by_workers_and_the_page_shows_how_far(
    operator: FlaskClient, bench: Bench
) -> None:
    refused(bench, 20)
    page = "/letters/moog/?group=refused"
    assert press(operator, page, "/letters/moog/all", group="refused", what="REPLAY").status_code == 302
    assert len(bench.lane("minor")) == 0, "the page itself moves nothing"
    desk, orders = Desk(bench.services), Orders(bench.redis)
    orders.work(desk, within=0.0)
    assert "12 of 20 letters sent again" in text_of(operator.get(page))
    assert press(operator, page, "/letters/moog/all", group="refused", what="REPLAY").status_code == 409
    assert press(operator, page, "/letters/moog/stop", group="refused").status_code == 302
    orders.work(desk, within=0.0)
    assert "12 of 20 letters sent again, stopped" in text_of(operator.get(page))
    assert "REPLAY mutt:dlq:moog refused" in text_of(operator.get("/history/"))


def test_all_of_a_reason_are_dropped_for_a_reason_only(operator: FlaskClient, bench: Bench) -> None:
    poisoned(bench, 2)
    page = "/letters/alerts/?group=refused by PostgreSQL"
    given = {"group": "refused by PostgreSQL", "what": "DROP"}
    assert press(operator, page, "/letters/alerts/all", **given).status_code == 409
    assert press(operator, page, "/letters/alerts/all", **given, reason="a drill").status_code == 302
    Orders(bench.redis).work(Desk(bench.services))
    assert bench.events == {"accepted": 2, "dropped": 2}


def test_without_the_pages_token_nothing_is_done(operator: FlaskClient, bench: Bench) -> None:
    (id_,) = poisoned(bench)
    for action in (f"{id_}/try", f"{id_}/replay", f"{id_}/drop", f"{id_}/edit", "all", "stop"):
        given = {"reason": "x", "message": "y", "severity": "2", "what": "DROP"}
        answer = operator.post(f"/letters/alerts/{action}", data=given)
        assert (action, answer.status_code) == (action, 400)
    assert bench.events == {"accepted": 1, "parked": 1}
    assert not bench.redis.exists(names.LETTER_ORDERS)


def test_what_is_not_there_is_said_to_be_none(operator: FlaskClient) -> None:
    listed = [f"alerts/?after={after}" for after in ("x", "-1", "99999999999999999999999-1")]
    for page in ("x/", "x/1-1", "alerts/1-1", "alerts/zz", *listed):
        answer = operator.get(f"/letters/{page}")
        assert (page, answer.status_code) == (page, 404)
        assert "Traceback" not in answer.text


def test_without_redis_a_page_is_a_sentence(engine: Engine, database_url: str) -> None:
    away = operator_of(engine, database_url, redis_url="redis://:sekret@127.0.0.1:9/0")
    for page in ("/letters/", "/letters/moog/", "/letters/moog/1-1", "/letters/moog/1-1/edit"):
        answer = away.get(page)
        assert (answer.status_code, "Redis does not answer" in answer.text) == (503, True)
        assert "sekret" not in answer.text and "Traceback" not in answer.text
    unset = operator_of(engine, database_url)
    assert (unset.get("/letters/").status_code, "REDIS_URL" in unset.get("/letters/").text) == (503, True)


def test_without_postgresql_letters_are_shown_and_none_is_moved(bench: Bench, redis_url: str) -> None:
    (id_,) = poisoned(bench)
    url = "postgresql+psycopg2://mutt:sekret@127.0.0.1:9/mutt"
    away = operator_of(create_engine(url, connect_args={"connect_timeout": 2}), url, redis_url=redis_url)
    page = f"/letters/alerts/{id_}"
    assert away.get(page).status_code == 200
    for action in ("replay", "drop", "try"):
        answer = press(away, page, f"{page}/{action}", reason="r")
        assert (answer.status_code, "PostgreSQL does not answer" in answer.text) == (503, True)
        assert "sekret" not in answer.text
    assert bench.events == {"accepted": 1, "parked": 1}


def test_a_stranger_sees_no_letter(bench: Bench, engine: Engine, database_url: str, redis_url: str) -> None:
    (id_,) = poisoned(bench)
    stranger = operator_of(engine, database_url, redis_url=redis_url).application.test_client()
    for page in ("/letters/", f"/letters/alerts/{id_}", f"/letters/alerts/{id_}/edit"):
        assert stranger.get(page).status_code == 302


def test_a_time_is_told_in_utc(operator: FlaskClient, bench: Bench) -> None:
    (id_,) = poisoned(bench)
    parked = datetime.fromtimestamp(int(id_.split("-")[0]) / 1000, UTC)
    assert f"{parked:%Y-%m-%d %H:%M:%S}" in operator.get(f"/letters/alerts/{id_}").text
