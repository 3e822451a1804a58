"""Ingest over HTTP on a real Redis: every answer of the table, and what stands in the stream after it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import zstandard
from flask import Flask
from flask.testing import FlaskClient

from mutt import names
from mutt.event import Envelope, Event
from mutt.grant import INGEST, Grant, digest_of
from mutt.pipeline import accept
from mutt.pipeline.accept import LISTED
from mutt.services import Services
from mutt.settings import Settings
from mutt.streams import books, rounds
from mutt.streams.keys import KeysCopy
from mutt.streams.letters import KEPT_AT_ONCE
from mutt.told import teller
from mutt.web.health import health, redis_need
from mutt.web.ingest import make_ingest
from tests.servers import Live
from tests.timing import within
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
GOOD = {"hostname": "core-1", "message": "CRITICAL fan"}


class Ingest:
    """The application and what it writes to."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        told = Settings.from_env({}, redis_url=redis_url, **({"ingest_api_key": KEY} | settings))
        self.rung: list[str] = []
        self.services = Services(told, lambda queue, **_: self.rung.append(queue), role="ingest", web=True)
        self.app: Flask = make_ingest(self.services)
        self.app.register_blueprint(health(self.services, {"redis": redis_need(self.services)}))
        self.client: FlaskClient = self.app.test_client()
        self.redis = self.services.redis

    def post(self, body: Any, path: str = "/ingest", key: str | None = KEY, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            path, data=data, headers=told | ({"X-API-KEY": key} if key is not None else {}), buffered=True
        )

    def knows(self, **names: str) -> None:
        """These are the keys from now on: the name of each, and its text."""
        grants = {digest_of(key.encode()): Grant(name, (INGEST,)) for name, key in names.items()}
        KeysCopy(self.redis).publish(grants)

    def events(self) -> list[Event]:
        """What stands in the stream."""
        held = self.services.held("ingest_queue").take(10**6).entries
        return [event for entry in held for part in entry.decode(Envelope).segments for event in part.events]

    @property
    def accepted(self) -> int:
        return books.read(self.redis).events["accepted"]


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    made.knows()
    return made


def is_problem(response: Any, status: int) -> dict[str, Any]:
    """It is an RFC 9457 document of this status."""
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    found: dict[str, Any] = response.get_json()
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    return found


def is_refused(response: Any) -> dict[str, Any]:
    found = is_problem(response, 503)
    assert int(response.headers["Retry-After"]) >= 1
    return found


# ---- accepted


def test_a_202_says_what_was_taken_and_it_stands_in_the_stream(ingest: Ingest) -> None:
    response = ingest.post([GOOD, GOOD | {"message": "two"}])
    assert response.status_code == 202
    body = response.get_json()
    assert UUID(body.pop("batch_id")).version == 7
    assert body.pop("correlation_id") == response.headers["X-Correlation-ID"]
    assert body == {"status": "queued", "accepted": 2, "duplicates": 0, "rejected": [], "queue_depth": 2}
    first, second = ingest.events()
    assert (first.item, second.item) == (0, 1)
    assert (second.received_at - first.received_at).microseconds == 1
    assert ingest.rung == ["ingest_queue"]
    assert ingest.accepted == 2


@pytest.mark.parametrize("path", ["/ingest", "/api/v1/ingest", "/api/v2/ingest", "/ingest/native"])
def test_every_path_takes_events(ingest: Ingest, path: str) -> None:
    assert ingest.post(GOOD, path).status_code == 202
    assert ingest.accepted == 1


@pytest.mark.parametrize(
    "body",
    [b'{"hostname":"h","message":"a"}\n{"hostname":"h","message":"b"}\n',
     b'{"hostname":"h","message":"a"}{"hostname":"h","message":"b"}',
     b'[{"hostname":"h","message":"a"},{"hostname":"h","message":"b"}]'],
    ids=["lines", "back to back", "array"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_the_body_is_sniffed_whatever_its_content_type_says(ingest: Ingest, body: bytes, kind: str) -> None:
    assert ingest.post(body, Content_Type=kind).get_json()["accepted"] == 2


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress), ("identity", bytes)],
)
def test_a_compressed_body_is_taken(ingest: Ingest, coding: str, pack: Any) -> None:
    assert ingest.post(pack(orjson.dumps(GOOD)), Content_Encoding=coding).status_code == 202
    assert ingest.events()[0].message == "CRITICAL fan"


