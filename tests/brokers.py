"""Real brokers beside Redis: a RabbitMQ that is private to a test, and whatever it left behind ended with it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import amqp

from mutt.embedded.process import Process
from tests.ports import own_port
from tests.private_ca import Papers
from tests.servers import Live, lacking

USER, PASSWORD = "mutt", "pass/that?no@log:shows"

#: As an address spells the password.
QUOTED = "pass%2Fthat%3Fno%40log%3Ashows"

#: What docs/least-power.md has people grant: configure, write, read.
_GRANTED = re.compile(r"set_permissions -p mutt mutt \\\n  '(\S+)' \\\n  '(\S+)' \\\n  '(\S+)'\n")

#: Debian's script in /usr/sbin would change to the account of the system's own RabbitMQ.
_SERVERS = Path("/usr/lib/rabbitmq/bin")


class Rabbit(Live):
    """A RabbitMQ, with a node, ports and files of its own. ``url`` has the login that docs/least-power.md makes."""

    patience = 120.0

    def __init__(self, directory: Path, tls: Papers | None = None) -> None:
        self.directory = directory
        self.port, self._node_port, self._names_port = (own_port() for _ in range(3))
        self.tls_port = own_port() if tls else 0
        self._tls = tls
        super().__init__(f"amqp://{USER}:{QUOTED}@127.0.0.1:{self.port}/{USER}", self._server())
        self._names: subprocess.Popen[bytes] | None = None

    @property
    def secure_url(self) -> str:
        return f"amqps://{USER}:{QUOTED}@localhost:{self.tls_port}/{USER}"

    def start(self) -> Rabbit:
        if self._names is None:
            # Else the first Erlang that starts leaves one behind, for ever.
            argv = ["epmd", "-port", str(self._names_port), "-address", "127.0.0.1"]
            self._names = subprocess.Popen(argv, env=self._env, stdout=subprocess.DEVNULL)
        super().start()
        return self

    def end(self) -> None:
        """Stop it, and what it needs."""
        self.kill()  # its tidy end takes seconds, and nothing of it is kept
        if self._names:
            self._names.kill()
            self._names.wait()

    def ctl(self, *arguments: str) -> str:
        """``rabbitmqctl``."""
        argv = [str(_SERVERS / "rabbitmqctl"), "-q", "-n", self._node, *arguments]
        return subprocess.run(
            argv, env=self._env, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    @property
    def _node(self) -> str:
        return f"mutt{self.port}@localhost"

    @property
    def _env(self) -> Mapping[str, str]:
        here = self.directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(here / "home"),  # the cookie
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_LOG_BASE": str(here / "logs"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # The process that we start is the server itself, and no shell above it; on two cores it need not spin.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def _server(self) -> Process:
        return Process(
            name="rabbitmq",
            argv=(str(_SERVERS / "rabbitmq-server"),),
            log=self.directory / "rabbitmq.log",
            env=self._env,
            cwd=self.directory,
            before=self._prepare,
            ready=self._answers,
        )

    def _prepare(self) -> None:
        for name in ("home", "mnesia", "logs"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        here = self.directory
        (here / "plugins").write_text("[].\n")
        (here / "definitions.json").write_text(json.dumps(_definitions()))
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "load_definitions": str(here / "definitions.json"),
            "log.file": "false",
            "log.console": "true",
            # The machine's disk and memory are not what is tested, but where a test says so.
            "disk_free_limit.absolute": "1MB",
            "vm_memory_high_watermark.absolute": "4GB",
        }
        if self._tls:
            lines |= {
                "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
                "ssl_options.certfile": str(self._tls.cert),
                "ssl_options.keyfile": str(self._tls.key),
                "ssl_options.verify": "verify_none",
            }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (here / "rabbitmq.conf").write_text(text)

    def _answers(self) -> bool:
        host = f"127.0.0.1:{self.port}"
        with (
            contextlib.suppress(OSError, amqp.AMQPError),
            contextlib.closing(
                amqp.Connection(host, USER, PASSWORD, virtual_host=USER, connect_timeout=2)
            ) as connection,
        ):
            connection.connect()
            return bool(connection.connected)
        return False


def _definitions() -> dict[str, Any]:
    """One virtual host, and one user with as much as the page grants."""
    page = (Path(__file__).parents[1] / "docs" / "least-power.md").read_text()
    granted = _GRANTED.search(page)
    assert granted
    salt = b"salt"
    hashed = base64.b64encode(salt + hashlib.sha256(salt + PASSWORD.encode()).digest()).decode()
    rights = dict(zip(("configure", "write", "read"), granted.groups(), strict=True))
    user = {
        "name": USER,
        "tags": "",
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
    }
    return {
        "users": [user],
        "vhosts": [{"name": USER}],
        "permissions": [{"user": USER, "vhost": USER, **rights}],
    }


@contextlib.contextmanager
def live_rabbitmq(directory: Path, tls: Papers | None = None) -> Iterator[Rabbit]:
    """A private RabbitMQ, empty."""
    if not (_SERVERS / "rabbitmq-server").is_file() or not shutil.which("epmd"):
        lacking("no rabbitmq-server in /usr/lib/rabbitmq")
    rabbit = Rabbit(directory / "rabbitmq", tls)
    try:
        yield rabbit.start()
    finally:
        rabbit.end()


def refuses(port: int) -> bool:
    """Does nobody listen there?"""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return False
    return True
