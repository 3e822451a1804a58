"""What a relay promises: what it took is on disk, and from there at ingest, once and in order, whatever happens."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from mutt.cli.listen import listen
from mutt.client.post import Poster
from mutt.errors import MuttError, SettingsError
from mutt.listen.aside import put_back, standing
from mutt.listen.batches import packed, syslog_object
from mutt.listen.buffer import BATCH, SPARE, Batch, Buffer
from mutt.listen.relay import Relay
from mutt.listen.sender import TRIES
from mutt.listen.serve import serve
from mutt.settings import Settings
from tests.answering import Told, refusal
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
KEY = "the-key-of-the-tests"

pytestmark = pytest.mark.usefixtures("no_long_waits")


def relay_of(ingest, tmp_path, **more):
    made = Relay(
        Buffer(tmp_path / "syslog.db"), partial(Poster, ingest.url, KEY), "syslog", **{"linger": 0.01, **more}
    )
    return made.start()


@pytest.fixture
def relay(ingest, tmp_path):
    made = relay_of(ingest, tmp_path)
    yield made
    made.close()


def lines(ingest):
    return [item["line"] for item in ingest.items]


def is_sent(relay):
    wait_until(lambda: not relay.waiting, 10)


def test_records_arrive_in_order_with_who_sent_them_and_when(ingest, relay):
    for n in range(2500):
        assert relay.put(b"<13>number %d" % n, f"192.0.2.{n % 7}", 1000.5 + n)
    is_sent(relay)
    assert ingest.items == [
        {"line": f"<13>number {n}", "peer": f"192.0.2.{n % 7}", "at": 1000.5 + n} for n in range(2500)
    ]
    assert {request.path for request in ingest.requests} == {"/ingest/syslog"}
    assert (relay.books.kept, relay.books.sent, relay.books.refused) == (2500, 2500, 0)


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (b"one\ntwo\r\n\nthree", "one\ntwo\r\n\nthree"),
        (b'"quoted" \\ \x00\x07', '"quoted" \\ \x00\x07'),
        ("größer".encode(), "größer"),
        ("größer".encode("latin-1"), "gr\udcf6\udcdfer"),
    ],
    ids=["line ends", "control characters", "UTF-8", "no UTF-8"],
)
def test_a_record_is_one_record_whatever_stands_in_it(ingest, relay, record, line):
    relay.put(record, "192.0.2.1", 1.0)
    is_sent(relay)
    assert lines(ingest) == [line]
    assert b"\n" not in syslog_object(record, "192.0.2.1", 1.0)


def test_records_of_other_formats_go_as_they_are(ingest, tmp_path):
    relay = Relay(
        Buffer(tmp_path / "a.db"), partial(Poster, ingest.url, KEY), "snmptrap", linger=0.01
    ).start()
    relay.put(b'{"trap_oid": "1.3"}', "192.0.2.1", 1.0)
    is_sent(relay)
    relay.close()
    assert ingest.items == [{"trap_oid": "1.3"}]
    assert ingest.requests[0].path == "/ingest/snmptrap"


def away_with(ingest, tmp_path, *records):
    """A relay that has these on disk, as one batch: ingest is away."""
    ingest.stop()
    relay = relay_of(ingest, tmp_path, linger=0.2)
    for record in records:
        relay.put(record, "192.0.2.1", 1.0)
    assert relay.flush(5)
    return relay


@pytest.mark.parametrize("status", [401, 403, 404, 415, 429, 503])
def test_what_may_become_better_keeps_the_records_waiting(ingest, relay, status):
    ingest.script = [refusal(status)] * (2 * TRIES)
    relay.put(b"one", "192.0.2.1", 1.0)
    is_sent(relay)
    assert lines(ingest) == ["one"]
    assert len({request.headers["idempotency-key"] for request in ingest.requests}) == 1
    assert relay.books.trouble == ""


PROBLEM = {"Content-Type": "application/problem+json"}
NOT_INGESTS = [
    Told(400, body={}),
    Told(403, body={"detail": "Forbidden"}),  # as FastAPI writes it
    Told(
        400, PROBLEM, {"detail": "headers: a name has characters that none may have"}
    ),  # ingest's server's own
    Told(400, PROBLEM, {"type": "https://proxy.example/no", "detail": "no", "rejected": [{"index": 0}]}),
]


@pytest.mark.parametrize("answer", NOT_INGESTS, ids=["a page", "an object", "the server", "a problem"])
def test_what_all_requests_are_answered_on_their_way_costs_no_record(ingest, relay, answer):
    ingest.proxy = lambda _request: answer
    for n in range(3):
        relay.put(b"%d" % n, "192.0.2.1", 1.0)
        relay.flush(5)
    wait_until(lambda: len(ingest.requests) > 2 * (TRIES + 1), 10)
    assert sum(not request.body for request in ingest.requests) >= 2  # asked with nothing
    assert (relay.waiting, relay.aside, relay.books.refused) == (3, 0, 0)
    ingest.proxy = lambda _request: None
    is_sent(relay)
    assert lines(ingest) == ["0", "1", "2"]


def refuses_odd_ones(status):
    return lambda request: Told(status, body={}) if b"odd" in request.body else None


@pytest.mark.parametrize("status", [400, 401, 403, 406, 413, 422])
def test_what_a_proxy_will_not_let_through_is_set_aside_and_can_be_put_back(ingest, relay, caplog, status):
    ingest.proxy = refuses_odd_ones(status)
    relay.put(b"odd", "192.0.2.1", 1.0)
    wait_until(lambda: relay.aside == 1, 10)
    relay.put(b"plain", "192.0.2.1", 1.0)
    is_sent(relay)
    assert lines(ingest) == ["plain"]
    assert (relay.books.sent, relay.books.refused, relay.books.trouble) == (1, 0, "")
    key = ingest.requests[0].headers["idempotency-key"]
    told = [record.getMessage() for record in caplog.records if key in record.getMessage()]
    assert len(told) == (1 if status == 413 else 2)
    assert "is set aside" in told[-1]
    file = relay._buffer._file
    (one,) = standing(file)
    assert (one.idempotency, one.records, one.why) == (key, 1, str(status))
    ingest.proxy = lambda _request: None
    assert put_back(file) == 1
    wait_until(lambda: lines(ingest) == ["plain", "odd"], 10)
    wait_until(lambda: not relay.aside, 10)
    is_sent(relay)
    assert (standing(file), put_back(file)) == ([], 0)


@pytest.mark.parametrize("status", [403, 413])
def test_of_a_batch_only_what_is_not_let_through_is_set_aside(ingest, tmp_path, status):
    relay = away_with(ingest, tmp_path, b"0", b"1", b"odd", b"3", b"4")
    ingest.proxy = refuses_odd_ones(status)
    ingest.start()
    is_sent(relay)
    tries = len(ingest.requests)
    relay.put(b"odd again", "192.0.2.1", 1.0)
    wait_until(lambda: relay.aside == 2, 10)
    relay.close()
    assert len(ingest.requests) - tries <= 2  # it is known now that there are such
    assert lines(ingest) == ["0", "1", "3", "4"]
    assert [one.records for one in standing(tmp_path / "syslog.db")] == [1, 1]


def test_a_batch_that_the_disk_has_damaged_holds_up_nobody(ingest, tmp_path):
    ingest.stop()
    relay = relay_of(ingest, tmp_path)
    relay._buffer.add([Batch("damaged", 2, 1.0, b"no gzip")])
    ingest.start()
    wait_until(lambda: relay.aside == 2, 10)
    relay.put(b"one", "192.0.2.1", 1.0)
    is_sent(relay)
    relay.close()
    assert lines(ingest) == ["one"]


def test_what_stands_aside_takes_room_and_is_there_after_a_restart(ingest, tmp_path):
    ingest.script = [Told(413, body={})]
    relay = relay_of(ingest, tmp_path)
    relay.put(os.urandom(500), "192.0.2.1", 1.0)
    wait_until(lambda: relay.aside, 10)
    relay.close()
    again = relay_of(ingest, tmp_path, most=500)
    assert (again.aside, again.has_room) == (1, False)
    put_back(tmp_path / "syslog.db")
    wait_until(lambda: again.has_room, 10)
    again.close()


def test_a_command_shows_what_stands_aside_and_puts_it_back(tmp_path, monkeypatch):
    monkeypatch.setenv("LISTEN_BUFFER", str(tmp_path))
    buffer = Buffer(tmp_path / "syslog.db")
    buffer.set_aside(Batch("a-key", 7, 1795430533.0, b"body"), "400")
    shell = CliRunner()
    assert re.search(
        r"a-key +7 +4 +2026-11-23 10:42:13 +400", shell.invoke(listen, ["aside", "syslog"]).output
    )
    assert shell.invoke(listen, ["aside", "syslog", "--again"]).output == "7 records put back\n"
    first = buffer.first()
    buffer.close()
    assert first is not None
    assert first[:4] == ("a-key", 7, 1795430533.0, b"body")


def test_where_no_listener_was_nothing_stands_aside(tmp_path):
    with pytest.raises(SettingsError, match="LISTEN_BUFFER"):
        standing(tmp_path / "syslog.db")


def test_what_ingest_refuses_for_good_holds_up_nobody(ingest, relay, caplog):
    ingest.script = [refusal(400, rejected=[{"index": 0, "field": "line", "reason": "is missing"}])]
    relay.put(b"one", "192.0.2.1", 1.0)
    is_sent(relay)
    relay.put(b"two", "192.0.2.1", 1.0)
    is_sent(relay)
    assert lines(ingest) == ["two"]
    assert (relay.books.sent, relay.books.refused) == (1, 1)
    assert "refuses 1 of 1 record: is missing" in caplog.text


def test_too_much_at_once_goes_in_parts_under_keys_that_follow_from_the_first(ingest, tmp_path):
    relay = away_with(ingest, tmp_path, b"0", b"1", b"2", b"3")
    ingest.script = [refusal(413), refusal(413)]
    ingest.start()
    is_sent(relay)
    relay.close()
    assert lines(ingest) == ["0", "1", "2", "3"]
    keys = [request.headers["idempotency-key"] for request in ingest.requests]
    assert keys == [keys[0] + part for part in ("", "a", "aa", "ab", "b")]


def test_the_parts_of_a_batch_are_on_disk_so_that_a_restart_doubles_none(ingest, tmp_path):
    """Whoever found the batch too large may have learned meanwhile to take it whole."""
    relay = away_with(ingest, tmp_path, b"0", b"1", b"2", b"3")
    ingest.script = [refusal(413), Told(takes=True)] + [Told(503)] * 1000
    ingest.start()
    wait_until(lambda: relay.books.retries > 1, 10)
    relay.close(0.05)
    assert lines(ingest) == ["0", "1"]
    ingest.script = []
    again = relay_of(ingest, tmp_path)
    is_sent(again)
    again.close()
    assert lines(ingest) == ["0", "1", "2", "3"]


def test_while_ingest_is_away_or_slow_few_requests_become_of_many_small_batches(ingest, tmp_path):
    """A request for each tenth of a second would be more than a sender far away can make."""
    ingest.stop()
    relay = relay_of(ingest, tmp_path)
    records = [b"%d \xff\0\r\n" % n + os.urandom(3) for n in range(100)]
    for record in records:
        relay.put(record, "192.0.2.1", 1.0)
        assert relay.flush(5)
    assert relay.waiting == 100
    size = relay.waiting_bytes
    ingest.start()
    is_sent(relay)
    assert relay.waiting_bytes == 0 < size
    relay.close()
    assert lines(ingest) == [record.rstrip(b"\r\n\0").decode(errors="surrogateescape") for record in records]
    assert len(ingest.requests) <= 3  # the one that was tried meanwhile, and the others together


def test_what_is_written_into_a_batch_is_no_more_than_a_request_may_have(tmp_path):
    buffer = Buffer(tmp_path / "syslog.db")
    buffer.add([packed([b"x"] * 600, 1.0)])
    buffer.add([packed([b"y"] * 400, 2.0)])
    buffer.add([packed([b"z"], 3.0)])
    first = buffer.first()
    buffer.add([packed([b"more"], 4.0)])
    found = [first]
    while found[-1]:
        buffer.remove(found[-1])
        found.append(buffer.first())
    assert [(one.records, one.at) for one in found[:-1]] == [(1000, 1.0), (2, 3.0)]
    assert gzip.decompress(found[0].body).split(b"\n") == [b"x"] * 600 + [b"y"] * 400
    assert gzip.decompress(found[1].body) == b"z\nmore"
    assert (buffer.records, buffer.bytes) == (0, 0)
    buffer.add([packed([b"a"], 1.0)])
    taken = buffer.first()
    buffer.add([packed([b"b"], 2.0)])  # not into one that may be on its way
    buffer.remove(taken)
    assert gzip.decompress(buffer.first().body) == b"b"
    buffer.close()
    again = Buffer(tmp_path / "syslog.db")
    again.add([packed([b"c"], 3.0)])  # nor into one of an earlier run, which may have been
    assert gzip.decompress(again.first().body) == b"b"
    again.close()


def test_while_ingest_is_away_records_wait_on_disk_also_over_a_restart(ingest, tmp_path):
    ingest.stop()
    relay = relay_of(ingest, tmp_path)
    for n in range(BATCH + 5):
        relay.put(b"%d" % n, "192.0.2.1", 1.0)
    assert relay.flush(5)
    relay.close()
    again = relay_of(ingest, tmp_path)
    assert again.waiting == BATCH + 5
    ingest.start()
    is_sent(again)
    again.close()
    assert lines(ingest) == [str(n) for n in range(BATCH + 5)]


def test_an_answer_that_never_came_doubles_nothing_also_over_a_restart(ingest, tmp_path):
    ingest.script = [Told(takes=True, cut=True)] + [Told(503)] * 1000
    relay = relay_of(ingest, tmp_path)
    relay.put(b"one", "192.0.2.1", 1.0)
    wait_until(lambda: len(ingest.requests) > 1, 5)
    relay.close(0.05)
    ingest.script = []
    again = relay_of(ingest, tmp_path)
    is_sent(again)
    again.close()
    assert lines(ingest) == ["one"]
    assert len(ingest.requests) > 2


KILLED = """if True:
    import os, sys
    from functools import partial
    from pathlib import Path
    from mutt.client.post import Poster
    from mutt.listen.buffer import Buffer
    from mutt.listen.relay import Relay
    relay = Relay(Buffer(Path(sys.argv[1])), partial(Poster, sys.argv[2], "k"), "syslog").start()
    for n in range(3000):
        relay.put(b"%d" % n, "192.0.2.1", 1.0)
    assert relay.flush(10)
    print("on disk", flush=True)
    sys.stdin.read()
