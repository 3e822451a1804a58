"""Redis lost while events stand in it alone: with the settings that MUTT asks for, and with weaker ones.

The workers stand still, so that what was accepted is in Redis and nowhere else. Then either the power goes (the server
is killed, and its file loses what the last second brought: what a disk had not been told to keep), or a failover
happens (the server is killed for good, and a replica that lags half a second behind takes its place).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis

from mutt import names
from tests.chaos.balance import Found, judge
from tests.chaos.load import Load
from tests.chaos.run import RATE
from tests.chaos.site import Site, site
from tests.servers import Live, live_redis, scratch
from tests.waiting import wait_until

#: Seconds of load before Redis is lost.
UNDER_LOAD = 4.0

#: Seconds that a disk may not have been told yet what `appendfsync everysec` wrote.
UNSYNCED = 1.0

#: Seconds before its end in which the first Redis does not reach its replica any more.
APART = 0.5


@dataclass(frozen=True)
class Setting:
    """One way to run Redis, and how it is lost."""

    name: str
    safe: bool  #: MUTT promises that nothing is lost
    settings: Mapping[str, str] = field(default_factory=dict)
    redis: Mapping[str, str] = field(default_factory=dict)
    replica: bool = False  #: lost to a failover, and not to a power cut


SETTINGS = (
    Setting("failover, INGEST_WAIT_REPLICAS=1", True, {"INGEST_WAIT_REPLICAS": "1"}, replica=True),
    Setting("failover, INGEST_WAIT_REPLICAS=0", False, replica=True),
    Setting("power cut, appendfsync everysec", False, redis={"appendfsync": "everysec"}),
)


def lose(setting: Setting, seed: int) -> Found:
    """Lose Redis under this setting: what became of the accepted events."""
    with scratch() as directory, site(directory, setting.settings, setting.redis) as made:
        began = time.monotonic()
        with _replica(made, directory) if setting.replica else contextlib.nullcontext() as replica:
            load = Load(made.ingest, made.keys, 0, seed, RATE).start()
            wait_until(lambda: load.accepted > 200, 30, "load to flow")
            with _workers_stopped(made):
                sizes = _sizes(directory / "redis", UNDER_LOAD)
                if replica:
                    made.links.do("replica", "refuse")
                    time.sleep(APART)
                made.redis_server.kill()
                lost_at = time.monotonic()
                if replica:
                    _promote(made, replica)
                else:
                    _cut(directory / "redis", sizes)
                    made.redis_server.start()
            sent = load.stop()
            _wait_for_quiet(made)
            found = judge(made, 0, setting.name, sent, (began, time.monotonic()))
        found.rest_s = time.monotonic() - lost_at
        return found


@contextlib.contextmanager
def _workers_stopped(made: Site) -> Iterator[None]:
    pids = [made.pid("alerts1"), made.pid("alerts2")]
    for pid in pids:
        os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.killpg(pid, signal.SIGCONT)


@contextlib.contextmanager
def _replica(made: Site, directory: Path) -> Iterator[Live]:
    """A second Redis that follows the first, through the proxy."""
    with live_redis(directory / "second") as second:
        with redis.Redis.from_url(second.url) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", made.links.ports["replica"])
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", 30, "the replica to follow"
            )
        wait_until(lambda: made.redis.wait(1, 100), 30, "the replica to be known to the first")
        yield second


def _promote(made: Site, replica: Live) -> None:
    with redis.Redis.from_url(replica.url) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    made.take_over(replica)


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("appendonlydir/*.incr.aof"))


def _sizes(directory: Path, seconds: float) -> dict[Path, int]:
    """Watch the append-only file for so long; its size ``UNSYNCED`` seconds before the end."""
    seen: deque[tuple[float, dict[Path, int]]] = deque()
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        seen.append((now, {file: file.stat().st_size for file in _files(directory)}))
        while now - seen[0][0] > UNSYNCED:
            seen.popleft()
        time.sleep(0.01)
    return seen[0][1]


def _cut(directory: Path, sizes: Mapping[Path, int]) -> None:
    for file in _files(directory):
        os.truncate(file, sizes.get(file, 0))


def _wait_for_quiet(made: Site) -> None:
    """Wait until no stream holds anything, for three seconds. The books need not balance: Redis' side went back."""
    since = time.monotonic()

    def quiet() -> bool:
        nonlocal since
        streams = (names.INGEST_STREAM, names.DELIVERY_STREAM, *names.LANE_STREAMS)
        if any(made.redis.xlen(stream) for stream in streams):
            since = time.monotonic()
        return time.monotonic() - since > 3

    wait_until(quiet, 180, "the streams to be empty", every=0.2)