def test_a_correlation_id_is_echoed_in_success_and_in_refusal(ingest: Ingest) -> None:
    for body, key in ((GOOD, KEY), (GOOD, "wrong"), (b"{", KEY)):
        response = ingest.post(body, key=key, X_Correlation_ID="req:42/a")
        assert response.headers["X-Correlation-ID"] == response.get_json()["correlation_id"] == "req:42/a"


def test_a_correlation_id_that_could_harm_a_log_is_replaced(ingest: Ingest) -> None:
    for bad in ("a b", "x" * 129, "ü", '"quoted"'):
        assert UUID(ingest.post(GOOD, X_Correlation_ID=bad).headers["X-Correlation-ID"])


def test_a_large_request_is_cut_into_entries_of_at_most_five_hundred(ingest: Ingest) -> None:
    assert ingest.post([GOOD | {"n": n} for n in range(1201)]).get_json()["accepted"] == 1201
    sizes = [entry.n for entry in ingest.services.held("ingest_queue").take(10**6).entries]
    assert sizes == [500, 500, 201]


# ---- control


def test_no_field_of_a_sender_reaches_what_is_mutts_own(ingest: Ingest) -> None:
    spoof = {
        "template": "t",
        "team": "x",
        "_template": "t",
        "item": 7,
        "received_at": "2020-01-01T00:00:00Z",
        "instance": "9",
        "occurred_text": "x",
        "raw": "forged",
        "_correlation_id": "spoof",
        "rule_id": 1,
    }
    assert ingest.post(GOOD | spoof).status_code == 202
    (event,) = ingest.events()
    assert (event.template, event.team, event.internal) == (None, None, False)
    assert event.item == 0
    assert event.received_at.year > 2020
    assert orjson.loads(event.raw) == GOOD | spoof
    assert event.tags["template"] == "t"


# ---- bad items


def test_bad_items_are_listed_and_kept_and_the_good_ones_taken(ingest: Ingest) -> None:
    response = ingest.post([GOOD, {"hostname": "h"}, {"message": "m"}, GOOD, 5])
    assert response.status_code == 202
    body = response.get_json()
    assert body["accepted"] == 2
    told = [(one["index"], one["field"]) for one in body["rejected"]]
    assert told == [(1, "message"), (2, "hostname"), (4, "event")]
    assert all(one["reason"] for one in body["rejected"])
    letters = list(ingest.services.letters.listed("ingest", payload=True))
    assert [letter.payload["index"] for letter in letters] == [1, 2, 4]
    assert ingest.accepted == 2, "rejected items are outside the books"
    assert books.read(ingest.redis).off_events == 0


def test_what_a_sender_is_told_to_forget_though_nothing_of_it_is_taken_is_kept_to_the_last_item(
    ingest: Ingest,
) -> None:
    lines = b"\n".join(b'{"PROGRAM": "x", "MESSAGE": 7}' for _ in range(150))
    response = ingest.post(lines, path="/ingest/syslog-ng")
    assert (response.status_code, response.get_json()["status"]) == (202, "rejected")
    kept = [letter.payload["index"] for letter in ingest.services.letters.listed("ingest", payload=True)]
    assert kept == list(range(150))


def test_what_is_kept_of_bad_items_has_a_cap_and_the_rest_is_counted(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_dlq_bytes=1000)
    for _ in range(20):
        ingest.post([GOOD, {"hostname": "h", "pad": "x" * 150}])
    kept = ingest.redis.xlen(names.DLQ_INGEST)
    assert 0 < kept < 6
    assert int(ingest.redis.hget("mutt:dlq:ingest:dropped", "bootstrap")) == 20 - kept
    letters = ingest.services.letters
    ids = [letter.id for letter in letters.listed("ingest")]
    gone = letters.drop("ingest", letters.read("ingest", ids), reason="seen", who="test")
    assert len(gone) == kept
    assert int(ingest.redis.hget("mutt:dlq:ingest:bytes", "bootstrap")) == 0


def test_an_event_over_its_own_limit_is_a_bad_item(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_max_event=200)
    body = ingest.post([GOOD, GOOD | {"message": "x" * 300}]).get_json()
    assert (body["accepted"], body["rejected"][0]["index"]) == (1, 1)


