"""A Redis behind Sentinel: a primary, its replicas and three that watch them; whoever is the primary may be killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis

from mutt.embedded.process import Process
from mutt.embedded.redis import RedisServer, find_redis
from mutt.errors import MuttError
from tests.ports import own_port
from tests.servers import REDIS_BIN, Live, lacking
from tests.waiting import wait_until

MASTER, PASSWORD = "mutt", "pass-behind-sentinel"

#: Milliseconds of silence after which a Sentinel takes a server for dead; users have seconds.
DOWN_AFTER = 1000

#: Milliseconds that a primary which is about to be replaced takes no writes: longer than Sentinel needs.
PAUSE = 15_000

#: Of each server: a replica that was away is fed at once, and a primary that nobody follows stops writing, and with it
#: granting requests to Moog, before Sentinel promotes another.
LINES = {
    "masterauth": PASSWORD,
    "repl-diskless-sync-delay": "0",
    "min-replicas-to-write": "1",
    "min-replicas-max-lag": "3",
}


class Watched:
    """Servers and their Sentinels. ``url`` is the address by way of them."""

    def __init__(self, directory: Path, binary: Path, replicas: int, lines: Mapping[str, str]) -> None:
        self.directory, self._binary = directory, binary
        self.ports = [own_port() for _ in range(1 + replicas)]
        self._sentinel_ports = [own_port() for _ in range(3)]
        self.servers = {port: self._server(port, lines) for port in self.ports}
        self.sentinels = [self._sentinel(port) for port in self._sentinel_ports]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        return f"sentinel://:{PASSWORD}@{hosts}/0?master={MASTER}"

    def start(self) -> Watched:
        for live in (*self.servers.values(), *self.sentinels):
            live.start()
        wait_until(self._known, 30, "each Sentinel to know the others, and all servers", every=0.1)
        return self

    def end(self) -> None:
        for live in (*self.sentinels, *self.servers.values()):
            live.kill()  # nothing of it is kept

    @property
    def primary(self) -> int:
        """The port of whoever Sentinel names."""
        return self._named(self._sentinel_ports[0])

    def _named(self, sentinel_port: int) -> int:
        with self._ask(sentinel_port, "") as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(MASTER)[1])

    def whole(self) -> bool:
        """Do all follow the one that each Sentinel names?"""
        try:
            named = {self._named(port) for port in self._sentinel_ports}
            with self.server(self.primary) as client:
                return (
                    len(named) == 1 and client.info("replication")["connected_slaves"] == len(self.ports) - 1
                )
        except redis.RedisError:
            return False

    def _known(self) -> bool:
        try:
            return all(self._sees_all(port) for port in self._sentinel_ports) and self.whole()
        except redis.RedisError:
            return False

    def server(self, port: int) -> redis.Redis:
        return self._ask(port, PASSWORD)

    def fail_over(self, *, paused: bool = True) -> tuple[int, int]:
        """As docs/scaling.md has an operator do it: the old and the new primary, which takes writes.

        Not ``paused`` the old primary takes writes until Sentinel has led its replicas away.
        """
        before = self.primary
        if paused:
            with self.server(before) as client:
                client.client_pause(PAUSE, all=False)
        with self._ask(self._sentinel_ports[0], "") as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)
        return before, self._promoted(before)

    def kill_primary(self) -> tuple[int, int]:
        """As a machine that is gone: the old and the new primary."""
        before = self.primary
        self.servers[before].kill()
        return before, self._promoted(before)

    def _promoted(self, before: int) -> int:
        def other() -> int:
            now = self.primary
            with contextlib.suppress(redis.RedisError), self.server(now) as client:
                return now if now != before and client.role()[0] == b"master" else 0
            return 0

        return wait_until(other, 60, "another primary", every=0.01)

    def _sees_all(self, port: int) -> bool:
        with self._ask(port, "") as sentinel:
            seen = sentinel.sentinel_master(MASTER)
            replicas = sentinel.sentinel_slaves(MASTER)
        well = [one for one in replicas if one["master-link-status"] == "ok" and not one["is_disconnected"]]
        return (
            seen["num-other-sentinels"] == len(self._sentinel_ports) - 1
            and len(well) == len(self.ports) - 1
            and seen["flags"] == "master"
        )

    def _ask(self, port: int, password: str) -> redis.Redis:
        return redis.Redis("127.0.0.1", port, password=password or None, socket_timeout=2)

    def _server(self, port: int, lines: Mapping[str, str]) -> Live:
        first = port == self.ports[0]
        follows = {} if first else {"replicaof": f"127.0.0.1 {self.ports[0]}"}
        made = _Unquoted(
            self._binary,
            self.directory / str(port),
            port,
            PASSWORD,
            extra={**LINES, **lines, **follows},
        )
        return Live(made.url, made.process(self.directory / f"redis-{port}.log", name=f"redis-{port}"))

    def _sentinel(self, port: int) -> Live:
        file = self.directory / f"sentinel-{port}.conf"
        lines = {
            "port": str(port), "bind": "127.0.0.1", "dir": str(self.directory),
            "sentinel monitor": f"{MASTER} 127.0.0.1 {self.ports[0]} 2",
            "sentinel auth-pass": f"{MASTER} {PASSWORD}",
            "sentinel down-after-milliseconds": f"{MASTER} {DOWN_AFTER}",
            "sentinel failover-timeout": f"{MASTER} 10000",
            "sentinel parallel-syncs": f"{MASTER} 2",
        }  # fmt: skip

        def prepare() -> None:
            if not file.exists():  # a Sentinel keeps there what it learnt
                file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

        def ready() -> bool:
            with contextlib.suppress(redis.RedisError), self._ask(port, "") as client:
                return bool(client.ping())
            return False

        argv = (str(self._binary), str(file), "--sentinel")
        log = self.directory / f"sentinel-{port}.log"
        return Live("", Process(name=f"sentinel-{port}", argv=argv, log=log, before=prepare, ready=ready))


class _Unquoted(RedisServer):
    """Of its configuration, ``replicaof`` has two words; Sentinel rewrites the file, which then stays."""

    def prepare(self) -> None:
        if self._file.exists():
            return
        super().prepare()
        text = self._file.read_text()
        self._file.write_text(
            "".join(
                line.replace('"', "") if line.startswith("replicaof") else line
                for line in text.splitlines(keepends=True)
            )
        )


@contextlib.contextmanager
def watched_redis(
    directory: Path, *, replicas: int = 2, lines: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """One primary and its replicas, empty, behind three Sentinels of which two decide."""
    try:
        binary = find_redis(REDIS_BIN)
    except MuttError as error:
        lacking(str(error))
    made = Watched(directory, binary, replicas, lines or {})
    try:
        yield made.start()
    finally:
        made.end()