"""


def test_what_is_on_disk_when_the_process_is_killed_is_sent_by_the_next_one(ingest, tmp_path):
    ingest.script = [Told(takes=True, cut=True)] + [Told(503)] * 1000  # killed while it is in doubt
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "syslog.db"), ingest.url]
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        argv, env=told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "on disk\n"
        wait_until(lambda: len(ingest.requests) > 1, 10)
        process.send_signal(signal.SIGKILL)
    ingest.script = []
    relay = relay_of(ingest, tmp_path)
    is_sent(relay)
    relay.close()
    assert lines(ingest) == [str(n) for n in range(3000)]


def test_where_the_disk_is_full_nothing_more_is_taken_and_then_it_goes_on(ingest, tmp_path):
    ingest.stop()
    relay = relay_of(ingest, tmp_path, most=5000)
    taken = 0
    while relay.put(os.urandom(500), "192.0.2.1", 1.0):
        taken += 1
        relay.flush(5)
    assert 5 <= taken <= 20
    assert relay.books.no_room == 1
    ingest.start()
    wait_until(lambda: relay.has_room, 10)
    assert relay.put(b"again", "192.0.2.1", 1.0)
    is_sent(relay)
    relay.close()
    assert len(ingest.items) == taken + 1


def test_a_disk_that_takes_nothing_for_a_while_costs_nothing(ingest, tmp_path, caplog):
    relay = relay_of(ingest, tmp_path)
    relay._buffer._db.execute("PRAGMA max_page_count = 1")
    for n in range(200):  # each more than a page: not even the first finds room in what the file has
        relay.put(b"%d" % n + os.urandom(5000).hex().encode(), "192.0.2.1", 1.0)
    wait_until(lambda: "the buffer can't be written" in caplog.text, 5)
    assert relay.waiting == 200
    relay._buffer._db.execute("PRAGMA max_page_count = 1000000")
    is_sent(relay)
    relay.close()
    assert len(ingest.items) == 200


def test_of_a_disk_that_is_nearly_full_so_much_is_left_that_the_buffer_can_be_emptied(
    ingest, tmp_path, monkeypatch, caplog
):
    """SQLite needs room to delete, too: with none left, the buffer would stay as it is for ever."""
    relay = relay_of(ingest, tmp_path)
    real, full = os.statvfs(tmp_path), [True]

    def statvfs(_path):
        values = list(real)
        values[4] = SPARE // real.f_frsize if full[0] else values[4]  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr("os.statvfs", statvfs)
    relay.put(b"one", "192.0.2.1", 1.0)
    wait_until(lambda: "No space left on device" in caplog.text, 5)
    assert not relay.waiting_bytes
    full[0] = False
    is_sent(relay)
    relay.close()
    assert lines(ingest) == ["one"]


def test_a_batch_that_the_disk_does_not_let_go_of_is_not_posted_again(ingest, tmp_path, monkeypatch, caplog):
    def stuck(_batch):
        raise sqlite3.OperationalError("database or disk is full")

    relay = relay_of(ingest, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(relay._buffer, "remove", stuck)
        relay.put(b"one", "192.0.2.1", 1.0)
        wait_until(lambda: "read or emptied" in caplog.text, 5)
    relay.put(b"two", "192.0.2.1", 1.0)
    is_sent(relay)
    relay.close()
    assert [request.path for request in ingest.requests] == ["/ingest/syslog"] * 2
    assert (relay.books.sent, lines(ingest)) == (2, ["one", "two"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_of_which_a_part_has_died_ends_so_that_it_is_started_anew(ingest, tmp_path, monkeypatch):
    """It would hear on, and keep nothing."""

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("mutt.listen.serve.LOOK", 0.01)
    monkeypatch.setattr("mutt.listen.serve.configure", lambda *_: None)
    relay = Relay(Buffer(tmp_path / "syslog.db"), partial(Poster, ingest.url, KEY), "syslog", linger=0.01)
    monkeypatch.setattr(relay._buffer, "add", broken)
    relay.put(b"one", "192.0.2.1", 1.0)
    with pytest.raises(MuttError, match="start it anew"):
        serve(Settings.from_env({"MUTT_HOME": str(tmp_path)}), relay, {})


def test_what_is_in_memory_when_it_is_closed_goes_to_disk(ingest, tmp_path):
    ingest.stop()
    relay = relay_of(ingest, tmp_path, linger=60)
    relay.put(b"one", "192.0.2.1", 1.0)
    relay.close()
    buffer = Buffer(tmp_path / "syslog.db")
    assert buffer.records == 1
    buffer.close()


def test_a_flush_waits_for_what_was_put_before_it_however_much_follows(ingest, tmp_path):
    relay = relay_of(ingest, tmp_path, linger=0.05)
    relay.put(b"one", "192.0.2.1", 1.0)
    done = threading.Event()

    def others():
        while not done.wait(0.001):
            relay.put(b"another", "192.0.2.1", 1.0)

    putting = threading.Thread(target=others)
    putting.start()
    try:
        assert relay.flush(5)
        assert relay.books.kept
    finally:
        done.set()
        putting.join()
        relay.close()


def test_two_processes_do_not_share_a_buffer(tmp_path):
    buffer = Buffer(tmp_path / "syslog.db")
    with pytest.raises(SettingsError, match="another process listens"):
        Buffer(tmp_path / "syslog.db")
    buffer.close()
    Buffer(tmp_path / "syslog.db").close()


@pytest.mark.parametrize("what", ["damaged", "no directory"])
def test_a_buffer_that_can_not_be_used_is_a_sentence(tmp_path, what):
    place = tmp_path / "syslog.db"
    place.write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match="LISTEN_BUFFER"):
        Buffer(place if what == "damaged" else place / "x.db")


def test_a_buffer_is_for_its_user_alone_and_counts_what_it_holds(tmp_path):
    buffer = Buffer(tmp_path / "own" / "syslog.db")
    buffer.add([Batch("a", 2, 1.0, b"12345"), Batch("b", 3, 2.0, b"123")])
    assert (buffer.records, buffer.bytes) == (5, 8)
    first = buffer.first()
    assert first is not None
    assert (first.idempotency, first.body) == ("a", b"12345")
    buffer.remove(first)
    buffer.close()
    again = Buffer(tmp_path / "own" / "syslog.db")
    assert (again.records, again.bytes) == (3, 3)
    again.close()
    assert (tmp_path / "own").stat().st_mode & 0o077 == 0
    assert (tmp_path / "own" / "syslog.db").stat().st_mode & 0o077 == 0


def test_it_is_made_from_the_settings_and_its_key_may_change(ingest, tmp_path):
    key = tmp_path / "key"
    key.write_text("old")
    env = {"INGEST_URL": ingest.url, "INGEST_KEY_FILE": str(key), "MUTT_HOME": str(tmp_path / "home")}
    settings = Settings.from_env(env)
    relay = Relay.of(settings, "syslog").start()
    relay.put(b"one", "192.0.2.1", 1.0)
    is_sent(relay)
    assert ingest.requests[0].headers["x-api-key"] == "old"
    assert (tmp_path / "home" / "listen" / "syslog.db").exists()
    key.write_text("new")

    def sends_with_it():
        relay.put(b"two", "192.0.2.1", 1.0)
        is_sent(relay)
        return ingest.requests[-1].headers["x-api-key"] == "new"

    wait_until(sends_with_it, 10)
    relay.close()
    with pytest.raises(SettingsError, match="INGEST_URL"):
        Relay.of(Settings.from_env({"MUTT_HOME": str(tmp_path)}), "syslog")
    with pytest.raises(SettingsError, match="INGEST_URL") as told:
        Relay.of(Settings.from_env({**env, "INGEST_URL": ingest.url + "/ingest?key=sesame"}), "syslog")
    assert "sesame" not in str(told.value)


def test_beside_a_running_stack_its_address_and_its_key_are_known(tmp_path):
    (tmp_path / "up.json").write_text(json.dumps({"ingest": "http://127.0.0.1:8080", "api_key": "k"}))
    settings = Settings.from_env({"MUTT_HOME": str(tmp_path)})
    assert (settings.ingest_url, settings.ingest_key) == ("http://127.0.0.1:8080", "k")
    assert Settings.from_env({"MUTT_HOME": str(tmp_path), "INGEST_KEY": "own"}).ingest_key == "own"


def test_trouble_is_told_once_a_minute(ingest, relay, caplog):
    caplog.set_level(logging.INFO)
    ingest.script = [refusal(503, "the queue is full")] * 5
    relay.put(b"one", "192.0.2.1", 1.0)
    is_sent(relay)
    told = [record.getMessage() for record in caplog.records if record.name == "mutt.listen"]
    assert told == [
        "1 record in the buffer, for ingest does not take them: 503 the queue is full",
        "ingest takes records again; 1 record in the buffer",
    ]
    assert json.loads(ingest.requests[0].body)["line"] == "one"