def test_when_every_item_is_bad_a_problem_names_index_field_and_reason(ingest: Ingest) -> None:
    found = is_problem(ingest.post([{"hostname": "h", "message": ""}, {"message": "m"}]), 400)
    assert (found["index"], found["field"], found["reason"]) == (0, "message", "is empty: say what happened")
    assert [(one["index"], one["field"]) for one in found["rejected"]] == [(0, "message"), (1, "hostname")]
    assert ingest.accepted == 0


def test_items_of_a_request_without_a_good_one_are_kept_and_counted_as_others_are(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_dlq_bytes=5000)
    is_problem(ingest.post([{"hostname": "h"}, 5]), 400)
    letters = list(ingest.services.letters.listed("ingest", payload=True))
    assert [(letter.payload["index"], letter.payload["field"]) for letter in letters] == [
        (0, "message"),
        (1, "event"),
    ]
    is_problem(ingest.post([{"hostname": "h", "pad": "x" * 150}] * 300, "/ingest/native"), 400)
    kept = ingest.redis.xlen(names.DLQ_INGEST)
    assert 2 < kept < 30
    assert int(ingest.redis.hget("mutt:dlq:ingest:dropped", "bootstrap")) == 302 - kept
    assert metric(ingest, "mutt_events_rejected_total") == 302
    assert books.read(ingest.redis).off_events == 0


def test_a_400_waits_for_no_redis_that_would_keep_its_items(own_redis: Live) -> None:
    ingest = Ingest(own_redis.url)
    assert ingest.post(GOOD).status_code == 202
    with stopped(own_redis):
        with within(0.2):
            response = ingest.client.post("/ingest", data=b"[{}]", headers={"X-API-KEY": KEY})
        is_problem(response, 400)  # its sender has it
        response.close()  # what gunicorn does behind the answer
        with within(0.2):  # an outage is not asked again at once
            is_problem(ingest.post(b"[{}]"), 400)
    wait_until(lambda: ingest.post(b"[{}]") and ingest.redis.xlen(names.DLQ_INGEST) > 0, 10, "it to be kept")
    with stopped(own_redis):
        is_refused(ingest.post(GOOD))
        with within(0.6):  # what a round found out holds for what is refused, too
            is_problem(ingest.post(b"[{}]"), 400)


def test_a_body_that_ends_before_its_length_is_refused_whatever_the_server_says_of_its_end(
    ingest: Ingest,
) -> None:
    """gunicorn says that bodies end where they end, and reads on to the length only where the sender goes on."""
    lines = b"\n".join([orjson.dumps(GOOD)] * 2)
    cut = {"CONTENT_LENGTH": str(len(lines) + 1), "wsgi.input_terminated": True}
    response = ingest.client.post("/ingest", data=lines, headers={"X-API-KEY": KEY}, environ_overrides=cut)
    assert "send it whole" in is_problem(response, 400)["detail"]
    assert ingest.accepted == 0
    assert metric(ingest, 'mutt_ingest_requests_total{format="unknown",status="400"}') == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"hostname":', b"[1,2", b"   "])
def test_a_body_that_cannot_be_read_is_a_problem(ingest: Ingest, body: bytes) -> None:
    found = is_problem(ingest.post(body, "/ingest/native"), 400)
    assert found["field"]
    assert found["reason"]


def test_damaged_compression_is_a_problem_and_an_unknown_one_is_named(ingest: Ingest) -> None:
    is_problem(ingest.post(b"no gzip", Content_Encoding="gzip"), 400)
    is_problem(ingest.post(GOOD, Content_Encoding="br"), 415)
    is_problem(ingest.post(gzip.compress(orjson.dumps(GOOD))), 415)


def test_a_refusal_that_is_kept_does_not_quote_a_header_for_it_may_hold_a_key(ingest: Ingest) -> None:
    response = ingest.post(GOOD, Content_Encoding=KEY)
    is_problem(response, 415)
    assert KEY not in response.get_data(as_text=True)


# ---- who may


