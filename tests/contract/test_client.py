"""What the client for Python promises, held against an ingest on a real socket that answers as told."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mutt.client import Client, Full, MuttHandler, Rejection
from mutt.client.client import SendingThread
from mutt.client.post import Poster
from mutt.embedded.ports import free_port
from tests.answering import Answering, Told
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ingest():
    with Answering() as answering:
        yield answering


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr("mutt.client.client.FIRST_WAIT", 0.01)
    monkeypatch.setattr("mutt.client.client.MOST_WAIT", 0.02)


def event(n):
    return {"hostname": "core-1", "message": f"number {n}", "timestamp": "2026-03-04T09:15:02Z"}


def numbers(ingest):
    return [int(item["message"].split()[1]) for item in ingest.items]


def test_events_go_out_in_batches_in_order_and_compressed(ingest):
    with Client(ingest.url, KEY, batch=100, linger=60) as client:
        for n in range(250):
            client.send(event(n))
    assert numbers(ingest) == list(range(250))
    assert [request.body.count(b"\n") + 1 for request in ingest.requests] == [100, 100, 50]
    assert {request.headers["content-encoding"] for request in ingest.requests} == {"gzip"}
    assert len(ingest.answered) == 3  # an Idempotency-Key each
    assert ingest.requests[0].headers["x-api-key"] == KEY
    counts = client.counts
    assert (counts.put, counts.delivered, counts.waiting) == (250, 250, 0)


def test_an_event_lingers_no_longer_than_told(ingest):
    with Client(ingest.url, KEY, linger=0.05) as client:
        client.send(event(1))
        wait_until(lambda: numbers(ingest) == [1], 5)


def test_flush_says_whether_all_that_was_in_is_gone(ingest):
    with Client(ingest.url, KEY, linger=60) as client:
        client.send(event(1))
        assert client.flush(10)
        assert numbers(ingest) == [1]
        ingest.stop()
        client.send(event(2))
        assert not client.flush(0.1)
        wait_until(lambda: client.counts.trouble)
        ingest.start()
        assert client.flush(10)
    assert numbers(ingest) == [1, 2]


def test_a_batch_ends_where_its_bytes_do(ingest):
    with Client(ingest.url, KEY, batch_bytes=1000, linger=60) as client:
        for n in range(50):
            client.send(event(n))
    assert numbers(ingest) == list(range(50))
    assert len(ingest.requests) > 2
    assert all(len(request.body) <= 1000 for request in ingest.requests)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_says_not_now_is_sent_again_under_the_same_key(ingest, status):
    ingest.script = [Told(status, body={"detail": "not now"})]
    with Client(ingest.url, KEY) as client:
        client.send(event(1))
    assert numbers(ingest) == [1]
    assert len({request.headers["idempotency-key"] for request in ingest.requests}) == 1
    assert len({request.body for request in ingest.requests}) == 1
    assert client.counts.retries == 1


def test_an_answer_that_never_came_doubles_nothing(ingest):
    ingest.script = [Told(takes=True, cut=True)]
    with Client(ingest.url, KEY) as client:
        client.send(event(1))
    assert len(ingest.requests) == 2
    assert numbers(ingest) == [1]
    assert client.counts.delivered == 1


def test_a_page_that_ingest_did_not_write_is_no_success(ingest):
    ingest.script = [Told(200, body={"login": "please"}), Told(302), Told(202, body={"ok": True})]
    with Client(ingest.url, KEY) as client:
        client.send(event(1))
    assert len(ingest.requests) == 4
    assert numbers(ingest) == [1]


def test_retry_after_is_obeyed(ingest):
    ingest.script = [Told(503, {"Retry-After": "1"})]
    began = time.monotonic()
    with Client(ingest.url, KEY) as client:
        client.send(event(1))
    assert time.monotonic() - began >= 1
    assert numbers(ingest) == [1]


def test_what_is_refused_for_good_is_given_back_and_not_sent_again(ingest):
    ingest.script = [Told(401, body={"detail": "the API key is not known"})]
    given = []
    with Client(ingest.url, KEY, on_rejected=given.extend) as client:
        client.send(event(1))
        assert client.flush(10)
        client.send(event(2))
    assert numbers(ingest) == [2]
    assert given == [
        Rejection(json.dumps(event(1), separators=(",", ":")), "", "401 the API key is not known", 401)
    ]
    assert (client.counts.rejected, client.counts.delivered) == (1, 1)


def test_a_refused_item_costs_its_neighbours_nothing(ingest):
    refused = [{"index": 1, "field": "message", "reason": "is empty"}]
    ingest.script = [Told(202, body={"accepted": 2, "duplicates": 0, "rejected": refused})]
    given = []
    with Client(ingest.url, KEY, on_rejected=given.extend) as client:
        for n in range(3):
            client.send(event(n))
    assert [(json.loads(one.event)["message"], one.field, one.reason) for one in given] == [
        ("number 1", "message", "is empty")
    ]
    assert (client.counts.rejected, client.counts.delivered) == (1, 2)


def test_an_answer_that_names_an_item_which_is_not_there_stops_nothing(ingest):
    odd = {"accepted": 0, "rejected": [{"index": 7, "field": "message", "reason": "is empty"}]}
    ingest.script = [Told(202, body=odd)]
    with Client(ingest.url, KEY, linger=0.01) as client:
        client.send(event(1))
        assert client.flush(5)
        client.send(event(2))
        assert client.flush(5)
        assert (client.counts.rejected, client.counts.delivered) == (1, 1)


def test_a_callback_that_fails_stops_nothing(ingest):
    ingest.script = [Told(400)]

    def fails(_rejected):
        raise ZeroDivisionError

    with Client(ingest.url, KEY, on_rejected=fails) as client:
        client.send(event(1))
        client.flush(10)
        client.send(event(2))
    assert numbers(ingest) == [2]


def test_a_batch_that_is_too_much_goes_in_parts(ingest):
    ingest.script = [Told(413)]
    with Client(ingest.url, KEY, linger=60) as client:
        for n in range(5):
            client.send(event(n))
    assert numbers(ingest) == [0, 1, 2, 3, 4]
    assert len(ingest.requests) == 3
    assert client.counts.delivered == 5


def test_where_the_buffer_is_full_the_oldest_go_and_are_counted(ingest):
    ingest.stop()
    with Client(ingest.url, KEY, buffer=10, batch=1, when_full="drop") as client:
        for n in range(30):
            client.send(event(n))
        assert client.counts.waiting == 10
        ingest.start()
    counts = client.counts
    assert (counts.put, counts.delivered, counts.dropped) == (30, 10, 20)
    assert numbers(ingest)[1:] == list(range(21, 30))  # one was under way


def test_where_the_buffer_is_full_who_sends_waits_and_then_is_told(ingest):
    ingest.stop()
    with Client(ingest.url, KEY, buffer=2, batch=1, block=0.05) as client:
        client.send(event(0))
        client.send(event(1))
        with pytest.raises(Full):
            client.send(event(2))
        ingest.start()
        client._block = 10
        client.send(event(3))
    assert numbers(ingest) == [0, 1, 3]
    assert (client.counts.put, client.counts.full, client.counts.delivered) == (3, 1, 3)


def test_bytes_fill_the_buffer_too(ingest):
    ingest.stop()
    with Client(ingest.url, KEY, buffer_bytes=500, batch=1, block=0) as client:
        with pytest.raises(Full):
            for n in range(50):
                client.send(event(n))
        assert 2 < client.counts.waiting < 10
        ingest.start()


def test_what_is_unsent_at_the_end_is_counted_as_lost(ingest):
    ingest.stop()
    client = Client(ingest.url, KEY)
    client.send(event(1))
    assert not client.close(0.05)
    assert (client.counts.put, client.counts.lost) == (1, 1)
    with pytest.raises(RuntimeError, match="closed"):
        client.send(event(2))


def test_what_is_counted_as_lost_is_not_sent_behind_that(ingest):
    ingest.script = [Told(503, {"Retry-After": "60"})]
    client = Client(ingest.url, KEY, linger=0.01)
    client.send(event(1))
    wait_until(lambda: client.counts.trouble)
    assert not client.close(0)
    client._thread.join(10)
    assert len(ingest.requests) == client.counts.lost == 1


def test_texts_are_messages_of_syslog_whatever_is_in_them(ingest):
    with Client(ingest.url, KEY) as client:
        client.send("<34>Oct 11 22:14:15 mymachine su: first\nsecond")
        client.send(event(1))
        client.send("a\udcffb")
    assert [request.path for request in ingest.requests] == ["/ingest/syslog", "/ingest", "/ingest/syslog"]
    assert ingest.items[0]["line"] == "<34>Oct 11 22:14:15 mymachine su: first\nsecond"
    assert ingest.items[0]["at"] == pytest.approx(time.time(), abs=60)


def test_an_event_that_has_to_wait_says_when_it_was(ingest):
    with Client(ingest.url, KEY) as client:
        client.send({"hostname": "core-1", "message": "fan failed"})
        client.send({"labels": {"alertname": "Fan"}})
    assert ingest.items[0]["timestamp"].endswith("+00:00")
    assert "timestamp" not in ingest.items[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "mutt:80"},
        {"url": "http://u:sesame@mutt?key=sesame"},
        {"when_full": "forget"},
        {"batch": 1001},
    ],
    ids=str,
)
def test_a_client_that_can_not_work_is_not_made(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as told:
        Client(**{"url": "http://mutt", "key": KEY, **wrong})
    assert "sesame" not in str(told.value)


def test_a_key_that_can_not_be_had_or_sent_only_waits(ingest):
    """The thread that sends must outlive a file of secrets that is away for a second, or holds a stray character."""
    keys = iter(["", "stray\N{EN DASH}", "line\nend"])

    def key():
        found = next(keys, KEY)
        if not found:
            raise FileNotFoundError("/etc/mutt/key")
        return found

    with Client(ingest.url, key, linger=0.01) as client:
        client.send(event(1))
        assert client.flush(10)
        assert client.counts.retries == 3
    assert numbers(ingest) == [1]


def test_a_login_in_the_address_is_not_told():
    told = (
        Poster(f"http://user:sesame@127.0.0.1:{free_port(18500)}", KEY).post(b"{}", "text/plain", "1").reason
    )
    assert "no answer from http://127.0.0.1:" in told
    assert "sesame" not in told


def test_threads_share_a_client(ingest):
    with Client(ingest.url, KEY, batch=50, linger=0.01) as client:
        threads = [
            threading.Thread(target=lambda i=i: [client.send(event(i * 100 + n)) for n in range(100)])
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(numbers(ingest)) == list(range(400))
    assert client.counts.delivered == 400


def test_a_child_sends_its_own_events_and_none_of_its_parents(ingest):
    with Client(ingest.url, KEY, linger=60) as client:
        client.send(event(1))
        if (pid := os.fork()) == 0:
            client.send(event(2))
            os._exit(0 if client.close(10) and client.counts.put == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert numbers(ingest) == [2]
    assert numbers(ingest) == [2, 1]


def run(ingest, program):
    told = {**os.environ, "PYTHONPATH": str(ROOT), "URL": ingest.url}
    return subprocess.run(
        [sys.executable, "-c", program], env=told, capture_output=True, text=True, timeout=30, check=True
    )


def test_the_end_of_the_program_sends_what_lingers(ingest):
    run(
        ingest,
        """if True:
        import logging, os
        from mutt.client import Client, MuttHandler
        Client(os.environ["URL"], "k", linger=60).send({"hostname": "a", "message": "number 1"})
        logging.getLogger().addHandler(MuttHandler(os.environ["URL"], "k", linger=60))
        logging.error("number %d", 2)
    """,
    )
    assert sorted(numbers(ingest)) == [1, 2]


# ---- the handler


@pytest.fixture
def logger(ingest):
    """A logger of its own, and everything else that logs, down to urllib3's debugging, through the same handler."""
    handler = MuttHandler(
        ingest.url, KEY, hostname="app-1", program="billing", tags={"team": "pay"}, linger=0.01
    )
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        found = logging.getLogger("billing.cards")
        found.handler = handler
        yield found
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def test_a_record_becomes_an_event(ingest, logger):
    logger.warning(
        "card %s refused", 7, extra={"shop": 12, "mutt": {"state": "raise", "clear_key": "card-7"}}
    )
    logger.handler.flush()
    (sent,) = ingest.items
    assert sent.pop("timestamp")
    assert sent == {
        "hostname": "app-1", "message": "card 7 refused", "severity": 4, "program": "billing", "source": "python",
        "tags": {"logger": "billing.cards", "level": "WARNING", "team": "pay", "shop": 12},
        "state": "raise", "clear_key": "card-7",
    }  # fmt: skip


