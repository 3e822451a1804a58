"""A real gunicorn over raw sockets: slow, huge and garbled requests are cut off, and honest ones answered meanwhile."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Iterator

import orjson
import pytest

from mutt.embedded.ports import free_port
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from tests.doors import Door, answer, is_closed, read_answer, send_all, served
from tests.hanging import GO
from tests.servers import live_redis, scratch
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
EVENT = orjson.dumps({"hostname": "core-1", "message": "CRITICAL fan"})
AUTH = f"Host: x\r\nX-API-KEY: {KEY}\r\n".encode()
POST = b"POST /ingest HTTP/1.1\r\n" + AUTH
HONEST = POST + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT

THREADS = 2
PATIENCE = 1.0
MOST = 1 << 20

CONNECTIONS = 100

#: Bytes of unfinished uploads that are held at once.
HELD = 64 << 20


class Ingest(Door):
    """Ingest as gunicorn serves it."""

    def __init__(self, port: int, metrics: int) -> None:
        super().__init__(port)
        self.metrics = Door(metrics)

    def takes_an_event(self) -> bool:
        return self.ask(HONEST)[0] == 202


@pytest.fixture(scope="module")
def door() -> Iterator[Ingest]:
    with scratch() as directory, live_redis(directory) as server:
        metrics = free_port(19300)
        env = {
            "REDIS_URL": server.url, "INGEST_API_KEY": KEY, "METRICS_PORT": str(metrics),
            "INGEST_MAX_BODY": str(MOST), "REQUEST_TIMEOUT": str(PATIENCE),
        }  # fmt: skip
        KeysCopy(connect(server.url)).publish({})
        options = ("--threads", str(THREADS), "--worker-connections", str(CONNECTIONS))
        with served("ingest", env, directory, *options) as (port, log):
            yield Ingest(port, metrics)
            assert KEY not in log.read_text(), log.read_text()


BODY = POST + b"Content-Length: 100000\r\n\r\n{"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "a head that never ends": (b"POST /ingest HTTP/1.1\r\nA: ", b"a"),
    "headers without end": (POST, b"A: b\r\n"),
    "a body that drips": (BODY, b" "),
    "a body that stops": (BODY, b""),
    "chunks that drip": (CHUNKED, b"1\r\na\r\n"),
    "a chunk's size without end": (CHUNKED, b"0"),
    "trailers without end": (CHUNKED + b"0\r\n", b"A: b\r\n"),
    "a body without a key": (BODY.replace(KEY.encode(), b"wrong"), b" "),
}


def send(sock: socket.socket, data: bytes) -> None:
    """As one who does not care whether he is heard."""
    with contextlib.suppress(OSError):
        sock.send(data)


def test_a_crowd_of_slow_senders_keeps_nobody_waiting_and_is_cut_off_with_a_reason(door: Ingest) -> None:
    with contextlib.ExitStack() as stack:

        def connected(sent: bytes) -> socket.socket:
            return stack.enter_context(contextlib.closing(door.connect(sent)))

        silent = [connected(b"") for _ in range(2 * THREADS)]
        crowd = [
            (connected(begun), drop, how) for how, (begun, drop) in DRIPS.items() for _ in range(2 * THREADS)
        ]
        told: dict[str, int] = {}
        waiting = list(crowd)

        def drip() -> bool:
            assert door.takes_an_event()
            for one in list(waiting):
                sock, drop, how = one
                if select.select([sock], [], [], 0)[0]:
                    status, _, body = answer(sock)
                    assert (status, orjson.loads(body)["status"]) == (408, 408), how
                    assert "1024 bytes/s" in orjson.loads(body)["detail"]
                    told[how] = told.get(how, 0) + 1
                    waiting.remove(one)
                else:
                    send(sock, drop)
            return not waiting

        wait_until(drip, 20, "all to be told")
        assert told == dict.fromkeys(DRIPS, 2 * THREADS)
        wait_until(lambda: all(is_closed(sock) for sock, *_ in crowd), 15, "all to be cut off")
        assert not any(is_closed(sock) for sock in silent), "a silent connection may be kept for later"
        silent[0].sendall(HONEST)
        assert answer(silent[0])[0] == 202


def test_who_paused_on_an_open_connection_has_all_the_time_for_the_next_request(door: Ingest) -> None:
    with contextlib.closing(door.connect(HONEST)) as sock:
        assert answer(sock)[0] == 202
        time.sleep(PATIENCE + 0.5)
        for piece in (POST, b"Content-Length: %d\r\n\r\n" % len(EVENT), EVENT):
            sock.sendall(piece)
            time.sleep(0.1 * PATIENCE)
        assert answer(sock)[0] == 202


def test_more_connections_than_may_be_had_shut_nobody_out(door: Ingest) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * CONNECTIONS):
            stack.enter_context(contextlib.closing(door.connect(POST)))
        assert door.takes_an_event()


def test_more_uploads_than_can_be_held_cost_the_oldest_of_them_and_nobody_else(door: Ingest) -> None:
    for _ in range(
        HELD // MOST
    ):  # what was refused is held no longer, and is not counted as less than nothing
        assert door.ask(CHUNKED + b"no size" + b"x" * 60_000)[0] == 400
    unfinished = POST + b"Content-Length: %d\r\n\r\n" % MOST + b" " * (MOST - 1)
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(HELD // MOST + 2):
            sock = stack.enter_context(contextlib.closing(door.connect()))
            send_all(sock, unfinished)
            crowd.append(sock)
            assert door.takes_an_event()
        told = [sock for sock in crowd if select.select([sock], [], [], 0)[0]]
        assert told
        assert told[0] is crowd[0]
        status, headers, _ = answer(told[0])
        assert (status, headers["retry-after"]) == (503, "1")


def test_uploads_that_wait_for_a_thread_are_held_up_to_a_limit_too() -> None:
    """They are whole, so nobody counts them as unfinished; and no thread has looked at their key yet."""
    upload = b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MOST + b" " * MOST
    with scratch() as directory, contextlib.ExitStack() as stack:
        env = {"INGEST_MAX_BODY": str(MOST)}
        options = ("--threads", str(THREADS), "--worker-connections", str(CONNECTIONS))
        port, _ = stack.enter_context(served("tests.hanging:app", env, directory, *options))
        crowd = [
            stack.enter_context(contextlib.closing(Door(port).connect())) for _ in range(HELD // MOST + 9)
        ]
        for sock in crowd:
            send_all(sock, upload)
        wait_until(lambda: select.select(crowd, [], [], 0)[0], 10, "somebody is refused")
        refused = select.select(crowd, [], [], 0)[0]
        assert {answer(sock)[0] for sock in refused} == {503}
        (directory / GO).touch()
        assert {answer(sock)[0] for sock in crowd if sock not in refused} <= {200, 503}
        assert Door(port).ask(upload)[0] == 200


HUGE = b"x" * (MOST + 1)
MANY = b"".join(b"X-%d: y\r\n" % n for n in range(1000))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (POST + b"Content-Length: 99999999999\r\n\r\n", 413),
        (POST + b"Content-Length: %d\r\n\r\n" % len(HUGE) + HUGE, 413),
        (CHUNKED + b"%x\r\n" % len(HUGE) + HUGE, 413),
        (CHUNKED + b"ffffffffffff\r\n", 413),
        (CHUNKED + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 100, 413),  # and so on
        (POST + b"Expect: a miracle\r\nContent-Length: 2\r\n\r\n{}", 417),
        (POST + KEY.encode() + b"\r\n\r\n", 400),
        (b"post /ingest HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1_0\r\n\r\n", 400),
        (POST + b"Content-Length: 0x10\r\n\r\n", 400),
        (POST + b"Content-Length: 99999999999999999999999999\r\n\r\n", 413),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\r\n{}xx0\r\n\r\n", 400),
        (b"POST /ingest HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"POST /ingest HTTP/1.1\r\n" + MANY + b"\r\n", 431),
        (b"POST /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"POST /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"POST /ingest HTTP/1.1\r\nHost: x\r\n X-API-KEY: folded\r\n\r\n", 400),
        (b"POST /ingest HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /elsewhere\r\n\r\n", 401),
        (b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: " + bytes(range(128, 256)) + b"\r\n\r\n", 401),
        (b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: a\0b\r\n\r\n", 400),
        (b"POST /ingest HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400),  # TLS, to a door without
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\r\n\r\n\r\n\r\n", 400),
        (b"<38>Oct 11 22:14:15 core su: syslog, to the wrong door\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value[len(POST) :][:30]) if isinstance(value, bytes) else None,
)  # fmt: skip
def test_abuse_is_refused_and_its_connection_closed(door: Ingest, request_: bytes, status: int) -> None:
    before = refused(door, status)
    with contextlib.closing(door.connect()) as sock:
        send_all(sock, request_)
        found, headers, body = answer(sock)
        assert found == status
        assert headers["content-type"] == "application/problem+json"
        said = orjson.loads(body)
        assert said["status"] == status
        assert re.fullmatch(r"[\w -]+: .+: .+|the API key .+: send .+", said["detail"]), (
            "what, why, and the fix"
        )
        assert KEY not in said["detail"]
        if found != 401:
            send(sock, HONEST)
            wait_until(lambda: is_closed(sock), 10, "the end of it")
    assert refused(door, status) == before + 1, "it is counted"
    assert door.takes_an_event()


def refused(door: Ingest, status: int) -> float:
    """How many requests were answered so."""
    return counted(door, f'mutt_ingest_requests_total{{format="[a-z]+",status="{status}"}}')


def test_what_follows_a_request_that_cannot_be_framed_is_never_read_as_another(door: Ingest) -> None:
    """Smuggling: two that disagree on where a request ends."""
    before = accepted(door)
    for shape in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 4\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
    ):
        with contextlib.closing(door.connect(POST + shape + HONEST)) as sock:
            answer(sock)
            wait_until(lambda sock=sock: is_closed(sock), 10, "the end of it")
    assert accepted(door) == before


def test_metrics_are_told_at_their_own_port_and_nothing_else_is(door: Ingest) -> None:
    get = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
    assert door.ask(get % b"/metrics")[0] == 404
    assert door.metrics.ask(get % b"/metrics")[0] == 200
    for path in (b"/", b"/ingest", b"/readyz", b"/metrics/"):
        assert door.metrics.ask(get % path)[0] == 404


def accepted(door: Ingest) -> float:
    """How many events ingest took so far."""
    return counted(door, "mutt_events_accepted_total")


def counted(door: Ingest, series: str) -> float:
    """The sum of the series that are called so."""
    _, _, body = door.metrics.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return sum(map(float, re.findall(rf"^{series} (.+)$", body.decode(), re.M)))


def test_requests_that_follow_one_another_are_answered_in_turn_however_their_bytes_arrive(
    door: Ingest,
) -> None:
    chunked = CHUNKED + b"%x;ext=1\r\n" % len(EVENT) + EVENT + b"\r\n0\r\nTrailer: t\r\n\r\n"
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = HONEST + get + chunked + HONEST
    for step in (len(sent), 61, 7):
        with contextlib.closing(door.connect()) as sock:
            for at in range(0, len(sent), step):
                sock.sendall(sent[at : at + step])
            with sock.makefile("rb") as file:
                assert [read_answer(file)[0] for _ in range(4)] == [202, 200, 202, 202]


def test_a_body_is_taken_whole_however_its_length_is_said(door: Ingest) -> None:
    line = EVENT + b"\n"
    before = accepted(door)
    for said in (b"%020d", b"%d"):
        head = POST + b"Content-Length: %b\r\n\r\n" % (said % (2 * len(line)))
        with contextlib.closing(door.connect(head + line)) as sock:
            assert not select.select([sock], [], [], 0.3)[0], "it waits for the rest"
            sock.sendall(line)
            status, _, body = answer(sock)
            assert (status, orjson.loads(body)["accepted"]) == (202, 2)
    assert accepted(door) == before + 4


UNKNOWN = POST.replace(KEY.encode(), b"wrong")
LARGE = b"Content-Length: 500000\r\n\r\n" + b"x" * 500_000


@pytest.mark.parametrize(
    ("request_", "status", "kept"),
    [
        (UNKNOWN + LARGE, 401, True),
        (POST.replace(b"/ingest", b"/ingest/pigeon") + LARGE, 404, True),
        (POST.replace(b"/ingest", b"/pigeon") + LARGE, 404, True),
        (POST.replace(b"POST", b"GET") + LARGE, 200, True),
        (CHUNKED.replace(KEY.encode(), b"wrong") + b"8000\r\n" + b"x" * 0x8000 + b"\r\n0\r\n\r\n", 401, True),
        (POST + b"Content-Length: %d\r\n\r\n" % (MOST + 1), 413, False),
        (UNKNOWN + b"Content-Length: %d\r\n\r\n" % (MOST + 1), 401, False),
        (POST.replace(b"POST", b"GET") + b"Content-Length: %d\r\n\r\n" % (MOST + 1), 200, False),
        (POST.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT, 202, False),
    ],
)
def test_a_connection_goes_on_where_its_answer_says_so_and_else_ends(
    door: Ingest, request_: bytes, status: int, kept: bool
) -> None:
    for behind in (b"", HONEST):
        with contextlib.closing(door.connect(request_ + behind)) as sock, sock.makefile("rb") as file:
            found, headers, _ = read_answer(file)
            assert (found, headers["connection"]) == (status, "keep-alive" if kept else "close")
            if kept:
                sock.sendall(b"" if behind else HONEST)
                assert read_answer(file)[0] == 202
            else:
                wait_until(lambda sock=sock: is_closed(sock), 10, "the end of it")


def test_one_that_waits_for_a_100_and_has_too_much_is_refused_before_it_sends_it(door: Ingest) -> None:
    for key in (POST, UNKNOWN):
        head = key + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MOST + 1)
        status, headers, _ = door.ask(head)
        assert (status, headers["connection"]) == (413 if key is POST else 401, "close")


def test_one_that_waits_for_a_100_gets_it(door: Ingest) -> None:
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(EVENT)
    with contextlib.closing(door.connect(head)) as sock, sock.makefile("rb") as file:
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        sock.sendall(EVENT)
        assert file.readline() == b"\r\n"
        assert read_answer(file)[0] == 202, "and not a second 100"


def test_who_does_not_read_his_answers_holds_up_nobody(door: Ingest) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * THREADS):
            sock = stack.enter_context(contextlib.closing(door.connect()))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert door.takes_an_event()


def test_a_large_honest_upload_is_taken_whole(door: Ingest) -> None:
    events = [{"hostname": "core-1", "message": f"CRITICAL fan {n}"} for n in range(15_000)]
    body = orjson.dumps(events)
    assert MOST / 2 < len(body) < MOST
    status, _, told = door.ask(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert (status, orjson.loads(told)["accepted"]) == (202, len(events))
