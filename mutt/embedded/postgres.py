"""A private PostgreSQL: one data directory, one port on the loopback, the database ``mutt``."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg2

from mutt.embedded.account import SHARED, Account, Unreachable, can_reach, shared_directory
from mutt.embedded.pgbinaries import Binaries, as_account
from mutt.embedded.process import Process, tied_to
from mutt.errors import MuttError

USER = "mutt"
DATABASE = "mutt"

_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"}


class PostgresFailed(MuttError):
    """PostgreSQL could not be set up."""


@dataclass(frozen=True)
class PostgresServer:
    """One server. ``directory`` holds ``data``; an empty ``password`` lets everyone on this machine in.

    ``durable=False`` is for tests: commits don't wait for the disk.
    """

    binaries: Binaries
    directory: Path
    port: int
    password: str = field(default="", repr=False)
    account: Account | None = None
    durable: bool = True
    host: str = "127.0.0.1"
    extra: Mapping[str, str] = field(default_factory=dict)  #: more settings for the server

    @property
    def url(self) -> str:
        """The address of the database ``mutt``, with the password."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, user: str = USER, password: str = "") -> str:
        """The address of any of its databases, for its owner or another user."""
        known = password or self.password
        secret = f":{known}" if known else ""
        return f"postgresql://{user}{secret}@{self.host}:{self.port}/{database}"

    def process(self, log: Path, name: str = "postgres") -> Process:
        """How to run it; the first start makes the data directory."""
        return Process(
            name=name,
            argv=self._argv(),
            log=log,
            env=_ENV,
            cwd=Path("/"),
            account=self.account,
            before=self.prepare,
            ready=self.ready,
            stop_signal=signal.SIGINT,  # fast: SIGTERM would wait for every client to leave
            stop_grace=30.0,
            hasty_grace=10.0,
            death_signal=signal.SIGINT,
        )

    def prepare(self) -> None:
        """Make the data directory if there is none, and clear what a crash left.

        Raises :class:`PostgresFailed`, :class:`Unreachable`.
        """
        if self.account and not can_reach(self.directory, self.account):
            raise Unreachable(f"{self.account.name} can't reach {self.directory}")
        if not (self._data / "PG_VERSION").exists():
            self._make()
        _clear_crash(self._data)

    def ready(self) -> bool:
        """Does it let us into the database?"""
        try:
            psycopg2.connect(self.url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _argv(self) -> tuple[str, ...]:
        settings = {
            "listen_addresses": self.host,
            "unix_socket_directories": "",
            "shared_buffers": "128MB",
            "dynamic_shared_memory_type": "mmap",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_destination": "stderr",
            "logging_collector": "off",
            **(
                {}
                if self.durable
                else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            ),
            **self.extra,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (
            str(self.binaries.directory / "postgres"),
            "-D",
            str(self._data),
            "-p",
            str(self.port),
            *options,
        )

    def _make(self) -> None:
        # Under another name until it is whole: an interrupted start must not leave half a data directory.
        new, password = self.directory / "data.new", self.directory / "password"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.password + "\n")
        try:
            if self.account:
                self.account.own(self.directory)
                self.account.own(password)
            self._run("initdb", "-D", str(new), *self._initdb_options(password))
            self._run(
                "postgres", "--single", "-D", str(new), "postgres", stdin=f"CREATE DATABASE {DATABASE};\n"
            )
        finally:
            password.unlink(missing_ok=True)
        new.rename(self._data)

    def _initdb_options(self, password: Path) -> list[str]:
        access = ["-A", "scram-sha-256", f"--pwfile={password}"] if self.password else ["-A", "trust"]
        if self.binaries.major >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            locale = ["--locale=C" if sys.platform == "darwin" else "--locale=C.UTF-8"]
        return ["-U", USER, "-E", "UTF8", *access, *locale, *([] if self.durable else ["--no-sync"])]

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        done = subprocess.run(
            [self.binaries.directory / program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=_ENV,
            cwd="/",
            check=False,
            timeout=120,
            umask=0o077,
            start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to act on
            preexec_fn=tied_to(os.getpid(), signal.SIGKILL),
            **as_account(self.account),
        )
        if done.returncode or " FATAL: " in done.stderr or " ERROR: " in done.stderr:
            raise PostgresFailed(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")


def data_version(directory: Path) -> int | None:
    """The major version that made the data below ``directory``; None if there are none yet."""
    try:
        return int((directory / "data" / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def place_for(home: Path, account: Account | None, shared: Path = SHARED) -> Path:
    """Where the server for ``home`` keeps its data: ``home/postgres``.

    If ``account`` can't reach that, it is a link to a directory below ``shared``; the link is what the next start
    goes by.
    """
    place = home / "postgres"
    if account is None or place.is_symlink() or can_reach(place, account):
        return place.resolve()
    name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
    outside = shared_directory(shared) / name / "postgres"
    outside.parent.mkdir(mode=0o755, exist_ok=True)
    outside.parent.chmod(0o755)
    place.symlink_to(outside)
    return outside


def _clear_crash(data: Path) -> None:
    """End what a killed server left running on ``data`` and remove its lock file, if the server is truly gone.

    Raises :class:`PostgresFailed` if it is alive.
    """
    lock = data / "postmaster.pid"
    try:
        leader = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        leader = 0
    working = [process for process in psutil.process_iter(["name"]) if _works_on(process, data)]
    if any(process.pid == leader for process in working):
        raise PostgresFailed(f"a PostgreSQL (process {leader}) is at work on {data} already; stop it first")
    for process in working:
        process.kill()
    psutil.wait_procs(working, timeout=5)
    lock.unlink(missing_ok=True)


def _works_on(process: psutil.Process, data: Path) -> bool:
    # The number in a lock file may belong to anyone by now; a server's working directory is its data.
    try:
        return process.info["name"] == "postgres" and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False