def test_a_traceback_is_part_of_the_message(ingest, logger):
    try:
        raise ZeroDivisionError("nothing to divide by")
    except ZeroDivisionError:
        logger.exception("it failed")
    logger.handler.flush()
    message = ingest.items[0]["message"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("ZeroDivisionError: nothing to divide by")


def test_sending_logs_nothing_that_is_sent(ingest, logger):
    ingest.script = [Told(503), Told(500)]
    logger.error("number 1")
    wait_until(lambda: ingest.items, 10)
    assert logger.handler.flush() is None
    logging.getLogger("urllib3").debug("somebody else's")
    logger.handler.flush()
    assert [item["message"] for item in ingest.items] == ["number 1", "somebody else's"]


def test_whoever_logs_is_neither_held_up_nor_hurt(ingest, logger, capsys):
    ingest.stop()
    began = time.monotonic()
    for n in range(12_000):
        logger.info("number %d", n)
    logger.handler.handle(logger.makeRecord("billing", 20, "cards.py", 1, "%d", ("no number",), None))
    logger.info("", extra={"odd": object(), "list": [1], "none": None})
    assert time.monotonic() - began < 10
    assert logger.handler.client.counts.dropped >= 2_000
    assert "TypeError" in capsys.readouterr().err  # as logging's own handlers have it
    ingest.start()
    wait_until(lambda: any("empty message" in item["message"] for item in ingest.items), 20)


def test_who_chose_to_wait_for_room_does_not_wait_for_what_sending_logs(ingest):
    handler = MuttHandler(ingest.url, KEY, when_full="block", block=10, buffer=2, batch=1)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        ingest.script = [Told(503)]
        began = time.monotonic()
        for n in range(6):
            logging.getLogger("app").error("number %d", n)
        handler.flush()
        assert time.monotonic() - began < 5
        assert numbers(ingest) == list(range(6))
    finally:
        root.removeHandler(handler)
        handler.close()


def test_the_handler_knows_a_thread_that_sends(ingest, logger):
    thread = SendingThread(target=lambda: logger.error("about sending"))
    thread.start()
    thread.join()
    assert logger.handler.client.counts.put == 0


def test_gzip_is_a_choice(ingest):
    with Client(ingest.url, KEY, gzip=False) as client:
        client.send({**event(1), "text": "x" * 5000})
    assert "content-encoding" not in ingest.requests[0].headers
    assert len(gzip.compress(ingest.requests[0].body)) < 500


# ---- by itself


def test_the_example_of_its_page_sends_what_it_says(ingest):
    page = (ROOT / "docs" / "client.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    assert len(example.splitlines()) <= 10
    told = {"PYTHONPATH": str(ROOT), "MUTT": ingest.url, "MUTT_KEY": KEY}
    subprocess.run([sys.executable, "-c", example], env=told, timeout=30, check=True)
    assert [item.get("message") or item["line"] for item in ingest.items] == [
        "LINK-DOWN Te0/0/1",
        "<34>1 2026-03-04T09:15:02Z core-2 su - - - 'su root' failed",
        "the backup failed",
    ]


def test_its_folder_works_in_another_project(ingest, tmp_path):
    shutil.copytree(ROOT / "mutt" / "client", tmp_path / "theirs")
    program = f"""if True:
        import sys
        from theirs import Client
        with Client({ingest.url!r}, "k") as client:
            client.send({{"hostname": "a", "message": "number 1"}})
        assert not [name for name in sys.modules if name.partition(".")[0] == "mutt"]
    """
    subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        timeout=30,
        check=True,
    )
    assert numbers(ingest) == [1]
