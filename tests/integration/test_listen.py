"""`mutt listen syslog` as a process of its own, with a real ingest behind it: what is sent stands in the stream."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from mutt.client.post import SYSLOG_OBJECTS, Poster
from mutt.embedded.ports import free_port
from mutt.event import Envelope, Event
from mutt.listen.sender import NOTHING
from mutt.services import Services
from mutt.settings import Settings
from mutt.streams.keys import KeysCopy
from mutt.tls import client_context
from tests.doors import ROOT, served
from tests.private_ca import Registry
from tests.servers import Live, scratch
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"


class Listening:
    """The process, its ports, and what ingest took in of it."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory, self.log = directory, directory / "listen.log"
        taken: list[int] = []
        for _ in range(4):
            taken.append(free_port(19600, avoid=taken))
        self.udp, self.tcp, self.tls, self.metrics = taken
        self.env = {
            "LISTEN_HOST": "127.0.0.1", "LISTEN_SYSLOG_UDP": str(self.udp), "LISTEN_SYSLOG_TCP": str(self.tcp),
            "LISTEN_SYSLOG_TLS": str(self.tls), "METRICS_PORT": str(self.metrics), "MUTT_HOME": str(directory),
            "INGEST_KEY": KEY, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **settings,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as file:
            argv = [sys.executable, "-m", "mutt.listen", "syslog"]
            self.process = subprocess.Popen(argv, env=self.env, stdout=file, stderr=file, cwd=self.directory)
        wait_until(lambda: self.log.read_text().count("syslog-tcp listens") == 1, 20, self.log.read_text())

    def stop(self, how: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(20)
        assert code == (0 if how == signal.SIGTERM else -how), self.log.read_text()
        self.log.rename(self.log.with_suffix(f".{self.process.pid}"))

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def figures(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as answer:
            rows = [
                row.rpartition(" ") for row in answer.read().decode().splitlines() if not row.startswith("#")
            ]
        return {name: float(value) for name, _, value in rows}

    def at_rest(self, sent: float = 0) -> dict[str, float]:
        """The figures as soon as so many records are sent, and nothing is on its way."""
        on_its_way = ("mutt_listen_waiting", 'mutt_listen_connections{listener="syslog-tcp"}')

        def rests() -> dict[str, float] | None:
            found = self.figures()
            done = found["mutt_listen_sent_total"] >= sent and not any(found[name] for name in on_its_way)
            return found if done else None

        return wait_until(rests, 10, "all to be sent")

    def send_udp(self, *messages: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for message in messages:
                sock.sendto(message, ("127.0.0.1", self.udp))

    def send_tcp(self, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.tcp), timeout=10) as sock:
            sock.sendall(data)


class Stream:
    """What ingest took in so far."""

    def __init__(self, url: str) -> None:
        services = Services(Settings.from_env({}, redis_url=url), lambda *_, **__: None, role="test")
        self._held, self._events = services.held("ingest_queue"), list[Event]()

    def events(self) -> list[Event]:
        entries = self._held.take(10**6).entries
        self._events += [
            event for entry in entries for part in entry.decode(Envelope).segments for event in part.events
        ]
        return self._events

    def of(self, mark: str, count: int) -> list[Event]:
        """The events with this mark in their raw text, as soon as there are so many; then there are no more."""
        wait_until(lambda: len(self._marked(mark)) >= count, 20, f"{count} of {mark}")
        found = self._marked(mark)
        assert len(found) == count
        return found

    def _marked(self, mark: str) -> list[Event]:
        return [event for event in self.events() if mark in event.raw]


class Site(NamedTuple):
    listening: Listening
    stream: Stream
    tls: ssl.SSLContext


@pytest.fixture(scope="module")
def site(redis_server: Live) -> Iterator[Site]:
    """A listener that heard 1,501 messages before ingest was there, and was killed in between; then ingest comes."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        KeysCopy(client).publish({})
    with scratch() as directory, contextlib.ExitStack() as stack:
        papers, port = Registry(directory), free_port(18400)
        (directory / "ingest").mkdir()
        listening = Listening(
            directory,
            INGEST_URL=f"http://127.0.0.1:{port}",
            TLS_CERT=str(papers.right.cert),
            TLS_KEY=str(papers.right.key),
        )
        stack.callback(listening.end)
        _listen_to_an_empty_line(listening)
        env = {"REDIS_URL": redis_server.url, "INGEST_API_KEY": KEY}
        stack.enter_context(served("ingest", env, directory / "ingest", "-b", f"127.0.0.1:{port}"))
        yield Site(listening, Stream(redis_server.url), client_context(str(papers.ca.pem)))
        listening.stop()
        told = "".join(path.read_text() for path in directory.glob("listen.*"))
        assert "Traceback" not in told
        assert KEY not in told


def _listen_to_an_empty_line(listening: Listening) -> None:
    listening.start()
    listening.send_udp(*(b"<13>away %d" % n for n in range(50)))
    listening.send_tcp(b"".join(b"<13>away %d\n" % n for n in range(50, 1500)))
    wait_until(lambda: listening.figures()["mutt_listen_kept_total"] == 1500, 10)
    assert listening.figures()["mutt_listen_waiting"] == 1500
    wait_until(
        lambda: "in the buffer, for ingest does not take them: no answer" in listening.log.read_text(), 10
    )
    listening.stop(signal.SIGKILL)
    listening.start()
    listening.send_tcp(b"<13>away 1500\n")


def test_what_came_while_ingest_was_away_is_there_when_it_is_back_also_over_a_kill(site: Site) -> None:
    events = site.stream.of("away", 1501)
    assert [int(event.message.split()[1]) for event in events][50:] == list(range(50, 1501))
    assert {event.hostname for event in events} == {"127.0.0.1"}
    wait_until(lambda: site.listening.figures()["mutt_listen_waiting"] == 0, 10)


def test_a_datagram_is_a_message(site: Site) -> None:
    site.listening.send_udp(b"<34>Mar  4 09:00:00 core-1 su: udp one\n\ttwo\n", b"\n", b"", b"<13>app: udp\0")
    one, two = site.stream.of("udp", 2)
    assert (one.hostname, one.program, one.message, one.severity) == ("core-1", "su", "udp one\n\ttwo", 2)
    assert (two.hostname, two.message, two.raw) == ("127.0.0.1", "udp", "<13>app: udp")


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("counted", [False, True], ids=["lines", "counted"])
def test_a_connection_carries_messages_in_either_framing(site: Site, secure: bool, counted: bool) -> None:
    mark = f"{'tls' if secure else 'tcp'}-{'counted' if counted else 'lines'}"
    sent = [f"<13>1 - h{n} app - - - {mark} {n}{chr(10) * counted}end".encode() for n in range(5)]
    data = b"".join(b"%d %s" % (len(one), one) if counted else one + b"\n" for one in sent)
    port = site.listening.tls if secure else site.listening.tcp
    with socket.create_connection(("localhost", port), timeout=10) as plain:
        sock = site.tls.wrap_socket(plain, server_hostname="localhost") if secure else plain
        sock.sendall(data)
        events = site.stream.of(mark, 5)
        sock.close()
    assert [(event.hostname, event.raw.encode()) for event in events] == [
        (f"h{n}", sent[n]) for n in range(5)
    ]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_pythons_own_handler_is_heard(site: Site, kind: socket.SocketKind) -> None:
    port = site.listening.udp if kind == socket.SOCK_DGRAM else site.listening.tcp
    handler = logging.handlers.SysLogHandler(("127.0.0.1", port), socktype=kind)
    handler.ident = "billing: "
    logger = logging.Logger("billing")
    logger.addHandler(handler)
    logger.error("python %d %s\nand more", 1, kind.name)
    logger.critical("python %d %s", 2, kind.name)
    handler.close()
    events = site.stream.of(f"{kind.name}", 2)
    assert [(event.message, event.severity, event.program) for event in events] == (
        [(f"python 1 {kind.name}\nand more", 3, "billing"), (f"python 2 {kind.name}", 2, "billing")]
    )


def test_what_lies_in_its_sockets_at_the_end_is_not_lost(site: Site) -> None:
    site.listening.send_tcp(b"".join(b"<13>last %d\n" % n for n in range(2000)))
    site.listening.send_udp(*(b"<13>last %d" % n for n in range(2000, 2100)))
    site.listening.stop()
    site.listening.start()
    site.stream.of("last", 2100)


def test_its_metrics_and_its_log_say_what_became_of_it_all(site: Site) -> None:
    before = site.listening.at_rest()
    site.listening.send_tcp(b"<13>counted 1\n<13>counted 2\n" + b"x" * (256 << 10) + b"yyy\n")
    site.listening.send_udp(b"<13>counted 3")
    after = site.listening.at_rest(sent=before["mutt_listen_sent_total"] + 4)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    grown.pop("mutt_listen_retries_total", None)  # a busy ingest may say 503
    assert grown == {
        'mutt_listen_received_total{listener="syslog-tcp"}': 3,
        'mutt_listen_received_total{listener="syslog-udp"}': 1,
        'mutt_listen_cut_total{listener="syslog-tcp"}': 1,
        "mutt_listen_kept_total": 4,
        "mutt_listen_sent_total": 4,
    }


def test_who_asks_with_nothing_learns_whether_the_way_and_the_key_are_good(site: Site) -> None:
    """By this a listener tells a proxy's refusal of one record from a refusal of all."""
    url = site.listening.env["INGEST_URL"]
    answers = {
        key: Poster(url, key).post(NOTHING, SYSLOG_OBJECTS, "asked", "syslog", coding="gzip")
        for key in (KEY, "another")
    }
    assert {key: (one.status, one.is_ours) for key, one in answers.items()} == {
        KEY: (400, True),
        "another": (401, True),
    }
    # What the server below ingest says is said of all requests, or of none: it has read none of it.
    sender = Poster(url, KEY)
    sender._session.headers["Odd header"] = "of a proxy"
    odd = sender.post(b'{"line": "x"}', SYSLOG_OBJECTS, "asked", "syslog")
    assert (odd.status, odd.is_ours) == (400, False)
    # Records that are refused are named.
    no = Poster(url, KEY).post(b'{"no": "line"}', SYSLOG_OBJECTS, "asked too", "syslog")
    assert (no.status, no.is_ours, len(no.refused)) == (400, True, 1)


@pytest.mark.parametrize(
    ("module", "settings", "told"),
    [
        ("mutt", {"INGEST_URL": ""}, "INGEST_URL"),
        ("mutt.listen", {}, "LISTEN_BUFFER"),  # the module's own process has it
    ],
    ids=["no ingest", "a buffer in use"],
)
def test_what_it_can_not_work_with_is_a_sentence(
    site: Site, module: str, settings: dict[str, str], told: str
) -> None:
    other = {name: value for name, value in {**site.listening.env, **settings}.items() if value}
    argv = [sys.executable, "-m", module, *(["listen"] if module == "mutt" else []), "syslog"]
    done = subprocess.run(argv, env=other, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mutt: {told}=")
    assert "Traceback" not in done.stderr