@pytest.mark.parametrize(
    "key", [None, "", "wrong", "\x00\x01", "\xff\xfe\xe9", "x" * 10_000, KEY + "x", KEY[:-1]]
)
def test_without_a_known_key_nothing_is_taken(ingest: Ingest, key: str | None) -> None:
    response = ingest.post(GOOD, key=key)
    is_problem(response, 401)
    # Who has a user and a password shows them only when Basic is asked for: SNS does so.
    asked = response.headers["WWW-Authenticate"]
    assert [one.split()[0] for one in asked.split(", ")] == ["Basic", "Bearer"]
    assert ingest.accepted == 0


@pytest.mark.parametrize(
    "value",
    [
        "Basic ???",
        "Basic",
        "Bearer",
        "Bearer ",
        "Basic \xff\xff",
        "Digest x",
        "",
        "\xe9",
        "Basic " + "A" * 999,
    ],
)
def test_garbage_for_authorization_is_a_401(ingest: Ingest, value: str) -> None:
    is_problem(ingest.post(GOOD, key=None, Authorization=value), 401)


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {KEY}",
        f"bearer  {KEY}",
        f"Splunk {KEY}",
        "Basic " + base64.b64encode(f"any:{KEY}".encode()).decode(),
    ],
)
def test_the_key_may_come_in_any_senders_way(ingest: Ingest, value: str) -> None:
    assert ingest.post(GOOD, key=None, Authorization=value).status_code == 202


def test_a_key_in_redis_is_known_by_its_hash_and_forgotten_when_it_goes(ingest: Ingest) -> None:
    key = "schlüssel"
    sent = key.encode().decode("latin-1")  # as a header's bytes travel
    ingest.knows(sender=key)
    assert ingest.post([GOOD, {}], key=sent).status_code == 202
    assert next(ingest.services.letters.listed("ingest")).about == "sender"
    ingest.knows()
    wait_until(lambda: ingest.post(GOOD, key=sent).status_code == 401, 5)


def test_a_key_that_is_not_known_yet_is_no_401_while_the_keys_cannot_be_read(own_redis: Live) -> None:
    """Its sender would give up for good, and it may be one that stands in Redis."""
    own_redis.kill()
    ingest = Ingest(own_redis.url)
    is_refused(ingest.post(GOOD, key="one in Redis"))
    own_redis.start()
    ingest.knows()
    wait_until(lambda: ingest.post(GOOD, key="one in Redis").status_code == 401, 10)
    own_redis.kill()
    assert ingest.post(GOOD, key="one in Redis").status_code == 401, "they were read"


# ---- too much


def test_a_body_over_the_limit_is_a_413_before_and_after_decompression(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_max_body=10_000)
    large = orjson.dumps(GOOD | {"message": "x" * 20_000})
    is_problem(ingest.post(large), 413)
    for coding, pack in (("gzip", gzip.compress), ("zstd", zstandard.compress), ("deflate", zlib.compress)):
        is_problem(ingest.post(pack(large), Content_Encoding=coding), 413)
    assert ingest.accepted == 0


def test_a_full_queue_refuses_with_a_time_to_come_back(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_max_depth=3)
    assert ingest.post([GOOD] * 3).status_code == 202
    is_refused(ingest.post(GOOD))
    assert ingest.accepted == 3


def test_a_queue_of_many_bytes_refuses_too(redis_url: str) -> None:
    ingest = Ingest(redis_url, ingest_max_bytes=500)
    assert ingest.post(GOOD).status_code == 202
    noise = [GOOD | {"message": os.urandom(200).hex()} for _ in range(5)]
    is_refused(ingest.post(noise))
    assert ingest.accepted == 1


