"""Traps as net-snmp sends them, all the way to ingest's queue: by snmptrapd and a handler, by SNMPTT, and straight to
`mutt listen snmptrap`."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from mutt import codec, names
from mutt.embedded.ports import free_port
from mutt.event import Envelope, Event
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from tests.answering import Answering, Told, refusal
from tests.doors import ROOT, served
from tests.servers import lacking, live_redis, scratch
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"
HANDLER = ROOT / "examples" / "snmptrapd" / "mutt-traphandle"
SNMPTT = ROOT / "examples" / "snmptt" / "mutt-snmptt"
DOWN, UP = "1.3.6.1.6.3.1.1.5.3", "1.3.6.1.6.3.1.1.5.4"


def program(name: str) -> str:
    """Where one of net-snmp's stands."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return found or lacking(f"{name} is not here: apt-get install snmptrapd snmp")


@dataclass
class Ingest:
    url: str
    redis: redis.Redis

    def events(self) -> list[Event]:
        """What stands in the queue, the oldest first."""
        entries = self.redis.xrange(names.INGEST_STREAM)
        envelopes = [codec.decode(Envelope, fields) for _, fields in entries]
        return [event for found in envelopes for segment in found.segments for event in segment.events]


@pytest.fixture(scope="module")
def ingest() -> Iterator[Ingest]:
    with scratch() as directory, live_redis(directory) as server:
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY}
        client = connect(server.url)
        KeysCopy(client).publish({})
        with served("ingest", env, directory, "--threads", "2") as (port, _):
            yield Ingest(f"http://127.0.0.1:{port}", client)


@pytest.fixture(autouse=True)
def emptied(ingest: Ingest) -> None:
    ingest.redis.delete(names.INGEST_STREAM)


class Spool:
    """The handler's settings and its spool."""

    def __init__(self, directory: Path) -> None:
        self.place, self.conf = directory / "spool", directory / "traphandle.conf"
        self.header = directory / "header"
        self.header.write_text(f"X-API-Key: {KEY}\n")

    def send_to(self, url: str) -> None:
        self.conf.write_text(f"MUTT_URL={url}\nMUTT_HEADER={self.header}\nSPOOL={self.place}\n")

    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "MUTT_TRAPHANDLE_CONF": str(self.conf),
            "MUTT_TRAPHANDLE": str(HANDLER),
        }

    def waiting(self) -> list[str]:
        """The traps in it. The handler moves them all the while: what is gone when it is read is looked for anew."""
        while True:
            with contextlib.suppress(FileNotFoundError):
                found = [*self.place.glob("waiting/*"), *self.place.glob("sending/*")]
                return [path.read_text() for path in found]


@contextlib.contextmanager
def snmptrapd(directory: Path, env: dict[str, str]) -> Iterator[str]:
    """A real one, with the handler: its address."""
    address = f"127.0.0.1:{free_port(16200)}"
    conf, log = directory / "snmptrapd.conf", directory / "snmptrapd.log"
    conf.write_text(f"authCommunity log,execute,net public\ntraphandle default {HANDLER}\n")
    argv = [program("snmptrapd"), "-C", "-c", str(conf), "-f", "-On", "-n", "-Lf", str(log), f"udp:{address}"]
    process = subprocess.Popen(argv, env={**env, "SNMP_PERSISTENT_DIR": str(directory / "persistent")})
    try:
        wait_until(lambda: log.exists() and "NET-SNMP version" in log.read_text(), 20, "snmptrapd listens")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def send(directory: Path, *argv: str, name: str = "snmptrap") -> subprocess.CompletedProcess[str]:
    """One of net-snmp's commands."""
    env = {"PATH": os.environ["PATH"], "SNMP_PERSISTENT_DIR": str(directory / "sender")}
    return subprocess.run([program(name), *argv], env=env, capture_output=True, text=True, timeout=30)


def flushed(spool: Spool) -> bool:
    """What cron does each minute."""
    return subprocess.run([HANDLER, "--flush"], env=spool.env(), timeout=30).returncode == 0


def link(trap_oid: str) -> list[str]:
    return ["88112", trap_oid, "1.3.6.1.2.1.2.2.1.1.12", "i", "12", "1.3.6.1.2.1.2.2.1.2.12", "s", "Te1/0/12"]


