"""The lane: posts that are there together share a thread and an append, and are answered as by the ordinary way."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis

from mutt import names
from mutt.formats import registry
from mutt.grant import INGEST, Grant, digest_of
from mutt.services import Services
from mutt.settings import Settings
from mutt.source import Source
from mutt.streams.keys import KeysCopy
from mutt.web.intake import Intake
from mutt.web.lane import recognised
from mutt.web.post import Post
from tests.doors import Door, answer, is_closed, read_answer, served, worker_of
from tests.integration.test_ingest import GOOD, Ingest
from tests.servers import Live, live_redis, scratch
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
EVENT = orjson.dumps(GOOD)

#: What a mapping may cost: 2000 empty objects would hold the lane up for a second and more.
COSTLY = "message: title || to_string(sort(map(&to_string(@), `[3, 1, 2, 5, 4, 9, 7, 8]`)))\nhostname: host.name || 'h'"
PATHS = "message: title\nhostname: host.name"
MAPPED = {
    digest_of(name.encode()): Grant(name, (INGEST,), source=Source(mapping=text))
    for name, text in {"costly": COSTLY, "paths": PATHS, "broken": "message: ["}.items()
}
ITS_OWN = b'{"title": "fan failed", "host": {"name": "core-1"}}'


def post(body: bytes = EVENT, *more: str, key: str | None = KEY) -> bytes:
    """A request that takes the lane."""
    shown = [f"X-API-KEY: {key}"] if key is not None else []
    head = ["POST /ingest HTTP/1.1", "Host: x", *shown, *more, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Lane(Door):
    """Ingest behind one thread only, and its Redis."""

    def __init__(self, port: int, server: Live) -> None:
        super().__init__(port)
        self.server = server
        self.redis = redis.Redis.from_url(server.url)

    @property
    def entries(self) -> int:
        return int(self.redis.xlen(names.INGEST_STREAM))

    @property
    def accepted(self) -> int:
        return int(self.redis.hget(names.LEDGER, "events.accepted") or 0)

    def has_read(self) -> None:
        """Whatever was sent before: its loop takes connections in turn, and what has come on them before it answers."""
        assert self.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200

    @contextlib.contextmanager
    def held_up(self, seconds: float) -> Iterator[None]:
        """Redis hangs until the block ends, and for so long at least."""
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            yield
            time.sleep(seconds)
        finally:
            os.kill(self.server.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def door() -> Iterator[Lane]:
    with scratch() as directory, live_redis(directory) as server:
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY}
        KeysCopy(redis.Redis.from_url(server.url)).publish(MAPPED)
        with served("ingest", env, directory, "--threads", "1") as (port, log):
            yield Lane(port, server)
            assert KEY not in log.read_text(), log.read_text()


def connected(door: Door, stack: contextlib.ExitStack, sent: bytes = b"") -> socket.socket:
    return stack.enter_context(contextlib.closing(door.connect(sent)))


def test_posts_that_are_there_together_share_an_append_though_there_is_one_thread(door: Lane) -> None:
    assert door.ask(post())[0] == 202
    before, accepted = door.entries, door.accepted
    with contextlib.ExitStack() as stack:
        with door.held_up(0):
            waiting = [connected(door, stack, post()) for _ in range(20)]
            door.has_read()
        assert [answer(sock)[0] for sock in waiting] == [202] * 20
    assert door.accepted - accepted == 20
    assert door.entries - before <= 3


@pytest.mark.parametrize(
    ("body", "more", "key", "status"),
    [
        (EVENT, (), KEY, 202),
        (b"[" + EVENT + b"," + EVENT + b"]", (), KEY, 202),
        (EVENT, ("X-Correlation-ID: req:42/a",), KEY, 202),
        (EVENT, ("X-Correlation-ID: not one",), KEY, 202),
        (EVENT, ("Content-Type: text/plain",), KEY, 202),
        (EVENT + b"\n" + b'{"hostname": "h"}', (), KEY, 202),
        (b"<38>Oct 11 22:14:15 core su: syslog", (), KEY, 202),
        (EVENT, ("Authorization: Bearer " + KEY,), None, 202),
        (b"{}", (), KEY, 400),
        (b"[{}, 5]", ("X-Correlation-ID: mine",), KEY, 400),
        (b"", (), KEY, 400),
        (b"[", ("Content-Type: application/json",), KEY, 400),
        (b"\x1f\x8b", (), KEY, 415),
        (EVENT, (), "wrong", 401),
        (EVENT, (), None, 401),
        (ITS_OWN, (), "paths", 202),
        (ITS_OWN, (), "costly", 202),
        (b"{}" * 2000, (), "costly", 202),
        (ITS_OWN, (), "broken", 400),
    ],
)
def test_both_ways_give_the_same_answer(
    door: Lane, body: bytes, more: tuple[str, ...], key: str | None, status: int
) -> None:
    told = []
    for way in ((), ("Content-Encoding: identity",)):
        request = post(body, *more, *way, key=key)
        assert bool(recognised(request, "")) is not bool(way)
        found, headers, said = door.ask(request)
        assert found == status
        told.append((sorted(headers), _same(headers), _same(orjson.loads(said))))
    assert told[0] == told[1]


def _same(said: dict[str, Any]) -> dict[str, Any]:
    """Without what is another one's in each answer."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "uuid", orjson.dumps(said).decode())
    return {
        name: value
        for name, value in orjson.loads(text).items()
        if name not in ("date", "queue_depth", "content-length")
    }


