"""Ingest and admin over TLS that gunicorn itself ends, on real sockets: as without, and nobody holds up the others."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine

from mutt.client import Client
from mutt.tls import client_context
from tests.admin_client import operator_of
from tests.doors import ROOT, Door, answer, is_closed, read_answer, send_all, served
from tests.private_ca import Papers, Registry
from tests.servers import Live, scratch
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
EVENT = orjson.dumps({"hostname": "core-1", "message": "CRITICAL fan"})
POST = f"POST /ingest HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {KEY}\r\n".encode()
HONEST = POST + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT
LOGIN = b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n"

THREADS = 2
PATIENCE = 1.0
MOST = 1 << 20


class Site:
    """Ingest behind TLS, and the files that it reads."""

    def __init__(self, door: Door, papers: Registry, files: Papers) -> None:
        self.door, self.papers, self._files = door, papers, files

    def takes_an_event(self) -> bool:
        return self.door.ask(HONEST)[0] == 202

    def show(self, papers: Papers) -> None:
        for file, new in zip(self._files, papers, strict=True):
            file.write_bytes(new.read_bytes())

    def shown(self) -> bytes:
        with contextlib.closing(self.door.connect()) as sock:
            assert isinstance(sock, ssl.SSLSocket)
            return sock.getpeercert(binary_form=True) or b""

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.door.port), timeout=10)


@pytest.fixture(scope="module")
def site(redis_server: Live) -> Iterator[Site]:
    with scratch() as directory:
        papers = Registry(directory)
        files = Papers(directory / "served.crt", directory / "served.key")
        for file, new in zip(files, papers.right, strict=True):
            file.write_bytes(new.read_bytes())
        env = {
            "REDIS_URL": redis_server.url, "INGEST_API_KEY": KEY, "INGEST_MAX_BODY": str(MOST),
            "REQUEST_TIMEOUT": str(PATIENCE), "TLS_CERT": str(files.cert), "TLS_KEY": str(files.key),
        }  # fmt: skip
        tls = client_context(str(papers.ca.pem))
        with served("ingest", env, directory, "--threads", str(THREADS), tls=tls) as (port, log):
            yield Site(Door(port, tls), papers, files)
            assert KEY not in log.read_text()


def test_events_are_taken_one_after_another_on_one_connection(site: Site) -> None:
    large = b"[" + b",".join([EVENT] * 200) + b"]"  # too much for the lane
    with contextlib.closing(site.door.connect()) as sock, sock.makefile("rb") as file:
        for body in (EVENT, large, EVENT):
            sock.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert read_answer(file)[0] == 202
        sock.sendall(HONEST * 5)  # at once
        assert [read_answer(file)[0] for _ in range(5)] == [202] * 5


def test_a_body_of_the_largest_size_comes_in_and_a_larger_one_is_refused(site: Site) -> None:
    events = [EVENT] * ((MOST - 2) // (len(EVENT) + 1))
    whole = b"[" + b",".join(events) + b"]"
    status, _, said = site.door.ask(POST + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
    assert (status, orjson.loads(said)["accepted"]) == (202, len(events))
    with contextlib.closing(site.door.connect(POST + b"Content-Length: %d\r\n\r\n" % (MOST + 1))) as sock:
        send_all(sock, b" " * 1000)
        assert answer(sock)[0] == 413


def test_an_answer_that_is_the_last_one_ends_with_the_end_of_tls(site: Site) -> None:
    """Who is not told that TLS ends can't tell the end from a cut."""
    with contextlib.closing(
        site.door.connect(HONEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    ) as sock:
        sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        said = b""
        while part := sock.recv(4096):
            said += part
        assert said.startswith(b"HTTP/1.1 202")


def test_a_crowd_that_does_not_finish_its_handshake_keeps_nobody_waiting_and_is_left(site: Site) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of one
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(contextlib.closing(site.plain())) for _ in range(10 * THREADS)]
        for sock in crowd[::2]:
            sock.sendall(hello)
        began = time.monotonic()
        assert site.takes_an_event()
        assert time.monotonic() - began < PATIENCE, "the crowd is still there"
        wait_until(lambda: all(is_closed(sock) for sock in crowd), 10 * PATIENCE, "all to be left")
        assert site.takes_an_event()


