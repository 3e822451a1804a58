"""The stream of the pipeline page as gunicorn serves it: a viewer costs a socket, no thread, and no read of its own."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.store.users import Role
from mutt.web.audience import Audience
from mutt.web.live import Live, Shared, Viewer
from mutt.web.session import Ticket
from tests import pulses
from tests.admin_client import PASSWORD, operator_of, token
from tests.doors import Door, is_closed, served
from tests.people import browser, person
from tests.waiting import wait_until

#: Of the admin: fewer than there are viewers.
THREADS = 2

TICKET = Ticket("1", "a", "b", 0.0, 0)


class Listener:
    """A browser that listens."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._heard = b""

    def hear(self) -> bytes:
        """All that came so far."""
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while data := self.sock.recv(65536):
                self._heard += data
        return self._heard

    def boards(self) -> list[dict[str, Any]]:
        """The events so far, out of their chunks."""
        events = _unchunked(self.hear()).split(b"\n\n")
        return [json.loads(one.partition(b"data: ")[2]) for one in events if one.startswith(b"event: board")]

    def saw(self, at: float) -> bool:
        """Was it shown the reading of that time?"""
        return any(board["at"] == at for board in self.boards())


def _unchunked(heard: bytes) -> bytes:
    _, _, body = heard.partition(b"\r\n\r\n")
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole, body = whole + rest[: int(size or b"0", 16)], rest[int(size or b"0", 16) + 2 :]
    return whole


class Admin(Door):
    """The admin, and a session in it."""

    def __init__(self, port: int, operator: FlaskClient) -> None:
        super().__init__(port)
        self.operator = operator
        self.cookie = _cookie(operator)

    def look(self, cookie: str = "", version: str = "1.1", more: str = "") -> Listener:
        head = f"GET /pipeline/events HTTP/{version}\r\nHost: x\r\nAccept: text/event-stream\r\n{more}"
        return Listener(self.connect(f"{head}{cookie or self.cookie}\r\n".encode()))

    def page(self) -> tuple[int, float]:
        """(status, seconds) of a page."""
        began = time.monotonic()
        status, _, _ = self.ask(f"GET /rules/ HTTP/1.1\r\nHost: x\r\n{self.cookie}\r\n".encode())
        return status, time.monotonic() - began


def _cookie(client: FlaskClient) -> str:
    (cookie,) = client._cookies.values()
    return f"Cookie: {cookie.key}={cookie.value}\r\n"


@pytest.fixture(autouse=True)
def cheap_session_keys() -> None:
    """Not here, where a session goes from this process to gunicorn's."""


@pytest.fixture
def kept(redis_url: str) -> Iterator[redis.Redis]:
    """The Redis of the admin, in which a reading is kept."""
    with redis.Redis.from_url(redis_url) as client:
        pulses.keep(client, [pulses.sample(time.time())])
        yield client


@contextlib.contextmanager
def admin_of(engine: Engine, database_url: str, redis_url: str, directory: Path) -> Iterator[Admin]:
    with transaction(engine) as conn:
        rulebook.seed(conn)
    env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "ADMIN_PASSWORD": PASSWORD}
    with served("admin", env, directory, "--threads", str(THREADS)) as (port, _):
        yield Admin(port, operator_of(engine, database_url, redis_url=redis_url))


@contextlib.contextmanager
def looking(admin: Admin, many: int) -> Iterator[list[Listener]]:
    listeners = [admin.look() for _ in range(many)]
    with contextlib.ExitStack() as stack:
        for one in listeners:
            stack.enter_context(contextlib.closing(one.sock))
        wait_until(
            lambda: all(one.boards() for one in listeners), 30, "each to be shown the board", every=0.1
        )
        yield listeners


def test_fifty_viewers_hold_up_no_page_and_ask_redis_no_more_than_one(
    engine: Engine, database_url: str, redis_url: str, tmp_path: Path, kept: redis.Redis
) -> None:
    """And when nobody looks any more, nothing is read."""

    def commands_until_told(listeners: list[Listener]) -> int:
        """Commands of Redis from a new reading until each of them has it."""
        before, at = int(kept.info("stats")["total_commands_processed"]), time.time()
        pulses.keep(kept, [pulses.sample(at)])
        wait_until(lambda: all(one.saw(at) for one in listeners), 15, "each to be told", every=0.1)
        return int(kept.info("stats")["total_commands_processed"]) - before

    def reads() -> int:
        return int(kept.info("commandstats")["cmdstat_lrange"]["calls"])

    def quiet() -> bool:
        before = reads()
        time.sleep(2.5)  # more than is between two looks
        return reads() == before

    with admin_of(engine, database_url, redis_url, tmp_path) as admin:
        with looking(admin, 1) as alone:
            of_one = commands_until_told(alone)
        with looking(admin, 50) as listeners:
            of_fifty = commands_until_told(listeners)
            pages = [admin.page() for _ in range(7)]
            assert {status for status, _ in pages} == {200}
            assert sorted(seconds for _, seconds in pages)[3] < 1.0, pages
        assert of_fifty < 2 * of_one + 20, (of_one, of_fifty)
        wait_until(quiet, 20, "the reader to notice that nobody looks")