def test_traps_that_came_while_mutt_was_away_are_events_once_it_is_back_in_their_order(
    ingest: Ingest, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    spool.send_to("http://127.0.0.1:1")
    with snmptrapd(tmp_path, spool.env()) as address:
        assert send(tmp_path, "-v", "2c", "-c", "public", address, *link(DOWN)).returncode == 0
        wait_until(lambda: len(spool.waiting()) == 1, 20, "the handler keeps the trap")
        assert "public" not in spool.waiting()[0]
        spool.send_to(ingest.url)
        v1 = ["1.3.6.1.4.1.9.1.516", "10.20.0.7", "3", "0", "94112", *link(UP)[2:]]
        assert send(tmp_path, "-v", "1", "-c", "public", address, *v1).returncode == 0
        wait_until(lambda: flushed(spool) and len(ingest.events()) == 2, 20, "both traps are here", 0.2)
    down, up = ingest.events()
    assert [(found.trap_oid, found.state, found.clear_key) for found in (down, up)] == [
        (DOWN, "raise", "link:12"),
        (UP, "clear", "link:12"),
    ]
    assert (down.hostname, up.hostname, up.message) == (
        "127.0.0.1", "10.20.0.7", "linkUp ifIndex.12=12 ifDescr.12=Te1/0/12",
    )  # fmt: skip
    assert down.occurred_at < down.received_at
    assert not any("public" in found.raw for found in (down, up))
    wait_until(lambda: not spool.waiting(), 20, "the spool is empty")


def test_a_batch_that_got_a_503_or_a_proxys_400_comes_again_as_it_was_and_later_traps_behind_it(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    (spool.place / "waiting").mkdir(parents=True)
    servers_own = Told(
        400, {"Content-Type": "application/problem+json"}, {"detail": "headers: a line is not like"}
    )
    with Answering([Told(503), Told(400, body={}), servers_own, Told(202), Told(202)]) as answering:
        spool.send_to(answering.url)
        for name in ("1.1", "2.1", "3.1"):
            (spool.place / "waiting" / name).write_text(f"{name}\n")
        assert not flushed(spool)
        (spool.place / "waiting" / "4.1").write_text("4.1\n")
        assert not flushed(spool)
        assert not flushed(spool)
        assert len(spool.waiting()) == 4
        assert flushed(spool)
        first, *again, last = answering.requests
    assert first.body == b"1.1\n\0002.1\n\0003.1\n\0"
    assert [request[1:] for request in again] == [first[1:]] * 3
    assert (last.body, last.path) == (b"4.1\n\0", "/ingest/snmptrapd")
    assert last.headers["idempotency-key"] != first.headers["idempotency-key"]
    assert first.headers["x-api-key"] == KEY
    assert not spool.waiting()


@pytest.mark.parametrize(
    "no",
    [Told(413, body={}), refusal(400)],
    ids=["too large", "refused"],
)
def test_one_trap_that_is_not_let_through_is_set_aside_and_its_neighbours_go_on(
    tmp_path: Path, no: Told
) -> None:
    spool = Spool(tmp_path)
    (spool.place / "waiting").mkdir(parents=True)
    for name in ("1.1", "2.1", "3.1", "4.1"):
        (spool.place / "waiting" / name).write_text(f"{name}\n")
    yes = Told(202)
    with Answering([no, yes, no, no, yes]) as answering:
        spool.send_to(answering.url)
        assert flushed(spool)
        bodies = [request.body.replace(b"\n\0", b" ").decode().split() for request in answering.requests]
    assert bodies == [["1.1", "2.1", "3.1", "4.1"], ["1.1", "2.1"], ["3.1", "4.1"], ["3.1"], ["4.1"]]
    assert [path.read_text() for path in spool.place.glob("aside/*")] == ["3.1\n"]
    assert not spool.waiting()


def test_on_a_full_disk_nothing_is_sent_in_part_and_forgotten_as_a_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (spool.place / "waiting").mkdir(parents=True)
    for name in ("1.1", "2.1"):
        (spool.place / "waiting" / name).write_text("x" * 900 + "\n")
    with Answering() as answering:
        spool.send_to(answering.url)
        full = subprocess.run(
            [HANDLER, "--flush"],
            env=spool.env(),
            timeout=30,
            restore_signals=False,  # Python ignores SIGXFSZ, so it is an error like any
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
        )
        assert (full.returncode, len(spool.waiting()), answering.requests) == (1, 2, [])
        answering.script = [Told(202)]
        assert flushed(spool)
    assert answering.requests[0].body.count(b"x") == 1800


def test_what_snmptts_exec_hands_over_is_an_event_and_no_word_of_it_is_run(
    ingest: Ingest, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    spool.send_to(ingest.url)
    text = f"Disk `touch {tmp_path}/run` $(touch {tmp_path}/run) full"
    words = [
        "1772615700",
        ".1.3.6.1.4.1.2021.251.1",
        "MAJOR",
        '"Status',
        'Events"',
        "core-1",
        "-",
        *text.split(),
    ]
    subprocess.run([SNMPTT, *words], env=spool.env(), check=True, timeout=30)
    wait_until(lambda: len(ingest.events()) == 1, 20, "it is here")
    (found,) = ingest.events()
    assert (found.hostname, found.message, found.severity) == ("core-1", text, 2)
    assert not (tmp_path / "run").exists()


USERS = 'createUser noc SHA-256 "password one" AES-256 "password two"\nsigns SHA "password one"\n'
NOC = ("-v", "3", "-u", "noc", "-l", "authPriv", "-a", "SHA-256", "-A", "password one", "-x", "AES-256", "-X",
       "password two")  # fmt: skip
ONCE = ("-r", "0", "-t", "5")


class Listening:
    """`mutt listen snmptrap` as a process of its own, and net-snmp's commands against it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory, self.log = directory, directory / "listen.log"
        self.address = f"127.0.0.1:{(port := free_port(16300))}"
        self.secrets = directory / "users", directory / "communities"
        self.secrets[0].write_text(USERS)
        self.secrets[1].write_text("other\npublic\n")
        self.env = {
            "LISTEN_HOST": "127.0.0.1", "LISTEN_SNMPTRAP_UDP": str(port), "MUTT_HOME": str(directory),
            "LISTEN_SNMPTRAP_USERS_FILE": str(self.secrets[0]), "INGEST_URL": url, "INGEST_KEY": KEY,
            "LISTEN_SNMPTRAP_COMMUNITIES_FILE": str(self.secrets[1]), "PYTHONPATH": str(ROOT),
            "PATH": os.environ["PATH"],
        }  # fmt: skip

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """From when it listens, until it has ended by itself."""
        with self.log.open("wb") as file:
            argv = [sys.executable, "-m", "mutt.listen", "snmptrap"]
            process = subprocess.Popen(argv, env=self.env, stdout=file, stderr=file, cwd=self.directory)
        try:
            wait_until(lambda: "snmptrap listens" in self.log.read_text(), 20, self.log.read_text())
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, self.log.read_text()
        finally:
            process.kill()
            process.wait(20)

    def inform(self, *options: str) -> str:
        """What its sender is told: nothing, if it was taken."""
        done = send(self.directory, *ONCE, *options, self.address, *link(DOWN), name="snmpinform")
        assert bool(done.returncode) is bool(done.stderr), done.stderr
        return done.stderr.strip()


@pytest.fixture(scope="module")
def listening(ingest: Ingest, tmp_path_factory: pytest.TempPathFactory) -> Listening:
    return Listening(tmp_path_factory.mktemp("listening"), ingest.url)


def test_traps_and_informs_of_every_version_are_events_and_who_may_not_send_is_not_heard(
    ingest: Ingest, listening: Listening
) -> None:
    place, address = listening.directory, listening.address
    with listening.running():
        send(
            place,
            "-v",
            "1",
            "-c",
            "public",
            address,
            "1.3.6.1.4.1.9.1.516",
            "10.20.0.7",
            "2",
            "0",
            *link(DOWN)[:1],
            *link(DOWN)[2:],
        )
        send(place, "-v", "2c", "-c", "wrong", address, *link(DOWN))
        send(place, "-v", "2c", "-c", "public", address, *link(UP))
        send(place, "-e", "0x8000000001020304", *NOC, address, *link(DOWN))
        assert listening.inform("-v", "2c", "-c", "public") == ""
        assert listening.inform(*NOC) == ""
        assert "Unknown user name" in listening.inform("-v", "3", "-u", "nobody", "-l", "noAuthNoPriv")
        signs = ("-v", "3", "-u", "signs", "-l", "authNoPriv", "-a", "SHA", "-A")
        assert "Authentication failure" in listening.inform(*signs, "password two")
        wait_until(lambda: len(ingest.events()) == 5, 20, "all are here")
    told = [(found.hostname, found.state, found.tags["version"]) for found in ingest.events()]
    assert told == [
        ("10.20.0.7", "raise", "1"),
        ("127.0.0.1", "clear", "2c"),
        ("127.0.0.1", "raise", "3"),
        ("127.0.0.1", "raise", "2c"),
        ("127.0.0.1", "raise", "3"),
    ]
    assert {found.clear_key for found in ingest.events()} == {"link:12"}
    log = listening.log.read_text()
    assert "Traceback" not in log
    for secret in (KEY, "password one", "password two", "other"):
        assert secret not in log
        assert not any(secret in found.raw for found in ingest.events())


def test_informs_are_taken_after_a_restart_and_what_ingest_was_away_for_is_sent(
    ingest: Ingest, listening: Listening
) -> None:
    url, listening.env["INGEST_URL"] = listening.env["INGEST_URL"], "http://127.0.0.1:1"
    with listening.running():
        assert listening.inform(*NOC) == ""
    assert not ingest.events()
    listening.env["INGEST_URL"] = url
    with listening.running():
        assert listening.inform(*NOC) == ""
        wait_until(lambda: len(ingest.events()) == 2, 20, "both are here")