@contextlib.contextmanager
def stopped(server: Live) -> Iterator[None]:
    """The server hangs: it neither answers nor closes."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def refused_within_a_second(ingest: Ingest, body: Any) -> None:
    with within(1.05):
        is_refused(ingest.post(body))


@pytest.mark.parametrize("body", [GOOD, GOOD | {"event_id": "a"}], ids=["plain", "with an id"])
def test_a_redis_that_hangs_is_a_503_within_a_second_and_soon_at_once(own_redis: Live, body: Any) -> None:
    ingest = Ingest(own_redis.url)
    assert ingest.post(GOOD).status_code == 202
    with stopped(own_redis):
        refused_within_a_second(ingest, body)
        with within(0.1):  # the circuit answers at once
            is_refused(ingest.post(body))
        for _ in range(3):
            time.sleep(1.05)  # past the circuit, and past each of what is read once a second or two
            refused_within_a_second(ingest, body)
    wait_until(lambda: ingest.post(GOOD).status_code == 202, 5)


def test_a_redis_that_is_gone_is_a_503_and_taken_again_when_it_is_back(own_redis: Live) -> None:
    ingest = Ingest(own_redis.url)
    assert ingest.post(GOOD).status_code == 202
    own_redis.kill()
    refused_within_a_second(ingest, GOOD)
    own_redis.start()
    wait_until(lambda: ingest.post(GOOD).status_code == 202, 5)
    assert ingest.accepted == 2, "what was answered 202 outlived the kill"


def test_a_redis_that_is_nearly_full_is_a_503_and_what_stands_can_be_taken(own_redis: Live) -> None:
    ingest = Ingest(own_redis.url)
    assert ingest.post(GOOD).status_code == 202
    used = int(ingest.redis.info("memory")["used_memory"])
    ingest.redis.config_set("maxmemory", int(used / 0.85))
    wait_until(lambda: ingest.post(GOOD).status_code == 503, 5)
    found = is_refused(ingest.post(GOOD))
    assert "full" in found["detail"]
    ingest.redis.config_set("maxmemory", used // 2)
    is_refused(ingest.post(GOOD | {"event_id": str(uuid4())}))
    assert len(ingest.events()) == ingest.accepted
    ingest.redis.config_set("maxmemory", 0)
    wait_until(lambda: ingest.post(GOOD).status_code == 202, 5)


def test_a_slow_upload_does_not_use_up_its_second(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for Redis: it counts from when the body was read, plus what was waited for before."""
    began: list[float] = []

    class Uploading:
        """A body that comes late."""

        def __init__(self, body: bytes) -> None:
            self.body = body

        def read(self, _size: int = -1) -> bytes:
            time.sleep(0.2)
            began.append(time.monotonic())
            given, self.body = self.body, b""
            return given

    asked: list[float] = []
    submit = ingest.services.rounds.submit_all

    def noting(*what: Any, since: float) -> Any:
        asked.append(since)
        return submit(*what, since=since)

    monkeypatch.setattr(ingest.services.rounds, "submit_all", noting)
    body = orjson.dumps(GOOD)
    slowly = {"wsgi.input": Uploading(body)}
    response = ingest.client.post("/ingest", data=body, headers={"X-API-KEY": KEY}, environ_overrides=slowly)
    assert response.status_code == 202
    assert asked[0] > began[-1] - 0.1