def test_who_may_look_and_for_how_long(
    engine: Engine, database_url: str, redis_url: str, tmp_path: Path, kept: redis.Redis
) -> None:
    """A viewer may, until they log out elsewhere: they are told, and their answer ends; another's goes on. Who is not
    logged in is shown nothing. A stop ends all answers, complete, and waits for none of them."""
    person(engine, "eve", Role.VIEWER)
    with contextlib.ExitStack() as stack:
        admin = stack.enter_context(admin_of(engine, database_url, redis_url, tmp_path))
        status, _, body = admin.ask(
            b"GET /pipeline/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        )
        assert (status, body) == (401, b"")
        eve = browser(admin.operator.application, "eve")
        hers = admin.look(_cookie(eve))
        old = admin.look(version="1.0")
        brief = admin.look(more="Connection: close\r\n")
        [other] = [admin.look()]
        wait_until(lambda: hers.boards() and other.boards(), 10, "the board")
        # HTTP/1.0 knows no chunks: it is told once, and comes again.
        wait_until(lambda: b"event: board" in old.hear() and is_closed(old.sock), 10, "the end of it")
        assert b"retry: 10000" in old.hear()
        # What a proxy asks for that keeps no connection: the same.
        wait_until(lambda: b"event: board" in brief.hear() and is_closed(brief.sock), 10, "the end of it")
        assert b"retry: 10000" in brief.hear() and b"chunked" not in brief.hear()

        assert eve.post("/logout", data={"csrf_token": token(eve, "/profile/")}).status_code == 302
        wait_until(lambda: hers.hear().endswith(b"0\r\n\r\n"), 10, "the end of hers")
        assert b"event: ended" in hers.hear()
        at = time.time()
        pulses.keep(kept, [pulses.sample(at)])
        wait_until(lambda: other.saw(at), 10, "the other one to be told more")
        assert not hers.saw(at)
        began = time.monotonic()
        stack.close()
    assert time.monotonic() - began < 8
    assert other.hear().endswith(b"\r\n0\r\n\r\n")
    assert b"event: ended" not in other.hear()
    for one in (hers, old, brief, other):
        one.sock.close()


# ---- what it is made of


class Seat:
    """One side of a connection, and the viewer on it."""

    def __init__(self, live: Live) -> None:
        self.sock, self.far = socket.socketpair()
        self.sock.setblocking(False)
        self.viewer = live.admit(TICKET)


def _received(seat: Seat) -> bytes | None:
    with contextlib.suppress(BlockingIOError):
        return seat.sock.recv(100)
    return None


def test_one_that_does_not_listen_is_left_and_the_others_are_told() -> None:
    live = Live("/x", lambda: b"data: x\n\n", lambda _tickets: set())
    closed: list[Seat] = []
    audience = Audience(live, selectors.DefaultSelector(), _received, closed.append, closed.append)
    seats = [Seat(live), Seat(live)]
    for seat in seats:
        audience.seat(seat)
    viewers = [seat.viewer for seat in seats if seat.viewer]
    told = 0
    while not closed:  # its buffers fill up
        audience.tell(b"x" * 10_000, viewers, last=False)
        told += 1
        seats[1].far.recv(20_000)
    assert closed == [seats[0]] and told > 1
    audience.forget(seats[0])
    audience.tell(b"bye", viewers, last=True)
    assert closed == seats
    assert seats[1].far.recv(100) == b"3\r\nbye\r\n0\r\n\r\n"
    for seat in seats:
        seat.sock.close()
        seat.far.close()


def test_whose_session_ended_while_the_news_were_made_is_not_told_them() -> None:
    out: list[Ticket] = []
    told: list[tuple[bytes, int]] = []

    def event() -> bytes:
        out.append(TICKET)
        return b"data: x\n\n"

    live = Live("/x", event, lambda tickets: set(out) & set(tickets))
    live.sent_by(lambda data, viewers, _last: told.append((data, len(viewers))))
    viewer = live.admit(TICKET)
    assert viewer
    live._turn([viewer])
    live.gone(viewer)
    assert (b"data: x\n\n", 1) not in told and told[0] == (b"event: ended\ndata: \n\n", 1)


def test_there_is_room_for_so_many_viewers_and_no_more() -> None:
    """Another one is let in when one of them goes."""
    live = Live("/x", lambda: b"", lambda _tickets: set(), most=2)
    [first, second] = [live.admit(TICKET), live.admit(TICKET)]
    assert isinstance(first, Viewer) and isinstance(second, Viewer)
    assert live.admit(TICKET) is None
    live.gone(first)
    third = live.admit(TICKET)
    assert third
    live.gone(second)
    live.gone(third)


def test_a_value_is_read_once_for_all_who_ask_and_none_waits_longer_than_it_wants() -> None:
    """While it is read anew, and that takes long, the last one is good enough."""
    goes, reads = threading.Event(), []

    def read() -> int:
        reads.append(1)
        assert goes.wait(10)
        return len(reads)

    shared = Shared(read, fresh=0.05)
    began = time.monotonic()
    assert shared.get(0.1) is None
    assert time.monotonic() - began < 5
    goes.set()
    wait_until(lambda: shared.get(1.0), 5, "the first value")
    goes.clear()
    time.sleep(0.06)  # older than it may be
    had = len(reads)
    assert [shared.get(0.01) for _ in range(5)] == [had] * 5
    wait_until(lambda: len(reads) > had, 5, "it to be read anew")
    assert len(reads) == had + 1
    goes.set()


def test_what_is_fresh_is_not_read_again() -> None:
    reads: list[int] = []
    shared = Shared(lambda: reads.append(1) or len(reads), fresh=60.0)
    assert {shared.get(5.0) for _ in range(10)} == {1}
