"""Traps as net-snmp sends them, all the way to ingest's queue: by snmptrapd and a handler, by SNMPTT."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
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
        """The traps in it."""
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
    assert (found.hostname, found.message, found.severity) == ("core-1", text, 3)
    assert not (tmp_path / "run").exists()