def test_a_large_request_beside_many_small_ones_is_taken(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer to pack than a request may wait; it packs beside the others' rounds. Of these one may hear that
    the stream did not answer in time, for one process does all of it here; nobody can tell then if it was taken."""
    large = [{"hostname": f"h{n}", "message": f"message {n} of many"} for n in range(15_000)]
    stop = threading.Event()
    answers: list[int] = []
    pack = accept._parts

    def slowly(contributions: Any, events: Any, replies: Any) -> Any:
        if sum(map(len, events)) == len(large):
            before = answers.count(202)
            time.sleep(rounds.DEADLINE)
            wait_until(lambda: answers.count(202) > before + 20, 10, "others to be taken meanwhile")
        return pack(contributions, events, replies)

    monkeypatch.setattr(accept, "_parts", slowly)

    def trickle() -> None:
        while not stop.is_set():
            answers.append(ingest.post(GOOD).status_code)

    threads = [threading.Thread(target=trickle, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    response = ingest.post(large)
    stop.set()
    for thread in threads:
        thread.join()
    assert response.status_code == 202
    assert set(answers) <= {202, 503}
    assert len(large) + answers.count(202) <= ingest.accepted <= len(large) + len(answers)


def test_what_takes_long_to_pack_has_its_second_with_redis_all_the_same(
    own_redis: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again, as for any other request, if it does not answer the first time."""
    monkeypatch.setattr("mutt.services.WEB_TIMEOUT", 0.2)
    ingest = Ingest(own_redis.url)
    assert ingest.post(GOOD).status_code == 202
    pack, append = accept._parts, ingest.services.ingest_stream.append
    hung: list[threading.Timer] = []

    def slowly(*given: Any) -> Any:
        time.sleep(0.8)
        return pack(*given)

    def hanging(*given: Any, **more: Any) -> Any:
        if not hung:
            os.kill(own_redis.pid, signal.SIGSTOP)
            hung.append(threading.Timer(0.3, os.kill, (own_redis.pid, signal.SIGCONT)))
            hung[0].start()
        return append(*given, **more)

    monkeypatch.setattr(accept, "_parts", slowly)
    monkeypatch.setattr(ingest.services.ingest_stream, "append", hanging)
    response = ingest.post(GOOD)
    hung[0].join()
    assert response.status_code == 202
    assert ingest.accepted == 2


def test_of_very_many_bad_items_the_first_are_named_and_kept_and_all_are_counted(ingest: Ingest) -> None:
    """The reply, the letters and what an Idempotency-Key keeps stay small, whatever a body holds."""
    body = [GOOD, *[1] * 5000]
    reply = ingest.post(body, Idempotency_Key="once").get_json()
    assert (reply["accepted"], len(reply["rejected"]), reply["rejected_total"]) == (1, LISTED, 5000)
    assert ingest.redis.xlen(names.DLQ_INGEST) == KEPT_AT_ONCE
    assert int(ingest.redis.hget("mutt:dlq:ingest:dropped", "bootstrap")) == 5000 - KEPT_AT_ONCE
    problem = ingest.post([1] * 5000, "/ingest/native").get_json()
    assert (len(problem["rejected"]), problem["rejected_total"]) == (LISTED, 5000)


# ---- repeats


def test_an_idempotency_key_that_is_known_answers_as_the_first_time_and_adds_nothing(ingest: Ingest) -> None:
    first = ingest.post([GOOD, {}], Idempotency_Key="k1")
    again = ingest.post([GOOD, {}], Idempotency_Key="k1")
    assert first.status_code == again.status_code == 202
    assert again.get_json()["batch_id"] == first.get_json()["batch_id"]
    assert ingest.accepted == 1
    assert ingest.redis.xlen(names.DLQ_INGEST) == 1
    assert metric(ingest, "mutt_events_accepted_total") == 1


def test_the_same_idempotency_key_with_another_body_or_another_api_key_is_another_request(
    ingest: Ingest,
) -> None:
    ingest.knows(two="two")
    ingest.post(GOOD, Idempotency_Key="k1")
    ingest.post(GOOD | {"message": "other"}, Idempotency_Key="k1")
    wait_until(lambda: ingest.post(GOOD, key="two", Idempotency_Key="k1").status_code == 202, 5)
    assert ingest.accepted == 3


def test_a_repeated_event_id_keeps_its_first_stamp(ingest: Ingest) -> None:
    own = str(uuid4())
    first = ingest.post([GOOD | {"event_id": own}, GOOD | {"event_id": "text id"}])
    again = ingest.post([GOOD | {"event_id": own}, GOOD | {"event_id": "text id"}, GOOD | {"event_id": own}])
    assert (first.get_json()["duplicates"], again.get_json()["duplicates"]) == (0, 3)
    events = ingest.events()
    assert len(events) == 5
    assert len({event.key for event in events}) == 2
    assert events[0].event_id == UUID(own)
    assert events[1].event_id.version == 5


def test_the_same_id_with_other_content_is_another_event(ingest: Ingest) -> None:
    for message in ("CRITICAL a", "CRITICAL b"):
        assert ingest.post(GOOD | {"event_id": "x", "message": message}).get_json()["duplicates"] == 0
    one, two = ingest.events()
    assert one.event_id == two.event_id
    assert one.key != two.key


def test_no_key_can_name_anothers_events_by_text(ingest: Ingest) -> None:
    ingest.knows(two="two")
    ingest.post(GOOD | {"event_id": "x"})
    wait_until(lambda: ingest.post(GOOD | {"event_id": "x"}, key="two").status_code == 202, 5)
    one, two = ingest.events()
    assert one.event_id != two.event_id


# ---- the rest of HTTP


@pytest.mark.parametrize("path", ["/ingest", "/api/v1/ingest", "/api/v2/ingest", "/ingest/syslog"])
@pytest.mark.parametrize("method", ["HEAD", "GET", "OPTIONS"])
def test_senders_health_checks_are_answered_without_a_key(ingest: Ingest, method: str, path: str) -> None:
    assert ingest.client.open(path, method=method).status_code // 100 == 2


@pytest.mark.parametrize("added", ["", "/api/v2/alerts"])
def test_alerts_are_taken_at_the_path_that_prometheus_adds_to_an_address(ingest: Ingest, added: str) -> None:
    alerts = [{"labels": {"alertname": "A", "instance": "edge1:9100"}, "startsAt": "2026-03-04T09:15:02Z"}]
    assert ingest.post(alerts, f"/ingest/alertmanager{added}").status_code == 202
    (event,) = ingest.events()
    assert (event.hostname, event.source) == ("edge1", "alertmanager")


def test_another_method_is_a_problem_that_names_the_right_ones(ingest: Ingest) -> None:
    response = ingest.client.put("/ingest", data=b"x")
    is_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_an_unknown_format_or_page_is_a_problem(ingest: Ingest) -> None:
    found = is_problem(ingest.post(GOOD, "/ingest/carrier-pigeon"), 404)
    assert "native" in found["detail"]
    is_problem(ingest.client.get("/nowhere"), 404)


def test_healthz_says_that_the_process_lives(ingest: Ingest) -> None:
    response = ingest.client.get("/healthz")
    assert response.status_code == 200
    assert response.get_json()["status"] == "ok"


def test_readyz_says_how_redis_stands(own_redis: Live) -> None:
    ingest = Ingest(own_redis.url)
    response = ingest.client.get("/readyz")
    assert (response.status_code, response.get_json()["needs"]) == (200, {"redis": "ok"})
    ingest.redis.config_set("maxmemory", 1)
    response = ingest.client.get("/readyz")
    assert response.status_code == 503, "a Redis that takes no writes is of no use to ingest"
    assert "memory" in response.get_json()["needs"]["redis"]
    own_redis.kill()
    response = ingest.client.get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["needs"]["redis"].startswith("ConnectionError")
    assert ingest.client.get("/healthz").status_code == 200
    assert "mutt_events_accepted_total" in told(ingest), "what it counted is told all the same"


def told(ingest: Ingest) -> str:
    """What Prometheus is told."""
    return teller(ingest.services, queues=True)().decode()


def metric(ingest: Ingest, sample: str) -> float:
    text = told(ingest)
    (value,) = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(sample + " ")]
    return float(value)