def test_a_known_idempotency_key_is_known_on_both_ways(door: Lane) -> None:
    before = door.accepted
    told = [
        orjson.loads(door.ask(post(EVENT, "Idempotency-Key: k1", *way))[2])["batch_id"]
        for way in ((), ("Content-Encoding: identity",), ())
    ]
    assert len(set(told)) == 1
    assert door.accepted == before + 1


def test_rejected_items_beside_taken_ones_are_kept_when_their_sender_hears_of_them(door: Lane) -> None:
    before = door.redis.xlen(names.DLQ_INGEST)
    assert door.ask(post(b"[" + EVENT + b",{},5]"))[0] == 202
    assert door.redis.xlen(names.DLQ_INGEST) == before + 2


def test_posts_of_one_connection_are_answered_in_turn_between_others(door: Lane) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = post() + post(b"{}") + get + post() + post(EVENT, "Connection: close") + post()
    with contextlib.closing(door.connect(sent)) as sock, sock.makefile("rb") as file:
        found = [read_answer(file) for _ in range(5)]
        assert [status for status, _, _ in found] == [202, 400, 200, 202, 202]
        assert [headers["connection"] for _, headers, _ in found] == ["keep-alive"] * 4 + ["close"]
        wait_until(lambda: is_closed(sock), 10, "the end of it")


def test_who_goes_on_or_away_before_his_answer_disturbs_nobody(door: Lane) -> None:
    before = door.accepted
    with contextlib.ExitStack() as stack:
        with door.held_up(0.2):
            first = connected(door, stack, post())
            eager = connected(door, stack, post())
            gone = door.connect(post())
            door.has_read()
            eager.sendall(post())
            gone.close()
        assert answer(first)[0] == 202
        with eager.makefile("rb") as file:
            assert [read_answer(file)[0] for _ in range(2)] == [202, 202]
    wait_until(lambda: door.accepted == before + 4, 5, "what was sent whole to be taken")
    assert door.ask(post())[0] == 202


def test_who_does_not_read_his_answers_costs_no_thread_and_gets_all_of_them_when_he_does(door: Lane) -> None:
    before, sent = door.accepted, 1500
    long = post(b"[" + EVENT + b",{}" * 100 + b"]")  # as its answer is
    with contextlib.closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", door.port))
        sender = threading.Thread(target=sock.sendall, args=(long * sent,), daemon=True)
        sender.start()
        looks = [-1]

        def stalls() -> bool:
            looks.append(door.accepted)
            return looks[-1] == looks[-2] > before

        wait_until(stalls, 20, "nothing more to go out", every=0.5)
        assert door.accepted < before + sent
        assert door.ask(post())[0] == 202
        with sock.makefile("rb") as file:
            found = [read_answer(file) for _ in range(sent)]
        sender.join(10)
    assert {(status, len(orjson.loads(body)["rejected"])) for status, _, body in found} == {(202, 100)}
    assert door.accepted == before + sent + 1


