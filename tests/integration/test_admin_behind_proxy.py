"""The admin as gunicorn serves it behind a proxy: what it believes of HTTPS, of its own address and of its visitors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.admin_client import PASSWORD, hidden
from tests.doors import Door, served
from tests.waiting import wait_until

#: As a proxy that ends TLS writes them; what stands before the address is its visitor's own.
BEHIND = (
    "X-Forwarded-For: 203.0.113.9, 192.0.2.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: mutt.example.net",
)


class Admin(Door):
    """The admin, and its log."""

    def __init__(self, port: int, log: Path) -> None:
        super().__init__(port)
        self.log = log

    def get(self, page: str, *headers: str) -> tuple[int, dict[str, str], str]:
        status, found, body = self.ask(
            "\r\n".join([f"GET {page} HTTP/1.1", "Host: inside", *headers, "\r\n"]).encode()
        )
        return status, found, body.decode()

    def log_in(self, password: str, *headers: str) -> tuple[int, dict[str, str]]:
        _, found, page = self.get("/login", *headers)
        cookie = found["set-cookie"].partition(";")[0]
        fields = {"name": "admin", "password": password, "csrf_token": hidden(page, "csrf_token")}
        body = urlencode(fields)
        head = [
            "POST /login HTTP/1.1", "Host: inside", f"Cookie: {cookie}", f"Content-Length: {len(body)}",
            "Content-Type: application/x-www-form-urlencoded", *headers,
        ]  # fmt: skip
        status, found, _ = self.ask(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        return status, found


def running(engine: Any, database_url: str, directory: Path, **more: str) -> Iterator[Admin]:
    env = {"DATABASE_URL": database_url, "ADMIN_PASSWORD": PASSWORD, "LOG_FORMAT": "text", **more}
    with served("admin", env, directory, "--threads", "2") as (port, log):
        yield Admin(port, log)


@pytest.fixture
def trusting(engine: Any, database_url: str, tmp_path: Path) -> Iterator[Admin]:
    yield from running(engine, database_url, tmp_path, TRUSTED_PROXIES="127.0.0.1")


@pytest.fixture
def alone(engine: Any, database_url: str, tmp_path: Path) -> Iterator[Admin]:
    # gunicorn's own variable, which would have it believe everybody.
    yield from running(engine, database_url, tmp_path, FORWARDED_ALLOW_IPS="*")


def test_a_trusted_proxy_says_that_it_was_https_from_whom_and_to_which_address(trusting: Admin) -> None:
    assert "Secure" in trusting.get("/login", *BEHIND)[1]["set-cookie"]
    assert "Secure" not in trusting.get("/login")[1]["set-cookie"]
    status, found = trusting.log_in("wrong", *BEHIND, "Referer: https://mutt.example.net/login")
    assert status == 403
    wait_until(lambda: re.search(r"refused.*192\.0\.2\.7", trusting.log.read_text()), 5, "the refusal")
    assert "203.0.113.9" not in trusting.log.read_text()
    # Over HTTPS a form has to come from the admin's own pages.
    assert trusting.log_in(PASSWORD, *BEHIND, "Referer: https://evil.example.net/login")[0] == 400
    status, found = trusting.log_in(PASSWORD, *BEHIND, "Referer: https://mutt.example.net/login")
    assert (status, found["location"]) == (302, "/")
    assert "Secure" in found["set-cookie"]


def test_who_is_not_trusted_says_nothing_of_it(alone: Admin) -> None:
    assert "Secure" not in alone.get("/login", *BEHIND)[1]["set-cookie"]
    assert alone.log_in("wrong", *BEHIND)[0] == 403
    wait_until(lambda: re.search(r"refused.*127\.0\.0\.1", alone.log.read_text()), 5, "the refusal")
    assert "192.0.2.7" not in alone.log.read_text()


def test_a_made_up_host_leads_nowhere(alone: Admin) -> None:
    status, found, _ = alone.get("/rules", "X-Forwarded-Host: evil.example.net")
    assert (status, found["location"]) == (308, "/rules/")
    for host in ("evil.example.net:80", "EVIL.example.net", "xn--bcher-kva.example", "[::1]:80"):
        status, found, _ = alone.ask(f"GET /rules HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (status, found["location"]) == (308, "/rules/"), host
    for host in ("x" * 64, "a..b", "[::1", "a/b", "é"):
        asked = f"GET /rules HTTP/1.1\r\nHost: {host}\r\n\r\n"
        assert alone.ask(asked.encode("latin-1"))[0] in (308, 400), host
