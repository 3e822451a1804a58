"""The admin as gunicorn serves it: a form is saved whole or not at all, whatever its bytes look like."""

from __future__ import annotations

import contextlib
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.web.admin.app import FORM_MAX
from tests.admin_client import PASSWORD, notes_of, operator_of, token
from tests.doors import Door, answer, is_closed, send_all, served
from tests.integration.test_admin_rules import RULE
from tests.waiting import wait_until


class Admin(Door):
    """The admin as gunicorn serves it, and what it has saved. Its sessions are those of its other processes."""

    def __init__(self, port: int, engine: Engine, operator: FlaskClient) -> None:
        super().__init__(port)
        self.engine = engine
        self._token = token(operator, "/rules/new")
        (cookie,) = operator._cookies.values()
        self._head = f"POST /rules/new HTTP/1.1\r\nHost: x\r\nCookie: {cookie.key}={cookie.value}\r\n"

    def form(self, size: int = 0) -> bytes:
        """A rule to save, padded to ``size``; its last field is the one that says why."""
        fields = RULE | {"csrf_token": self._token}
        padding = max(0, size - len(urlencode(fields)) - len("&pad=&reason=whole"))
        return f"{urlencode(fields)}&pad={'x' * padding}&reason=whole".encode()

    def post(self, framing: str) -> bytes:
        """The head of a request that sends a form."""
        return f"{self._head}Content-Type: application/x-www-form-urlencoded\r\n{framing}\r\n\r\n".encode()

    def reasons(self) -> list[Any]:
        """Why what was saved was saved."""
        return [note.reason for note in notes_of(self.engine)]


@pytest.fixture(autouse=True)
def cheap_session_keys() -> None:
    """Not here, where a session goes from this process to gunicorn's."""


@pytest.fixture
def admin(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[Admin]:
    with transaction(engine) as conn:
        rulebook.seed(conn)
    env = {"DATABASE_URL": database_url, "ADMIN_PASSWORD": PASSWORD, "INGEST_MAX_BODY": "1000000"}
    with served("admin", env, tmp_path, "--threads", "2") as (port, _):
        yield Admin(port, engine, operator_of(engine, database_url))


def test_a_form_larger_than_a_request_of_ingest_is_saved_whole(admin: Admin) -> None:
    form = admin.form(1_500_000)
    with contextlib.closing(admin.connect(admin.post(f"Content-Length: {len(form)}"))) as sock:
        send_all(sock, form[:-1000])
        assert not select.select([sock], [], [], 0.3)[0], "it waits for the rest"
        send_all(sock, form[-1000:])
        assert answer(sock)[0] == 302
    assert admin.reasons() == ["whole"]


def test_hostile_forms_are_refused_with_a_reason_and_save_nothing(admin: Admin) -> None:
    form, large = admin.form(), admin.form(FORM_MAX + 1)
    length = len(form)
    chunk = b"%x\r\n%b\r\n" % (length, form)
    for framing, sent, status in (
        (f"Content-Length: {len(large)}", large, 413),
        ("Content-Length: 99999999999", form, 413),
        (f"Content-Length: {len(large)}\r\nExpect: 100-continue", b"", 413),
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large), 413),
        (f"Content-Length: {length}\r\nContent-Length: {length - 1}", form, 400),
        (f"Content-Length: {length}\r\nTransfer-Encoding: chunked", chunk + b"0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked", chunk + b"0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked", b"zz\r\n" + chunk, 400),
        ("Transfer-Encoding: chunked", chunk[:-2] + b"xx0\r\n\r\n", 400),
        (f"Content-Length: {length}\r\nX : y", form, 400),
    ):
        with contextlib.closing(admin.connect(admin.post(framing))) as sock:
            send_all(sock, sent)
            found, headers, said = answer(sock)
            assert (found, headers["connection"]) == (status, "close"), framing
            assert re.search(rb"\b(send|use|exceeds)\b", said), said
            wait_until(lambda sock=sock: is_closed(sock), 10, "the end of it")
    assert admin.reasons() == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_form_that_is_cut_short_saves_nothing(admin: Admin, chunked: bool) -> None:
    form = admin.form()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(form) + 100}"
    sent = b"%x\r\n%b\r\n" % (len(form), form) if chunked else form
    with contextlib.closing(admin.connect(admin.post(framing) + sent)) as sock:
        sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: is_closed(sock), 10, "the end of it")
    assert admin.ask(b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
    assert admin.reasons() == []