@pytest.mark.parametrize(
    "name",
    ["mutt_ingest_requests_total", "mutt_events_accepted_total", "mutt_queue_depth", "mutt_queue_oldest_seconds",
     "mutt_events_evaluated_total", "mutt_alerts_total", "mutt_moog_requests_total", "mutt_budget_wait_seconds",
     "mutt_breaker_state", "mutt_dlq_depth", "mutt_audit_rows_total"],
)  # fmt: skip
def test_the_metrics_have_the_names_that_dashboards_use(ingest: Ingest, name: str) -> None:
    ingest.post(GOOD)
    text = told(ingest)
    assert f"# TYPE {name}" in text or f"# TYPE {name.removesuffix('_total')}" in text


def test_the_metrics_count_what_happened(ingest: Ingest) -> None:
    ingest.post([GOOD, {}])
    ingest.post(GOOD, key="wrong")
    assert metric(ingest, "mutt_events_accepted_total") == 1
    assert metric(ingest, 'mutt_queue_depth{queue="ingest_queue"}') == 1
    assert metric(ingest, 'mutt_dlq_depth{queue="ingest"}') == 1
    assert metric(ingest, 'mutt_ingest_requests_total{format="sniffed",status="401"}') == 1
    ingest.post(GOOD, "/elsewhere")
    ingest.client.delete("/ingest")
    for status in (404, 405):
        assert metric(ingest, f'mutt_ingest_requests_total{{format="unknown",status="{status}"}}') == 1


def test_no_secret_is_in_redis_or_in_an_answer(ingest: Ingest) -> None:
    answers = [ingest.post([GOOD, {}]), ingest.post({}, key=KEY)]
    assert all(KEY not in text for text in (*(one.get_data(as_text=True) for one in answers), told(ingest)))
    for name in ingest.redis.keys("*"):
        assert KEY.encode() not in (ingest.redis.dump(name) or b"")
        assert KEY.encode() not in name