def test_a_redis_that_hangs_is_a_503_for_all_within_two_seconds_and_then_at_once(door: Lane) -> None:
    with contextlib.ExitStack() as stack:
        with door.held_up(0):
            began = time.monotonic()
            early = connected(door, stack, post())
            time.sleep(0.1)
            late = [connected(door, stack, post()) for _ in range(5)]
            assert {answer(sock)[0] for sock in (early, *late)} == {503}
            assert time.monotonic() - began < 2
            again = time.monotonic()
            status, headers, _ = door.ask(post())
            assert (status, headers["retry-after"]) == (503, "1")
            assert time.monotonic() - again < 0.2
    wait_until(lambda: door.ask(post())[0] == 202, 10, "it to be taken again")


def test_a_post_that_mutt_itself_fails_on_costs_no_other_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Ingest(redis_url)
    parse = registry.parse

    def failing(found: Any, body: bytes, context: Any) -> Any:
        if b"poison" in body:
            raise ZeroDivisionError
        return parse(found, body, context)

    monkeypatch.setattr(registry, "parse", failing)
    known = {"X-API-KEY": KEY}
    bodies = [EVENT, EVENT.replace(b"fan", b"poison"), EVENT]
    answers = ingest.app.extensions["lane"](
        [(Post(known, "192.0.2.7"), body) for body in bodies], time.monotonic()
    )
    assert [one.status for one in answers] == [202, 500, 202]
    assert orjson.loads(answers[1].body)["status"] == 500
    assert ingest.accepted == 2


def test_a_post_whose_mapping_may_take_long_is_left_to_a_thread_and_holds_up_no_other_one(
    redis_url: str,
) -> None:
    ingest = Ingest(redis_url)
    KeysCopy(ingest.redis).publish(MAPPED)
    shown = ["costly", "paths", "broken", KEY]
    answers = ingest.app.extensions["lane"](
        [(Post({"X-API-KEY": key}, "192.0.2.7"), EVENT) for key in shown], time.monotonic()
    )
    assert [answer and answer.status for answer in answers] == [None, 202, None, 202]
    assert ingest.accepted == 2


def test_one_that_is_left_to_a_thread_keeps_its_turn_on_its_connection(door: Lane) -> None:
    before = door.accepted
    costly = post(b"{}" * 2000, key="costly")
    sent = post() + costly + post() + costly + post(b"{}")
    with contextlib.closing(door.connect(sent)) as sock, sock.makefile("rb") as file:
        assert [read_answer(file)[0] for _ in range(5)] == [202, 202, 202, 202, 400]
    assert door.accepted == before + 2 + 2 * 2000


def test_what_is_accepted_is_answered_when_the_process_is_asked_to_stop() -> None:
    with scratch() as directory, live_redis(directory) as server:
        with contextlib.ExitStack() as stack:
            env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY}
            port, _ = stack.enter_context(served("ingest", env, directory))
            door = Lane(port, server)
            idle = connected(door, stack, post())
            assert answer(idle)[0] == 202
            worker = worker_of(port)
            with door.held_up(0.2):
                waiting = [connected(door, stack, post()) for _ in range(5)]
                door.has_read()
                worker.terminate()
            for sock in waiting:
                status, headers, _ = answer(sock)
                assert (status, headers["connection"]) == (202, "close")
            assert worker.wait(15) in (0, None)
            assert door.accepted == 6
            assert select.select([idle], [], [], 5)[0]


def test_limits_that_gunicorn_is_given_hold_for_small_posts_too() -> None:
    with scratch() as directory, live_redis(directory) as server:
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY}
        with served("ingest", env, directory, "--limit-request-fields", "4") as (port, _):
            door = Door(port)
            assert door.ask(post(EVENT))[0] == 202
            assert door.ask(post(EVENT, "A: b", "C: d"))[0] == 431


def test_an_error_of_a_round_is_logged_once_and_answers_each(
    door: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.from_env({}, redis_url=door.server.url, ingest_api_key=KEY)
    services = Services(settings, lambda _queue, **_: None, role="test")
    services.__dict__["rounds"] = _Failing()
    answers = Intake(services).answer_all(
        [(Post({"X-API-KEY": KEY}, "192.0.2.7"), EVENT)] * 100, time.monotonic()
    )
    assert [answer and answer.status for answer in answers] == [500] * 100
    assert len(caplog.records) == 1


class _Failing:
    def submit_all(self, *_given: object, **_more: object) -> None:
        raise ValueError("MUTT's own")