def test_a_crowd_whose_bodies_drip_keeps_nobody_waiting_and_hears_why_it_is_left(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        slow = POST + b"Content-Length: 1000\r\n\r\n{"
        crowd = [stack.enter_context(contextlib.closing(site.door.connect(slow))) for _ in range(4 * THREADS)]
        assert site.takes_an_event()
        assert [answer(sock)[0] for sock in crowd] == [408] * len(crowd)


def test_who_does_not_speak_tls_is_told_so_in_the_clear(site: Site) -> None:
    with contextlib.closing(site.plain()) as sock:
        sock.sendall(HONEST)
        status, _, said = answer(sock)
        assert status == 400
        assert "https" in orjson.loads(said)["detail"]
        wait_until(lambda: is_closed(sock), 5, "the end")
    assert site.takes_an_event()


@pytest.mark.parametrize("nonsense", [b"\x00" * 100, b"<13>syslog", b"\x16\x03\x01\x00\x05nonsense" * 9])
def test_nonsense_costs_its_sender_the_connection_and_nobody_else(site: Site, nonsense: bytes) -> None:
    with contextlib.closing(site.plain()) as sock:
        sock.sendall(nonsense)
        wait_until(lambda: is_closed(sock), 5, "the end")
    assert site.takes_an_event()


def test_a_sender_that_trusts_another_ca_sends_nothing(site: Site) -> None:
    stranger = Door(site.door.port, client_context(str(site.papers.other.pem)))
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.connect()
    assert site.takes_an_event()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_not_spoken(site: Site) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Door(site.door.port, old).connect()


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(site: Site) -> None:
    old, new = (
        ssl.PEM_cert_to_DER_cert(p.cert.read_text()) for p in (site.papers.right, site.papers.renewed)
    )
    with contextlib.closing(site.door.connect()) as before, before.makefile("rb") as file:
        assert site.shown() == old
        site.show(site.papers.renewed)
        wait_until(lambda: site.shown() == new, 5, "the new certificate")
        before.sendall(HONEST)
        assert read_answer(file)[0] == 202, "who was connected stays so"
    site.show(Papers(site.papers.right.cert, site.papers.renewed.key))  # they don't belong together
    wait_for = time.monotonic() + 1.5
    while time.monotonic() < wait_for:
        assert site.shown() == new
    site.show(site.papers.right)
    wait_until(lambda: site.shown() == old, 5, "the one that is whole again")


def test_where_clients_must_show_certificates_nobody_comes_in_without(
    site: Site, redis_server: Live, tmp_path: Path
) -> None:
    papers, ca = site.papers, str(site.papers.ca.pem)
    env = {
        "REDIS_URL": redis_server.url, "INGEST_API_KEY": KEY, "TLS_CLIENT_CA": ca,
        "TLS_CERT": str(papers.right.cert), "TLS_KEY": str(papers.right.key),
    }  # fmt: skip
    known = client_context(ca, str(papers.client.cert), str(papers.client.key))
    with served("ingest", env, tmp_path, tls=known) as (port, _):
        assert Door(port, known).ask(HONEST)[0] == 202
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            Door(port, client_context(ca)).ask(HONEST)


@pytest.mark.parametrize(
    ("given", "named"), [({"TLS_CERT": "right"}, "TLS_KEY"), ({"TLS_CLIENT_CA": "ca"}, "TLS_CERT")]
)
def test_half_a_configuration_is_refused_at_the_start(
    site: Site, tmp_path: Path, given: dict[str, str], named: str
) -> None:
    files = {"right": site.papers.right.cert, "ca": site.papers.ca.pem}
    env = {name: str(files[file]) for name, file in given.items()} | {"PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "gunicorn", "-c", "python:mutt.web.gunicorn", "mutt.wsgi:ingest"]
    done = subprocess.run(
        argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"mutt: {named}=")


def test_the_admin_over_https_says_that_nothing_else_is_to_be_used(
    site: Site, database_url: str, tmp_path: Path
) -> None:
    papers = site.papers
    env = {
        "DATABASE_URL": database_url, "ADMIN_PASSWORD": "pass", "SECRET_KEY": "key",
        "TLS_CERT": str(papers.right.cert), "TLS_KEY": str(papers.right.key),
    }  # fmt: skip
    with served("admin", env, tmp_path, tls=site.door.tls) as (port, _):
        status, headers, _ = Door(port, site.door.tls).ask(LOGIN)
        assert (status, headers["strict-transport-security"]) == (200, "max-age=31536000")


def test_the_admin_without_tls_says_nothing_of_the_kind(engine: Engine, database_url: str) -> None:
    client = operator_of(engine, database_url)
    assert "Strict-Transport-Security" not in client.get("/rules/").headers
    assert "Strict-Transport-Security" in client.get("/rules/", base_url="https://localhost").headers


def test_the_client_for_python_sends_to_whom_its_ca_vouches_for_and_to_nobody_else(site: Site) -> None:
    url = f"https://localhost:{site.door.port}"
    with Client(url, KEY, ca=str(site.papers.ca.pem)) as client:
        client.send({"hostname": "core-1", "message": "CRITICAL fan"})
        client.send("<34>Oct 11 22:14:15 mymachine su: one\ntwo")
        assert client.flush(20)
    assert client.counts.delivered == 2
    stranger = Client(url, KEY, ca=str(site.papers.other.pem))
    stranger.send({"hostname": "core-1", "message": "CRITICAL fan"})
    wait_until(lambda: stranger.counts.trouble, 10)
    assert not stranger.close(0)
    assert (stranger.counts.delivered, stranger.counts.lost) == (0, 1)
